"""What a call of ``run`` or ``popen`` asks for, checked once for both flavours before anything is dialled."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from kubeletclient._policy import (
    CAPTURE,
    PIPE,
    Budget,
    InputTarget,
    OutputTarget,
    Sink,
    Source,
    known_size,
    make_sink,
    make_source,
)
from kubeletclient.results import decoder
from spdyproto.channels.events import StreamSet

__all__ = ["Plan", "command_words", "plan_process", "plan_run", "user_agent"]


@dataclass(slots=True)
class Plan:
    """Checked arguments. A stream that ``streams`` asks for and whose sink or source is None is a pipe.

    ``input_size`` is how many bytes the source is known to hold, 0 where that is not known.
    """

    streams: StreamSet
    source: Source | None
    stdout: Sink | None
    stderr: Sink | None
    decode: tuple[str, str] | None
    input_size: int = 0

    def captured(self) -> tuple[bytes | None, bytes | None]:
        """What was captured of stdout and stderr."""
        return (
            self.stdout.partial() if self.stdout is not None else None,
            self.stderr.partial() if self.stderr is not None else None,
        )


def command_words(args: Sequence[str]) -> tuple[str, ...]:
    """``args`` as a tuple of words. Raises TypeError for a string: nothing here splits words or runs a shell."""
    if isinstance(args, str | bytes):
        raise TypeError("args is a list of words, e.g. ['ls', '/']; for a shell give ['sh', '-c', '...']")
    words = tuple(os.fspath(word) for word in args)
    if not words:
        raise ValueError("args is empty: give the command and its arguments")
    for word in words:
        if not isinstance(word, str):
            raise TypeError(f"the words of a command are str, not {type(word).__name__}")
    return words


def plan_process(
    *,
    stdin: InputTarget,
    stdout: OutputTarget | None,
    stderr: OutputTarget | None,
    tty: bool,
    capture_limit: int,
    decode: tuple[str, str] | None = None,
    streams: StreamSet | None = None,
) -> Plan:
    """The plan of a process. With a terminal stderr is not asked for: the terminal mixes it into stdout.

    ``streams`` overrides what is asked for, where a one-time URL has fixed it.
    """
    if streams is None:
        streams = StreamSet(stdin is not None, stdout is not None, stderr is not None and not tty, tty)
    budget = Budget(capture_limit)
    return Plan(
        streams,
        make_source(stdin) if streams.stdin else None,
        make_sink("stdout", stdout, budget) if streams.stdout and stdout is not None else None,
        make_sink("stderr", stderr, budget) if streams.stderr and stderr is not None else None,
        decode,
        known_size(stdin) if streams.stdin else 0,
    )


def plan_run(
    *,
    input: InputTarget | str,
    stdin: InputTarget,
    stdout: OutputTarget | None,
    stderr: OutputTarget | None,
    tty: bool,
    capture_limit: int,
    text: bool,
    encoding: str | None,
    errors: str | None,
) -> Plan:
    """The plan of a call that runs to the end, so that a pipe has nobody to read it: PIPE means CAPTURE, as in
    ``subprocess.run``.
    """
    decode = decoder(text, encoding, errors)
    if input is not None and stdin is not None:
        raise ValueError("give input= or stdin=, and not both")
    if isinstance(stdin, int) and stdin == PIPE:
        raise ValueError("run() has nobody to write into stdin=PIPE: give input=, or use popen()")
    if isinstance(input, str):
        if decode is None:
            raise TypeError("input= is text: give bytes, or text=True")
        input = input.encode(*decode)
    stdout, stderr = (CAPTURE if isinstance(t, int) and t == PIPE else t for t in (stdout, stderr))
    return plan_process(
        stdin=stdin if input is None else input,
        stdout=stdout,
        stderr=stderr,
        tty=tty,
        capture_limit=capture_limit,
        decode=decode,
    )


@cache
def user_agent() -> str:
    """``kubewire/VERSION``, as every request carries it."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"kubewire/{version('kubewire')}"
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "kubewire"

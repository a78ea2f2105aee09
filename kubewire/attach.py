"""``kubewire attach``: the output, and if wanted the stdin, of a container's main process."""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from kubewire.connection import (
    Connection,
    connection_options,
    container_option,
    namespace_option,
    optional_pod_argument,
    take_connection,
)
from kubewire.exec import (
    UNKNOWN,
    WRONG_USAGE,
    local_terminal,
    open_url,
    report_failure,
    report_success,
    silence_stdout,
    terminal_fits,
    trace,
)
from kubewire.keys import KeyWatch, parse_keys

if TYPE_CHECKING:
    from kubeletclient import Process

_TYPED = 4096  # bytes of keys in one read


@click.command("attach")
@optional_pod_argument
@namespace_option
@container_option
@click.option("-i", "--stdin", "want_stdin", is_flag=True, help="Pass this command's standard input on.")
@click.option("-t", "--tty", is_flag=True, help="The container has a terminal; stderr is then mixed into stdout.")
@click.option("--url", metavar="URL", help="A streaming URL made elsewhere, instead of POD; -i and -t as it has them.")
@click.option("--detach-keys", metavar="KEYS", help="With -it: keys that leave, e.g. ctrl-p,ctrl-q.  [default: none]")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Give up after this long.")
@click.option("--json", "as_json", is_flag=True, help="One JSON line about the outcome on stderr.")
@click.option("-v", "--verbose", count=True, help="What was agreed and moved, on stderr; twice: every frame.")
@connection_options
def attach_command(**values: Any) -> None:  # noqa: ANN401 - click hands over what the options above declare
    """Attach to the main process of a container: what it prints from now on, and its stdin.

    Attach has no exit code: 0 means that the server ended the session, or that the detach keys were typed.
    """
    sys.exit(_run(take_connection(values), **values))


def _run(
    connection: Connection,
    *,
    pod: str | None,
    namespace: str | None,
    container: str | None,
    want_stdin: bool,
    tty: bool,
    url: str | None,
    detach_keys: str | None,
    timeout: float | None,
    as_json: bool,
    verbose: int,
) -> int:
    from kubeletclient import PIPE, ClientError, ProcessClosed, StdinCannotEnd

    if (url is None) == (pod is None):
        raise click.UsageError("name the pod, [NS/]POD, or give --url URL")
    tty = tty and (url is not None or terminal_fits(want_stdin))
    watch = _watch(detach_keys) if tty and want_stdin and os.isatty(0) else None
    began = time.monotonic()
    outcome = "the session ended"
    try:
        stdin = (0 if watch is None else PIPE) if want_stdin else None
        outputs: dict[str, Any] = {"stdin": stdin, "stdout": 1, "stderr": None if tty else 2}
        tracer = trace if verbose > 1 else None
        if pod is None:
            opened = open_url(connection, url or "", tty, timeout, tracer, outputs)
        else:
            target = connection.open_pod(pod, namespace, tracer=tracer)
            opened = target.attach(container=container, tty=tty, timeout=timeout, **outputs)
        with (
            opened as process,
            local_terminal(process, tty=tty, stdin=want_stdin, redraw=True),
            _typing(process, watch),
        ):
            try:
                process.wait()
            except ProcessClosed:
                if watch is None or not watch.seen:
                    raise
                outcome = "detached"
    except ClientError as error:
        report_failure(error, as_json=as_json)
        return WRONG_USAGE if isinstance(error, StdinCannotEnd) else UNKNOWN
    except BrokenPipeError:
        silence_stdout()
        return 128 + 13
    except KeyboardInterrupt:
        return 128 + 2
    except (ValueError, OSError) as error:
        report_failure(error, as_json=as_json)
        return WRONG_USAGE if isinstance(error, ValueError) else UNKNOWN
    report_success(process, outcome, None, time.monotonic() - began, as_json=as_json, verbose=verbose)
    return 0


def _watch(detach_keys: str | None) -> KeyWatch | None:
    if detach_keys is None:
        return None
    try:
        return KeyWatch(parse_keys(detach_keys))
    except ValueError as error:
        raise click.UsageError(f"--detach-keys: {error}") from None


@contextmanager
def _typing(process: Process, watch: KeyWatch | None) -> Iterator[None]:
    """Passes on what is typed, in a thread, until the block ends; the detach keys close the process.

    Without keys to watch for there is nothing to do: the process reads standard input itself.
    """
    if watch is None:
        yield
        return
    waker, wake = os.pipe()
    thread = threading.Thread(target=_type, args=(process, watch, waker), name="kubewire-keys", daemon=True)
    thread.start()
    try:
        yield
    finally:
        process.close()  # over by now, or being left; a write that waits for the other side ends with it
        os.write(wake, b"x")
        thread.join()
        os.close(waker)
        os.close(wake)


def _type(process: Process, watch: KeyWatch, waker: int) -> None:
    from kubeletclient import ClientError

    poller = select.poll()
    for descriptor in (0, waker):
        poller.register(descriptor, select.POLLIN)
    assert process.stdin is not None
    while not any(descriptor == waker for descriptor, _ in poller.poll()):
        typed = os.read(0, _TYPED)
        try:
            passed = watch.feed(typed)
            if passed:
                process.stdin.write(passed)
        except ClientError:  # the session is over, or takes no more; who waits for its end tells why
            return
        if watch.seen:
            process.close()
        if watch.seen or not typed:
            return

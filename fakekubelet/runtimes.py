"""What stands between a session and the command that runs in it: the contract of both, and the record of each run.

Everything here runs on the server's own loop, in plain calls without awaits, because a call per megabyte is cheap and
an await per frame is not. A command is told what happens by the methods of ``Command``; what it does goes through its
``Outlet``. Commands that want a coroutine, a thread or a process of their own build it upon this (``callables``,
``processes``).

Back-pressure has one rule in each direction. Output: ``Outlet.write`` returns False when enough is queued; the command
then writes no more until ``Command.writable``. Input: a command that cannot take more calls ``Outlet.pause_stdin``, and
the connection is not read until ``resume_stdin``; what was read already still comes, at most one read's worth.
"""

from __future__ import annotations

import asyncio
import shlex
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from fakekubelet.auth import User
from spdyproto.channels.events import StreamKind, StreamSet, Transport
from spdyproto.channels.status import ExitStatus, exit_message, internal_error_message
from spdyproto.channels.subprotocols import Subprotocol
from spdyproto.types import Buffer

STDIN_HIGH_WATER = 1024 * 1024
"""Unread stdin at which a connection is not read any more: about what a Go server holds (50 frames of 32 KiB)."""


@dataclass(frozen=True, slots=True)
class ExecRequest:
    """One accepted exec or attach: who asked for what, where. An attach has no ``argv``."""

    namespace: str
    pod: str
    container: str
    argv: tuple[str, ...]
    streams: StreamSet
    protocol: Subprotocol
    user: User
    transport: Transport = Transport.SPDY
    attach: bool = False

    @property
    def has_resize(self) -> bool:
        """Whether the client can tell the size of its terminal: over WebSocket every version can."""
        return self.streams.tty and (self.transport is not Transport.SPDY or self.protocol.has_resize)

    def __str__(self) -> str:
        what = "attach" if self.attach else shlex.join(self.argv)
        return f"{self.namespace}/{self.pod}/{self.container}: {what}"


class Outlet(Protocol):
    """A command's end of its session. Call it on the server's loop only."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The server's loop."""

    def write(self, kind: StreamKind, data: Buffer) -> bool:
        """Queue output. ``data`` is kept, not copied, until it was sent.

        False: enough is queued; wait for ``Command.writable``. Output that the client did not ask for is dropped, and
        stderr of a terminal goes to stdout, as a container runtime does. Once the client has left everything is
        dropped.
        """

    def end(self, kind: StreamKind) -> None:
        """Close one output; what was written to it is sent first. Closing twice is allowed."""

    def exit(self, status: ExitStatus) -> None:
        """The command is over. Outputs that are open are closed, then the status is sent. Nothing may follow."""

    def pause_stdin(self) -> None:
        """Stop reading from the client: its stdin, and with it everything else it sends, stays in the network."""

    def resume_stdin(self) -> None:
        """Read from the client again."""


class Command:
    """A command in a container. Each method is called on the server's loop and must not block.

    The order is ``start``, then any of the others; ``close`` ends it from outside at any time after ``start``.
    """

    outlet: Outlet

    def __init__(self, request: ExecRequest) -> None:
        self.request = request

    def start(self) -> None:
        """Every stream is open. ``self.outlet`` is set."""

    def stdin(self, data: memoryview) -> None:
        """Bytes for the command. ``data`` is only valid during the call."""

    def stdin_ended(self) -> None:
        """The client half-closed stdin, or asked for none. Not called when the client vanished: see ``gone``."""

    def resized(self, width: int, height: int) -> None:
        """The client's terminal has this size, in characters."""

    def writable(self) -> None:
        """There is room for output again, after ``Outlet.write`` returned False."""

    def gone(self) -> None:
        """The client has left. Runtimes do not kill the command then; what it writes goes nowhere."""

    async def close(self) -> None:
        """The server closes: end now, release everything. ``Outlet.exit`` need not be called."""


Runtime = Callable[[ExecRequest], Command]
"""Makes the command of a request; called when all streams are open. What it raises becomes the session's failure."""


def internal_failure(cause: str) -> ExitStatus:
    """The status of a command that could not be run, in the words of a kubelet (``cri-streaming: exec.go``)."""
    return ExitStatus.failure(internal_error_message(f"error executing command in container: {cause}"))


def not_started(argv0: str, why: str) -> ExitStatus:
    """The status of a program that could not be started, in the words of containerd and runc."""
    cause = f'OCI runtime exec failed: exec failed: unable to start container process: exec: "{argv0}": {why}: unknown'
    return internal_failure(f"failed to exec in container: failed to start exec: {cause}")


def exited(argv: tuple[str, ...], code: int) -> ExitStatus:
    """The status of a command that ran and ended with ``code`` (0 to 255)."""
    return ExitStatus.exited(code, exit_message(argv, code)) if code else ExitStatus.success()


class Execution:
    """The record of one exec, attach or main process, readable from any thread."""

    def __init__(self, request: ExecRequest) -> None:
        self.request = request
        self.client_left = False
        """Whether the client vanished before the command ended."""
        self.status: ExitStatus | None = None
        """How the command ended; None while it runs, and when the server closed before it ended."""
        self.received = 0
        """Bytes of stdin that arrived."""
        self.sent: Mapping[StreamKind, int] = {}
        """Bytes of output queued for the client."""
        self._over = threading.Event()
        self._left = threading.Event()

    @property
    def argv(self) -> tuple[str, ...]:
        """The command and its arguments."""
        return self.request.argv

    @property
    def running(self) -> bool:
        """Whether the command is still at work, with or without its client."""
        return not self._over.is_set()

    def wait(self, timeout: float | None = None) -> ExitStatus | None:
        """Wait until the command has ended and give its status. Raises TimeoutError after ``timeout`` seconds."""
        if not self._over.wait(timeout):
            raise TimeoutError(f"{self.request} still runs after {timeout} s")
        return self.status

    def wait_client_left(self, timeout: float | None = None) -> None:
        """Wait until the server has noticed that the client left. Raises TimeoutError after ``timeout`` seconds."""
        if not self._left.wait(timeout):
            raise TimeoutError(f"the client of {self.request} is still connected after {timeout} s")

    def mark_left(self) -> None:
        """Called by the server, once."""
        self.client_left = True
        self._left.set()

    def mark_over(self, status: ExitStatus | None) -> None:
        """Called by the server, once."""
        self.status = status
        self._over.set()

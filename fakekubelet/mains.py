"""The main process of a container, and those who are attached to it.

A container's main process starts with its pod and has a session of its own to nobody: ``MainProcess`` is the
``Outlet`` that it writes to, and hands its output to every ``Attachment`` of the moment. An attachment is the command
of an ordinary session; it ends with success and tells no exit code, as in Kubernetes.

It is done as containerd does it:

- An attacher gets what is written from then on. ``Container.backlog`` replays the end of what was written before,
  which no runtime does, but which saves a test from being early.
- Every attacher has a bounded queue of its own, its session's. One that takes nothing holds up the process, and with
  it all others: nothing is dropped for it. The stream's idle timeout is what ends such an attacher. (A ``Command``
  that writes on though it was told to wait costs the slow attacher its session, which then fails.)
- What attachers write goes to the process's stdin, piece by piece as it comes. When an attacher ends its stdin, or
  leaves: with ``stdin_once`` (and no terminal) the process sees the end of its stdin, once and for all; otherwise only
  that attachment ends.
- stdin for a process that reads none, or none any more, is left unread.
- A container whose process has ended refuses attach and exec. Whether another process takes its place is the pod's
  concern (``fakekubelet.podstate``).
- What the process writes goes into the container's log, too, whether or not anybody is attached.

Source: ``containerd: internal/cri/io/container_io.go`` (Attach), ``internal/cri/server/container_attach.go``.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from fakekubelet.auth import User
from fakekubelet.podlogs import ContainerLog
from fakekubelet.runtimes import STDIN_HIGH_WATER, Command, ExecRequest, Execution, Runtime, internal_failure
from spdyproto.channels.events import StreamKind, StreamSet
from spdyproto.channels.status import ExitStatus
from spdyproto.channels.subprotocols import Subprotocol
from spdyproto.errors import OutputLimitExceeded
from spdyproto.types import Buffer

MAX_BACKLOG = 1024 * 1024
"""Largest ``Container.backlog``: it is queued at once for a new attacher, whose queue ends at 4 MiB."""

_PIECES = 4096  # of a backlog, whatever its size: one byte on each output in turn must not cost a megabyte per 10 KiB
_MERGE = 4096  # smaller pieces of a backlog are joined, up to this size
_TURN = 256 * 1024  # bytes that a process may write before the loop serves others: nobody else may be there to slow it


class MainProcess:
    """See the module's text. Made from any thread; everything else runs on the server's loop."""

    def __init__(
        self,
        request: ExecRequest,
        runtime: Runtime,
        *,
        stdin_once: bool = False,
        backlog: int = 0,
        log: ContainerLog | None = None,
        on_over: Callable[[MainProcess], None] | None = None,
    ) -> None:
        self.log = log
        self.started = 0.0
        """When it was started, as Unix time."""
        self.finished = 0.0
        self.killed = False
        """It was ended from outside."""
        self._on_over = on_over
        self.execution = Execution(request)
        """The record of the process, readable from any thread."""
        self._sent: dict[StreamKind, int] = {}
        self.execution.sent = self._sent
        self._tty = request.streams.tty
        self._runtime = runtime
        self._stdin_once = stdin_once and not self._tty
        self._loop: asyncio.AbstractEventLoop | None = None
        self._command: Command | None = None
        self._attached: list[Attachment] = []
        self._blocked: set[Attachment] = set()
        self._waiting = False  # the process was told to write no more
        self._turn = 0
        self._turn_ends = False  # it is under way to the loop
        self._stdin_paused = False
        self.takes_stdin = request.streams.stdin
        """Whether stdin is wanted, still."""
        self._ended: set[StreamKind] = set()
        self._backlog: deque[tuple[StreamKind, bytearray]] = deque()
        self._backlog_size = 0
        self._backlog_limit = backlog

    @property
    def over(self) -> bool:
        """Whether the process has ended."""
        return not self.execution.running

    # -- its life ----------------------------------------------------------------------------------------------------

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """The pod starts. Nothing happens the second time."""
        if self._loop is not None or self.over:
            return
        self._loop = loop
        self.started = time.time()
        request = self.execution.request
        try:
            command = self._runtime(request)
            command.outlet = self
            self._command = command
            command.start()
        except Exception as error:
            self.exit(internal_failure(str(error) or type(error).__name__))
            return
        if not self.takes_stdin and not self._tty:  # a terminal is open though nobody types
            self._guarded(command.stdin_ended)

    async def close(self) -> None:
        """The pod or the server ends, or the container is restarted."""
        self.killed = not self.over
        if self._command is not None and not self.over:
            await self._command.close()
        if not self.over:
            self._conclude(None)

    def _conclude(self, status: ExitStatus | None) -> None:
        self.finished = time.time()
        self.execution.mark_over(status)
        if self.log is not None:
            self.log.close()
        self.takes_stdin = False
        attached, self._attached = self._attached, []
        self._blocked.clear()
        for attachment in attached:
            attachment.outlet.exit(ExitStatus.success())
        if self._on_over is not None:
            self._on_over(self)

    def _guarded(self, function: Callable[[], None]) -> None:
        """A fault of the process is its own end, not the server's."""
        try:
            function()
        except Exception as error:
            self.exit(internal_failure(f"{type(error).__name__}: {error}"))

    # -- the Outlet of the process -----------------------------------------------------------------------------------

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The server's loop."""
        assert self._loop is not None, "the process has been started"
        return self._loop

    def write(self, kind: StreamKind, data: Buffer) -> bool:
        """As ``Outlet.write``: to everybody, and on as soon as everybody has room."""
        if self._tty:
            kind = StreamKind.STDOUT
        if self.over or kind in self._ended:
            return True
        size = memoryview(data).nbytes
        self._sent[kind] = self._sent.get(kind, 0) + size
        if self._backlog_limit:
            self._remember(kind, data)
        if self.log is not None:
            self.log.write("stderr" if kind is StreamKind.STDERR else "stdout", data)
        for attachment in self._attached:
            if not self._hand(attachment, kind, data):
                self._blocked.add(attachment)
        self._turn += size
        if self._turn >= _TURN and not self._turn_ends:
            self._turn_ends = True
            self.loop.call_soon(self._next_turn)
        self._waiting = bool(self._blocked) or self._turn_ends
        return not self._waiting

    def _hand(self, attachment: Attachment, kind: StreamKind, data: Buffer) -> bool:
        try:
            return attachment.outlet.write(kind, data)
        except OutputLimitExceeded as error:  # the process does not wait, though it was told to
            attachment.outlet.exit(internal_failure(f"attached too slowly for what the process writes: {error}"))
            self.loop.call_soon(self.leave, attachment)
            return True

    def end(self, kind: StreamKind) -> None:
        """As ``Outlet.end``."""
        if kind not in self._ended and not (self._tty and kind is StreamKind.STDERR):
            self._ended.add(kind)
            for attachment in self._attached:
                attachment.outlet.end(kind)

    def exit(self, status: ExitStatus) -> None:
        """As ``Outlet.exit``. Those who are attached learn of the end, and not of the status."""
        if not self.over:
            self._conclude(status)

    def pause_stdin(self) -> None:
        """As ``Outlet.pause_stdin``: nobody who writes to the process is read."""
        self._stdin_paused = True
        for attachment in self._attached:
            if attachment.feeds:
                attachment.outlet.pause_stdin()

    def resume_stdin(self) -> None:
        """As ``Outlet.resume_stdin``."""
        self._stdin_paused = False
        for attachment in self._attached:
            if attachment.feeds:
                attachment.outlet.resume_stdin()

    def _next_turn(self) -> None:
        self._turn, self._turn_ends = 0, False
        self._offer_room()

    def _offer_room(self) -> None:
        if self._waiting and not self._blocked and not self._turn_ends and not self.over:
            self._waiting = False
            assert self._command is not None, "it was told to wait"
            self._guarded(self._command.writable)

    def _remember(self, kind: StreamKind, data: Buffer) -> None:
        piece = memoryview(data).cast("B")[-self._backlog_limit :]
        backlog = self._backlog
        if backlog and backlog[-1][0] is kind and len(backlog[-1][1]) + len(piece) <= _MERGE:
            backlog[-1][1].extend(piece)
        else:
            backlog.append((kind, bytearray(piece)))
        self._backlog_size += len(piece)
        while self._backlog_size > self._backlog_limit or len(backlog) > _PIECES:
            oldest = backlog[0][1]
            excess = self._backlog_size - self._backlog_limit
            if len(backlog) > _PIECES or len(oldest) <= excess:
                self._backlog_size -= len(oldest)
                backlog.popleft()
            else:
                del oldest[:excess]
                self._backlog_size -= excess

    # -- from those who are attached ---------------------------------------------------------------------------------

    def join(self, attachment: Attachment) -> None:
        """One more takes part, from now on."""
        outlet = attachment.outlet
        self.start(outlet.loop)
        if self.over:  # it ended between the request and the session
            outlet.exit(ExitStatus.success())
            return
        for kind, piece in self._backlog:
            if not outlet.write(kind, bytes(piece)):
                self._blocked.add(attachment)
        for kind in self._ended:
            outlet.end(kind)
        self._attached.append(attachment)
        attachment.feeds = attachment.request.streams.stdin and self.takes_stdin
        if attachment.feeds and self._stdin_paused:
            outlet.pause_stdin()

    def leave(self, attachment: Attachment) -> None:
        """One takes part no more."""
        if attachment in self._attached:
            self._attached.remove(attachment)
        self.unblock(attachment)

    def unblock(self, attachment: Attachment) -> None:
        """There is room for more of the output, or nobody who wants it."""
        self._blocked.discard(attachment)
        self._offer_room()

    def stdin(self, data: memoryview) -> None:
        """For the process."""
        command = self._command
        if command is not None and self.takes_stdin:
            self.execution.received += len(data)
            self._guarded(lambda: command.stdin(data))

    def end_stdin(self, attachment: Attachment) -> None:
        """An attacher sends nothing more, or has left."""
        if not self._stdin_once:
            self.leave(attachment)
            attachment.outlet.exit(ExitStatus.success())
            return
        self.takes_stdin = False
        for each in self._attached:
            each.feeds = False
        if self._command is not None and not self.over:
            self._guarded(self._command.stdin_ended)

    def resized(self, width: int, height: int) -> None:
        """The last attacher to tell a size decides."""
        command = self._command
        if command is not None and self._tty and not self.over:
            self._guarded(lambda: command.resized(width, height))


class Attachment(Command):
    """The command of an attach session."""

    def __init__(self, request: ExecRequest, main: MainProcess) -> None:
        super().__init__(request)
        self._main = main
        self._room = STDIN_HIGH_WATER  # for stdin that nobody reads
        self.feeds = False
        """Whether its stdin goes to the process."""

    def start(self) -> None:  # noqa: D102 - as Command.start
        self._main.join(self)

    def stdin(self, data: memoryview) -> None:  # noqa: D102 - as Command.stdin
        if self.feeds:
            self._main.stdin(data)
            return
        self._room -= len(data)
        if self._room <= 0:
            self.outlet.pause_stdin()

    def stdin_ended(self) -> None:  # noqa: D102 - as Command.stdin_ended
        if self.feeds:
            self._main.end_stdin(self)

    def resized(self, width: int, height: int) -> None:  # noqa: D102 - as Command.resized
        self._main.resized(width, height)

    def writable(self) -> None:  # noqa: D102 - as Command.writable
        self._main.unblock(self)

    def gone(self) -> None:
        """The process goes on; with ``stdin_once`` its stdin ends."""
        if self.feeds:
            self._main.end_stdin(self)
        self._main.leave(self)
        self.outlet.exit(ExitStatus.success())


def main_request(namespace: str, pod: str, container: str, argv: tuple[str, ...], streams: StreamSet) -> ExecRequest:
    """What the runtime of a main process is asked for: nobody's session, of the newest kind."""
    return ExecRequest(namespace, pod, container, argv, streams, Subprotocol.V4, User("system:node"))

"""The local end of one forwarded connection: a non-blocking socket, whoever holds the other end.

Half-close goes both ways: an end of file from the client becomes FIN to the pod, FIN from the pod a ``shutdown``. A
failure becomes a TCP reset (``SO_LINGER`` 0), behind everything that had come before it, so that a client that was cut
off cannot take what it has for all. A Unix socket knows no reset: there the client sees an end of file, and only the
record tells the difference.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Final

from kubeletclient._policy import BATCH
from kubeletclient.forwarding.records import ForwardedConnection

if TYPE_CHECKING:
    from kubeletclient.forwarding.session import Session

__all__ = ["LocalEnd", "loopback_pair"]

_RESET: Final = struct.pack("ii", 1, 0)
_PIECES: Final = 512
"""Of one ``sendmsg``; POSIX systems take 1024 at most."""

_DRAIN_SECONDS: Final = 5.0
"""For the client to take what came before a failure, before the connection is reset under it."""


class LocalEnd:
    """See the module. It belongs to one loop, and owns its socket."""

    __slots__ = (
        "_buffer", "_doomed", "_ended", "_fd", "_loop", "_reading", "_timer", "_writing", "buffered", "closed", "eof",
        "home", "number", "on_end", "opened", "port", "record", "rerouted", "session", "sock", "taken",
    )  # fmt: skip

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, port: int | str, record: ForwardedConnection
    ) -> None:
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._loop = loop
        self.sock = sock
        self._fd = sock.fileno()
        self.record = record
        self.port = port
        self.session: Session | None = None
        self.home: Session | None = None
        """The session that it was in, also when that is over."""
        self.number = -1
        self.rerouted = False
        """It has been tried in another session before."""
        self._buffer: deque[memoryview] = deque()
        self.buffered = 0
        """Bytes that the client has not taken."""
        self.taken = 0
        """Bytes that it has taken, ever: whoever watches it sees whether it takes any."""
        self._reading = False
        self._writing = False
        self._ended = False  # the pod sends nothing more
        self._doomed = False  # a reset follows what is buffered
        self._timer: asyncio.TimerHandle | None = None
        self.eof = False
        """The client sends nothing more."""
        self.closed = False
        self.on_end: Callable[[ForwardedConnection], None] | None = None
        """Called once, when the record is complete."""
        self.opened: asyncio.Future[None] | None = None
        """For a caller who waits for the server's replies."""

    # -- from the client ---------------------------------------------------------------------------------------------

    def resume(self) -> None:
        """Read what the client sends."""
        if not self._reading and not self.eof and not self.closed and not self._doomed:
            self._reading = True
            self._loop.add_reader(self._fd, self._on_readable)

    def pause(self) -> None:
        """Leave it in the kernel."""
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._fd)

    def _on_readable(self) -> None:
        session = self.session
        if session is None:
            self.pause()
            return
        if session.output_full:
            session.wait_for_room(self)
            return
        room = session.room
        try:
            size = self.sock.recv_into(room, BATCH)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.abort("reset by the client", str(error))
            return
        if size:
            self.record.sent += size
            session.send(self, room[:size])
        else:
            self.eof = True
            self.pause()
            session.client_ended(self)
            self._close_if_done()

    # -- from the pod ------------------------------------------------------------------------------------------------

    def write(self, views: list[memoryview]) -> None:
        """Hand the client what it takes without waiting; keep a copy of the rest."""
        size = sum(map(len, views))
        self.record.received += size
        if self.closed or self._doomed:
            return
        sent = 0
        if not self._buffer:
            try:
                sent = self.sock.send(views[0]) if len(views) == 1 else self.sock.sendmsg(views[:_PIECES])
            except (BlockingIOError, InterruptedError):
                pass
            except OSError as error:
                self.abort("reset by the client", str(error))
                return
            self.taken += sent
            if sent == size:
                return
        for view in views:
            if sent >= len(view):
                sent -= len(view)
            else:
                self._keep(memoryview(bytes(view[sent:])))
                sent = 0

    def _keep(self, data: memoryview) -> None:
        self._buffer.append(data)
        self.buffered += len(data)
        if self.session is not None:
            self.session.buffered += len(data)
        if not self._writing:
            self._writing = True
            self._loop.add_writer(self._fd, self._on_writable)

    def _on_writable(self) -> None:
        buffer = self._buffer
        done = 0
        try:
            while buffer:
                sent = self.sock.sendmsg(list(islice(buffer, _PIECES)))
                done += sent
                while buffer and sent >= len(buffer[0]):
                    sent -= len(buffer.popleft())
                if sent:
                    buffer[0] = buffer[0][sent:]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            self.abort("reset by the client", str(error))
            return
        self.taken += done
        self._drained(done)
        if buffer:
            return
        self._stop_writing()
        if self._doomed:
            self._reset()
        elif self._ended:
            self._shut_down()

    def _drained(self, size: int) -> None:
        self.buffered -= size
        if self.session is not None:
            self.session.buffered -= size
            self.session.on_drained()

    def remote_ended(self) -> None:
        """The pod's data ends here."""
        self._ended = True
        if not self._buffer and not self.closed:
            self._shut_down()

    def _shut_down(self) -> None:
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the client has gone, and will be missed when it is read
        self._close_if_done()

    def _close_if_done(self) -> None:
        """Both directions have ended: the client needs no more than a close. The session may still owe its last word
        about how the connection ended."""
        if self.eof and self._ended and not self._buffer and not self.closed and not self._doomed:
            self._close()

    # -- the end -----------------------------------------------------------------------------------------------------

    def _tell(self, how: str, why: str = "") -> None:
        if self.record.ended:
            return
        self.record.end(how, why)
        if self.opened is not None and not self.opened.done():
            self.opened.set_exception(ConnectionResetError(why or how))
        if self.on_end is not None:
            self.on_end(self.record)

    def finished(self) -> None:
        """The session says that the connection is over, in order."""
        self._tell("finished")
        self._ended = True
        if self.closed:
            return
        if self._buffer:
            self.eof = True
            self.pause()  # what it still sends is nobody's
        else:
            self._close()

    def fail(self, how: str, why: str) -> None:
        """The connection has failed: a reset, behind what had come before."""
        self._tell(how, why)
        if self.closed or self._doomed:
            return
        self._doomed = True
        self.pause()
        if self._buffer:
            self._timer = self._loop.call_later(_DRAIN_SECONDS, self._reset)
        else:
            self._reset()

    def abort(self, how: str, why: str = "") -> None:
        """The client has gone, or is let go: the pod's end is reset, too."""
        self._tell(how, why)
        if self.session is not None:
            self.session.drop(self)
        self._reset()

    def _reset(self) -> None:
        if not self.closed:
            try:
                if self.sock.family != socket.AF_UNIX:
                    self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            except OSError:
                pass
            self._close()

    def _close(self) -> None:
        self.pause()
        self._stop_writing()
        if self._timer is not None:
            self._timer.cancel()
        self.closed = True
        self._buffer.clear()
        self._drained(self.buffered)
        self.sock.close()

    def _stop_writing(self) -> None:
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._fd)


def loopback_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected TCP sockets: unlike a Unix pair they know a reset. Whoever else connects in between is turned away.

    Raises OSError.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=8) as server:
        ours = socket.create_connection(server.getsockname(), timeout=5.0)
        try:
            server.settimeout(5.0)
            while True:
                theirs, address = server.accept()
                if address == ours.getsockname():
                    break
                theirs.close()
        except BaseException:
            ours.close()
            raise
    for sock in (ours, theirs):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    ours.settimeout(None)
    return ours, theirs

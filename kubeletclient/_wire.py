"""One connection on an event loop, with or without TLS: the lowest room of the asyncio flavour.

Theory of operation. The wire owns a non-blocking socket and watches it with ``add_reader`` and ``add_writer``.
asyncio's transports are not used, for two reasons. One that cannot be worked around: a transport whose *write* fails
drops the connection at once, with everything that came and was not read yet; a command that ends while stdin still
flows makes the server reset the connection just then, and its exit status lies in the socket unread. And one of cost:
asyncio's TLS transport holds 290 KiB for each connection and makes a system call for each record.

Reading: one ``recv_into`` for each wake-up, into a buffer that all connections of the loop share, decrypted into
another such buffer. Nothing of a connection's own grows with the traffic. The views handed up die when the call
returns.

Writing: what the engine queued is encrypted at once (so the buffers of the caller are free again) and offered to the
kernel in one ``sendmsg``. What it does not take is kept, and the wire is ``blocked`` until that has left: the layer
above then hands nothing down, so at most one batch waits here. A write that fails makes the wire ``broken``: nothing
can leave any more, and reading goes on until the end of what came.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import weakref
from collections.abc import Iterable
from typing import Final, Protocol

from kubeletclient._policy import BATCH, SCRATCH
from kubeletclient._sockets import MOMENT, Gatherer
from spdyproto.tls import TLSPipe
from spdyproto.types import Buffer

__all__ = ["Receiver", "Scratch", "Wire"]

_IOV_MAX: Final = 512
"""Pieces of one ``sendmsg``: half of what POSIX systems take at most. A batch of 256 KiB is 17 records."""


class Scratch:
    """The buffers that the connections of one loop share. Each is used within one callback, never across two."""

    __slots__ = ("__weakref__", "cipher", "plain", "stdin")

    _of: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Scratch]] = weakref.WeakKeyDictionary()

    def __init__(self) -> None:
        self.cipher = memoryview(bytearray(SCRATCH))
        self.plain = memoryview(bytearray(SCRATCH))
        self.stdin = memoryview(bytearray(BATCH))

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> Scratch:
        """The buffers of ``loop``."""
        scratch = cls._of.get(loop)
        if scratch is None:
            scratch = cls._of[loop] = cls()
        return scratch


class Receiver(Protocol):
    """What stands above the wire."""

    def on_data(self, data: memoryview) -> None:
        """Bytes of the peer; the view dies when the call returns."""

    def on_batch(self) -> None:
        """All that one wake-up brought was handed up."""

    def on_end(self, *, clean: bool) -> None:
        """Nothing more will come; ``clean`` when the peer said so, by close_notify or FIN, rather than by a cut."""

    def on_writable(self) -> None:
        """The wire is not ``blocked`` any more."""


class Wire:
    """A connected socket, with the TLS that was set up on it. The socket is closed by ``close`` and by nothing else."""

    __slots__ = (
        "_fd",
        "_gatherer",
        "_loop",
        "_moment",
        "_reading",
        "_reads",
        "_receiver",
        "_scratch",
        "_sock",
        "_tls",
        "_unsent",
        "broken",
        "closed",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, tls: TLSPipe | None, receiver: Receiver
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._fd = sock.fileno()
        self._tls = tls
        self._receiver = receiver
        self._scratch = Scratch.of(loop)
        self._unsent: list[Buffer] = []
        self._reading = False
        self._gatherer = Gatherer()
        self._moment: asyncio.TimerHandle | None = None
        self._reads = 0
        self.broken = False
        """A write has failed: nothing leaves any more."""
        self.closed = False

    # -- reading -----------------------------------------------------------------------------------------------------

    @property
    def paused(self) -> bool:
        """The socket is not read now."""
        return not self._reading

    def resume(self) -> None:
        """Read from the socket. Nothing happens when it is read already, or when the wire is closed."""
        if not self._reading and not self.closed:
            self._reading = True
            self._loop.add_reader(self._fd, self._on_readable)

    def pause(self) -> None:
        """Leave what comes in the kernel, whose window then stops the peer."""
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._fd)
            if self._gatherer.on:
                self._stop_gathering()

    def _gather(self) -> None:
        """Wait for more than the next bytes, and see after a moment whether they came."""
        self._reads = 0
        self._moment = self._loop.call_later(MOMENT, self._on_moment)

    def _on_moment(self) -> None:
        if self._reads:
            self._gather()
        else:
            self._stop_gathering()
            self._on_readable()

    def _stop_gathering(self) -> None:
        self._gatherer.stop(self._sock)
        if self._moment is not None:
            self._moment.cancel()
            self._moment = None

    def _on_readable(self) -> None:
        receiver, gatherer = self._receiver, self._gatherer
        try:
            size = self._sock.recv_into(self._scratch.cipher)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # a reset, or what TCP's own timers gave up: the peer did not end it
            self.pause()
            receiver.on_end(clean=False)
            return
        gatherer.came(size, self._sock)
        if gatherer.on:
            self._reads += 1
            if self._moment is None:
                self._gather()
        tls = self._tls
        if not size:
            self.pause()
            receiver.on_end(clean=tls.receive_eof() if tls is not None else True)
            return
        data = self._scratch.cipher[:size]
        if tls is None:
            receiver.on_data(data)
            receiver.on_batch()
            return
        clean = True
        try:
            for plain in tls.receive(data, self._scratch.plain):
                receiver.on_data(plain)
        except ssl.SSLError:  # a forged or damaged record, or a fatal alert
            clean = False
        if tls.pending and not self._unsent:
            self._write(tls.take_segments())
        if not clean:
            self._break()  # behind the alert nothing can be sent
        receiver.on_batch()
        if tls.closed_by_peer or not clean:
            self.pause()
            if not self.closed:
                receiver.on_end(clean=clean)

    # -- writing -----------------------------------------------------------------------------------------------------

    @property
    def blocked(self) -> bool:
        """Something waits until the kernel takes it; ``send`` must not be called."""
        return bool(self._unsent)

    def send(self, segments: Iterable[Buffer]) -> None:
        """Send ``segments``, whose buffers are free again on return. Once ``broken`` or closed they are dropped."""
        if self.broken or self.closed:
            return
        tls = self._tls
        if tls is None:
            self._write([b"".join(segments)])
            return
        tls.send(segments)
        self._write(tls.take_segments())

    def _write(self, pieces: list[Buffer] | list[bytes]) -> None:
        try:
            sent = self._sock.sendmsg(pieces[:_IOV_MAX])
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self._break()
            return
        # Adding up lengths is the cheapest way to see the common case, in which everything has left.
        left = [] if sent == sum(map(len, pieces)) else _after(pieces, sent)
        if bool(left) != bool(self._unsent):
            if left:
                self._loop.add_writer(self._fd, self._on_socket_writable)
            else:
                self._loop.remove_writer(self._fd)
        self._unsent = left

    def _on_socket_writable(self) -> None:
        self._write(self._unsent)
        if self._unsent or self.closed:
            return
        if not self.broken and self._tls is not None and self._tls.pending:
            self._write(self._tls.take_segments())
        if not self._unsent:
            self._receiver.on_writable()

    def _break(self) -> None:
        self.broken = True
        if self._unsent:
            self._unsent = []
            self._loop.remove_writer(self._fd)

    # -- the end -----------------------------------------------------------------------------------------------------

    def close(self, segments: Iterable[Buffer] = ()) -> None:
        """Close the socket now. Last words (``segments``, close_notify) leave if the kernel takes them at once."""
        if self.closed:
            return
        self.pause()
        if not self._unsent and not self.broken:
            self.send(segments)
            if self._tls is not None and not self._unsent:
                self._tls.close_notify()
                self._write(self._tls.take_segments())
        if self._unsent:
            self._break()
        self.closed = True
        self._sock.close()


def _after(pieces: list[Buffer] | list[bytes], sent: int) -> list[Buffer]:
    """What is left of ``pieces`` when the first ``sent`` bytes have gone."""
    for index, piece in enumerate(pieces):
        size = len(piece)
        if sent < size:
            rest: list[Buffer] = list(pieces[index:])
            if sent:
                rest[0] = memoryview(piece)[sent:]
            return rest
        sent -= size
    return []

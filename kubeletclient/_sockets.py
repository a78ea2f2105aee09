"""What both drivers connect with: settings of the socket, and TLS over it."""

from __future__ import annotations

import socket
from typing import Final

from kubeletclient._commands import StartTLS
from spdyproto.tls import TLSPipe

__all__ = ["MOMENT", "Gatherer", "tls_pipe", "tune"]

_KEEPALIVE: Final = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
"""A peer that vanished is noticed after about a minute, even by a session that is not being read just now.

``TCP_USER_TIMEOUT`` is left alone on purpose: Linux (since 5.12) ends a connection by it also when a living peer
keeps its window closed, and a container that leaves its stdin unread for hours is no fault.
"""


def tune(sock: socket.socket) -> None:
    """Send without delay, for batches are made above and not by Nagle's algorithm; and notice a peer that vanished."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, seconds in _KEEPALIVE:
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, seconds)


MOMENT: Final = 0.001
"""Seconds that what came last may wait for more while a transfer is gathered."""

_PIECE: Final = 16 * 1024
_SUSTAINED: Final = 1 << 20
_ENOUGH: Final = 192 * 1024


class Gatherer:
    """Lets the kernel gather a bulk transfer, so that one wake-up brings many records.

    A receiver that keeps up is woken for each record or two that the peer writes, and to be woken costs as much as to
    decrypt them. So the kernel is told to call the socket readable only when ``_ENOUGH`` bytes have come, or when
    nothing more can come (SO_RCVLOWAT; it makes room for them, too). Whoever waits then waits no longer than
    ``MOMENT``, takes what there is, and calls ``stop``. It begins only behind ``_SUSTAINED`` bytes that came in pieces
    of a record or more: an answer of some KiB never waits, and a long one no more than once.
    """

    __slots__ = ("_came", "on")

    def __init__(self) -> None:
        self._came = 0
        self.on = False

    def came(self, size: int, sock: socket.socket) -> None:
        """So much was read at once."""
        if size < _PIECE:
            self._came = 0
        elif not self.on:
            self._came += size
            if self._came >= _SUSTAINED:
                self.on = self._tell(sock, _ENOUGH)

    def stop(self, sock: socket.socket) -> None:
        """Any byte counts again."""
        self.on = False
        self._tell(sock, 1)

    def _tell(self, sock: socket.socket, enough: int) -> bool:
        self._came = 0
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, enough)
        except OSError:  # a system without it: nothing is gathered
            return False
        return True


def tls_pipe(around: TLSPipe | None, command: StartTLS) -> TLSPipe:
    """TLS on the socket, or inside the TLS to a proxy."""
    if around is None:
        return TLSPipe.client(command.context, command.server_name)
    from spdyproto.nestedtls import NestedTLSPipe  # only for proxies that are spoken to over TLS

    pipe = NestedTLSPipe.client(command.context, command.server_name)
    assert isinstance(pipe, NestedTLSPipe)
    return pipe.within(around)

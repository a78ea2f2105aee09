"""What both drivers connect with: settings of the socket, and TLS over it."""

from __future__ import annotations

import socket
from typing import Final

from kubeletclient._commands import StartTLS
from spdyproto.tls import TLSPipe

__all__ = ["tls_pipe", "tune"]

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


def tls_pipe(around: TLSPipe | None, command: StartTLS) -> TLSPipe:
    """TLS on the socket, or inside the TLS to a proxy."""
    if around is None:
        return TLSPipe.client(command.context, command.server_name)
    from spdyproto.nestedtls import NestedTLSPipe  # only for proxies that are spoken to over TLS

    pipe = NestedTLSPipe.client(command.context, command.server_name)
    assert isinstance(pipe, NestedTLSPipe)
    return pipe.within(around)

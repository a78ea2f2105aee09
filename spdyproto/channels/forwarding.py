"""The vocabulary of a port-forward session, whatever carries it. ``connection`` is the session's number for one."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final, TypeAlias

from spdyproto.channels.subprotocols import PORT_FORWARD
from spdyproto.errors import ForwardingFailed, ProtocolError

TUNNEL: Final = f"SPDY/3.1+{PORT_FORWARD}"
"""The WebSocket subprotocol that carries SPDY."""


class ForwardTransport(enum.Enum):
    """What carries a session."""

    SPDY = "spdy"
    TUNNEL = "spdy in websocket"
    WEBSOCKET = "websocket"
    WEBSOCKET_BASE64 = "websocket, base64"

    @property
    def multiplexed(self) -> bool:
        """Whether connections can be opened at any time. Else there is one for each port, from the start."""
        return self in (ForwardTransport.SPDY, ForwardTransport.TUNNEL)


@dataclass(slots=True)
class Requested:
    """Server role: the client wants a connection to ``port``."""

    connection: int
    port: int


@dataclass(slots=True)
class Opened:
    """Client role: the server has accepted both streams, and data may flow. Whether anything listens at the port is not
    known yet: a refusal comes as ``Failed``."""

    connection: int


@dataclass(slots=True)
class Received:
    """Bytes; ``data`` is a view that lives until the next ``receive_data``."""

    connection: int
    data: memoryview


@dataclass(slots=True)
class RemoteEnded:
    """The peer sends nothing more on this connection, and said so. It may go on reading."""

    connection: int


@dataclass(slots=True)
class Finished:
    """Client role: both directions have ended in order, or the server closed the connection behind the end of its own
    data. Nothing more is reported of it."""

    connection: int


@dataclass(slots=True)
class Failed:
    """The connection is over without its proper end: what came is all that comes, and may be part of more. Nothing more
    is reported of it."""

    connection: int
    error: ForwardingFailed


@dataclass(slots=True)
class SessionOver:
    """The session is over; always the last event, after a ``Failed`` for each connection that was still open. ``error``
    is None when the peer ended it in order."""

    error: ProtocolError | None


ForwardEvent: TypeAlias = Requested | Opened | Received | RemoteEnded | Finished | Failed | SessionOver

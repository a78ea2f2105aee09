"""What a WebSocket connection reports. Slotted, compared by value, not frozen, as the SPDY events are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from spdyproto.errors import ProtocolError


@dataclass(slots=True)
class MessageChunk:
    """A piece of a message as it arrived: not a whole message, and not a whole frame.

    ``opcode`` is TEXT or BINARY, also for continuations. ``data`` is a view that lives until the next ``receive_data``.
    ``first`` and ``last`` mark the ends of the message; the last piece may be empty. ``frame_start`` marks the first
    piece of each frame: peers that do not reassemble messages (Go's ``x/net/websocket``) see every frame as a message.
    """

    opcode: int
    data: memoryview
    first: bool
    last: bool
    frame_start: bool = True


@dataclass(slots=True)
class PingReceived:
    """The peer's ping; the pong is already queued."""

    payload: bytes


@dataclass(slots=True)
class PongReceived:
    """A pong. ``round_trip`` in seconds when it answers our last ping, None when nobody asked for it."""

    payload: bytes
    round_trip: float | None


@dataclass(slots=True)
class CloseReceived:
    """The peer's Close frame; ours is queued. ``code`` is 1005 when it carried none."""

    code: int
    reason: str


@dataclass(slots=True)
class ConnectionTerminated:
    """The connection is over; always the last event, exactly once. ``error`` is None after a closing handshake."""

    error: ProtocolError | None = None


Event: TypeAlias = MessageChunk | PingReceived | PongReceived | CloseReceived | ConnectionTerminated

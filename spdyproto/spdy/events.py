"""What a SPDY connection reports. Slotted, compared by value, and deliberately not frozen (frozen ones cost twice as
much)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from spdyproto.errors import ProtocolError


@dataclass(slots=True)
class StreamOpened:
    """The peer opened a stream. Answer with ``accept_stream``, ``refuse_stream`` or ``reset_stream``."""

    stream_id: int
    headers: list[tuple[str, str]]
    fin: bool = False
    unidirectional: bool = False
    priority: int = 0
    associated_to: int = 0


@dataclass(slots=True)
class StreamAccepted:
    """The peer's SYN_REPLY for a stream of ours: data may flow."""

    stream_id: int
    headers: list[tuple[str, str]]
    fin: bool = False


@dataclass(slots=True)
class HeadersReceived:
    """More headers of an open stream. Kubernetes never sends them."""

    stream_id: int
    headers: list[tuple[str, str]]
    fin: bool = False


@dataclass(slots=True)
class DataReceived:
    """A piece of payload as it arrived; not a whole frame. ``data`` is a view that lives until the next
    ``receive_data``.

    ``fin`` is set on the piece after which the peer sends nothing more on this stream; that piece may be empty.
    """

    stream_id: int
    data: memoryview
    fin: bool = False


@dataclass(slots=True)
class DataAfterReset:
    """Payload on a stream that its sender has reset; kubernetes policy only.

    Nothing should ever come there, and most users drop it. It exists because the oldest remote-command servers reset
    their error stream first and write the error on it afterwards (``cri-streaming:
    pkg/streaming/remotecommand/httpstream.go``, ``v1ProtocolHandler``). ``data`` lives as in ``DataReceived``.
    """

    stream_id: int
    data: memoryview


@dataclass(slots=True)
class StreamReset:
    """The stream is gone in both directions. ``by_peer`` tells a RST_STREAM that came from one that we had to send.

    A unidirectional stream of ours is over with its FIN, maybe before the peer saw it begin: REFUSED_STREAM is told
    even then, since what was said on it reached nobody.
    """

    stream_id: int
    status: int
    by_peer: bool = True


@dataclass(slots=True)
class WindowUpdated:
    """More may be sent on ``stream_id`` (0: the session window). Only with windowed flow control."""

    stream_id: int
    delta: int


@dataclass(slots=True)
class SettingsReceived:
    """``entries`` as (id, value, flags)."""

    entries: list[tuple[int, int, int]]
    clear: bool = False


@dataclass(slots=True)
class PingReceived:
    """The peer's PING; the echo is already queued."""

    ping_id: int


@dataclass(slots=True)
class PingAcknowledged:
    """The echo of our PING. ``round_trip`` in seconds."""

    ping_id: int
    round_trip: float


@dataclass(slots=True)
class GoAwayReceived:
    """The peer accepts no new streams after ``last_good_stream``; Kubernetes peers also close the connection then."""

    last_good_stream: int
    status: int


@dataclass(slots=True)
class ConnectionTerminated:
    """The connection is over; always the last event, exactly once.

    ``error`` is ``None`` for an orderly end: a GOAWAY or our own closing, with a clean end of the transport.
    """

    error: ProtocolError | None = None


Event: TypeAlias = (
    StreamOpened
    | StreamAccepted
    | HeadersReceived
    | DataReceived
    | DataAfterReset
    | StreamReset
    | WindowUpdated
    | SettingsReceived
    | PingReceived
    | PingAcknowledged
    | GoAwayReceived
    | ConnectionTerminated
)

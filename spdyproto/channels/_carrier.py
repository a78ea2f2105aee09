"""Between a session, which knows what streams mean, and its carrier, which knows how they lie on the wire."""

from __future__ import annotations

from typing import Protocol

from spdyproto.channels.events import StreamKind, StreamSet, Transport
from spdyproto.channels.subprotocols import Subprotocol
from spdyproto.errors import ProtocolError, RemoteProtocolError
from spdyproto.types import Buffer


def expected_kinds(version: Subprotocol, streams: StreamSet, transport: Transport = Transport.SPDY) -> list[StreamKind]:
    """The streams of a session in the order in which the client opens them; over SPDY the server waits for as many."""
    kinds = [StreamKind.ERROR]
    kinds += [kind for kind in (StreamKind.STDIN, StreamKind.STDOUT, StreamKind.STDERR) if getattr(streams, kind.value)]
    if streams.tty and (version.has_resize or transport is not Transport.SPDY):
        kinds.append(StreamKind.RESIZE)
    return kinds


class Heard(Protocol):
    """What a carrier tells its session, in the order in which it came."""

    def heard_ready(self) -> None:
        """Every stream is open on both sides."""

    def heard(self, kind: StreamKind, data: memoryview) -> None:
        """Payload on a stream. Not called with nothing."""

    def heard_end(self, kind: StreamKind) -> None:
        """The peer sends nothing more on a stream, and said so."""

    def heard_refusal(self) -> None:
        """Client: the server takes no more stdin."""

    def heard_fault(self, error: RemoteProtocolError) -> None:
        """The session cannot go on."""

    def heard_over(self, error: ProtocolError | None) -> None:
        """The connection is over; always last."""

    @property
    def deaf(self) -> bool:
        """Nothing more is of interest."""


class Carrier(Protocol):
    """How a session's streams lie on the wire; one object serves one session."""

    half_close: bool

    @property
    def pending_bytes(self) -> int:
        """Bytes accepted and not yet handed out."""

    @property
    def terminated(self) -> bool:
        """Whether nothing can be sent any more."""

    def start(self, kinds: list[StreamKind], now: float, /) -> bool:
        """Begins; True when the session is ready with that."""

    def waiting_for(self) -> list[str]:
        """What the peer owes before the session is ready, in words."""

    def data_to_send(self) -> list[Buffer]:
        """Segments to write."""

    def next_deadline(self) -> float | None:
        """The keepalive's next time, or None."""

    def receive_data(self, data: Buffer, now: float, heard: Heard, /) -> bool:
        """Bytes from the transport. Answers whether they held anything."""

    def receive_eof(self, now: float, clean: bool, heard: Heard, /) -> bool:
        """The transport ended."""

    def handle_timeout(self, now: float, output_blocked: bool, heard: Heard, /) -> bool:
        """Does what the keepalive is due to do."""

    def has(self, kind: StreamKind, /) -> bool:
        """Whether the session has this stream."""

    def may_send(self, kind: StreamKind, /) -> bool:
        """Whether bytes can still leave on this stream."""

    def send(self, kind: StreamKind, data: Buffer, /) -> None:
        """Queues payload, all or nothing."""

    def end(self, kind: StreamKind, /) -> None:
        """Half-closes a stream. Raises ``HalfCloseUnsupported`` where ``half_close`` is False."""

    def leave(self) -> None:
        """Queues the end of the session, as far as it is not over."""

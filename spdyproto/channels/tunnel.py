"""SPDY in a WebSocket: ``SPDY/3.1+portforward.k8s.io``, as kubectl speaks it to an apiserver since 1.31.

The binary messages of the WebSocket are one stream of bytes, and that stream is SPDY. Where a message or a frame ends
means nothing: Go writes the parts of a SPDY frame as messages of two and four bytes, and fragments what does not fit
into its buffer. So this is a layer: the WebSocket engine below, the SPDY engine above, and between them nothing but
bytes. It has the byte-level face of a ``SpdyConnection``; streams are opened and written at ``spdy`` itself.

A text message is a fault. Close 1000 is the end of the stream of bytes, any other end a cut. There are no WebSocket
pings: the keepalive is SPDY's own, inside.

Sources: ``k8s.io/apiserver: pkg/util/proxy/streamtunnel.go``, ``client-go: tools/portforward/tunneling_connection.go``.
"""

from __future__ import annotations

from spdyproto.errors import FramingError, PeerClosed, ProtocolError
from spdyproto.limits import Limits
from spdyproto.spdy.connection import SpdyConnection
from spdyproto.spdy.events import ConnectionTerminated, Event
from spdyproto.types import Buffer, Role, Tracer
from spdyproto.websocket.connection import WebSocketConnection
from spdyproto.websocket.constants import CloseCode, Opcode
from spdyproto.websocket.events import CloseReceived, MessageChunk
from spdyproto.websocket.events import ConnectionTerminated as WebSocketTerminated
from spdyproto.websocket.events import Event as SocketEvent

_JOIN = 4096
"""Segments up to this size are joined into one message with what follows; larger ones are not copied for that."""

_MESSAGE = 64 * 1024
"""Small segments of one message together."""


class SpdyTunnel:
    """One SPDY connection in one WebSocket, in either role."""

    def __init__(self, role: Role, spdy: SpdyConnection, limits: Limits, tracer: Tracer | None = None) -> None:
        self.spdy = spdy
        self._socket = WebSocketConnection(role, limits=limits, tracer=tracer)
        self._close: CloseReceived | None = None
        self._closing = False

    @property
    def pending_bytes(self) -> int:
        """Bytes accepted and not yet handed out."""
        return self.spdy.pending_bytes + self._socket.pending_bytes

    def start(self, now: float) -> None:
        """Starts the clocks."""
        self._socket.start(now)
        self.spdy.start(now)

    def next_deadline(self) -> float | None:
        """SPDY's: the WebSocket has no clock of its own here."""
        return self.spdy.next_deadline()

    def handle_timeout(self, now: float, *, output_blocked: bool = False) -> list[Event]:
        """Does what SPDY's keepalive is due to do."""
        return self.spdy.handle_timeout(now, output_blocked=output_blocked)

    def receive_data(self, data: Buffer, now: float) -> list[Event]:
        """Bytes from the transport; events of SPDY, whose views live until the next call."""
        return self._digest(self._socket.receive_data(data, now), now)

    def receive_eof(self, now: float, *, clean: bool = True) -> list[Event]:
        """The transport ended."""
        return self._digest(self._socket.receive_eof(now, clean=clean), now)

    def data_to_send(self) -> list[Buffer]:
        """Segments to write: SPDY's bytes as messages, behind those of the WebSocket itself."""
        socket = self._socket
        out = socket.data_to_send()
        small: list[Buffer] = []
        size = 0
        for segment in self.spdy.data_to_send() if not socket.closing else ():
            if len(segment) > _JOIN:
                socket.send_message(b"".join(small), segment)
            elif size + len(segment) > _MESSAGE:
                socket.send_message(b"".join(small))
            else:
                small.append(segment)
                size += len(segment)
                continue
            # Taken at once, so that the bound on queued bytes is SPDY's alone.
            out += socket.data_to_send()
            small = [] if len(segment) > _JOIN else [segment]
            size = sum(map(len, small))
        if small:
            socket.send_message(b"".join(small))
        if self._closing:
            socket.close(CloseCode.NORMAL)
        return out + socket.data_to_send()

    def close(self) -> None:
        """Close 1000 behind everything that SPDY has queued."""
        self._closing = True

    def _digest(self, below: list[SocketEvent], now: float) -> list[Event]:
        events: list[Event] = []
        spdy = self.spdy
        for event in below:
            if type(event) is MessageChunk:
                if event.opcode != Opcode.BINARY:
                    self._socket.close(CloseCode.UNSUPPORTED_DATA)
                    events += self._ended(FramingError("a text message in a tunnel, which carries binary ones"), now)
                elif event.data and not spdy.terminated:
                    events += spdy.receive_data(event.data, now)
            elif isinstance(event, CloseReceived):
                self._close = event
            elif isinstance(event, WebSocketTerminated):
                events += self._ended(event.error, now)
        return events

    def _ended(self, error: ProtocolError | None, now: float) -> list[Event]:
        """The stream of bytes is over: in order after Close 1000, cut after anything else."""
        if self.spdy.terminated:
            return []
        close = self._close
        if error is None and close is not None and close.code not in (CloseCode.NORMAL, CloseCode.NO_STATUS):
            why = f" ({close.reason})" if close.reason else ""
            error = PeerClosed(f"the peer closed the WebSocket with code {close.code}{why}")
        events = self.spdy.receive_eof(now, clean=error is None)
        if error is not None and events and isinstance(events[-1], ConnectionTerminated):
            events[-1] = ConnectionTerminated(error)
        return events

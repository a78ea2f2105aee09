"""The old form of port-forward: one WebSocket, and for each port of the request two channels in it.

Channel ``2i`` carries the data of the port with index ``i``, both ways, and ``2i + 1`` what the server says when it
failed. On each of them the server first sends the number of the port, two bytes, little-endian. Each port is one
connection, dialled at once, for the life of the WebSocket: none can be opened later, and none can be ended alone, in
one direction or in both. The server closes the WebSocket when all of them are over; so the Close frame is the end of
every port's data, and the mere end of the connection is a loss.

Source: ``cri-streaming: pkg/streaming/portforward/websocket.go``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final

from spdyproto.channels.forwarding import (
    Failed,
    Finished,
    ForwardEvent,
    ForwardTransport,
    Opened,
    Received,
    RemoteEnded,
    Requested,
    SessionOver,
)
from spdyproto.channels.mux import Demultiplexer, Multiplexer, Piece
from spdyproto.errors import (
    ForwardingFailed,
    FramingError,
    HalfCloseUnsupported,
    LocalProtocolError,
    PeerClosed,
    PeerTimeout,
    ProtocolError,
    RemoteProtocolError,
)
from spdyproto.limits import Deadlines, Keepalive, Limits
from spdyproto.text import printable
from spdyproto.types import Buffer, Role, Tracer
from spdyproto.websocket.connection import WebSocketConnection
from spdyproto.websocket.constants import CloseCode, Opcode
from spdyproto.websocket.events import CloseReceived, ConnectionTerminated, Event, MessageChunk

__all__ = ["MOST_BASE64", "ForwardSocketClient", "ForwardSocketServer"]

_PAYLOAD: Final = 32768
"""Data in one message. Go's server takes a frame for a message and reads 32 KiB at once."""

MOST_BASE64: Final = 5
"""Ports that base64 can carry: a channel is one digit."""


class _PortSocket(ABC):
    """What both roles share."""

    half_close = False
    """Whether one direction of a connection can be ended alone: never."""

    def __init__(
        self,
        role: Role,
        ports: Sequence[int],
        transport: ForwardTransport,
        limits: Limits | None,
        deadlines: Deadlines | None,
        keepalive: Keepalive | None,
        tracer: Tracer | None,
    ) -> None:
        base64 = transport is ForwardTransport.WEBSOCKET_BASE64
        if not ports or (base64 and len(ports) > MOST_BASE64):
            raise LocalProtocolError(f"{len(ports)} ports; at least 1 expected, and with base64 {MOST_BASE64} at most")
        self.ports = tuple(ports)
        self.transport = transport
        self._limits = limits or Limits()
        self._deadlines = deadlines or Deadlines()
        self._engine = WebSocketConnection(role, limits=self._limits, keepalive=keepalive, tracer=tracer)
        self._outgoing = Multiplexer(base64=base64)
        self._incoming = Demultiplexer(base64=base64, per_frame=role is Role.SERVER, strict=role is Role.CLIENT)
        self._open = set(range(len(ports)))
        self._events: list[ForwardEvent] = []
        self.over = False
        """True once ``SessionOver`` was reported, or ``close`` was called."""

    @property
    def pending_bytes(self) -> int:
        """Bytes accepted and not yet handed out by ``data_to_send``."""
        return self._engine.pending_bytes

    def data_to_send(self) -> list[Buffer]:
        """Segments to write, in order and unjoined; the caller owns them."""
        return self._engine.data_to_send()

    def receive_data(self, data: Buffer, now: float) -> list[ForwardEvent]:
        """Bytes from the transport. ``Received.data`` are views that live until the next call."""
        return [] if self.over else self._after(self._engine.receive_data(data, now))

    def receive_eof(self, now: float, *, clean: bool) -> list[ForwardEvent]:
        """The transport ended; ``clean`` when by FIN or close_notify rather than by a cut."""
        return [] if self.over else self._after(self._engine.receive_eof(now, clean=clean))

    def may_send(self, connection: int) -> bool:
        """Whether data can leave on this connection."""
        return connection in self._open and not self._engine.terminated and not self._engine.closing

    def send(self, connection: int, data: Buffer) -> None:
        """Queues bytes. Raises LocalProtocolError where ``may_send`` is False, OutputLimitExceeded when too much is
        queued, with nothing queued."""
        if not self.may_send(connection):
            raise LocalProtocolError(f"connection {connection} is over")
        self._send(2 * connection, data)

    def _send(self, channel: int, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        out, engine = self._outgoing, self._engine
        text = out.opcode == Opcode.TEXT
        engine.require_room(len(view) * 3 // 2 if text else len(view) + len(view) // 1024)
        largest = _PAYLOAD // 4 * 3 if text else _PAYLOAD
        for start in range(0, len(view), largest):
            engine.send_message(out.prefix(channel), out.payload(view[start : start + largest]), opcode=out.opcode)

    def close(self) -> None:
        """Close 1000. Nothing more is reported."""
        self.over = True
        self._engine.close(CloseCode.NORMAL)

    def _after(self, below: list[Event]) -> list[ForwardEvent]:
        for event in below:
            if type(event) is MessageChunk:
                try:
                    piece = self._incoming.feed(event)
                except RemoteProtocolError as error:
                    self._engine.close(error.close_code)
                    self._end(error)
                    break
                if piece is not None and piece.data:
                    self._on_piece(piece)
            else:
                self._on_event(event)
            if self.over:
                break
        events, self._events = self._events, []
        return events

    @abstractmethod
    def _on_piece(self, piece: Piece) -> None:
        """Payload of a channel; never empty."""

    @abstractmethod
    def _on_event(self, event: Event) -> None:
        """Anything but payload."""

    def _end(self, error: ProtocolError | None) -> None:
        """The session is over, and with it what is still open."""
        why = "the session ended" if error is None else str(error)
        for number in sorted(self._open):
            self._events.append(Failed(number, self._failure(number, why)))
        self._open.clear()
        self.over = True
        self._events.append(SessionOver(error))

    def _failure(self, number: int, why: str, text: str = "") -> ForwardingFailed:
        return ForwardingFailed(f"the connection to port {self.ports[number]} failed: {why}", text=text)


class ForwardSocketClient(_PortSocket):
    """The client's end. Connection ``i`` is the one to ``ports[i]``; all are under way from the start."""

    def __init__(
        self,
        ports: Sequence[int],
        *,
        transport: ForwardTransport = ForwardTransport.WEBSOCKET,
        limits: Limits | None = None,
        deadlines: Deadlines | None = None,
        keepalive: Keepalive | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        super().__init__(Role.CLIENT, ports, transport, limits, deadlines, keepalive, tracer)
        self._heads = [bytearray() for _ in range(2 * len(ports))]
        self._texts = [bytearray() for _ in ports]
        self._unopened = set(self._open)
        self._close: CloseReceived | None = None
        self._deadline: float | None = None

    can_open = False

    @property
    def connections(self) -> int:
        """Connections that are alive."""
        return len(self._open)

    def oldest_opening(self) -> int | None:
        """The first connection that the server has not announced."""
        return min(self._unopened & self._open, default=None)

    def start(self, now: float) -> list[ForwardEvent]:
        """Starts the clocks."""
        self._engine.start(now)
        if self._deadlines.stream_reply is not None:
            self._deadline = now + self._deadlines.stream_reply
        return []

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` wants to be called next; None for never."""
        if self.over:
            return None
        times = [each for each in (self._engine.next_deadline(), self._deadline) if each is not None]
        return min(times, default=None)

    def handle_timeout(
        self, now: float, *, output_blocked: bool = False, input_paused: bool = False
    ) -> list[ForwardEvent]:
        """Does what is due: a ping, or the end of waiting for the server's announcements."""
        if self.over:
            return []
        if self._deadline is not None and now >= self._deadline:
            seconds = self._deadlines.stream_reply
            self._deadline = now + (seconds or 0.0) if input_paused else None
            if not input_paused and self._unopened:
                self._end(PeerTimeout(f"the server did not announce its ports within {seconds:g} s"))
                return self._after([])
        return self._after(self._engine.handle_timeout(now, output_blocked=output_blocked or input_paused))

    def open(self, port: int, now: float) -> int:
        """Raises LocalProtocolError: the connections are those of the request."""
        raise LocalProtocolError("over this WebSocket no connection can be opened: make another session")

    def may_send(self, connection: int) -> bool:
        """Whether data can leave on this connection."""
        return connection not in self._unopened and super().may_send(connection)

    def end(self, connection: int) -> list[ForwardEvent]:
        """Raises HalfCloseUnsupported: the protocol has no word for it."""
        raise HalfCloseUnsupported("this WebSocket cannot end one direction of a connection: use SPDY, or SPDY in it")

    def reset(self, connection: int) -> None:
        """Gives a connection up. The server hears of it only when it was the last one: the session is closed then."""
        self._open.discard(connection)
        if not self._open and not self.over:
            self.close()

    def _on_piece(self, piece: Piece) -> None:
        channel, data = piece.channel, piece.data
        if not 0 <= channel < len(self._heads):
            return  # Go's client discards unknown channels
        head = self._heads[channel]
        if len(head) < 2:
            missing = 2 - len(head)
            head += data[:missing]
            data = data[missing:]
            if len(head) < 2:
                return
            if not self._announced(channel, int.from_bytes(head, "little")):
                return
        number = channel // 2
        if not data or number not in self._open:
            return
        if channel % 2:
            text = self._texts[number]
            text += data[: max(0, self._limits.error_stream - len(text))]
        else:
            self._events.append(Received(number, data))

    def _announced(self, channel: int, port: int) -> bool:
        number = channel // 2
        if port != self.ports[number]:
            self._engine.close(CloseCode.PROTOCOL_ERROR)
            self._end(FramingError(f"channel {channel} begins with port {port}; {self.ports[number]} expected"))
            return False
        if all(len(head) == 2 for head in self._heads[2 * number : 2 * number + 2]):
            self._unopened.discard(number)
            if not self._unopened:
                self._deadline = None
            if number in self._open:
                self._events.append(Opened(number))
        return True

    def _on_event(self, event: Event) -> None:
        if isinstance(event, CloseReceived):
            self._close = event
        elif isinstance(event, ConnectionTerminated):
            close = self._close
            if close is None or event.error is not None:
                self._end(event.error or PeerClosed("the server closed the connection"))
            elif close.code in (CloseCode.NORMAL, CloseCode.NO_STATUS):
                self._end_in_order()
            else:
                why = f" ({close.reason})" if close.reason else ""
                self._end(PeerClosed(f"the server closed the WebSocket with code {close.code}{why}"))

    def _end_in_order(self) -> None:
        for number in sorted(self._open - self._unopened):
            text = self._texts[number].decode("utf-8", "replace")
            self._open.discard(number)
            if text.strip():
                failure = self._failure(number, printable(text.strip(), limit=2000), text)
                self._events.append(Failed(number, failure))
            else:
                self._events += [RemoteEnded(number), Finished(number)]
        self._end(None)


class ForwardSocketServer(_PortSocket):
    """The server's end: ``start`` announces every port, and tells of every connection at once."""

    def __init__(
        self,
        ports: Sequence[int],
        *,
        transport: ForwardTransport = ForwardTransport.WEBSOCKET,
        limits: Limits | None = None,
        deadlines: Deadlines | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        super().__init__(Role.SERVER, ports, transport, limits, deadlines, None, tracer)

    def start(self, now: float) -> list[ForwardEvent]:
        """Queues the announcements, and reports every connection."""
        self._engine.start(now)
        for number, port in enumerate(self.ports):
            for channel in (2 * number, 2 * number + 1):
                self._send(channel, port.to_bytes(2, "little"))
        return [Requested(number, port) for number, port in enumerate(self.ports)]

    def next_deadline(self) -> float | None:
        """Never: the server pings nobody, and waits for nothing."""
        return None

    def handle_timeout(
        self, now: float, *, output_blocked: bool = False, input_paused: bool = False
    ) -> list[ForwardEvent]:
        """Nothing is ever due."""
        return []

    def end(self, connection: int) -> None:
        """Nothing: the protocol has no word for it."""

    def finish(self, connection: int) -> None:
        """The connection is over. With the last one the WebSocket is closed, and the session over."""
        self._open.discard(connection)
        if not self._open and not self.over:
            self.close()

    def fail(self, connection: int, text: str) -> None:
        """The connection has failed: the text on its error channel."""
        if self.may_send(connection):
            self._send(2 * connection + 1, text.encode())
        self.finish(connection)

    def _on_piece(self, piece: Piece) -> None:
        number, error = divmod(piece.channel, 2)
        if not error and number in self._open:
            self._events.append(Received(number, piece.data))

    def _on_event(self, event: Event) -> None:
        if isinstance(event, ConnectionTerminated):
            self._end(event.error)

"""A remote-command session's streams as the channels of one WebSocket: the carrier of either role.

All channels exist from the start, so there is nothing to open and nobody to wait for. No channel ends by itself: only
the Close frame tells that an output is complete, and its code tells nothing (Go's server always sends 1000), so the
result is what came on the error channel. stdin can be ended in v5 only, by its CLOSE signal; before v5 the protocol
has no word for it.

Sources: ``cri-streaming: pkg/streaming/remotecommand/websocket.go``, ``streaming: pkg/httpstream/wsstream/conn.go``,
``client-go: tools/remotecommand/websocket.go``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from spdyproto.channels._carrier import Heard
from spdyproto.channels.events import StreamKind
from spdyproto.channels.mux import CLOSE, Channel, Demultiplexer, Multiplexer, Piece
from spdyproto.channels.subprotocols import Subprotocol
from spdyproto.errors import (
    FramingError,
    HalfCloseUnsupported,
    PeerClosed,
    ProtocolError,
    RemoteProtocolError,
)
from spdyproto.limits import Keepalive, Limits
from spdyproto.types import Buffer, Role, Tracer
from spdyproto.websocket.connection import WebSocketConnection
from spdyproto.websocket.constants import CloseCode, Opcode
from spdyproto.websocket.events import CloseReceived, ConnectionTerminated, Event, MessageChunk

_CHANNELS = {
    StreamKind.STDIN: Channel.STDIN,
    StreamKind.STDOUT: Channel.STDOUT,
    StreamKind.STDERR: Channel.STDERR,
    StreamKind.ERROR: Channel.ERROR,
    StreamKind.RESIZE: Channel.RESIZE,
}
_KINDS = {int(channel): kind for kind, channel in _CHANNELS.items()}

_CLIENT_PAYLOAD = 65527
"""stdin in one message: with 8 bytes of header and the channel it fills exactly four TLS records."""

_SERVER_PAYLOAD = 32768
"""Output in one message, as Go's server writes it."""


class WebSocketCarrier(ABC):
    """What both roles share."""

    def __init__(
        self,
        role: Role,
        version: Subprotocol,
        limits: Limits,
        keepalive: Keepalive | None,
        tracer: Tracer | None,
        *,
        base64: bool,
        per_frame: bool = False,
    ) -> None:
        self.version = version
        self.half_close = version.has_close_signal
        self._limits = limits
        self._engine = WebSocketConnection(role, limits=limits, keepalive=keepalive, tracer=tracer)
        self._outgoing = Multiplexer(base64=base64)
        self._incoming = Demultiplexer(base64=base64, per_frame=per_frame, strict=role is Role.CLIENT)
        self._largest = _CLIENT_PAYLOAD if role is Role.CLIENT else _SERVER_PAYLOAD
        if base64:
            self._largest = self._largest // 4 * 3
        self._kinds: set[StreamKind] = set()
        self._ended: set[StreamKind] = set()

    @property
    def pending_bytes(self) -> int:
        """Bytes accepted and not yet handed out."""
        return self._engine.pending_bytes

    @property
    def terminated(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._engine.terminated or self._engine.closing

    def data_to_send(self) -> list[Buffer]:
        """Segments to write."""
        return self._engine.data_to_send()

    def next_deadline(self) -> float | None:
        """The keepalive's."""
        return self._engine.next_deadline()

    def waiting_for(self) -> list[str]:
        """Nothing: every channel exists from the start."""
        return []

    def receive_data(self, data: Buffer, now: float, heard: Heard) -> bool:
        """Bytes from the transport. Answers whether they held anything."""
        return self._digest(self._engine.receive_data(data, now), heard)

    def receive_eof(self, now: float, clean: bool, heard: Heard) -> bool:
        """The transport ended."""
        return self._digest(self._engine.receive_eof(now, clean=clean), heard)

    def handle_timeout(self, now: float, output_blocked: bool, heard: Heard) -> bool:
        """Does what the keepalive is due to do."""
        return self._digest(self._engine.handle_timeout(now, output_blocked=output_blocked), heard)

    def _digest(self, below: list[Event], heard: Heard) -> bool:
        feed = self._incoming.feed
        for event in below:
            if heard.deaf:
                break
            if type(event) is MessageChunk:
                try:
                    piece = feed(event)
                except RemoteProtocolError as error:
                    self._engine.close(error.close_code)
                    heard.heard_fault(error)
                    continue
                if piece is not None:
                    self._on_piece(piece, heard)
            else:
                self._on_event(event, heard)
        return bool(below)

    @abstractmethod
    def _on_piece(self, piece: Piece, heard: Heard) -> None:
        """Payload of a channel."""

    @abstractmethod
    def _on_event(self, event: Event, heard: Heard) -> None:
        """Anything but payload."""

    def has(self, kind: StreamKind) -> bool:
        """Whether the session has this stream."""
        return kind in self._kinds

    def may_send(self, kind: StreamKind) -> bool:
        """Whether bytes can still leave on this channel."""
        return kind in self._kinds and kind not in self._ended and not self.terminated

    def send(self, kind: StreamKind, data: Buffer) -> None:
        """Queues payload as messages, each in one frame: Go's server takes a frame for a message."""
        view = memoryview(data).cast("B")
        channel = _CHANNELS[kind]
        out, engine = self._outgoing, self._engine
        # Each message is checked as well; together they must fit, headers and base64 included, or none is queued.
        engine.require_room(len(view) * 3 // 2 if out.opcode == Opcode.TEXT else len(view) + len(view) // 1024)
        for start in range(0, len(view), self._largest):
            piece = view[start : start + self._largest]
            engine.send_message(out.prefix(channel), out.payload(piece), opcode=out.opcode)

    def end(self, kind: StreamKind) -> None:
        """Ends a channel by v5's CLOSE signal. Raises ``HalfCloseUnsupported`` before v5."""
        if not self.half_close:
            raise HalfCloseUnsupported(
                f"{self.version.value} over WebSocket cannot end {kind.value}: the command would wait for ever. "
                "Use SPDY or v5.channel.k8s.io"
            )
        self._engine.send_message(bytes((CLOSE, _CHANNELS[kind])))
        self._ended.add(kind)

    def leave(self) -> None:
        """Close frame 1000; after it nothing is sent."""
        self._engine.close(CloseCode.NORMAL)


class WebSocketClientCarrier(WebSocketCarrier):
    """Hears outputs and the status."""

    def __init__(
        self,
        version: Subprotocol,
        limits: Limits,
        keepalive: Keepalive | None,
        tracer: Tracer | None,
        *,
        base64: bool = False,
    ) -> None:
        super().__init__(Role.CLIENT, version, limits, keepalive, tracer, base64=base64)
        self._close: CloseReceived | None = None

    def start(self, kinds: list[StreamKind], now: float) -> bool:
        """Ready at once."""
        self._engine.start(now)
        self._kinds = set(kinds)
        return True

    def _on_piece(self, piece: Piece, heard: Heard) -> None:
        kind = _KINDS.get(piece.channel)
        # A message of nothing but its channel is the server's greeting; Go's client discards unknown channels.
        if kind is not None and piece.data and kind in self._kinds:
            heard.heard(kind, piece.data)

    def _on_event(self, event: Event, heard: Heard) -> None:
        if isinstance(event, CloseReceived):
            self._close = event
        elif isinstance(event, ConnectionTerminated):
            self._on_terminated(event.error, heard)

    def _on_terminated(self, error: ProtocolError | None, heard: Heard) -> None:
        close = self._close
        if close is None or error is not None:
            heard.heard_over(error)
        elif close.code in (CloseCode.NORMAL, CloseCode.NO_STATUS):
            for kind in (StreamKind.STDOUT, StreamKind.STDERR, StreamKind.ERROR):
                heard.heard_end(kind)
            heard.heard_over(None)
        else:
            why = f" ({close.reason})" if close.reason else ""
            heard.heard_over(PeerClosed(f"the server closed the WebSocket with code {close.code}{why}"))


class WebSocketServerCarrier(WebSocketCarrier):
    """Hears stdin, sizes and v5's CLOSE."""

    def __init__(
        self,
        version: Subprotocol,
        limits: Limits,
        tracer: Tracer | None,
        *,
        base64: bool = False,
        per_frame: bool = True,
    ) -> None:
        super().__init__(Role.SERVER, version, limits, None, tracer, base64=base64, per_frame=per_frame)
        self._signal = bytearray()

    def start(self, kinds: list[StreamKind], now: float) -> bool:
        """Ready at once. Greets with one empty message on the lowest channel that it writes, as Go's server does."""
        self._engine.start(now)
        self._kinds = set(kinds)
        lowest = min(_CHANNELS[kind] for kind in kinds if kind not in (StreamKind.STDIN, StreamKind.RESIZE))
        self._engine.send_message(self._outgoing.prefix(lowest), opcode=self._outgoing.opcode)
        return True

    def _on_piece(self, piece: Piece, heard: Heard) -> None:
        if piece.channel == CLOSE and self.version.has_close_signal:
            self._on_signal(piece, heard)
            return
        kind = _KINDS.get(piece.channel)
        wanted = kind is StreamKind.STDIN or kind is StreamKind.RESIZE
        if wanted and piece.data and kind in self._kinds and kind not in self._ended:
            heard.heard(kind, piece.data)

    def _on_signal(self, piece: Piece, heard: Heard) -> None:
        """Exactly two bytes, and a channel that exists; anything else ends the connection."""
        if piece.first:
            self._signal.clear()
        self._signal += piece.data[:2]
        if len(self._signal) > 1 or (piece.last and (len(self._signal) != 1 or self._signal[0] not in _KINDS)):
            self._engine.close(CloseCode.NORMAL)
            heard.heard_fault(FramingError("a CLOSE signal that is not two bytes: 255 and a channel"))
        elif piece.last:
            kind = _KINDS[self._signal[0]]
            if kind in self._kinds and kind not in self._ended:
                self._ended.add(kind)
                heard.heard_end(kind)

    def _on_event(self, event: Event, heard: Heard) -> None:
        if isinstance(event, ConnectionTerminated):
            heard.heard_over(event.error)

    def may_send(self, kind: StreamKind) -> bool:
        """CLOSE for an output has no visible effect, so only the connection's end stops one."""
        return kind in self._kinds and not self.terminated

"""A WebSocket connection without I/O: bytes and time in, events and segments out, for either role.

Theory of operation. The shape is that of the SPDY engine. The parser is in one of two places, within a frame header or
within a payload; payload of data frames is handed on as it arrives (unmasked on the way, in the server's role), so a
peer that announces 2^63 bytes makes us hold nothing. Only control payloads, 125 bytes at most, are collected. Text is
checked as UTF-8 while it passes (RFC 6455 section 8.1), so that a fault is found in the piece that has it.

A violation queues a Close frame with the code that names it and ends the event list with ``ConnectionTerminated``,
after all good events of the same buffer. The peer's Close is answered at once and ends the connection as well: what
follows it does not exist. Pings are answered by themselves; a flood that outruns what the peer lets us send ends the
connection.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable

from spdyproto.errors import (
    EncodingError,
    EngineTerminated,
    FramingError,
    LimitExceeded,
    LocalProtocolError,
    OutputLimitExceeded,
    PeerClosed,
    PeerTimeout,
    ProtocolError,
    RemoteProtocolError,
)
from spdyproto.keepalive import KeepaliveTimer, Verdict
from spdyproto.limits import Keepalive, Limits
from spdyproto.types import Buffer, Role, Tracer
from spdyproto.websocket.constants import MAX_CONTROL, CloseCode, Opcode, valid_close_code
from spdyproto.websocket.events import (
    CloseReceived,
    ConnectionTerminated,
    Event,
    MessageChunk,
    PingReceived,
    PongReceived,
)
from spdyproto.websocket.frames import FrameHeader, pack_header, unpack_header
from spdyproto.websocket.masking import apply_mask

_EMPTY = memoryview(b"")


def _random_key() -> bytes:
    """Unpredictable for every frame (RFC 6455 section 5.3)."""
    return os.urandom(4)


class WebSocketConnection:
    """One connection, either role, after the handshake. Not thread-safe: the driver serialises the calls."""

    def __init__(
        self,
        role: Role,
        *,
        limits: Limits | None = None,
        keepalive: Keepalive | None = None,
        mask_source: Callable[[], bytes] = _random_key,
        tracer: Tracer | None = None,
    ) -> None:
        self.role = role
        self._limits = limits or Limits()
        self._mask_source = mask_source if role is Role.CLIENT else None
        self._clock = KeepaliveTimer(keepalive)
        self._tracer = tracer
        self._out: list[Buffer] = []
        self._queued = 0
        self._chores = 0
        self._events: list[Event] = []
        self._head = bytearray()
        self._frame: FrameHeader | None = None
        self._left = 0
        self._unmasked = 0
        self._started = False
        self._control = bytearray()
        self._message = 0
        """Opcode of the message that is under way, 0 for none."""
        self._message_size = 0
        self._utf8: codecs.IncrementalDecoder | None = None
        self._terminated = False
        self._eof = False
        self._close_sent = False
        self._now = 0.0
        self._ping: tuple[bytes, float] | None = None
        self._pings = 0

    # -- what the connection is like ---------------------------------------------------------------------------------

    @property
    def terminated(self) -> bool:
        """True once ``ConnectionTerminated`` was reported."""
        return self._terminated

    @property
    def closing(self) -> bool:
        """True once our Close frame is queued: no message can follow."""
        return self._close_sent

    @property
    def pending_bytes(self) -> int:
        """Bytes accepted and not yet handed out."""
        return self._queued

    @property
    def within_frame(self) -> bool:
        """True when what was received ends within a frame or within a message."""
        return bool(self._head) or self._frame is not None or bool(self._message)

    # -- time --------------------------------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Starts the keepalive's clock. Without keepalive it does nothing."""
        self._now = now
        self._clock.start(now)

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` wants to be called next, in the clock of ``now``; None for never."""
        return None if self._terminated else self._clock.deadline

    def handle_timeout(self, now: float, *, output_blocked: bool = False) -> list[Event]:
        """Sends a ping that is due, or ends the connection when the peer did not answer one in time.

        ``output_blocked``: the transport takes nothing from us, so a missing pong proves nothing. Go's server answers
        no ping while a process leaves its stdin unread.
        """
        self._now = now
        if not self._terminated and not self._close_sent:
            verdict = self._clock.check(now, waiting=self._ping is not None, silence_proves_nothing=output_blocked)
            if verdict is Verdict.PING:
                self.ping(now=now)
            elif verdict is Verdict.DEAD:
                self._end(PeerTimeout(self._clock.obituary(now)))
        return self._take_events()

    # -- receiving ---------------------------------------------------------------------------------------------------

    def receive_data(self, data: Buffer, now: float) -> list[Event]:
        """Bytes from the transport. Never raises for what the peer did; raises ``EngineTerminated`` after
        ``receive_eof``.

        ``MessageChunk.data`` are views of ``data`` (in the server's role of an unmasked copy): they live until the next
        call. After the connection was terminated, bytes are ignored.
        """
        if self._eof:
            raise EngineTerminated("data after the end of the transport")
        if self._terminated:
            return []
        self._now = self._clock.heard = now
        try:
            self._feed(memoryview(data).cast("B"))
        except RemoteProtocolError as error:
            self._fail(error)
        return self._take_events()

    def receive_eof(self, now: float, *, clean: bool = True) -> list[Event]:
        """The transport ended. Without a closing handshake that is an error, however clean."""
        self._now = now
        self._eof = True
        if not self._terminated:
            if self.within_frame:
                self._end(PeerClosed("the connection ended within a message"))
            elif not clean:
                self._end(PeerClosed("the connection was cut: the transport ended without its own end mark"))
            else:
                self._end(PeerClosed("the connection ended without a Close frame"))
        return self._take_events()

    def _take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def _feed(self, view: memoryview) -> None:
        position, size = 0, len(view)
        while not self._terminated:
            frame = self._frame
            if frame is None:
                position = self._next_header(view, position, size)
                if position < 0:
                    return
                frame = self._frame
                assert frame is not None
            take = min(self._left, size - position)
            self._left -= take
            chunk = view[position : position + take]
            position += take
            if frame.key is not None and take:
                chunk = memoryview(apply_mask(chunk, frame.key, self._unmasked))
                self._unmasked += take
            end = not self._left
            if frame.opcode >= Opcode.CLOSE:
                self._control += chunk
                if end:
                    self._frame = None
                    self._on_control(frame.opcode)
            else:
                if end:
                    self._frame = None
                self._on_payload(frame, chunk, end)
            if not end:
                return

    def _next_header(self, view: memoryview, position: int, size: int) -> int:
        """Reads a frame header, part of which may have come earlier; -1 while it is incomplete."""
        head = self._head
        if head:
            before = len(head)
            head += view[position : position + 14 - before]
            found = unpack_header(head, 0, len(head))
            if found is None:
                return -1
            frame, end = found
            position += end - before
            self._head = bytearray()
        else:
            found = unpack_header(view, position, size)
            if found is None:
                self._head = bytearray(view[position:])
                return -1
            frame, position = found
        self._begin(frame)
        return position

    def _begin(self, frame: FrameHeader) -> None:
        if (frame.key is None) is (self.role is Role.SERVER):
            must = "must mask its frames" if self.role is Role.SERVER else "must not mask its frames"
            raise FramingError(f"the {'client' if self.role is Role.SERVER else 'server'} {must}")
        if frame.opcode >= Opcode.CLOSE:
            self._control.clear()
        else:
            self._begin_data(frame)
        if self._tracer is not None:
            self._tracer("in", (Opcode(frame.opcode).name, frame.length, frame.fin))
        self._frame = frame
        self._left = frame.length
        self._unmasked = 0
        self._started = False

    def _begin_data(self, frame: FrameHeader) -> None:
        if frame.opcode == Opcode.CONTINUATION:
            if not self._message:
                raise FramingError("a continuation frame, and no message is under way")
        else:
            if self._message:
                raise FramingError("a new message begins within a fragmented one")
            self._message_size = 0
            self._message = frame.opcode
            self._utf8 = codecs.getincrementaldecoder("utf-8")() if frame.opcode == Opcode.TEXT else None
        if frame.length > self._limits.ws_frame:
            raise LimitExceeded(f"a frame of {frame.length} bytes; the limit is {self._limits.ws_frame}")
        if self._message_size + frame.length > self._limits.ws_message:
            raise LimitExceeded(f"a message of more than {self._limits.ws_message} bytes")

    def _on_payload(self, frame: FrameHeader, chunk: memoryview, end: bool) -> None:
        first_of_message = frame.opcode != Opcode.CONTINUATION and not self._started
        last = end and frame.fin
        opcode = self._message
        if self._utf8 is not None:
            try:
                self._utf8.decode(chunk, last)
            except UnicodeDecodeError as error:
                raise EncodingError(f"a text message is not UTF-8 ({error.reason})") from None
        self._message_size += len(chunk)
        if last:
            self._message = 0
            self._utf8 = None
        if chunk or end:
            self._events.append(MessageChunk(opcode, chunk, first_of_message, last, not self._started))
            self._started = True

    def _on_control(self, opcode: int) -> None:
        payload = bytes(self._control)
        if opcode == Opcode.PING:
            if not self._close_sent:
                self._chore(Opcode.PONG, payload)
            self._events.append(PingReceived(payload))
        elif opcode == Opcode.PONG:
            self._on_pong(payload)
        else:
            self._on_close(payload)

    def _on_pong(self, payload: bytes) -> None:
        if self._ping is not None and payload == self._ping[0]:
            self._events.append(PongReceived(payload, self._now - self._ping[1]))
            self._ping = None
        else:
            self._events.append(PongReceived(payload, None))

    def _on_close(self, payload: bytes) -> None:
        code, reason = int(CloseCode.NO_STATUS), ""
        if len(payload) == 1:
            raise FramingError("a Close frame with one byte; a code has two")
        if payload:
            code = int.from_bytes(payload[:2], "big")
            if not valid_close_code(code):
                raise FramingError(f"a Close frame with code {code}, which may not be sent")
            try:
                reason = payload[2:].decode("utf-8")
            except UnicodeDecodeError:
                raise EncodingError("the reason in a Close frame is not UTF-8") from None
        self._events.append(CloseReceived(code, reason))
        if not self._close_sent:
            self._close_sent = True
            self._queue_control(Opcode.CLOSE, payload[:2])
        self._end(None)

    def _fail(self, error: RemoteProtocolError) -> None:
        """Ends the connection for the peer's fault and tells it."""
        if not self._close_sent:
            self._close_sent = True
            self._queue_control(Opcode.CLOSE, error.close_code.to_bytes(2, "big"))
        self._end(error)

    def _end(self, error: ProtocolError | None) -> None:
        self._terminated = True
        self._events.append(ConnectionTerminated(error))

    # -- sending -----------------------------------------------------------------------------------------------------

    def send_message(self, prefix: bytes, data: Buffer = b"", *, opcode: Opcode = Opcode.BINARY) -> None:
        """Queues one message in one frame: ``prefix`` (a channel byte, say) and ``data`` behind it, which is not copied
        in the server's role and must not change until it has left.

        Never fragmented: Go's server takes each frame for a message. Raises ``OutputLimitExceeded`` and
        ``EngineTerminated`` before anything changes.
        """
        self._require_open()
        view = memoryview(data).cast("B")
        size = len(prefix) + len(view)
        self.require_room(size)
        if self._tracer is not None:
            self._tracer("out", (opcode.name, size, True))
        self._queue_frame(opcode, prefix, view)

    def require_room(self, size: int) -> None:
        """Raises ``OutputLimitExceeded`` if ``size`` more bytes would pass the limit: asked before several messages
        that belong together."""
        if self._queued + size > self._limits.queued_bytes:
            raise OutputLimitExceeded(
                f"{self._queued} bytes are queued and {size} more would pass the limit of "
                f"{self._limits.queued_bytes}: send what is queued first"
            )

    def ping(self, payload: bytes | None = None, *, now: float = 0.0) -> None:
        """Queues a ping; its payload is a counter unless given."""
        self._require_open()
        if payload is None:
            self._pings += 1
            payload = self._pings.to_bytes(8, "big")
        self._check_control(payload)
        self._ping = (payload, now)
        self._queue_control(Opcode.PING, payload)

    def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Queues our Close frame, once; the peer answers with its own. Raises ``LocalProtocolError`` for a code that
        may not be sent or a reason of more than 123 bytes."""
        if self._terminated or self._close_sent:
            return
        if not valid_close_code(code):
            raise LocalProtocolError(f"close code {code} may not be sent")
        payload = code.to_bytes(2, "big") + reason.encode("utf-8")
        self._check_control(payload)
        self._close_sent = True
        self._queue_control(Opcode.CLOSE, payload)

    def data_to_send(self) -> list[Buffer]:
        """All segments that may leave now, in order and unjoined; the caller owns them."""
        out, self._out = self._out, []
        self._queued = 0
        self._chores = 0
        return out

    def _require_open(self) -> None:
        if self._terminated or self._close_sent:
            raise EngineTerminated("the connection is over, or is being closed")

    def _check_control(self, payload: bytes) -> None:
        if len(payload) > MAX_CONTROL:
            raise LocalProtocolError(f"a control frame holds {MAX_CONTROL} bytes at most; got {len(payload)}")

    def _chore(self, opcode: Opcode, payload: bytes) -> None:
        """Queues an answer that the peer caused; too many that it does not let us send end the connection."""
        self._chores += 1
        if self._chores > self._limits.queued_chores:
            raise LimitExceeded(f"the peer sent more than {self._limits.queued_chores} pings without reading the pongs")
        self._queue_control(opcode, payload)

    def _queue_control(self, opcode: Opcode, payload: bytes) -> None:
        if self._tracer is not None:
            self._tracer("out", (opcode.name, len(payload), True))
        self._queue_frame(opcode, payload, _EMPTY)

    def _queue_frame(self, opcode: int, prefix: bytes, view: memoryview) -> None:
        size = len(prefix) + len(view)
        if self._mask_source is None:
            head = pack_header(opcode, size) + prefix
            body: Buffer = view
        else:
            key = self._mask_source()
            head = pack_header(opcode, size, key=key) + bytes(apply_mask(prefix, key))
            body = apply_mask(view, key, len(prefix)) if view else view
        self._out.append(head)
        if view:
            self._out.append(body)
        self._queued += len(head) + len(view)

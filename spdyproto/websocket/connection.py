"""A WebSocket connection without I/O: bytes and time in, events and segments out, for either role.

Theory of operation. The shape is that of the SPDY engine. The parser is in one of two places, within a frame header or
within a payload; payload of data frames is handed on as it arrives (unmasked on the way, in the server's role), so a
peer that announces 2^63 bytes makes us hold nothing. Only control payloads, 125 bytes at most, are collected. Text is
checked as UTF-8 while it passes (RFC 6455 section 8.1), so that a fault is found in the piece that has it. Messages
that lie whole in one read, which is what Go's server sends and a busy connection reads, take a shorter way through
``_feed``: it must give the same events as the long one.

A violation queues a Close frame with the code that names it and ends the event list with ``ConnectionTerminated``,
after all good events of the same buffer. The peer's Close is answered at once and ends the connection as well: what
follows it does not exist. After our own Close, what the peer still sends is delivered until its Close comes. Pings are
answered by themselves; a flood that outruns what the peer lets us send ends the connection.

Keepalive. Go's server reads nothing while its application leaves a message unread, so it answers no ping that stands
behind one, and all of it may lie in buffers, so that our output is not even blocked. Silence after much data is no sign
of death therefore: a command may leave its stdin unread for as long as it likes.
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
from spdyproto.keepalive import UNREAD, KeepaliveTimer, Verdict
from spdyproto.limits import Keepalive, Limits
from spdyproto.nuisance import Nuisances
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
from spdyproto.websocket.frames import MAX_HEADER, FrameHeader, pack_header, unpack_header
from spdyproto.websocket.masking import apply_mask

_EMPTY = memoryview(b"")
_CONTROL = int(Opcode.CLOSE)
_BINARY = int(Opcode.BINARY)
_WHOLE_BINARY = 0x80 | _BINARY  # the first byte of a message in one frame

_BYTES = tuple(bytes((value,)) for value in range(256))


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
        self._fast_limit = 0
        """Largest payload for the short way; 0 where frames come masked, or are traced."""
        if role is Role.CLIENT and tracer is None:
            self._fast_limit = min(self._limits.ws_frame, self._limits.ws_message)
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
        self._frame_start = False
        self._control = bytearray()
        self._message = 0
        """Opcode of the message that is under way, 0 for none."""
        self._message_start = False
        self._message_size = 0
        self._utf8: codecs.IncrementalDecoder | None = None
        self._terminated = False
        self._eof = False
        self._close_sent = False
        self._awaits_close = False
        self._now = 0.0
        self._ping: tuple[bytes, float, int] | None = None
        """The last ping that is not answered: payload, time, and how much data was queued before it."""
        self._pings = 0
        self._nuisances: Nuisances | None = None
        self._sent = 0
        self._answered = 0
        """How much data was queued before the last ping that was answered."""

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

        ``output_blocked``: the transport takes nothing from us, so a missing pong proves nothing. Neither does it when
        much data went before the ping. After our Close frame no ping is sent; the same deadline then holds for the
        peer's Close.
        """
        self._now = now
        if self._terminated:
            return self._take_events()
        stalled = not self._close_sent and self._sent - self._answered >= UNREAD
        waiting = self._awaits_close or self._ping is not None
        verdict = self._clock.check(now, waiting=waiting, silence_proves_nothing=output_blocked or stalled)
        if verdict is Verdict.PING:
            if self._close_sent:
                self._awaits_close = True
            else:
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
        if self._frame is not None:
            position = self._payload(self._frame, view, 0, size)
        limit, events = self._fast_limit, self._events
        while position < size and not self._terminated:
            if limit and view[position] == _WHOLE_BINARY and size - position >= 4 and not self._message:
                length = view[position + 1]
                start = position + 2
                if length == 126:
                    length = view[start] << 8 | view[start + 1]
                    start += 2
                    shortest = length > 125
                else:
                    shortest = length < 126
                end = start + length
                if shortest and length <= limit and end <= size and not self._head:
                    events.append(MessageChunk(_BINARY, view[start:end], True, True))
                    position = end
                    continue
            position = self._header(view, position, size)
            if self._frame is not None:
                position = self._payload(self._frame, view, position, size)

    def _header(self, view: memoryview, position: int, size: int) -> int:
        """Reads a frame header, part of which may have come earlier, and returns where the payload begins."""
        head = self._head
        if head:
            before = len(head)
            head += view[position : position + MAX_HEADER - before]
            found = unpack_header(head, 0, len(head))
            if found is None:
                return size
            frame, end = found
            position += end - before
            head.clear()
        else:
            found = unpack_header(view, position, size)
            if found is None:
                head += view[position:]
                return size
            frame, position = found
        self._begin(frame)
        return position

    def _begin(self, frame: FrameHeader) -> None:
        if (frame.key is None) is (self.role is Role.SERVER):
            must = "must mask its frames" if self.role is Role.SERVER else "must not mask its frames"
            raise FramingError(f"the {'client' if self.role is Role.SERVER else 'server'} {must}")
        if frame.opcode >= _CONTROL:
            self._control.clear()
        else:
            self._begin_data(frame)
        if self._tracer is not None:
            self._tracer("in", (Opcode(frame.opcode).name, frame.length, frame.fin))
        if not frame.length or frame.opcode >= _CONTROL:
            self._nuisance()
        self._frame = frame
        self._left = frame.length
        self._unmasked = 0
        self._frame_start = True

    def _nuisance(self) -> None:
        """The peer sent one more frame that moves nothing. Raises LimitExceeded for a flood."""
        if self._nuisances is None:
            self._nuisances = Nuisances(self._limits.nuisances, self._now)
        self._nuisances.add(self._now)

    def _begin_data(self, frame: FrameHeader) -> None:
        if not frame.opcode:
            if not self._message:
                raise FramingError("a continuation frame, and no message is under way")
        else:
            if self._message:
                raise FramingError("a new message begins within a fragmented one")
            self._message = frame.opcode
            self._message_start = True
            self._message_size = 0
            self._utf8 = codecs.getincrementaldecoder("utf-8")() if frame.opcode == Opcode.TEXT else None
        if frame.length > self._limits.ws_frame:
            raise LimitExceeded(f"a frame of {frame.length} bytes; the limit is {self._limits.ws_frame}")
        self._message_size += frame.length
        if self._message_size > self._limits.ws_message:
            raise LimitExceeded(f"a message of more than {self._limits.ws_message} bytes")

    def _payload(self, frame: FrameHeader, view: memoryview, position: int, size: int) -> int:
        """Takes what is there of a frame's payload, and returns where it ends."""
        stop = min(position + self._left, size)
        chunk = view[position:stop]
        self._left -= stop - position
        ended = not self._left
        if not chunk and not ended:
            return stop
        if frame.key is not None:
            chunk = memoryview(apply_mask(chunk, frame.key, self._unmasked))
            self._unmasked += len(chunk)
        if ended:
            self._frame = None
        if frame.opcode >= _CONTROL:
            self._control += chunk
            if ended:
                self._on_control(frame.opcode)
        else:
            self._on_data(chunk, ended and frame.fin)
        return stop

    def _on_data(self, chunk: memoryview, last: bool) -> None:
        fault = None if self._utf8 is None else self._text_fault(self._utf8, chunk, last)
        if fault is not None:
            chunk, last = chunk[: fault.start], False
        if fault is None or chunk:
            event = MessageChunk(self._message, chunk, self._message_start, last, self._frame_start)
            self._events.append(event)
            self._message_start = self._frame_start = False
        if fault is not None:
            raise EncodingError(f"a text message is not UTF-8 ({fault.reason})")
        if last:
            self._message = 0
            self._utf8 = None

    def _text_fault(
        self, decoder: codecs.IncrementalDecoder, chunk: memoryview, last: bool
    ) -> UnicodeDecodeError | None:
        """What is wrong with the next piece of a text, ``start`` counted within the piece."""
        before = len(decoder.getstate()[0])
        try:
            decoder.decode(chunk, last)
        except UnicodeDecodeError as error:
            error.start = max(0, error.start - before)
            return error
        return None

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
            self._answered = self._ping[2]
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
        if self._close_sent:
            self._end(None)
            return
        self._close_sent = True
        self._queue_control(Opcode.CLOSE, payload[:2])
        self._end(PeerClosed("the peer closed the connection within a message") if self._message else None)

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
        if opcode not in (Opcode.TEXT, Opcode.BINARY):
            raise LocalProtocolError(f"a message is TEXT or BINARY, not {opcode!r}")
        view = memoryview(data).cast("B")
        size = len(prefix) + len(view)
        self.require_room(size)
        if self._tracer is not None:
            self._tracer("out", (opcode.name, size, True))
        self._sent += size
        self._queue_frame(opcode, prefix, view)

    def require_room(self, size: int) -> None:
        """Raises ``OutputLimitExceeded`` when ``size`` more bytes of messages would cross ``Limits.queued_bytes``, and
        ``EngineTerminated`` when no message can follow. Changes nothing."""
        self._require_open()
        limit = self._limits.queued_bytes
        if self._queued + size > limit:
            what = "send what is queued first" if size <= limit else "send it in pieces"
            raise OutputLimitExceeded(
                f"{self._queued} bytes are queued and {size} more would pass the limit of {limit}: {what}"
            )

    def ping(self, payload: bytes | None = None, *, now: float | None = None) -> None:
        """Queues a ping; its payload is a counter unless given. Only the last one's pong gives a round trip.

        ``now`` is the time that the engine was last told, unless given. Raises ``LocalProtocolError`` for a payload of
        more than 125 bytes, ``EngineTerminated`` after a Close.
        """
        self._require_open()
        if payload is None:
            self._pings += 1
            payload = self._pings.to_bytes(8, "big")
        self._check_control(payload)
        self._ping = (bytes(payload), self._now if now is None else now, self._sent)
        self._queue_control(Opcode.PING, payload)

    def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Queues our Close frame, once; the peer answers with its own. Raises ``LocalProtocolError`` for a code that
        may not be sent or a reason of more than 123 bytes."""
        if self._terminated or self._close_sent:
            return
        if not valid_close_code(code):
            raise LocalProtocolError(f"close code {code} may not be sent")
        try:
            payload = code.to_bytes(2, "big") + reason.encode("utf-8")
        except UnicodeEncodeError:
            raise LocalProtocolError("a reason with half a surrogate pair is not text") from None
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
            fault = LimitExceeded(
                f"the peer sent more than {self._limits.queued_chores} pings without reading the pongs"
            )
            fault.close_code = CloseCode.POLICY_VIOLATION
            raise fault
        self._queue_control(opcode, payload)

    def _queue_control(self, opcode: Opcode, payload: bytes) -> None:
        if self._tracer is not None:
            self._tracer("out", (opcode.name, len(payload), True))
        self._queue_frame(opcode, payload, _EMPTY)

    def _queue_frame(self, opcode: int, prefix: bytes, view: memoryview) -> None:
        lead = len(prefix)
        size = lead + len(view)
        body: Buffer = view
        if self._mask_source is None:
            head = pack_header(opcode, size) + prefix
        else:
            key = self._mask_source()
            head = pack_header(opcode, size, key=key)
            if lead == 1:  # a channel byte
                head += _BYTES[prefix[0] ^ key[0]]
            elif lead:
                head += apply_mask(prefix, key)
            if view:
                body = apply_mask(view, key, lead)
        self._out.append(head)
        if view:
            self._out.append(body)
        self._queued += len(head) + len(view)

"""A SPDY/3.1 connection without I/O: bytes and time in, events and segments out, for either role.

Theory of operation. ``receive_data`` cuts the buffer into frames (``parser``), asks the one table of ``states``
whether the peer may do what it did, and appends events; it never raises for the peer's faults. A violation of the
connection ends the list with ``ConnectionTerminated`` after all good events of the same buffer; a GOAWAY that tells
the peer is then queued. A violation on one stream resets that stream (strict) or is dropped, as ``moby/spdystream:
connection.go`` does (kubernetes).

``send_*`` methods check first and change after: a ``LocalProtocolError`` leaves everything as it was. What they queue
leaves by ``data_to_send`` in order; header blocks are compressed when they are queued, since the peers share one zlib
stream. A payload is kept as a view of the caller's buffer until it is handed out.

Flow control is a policy (``flow``), keepalive a timer: time enters as ``now`` and leaves as ``next_deadline``.
"""

from __future__ import annotations

from collections.abc import Callable

from spdyproto.errors import (
    EngineTerminated,
    FlowControlError,
    FramingError,
    PeerClosed,
    PeerTimeout,
    RemoteProtocolError,
)
from spdyproto.keepalive import Verdict
from spdyproto.spdy import frames
from spdyproto.spdy._pings import MOST
from spdyproto.spdy._sending import SendingHalf
from spdyproto.spdy.constants import (
    FLAG_FIN,
    FLAG_UNIDIRECTIONAL,
    FrameType,
    RstStatus,
    SettingId,
)
from spdyproto.spdy.events import (
    DataAfterReset,
    DataReceived,
    Event,
    GoAwayReceived,
    HeadersReceived,
    PingAcknowledged,
    PingReceived,
    SettingsReceived,
    StreamAccepted,
    StreamOpened,
    StreamReset,
    WindowUpdated,
)
from spdyproto.spdy.states import TRANSITIONS, Act, Half, initial_halves
from spdyproto.spdy.streams import ClosedBy, Stream
from spdyproto.types import Buffer

# Members as constants: looking one up on its class costs more than all the rest of a comparison (Python 3.11).
_OPEN = Half.OPEN
_AWAITING_REPLY = Half.AWAITING_REPLY


class SpdyConnection(SendingHalf):
    """One connection, either role. Not thread-safe: the driver serialises the calls."""

    # -- time --------------------------------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Starts the keepalive's clock. Without keepalive it does nothing."""
        self._now = now
        self._clock.start(now)

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` wants to be called next, in the clock of ``now``; None for never."""
        return None if self._terminated else self._clock.deadline

    def handle_timeout(self, now: float, *, output_blocked: bool = False) -> list[Event]:
        """Sends a PING that is due, or ends the connection when the peer did not answer one in time.

        ``output_blocked`` says that the transport takes nothing from us: a missing pong then proves nothing (the peer
        may be waiting for an application that reads nothing), so the deadline starts anew. The same holds when data on
        its way explains the silence; then more than one PING is sent, because only some of them get stuck.
        """
        self._now = now
        if not self._terminated:
            pings, data = self._pings, self._data_sent
            verdict = self._clock.check(
                now,
                waiting=len(pings) > 0,
                silence_proves_nothing=output_blocked or pings.peer_may_be_stalled(data),
                again=data > 0 and not output_blocked and len(pings) < MOST,
            )
            if verdict is Verdict.PING:
                self.ping(now)
            elif verdict is Verdict.DEAD:
                self._fail(PeerTimeout(self._clock.obituary(now)))
        return self._take_events()

    # -- receiving ---------------------------------------------------------------------------------------------------

    def receive_data(self, data: Buffer, now: float) -> list[Event]:
        """Bytes from the transport. Never raises for what the peer did; raises ``EngineTerminated`` after
        ``receive_eof``.

        ``DataReceived.data`` are views of ``data``: they live until the caller reuses that buffer. After the connection
        was terminated, bytes are ignored.
        """
        if self._eof:
            raise EngineTerminated("data after the end of the transport")
        if self._terminated:
            return []
        self._now = self._clock.heard = now
        try:
            self._parser.feed(data, self)
        except RemoteProtocolError as error:
            self._fail(error)
        return self._take_events()

    def receive_eof(self, now: float, *, clean: bool = True) -> list[Event]:
        """The transport ended. ``clean``: by FIN or close_notify, not by a cut. Streams still open make it an error."""
        self._now = now
        self._eof = True
        if self._terminated:
            return []
        if self._parser.in_frame:
            self._end(PeerClosed("the connection ended within a frame"))
        elif not clean:
            self._end(PeerClosed("the connection was cut: the transport ended without its own end mark"))
        elif self._live:
            how = "after GOAWAY" if self._goaway_received else "without GOAWAY"
            self._end(PeerClosed(f"the connection ended {how} with {len(self._live)} open streams"))
        else:
            self._end(None)
        return self._take_events()

    # -- frames of the peer (called by the parser) -------------------------------------------------------------------

    def on_data(self, stream_id: int, chunk: memoryview, fin: bool, end: bool) -> bool | None:
        """For the parser: a piece of a data frame."""
        stream = self._live.get(stream_id)
        if stream is None or stream.theirs is not _OPEN or (stream.ours is _AWAITING_REPLY and not self._strict):
            return self._on_stray_data(stream_id, stream, chunk, end)
        if self._metered:
            room = self._flow.receivable(stream_id)
            if 0 < room < len(chunk):
                # What still fits is delivered, so that it makes no difference in what pieces the data came.
                self.on_data(stream_id, chunk[:room], False, False)
                chunk = chunk[room:]
            try:
                self._flow.received(stream_id, len(chunk))
            except FlowControlError as error:
                if error.stream_id is not None:
                    self._credit_back(len(chunk))  # the stream ends here, but the session's window must not shrink
                return self._on_flow_error(error)
        if not chunk and not fin:
            if end:
                self._nuisance()
            return None
        stream.received += len(chunk)
        self._events.append(DataReceived(stream_id, chunk, fin))
        if self._tracer is not None:
            self._tracer("in", ("DATA", stream_id, len(chunk), fin))
        if fin:
            stream.theirs = Half.ENDED
            self._forget_if_over(stream)
        return None

    def on_more_data(self, stream_id: int, chunk: memoryview, fin: bool, end: bool) -> bool | None:
        """For the parser: a later piece of a data frame. A frame is taken whole or dropped whole, also when the stream
        was accepted in between: half a frame would be silent corruption."""
        if self._dropping:
            return self._on_stray_data(stream_id, self._live.get(stream_id), chunk, end)
        return self.on_data(stream_id, chunk, fin, end)

    def _on_stray_data(self, stream_id: int, stream: Stream | None, chunk: memoryview, end: bool) -> bool | None:
        """Data on a stream whose sender may not send it: dropped as spdystream drops it, or answered as the text says.

        One case is an error in both policies: data for a stream of ours that the peer has not replied to. To drop it
        would lose bytes in silence.
        """
        self._dropping = not end
        if self._metered:
            try:
                self._flow.received(0, len(chunk))
            except FlowControlError as error:
                return self._on_flow_error(error)
            self._credit_back(len(chunk))
        if stream is not None and stream.theirs is Half.AWAITING_REPLY:
            self._reset(stream, RstStatus.PROTOCOL_ERROR)
        elif not self._strict:
            if chunk and self._table.closed.get(stream_id) is ClosedBy.THEIR_RESET:
                self._events.append(DataAfterReset(stream_id, chunk))
        elif end:
            if stream is not None:
                verdict = TRANSITIONS[stream.theirs, Act.DATA]
                assert isinstance(verdict, RstStatus)
                self._reset(stream, verdict)
            elif not self._table.was_reset(stream_id):
                known = stream_id in self._table.closed
                status = RstStatus.STREAM_ALREADY_CLOSED if known else RstStatus.INVALID_STREAM
                self._chore(frames.pack_rst_stream(stream_id, status))
        return self._terminated

    def on_control(self, kind: int, flags: int, payload: memoryview) -> bool | None:
        """For the parser: a whole control frame."""
        handler = _HANDLERS.get(kind)
        if handler is None:
            if not self._strict:
                raise FramingError(f"control frame of unknown type {kind}")
            self._nuisance()
            return None
        handler(self, flags, payload)
        return self._terminated

    def _on_syn_stream(self, flags: int, payload: memoryview) -> None:
        stream_id, associated, priority, block = frames.unpack_syn_stream(payload, flags)
        headers = self._codec.decode(block, reply=False)
        fin, uni = bool(flags & FLAG_FIN), bool(flags & FLAG_UNIDIRECTIONAL)
        self._trace("in", "SYN_STREAM", stream_id, headers, flags)
        if self._goaway_sent:
            return
        if self._strict and stream_id % 2 == self._next_id % 2:
            self._fail(FramingError(f"SYN_STREAM with id {stream_id}, which only this end may choose"))
            return
        if stream_id <= self._table.highest_received or stream_id in self._live:
            self._on_repeated_id(stream_id)
            return
        self._table.highest_received = stream_id
        if len(self._live) >= self._limits.streams:
            self._nuisance()
            self._table.remember(stream_id, ClosedBy.OUR_RESET)
            self._chore(frames.pack_rst_stream(stream_id, RstStatus.REFUSED_STREAM))
            return
        theirs, ours = initial_halves(fin=fin, unidirectional=uni)
        self._add(Stream(stream_id, ours, theirs, False, priority, unidirectional=uni))
        self._events.append(StreamOpened(stream_id, headers, fin, uni, priority, associated))
        self._forget_if_over(self._live[stream_id])

    def _on_repeated_id(self, stream_id: int) -> None:
        self._nuisance()
        if self._strict and stream_id not in self._live:
            highest = self._table.highest_received
            self._fail(FramingError(f"SYN_STREAM with id {stream_id} after {highest}: ids must grow"))
        elif self._strict:
            self._reset(self._live[stream_id], RstStatus.PROTOCOL_ERROR)
        else:
            self._chore(frames.pack_rst_stream(stream_id, RstStatus.PROTOCOL_ERROR))

    def _on_syn_reply(self, flags: int, payload: memoryview) -> None:
        stream_id, block = frames.unpack_reply_or_headers("SYN_REPLY", payload, flags)
        headers = self._codec.decode(block, reply=True)
        self._trace("in", "SYN_REPLY", stream_id, headers, flags)
        stream = self._peer_acts(stream_id, Act.REPLY)
        if stream is not None:
            fin = bool(flags & FLAG_FIN)
            self._events.append(StreamAccepted(stream_id, headers, fin))
            self._peer_fin(stream, fin)

    def _on_headers(self, flags: int, payload: memoryview) -> None:
        stream_id, block = frames.unpack_reply_or_headers("HEADERS", payload, flags)
        headers = self._codec.decode(block, reply=True)
        self._trace("in", "HEADERS", stream_id, headers, flags)
        stream = self._peer_acts(stream_id, Act.HEADERS)
        if stream is not None:
            fin = bool(flags & FLAG_FIN)
            self._events.append(HeadersReceived(stream_id, headers, fin))
            self._peer_fin(stream, fin)

    def _peer_acts(self, stream_id: int, act: Act) -> Stream | None:
        """The stream, moved on, if the peer may do this on it; else the peer is answered by the policy and None
        returned."""
        stream = self._live.get(stream_id)
        if stream is None:
            self._nuisance()
            if self._strict and not self._table.was_reset(stream_id):
                self._chore(frames.pack_rst_stream(stream_id, RstStatus.INVALID_STREAM))
            return None
        after = TRANSITIONS[stream.theirs, act]
        if isinstance(after, Half):
            stream.theirs = after
            return stream
        if self._strict:
            self._reset(stream, after)
        return None

    def _peer_fin(self, stream: Stream, fin: bool) -> None:
        if fin:
            stream.theirs = Half.ENDED
            self._forget_if_over(stream)

    def _on_rst_stream(self, flags: int, payload: memoryview) -> None:
        stream_id, status = frames.unpack_rst_stream(payload, flags)
        self._trace("in", "RST_STREAM", stream_id, status)
        stream = self._live.get(stream_id)
        if stream is None or not (stream.received or stream.sent):
            self._nuisance()
        if stream is not None:
            self._drop(stream, ClosedBy.THEIR_RESET)
        elif status != RstStatus.REFUSED_STREAM or not self._over_unanswered(stream_id):
            return
        else:
            self._table.remember(stream_id, ClosedBy.THEIR_RESET)
        self._events.append(StreamReset(stream_id, status, True))

    def _over_unanswered(self, stream_id: int) -> bool:
        """Whether this stream of ours ended with our own FIN, the only one that it has: it was unidirectional.

        It may have been over before the peer saw it, so that a refusal comes late; and it is the only word of the peer
        about a stream whose bytes it threw away.
        """
        return self._table.closed.get(stream_id) is ClosedBy.OUR_END

    def _on_settings(self, flags: int, payload: memoryview) -> None:
        entries, clear = frames.unpack_settings(payload, flags, self._limits.settings_entries)
        self._trace("in", "SETTINGS", entries, clear)
        self._nuisance()
        if self._metered:
            seen: set[int] = set()
            for key, value, _flag in entries:
                # Only the first entry of an id counts (draft 3.1 section 2.6.4).
                if key == SettingId.INITIAL_WINDOW_SIZE and key not in seen:
                    self._flow.initial_window(value)
                seen.add(key)
        self._events.append(SettingsReceived(entries, clear))
        self._release(self._live.values())

    def _on_ping(self, flags: int, payload: memoryview) -> None:
        ping_id = frames.unpack_ping(payload, flags)
        self._trace("in", "PING", ping_id)
        if ping_id % 2 != self._next_ping % 2:
            self._nuisance()
            self._events.append(PingReceived(ping_id))
            self._chore(frames.pack_ping(ping_id))
            return
        sent = self._pings.answered(ping_id)
        if sent is not None:
            self._events.append(PingAcknowledged(ping_id, self._now - sent))

    def _on_goaway(self, flags: int, payload: memoryview) -> None:
        last_good, status = frames.unpack_goaway(payload, flags)
        self._trace("in", "GOAWAY", last_good, status)
        self._goaway_received = True
        self._events.append(GoAwayReceived(last_good, status))
        if not self._strict:
            # spdystream stops reading here: whatever follows does not exist for it, so it must not exist for us.
            self._end(None)
            return
        for stream in [s for s in self._live.values() if s.opened_by_us and s.stream_id > last_good]:
            self._drop(stream, ClosedBy.THEIR_RESET)
            self._events.append(StreamReset(stream.stream_id, RstStatus.REFUSED_STREAM, True))
        for stream_id in [i for i in self._table.closed if i > last_good and self._over_unanswered(i)]:
            self._table.remember(stream_id, ClosedBy.THEIR_RESET)
            self._events.append(StreamReset(stream_id, RstStatus.REFUSED_STREAM, True))

    def _on_window_update(self, flags: int, payload: memoryview) -> None:
        stream_id, delta = frames.unpack_window_update(payload, flags)
        self._trace("in", "WINDOW_UPDATE", stream_id, delta)
        if not self._metered:
            self._nuisance()
            return
        try:
            if delta == 0:
                raise FlowControlError("WINDOW_UPDATE of 0", stream_id=stream_id or None)
            self._flow.credit(stream_id, delta)
        except FlowControlError as error:
            self._on_flow_error(error)
            return
        self._events.append(WindowUpdated(stream_id, delta))
        if stream_id == 0:
            self._release(self._live.values())
        elif stream_id in self._live:
            self._release([self._live[stream_id]])

    def _on_flow_error(self, error: FlowControlError) -> bool:
        stream = self._live.get(error.stream_id) if error.stream_id is not None else None
        if error.stream_id is None:
            self._fail(error)
        elif stream is not None:
            self._reset(stream, RstStatus.FLOW_CONTROL_ERROR)
        return self._terminated


_HANDLERS: dict[int, Callable[[SpdyConnection, int, memoryview], None]] = {
    FrameType.SYN_STREAM: SpdyConnection._on_syn_stream,
    FrameType.SYN_REPLY: SpdyConnection._on_syn_reply,
    FrameType.RST_STREAM: SpdyConnection._on_rst_stream,
    FrameType.SETTINGS: SpdyConnection._on_settings,
    FrameType.PING: SpdyConnection._on_ping,
    FrameType.GOAWAY: SpdyConnection._on_goaway,
    FrameType.HEADERS: SpdyConnection._on_headers,
    FrameType.WINDOW_UPDATE: SpdyConnection._on_window_update,
}
"""One table for all connections: a table of bound methods would cost each of them a kilobyte."""

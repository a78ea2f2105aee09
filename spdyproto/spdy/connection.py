"""A SPDY/3.1 connection without I/O: bytes and time in, events and segments out, for either role.

Theory of operation. ``receive_data`` cuts the buffer into frames (``parser``), asks the one table of ``states`` whether the
peer may do what it did, and appends events; it never raises for the peer's faults. A violation of the connection ends the
list with ``ConnectionTerminated`` after all good events of the same buffer; a GOAWAY that tells the peer is then queued.
A violation on one stream resets that stream (strict) or is dropped, as ``moby/spdystream: connection.go`` does (kubernetes).

``send_*`` methods check first and change after: a ``LocalProtocolError`` leaves everything as it was. What they queue leaves
by ``data_to_send`` in order; header blocks are compressed when they are queued, since the peers share one zlib stream. A
payload is kept as a view of the caller's buffer until it is handed out.

Flow control is a policy (``flow``), keepalive a timer: time enters as ``now`` and leaves as ``next_deadline``.
"""

from __future__ import annotations

from collections import deque
from typing import NoReturn

from spdyproto.errors import (
    EngineTerminated,
    FlowControlError,
    FramingError,
    LimitExceeded,
    LocalProtocolError,
    OutputLimitExceeded,
    PeerClosed,
    PeerTimeout,
    ProtocolError,
    RemoteProtocolError,
    StreamClosedError,
    StreamIdsExhausted,
)
from spdyproto.limits import Keepalive, Limits
from spdyproto.spdy import frames
from spdyproto.spdy.constants import (
    FLAG_FIN,
    FLAG_UNIDIRECTIONAL,
    MAX_PING_ID,
    MAX_STREAM_ID,
    FrameType,
    GoAwayStatus,
    RstStatus,
    SettingId,
)
from spdyproto.spdy.events import (
    ConnectionTerminated,
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
from spdyproto.spdy.flow import FlowPolicy, Unmetered
from spdyproto.spdy.headers import HeaderCodec
from spdyproto.spdy.parser import FrameParser
from spdyproto.spdy.states import TRANSITIONS, Act, Half, initial_halves
from spdyproto.spdy.streams import ClosedBy, Stream, StreamTable, StreamView
from spdyproto.types import Buffer, HeaderList, Policy, Role, Tracer

_SMALL = 1024
"""Below this a payload is copied behind its header: one segment is cheaper than two."""


class SpdyConnection:
    """One connection, either role. Not thread-safe: the driver serialises the calls."""

    def __init__(
        self,
        role: Role,
        *,
        policy: Policy = Policy.KUBERNETES,
        limits: Limits | None = None,
        flow: FlowPolicy | None = None,
        keepalive: Keepalive | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self.role = role
        self._strict = policy is Policy.STRICT
        self._limits = limits or Limits()
        self._flow: FlowPolicy = flow or Unmetered()
        self._metered = self._flow.metered
        self._keepalive = keepalive
        self._tracer = tracer
        self._codec = HeaderCodec(self._limits, policy)
        self._parser = FrameParser(self._limits)
        self._table = StreamTable(self._limits.closed_streams)
        self._live = self._table.live
        self._next_id = 1 if role is Role.CLIENT else 2
        self._next_ping = self._next_id
        self._out: list[Buffer] = []
        self._queued = 0
        self._blocked = 0
        self._chores = 0
        self._events: list[Event] = []
        self._terminated = False
        self._eof = False
        self._goaway_sent = False
        self._goaway_received = False
        self._now = 0.0
        self._heard: float | None = None
        self._next_ping_at: float | None = None
        self._pings: dict[int, float] = {}
        self._handlers = {
            FrameType.SYN_STREAM: self._on_syn_stream,
            FrameType.SYN_REPLY: self._on_syn_reply,
            FrameType.RST_STREAM: self._on_rst_stream,
            FrameType.SETTINGS: self._on_settings,
            FrameType.PING: self._on_ping,
            FrameType.GOAWAY: self._on_goaway,
            FrameType.HEADERS: self._on_headers,
            FrameType.WINDOW_UPDATE: self._on_window_update,
        }
        initial, session = self._flow.greeting()
        if initial is not None:
            self.send_settings([(SettingId.INITIAL_WINDOW_SIZE, initial, 0)])
        if session:
            self._queue(frames.pack_window_update(0, session))

    # -- what the connection is like ---------------------------------------------------------------------------------

    @property
    def terminated(self) -> bool:
        """True once ``ConnectionTerminated`` was reported: nothing can be sent or received any more."""
        return self._terminated

    @property
    def pending_bytes(self) -> int:
        """Bytes accepted and not yet handed out, those that wait for a window included."""
        return self._queued + self._blocked

    @property
    def open_streams(self) -> int:
        """Streams that neither end has finished."""
        return len(self._live)

    @property
    def within_frame(self) -> bool:
        """True when what was received ends within a frame."""
        return self._parser.in_frame

    def stream(self, stream_id: int) -> StreamView | ClosedBy | None:
        """A snapshot of a live stream, how a remembered one ended, or None for one that is unknown."""
        live = self._live.get(stream_id)
        if live is None:
            return self._table.closed.get(stream_id)
        return StreamView(stream_id, live.ours, live.theirs, live.opened_by_us, live.priority, live.received, live.sent)

    # -- time --------------------------------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Starts the keepalive's clock. Without keepalive it does nothing."""
        self._now = now
        if self._keepalive is not None and self._next_ping_at is None:
            self._heard = now
            self._next_ping_at = now + self._keepalive.period

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` wants to be called next, in the clock of ``now``; None for never."""
        return None if self._terminated else self._next_ping_at

    def handle_timeout(self, now: float, *, output_blocked: bool = False) -> list[Event]:
        """Sends a PING that is due, or ends the connection when the peer did not answer one in time.

        ``output_blocked`` says that the transport takes nothing from us: a missing pong then proves nothing (the peer
        may be waiting for an application that reads nothing), so the deadline starts anew.
        """
        self._now = now
        due, policy = self._next_ping_at, self._keepalive
        if self._terminated or due is None or policy is None or now < due:
            return []
        if not self._pings:
            self.ping(now)
            self._heard = now
            self._next_ping_at = now + min(policy.period, policy.deadline)
            return []
        if output_blocked:
            self._heard = now
        silent = now - (self._heard if self._heard is not None else now)
        if silent >= policy.deadline:
            self._fail(
                PeerTimeout(
                    f"no answer to a PING and no other byte for {silent:.1f} s (deadline {policy.deadline:g} s): "
                    "the peer or the network between is gone"
                )
            )
            return self._take_events()
        self._next_ping_at = now + min(policy.period, policy.deadline - silent)
        return []

    # -- receiving ---------------------------------------------------------------------------------------------------

    def receive_data(self, data: Buffer, now: float) -> list[Event]:
        """Bytes from the transport. Never raises for what the peer did; raises ``EngineTerminated`` after ``receive_eof``.

        ``DataReceived.data`` are views of ``data``: they live until the caller reuses that buffer. After the connection
        was terminated, bytes are ignored.
        """
        if self._eof:
            raise EngineTerminated("data after the end of the transport")
        if self._terminated:
            return []
        self._now = self._heard = now
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
            self._end(PeerClosed(f"the connection ended without GOAWAY and with {len(self._live)} open streams"))
        else:
            self._end(None)
        return self._take_events()

    def _take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def _fail(self, error: RemoteProtocolError) -> None:
        """Ends the connection for the peer's fault and tells it."""
        if not self._goaway_sent:
            self._goaway_sent = True
            self._queue(frames.pack_goaway(self._table.highest_received, error.code))
        self._end(error)

    def _end(self, error: ProtocolError | None) -> None:
        self._terminated = True
        for stream in self._live.values():
            stream.blocked = None
        self._blocked = 0
        self._events.append(ConnectionTerminated(error))

    # -- frames of the peer (called by the parser) -------------------------------------------------------------------

    def on_data(self, stream_id: int, chunk: memoryview, fin: bool, end: bool) -> bool | None:
        stream = self._live.get(stream_id)
        if (
            stream is None
            or stream.theirs is not Half.OPEN
            or (stream.ours is Half.AWAITING_REPLY and not self._strict)
        ):
            return self._on_stray_data(stream_id, stream, chunk, end)
        if self._metered:
            try:
                self._flow.received(stream_id, len(chunk))
            except FlowControlError as error:
                return self._on_flow_error(error)
        if not chunk and not fin:
            return None
        stream.received += len(chunk)
        self._events.append(DataReceived(stream_id, chunk, fin))
        if self._tracer is not None:
            self._tracer("in", ("DATA", stream_id, len(chunk), fin))
        if fin:
            stream.theirs = Half.ENDED
            self._forget_if_over(stream)
        return None

    def _on_stray_data(self, stream_id: int, stream: Stream | None, chunk: memoryview, end: bool) -> bool | None:
        """Data on a stream whose sender may not send it: dropped as spdystream drops it, or answered as the text says.

        One case is an error in both policies: data for a stream of ours that the peer has not replied to. To drop it
        would lose bytes in silence.
        """
        if self._metered:
            try:
                self._flow.received(0, len(chunk))
            except FlowControlError as error:
                return self._on_flow_error(error)
            self._credit_back(0, len(chunk))
        if stream is not None and stream.theirs is Half.AWAITING_REPLY:
            self._reset(stream, RstStatus.PROTOCOL_ERROR)
        elif self._strict and end:
            if stream is not None:
                verdict = TRANSITIONS[stream.theirs, Act.DATA]
                assert isinstance(verdict, RstStatus)
                self._reset(stream, verdict)
            elif self._table.closed.get(stream_id) not in (ClosedBy.OUR_RESET, ClosedBy.THEIR_RESET):
                known = stream_id in self._table.closed
                status = RstStatus.STREAM_ALREADY_CLOSED if known else RstStatus.INVALID_STREAM
                self._chore(frames.pack_rst_stream(stream_id, status))
        return self._terminated

    def on_control(self, kind: int, flags: int, payload: memoryview) -> bool | None:
        handler = self._handlers.get(kind)  # type: ignore[call-overload]  # an int that is no FrameType is what we look for
        if handler is None:
            if not self._strict:
                raise FramingError(f"control frame of unknown type {kind}")
            return None
        handler(flags, payload)
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
            self._chore(frames.pack_rst_stream(stream_id, RstStatus.REFUSED_STREAM))
            return
        theirs, ours = initial_halves(fin=fin, unidirectional=uni)
        self._add(Stream(stream_id, ours, theirs, opened_by_us=False, priority=priority))
        self._events.append(StreamOpened(stream_id, headers, fin, uni, priority, associated))
        self._forget_if_over(self._live[stream_id])

    def _on_repeated_id(self, stream_id: int) -> None:
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
        """The stream, moved on, if the peer may do this on it; else the peer is answered by the policy and None returned."""
        stream = self._live.get(stream_id)
        if stream is None:
            if self._strict:
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
        if stream is not None:
            self._drop(stream, ClosedBy.THEIR_RESET)
            self._events.append(StreamReset(stream_id, status, True))

    def _on_settings(self, flags: int, payload: memoryview) -> None:
        entries, clear = frames.unpack_settings(payload, flags, self._limits.settings_entries)
        self._trace("in", "SETTINGS", entries, clear)
        if self._metered:
            seen: set[int] = set()
            for key, value, _flag in entries:
                # Only the first entry of an id counts (draft 3.1 section 2.6.4).
                if key == SettingId.INITIAL_WINDOW_SIZE and key not in seen:
                    self._flow.initial_window(value)
                seen.add(key)
        self._events.append(SettingsReceived(entries, clear))
        self._release_all()

    def _on_ping(self, flags: int, payload: memoryview) -> None:
        ping_id = frames.unpack_ping(payload, flags)
        self._trace("in", "PING", ping_id)
        if ping_id % 2 != self._next_ping % 2:
            self._chore(frames.pack_ping(ping_id))
            self._events.append(PingReceived(ping_id))
            return
        sent = self._pings.pop(ping_id, None)
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

    def _on_window_update(self, flags: int, payload: memoryview) -> None:
        stream_id, delta = frames.unpack_window_update(payload, flags)
        self._trace("in", "WINDOW_UPDATE", stream_id, delta)
        if not self._metered:
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
            self._release_all()
        elif stream_id in self._live:
            self._release(self._live[stream_id])

    def _on_flow_error(self, error: FlowControlError) -> bool:
        stream = self._live.get(error.stream_id) if error.stream_id is not None else None
        if error.stream_id is None:
            self._fail(error)
        elif stream is not None:
            self._reset(stream, RstStatus.FLOW_CONTROL_ERROR)
        return self._terminated

    # -- sending -----------------------------------------------------------------------------------------------------

    def open_stream(
        self,
        headers: HeaderList,
        *,
        fin: bool = False,
        unidirectional: bool = False,
        priority: int = 0,
        associated_to: int = 0,
    ) -> int:
        """Queues SYN_STREAM and returns the stream's id. Priority 0 is the highest of 8."""
        self._require_alive()
        if self._goaway_received or self._goaway_sent:
            raise LocalProtocolError("no stream can be opened after GOAWAY: open a new connection")
        if self._next_id > MAX_STREAM_ID:
            raise StreamIdsExhausted("all stream ids of this connection are used: open a new connection")
        if not 0 <= priority <= 7:
            raise LocalProtocolError(f"priority {priority}; 0 (highest) to 7 expected")
        if len(self._live) >= self._limits.streams:
            raise LocalProtocolError(f"{len(self._live)} streams are open; the limit is {self._limits.streams}")
        self._room_for(self._limits.control_frame if self._queued else 0)
        stream_id = self._next_id
        block = self._codec.encode(headers, reply=False)
        self._next_id += 2
        ours, theirs = initial_halves(fin=fin, unidirectional=unidirectional)
        self._add(Stream(stream_id, ours, theirs, opened_by_us=True, priority=priority))
        flags = (FLAG_FIN if fin else 0) | (FLAG_UNIDIRECTIONAL if unidirectional else 0)
        self._trace("out", "SYN_STREAM", stream_id, headers, flags)
        self._queue(
            frames.pack_syn_stream(stream_id, block, flags=flags, associated_to=associated_to, priority=priority)
        )
        self._forget_if_over(self._live[stream_id])
        return stream_id

    def accept_stream(self, stream_id: int, headers: HeaderList = (), *, fin: bool = False) -> None:
        """Queues SYN_REPLY for a stream of the peer. Kubernetes' servers send it without headers."""
        stream = self._may(stream_id, Act.REPLY)
        block = self._codec.encode(headers, reply=True)
        stream.ours = Half.OPEN
        self._trace("out", "SYN_REPLY", stream_id, headers, fin)
        self._queue(frames.pack_syn_reply(stream_id, block, flags=FLAG_FIN if fin else 0))
        self._we_fin(stream, fin)

    def refuse_stream(self, stream_id: int, status: RstStatus = RstStatus.REFUSED_STREAM) -> None:
        """Resets a stream of the peer that was not accepted."""
        if self._may(stream_id, Act.RESET).ours is not Half.AWAITING_REPLY:
            raise LocalProtocolError(f"stream {stream_id} was accepted: reset_stream ends it")
        self.reset_stream(stream_id, status)

    def send_headers(self, stream_id: int, headers: HeaderList, *, fin: bool = False) -> None:
        """Queues HEADERS. Never for a Go peer: nothing there takes them, and one of its workers stops for good."""
        stream = self._may(stream_id, Act.HEADERS)
        if stream.blocked:
            raise LocalProtocolError(f"stream {stream_id} has data waiting for its window; HEADERS would overtake it")
        block = self._codec.encode(headers, reply=True)
        self._trace("out", "HEADERS", stream_id, headers, fin)
        self._queue(frames.pack_headers(stream_id, block, flags=FLAG_FIN if fin else 0))
        self._we_fin(stream, fin)

    def send_data(self, stream_id: int, data: Buffer, *, fin: bool = False) -> None:
        """Queues payload, split into frames of ``Limits.data_frame_out``. ``data`` must not change until it has left.

        Raises ``StreamClosedError`` when this half is over, ``OutputLimitExceeded`` when too much is queued already.
        """
        stream = self._may(stream_id, Act.DATA)
        view = memoryview(data).cast("B")
        size = len(view)
        self._room_for(size)
        stream.sent += size
        if fin:
            stream.ours = Half.ENDED
        if self._metered:
            if stream.blocked is None:
                stream.blocked = deque()
            stream.blocked.append((view, fin))
            self._blocked += size
            self._release(stream)
        else:
            self._queue_data(stream_id, view, fin)
            if fin:
                self._forget_if_over(stream)

    def end_stream(self, stream_id: int) -> None:
        """Half-close: an empty DATA with FIN. The peer may go on sending."""
        self.send_data(stream_id, b"", fin=True)

    def reset_stream(self, stream_id: int, status: RstStatus = RstStatus.CANCEL) -> None:
        """Ends both halves at once. A Go peer wedges on a reset of a stream it has not replied to yet."""
        stream = self._may(stream_id, Act.RESET)
        self._drop(stream, ClosedBy.OUR_RESET)
        self._trace("out", "RST_STREAM", stream_id, int(status))
        self._queue(frames.pack_rst_stream(stream_id, status))

    def ping(self, now: float) -> int:
        """Queues a PING and returns its id; ``PingAcknowledged`` reports the echo."""
        self._require_alive()
        ping_id = self._next_ping
        self._next_ping = ping_id + 2 if ping_id + 2 <= MAX_PING_ID else 2 - ping_id % 2
        self._pings[ping_id] = now
        self._trace("out", "PING", ping_id)
        self._queue(frames.pack_ping(ping_id))
        return ping_id

    def send_settings(self, entries: list[tuple[int, int, int]], *, clear: bool = False) -> None:
        """Queues SETTINGS; ``entries`` as (id, value, flags)."""
        self._require_alive()
        self._trace("out", "SETTINGS", entries, clear)
        self._queue(frames.pack_settings(entries, clear=clear))

    def go_away(self, status: GoAwayStatus = GoAwayStatus.OK) -> None:
        """Queues GOAWAY, once. A Kubernetes peer reads nothing after it: every byte of data must be queued before."""
        self._require_alive()
        if not self._goaway_sent:
            self._goaway_sent = True
            self._trace("out", "GOAWAY", self._table.highest_received, int(status))
            self._queue(frames.pack_goaway(self._table.highest_received, status))

    def acknowledge(self, stream_id: int, size: int) -> None:
        """The application has taken ``size`` received bytes: opens the windows again. Nothing happens without windows."""
        if self._metered and not self._terminated:
            self._credit_back(stream_id, size)

    def data_to_send(self) -> list[Buffer]:
        """All segments that may leave now, in order and unjoined; the caller owns them."""
        out, self._out = self._out, []
        self._queued = 0
        self._chores = 0
        return out

    # -- helpers -----------------------------------------------------------------------------------------------------

    def _require_alive(self) -> None:
        if self._terminated:
            raise EngineTerminated("the connection is over")

    def _may(self, stream_id: int, act: Act) -> Stream:
        """The stream, if we may do this on it; raises before anything changes."""
        self._require_alive()
        stream = self._live.get(stream_id)
        if stream is None:
            how = self._table.closed.get(stream_id)
            raise StreamClosedError(
                f"{act.value} on stream {stream_id}, which " + (f"is over ({how.value})" if how else "does not exist"),
                stream_id=stream_id,
            )
        after = TRANSITIONS[stream.ours, act]
        if isinstance(after, RstStatus):
            self._forbid(stream, act)
        return stream

    def _forbid(self, stream: Stream, act: Act) -> NoReturn:
        where = f"{act.value} on stream {stream.stream_id}, whose state on this side is {stream.ours.value!r}"
        raise StreamClosedError(where, stream_id=stream.stream_id)

    def _room_for(self, size: int) -> None:
        if self._queued + self._blocked + size > self._limits.queued_bytes:
            raise OutputLimitExceeded(
                f"{self.pending_bytes} bytes are queued and {size} more would pass the limit of "
                f"{self._limits.queued_bytes}: send what is queued first"
            )

    def _we_fin(self, stream: Stream, fin: bool) -> None:
        if fin:
            stream.ours = Half.ENDED
            self._forget_if_over(stream)

    def _add(self, stream: Stream) -> None:
        self._table.add(stream)
        if self._metered:
            self._flow.open(stream.stream_id)

    def _forget_if_over(self, stream: Stream) -> None:
        if stream.over:
            self._drop(stream, ClosedBy.BOTH_ENDED)

    def _drop(self, stream: Stream, how: ClosedBy) -> None:
        if stream.blocked:
            self._blocked -= sum(len(view) for view, _ in stream.blocked)
            stream.blocked = None
        self._table.remove(stream.stream_id, how)
        if self._metered:
            self._flow.close(stream.stream_id)

    def _reset(self, stream: Stream, status: RstStatus) -> None:
        """Ends a stream for the peer's fault."""
        self._drop(stream, ClosedBy.OUR_RESET)
        self._chore(frames.pack_rst_stream(stream.stream_id, status))
        self._events.append(StreamReset(stream.stream_id, status, False))

    def _chore(self, frame: bytes) -> None:
        """Queues an answer that the peer caused; too many that it does not let us send end the connection."""
        self._chores += 1
        if self._chores > self._limits.queued_chores:
            limit = self._limits.queued_chores
            self._fail(LimitExceeded(f"the peer caused more than {limit} answers (pings, resets) without reading them"))
            return
        self._queue(frame)

    def _credit_back(self, stream_id: int, size: int) -> None:
        for target, delta in self._flow.acknowledge(stream_id, size):
            self._queue(frames.pack_window_update(target, delta))

    def _release_all(self) -> None:
        if self._blocked or self._metered:
            for stream in sorted(self._live.values(), key=lambda s: (s.priority, s.stream_id)):
                self._release(stream)

    def _release(self, stream: Stream) -> None:
        """Moves what the windows allow from the stream's waiting data to the output."""
        waiting = stream.blocked
        while waiting:
            view, fin = waiting[0]
            size = min(len(view), self._flow.sendable(stream.stream_id))
            if size < len(view):
                if size:
                    waiting[0] = (view[size:], fin)
                    self._send_released(stream, view[:size], False)
                return
            waiting.popleft()
            self._send_released(stream, view, fin)
        if stream.stream_id in self._live:
            self._forget_if_over(stream)

    def _send_released(self, stream: Stream, view: memoryview, fin: bool) -> None:
        self._flow.sent(stream.stream_id, len(view))
        self._blocked -= len(view)
        self._queue_data(stream.stream_id, view, fin)

    def _queue_data(self, stream_id: int, view: memoryview, fin: bool) -> None:
        if self._tracer is not None:
            self._tracer("out", ("DATA", stream_id, len(view), fin))
        size = len(view)
        if size <= _SMALL:
            self._queue(frames.pack_data_header(stream_id, fin << 24 | size) + bytes(view))
            return
        largest = self._limits.data_frame_out
        out = self._out
        start = 0
        while size - start > largest:
            out.append(frames.pack_data_header(stream_id, largest))
            out.append(view[start : start + largest])
            start += largest
            self._queued += 8
        out.append(frames.pack_data_header(stream_id, fin << 24 | size - start))
        out.append(view[start:] if start else view)
        self._queued += 8 + size

    def _queue(self, frame: bytes) -> None:
        self._out.append(frame)
        self._queued += len(frame)

    def _trace(self, direction: str, *frame: object) -> None:
        if self._tracer is not None:
            self._tracer(direction, frame)

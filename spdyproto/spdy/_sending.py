"""The sending half of a SPDY connection: its state, and what this end may do.

Every method checks first and changes after, so that a ``LocalProtocolError`` leaves everything as it was. What they
queue leaves in order; header blocks are compressed when they are queued, since both ends share one zlib stream.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

from spdyproto.errors import (
    EngineTerminated,
    LimitExceeded,
    LocalProtocolError,
    ProtocolError,
    RemoteProtocolError,
    StreamClosedError,
    StreamIdsExhausted,
)
from spdyproto.keepalive import KeepaliveTimer
from spdyproto.limits import Keepalive, Limits
from spdyproto.nuisance import Nuisances
from spdyproto.spdy import frames
from spdyproto.spdy._pings import PingLedger
from spdyproto.spdy.constants import (
    FLAG_FIN,
    FLAG_UNIDIRECTIONAL,
    MAX_PING_ID,
    MAX_STREAM_ID,
    GoAwayStatus,
    RstStatus,
    SettingId,
)
from spdyproto.spdy.events import (
    ConnectionTerminated,
    Event,
    StreamReset,
)
from spdyproto.spdy.flow import FlowPolicy, Unmetered
from spdyproto.spdy.headers import HeaderCodec
from spdyproto.spdy.outbox import Outbox
from spdyproto.spdy.parser import FrameParser
from spdyproto.spdy.states import TRANSITIONS, Act, Half, initial_halves
from spdyproto.spdy.streams import ClosedBy, Stream, StreamTable, StreamView
from spdyproto.types import Buffer, HeaderList, Policy, Role, Tracer

_OPEN = Half.OPEN  # looking a member up on its class costs more than the comparison (Python 3.11)


class SendingHalf:
    """State of one connection and the intents of this end. ``SpdyConnection`` adds what the peer does."""

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
        self._clock = KeepaliveTimer(keepalive)
        self._tracer = tracer
        self._codec = HeaderCodec(self._limits, policy)
        self._parser = FrameParser(self._limits)
        self._table = StreamTable(self._limits.closed_streams)
        self._live = self._table.live
        self._next_id = 1 if role is Role.CLIENT else 2
        self._next_ping = self._next_id
        self._out = Outbox(self._limits, self._flow, tracer)
        self._events: list[Event] = []
        self._dropping = False
        self._terminated = False
        self._eof = False
        self._goaway_sent = False
        self._goaway_received = False
        self._now = 0.0
        self._pings = PingLedger()
        self._nuisances: Nuisances | None = None
        self._data_sent = 0
        initial, session = self._flow.greeting()
        if initial is not None:
            self.send_settings([(SettingId.INITIAL_WINDOW_SIZE, initial, 0)])
        if session:
            self._out.control(frames.pack_window_update(0, session))

    # -- what the connection is like ---------------------------------------------------------------------------------

    @property
    def terminated(self) -> bool:
        """True once ``ConnectionTerminated`` was reported: nothing can be sent or received any more."""
        return self._terminated

    @property
    def pending_bytes(self) -> int:
        """Bytes accepted and not yet handed out, those that wait for a window included."""
        return self._out.pending_bytes

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

    # -- the end -----------------------------------------------------------------------------------------------------

    def _take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def _fail(self, error: RemoteProtocolError) -> None:
        """Ends the connection for the peer's fault and tells it."""
        if not self._goaway_sent:
            self._goaway_sent = True
            self._out.control(frames.pack_goaway(self._table.highest_received, error.code))
        self._end(error)

    def _end(self, error: ProtocolError | None) -> None:
        self._terminated = True
        for stream in self._live.values():
            self._out.discard(stream)
        self._events.append(ConnectionTerminated(error))

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
        stream_id = self._next_id
        while stream_id in self._live or stream_id in self._table.closed:
            stream_id += 2  # a Kubernetes peer may have taken an id of our parity
        if stream_id > MAX_STREAM_ID:
            raise StreamIdsExhausted("all stream ids of this connection are used: open a new connection")
        if not 0 <= priority <= 7:
            raise LocalProtocolError(f"priority {priority}; 0 (highest) to 7 expected")
        if not 0 <= associated_to <= MAX_STREAM_ID:
            raise LocalProtocolError(f"associated stream {associated_to}; 0 to {MAX_STREAM_ID} expected")
        if len(self._live) >= self._limits.streams:
            raise LocalProtocolError(f"{len(self._live)} streams are open; the limit is {self._limits.streams}")
        self._out.require_room(0)
        block = self._codec.encode(headers, reply=False)
        self._next_id = stream_id + 2
        ours, theirs = initial_halves(fin=fin, unidirectional=unidirectional)
        self._add(Stream(stream_id, ours, theirs, True, priority, unidirectional=unidirectional))
        flags = (FLAG_FIN if fin else 0) | (FLAG_UNIDIRECTIONAL if unidirectional else 0)
        self._trace("out", "SYN_STREAM", stream_id, headers, flags)
        self._out.control(
            frames.pack_syn_stream(stream_id, block, flags=flags, associated_to=associated_to, priority=priority)
        )
        self._forget_if_over(self._live[stream_id])
        return stream_id

    def accept_stream(self, stream_id: int, headers: HeaderList = (), *, fin: bool = False) -> None:
        """Queues SYN_REPLY for a stream of the peer. Kubernetes' servers send it without headers.

        Raises ``OutputLimitExceeded`` when too much is queued: a peer that opens streams and reads no replies must not
        fill our memory.
        """
        stream = self._may(stream_id, Act.REPLY)
        self._out.require_room(0)
        block = self._codec.encode(headers, reply=True)
        stream.ours = Half.OPEN
        self._trace("out", "SYN_REPLY", stream_id, headers, fin)
        self._out.control(frames.pack_syn_reply(stream_id, block, flags=FLAG_FIN if fin else 0))
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
        self._out.control(frames.pack_headers(stream_id, block, flags=FLAG_FIN if fin else 0))
        self._we_fin(stream, fin)

    def send_data(self, stream_id: int, data: Buffer, *, fin: bool = False) -> None:
        """Queues payload, split into frames of ``Limits.data_frame_out``. ``data`` must not change until it has left.

        Raises ``StreamClosedError`` when this half is over, ``OutputLimitExceeded`` when too much is queued already.
        """
        stream = self._live.get(stream_id)
        if (
            stream is None or stream.ours is not _OPEN or self._terminated
        ):  # looking up the table costs as much as the rest
            stream = self._may(stream_id, Act.DATA)
        view = memoryview(data).cast("B")
        size = len(view)
        self._out.require_room(size)
        stream.sent += size
        self._data_sent += size
        if fin:
            stream.ours = Half.ENDED
        if self._metered:
            self._out.hold(stream, view, fin)
        else:
            self._out.data(stream_id, view, fin)
        if fin:
            self._forget_if_over(stream)

    def end_stream(self, stream_id: int) -> None:
        """Half-close: an empty DATA with FIN. The peer may go on sending."""
        self.send_data(stream_id, b"", fin=True)

    def reset_stream(self, stream_id: int, status: RstStatus = RstStatus.CANCEL) -> None:
        """Ends both halves at once. A Go peer wedges on a reset of a stream it has not replied to yet."""
        stream = self._may(stream_id, Act.RESET)
        if not 0 < status <= 0xFFFFFFFF:
            raise LocalProtocolError(f"RST_STREAM status {status}; 1 to 0xffffffff expected")
        self._drop(stream, ClosedBy.OUR_RESET)
        self._trace("out", "RST_STREAM", stream_id, int(status))
        self._out.control(frames.pack_rst_stream(stream_id, status))

    def ping(self, now: float) -> int:
        """Queues a PING and returns its id; ``PingAcknowledged`` reports the echo."""
        self._require_alive()
        ping_id = self._next_ping
        self._next_ping = ping_id + 2 if ping_id + 2 <= MAX_PING_ID else 2 - ping_id % 2
        self._pings.sent(ping_id, now, self._data_sent)
        self._trace("out", "PING", ping_id)
        self._out.control(frames.pack_ping(ping_id))
        return ping_id

    def send_settings(self, entries: list[tuple[int, int, int]], *, clear: bool = False) -> None:
        """Queues SETTINGS; ``entries`` as (id, value, flags)."""
        self._require_alive()
        for key, value, flags in entries:
            if not (0 <= key <= 0xFFFFFF and 0 <= value <= 0xFFFFFFFF and 0 <= flags <= 0xFF):
                raise LocalProtocolError(f"setting {key} = {value}, flags {flags}: 24, 32 and 8 bits expected")
        self._trace("out", "SETTINGS", entries, clear)
        self._out.control(frames.pack_settings(entries, clear=clear))

    def go_away(self, status: GoAwayStatus = GoAwayStatus.OK) -> None:
        """Queues GOAWAY, once. A Kubernetes peer reads nothing after it: every byte of data must be queued before."""
        self._require_alive()
        if not self._goaway_sent:
            self._goaway_sent = True
            self._trace("out", "GOAWAY", self._table.highest_received, int(status))
            self._out.control(frames.pack_goaway(self._table.highest_received, status))

    def acknowledge(self, stream_id: int, size: int) -> None:
        """The application has taken ``size`` received bytes: opens the windows again. Nothing happens without
        windows."""
        if self._metered and not self._terminated:
            for target, delta in self._flow.acknowledge(stream_id, size):
                self._out.control(frames.pack_window_update(target, delta))

    def end_of_headers(self) -> None:
        """Nothing with a header block will be sent any more: no new stream, no SYN_REPLY, no HEADERS.

        Frees the compressor, 27 KiB of what an idle connection holds. Later blocks are a ``LocalProtocolError``.
        """
        self._codec.end_sending()

    def rest_headers(self) -> None:
        """No header block of the peer is expected for a while: frees the decompressor's 39 KiB until one comes."""
        self._codec.rest_receiving()

    def data_to_send(self) -> list[Buffer]:
        """All segments that may leave now, in order and unjoined; the caller owns them."""
        return self._out.take()

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
            alone = stream.opened_by_us and stream.unidirectional
            self._drop(stream, ClosedBy.OUR_END if alone else ClosedBy.BOTH_ENDED)

    def _drop(self, stream: Stream, how: ClosedBy) -> None:
        self._out.discard(stream)
        self._table.remove(stream.stream_id, how)
        if self._metered:
            self._flow.close(stream.stream_id)

    def _reset(self, stream: Stream, status: RstStatus) -> None:
        """Ends a stream for the peer's fault."""
        self._drop(stream, ClosedBy.OUR_RESET)
        self._events.append(StreamReset(stream.stream_id, status, False))
        self._chore(frames.pack_rst_stream(stream.stream_id, status))

    def _chore(self, frame: bytes) -> None:
        """Queues an answer that the peer caused; too many that it does not let us send end the connection."""
        if not self._out.chore(frame):
            limit = self._limits.queued_chores
            self._fail(LimitExceeded(f"the peer caused more than {limit} answers (pings, resets) without reading them"))

    def _credit_back(self, size: int) -> None:
        """Opens the session's window again after bytes that nobody takes."""
        for target, delta in self._flow.acknowledge(0, size):
            self._chore(frames.pack_window_update(target, delta))

    def _release(self, streams: Iterable[Stream]) -> None:
        """Sends what the windows allow now."""
        waiting = [stream for stream in streams if stream.blocked]
        self._out.release_all(waiting)
        for stream in waiting:
            self._forget_if_over(stream)

    def _nuisance(self) -> None:
        """The peer sent one more frame that moves nothing. Raises LimitExceeded for a flood."""
        if self._nuisances is None:
            self._nuisances = Nuisances(self._limits.nuisances, self._now)
        self._nuisances.add(self._now)

    def _trace(self, direction: str, *frame: object) -> None:
        if self._tracer is not None:
            self._tracer(direction, frame)

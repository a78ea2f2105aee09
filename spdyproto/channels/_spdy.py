"""A remote-command session's streams as SPDY streams: the carrier of either role.

A carrier owns the engine and knows how the session's streams lie in it; what they mean is the session's business. So
the rules of replies, resets and GOAWAY are here, and nothing above this module knows a stream id.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from spdyproto.channels._carrier import Heard
from spdyproto.channels.events import StreamKind
from spdyproto.channels.subprotocols import Subprotocol
from spdyproto.errors import LimitExceeded, OutputLimitExceeded, PeerClosed, ProtocolError
from spdyproto.limits import Keepalive, Limits
from spdyproto.spdy.connection import SpdyConnection
from spdyproto.spdy.constants import RstStatus
from spdyproto.spdy.events import (
    ConnectionTerminated,
    DataAfterReset,
    DataReceived,
    Event,
    GoAwayReceived,
    StreamAccepted,
    StreamOpened,
    StreamReset,
)
from spdyproto.spdy.states import Half
from spdyproto.spdy.streams import StreamView
from spdyproto.types import Buffer, Policy, Role, Tracer

_KINDS = {kind.value: kind for kind in StreamKind}
_ERROR = StreamKind.ERROR


class SpdyCarrier(ABC):
    """What both roles share."""

    half_close = True
    """Whether ``end`` exists: a SPDY stream has FIN in every version."""

    def __init__(
        self,
        role: Role,
        version: Subprotocol,
        limits: Limits,
        keepalive: Keepalive | None,
        tracer: Tracer | None,
        policy: Policy = Policy.KUBERNETES,
    ) -> None:
        self.version = version
        self._limits = limits
        self._engine = SpdyConnection(role, policy=policy, limits=limits, keepalive=keepalive, tracer=tracer)
        self._ids: dict[StreamKind, int] = {}
        self._kinds: dict[int, StreamKind] = {}

    @property
    def pending_bytes(self) -> int:
        """Bytes accepted and not yet handed out."""
        return self._engine.pending_bytes

    @property
    def terminated(self) -> bool:
        """Whether the connection is over."""
        return self._engine.terminated

    def data_to_send(self) -> list[Buffer]:
        """Segments to write."""
        return self._engine.data_to_send()

    def next_deadline(self) -> float | None:
        """The keepalive's."""
        return self._engine.next_deadline()

    def receive_data(self, data: Buffer, now: float, heard: Heard) -> bool:
        """Bytes from the transport. Answers whether they held anything."""
        return self._digest(self._engine.receive_data(data, now), heard)

    def receive_eof(self, now: float, clean: bool, heard: Heard) -> bool:
        """The transport ended."""
        return self._digest(self._engine.receive_eof(now, clean=clean), heard)

    def handle_timeout(self, now: float, output_blocked: bool, heard: Heard) -> bool:
        """Does what the keepalive is due to do."""
        return self._digest(self._engine.handle_timeout(now, output_blocked=output_blocked), heard)

    @abstractmethod
    def _digest(self, below: list[Event], heard: Heard) -> bool:
        """Tells the session what the engine heard. Answers whether that was anything."""

    def may_send(self, kind: StreamKind) -> bool:
        """Whether bytes can still leave on this stream."""
        stream_id = self._ids.get(kind)
        if stream_id is None or self._engine.terminated:
            return False
        view = self._engine.stream(stream_id)
        return isinstance(view, StreamView) and view.ours is Half.OPEN

    def has(self, kind: StreamKind) -> bool:
        """Whether the session has this stream at all."""
        return kind in self._ids

    def send(self, kind: StreamKind, data: Buffer) -> None:
        """Queues payload."""
        self._engine.send_data(self._ids[kind], data)

    def end(self, kind: StreamKind) -> None:
        """Half-closes a stream."""
        self._engine.end_stream(self._ids[kind])

    def leave(self) -> None:
        """RST_STREAM(CANCEL) for each stream that was replied to and that we have not ended, as Go's ``Close`` does;
        then GOAWAY.

        A stream without its SYN_REPLY is left alone: a Go peer never recovers from its reset.
        """
        engine = self._engine
        if engine.terminated:
            return
        for stream_id in self._kinds:
            view = engine.stream(stream_id)
            if isinstance(view, StreamView) and view.ours is Half.OPEN and view.theirs is not Half.AWAITING_REPLY:
                engine.reset_stream(stream_id, RstStatus.CANCEL)
        engine.go_away()


class SpdyClientCarrier(SpdyCarrier):
    """The client opens every stream and waits for every reply."""

    def __init__(
        self, version: Subprotocol, limits: Limits, keepalive: Keepalive | None, tracer: Tracer | None
    ) -> None:
        super().__init__(Role.CLIENT, version, limits, keepalive, tracer)
        self._unanswered: set[int] = set()
        self._ended: set[StreamKind] = set()
        self._goaway = False

    def start(self, kinds: list[StreamKind], now: float) -> bool:
        """Opens the streams, all in one flight. Answers whether the session is ready, which it is not."""
        self._engine.start(now)
        for kind in kinds:
            stream_id = self._engine.open_stream([("streamtype", kind.value)])
            self._ids[kind] = stream_id
            self._kinds[stream_id] = kind
            self._unanswered.add(stream_id)
        self._engine.end_of_headers()
        return False

    def waiting_for(self) -> list[str]:
        """What the server owes before the session is ready, in words."""
        return [f"the reply for {self._kinds[stream_id].value}" for stream_id in sorted(self._unanswered)]

    def _digest(self, below: list[Event], heard: Heard) -> bool:
        kinds = self._kinds
        for event in below:
            if type(event) is DataReceived:
                kind = kinds.get(event.stream_id)
                if kind is None:
                    continue  # a stream that the server opened: see _on_event
                if event.data:
                    heard.heard(kind, event.data)
                if event.fin:
                    self._end_of(kind, heard)
                if kind is not _ERROR:
                    continue  # payload of an output never ends the session
            else:
                self._on_event(event, heard)
            if heard.deaf:
                break
        return bool(below)

    def _end_of(self, kind: StreamKind, heard: Heard) -> None:
        self._ended.add(kind)
        heard.heard_end(kind)

    def _on_event(self, event: Event, heard: Heard) -> None:
        if isinstance(event, StreamAccepted):
            waiting = bool(self._unanswered)
            self._unanswered.discard(event.stream_id)
            if waiting and not self._unanswered:
                self._engine.rest_headers()
                heard.heard_ready()
            if event.fin:
                self._end_of(self._kinds[event.stream_id], heard)
        elif isinstance(event, StreamReset):
            self._on_reset(event, heard)
        elif isinstance(event, DataAfterReset):
            if self.version is Subprotocol.V1 and self._kinds.get(event.stream_id) is StreamKind.ERROR:
                heard.heard(StreamKind.ERROR, event.data)
        elif isinstance(event, GoAwayReceived):
            self._goaway = True
        elif isinstance(event, ConnectionTerminated):
            self._on_terminated(event.error, heard)
        # StreamOpened: a server has nothing to open here. Left without a reply such a stream carries nothing, and the
        # engine refuses them beyond its limit.

    def _on_reset(self, event: StreamReset, heard: Heard) -> None:
        kind = self._kinds.get(event.stream_id)
        if kind is None:
            return
        status = _status_name(event.status)
        if not event.by_peer:
            heard.heard_fault(PeerClosed(f"the server broke the rules of the {kind.value} stream ({status})"))
        elif event.stream_id in self._unanswered:
            heard.heard_fault(PeerClosed(f"the server refused the {kind.value} stream ({status})"))
        elif kind is StreamKind.STDIN:
            heard.heard_refusal()
        elif event.status != RstStatus.CANCEL and kind is not StreamKind.RESIZE and kind not in self._ended:
            heard.heard_fault(PeerClosed(f"the server aborted the {kind.value} stream ({status})"))
        elif kind is not StreamKind.ERROR or self.version is not Subprotocol.V1:
            heard.heard_end(kind)

    def _on_terminated(self, error: ProtocolError | None, heard: Heard) -> None:
        if self._goaway and error is None:
            # A server sends GOAWAY behind its last byte. Before v4 it ends nothing, but for v1's error stream, which
            # was reset before the command ran.
            if self.version.has_json_status:
                for kind in (StreamKind.STDOUT, StreamKind.STDERR):
                    heard.heard_end(kind)
            elif self.version is Subprotocol.V1:
                heard.heard_end(StreamKind.ERROR)
        heard.heard_over(error)


class SpdyServerCarrier(SpdyCarrier):
    """The server waits until the client has opened as many streams as the session has."""

    def __init__(self, version: Subprotocol, limits: Limits, tracer: Tracer | None, policy: Policy) -> None:
        super().__init__(Role.SERVER, version, limits, None, tracer, policy)
        self._expected = 0
        self._replies = 0

    def start(self, kinds: list[StreamKind], now: float) -> bool:
        """Nothing is sent before the client's first frame. Answers whether the session is ready, which it is not."""
        self._engine.start(now)
        self._expected = len(kinds)
        return False

    def waiting_for(self) -> list[str]:
        """What the client owes before the session is ready, in words."""
        if self._replies == self._expected:
            return []
        have = ", ".join(kind.value for kind in self._ids) or "none"
        return [f"{self._expected} streams (opened: {have})"]

    def _digest(self, below: list[Event], heard: Heard) -> bool:
        for event in below:
            if heard.deaf:
                break
            if type(event) is DataReceived:
                kind = self._kinds.get(event.stream_id)
                # A kind that was opened twice: only the later stream counts.
                if kind is not None and self._ids[kind] == event.stream_id:
                    if event.data:
                        heard.heard(kind, event.data)
                    if event.fin:
                        heard.heard_end(kind)
            elif isinstance(event, StreamOpened):
                self._on_opened(event, heard)
            elif isinstance(event, StreamReset):
                if self._ids.get(StreamKind.STDIN) == event.stream_id:
                    heard.heard_end(StreamKind.STDIN)
            elif isinstance(event, ConnectionTerminated):
                heard.heard_over(event.error)
        return bool(below)

    def _on_opened(self, event: StreamOpened, heard: Heard) -> None:
        """Counts replies, not kinds, as the real server: a repeated kind replaces the earlier stream and still counts.

        Streams beyond the expected number get no reply; unknown kinds are replied to and not counted.
        """
        view = self._engine.stream(event.stream_id)
        if self._replies == self._expected or not isinstance(view, StreamView) or self._engine.terminated:
            return  # the same buffer may hold the end of the stream, or of the connection
        if view.ours is not Half.AWAITING_REPLY:
            return  # unidirectional: there is no half on which to reply
        name = next((value for key, value in event.headers if key == "streamtype"), "")
        try:
            self._engine.accept_stream(event.stream_id)
        except OutputLimitExceeded:
            limit = self._limits.queued_bytes
            heard.heard_fault(LimitExceeded(f"the client opened streams without reading {limit} bytes of replies"))
            return
        kind = _KINDS.get(name)
        if kind is None:
            return
        self._ids[kind] = event.stream_id
        self._kinds[event.stream_id] = kind
        self._replies += 1
        if self._replies == self._expected:
            self._engine.end_of_headers()
            self._engine.rest_headers()
            heard.heard_ready()
        if event.fin and kind is StreamKind.STDIN:
            heard.heard_end(kind)


def _status_name(status: int) -> str:
    try:
        return RstStatus(status).name
    except ValueError:
        return f"status {status}"

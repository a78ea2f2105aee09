"""A port-forward session over SPDY, the server's end: pairing, refusals and the end of a connection as cri-streaming
has them. What the streams mean is told in ``portforward``, the client's end.

Source: ``cri-streaming: pkg/streaming/portforward/httpstream.go``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from spdyproto.channels._forwardmux import ForwardMux, Queue, sooner
from spdyproto.channels.forwarding import (
    Failed,
    ForwardEvent,
    ForwardTransport,
    Received,
    RemoteEnded,
    Requested,
    SessionOver,
)
from spdyproto.errors import ForwardingFailed, LocalProtocolError, OutputLimitExceeded, ProtocolError
from spdyproto.limits import Deadlines, Limits
from spdyproto.spdy.constants import RstStatus
from spdyproto.spdy.events import ConnectionTerminated, DataReceived, Event, StreamOpened, StreamReset
from spdyproto.spdy.states import Half
from spdyproto.types import Buffer, Role, Tracer

__all__ = ["ForwardServer"]

_ERROR, _DATA = "error", "data"


@dataclass(slots=True)
class _Pair:
    """One forwarded connection, as the server sees it."""

    number: int
    request: str
    port: int
    error: int = 0
    data: int = 0
    early: list[bytes] = field(default_factory=list)
    early_ended: bool = False

    @property
    def complete(self) -> bool:
        return bool(self.error and self.data)


class ForwardServer(ForwardMux):
    """The server's end: ``Requested`` for each pair of streams that is complete, then what the client does with it.

    Answer with ``send``, ``end``, and at the end ``finish`` or ``fail``. ``Failed`` means that the client gave the
    connection up. The order and the words of refusals are those of cri-streaming.
    """

    def __init__(
        self,
        *,
        transport: ForwardTransport = ForwardTransport.SPDY,
        limits: Limits | None = None,
        deadlines: Deadlines | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        super().__init__(Role.SERVER, transport, limits, deadlines, None, tracer)
        self._waiting: dict[str, _Pair] = {}
        self._pending: dict[int, _Pair] = {}
        self._pairs: dict[int, _Pair] = {}
        self._by_stream: dict[int, _Pair] = {}
        self._opening = Queue()
        self._next = 0

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` wants to be called next; None for never."""
        return None if self.over else sooner(self._link.next_deadline(), self._opening.first(self._pending))

    def handle_timeout(
        self, now: float, *, output_blocked: bool = False, input_paused: bool = False
    ) -> list[ForwardEvent]:
        """Gives up pairs of which one half never came."""
        for number in self._opening.due(now) if not self.over else ():
            pair = self._pending.pop(number, None)
            if pair is not None:
                self._print_error(pair, f"(conn=0x{id(self):x}, request={pair.request}) timed out waiting for streams")
                self._drop(pair)
        return self._after(self._link.handle_timeout(now, output_blocked=output_blocked), now)

    # -- what the caller does ----------------------------------------------------------------------------------------

    def may_send(self, connection: int) -> bool:
        """Whether the client still takes data of this connection."""
        pair = self._pairs.get(connection)
        return pair is not None and not self.over and self._may_send(pair.data)

    def send(self, connection: int, data: Buffer) -> None:
        """Queues bytes, which must not change until they have left. Raises LocalProtocolError where ``may_send`` is
        False, OutputLimitExceeded when too much is queued."""
        pair = self._pairs.get(connection)
        if pair is None:
            raise LocalProtocolError(f"connection {connection} is over")
        self._engine.send_data(pair.data, data)

    def end(self, connection: int) -> None:
        """Half-close: the pod has sent everything, and goes on reading. Nothing happens if it was done before."""
        pair = self._pairs.get(connection)
        if pair is not None and self._may_send(pair.data):
            self._engine.end_stream(pair.data)

    def finish(self, connection: int) -> None:
        """The connection has ended in order: FIN on what has none. Safe for one that is over."""
        pair = self._pairs.pop(connection, None)
        if pair is not None and not self.over:
            for stream_id in (pair.error, pair.data):
                if self._may_send(stream_id):
                    self._engine.end_stream(stream_id)
            self._drop(pair)

    def fail(self, connection: int, text: str) -> None:
        """The connection has failed: the text on its error stream, RST_STREAM on both. Safe for one that is over."""
        pair = self._pairs.pop(connection, None)
        if pair is not None and not self.over:
            self._print_error(pair, text)
            self._reset(pair.data)
            self._reset(pair.error)
            self._drop(pair)

    def close(self) -> None:
        """Ends the session as Go's server does: RST_STREAM for what is open, GOAWAY. Nothing more is reported."""
        if self.over:
            return
        self.over = True
        for pair in [*self._pairs.values(), *self._pending.values()]:
            for stream_id in (pair.data, pair.error):
                if stream_id and self._ours(stream_id) is Half.OPEN:
                    self._reset(stream_id)
        self._leave()

    # -- what the engine tells ---------------------------------------------------------------------------------------

    def _digest(self, below: list[Event], now: float) -> None:
        for event in below:
            if type(event) is DataReceived:
                pair = self._by_stream.get(event.stream_id)
                if pair is None or event.stream_id != pair.data:
                    continue  # what a client writes on an error stream is nobody's business
                if not pair.complete:
                    self._keep(pair, event)
                    continue
                if event.data:
                    self._events.append(Received(pair.number, event.data))
                if event.fin:
                    self._events.append(RemoteEnded(pair.number))
            elif isinstance(event, StreamOpened):
                self._on_opened(event, now)
            elif isinstance(event, StreamReset):
                self._on_reset(event)
            elif isinstance(event, ConnectionTerminated):
                self._on_terminated(event.error)

    def _keep(self, pair: _Pair, event: DataReceived) -> None:
        """Data of a client that did not wait for its second stream."""
        pair.early.append(bytes(event.data))
        pair.early_ended = pair.early_ended or event.fin
        if sum(map(len, pair.early)) > self._limits.early_data:
            self._reset(pair.data)
            self._pending.pop(pair.number, None)
            self._drop(pair)

    def _on_opened(self, event: StreamOpened, now: float) -> None:
        headers = dict(event.headers)
        port, kind = headers.get("port", ""), headers.get("streamtype", "")
        if self._ours(event.stream_id) is not Half.AWAITING_REPLY or self._engine.terminated:
            return  # unidirectional, or over within the same buffer
        number = int(port) if port.isascii() and port.isdecimal() and len(port) < 6 else 0
        if not 0 < number < 65536 or kind not in (_ERROR, _DATA):
            self._engine.refuse_stream(event.stream_id, RstStatus.CANCEL)
            return
        try:
            self._engine.accept_stream(event.stream_id)
        except OutputLimitExceeded:
            self._engine.refuse_stream(event.stream_id, RstStatus.CANCEL)
            return
        # Clients older than the header open error and data one behind the other.
        request = headers.get("requestid") or str(event.stream_id - (2 if kind == _DATA else 0))
        pair = self._waiting.get(request)
        if pair is None:
            pair = self._waiting[request] = _Pair(self._next, request, number)
            self._next += 1
            self._pending[pair.number] = pair
            if self._deadlines.streams is not None:
                self._opening.add(pair.number, now + self._deadlines.streams)
        self._add(pair, kind, event, number)

    def _add(self, pair: _Pair, kind: str, event: StreamOpened, port: int) -> None:
        if getattr(pair, kind):
            text = f"error processing stream for request {pair.request}: {kind} stream already assigned"
            self._print_error(pair, text)
            return
        setattr(pair, kind, event.stream_id)
        self._by_stream[event.stream_id] = pair
        if kind == _DATA:
            pair.port = port
            pair.early_ended = event.fin
        if not pair.complete:
            return
        del self._waiting[pair.request]
        del self._pending[pair.number]
        self._pairs[pair.number] = pair
        self._events.append(Requested(pair.number, pair.port))
        self._events += [Received(pair.number, memoryview(data)) for data in pair.early if data]
        if pair.early_ended:
            self._events.append(RemoteEnded(pair.number))
        pair.early = []

    def _print_error(self, pair: _Pair, text: str) -> None:
        if pair.error and self._may_send(pair.error):
            try:
                self._engine.send_data(pair.error, text.encode())
            except OutputLimitExceeded:
                pass  # a client that reads nothing is told by the reset alone

    def _on_reset(self, event: StreamReset) -> None:
        pair = self._by_stream.pop(event.stream_id, None)
        if pair is None or event.stream_id != pair.data:
            return
        if pair.complete and self._pairs.pop(pair.number, None) is not None:
            self._events.append(Failed(pair.number, ForwardingFailed("the client reset the connection")))
            if self._may_send(pair.error):
                self._engine.end_stream(pair.error)
        self._pending.pop(pair.number, None)
        self._drop(pair)

    def _on_terminated(self, error: ProtocolError | None) -> None:
        why = "the client ended the session" if error is None else str(error)
        self._events += [Failed(number, ForwardingFailed(why)) for number in self._pairs]
        for table in (self._pairs, self._pending, self._by_stream):
            table.clear()
        self._waiting.clear()
        self.over = True
        self._events.append(SessionOver(error))

    def _drop(self, pair: _Pair) -> None:
        self._by_stream.pop(pair.data, None)
        self._by_stream.pop(pair.error, None)
        if self._waiting.get(pair.request) is pair:
            del self._waiting[pair.request]

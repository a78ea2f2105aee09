"""A port-forward session over SPDY, the client's end: ``portforward.k8s.io``. (``portserver`` is the other end.)

Theory of operation. Each forwarded connection is a pair of streams, tied together by a ``requestid``: *data*, which is
the connection, and *error*, on which the server may say why it failed. The client opens both in one flight, sends
nothing before both SYN_REPLYs (Go drops what comes earlier, in silence), ends its half of the error stream, and from
then on the data stream is a TCP connection: FIN is the end of one direction, RST_STREAM the reset of both.

What proves what. FIN on the data stream is the proper end of the pod's data, unless a text follows at once: containerd
ends the data stream of a failed connection first, so FIN is kept back a moment while the error stream is open.
RST_STREAM on it, the end of the session, or any text on the error stream is a failure, and what came before may be part
of more: Go's client takes all of these for an end of file. A failure is that connection's alone. (kubectl ends the
whole session at any text on any error stream.) An error stream that ends without a text says nothing.

A server may write its text and never end the stream, as cri-streaming does when half of a pair is missing; so a text
that came is taken for complete after ``TEXT_SECONDS``. A stream that was not replied to cannot be reset (a worker of
Go's never recovers), so a connection that is given up so early stays in the engine until its replies come.

Nothing here limits how much is on its way: SPDY as Kubernetes speaks it has no windows. The driver's policy for slow
readers is described in ``docs/port-forward.md``.

Sources: ``cri-streaming: pkg/streaming/portforward/httpstream.go``, ``client-go: tools/portforward/portforward.go``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from spdyproto.channels._forwardmux import ForwardMux, Queue, sooner
from spdyproto.channels.forwarding import (
    Failed,
    Finished,
    ForwardEvent,
    ForwardTransport,
    Opened,
    Received,
    RemoteEnded,
    SessionOver,
)
from spdyproto.errors import (
    ForwardingFailed,
    LocalProtocolError,
    ProtocolError,
)
from spdyproto.limits import Deadlines, Keepalive, Limits
from spdyproto.spdy.constants import RstStatus
from spdyproto.spdy.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    GoAwayReceived,
    StreamAccepted,
    StreamReset,
)
from spdyproto.spdy.states import Half
from spdyproto.text import printable
from spdyproto.types import Buffer, Role, Tracer

__all__ = ["BRIEF_DOUBT", "DOUBT_SECONDS", "TEXT_SECONDS", "ForwardClient"]

TEXT_SECONDS: Final = 2.0
"""How long the error stream may go without an end behind a text, which comes in one frame, and behind the end of the
data."""

DOUBT_SECONDS: Final = 0.25
"""How long FIN on the data stream is kept back while the error stream is open, where nothing had come before it.
containerd ends the data stream of a connection that was refused before it says so; a text that explains the end follows
at once. A server that has no more to say ends the error stream, and nothing is kept back then."""

BRIEF_DOUBT: Final = 0.05
"""The same where data had come: such an end is seldom a failure, and a pod that half-closes is waited for."""

_ERROR, _DATA = "error", "data"


@dataclass(slots=True)
class _Connection:
    """One forwarded connection, as the client sees it."""

    number: int
    port: int
    error: int
    data: int
    waiting: set[int]
    text: bytearray = field(default_factory=bytearray)
    abandoned: bool = False
    """Nothing more is reported of it; its streams may live on."""
    received: bool = False
    data_ended: bool = False
    """FIN has come on the data stream."""
    remote_ended: bool = False
    """And it was told: it is the end of the pod's data."""
    error_ended: bool = False

    @property
    def opened(self) -> bool:
        return not self.waiting


class ForwardClient(ForwardMux):
    """The client's end: open connections, send and end them, and be told what became of them.

    Each connection ends with exactly one of ``Finished`` and ``Failed``, unless it was ``reset`` from here; after
    ``SessionOver`` (and after ``close``) nothing is reported.
    """

    def __init__(
        self,
        *,
        transport: ForwardTransport = ForwardTransport.SPDY,
        limits: Limits | None = None,
        deadlines: Deadlines | None = None,
        keepalive: Keepalive | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        super().__init__(Role.CLIENT, transport, limits, deadlines, keepalive, tracer)
        self._connections: dict[int, _Connection] = {}
        self._by_stream: dict[int, _Connection] = {}
        self._next = 0
        self._opening = Queue()
        self._lingering = Queue()
        self._lingers: set[int] = set()
        self._doubtful, self._brief = Queue(), Queue()
        self._doubts: set[int] = set()
        self._unopened: set[int] = set()
        self._goaway = False
        self._now = 0.0

    # -- what the session is like --------------------------------------------------------------------------------------

    @property
    def connections(self) -> int:
        """Connections that are alive, those among them that were given up and are not over for the server."""
        return len(self._connections)

    @property
    def can_open(self) -> bool:
        """Whether one more connection can be opened now."""
        room = self._engine.open_streams + 2 <= self._limits.streams and len(self._unopened) < self._limits.connections
        return room and not self.over and not self._goaway and len(self._connections) < self._limits.connections

    def oldest_opening(self) -> int | None:
        """The connection that waits longest for the server's replies."""
        return min(self._unopened, default=None)

    # -- what the caller does -----------------------------------------------------------------------------------------

    def open(self, port: int, now: float) -> int:
        """Opens a connection to ``port`` of the pod and returns its number; ``Opened`` tells when data may flow.

        Raises LocalProtocolError when the session takes no more (see ``can_open``).
        """
        if not 0 < port < 65536:
            raise LocalProtocolError(f"port {port}; 1 to 65535 expected")
        if not self.can_open:
            raise LocalProtocolError(
                f"the session takes no more connections ({len(self._connections)} of {self._limits.connections}): "
                "open another one"
            )
        number = self._next
        headers = [("streamtype", _ERROR), ("port", str(port)), ("requestid", str(number))]
        error = self._engine.open_stream(headers)
        data = self._engine.open_stream([("streamtype", _DATA), *headers[1:]])
        self._next = number + 1
        connection = _Connection(number, port, error, data, {error, data})
        self._connections[number] = connection
        self._by_stream[error] = self._by_stream[data] = connection
        self._unopened.add(number)
        if self._deadlines.stream_reply is not None:
            self._opening.add(number, now + self._deadlines.stream_reply)
        return number

    def may_send(self, connection: int) -> bool:
        """Whether data can leave on this connection."""
        known = self._connections.get(connection)
        return known is not None and known.opened and not known.abandoned and self._may_send(known.data)

    def send(self, connection: int, data: Buffer) -> None:
        """Queues bytes, which must not change until they have left. Raises LocalProtocolError where ``may_send`` is
        False, OutputLimitExceeded when too much is queued."""
        self._engine.send_data(self._known(connection).data, data)

    def end(self, connection: int) -> list[ForwardEvent]:
        """Ends our direction: the pod reads an end of file. Answers what that completes. Raises LocalProtocolError
        where ``may_send`` is False."""
        known = self._known(connection)
        self._engine.end_stream(known.data)
        self._settle(known)
        return self._after([], self._now)

    def reset(self, connection: int) -> None:
        """Gives a connection up, in both directions. Nothing more is reported of it. Safe for one that is over."""
        known = self._connections.get(connection)
        if known is not None and not known.abandoned:
            self._abandon(known)

    def close(self) -> None:
        """Ends the session as Go's client does: RST_STREAM for what is open, GOAWAY. Nothing more is reported."""
        if self.over:
            return
        self.over = True
        for connection in self._connections.values():
            for stream_id in (connection.data, connection.error):
                if self._ours(stream_id) is Half.OPEN:
                    self._reset(stream_id)
        self._leave()

    def _known(self, connection: int) -> _Connection:
        known = self._connections.get(connection)
        if known is None or not known.opened or known.abandoned:
            raise LocalProtocolError(f"connection {connection} is over, or not open yet")
        return known

    # -- time --------------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` wants to be called next; None for never."""
        if self.over:
            return None
        return sooner(
            self._link.next_deadline(),
            self._opening.first(self._unopened),
            self._lingering.first(self._lingers),
            self._doubtful.first(self._doubts),
            self._brief.first(self._doubts),
        )

    def handle_timeout(
        self, now: float, *, output_blocked: bool = False, input_paused: bool = False
    ) -> list[ForwardEvent]:
        """Does what is due: a PING, or the end of waiting. With ``input_paused`` (the driver does not read), nothing
        that is missing proves anything, and the time starts anew."""
        if self.over:
            return []
        seconds = self._deadlines.stream_reply
        for number in self._opening.due(now):
            if number in self._unopened:
                assert seconds is not None
                if input_paused:
                    self._opening.add(number, now + seconds)
                else:
                    self._give_up(self._connections[number], f"the server did not accept it within {seconds:g} s")
        self._now = now
        for number in (*self._doubtful.due(now), *self._brief.due(now)):
            if number in self._doubts:
                self._believe(self._connections[number])
        for number in self._lingering.due(now):
            if number in self._lingers:
                self._settle(self._connections[number], patient=False)
        return self._after(self._link.handle_timeout(now, output_blocked=output_blocked or input_paused), now)

    # -- what the engine tells ---------------------------------------------------------------------------------------

    def _digest(self, below: list[Event], now: float) -> None:
        self._now = now
        events, by_stream = self._events, self._by_stream
        for event in below:
            if type(event) is DataReceived:
                connection = by_stream.get(event.stream_id)
                if connection is None:
                    continue
                if event.stream_id == connection.data:
                    if event.data and not connection.abandoned:
                        connection.received = True
                        events.append(Received(connection.number, event.data))
                    if event.fin:
                        self._on_data_end(connection)
                else:
                    self._on_error_data(connection, event)
            elif isinstance(event, StreamAccepted):
                self._on_accepted(event)
            elif isinstance(event, StreamReset):
                self._on_reset(event)
            elif isinstance(event, GoAwayReceived):
                self._goaway = True
            elif isinstance(event, ConnectionTerminated):
                self._on_terminated(event.error)

    def _on_accepted(self, event: StreamAccepted) -> None:
        connection = self._by_stream.get(event.stream_id)
        if connection is None or not connection.waiting:
            return
        connection.waiting.discard(event.stream_id)
        if event.stream_id == connection.error and self._may_send(connection.error):
            self._engine.end_stream(connection.error)  # nothing is ever written on it from here
        if connection.waiting:
            return
        self._unopened.discard(connection.number)
        if connection.abandoned:
            self._abandon(connection)  # now the streams can be reset
            return
        self._events.append(Opened(connection.number))
        if event.fin:
            self._on_end(connection, event.stream_id)

    def _on_end(self, connection: _Connection, stream_id: int) -> None:
        if stream_id == connection.data:
            self._on_data_end(connection)
        else:
            self._on_error_end(connection)

    def _on_data_end(self, connection: _Connection) -> None:
        connection.data_ended = True
        if connection.abandoned or connection.text:
            self._settle(connection)
        elif connection.error_ended:
            self._believe(connection)
        else:
            self._doubts.add(connection.number)
            queue, seconds = (self._brief, BRIEF_DOUBT) if connection.received else (self._doubtful, DOUBT_SECONDS)
            queue.add(connection.number, self._now + seconds)

    def _on_error_end(self, connection: _Connection) -> None:
        connection.error_ended = True
        if connection.number in self._doubts and not connection.text:
            self._believe(connection)
        else:
            self._settle(connection)

    def _believe(self, connection: _Connection) -> None:
        """The end of the data is what it seems to be."""
        self._doubts.discard(connection.number)
        if not connection.remote_ended and not connection.text:
            connection.remote_ended = True
            self._events.append(RemoteEnded(connection.number))
        self._settle(connection)

    def _on_error_data(self, connection: _Connection, event: DataReceived) -> None:
        room = self._limits.error_stream - len(connection.text)
        if event.data and room > 0:
            if not connection.text:
                self._linger(connection)
            connection.text += event.data[:room]
        if event.fin:
            self._on_error_end(connection)

    def _on_reset(self, event: StreamReset) -> None:
        connection = self._by_stream.get(event.stream_id)
        if connection is None:
            return
        if event.stream_id == connection.error:
            if event.stream_id not in connection.waiting:
                self._on_error_end(connection)
                return
            connection.error_ended = True
        connection.waiting.discard(event.stream_id)
        if connection.abandoned:
            self._abandon(connection)
            return
        if connection.data_ended and event.by_peer and not connection.text:
            # The pod's data has ended in order; that the server takes no more of ours is what a closed socket does.
            if not connection.remote_ended:
                self._events.append(RemoteEnded(connection.number))
            self._forget(connection)
            self._events.append(Finished(connection.number))
            return
        self._give_up(connection, self._reason(connection, event))

    def _reason(self, connection: _Connection, event: StreamReset) -> str:
        if connection.text:
            return ""
        status = RstStatus(event.status).name if event.status in list(RstStatus) else f"status {event.status}"
        if not event.by_peer:
            return f"the server broke the rules of its streams ({status})"
        if not connection.opened or event.stream_id == connection.error:
            return f"the server refused it ({status})"
        return f"the server reset it ({status})"

    def _on_terminated(self, error: ProtocolError | None) -> None:
        why = str(error) if error is not None else "the server ended the session"
        for connection in list(self._connections.values()):
            if connection.abandoned:
                continue
            if connection.data_ended and not connection.text and not connection.remote_ended:
                connection.remote_ended = True
                self._events.append(RemoteEnded(connection.number))
            if connection.remote_ended and not connection.text and self._ours(connection.data) is None:
                self._events.append(Finished(connection.number))
            else:
                self._give_up(connection, why)
        self._connections.clear()
        self._by_stream.clear()
        self.over = True
        self._events.append(SessionOver(error))

    # -- how a connection ends ---------------------------------------------------------------------------------------

    def _settle(self, connection: _Connection, *, patient: bool = True) -> None:
        """Ends the connection if everything that it owes is there."""
        if connection.abandoned:
            self._forget_if_gone(connection)
            return
        if connection.text:
            if connection.error_ended or not patient:
                self._give_up(connection, "")
        elif connection.remote_ended and self._ours(connection.data) is None:
            if connection.error_ended or not patient:
                self._reset(connection.error)
                self._forget(connection)
                self._events.append(Finished(connection.number))
            else:
                self._linger(connection)

    def _linger(self, connection: _Connection) -> None:
        """The end of the error stream is still owed, but not for long."""
        self._lingers.add(connection.number)
        self._lingering.add(connection.number, self._now + TEXT_SECONDS)

    def _give_up(self, connection: _Connection, why: str) -> None:
        text = bytes(connection.text).decode("utf-8", "replace")
        message = printable(text.strip(), limit=2000) if text.strip() else why
        error = ForwardingFailed(
            f"the connection to port {connection.port} failed: {message}", stream_id=connection.data, text=text
        )
        self._abandon(connection)
        self._events.append(Failed(connection.number, error))

    def _abandon(self, connection: _Connection) -> None:
        """Resets what can be reset, and forgets the connection once its streams are over."""
        connection.abandoned = True
        self._lingers.discard(connection.number)
        self._doubts.discard(connection.number)
        self._unopened.discard(connection.number)
        if not connection.waiting:
            self._reset(connection.data)
            self._reset(connection.error)
        self._forget_if_gone(connection)

    def _forget_if_gone(self, connection: _Connection) -> None:
        if self._ours(connection.data) is None and self._ours(connection.error) is None:
            self._forget(connection)

    def _forget(self, connection: _Connection) -> None:
        self._connections.pop(connection.number, None)
        self._unopened.discard(connection.number)
        self._lingers.discard(connection.number)
        self._doubts.discard(connection.number)
        self._by_stream.pop(connection.data, None)
        self._by_stream.pop(connection.error, None)

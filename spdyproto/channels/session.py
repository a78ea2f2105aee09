"""The remote-command session: exec and attach over SPDY, for the client and for the server.

Theory of operation. The client opens a stream for each thing it asked for, each marked by its ``streamtype`` header,
and may send nothing on them before the server's SYN_REPLY (a Go server drops data that comes earlier, in silence). All
SYN_STREAMs leave together: replies come in one round trip, and nothing in the protocol orders one behind another's
reply. When every reply is there the session is *ready*; stdin flows, outputs come, and at the end the error stream
tells how the command ended.

What proves completion is the heart of it. With v4 (and v5, which over SPDY is v4): a status was received and every
output ended. Before v4 the error stream holds text, and only on failure, so the proof is that all streams ended with
the error stream empty. Streams end by FIN, by RST_STREAM(CANCEL), which is how Go's server ends most of them, and
under v4 also by GOAWAY, which a server sends after the last byte. v1 has a quirk of its own: its server resets the
error stream before the command runs and writes a failure on it all the same, so there the error stream ends with
GOAWAY alone. The mere end of the connection ends no output: a proxy or a dying kubelet looks the same. Whatever is
missing then is named in ``Lost``; nothing is ever a success without the proof.

Sources: ``cri-streaming: pkg/streaming/remotecommand/httpstream.go``, ``client-go: tools/remotecommand/{v2,v4}.go``.
"""

from __future__ import annotations

from spdyproto.channels._session import OUTPUTS, SessionBase, expected_kinds
from spdyproto.channels.events import (
    Exited,
    Lost,
    Output,
    OutputEnded,
    Ready,
    Resized,
    SessionEvent,
    Stdin,
    StdinEnded,
    StreamKind,
    StreamSet,
)
from spdyproto.channels.resize import ResizeDecoder, encode_resize
from spdyproto.channels.status import ExitStatus, decode_status, encode_status
from spdyproto.channels.subprotocols import Subprotocol
from spdyproto.errors import (
    LimitExceeded,
    LocalProtocolError,
    OutputLimitExceeded,
    PeerClosed,
    PeerTimeout,
    ProtocolError,
    RemoteProtocolError,
    StatusError,
    StreamClosedError,
)
from spdyproto.limits import Deadlines, Keepalive, Limits
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
from spdyproto.types import Buffer, Role, Tracer

_KINDS = {kind.value: kind for kind in StreamKind}


class ClientSession(SessionBase):
    """The client's end. Feed it bytes and time, write stdin, and wait for ``outcome``.

    ``outcome`` is set exactly once, together with the last event: ``Exited`` with the proof of completion, else
    ``Lost``. After it (and after ``close``) nothing more is reported and nothing can be written.
    """

    def __init__(
        self,
        version: Subprotocol,
        streams: StreamSet,
        *,
        limits: Limits | None = None,
        deadlines: Deadlines | None = None,
        keepalive: Keepalive | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        super().__init__(Role.CLIENT, version, streams, limits, deadlines, keepalive, tracer)
        self.outcome: Exited | Lost | None = None
        self._unanswered: set[int] = set()
        self._open_outputs = {kind for kind in OUTPUTS if getattr(streams, kind.value)}
        self._error_body = bytearray()
        self._error_ended = False
        self._status: ExitStatus | None = None
        self._draining = False
        self._goaway = False
        self._closed = False
        self.stdin_open = streams.stdin
        """False once stdin was ended here, or the server reads no more of it, or the session is over."""

    def start(self, now: float) -> None:
        """Opens the streams. Nothing may be sent before the whole head of the 101 was read: proxies drop such bytes."""
        self._engine.start(now)
        for kind in expected_kinds(self.version, self.streams):
            stream_id = self._engine.open_stream([("streamtype", kind.value)])
            self._ids[kind] = stream_id
            self._kinds[stream_id] = kind
            self._unanswered.add(stream_id)
        self.received = dict.fromkeys((StreamKind.ERROR, *OUTPUTS), 0)
        self.sent = {StreamKind.STDIN: 0}
        self._arm(self._deadlines.stream_reply, now)

    # -- receiving ---------------------------------------------------------------------------------------------------

    def receive_data(self, data: Buffer, now: float) -> list[SessionEvent]:
        """Bytes from the transport. ``Output.data`` are views of ``data``: they live until the next call."""
        return self._digest(self._engine.receive_data(data, now), now)

    def receive_eof(self, now: float, *, clean: bool) -> list[SessionEvent]:
        """The transport ended; ``clean`` when by FIN or close_notify rather than by a cut."""
        return self._digest(self._engine.receive_eof(now, clean=clean), now)

    def handle_timeout(
        self, now: float, *, output_blocked: bool = False, input_paused: bool = False
    ) -> list[SessionEvent]:
        """Does what is due at ``now``: a PING, or the end of waiting for what the peer owes.

        ``output_blocked``: the transport takes nothing, so a missing pong proves nothing. ``input_paused``: the driver
        itself does not read (a slow consumer), so nothing that is missing proves anything.
        """
        events: list[SessionEvent] = []
        if self._deadline is not None and now >= self._deadline and not self._over:
            if input_paused:
                self._rearm(now)
            else:
                self._lose(PeerTimeout(self._overdue()), events)
                return events
        return self._digest(self._engine.handle_timeout(now, output_blocked=output_blocked or input_paused), now)

    @property
    def _over(self) -> bool:
        return self.outcome is not None or self._closed

    def _digest(self, below: list[Event], now: float) -> list[SessionEvent]:
        events: list[SessionEvent] = []
        if self._over:
            return events
        kinds, received = self._kinds, self.received
        for event in below:
            if type(event) is DataReceived:
                kind = kinds.get(event.stream_id)
                if kind is None:
                    continue  # a stream that the server opened: see _on_event
                if kind is StreamKind.STDOUT or kind is StreamKind.STDERR:
                    if event.data:
                        received[kind] += len(event.data)
                        events.append(Output(kind, event.data))
                elif kind is StreamKind.ERROR:
                    self._on_error_data(event.data, events)
                # Bytes on stdin or resize have no meaning; Go's client discards them too.
                if event.fin:
                    self._on_stream_end(kind, events)
            else:
                self._on_event(event, events, now)
            if self.outcome is not None:
                return events
        if below:
            self._conclude(events, now)
        return events

    def _on_event(self, event: Event, events: list[SessionEvent], now: float) -> None:
        if isinstance(event, StreamAccepted):
            self._unanswered.discard(event.stream_id)
            if not self._unanswered and not self.ready:
                self.ready = True
                self._deadline = None
                events.append(Ready())
            if event.fin:
                self._on_stream_end(self._kinds[event.stream_id], events)
        elif isinstance(event, StreamReset):
            self._on_reset(event, events)
        elif isinstance(event, DataAfterReset):
            if self.version is Subprotocol.V1 and self._kinds.get(event.stream_id) is StreamKind.ERROR:
                self._on_error_data(event.data, events)
        elif isinstance(event, GoAwayReceived):
            self._goaway = True
        elif isinstance(event, ConnectionTerminated):
            self._on_terminated(event, events, now)
        # StreamOpened: a server has nothing to open here. Left without a reply such a stream carries nothing, and the
        # engine refuses them beyond its limit.

    def _on_reset(self, event: StreamReset, events: list[SessionEvent]) -> None:
        kind = self._kinds.get(event.stream_id)
        if kind is None:
            return
        status = _status_name(event.status)
        if not event.by_peer:
            self._lose(PeerClosed(f"the server broke the rules of the {kind.value} stream ({status})"), events)
        elif event.stream_id in self._unanswered:
            self._lose(PeerClosed(f"the server refused the {kind.value} stream ({status})"), events)
        elif event.status != RstStatus.CANCEL and kind in (StreamKind.ERROR, *self._open_outputs):
            self._lose(PeerClosed(f"the server aborted the {kind.value} stream ({status})"), events)
        elif kind is not StreamKind.ERROR or self.version is not Subprotocol.V1:
            self._on_stream_end(kind, events)
            if kind is StreamKind.STDIN and self.stdin_open:
                self.stdin_open = False
                events.append(StdinEnded())

    def _on_stream_end(self, kind: StreamKind, events: list[SessionEvent]) -> None:
        if kind is StreamKind.ERROR:
            self._error_ended = True
        elif kind in self._open_outputs:
            self._open_outputs.discard(kind)
            events.append(OutputEnded(kind))

    def _on_error_data(self, data: memoryview, events: list[SessionEvent]) -> None:
        self.received[StreamKind.ERROR] += len(data)
        if len(self._error_body) + len(data) > self._limits.error_stream:
            limit = self._limits.error_stream
            self._lose(LimitExceeded(f"the error stream holds more than {limit} bytes, which no status does"), events)
            return
        self._error_body += data

    def _on_terminated(self, event: ConnectionTerminated, events: list[SessionEvent], now: float) -> None:
        json_status = self.version.has_json_status
        if self._goaway and event.error is None:
            if json_status:
                for kind in sorted(self._open_outputs):
                    self._on_stream_end(kind, events)
            elif self.version is Subprotocol.V1:
                self._error_ended = True
        if json_status and (event.error is None or isinstance(event.error, PeerClosed)):
            # A status is a whole JSON document or an error: the end of the connection can hide no part of it.
            self._error_ended = True
        self._conclude(events, now)
        if self.outcome is None:
            error = event.error
            if not isinstance(error, RemoteProtocolError):
                error = PeerClosed("the server closed the connection")
            self._lose(error, events)

    def _conclude(self, events: list[SessionEvent], now: float) -> None:
        """Ends the session if the proof of completion is there, else sets the deadline for what is missing."""
        if self._over or not self.ready:
            return
        if self._error_ended and self._status is None and not self._take_status(events):
            return
        if self._status is not None and not self._open_outputs:
            self.outcome = Exited(self._status)
            self._finish()
            events.append(self.outcome)
        elif self._error_ended:
            # Only output counts as progress: the answers to our PINGs must not put the deadline off for ever.
            if not self._draining or any(isinstance(event, Output | OutputEnded) for event in events):
                self._draining = True
                self._arm(self._deadlines.drain, now)
        elif not self._open_outputs and (self.streams.stdout or self.streams.stderr) and self._deadline is None:
            self._arm(self._deadlines.status, now)

    def _take_status(self, events: list[SessionEvent]) -> bool:
        """Decodes the error stream that has ended; False, with the session lost, if it holds no status."""
        try:
            self._status = decode_status(self.version, bytes(self._error_body))
        except StatusError as error:
            self._lose(error, events)
            return False
        return True

    # -- the end -----------------------------------------------------------------------------------------------------

    def _lose(self, error: RemoteProtocolError, events: list[SessionEvent]) -> None:
        if self.outcome is None:
            told = type(error)(f"{error} [{self.ledger()}]", stream_id=error.stream_id)
            told.__cause__ = error.__cause__
            self.outcome = Lost(told)
            self._finish()
            events.append(self.outcome)

    def _finish(self) -> None:
        self._deadline = None
        self.stdin_open = False

    def ledger(self) -> str:
        """What was received, sent, and is still owed, in words."""
        parts = []
        for kind in OUTPUTS:
            if getattr(self.streams, kind.value):
                state = "not ended" if kind in self._open_outputs else "ended"
                parts.append(f"{self.received.get(kind, 0)} bytes of {kind.value} ({state})")
        text = "received " + (" and ".join(parts) if parts else "no output, as none was asked for")
        if self.streams.stdin:
            text += f"; sent {self.sent.get(StreamKind.STDIN, 0)} bytes of stdin"
        owed = [f"the reply for {self._kinds[i].value}" for i in sorted(self._unanswered)]
        owed += [f"the end of {kind.value}" for kind in OUTPUTS if kind in self._open_outputs]
        if self._status is None:
            owed.append("the exit status")
        return f"{text}; owed: {', '.join(owed) or 'nothing'}"

    def _overdue(self) -> str:
        if self._unanswered:
            return f"no SYN_REPLY within {self._deadlines.stream_reply:g} s"
        if self._error_ended:
            return f"the status came, but the outputs did not end within {self._deadlines.drain:g} s"
        return f"every output ended, but no status came within {self._deadlines.status:g} s"

    def _arm(self, seconds: float | None, now: float) -> None:
        self._deadline = None if seconds is None else now + seconds

    def _rearm(self, now: float) -> None:
        deadlines = self._deadlines
        if self._unanswered:
            self._arm(deadlines.stream_reply, now)
        else:
            self._arm(deadlines.drain if self._error_ended else deadlines.status, now)

    # -- sending -----------------------------------------------------------------------------------------------------

    def write_stdin(self, data: Buffer) -> None:
        """Queues bytes for the command; ``data`` must not change until ``data_to_send`` handed it out and it was
        written.

        Raises ``LocalProtocolError`` before ``Ready`` or without stdin, ``StreamClosedError`` once ``stdin_open`` is
        False, ``OutputLimitExceeded`` when too much is queued.
        """
        self._require_stdin()
        self._send(StreamKind.STDIN, data)

    def close_stdin(self) -> None:
        """Half-close: the command sees the end of its input; outputs go on. Raises as ``write_stdin``.

        With a terminal, containerd stops the output too (``containerd: internal/cri/io/exec_io.go``), so callers should
        not do it there.
        """
        self._require_stdin()
        self._send(StreamKind.STDIN, b"", fin=True)
        self.stdin_open = False

    def _require_stdin(self) -> None:
        if not self.streams.stdin:
            raise LocalProtocolError("the session was opened without stdin")
        if not self.stdin_open:
            raise StreamClosedError("stdin is over: it was closed here, or the command reads no more of it")
        if not self.ready:
            raise LocalProtocolError("stdin may not flow before the server has replied to every stream")

    def resize(self, width: int, height: int) -> None:
        """Tells the terminal's size in characters. Raises ``LocalProtocolError`` where there is no resize stream."""
        if StreamKind.RESIZE not in self._ids:
            raise LocalProtocolError(
                "the session has no resize stream: it needs tty=True and v3.channel.k8s.io or later"
            )
        if not self.ready:
            raise LocalProtocolError("a size may not be sent before the server has replied to every stream")
        data = encode_resize(width, height)
        if self._may_send(StreamKind.RESIZE) and not self._over:
            self._send(StreamKind.RESIZE, data)

    def close(self) -> None:
        """Leaves: queues the end of every stream and GOAWAY, and reports nothing more. The command may go on running.

        Safe at any time, also after the outcome, and twice.
        """
        self._closed = True
        self._finish()
        if not self._engine.terminated:
            self._reset_all()
            self._engine.go_away()


class ServerSession(SessionBase):
    """The server's end: waits for the client's streams, then carries outputs, stdin and the status."""

    def __init__(
        self,
        version: Subprotocol,
        streams: StreamSet,
        *,
        limits: Limits | None = None,
        deadlines: Deadlines | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        super().__init__(Role.SERVER, version, streams, limits, deadlines, None, tracer)
        self._expected = len(expected_kinds(version, streams))
        self._replies = 0
        self._resizes = ResizeDecoder(self._limits.resize_buffer)
        self._stdin_ended = False
        self.finished = False
        """True once ``finish`` queued the end of the session."""
        self.lost = False
        """True once the client is gone."""

    def start(self, now: float) -> None:
        """Starts the clock of the streams that the client owes. The server sends nothing before the client's first
        frame."""
        self._engine.start(now)
        seconds = self._deadlines.streams
        self._deadline = None if seconds is None else now + seconds

    def receive_data(self, data: Buffer, now: float) -> list[SessionEvent]:
        """Bytes from the transport. ``Stdin.data`` are views of ``data``: they live until the next call."""
        return self._digest(self._engine.receive_data(data, now))

    def receive_eof(self, now: float, *, clean: bool) -> list[SessionEvent]:
        """The transport ended; ``clean`` when by FIN or close_notify rather than by a cut."""
        return self._digest(self._engine.receive_eof(now, clean=clean))

    def handle_timeout(
        self, now: float, *, output_blocked: bool = False, input_paused: bool = False
    ) -> list[SessionEvent]:
        """Ends the session when the client has not opened its streams in time."""
        if self._deadline is not None and now >= self._deadline and not self.lost:
            have = ", ".join(kind.value for kind in self._ids) or "none"
            seconds = self._deadlines.streams
            return self._lose(PeerTimeout(f"{self._expected} streams expected within {seconds:g} s; opened: {have}"))
        return self._digest(self._engine.handle_timeout(now, output_blocked=output_blocked or input_paused))

    def _digest(self, below: list[Event]) -> list[SessionEvent]:
        events: list[SessionEvent] = []
        for event in below:
            if self.lost:
                break
            if type(event) is DataReceived:
                self._on_data(event, events)
            elif isinstance(event, StreamOpened):
                self._on_opened(event, events)
            elif isinstance(event, StreamReset):
                if self._ids.get(StreamKind.STDIN) == event.stream_id:
                    self._end_stdin(events)
            elif isinstance(event, ConnectionTerminated):
                gone = PeerClosed("the client closed the connection before the command ended")
                events += self._lose(gone if event.error is None else event.error)
        return events

    def _lose(self, error: ProtocolError) -> list[SessionEvent]:
        self.lost = True
        self._deadline = None
        return [] if self.finished else [Lost(error)]

    def _end_stdin(self, events: list[SessionEvent]) -> None:
        if not self._stdin_ended:
            self._stdin_ended = True
            events.append(StdinEnded())

    def _on_data(self, event: DataReceived, events: list[SessionEvent]) -> None:
        if event.stream_id == self._ids.get(StreamKind.STDIN):
            if event.data:
                self.received[StreamKind.STDIN] = self.received.get(StreamKind.STDIN, 0) + len(event.data)
                events.append(Stdin(event.data))
            if event.fin:
                self._end_stdin(events)
        elif event.stream_id == self._ids.get(StreamKind.RESIZE):
            events.extend(Resized(width, height) for width, height in self._resizes.feed(event.data))

    def _on_opened(self, event: StreamOpened, events: list[SessionEvent]) -> None:
        """Counts replies, not kinds, as the real server: a repeated kind replaces the earlier stream and still counts.

        Streams beyond the expected number get no reply; unknown kinds are replied to and not counted.
        """
        view = self._engine.stream(event.stream_id)
        if self.ready or self.finished or not isinstance(view, StreamView) or self._engine.terminated:
            return  # the same buffer may hold the end of the stream, or of the connection
        if view.ours is not Half.AWAITING_REPLY:
            return  # unidirectional: there is no half on which to reply
        name = next((value for key, value in event.headers if key == "streamtype"), "")
        try:
            self._engine.accept_stream(event.stream_id)
        except OutputLimitExceeded:
            limit = self._limits.queued_bytes
            events += self._lose(LimitExceeded(f"the client opened streams without reading {limit} bytes of replies"))
            return
        kind = _KINDS.get(name)
        if kind is None:
            return
        self._ids[kind] = event.stream_id
        self._kinds[event.stream_id] = kind
        self._replies += 1
        if self._replies == self._expected:
            self.ready = True
            self._deadline = None
            events.append(Ready())
        if event.fin and kind is StreamKind.STDIN:
            self._end_stdin(events)

    def can_write(self, kind: StreamKind) -> bool:
        """Whether the client still takes this output."""
        return self._may_send(kind)

    def write(self, kind: StreamKind, data: Buffer) -> bool:
        """Queues output; ``data`` must not change until it has left. False, and nothing queued, if the client is gone
        or takes no more of this output. Raises ``OutputLimitExceeded`` when too much is queued."""
        if not self._may_send(kind):
            return False
        self._send(kind, data)
        return True

    def end_output(self, kind: StreamKind) -> None:
        """Ends an output with FIN. Nothing happens if it is over already."""
        if self._may_send(kind):
            self._send(kind, b"", fin=True)

    def finish(self, status: ExitStatus | bytes) -> None:
        """Queues the end as Go's server does: the status, RST_STREAM(CANCEL) for what has no FIN of ours, GOAWAY.

        Raises ``OutputLimitExceeded``, with nothing done, when too much is queued: send it, then finish.
        ``bytes`` are sent as they are. Nothing happens the second time, or when the client is gone.
        """
        if self.finished or self._engine.terminated:
            self.finished = True
            return
        body = status if isinstance(status, bytes) else encode_status(self.version, status)
        if body and self._may_send(StreamKind.ERROR):
            self._send(StreamKind.ERROR, body)
        self.finished = True
        self._reset_all()
        self._engine.go_away()


def _status_name(status: int) -> str:
    try:
        return RstStatus(status).name
    except ValueError:
        return f"status {status}"

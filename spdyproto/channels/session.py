"""The remote-command session: exec and attach, for the client and for the server, whatever carries it.

Theory of operation. Over SPDY the client opens a stream for each thing it asked for, each marked by its ``streamtype``
header, and may send nothing on them before the server's SYN_REPLY (a Go server drops data that comes earlier, in
silence). All SYN_STREAMs leave together: replies come in one round trip, and nothing in the protocol orders one behind
another's reply. Over WebSocket every channel exists from the start. Once the session is *ready*, stdin flows, outputs
come, and at the end the error stream tells how the command ended. How streams lie on the wire is the business of the
carriers (``_spdy``, ``_websocket``); what they mean is decided here, once.

What proves completion is the heart of it. With v4 (and v5, which over SPDY is v4): a status was received and every
output ended. Before v4 the error stream holds text, and only on failure, so the proof is that all streams ended with
the error stream empty. Streams end by FIN, by RST_STREAM(CANCEL), which is how Go's server ends most of them, and
under v4 also by GOAWAY, which a server sends after the last byte. v1 has a quirk of its own: its server resets the
error stream before the command runs and writes a failure on it all the same, so there the error stream ends with
GOAWAY alone. Over WebSocket the Close frame ends them all; before v4 it proves nothing, since silence on the error
channel is all that success and loss say there, and the outcome is *unknown*. The mere end of the connection ends no
output: a proxy or a dying kubelet looks the same. Whatever is missing then is named in ``Lost``; nothing is ever a
success without the proof.

Sources: ``cri-streaming: pkg/streaming/remotecommand/httpstream.go``, ``client-go: tools/remotecommand/{v2,v4}.go``.
"""

from __future__ import annotations

from spdyproto.channels._carrier import Carrier, expected_kinds
from spdyproto.channels._spdy import SpdyClientCarrier, SpdyServerCarrier
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
    Transport,
)
from spdyproto.channels.resize import ResizeDecoder, encode_resize
from spdyproto.channels.status import ExitStatus, decode_status, encode_status
from spdyproto.channels.subprotocols import Subprotocol
from spdyproto.errors import (
    LimitExceeded,
    LocalProtocolError,
    OutcomeUnknown,
    PeerClosed,
    PeerTimeout,
    ProtocolError,
    RemoteProtocolError,
    StatusError,
    StreamClosedError,
)
from spdyproto.limits import Deadlines, Keepalive, Limits
from spdyproto.types import Buffer, Policy, Tracer

_STDOUT, _STDERR = _OUTPUTS = (StreamKind.STDOUT, StreamKind.STDERR)


class _Session:
    """What both roles share: the carrier below, the clock, the events of the call under way, and the counters."""

    def __init__(
        self,
        version: Subprotocol,
        streams: StreamSet,
        transport: Transport,
        carrier: Carrier,
        limits: Limits,
        deadlines: Deadlines | None,
    ) -> None:
        self.version = version
        self.streams = streams
        self.transport = transport
        self._carrier = carrier
        self._limits = limits
        self._deadlines = deadlines or Deadlines()
        self._deadline: float | None = None
        self._events: list[SessionEvent] = []
        self.ready = False
        """True from ``Ready`` on."""
        self.received: dict[StreamKind, int] = {}
        """Payload bytes that came, by stream."""
        self.sent: dict[StreamKind, int] = {}
        """Payload bytes accepted for sending, by stream."""

    @property
    def pending_bytes(self) -> int:
        """Bytes accepted and not yet handed out by ``data_to_send``."""
        return self._carrier.pending_bytes

    def data_to_send(self) -> list[Buffer]:
        """Segments to write, in order and unjoined; the caller owns them."""
        return self._carrier.data_to_send()

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` wants to be called, in the clock of ``now``; None for never."""
        below = self._carrier.next_deadline()
        if self._deadline is None or below is None:
            return below if self._deadline is None else self._deadline
        return min(below, self._deadline)

    def _arm(self, seconds: float | None, now: float) -> None:
        self._deadline = None if seconds is None else now + seconds

    def _send(self, kind: StreamKind, data: Buffer) -> None:
        self._carrier.send(kind, data)
        self.sent[kind] = self.sent.get(kind, 0) + memoryview(data).nbytes

    def _take_events(self) -> list[SessionEvent]:
        events, self._events = self._events, []
        return events

    def _become_ready(self) -> None:
        self.ready = True
        self._deadline = None
        self._events.append(Ready())


class ClientSession(_Session):
    """The client's end. Feed it bytes and time, write stdin, and wait for ``outcome``.

    ``outcome`` is set exactly once, together with the last event: ``Exited`` with the proof of completion, else
    ``Lost``. After it (and after ``close``) nothing more is reported and nothing can be written.
    """

    def __init__(
        self,
        version: Subprotocol,
        streams: StreamSet,
        *,
        transport: Transport = Transport.SPDY,
        limits: Limits | None = None,
        deadlines: Deadlines | None = None,
        keepalive: Keepalive | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        limits = limits or Limits()
        carrier: Carrier
        if transport is Transport.SPDY:
            carrier = SpdyClientCarrier(version, limits, keepalive, tracer)
        else:
            from spdyproto.channels._websocket import WebSocketClientCarrier  # a SPDY session does not pay for it

            base64 = transport is Transport.WEBSOCKET_BASE64
            carrier = WebSocketClientCarrier(version, limits, keepalive, tracer, base64=base64)
        super().__init__(version, streams, transport, carrier, limits, deadlines)
        self.outcome: Exited | Lost | None = None
        self._open_outputs = {kind for kind in _OUTPUTS if getattr(streams, kind.value)}
        self._error_body = bytearray()
        self._error_ended = False
        self._status: ExitStatus | None = None
        self._no_status: RemoteProtocolError | None = None
        self._draining = False
        self.deaf = False
        """Whether the session is over, so that nothing more is reported."""
        self.stdin_open = streams.stdin
        """False once stdin was ended here, or the server reads no more of it, or the session is over."""

    @property
    def can_close_stdin(self) -> bool:
        """Whether the protocol has an end of stdin: over SPDY always, over WebSocket in v5 only."""
        return self._carrier.half_close

    def start(self, now: float) -> list[SessionEvent]:
        """Opens the streams; over WebSocket the session is ready at once.

        Nothing may be sent before the whole head of the 101 was read: proxies drop such bytes.
        """
        self.received = dict.fromkeys((StreamKind.ERROR, *_OUTPUTS), 0)
        self.sent = {StreamKind.STDIN: 0}
        if self._carrier.start(expected_kinds(self.version, self.streams, self.transport), now):
            self._become_ready()
        else:
            self._arm(self._deadlines.stream_reply, now)
        return self._take_events()

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` wants to be called; None for never, as after the outcome."""
        if self.deaf:
            return None
        below, own = self._carrier.next_deadline(), self._deadline
        return below if own is None or (below is not None and below < own) else own

    # -- receiving ---------------------------------------------------------------------------------------------------

    def receive_data(self, data: Buffer, now: float) -> list[SessionEvent]:
        """Bytes from the transport. ``Output.data`` are views of ``data``: they live until the next call."""
        if self.deaf:
            return []
        return self._after(self._carrier.receive_data(data, now, self), now)

    def receive_eof(self, now: float, *, clean: bool) -> list[SessionEvent]:
        """The transport ended; ``clean`` when by FIN or close_notify rather than by a cut."""
        if self.deaf:
            return []
        return self._after(self._carrier.receive_eof(now, clean, self), now)

    def handle_timeout(
        self, now: float, *, output_blocked: bool = False, input_paused: bool = False
    ) -> list[SessionEvent]:
        """Does what is due at ``now``: a PING, or the end of waiting for what the peer owes.

        ``output_blocked``: the transport takes nothing, so a missing pong proves nothing. ``input_paused``: the driver
        itself does not read (a slow consumer), so nothing that is missing proves anything.
        """
        if self.deaf:
            return []
        if self._deadline is not None and now >= self._deadline:
            if input_paused:
                self._rearm(now)
            else:
                self.heard_fault(self._no_status or PeerTimeout(self._overdue()))
                return self._take_events()
        return self._after(self._carrier.handle_timeout(now, output_blocked or input_paused, self), now)

    def _after(self, anything: bool, now: float) -> list[SessionEvent]:
        if anything and self.ready and not self.deaf:
            self._set_deadline(now)
        return self._take_events()

    # -- what the carrier heard (not for callers) --------------------------------------------------------------------

    def heard_ready(self) -> None:
        """Every stream is open on both sides."""
        self._become_ready()
        self._settle()

    def heard(self, kind: StreamKind, data: memoryview) -> None:
        """Payload of an output or of the error stream; on other streams it has no meaning, as for Go's client."""
        if kind is _STDOUT or kind is _STDERR:
            self.received[kind] += len(data)
            self._events.append(Output(kind, data))
        elif kind is StreamKind.ERROR:
            self.received[kind] += len(data)
            if len(self._error_body) + len(data) > self._limits.error_stream:
                limit = self._limits.error_stream
                self.heard_fault(LimitExceeded(f"the error stream holds more than {limit} bytes, which no status does"))
                return
            self._error_body += data

    def heard_end(self, kind: StreamKind) -> None:
        """A stream ended, by an end mark of the server."""
        if kind is StreamKind.ERROR:
            self._end_error_stream()
        elif kind in self._open_outputs:
            self._open_outputs.discard(kind)
            self._events.append(OutputEnded(kind))
        self._settle()

    def heard_refusal(self) -> None:
        """The server takes no more stdin."""
        if self.stdin_open:
            self.stdin_open = False
            self._events.append(StdinEnded())

    def heard_fault(self, error: RemoteProtocolError) -> None:
        """The session cannot go on."""
        if self.outcome is None:
            told = type(error)(f"{error} [{self.ledger()}]", stream_id=error.stream_id)
            told.__cause__ = error.__cause__
            self.outcome = Lost(told)
            self._finish()
            self._events.append(self.outcome)

    def heard_over(self, error: ProtocolError | None) -> None:
        """The connection is over: either everything owed is there by now, or it never comes."""
        if self.version.has_json_status and (error is None or isinstance(error, PeerClosed)):
            # A status is a whole JSON document or an error: the end of the connection can hide no part of it.
            self._end_error_stream()
            self._settle()
        if not isinstance(error, RemoteProtocolError):
            error = PeerClosed("the server closed the connection")
        self.heard_fault(self._no_status or error)

    def _settle(self) -> None:
        """Ends the session if everything owed is there. Called at each end mark rather than once for each buffer, so
        that it makes no difference in what pieces the bytes came."""
        if self.deaf or not self.ready or not self._error_ended or self._open_outputs:
            return
        if self._status is None:
            assert self._no_status is not None, "the error stream has ended"
            self.heard_fault(self._no_status)
            return
        self.outcome = Exited(self._status)
        self._finish()
        self._events.append(self.outcome)

    def _set_deadline(self, now: float) -> None:
        """For what is missing, if the end has begun."""
        if self._error_ended:
            # Only output counts as progress: the answers to our PINGs must not put the deadline off for ever.
            if not self._draining or any(isinstance(event, Output | OutputEnded) for event in self._events):
                self._draining = True
                self._arm(self._deadlines.drain, now)
        elif not self._open_outputs and (self.streams.stdout or self.streams.stderr) and self._deadline is None:
            self._arm(self._deadlines.status, now)

    def _end_error_stream(self) -> None:
        """Decodes it. What is no status is a loss, but not before the outputs have ended: they may still come."""
        if self._error_ended:
            return
        self._error_ended = True
        body = bytes(self._error_body)
        if not body and not self.version.has_json_status and self.transport is not Transport.SPDY:
            self._no_status = OutcomeUnknown(
                f"{self.version.value} over WebSocket tells failures only: the command succeeded, or its failure "
                "was lost. v4.channel.k8s.io tells which"
            )
            return
        try:
            self._status = decode_status(self.version, body)
        except StatusError as error:
            self._no_status = error

    # -- the end -----------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        self.deaf = True
        self._deadline = None
        self.stdin_open = False

    def ledger(self) -> str:
        """What was received, sent, and is still owed, in words."""
        parts = []
        for kind in _OUTPUTS:
            if getattr(self.streams, kind.value):
                state = "not ended" if kind in self._open_outputs else "ended"
                parts.append(f"{self.received.get(kind, 0)} bytes of {kind.value} ({state})")
        text = "received " + (" and ".join(parts) if parts else "no output, as none was asked for")
        if self.streams.stdin:
            text += f"; sent {self.sent.get(StreamKind.STDIN, 0)} bytes of stdin"
        owed = self._carrier.waiting_for()
        owed += [f"the end of {kind.value}" for kind in _OUTPUTS if kind in self._open_outputs]
        if self._status is None:
            owed.append("the exit status")
        return f"{text}; owed: {', '.join(owed) or 'nothing'}"

    def _overdue(self) -> str:
        if not self.ready:
            return f"no SYN_REPLY within {self._deadlines.stream_reply:g} s"
        if self._error_ended:
            return f"the status came, but the outputs did not end within {self._deadlines.drain:g} s"
        return f"every output ended, but no status came within {self._deadlines.status:g} s"

    def _rearm(self, now: float) -> None:
        deadlines = self._deadlines
        if not self.ready:
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
        """Half-close: the command sees the end of its input; outputs go on. Raises as ``write_stdin``, and
        ``HalfCloseUnsupported`` where the protocol has no end of stdin (see ``can_close_stdin``).

        With a terminal, containerd stops the output too (``containerd: internal/cri/io/exec_io.go``), so callers should
        not do it there.
        """
        self._require_stdin()
        self._carrier.end(StreamKind.STDIN)
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
        if not self._carrier.has(StreamKind.RESIZE):
            raise LocalProtocolError(
                "the session has no resize stream: it needs tty=True and v3.channel.k8s.io or later"
            )
        if not self.ready:
            raise LocalProtocolError("a size may not be sent before the server has replied to every stream")
        data = encode_resize(width, height)
        if self._carrier.may_send(StreamKind.RESIZE) and not self.deaf:
            self._send(StreamKind.RESIZE, data)

    def close(self) -> None:
        """Leaves: queues the end of every stream and GOAWAY, and reports nothing more. The command may go on running.

        Safe at any time, also after the outcome, and twice.
        """
        self._finish()
        self._carrier.leave()


class ServerSession(_Session):
    """The server's end: waits for the client's streams, then carries outputs, stdin and the status. ``policy``
    ``STRICT`` is SPDY/3.1 to the letter, and WebSocket messages made whole: Go's server takes a frame for one."""

    def __init__(
        self,
        version: Subprotocol,
        streams: StreamSet,
        *,
        transport: Transport = Transport.SPDY,
        limits: Limits | None = None,
        deadlines: Deadlines | None = None,
        policy: Policy = Policy.KUBERNETES,
        tracer: Tracer | None = None,
    ) -> None:
        limits = limits or Limits()
        carrier: Carrier
        if transport is Transport.SPDY:
            carrier = SpdyServerCarrier(version, limits, tracer, policy)
        else:
            from spdyproto.channels._websocket import WebSocketServerCarrier

            base64 = transport is Transport.WEBSOCKET_BASE64
            per_frame = policy is Policy.KUBERNETES
            carrier = WebSocketServerCarrier(version, limits, tracer, base64=base64, per_frame=per_frame)
        super().__init__(version, streams, transport, carrier, limits, deadlines)
        self._resizes = ResizeDecoder(limits.resize_buffer)
        self._stdin_ended = False
        self.finished = False
        """True once ``finish`` queued the end of the session."""
        self.lost = False
        """True once the client is gone."""

    def start(self, now: float) -> list[SessionEvent]:
        """Starts the clock of the streams that the client owes. Over SPDY the server sends nothing before the client's
        first frame; over WebSocket it greets, and the session is ready at once."""
        if self._carrier.start(expected_kinds(self.version, self.streams, self.transport), now):
            self._become_ready()
        else:
            self._arm(self._deadlines.streams, now)
        return self._take_events()

    def receive_data(self, data: Buffer, now: float) -> list[SessionEvent]:
        """Bytes from the transport. ``Stdin.data`` are views of ``data``: they live until the next call."""
        self._carrier.receive_data(data, now, self)
        return self._take_events()

    def receive_eof(self, now: float, *, clean: bool) -> list[SessionEvent]:
        """The transport ended; ``clean`` when by FIN or close_notify rather than by a cut."""
        self._carrier.receive_eof(now, clean, self)
        return self._take_events()

    def handle_timeout(
        self, now: float, *, output_blocked: bool = False, input_paused: bool = False
    ) -> list[SessionEvent]:
        """Ends the session when the client has not opened its streams in time."""
        if self._deadline is not None and now >= self._deadline and not self.lost:
            seconds = self._deadlines.streams
            self._lose(PeerTimeout(f"expected within {seconds:g} s: {', '.join(self._carrier.waiting_for())}"))
        else:
            self._carrier.handle_timeout(now, output_blocked or input_paused, self)
        return self._take_events()

    # -- what the carrier heard (not for callers) --------------------------------------------------------------------

    @property
    def deaf(self) -> bool:
        """Whether the client is gone, so that nothing more is reported."""
        return self.lost

    def heard_ready(self) -> None:
        """The client has opened every stream."""
        self._become_ready()

    def heard(self, kind: StreamKind, data: memoryview) -> None:
        """stdin and sizes; what comes on other streams has no meaning."""
        if kind is StreamKind.STDIN:
            self.received[kind] = self.received.get(kind, 0) + len(data)
            self._events.append(Stdin(data))
        elif kind is StreamKind.RESIZE:
            self._events.extend(Resized(width, height) for width, height in self._resizes.feed(data))

    def heard_end(self, kind: StreamKind) -> None:
        """The client ended a stream, or reset it."""
        if kind is StreamKind.STDIN and not self._stdin_ended:
            self._stdin_ended = True
            self._events.append(StdinEnded())

    def heard_refusal(self) -> None:
        """A client has nothing to refuse."""

    def heard_fault(self, error: RemoteProtocolError) -> None:
        """The session cannot go on."""
        self._lose(error)

    def heard_over(self, error: ProtocolError | None) -> None:
        """The connection is over."""
        gone = PeerClosed("the client closed the connection before the command ended")
        self._lose(gone if error is None else error)

    def _lose(self, error: ProtocolError) -> None:
        if not self.lost:
            self.lost = True
            self._deadline = None
            if not self.finished:
                self._events.append(Lost(error))

    # -- sending -----------------------------------------------------------------------------------------------------

    def can_write(self, kind: StreamKind) -> bool:
        """Whether the client still takes this output."""
        return self._carrier.may_send(kind)

    def write(self, kind: StreamKind, data: Buffer) -> bool:
        """Queues output; ``data`` must not change until it has left. False, and nothing queued, if the client is gone
        or takes no more of this output. Raises ``OutputLimitExceeded`` when too much is queued."""
        if not self._carrier.may_send(kind):
            return False
        self._send(kind, data)
        return True

    def end_output(self, kind: StreamKind) -> None:
        """Ends an output with FIN. Nothing happens if it is over already, or over WebSocket, which has no such mark."""
        if self.transport is Transport.SPDY and self._carrier.may_send(kind):
            self._carrier.end(kind)

    def finish(self, status: ExitStatus | bytes) -> None:
        """Queues the end as Go's server does: the status, then over SPDY RST_STREAM(CANCEL) for what has no FIN of ours
        and GOAWAY, over WebSocket Close 1000.

        Raises ``OutputLimitExceeded``, with nothing done, when too much is queued: send it, then finish.
        ``bytes`` are sent as they are. Nothing happens the second time, or when the client is gone.
        """
        if self.finished or self._carrier.terminated:
            self.finished = True
            return
        body = status if isinstance(status, bytes) else encode_status(self.version, status)
        if body and self._carrier.may_send(StreamKind.ERROR):
            self._send(StreamKind.ERROR, body)
        self.finished = True
        self._carrier.leave()

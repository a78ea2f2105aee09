"""What the client's and the server's end of a remote-command session share: the engine below, its clock, its output."""

from __future__ import annotations

from spdyproto.channels.events import StreamKind, StreamSet
from spdyproto.channels.subprotocols import Subprotocol
from spdyproto.limits import Deadlines, Keepalive, Limits
from spdyproto.spdy.connection import SpdyConnection
from spdyproto.spdy.constants import RstStatus
from spdyproto.spdy.states import Half
from spdyproto.spdy.streams import StreamView
from spdyproto.types import Buffer, Role, Tracer

OUTPUTS = (StreamKind.STDOUT, StreamKind.STDERR)


def expected_kinds(version: Subprotocol, streams: StreamSet) -> list[StreamKind]:
    """The streams of a session in the order in which the client opens them; the server waits for as many."""
    kinds = [StreamKind.ERROR]
    kinds += [kind for kind in (StreamKind.STDIN, *OUTPUTS) if getattr(streams, kind.value)]
    if streams.tty and version.has_resize:
        kinds.append(StreamKind.RESIZE)
    return kinds


class SessionBase:
    """Owns the SPDY engine and knows which stream is which."""

    def __init__(
        self,
        role: Role,
        version: Subprotocol,
        streams: StreamSet,
        limits: Limits | None,
        deadlines: Deadlines | None,
        keepalive: Keepalive | None,
        tracer: Tracer | None,
    ) -> None:
        self.version = version
        self.streams = streams
        self._limits = limits or Limits()
        self._deadlines = deadlines or Deadlines()
        self._engine = SpdyConnection(role, limits=self._limits, keepalive=keepalive, tracer=tracer)
        self._ids: dict[StreamKind, int] = {}
        self._kinds: dict[int, StreamKind] = {}
        self._deadline: float | None = None
        self.ready = False
        """True from ``Ready`` on."""
        self.received: dict[StreamKind, int] = {}
        """Payload bytes that came, by stream."""
        self.sent: dict[StreamKind, int] = {}
        """Payload bytes accepted for sending, by stream."""

    @property
    def pending_bytes(self) -> int:
        """Bytes accepted and not yet handed out by ``data_to_send``."""
        return self._engine.pending_bytes

    def data_to_send(self) -> list[Buffer]:
        """Segments to write, in order and unjoined; the caller owns them."""
        return self._engine.data_to_send()

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` wants to be called, in the clock of ``now``; None for never."""
        engine = self._engine.next_deadline()
        if self._deadline is None or engine is None:
            return engine if self._deadline is None else self._deadline
        return min(engine, self._deadline)

    def _may_send(self, kind: StreamKind) -> bool:
        """Whether bytes can still leave on this stream."""
        stream_id = self._ids.get(kind)
        if stream_id is None or self._engine.terminated:
            return False
        view = self._engine.stream(stream_id)
        return isinstance(view, StreamView) and view.ours is Half.OPEN

    def _send(self, kind: StreamKind, data: Buffer, *, fin: bool = False) -> None:
        size = memoryview(data).nbytes
        self._engine.send_data(self._ids[kind], data, fin=fin)
        self.sent[kind] = self.sent.get(kind, 0) + size

    def _reset_all(self) -> None:
        """RST_STREAM(CANCEL) for each stream that was replied to and that we have not ended, as Go's ``Close`` does.

        A stream without its SYN_REPLY is left alone: a Go peer never recovers from its reset.
        """
        for stream_id in self._kinds:
            view = self._engine.stream(stream_id)
            if isinstance(view, StreamView) and view.ours is Half.OPEN and view.theirs is not Half.AWAITING_REPLY:
                self._engine.reset_stream(stream_id, RstStatus.CANCEL)

"""What both roles of a port-forward session over SPDY share: the engine, the layer that carries it, and the clocks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable
from dataclasses import replace

from spdyproto.channels.forwarding import ForwardEvent, ForwardTransport
from spdyproto.channels.tunnel import SpdyTunnel
from spdyproto.limits import Deadlines, Keepalive, Limits
from spdyproto.spdy.connection import SpdyConnection
from spdyproto.spdy.constants import RstStatus
from spdyproto.spdy.events import Event
from spdyproto.spdy.states import Half
from spdyproto.spdy.streams import StreamView
from spdyproto.types import Buffer, Role, Tracer


class Queue:
    """Connections that wait for something, each for the same time: so the first to come is the first to be due."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: deque[tuple[float, int]] = deque()

    def add(self, connection: int, due: float) -> None:
        """Waits until ``due``."""
        self._entries.append((due, connection))

    def first(self, waiting: Iterable[int]) -> float | None:
        """When the first of those that still wait (a set or dict of connections) is due."""
        entries = self._entries
        while entries and entries[0][1] not in waiting:
            entries.popleft()
        return entries[0][0] if entries else None

    def due(self, now: float) -> list[int]:
        """Takes out those whose time has come."""
        taken = []
        while self._entries and self._entries[0][0] <= now:
            taken.append(self._entries.popleft()[1])
        return taken


class ForwardMux(ABC):
    """See the module."""

    half_close = True
    """Whether one direction of a connection can be ended alone."""

    def __init__(
        self,
        role: Role,
        transport: ForwardTransport,
        limits: Limits | None,
        deadlines: Deadlines | None,
        keepalive: Keepalive | None,
        tracer: Tracer | None,
    ) -> None:
        self.transport = transport
        limits = limits or Limits()
        # Twice two streams: those of a connection that was given up may live on until the peer has answered.
        self._limits = replace(limits, streams=4 * limits.connections)
        self._deadlines = deadlines or Deadlines()
        self._engine = SpdyConnection(role, limits=self._limits, keepalive=keepalive, tracer=tracer)
        self._link: SpdyConnection | SpdyTunnel = self._engine
        if transport is ForwardTransport.TUNNEL:
            self._link = SpdyTunnel(role, self._engine, self._limits, tracer)
        self._events: list[ForwardEvent] = []
        self.over = False
        """True once ``SessionOver`` was reported, or ``close`` was called."""

    @property
    def pending_bytes(self) -> int:
        """Bytes accepted and not yet handed out by ``data_to_send``."""
        return self._link.pending_bytes

    def data_to_send(self) -> list[Buffer]:
        """Segments to write, in order and unjoined; the caller owns them."""
        return self._link.data_to_send()

    def start(self, now: float) -> list[ForwardEvent]:
        """Starts the clocks. Nothing is sent, and over SPDY nothing is reported."""
        self._link.start(now)
        return []

    def receive_data(self, data: Buffer, now: float) -> list[ForwardEvent]:
        """Bytes from the transport. ``Received.data`` are views that live until the next call."""
        if self.over:
            return []
        return self._after(self._link.receive_data(data, now), now)

    def receive_eof(self, now: float, *, clean: bool) -> list[ForwardEvent]:
        """The transport ended; ``clean`` when by FIN or close_notify rather than by a cut."""
        if self.over:
            return []
        return self._after(self._link.receive_eof(now, clean=clean), now)

    def _after(self, below: list[Event], now: float) -> list[ForwardEvent]:
        self._digest(below, now)
        events, self._events = self._events, []
        return events

    @abstractmethod
    def _digest(self, below: list[Event], now: float) -> None:
        """Makes of the engine's events those of the session."""

    def _ours(self, stream_id: int) -> Half | None:
        """What this end may still send on a stream; None when the stream is over or never was."""
        view = self._engine.stream(stream_id)
        return view.ours if isinstance(view, StreamView) else None

    def _may_send(self, stream_id: int) -> bool:
        view = self._engine.stream(stream_id)
        replied = isinstance(view, StreamView) and view.theirs is not Half.AWAITING_REPLY
        return replied and isinstance(view, StreamView) and view.ours is Half.OPEN and not self._engine.terminated

    def _reset(self, stream_id: int) -> None:
        """RST_STREAM(CANCEL), unless the stream is over or the peer has not replied to it: Go never recovers then."""
        view = self._engine.stream(stream_id)
        if isinstance(view, StreamView) and view.theirs is not Half.AWAITING_REPLY and not self._engine.terminated:
            self._engine.reset_stream(stream_id, RstStatus.CANCEL)

    def _leave(self) -> None:
        """GOAWAY, and in a tunnel Close 1000 behind it."""
        if not self._engine.terminated:
            self._engine.go_away()
        if isinstance(self._link, SpdyTunnel):
            self._link.close()


def sooner(*times: float | None) -> float | None:
    """The first of some times, of which None is never."""
    return min((each for each in times if each is not None), default=None)

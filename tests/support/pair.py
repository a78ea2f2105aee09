"""Two engines back to back, and one engine before a raw peer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spdyproto.limits import Keepalive, Limits
from spdyproto.spdy.connection import SpdyConnection
from spdyproto.spdy.events import DataReceived
from spdyproto.spdy.flow import FlowPolicy, Unmetered
from spdyproto.spdy.streams import StreamView
from spdyproto.types import Policy, Role, Tracer
from support.events import Told, merged, tell
from support.wire import Frame, RawPeer, pieces


def snapshot(engine: SpdyConnection) -> tuple[Any, ...]:
    """Everything about an engine that can be seen from outside, for comparing before and after."""
    streams = {stream_id: engine.stream(stream_id) for stream_id in range(1, 24)}
    return (
        streams,
        engine.pending_bytes,
        engine.open_streams,
        engine.terminated,
        engine.within_frame,
        engine.next_deadline(),
    )


class Bench:
    """An engine and the raw peer that it talks to. Time stands still unless a test moves ``now``."""

    def __init__(
        self,
        role: Role = Role.SERVER,
        *,
        policy: Policy = Policy.KUBERNETES,
        limits: Limits | None = None,
        flow: FlowPolicy | None = None,
        keepalive: Keepalive | None = None,
        tracer: Tracer | None = None,
        level: int = 9,
    ) -> None:
        self.engine = SpdyConnection(role, policy=policy, limits=limits, flow=flow, keepalive=keepalive, tracer=tracer)
        self.peer = RawPeer(level)
        self.now = 0.0
        self.engine.start(self.now)

    def feed(self, *frames: bytes, size: int | None = None) -> list[Told]:
        """Gives the engine these bytes, in one buffer or in pieces of ``size``; returns what it tells."""
        wire = b"".join(frames)
        told: list[Told] = []
        for part in pieces(wire, size or max(1, len(wire))):
            told += tell(self.engine.receive_data(part, self.now))
        return merged(told)

    def eof(self, *, clean: bool = True) -> list[Told]:
        return tell(self.engine.receive_eof(self.now, clean=clean))

    def sent(self) -> list[Frame]:
        """The frames that the engine has sent since the last call."""
        frames = self.peer.read(self.engine.data_to_send())
        assert not self.peer.within_frame
        return frames

    def peer_opens(self, stream_id: int = 1, *, accept: bool = True, flags: int = 0) -> int:
        """A stream opened by the peer, and replied to unless told otherwise; what was said about it is forgotten."""
        self.feed(self.peer.syn_stream(stream_id, flags=flags))
        if accept:
            self.engine.accept_stream(stream_id)
            self.sent()
        return stream_id

    def we_open(self, *, replied: bool = True, **options: Any) -> int:
        """A stream opened by the engine, and replied to by the peer unless told otherwise."""
        stream_id = self.engine.open_stream([("streamtype", "test")], **options)
        self.sent()
        if replied:
            self.feed(self.peer.syn_reply(stream_id))
        return stream_id

    def view(self, stream_id: int) -> StreamView:
        view = self.engine.stream(stream_id)
        assert isinstance(view, StreamView), f"stream {stream_id} is {view}"
        return view


class Pair:
    """A client and a server engine joined by a link that cuts as told. ``told`` collects their events."""

    def __init__(
        self,
        *,
        policy: Policy = Policy.KUBERNETES,
        flow: Callable[[], FlowPolicy] = Unmetered,
        limits: Limits | None = None,
        cut: int | None = None,
        acknowledge: bool = True,
    ) -> None:
        self.engines = {
            role: SpdyConnection(role, policy=policy, limits=limits, flow=flow()) for role in (Role.CLIENT, Role.SERVER)
        }
        self.client, self.server = self.engines[Role.CLIENT], self.engines[Role.SERVER]
        self.told: dict[Role, list[Told]] = {Role.CLIENT: [], Role.SERVER: []}
        self.now = 0.0
        self._cut = cut
        self._acknowledge = acknowledge

    def step(self, source: Role) -> bool:
        """Carries what one end has to say to the other; False if it had nothing to say."""
        target = Role.SERVER if source is Role.CLIENT else Role.CLIENT
        wire = b"".join(self.engines[source].data_to_send())
        for part in pieces(wire, self._cut or max(1, len(wire))):
            events = self.engines[target].receive_data(part, self.now)
            self.told[target] += tell(events)
            if self._acknowledge:
                for event in events:
                    if isinstance(event, DataReceived):
                        self.engines[target].acknowledge(event.stream_id, len(event.data))
        return bool(wire)

    def settle(self) -> None:
        """Carries until both are silent, which they must become."""
        for _ in range(10_000):
            moved = [self.step(role) for role in (Role.CLIENT, Role.SERVER)]
            if not any(moved):
                return
        raise AssertionError("the two engines never stop talking")

    def take(self, role: Role) -> list[Told]:
        """What this end was told since the last call."""
        told, self.told[role] = merged(self.told[role]), []
        return told

    def mirrored(self) -> None:
        """With nothing on the way, each end sees the other's halves as the other sees its own."""
        ids = set(self.client._live) | set(self.server._live)
        for stream_id in ids:
            ours, theirs = self.client.stream(stream_id), self.server.stream(stream_id)
            assert isinstance(ours, StreamView), f"stream {stream_id}: {ours} for the client, {theirs} for the server"
            assert isinstance(theirs, StreamView), f"stream {stream_id}: {ours} for the client, {theirs} for the server"
            assert (ours.ours, ours.theirs) == (theirs.theirs, theirs.ours)
            assert (ours.sent, ours.received) == (theirs.received, theirs.sent)
            assert ours.opened_by_us is not theirs.opened_by_us

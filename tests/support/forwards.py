"""Port-forward sessions before raw peers, and back to back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from spdyproto.channels.forwarding import Failed, ForwardEvent, ForwardTransport, Received, SessionOver
from spdyproto.channels.portforward import ForwardClient
from spdyproto.channels.portserver import ForwardServer
from support.wire import Frame, RawPeer, pieces

Told: TypeAlias = tuple[Any, ...]


def tell(events: Iterable[ForwardEvent]) -> list[Told]:
    """Events as plain tuples, payload copied, adjacent payload of one connection joined."""
    told: list[Told] = []
    for event in events:
        name = type(event).__name__
        if isinstance(event, Received):
            if told and told[-1][:2] == (name, event.connection):
                told[-1] = (name, event.connection, told[-1][2] + bytes(event.data))
            else:
                told.append((name, event.connection, bytes(event.data)))
        elif isinstance(event, Failed):
            told.append((name, event.connection, event.error.text or str(event.error)))
        elif isinstance(event, SessionOver):
            told.append((name, type(event.error).__name__))
        else:
            told.append((name, *(getattr(event, field) for field in type(event).__slots__)))
    return told


class ForwardBench:
    """A session of one role, and the raw SPDY peer that it talks to."""

    def __init__(self, session: ForwardClient | ForwardServer) -> None:
        self.session = session
        self.peer = RawPeer()
        self.now = 0.0
        session.start(self.now)

    def feed(self, *frames: bytes, size: int | None = None) -> list[Told]:
        wire = b"".join(frames)
        told: list[ForwardEvent] = []
        for part in pieces(wire, size or max(1, len(wire))):
            told += [_kept(event) for event in self.session.receive_data(part, self.now)]
        return tell(told)

    def eof(self, *, clean: bool = True) -> list[Told]:
        return tell(self.session.receive_eof(self.now, clean=clean))

    def later(self, seconds: float, **how: bool) -> list[Told]:
        self.now += seconds
        return tell(self.session.handle_timeout(self.now, **how))

    def sent(self) -> list[Frame]:
        return self.peer.read(self.session.data_to_send())


def _kept(event: ForwardEvent) -> ForwardEvent:
    return Received(event.connection, memoryview(bytes(event.data))) if isinstance(event, Received) else event


class ForwardPair:
    """Client and server back to back over a link that cuts as told."""

    def __init__(self, transport: ForwardTransport = ForwardTransport.SPDY, *, cut: int | None = None) -> None:
        self.client = ForwardClient(transport=transport)
        self.server = ForwardServer(transport=transport)
        self._cut = cut
        self.at_client: list[ForwardEvent] = []
        self.at_server: list[ForwardEvent] = []
        for end in (self.client, self.server):
            end.start(0.0)

    def settle(self) -> None:
        """Carries until both are silent."""
        for _ in range(10_000):
            up, down = b"".join(self.client.data_to_send()), b"".join(self.server.data_to_send())
            if not up and not down:
                return
            for wire, end, told in ((up, self.server, self.at_server), (down, self.client, self.at_client)):
                for part in pieces(wire, self._cut or max(1, len(wire))):
                    told += [_kept(event) for event in end.receive_data(part, 0.0)]
        raise AssertionError("the two ends never stop talking")

    def take(self) -> tuple[list[Told], list[Told]]:
        """What the client and the server were told since the last call."""
        self.settle()
        told = tell(self.at_client), tell(self.at_server)
        self.at_client, self.at_server = [], []
        return told

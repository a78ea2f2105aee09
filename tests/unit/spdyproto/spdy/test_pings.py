"""A PING that stands behind unread data is no sign of a dead peer; without such data it is."""

from __future__ import annotations

from spdyproto.keepalive import UNREAD
from spdyproto.limits import Keepalive
from spdyproto.spdy._pings import MOST, PingLedger
from spdyproto.spdy.connection import SpdyConnection
from spdyproto.spdy.events import ConnectionTerminated, Event
from spdyproto.types import Role
from support import wire


def test_an_answer_tells_when_its_ping_was_sent() -> None:
    pings = PingLedger()
    pings.sent(1, 5.0, 0)
    assert (pings.answered(1), pings.answered(1), pings.answered(3)) == (5.0, None, None)


def test_much_data_behind_the_last_answered_ping_explains_silence() -> None:
    pings = PingLedger()
    assert not pings.peer_may_be_stalled(UNREAD - 1)
    assert pings.peer_may_be_stalled(UNREAD)
    pings.sent(1, 0.0, UNREAD)
    assert pings.peer_may_be_stalled(UNREAD)
    pings.answered(1)
    assert not pings.peer_may_be_stalled(UNREAD)
    assert pings.peer_may_be_stalled(2 * UNREAD)


def test_a_ping_that_was_passed_over_explains_silence() -> None:
    pings = PingLedger()
    for ping_id in (1, 3, 5):
        pings.sent(ping_id, 0.0, 1)
    pings.answered(3)
    assert pings.peer_may_be_stalled(1)
    pings.answered(1)
    assert not pings.peer_may_be_stalled(1), "the last one is merely on its way"


class Peer:
    """An engine whose stream was accepted by a peer that answers the PINGs it is told to answer."""

    def __init__(self) -> None:
        self.engine = SpdyConnection(Role.CLIENT, keepalive=Keepalive(period=5.0, deadline=30.0))
        self.engine.start(0.0)
        self.stream = self.engine.open_stream([("streamtype", "stdin")])
        server = SpdyConnection(Role.SERVER)
        server.receive_data(b"".join(self.engine.data_to_send()), 0.0)
        server.accept_stream(self.stream)
        self.engine.receive_data(b"".join(server.data_to_send()), 0.0)
        self.now = 0.0

    def step(self) -> tuple[int, list[Event]]:
        """Five seconds pass: how many PINGs were sent, and what was reported."""
        self.now += 5.0
        events = self.engine.handle_timeout(self.now)
        frames = b"".join(self.engine.data_to_send())
        return frames.count(b"\x80\x03\x00\x06"), events

    def answer(self, ping_id: int) -> None:
        self.engine.receive_data(wire.ping(ping_id), self.now)


def test_workers_of_a_go_server_that_get_stuck_one_by_one() -> None:
    """One PING in five stands behind the unread stream; later none is answered at all."""
    peer = Peer()
    peer.engine.send_data(peer.stream, b"unread")
    peer.engine.data_to_send()
    for index in range(250):
        sent, events = peer.step()
        assert (sent, events) == (1, [])
        if index % 5:
            peer.answer(2 * index + 1)
    for _ in range(100):
        assert peer.step()[1] == []


def test_unanswered_pings_do_not_pile_up() -> None:
    peer = Peer()
    peer.engine.send_data(peer.stream, bytes(UNREAD))
    peer.engine.data_to_send()
    counts = [peer.step() for _ in range(500)]
    assert sum(sent for sent, _ in counts) == MOST
    assert all(events == [] for _, events in counts)


def test_a_peer_that_dies_with_a_few_bytes_unread_is_noticed() -> None:
    peer = Peer()
    peer.engine.send_data(peer.stream, b"typed")
    peer.engine.data_to_send()
    reported = [event for _ in range(7) for event in peer.step()[1]]
    assert [type(event) for event in reported] == [ConnectionTerminated]

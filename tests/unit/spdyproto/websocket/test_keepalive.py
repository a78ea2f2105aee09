"""Pings that notice a dead peer, with a clock that the test turns; and what must not be taken for a dead one."""

from __future__ import annotations

import pytest

from spdyproto.keepalive import UNREAD
from spdyproto.limits import Keepalive
from spdyproto.types import Role
from spdyproto.websocket.connection import WebSocketConnection
from spdyproto.websocket.events import ConnectionTerminated
from support import wsframes
from support.wsframes import BINARY, CLOSE, PING, PONG, Told

PERIOD, DEADLINE = 5.0, 30.0


class Clocked:
    """A client whose keepalive runs from second 0, and its peer's side of the wire."""

    def __init__(self, *, period: float = PERIOD, deadline: float = DEADLINE) -> None:
        self.engine = WebSocketConnection(Role.CLIENT, keepalive=Keepalive(period=period, deadline=deadline))
        self.engine.start(0.0)
        self.now = 0.0

    def wake(self, *, output_blocked: bool = False) -> tuple[list[int], list[Told]]:
        """Time goes on to the next deadline: the opcodes sent, and what was reported."""
        deadline = self.engine.next_deadline()
        assert deadline is not None
        assert deadline > self.now, "a deadline that does not move on is a busy loop"
        self.now = deadline
        events = self.engine.handle_timeout(self.now, output_blocked=output_blocked)
        return [opcode for opcode, _ in wsframes.sent(self.engine.data_to_send())], wsframes.tell(events)

    def answer(self, delay: float = 0.0) -> None:
        """The peer answers the ping that ``wake`` just sent."""
        self.now += delay
        counter = self.engine._pings
        self.receive(wsframes.frame(PONG, counter.to_bytes(8, "big")))

    def receive(self, wire: bytes) -> None:
        assert not any(isinstance(e, ConnectionTerminated) for e in self.engine.receive_data(wire, self.now))

    def until_dead(self, *, output_blocked: bool = False) -> tuple[float, list[Told]]:
        """When the engine gave the peer up, and what it reported; fails when it never does."""
        for _ in range(200):
            _, events = self.wake(output_blocked=output_blocked)
            if events:
                return self.now, events
        raise AssertionError("the peer was never given up")


def test_without_keepalive_there_is_no_deadline() -> None:
    engine = WebSocketConnection(Role.CLIENT, keepalive=None)
    engine.start(0.0)
    assert engine.next_deadline() is None
    assert engine.handle_timeout(1e9) == []
    assert engine.data_to_send() == []


def test_the_clock_does_not_run_before_it_is_started() -> None:
    engine = WebSocketConnection(Role.CLIENT, keepalive=Keepalive())
    assert engine.next_deadline() is None


def test_a_ping_each_period_while_they_are_answered() -> None:
    peer = Clocked()
    for beat in range(1, 50):
        assert peer.wake() == ([PING], [])
        assert peer.now == beat * PERIOD
        peer.answer()


def test_called_too_early_nothing_happens() -> None:
    peer = Clocked()
    assert peer.engine.handle_timeout(PERIOD - 0.001) == []
    assert peer.engine.data_to_send() == []
    assert peer.engine.next_deadline() == PERIOD


def test_a_silent_peer_is_given_up_at_the_deadline_behind_its_ping() -> None:
    peer = Clocked()
    assert peer.wake() == ([PING], [])
    when, events = peer.until_dead()
    assert when == PERIOD + DEADLINE
    ((name, kind, text),) = events
    assert (name, kind) == ("ConnectionTerminated", "PeerTimeout")
    assert "no other byte for 30.0 s (deadline 30 s)" in text
    assert peer.engine.terminated
    assert peer.engine.next_deadline() is None
    assert peer.engine.handle_timeout(1e9) == []


def test_one_ping_is_enough_while_it_is_not_answered() -> None:
    peer = Clocked()
    sent = [opcode for _ in range(6) for opcode in peer.wake()[0]]
    assert sent == [PING]


def test_any_byte_is_a_sign_of_life() -> None:
    peer = Clocked()
    peer.wake()
    for _ in range(20):
        peer.now += DEADLINE - 1
        peer.receive(wsframes.frame(BINARY, b"\1x"))
        assert peer.engine.handle_timeout(peer.now) == []
    when, _ = peer.until_dead()
    assert when == pytest.approx(PERIOD + 20 * (DEADLINE - 1) + DEADLINE)


def test_a_pong_with_the_wrong_payload_is_a_sign_of_life_and_no_answer() -> None:
    peer = Clocked()
    peer.wake()
    peer.receive(wsframes.frame(PONG, b"other"))
    assert peer.wake()[0] == []


def test_a_deadline_shorter_than_the_period() -> None:
    peer = Clocked(period=60.0, deadline=2.0)
    assert peer.wake() == ([PING], [])
    when, _ = peer.until_dead()
    assert when == 62.0


class TestUnreadData:
    """Go's server answers no ping that stands behind a message which the command leaves unread."""

    def test_three_deadlines_and_more(self) -> None:
        peer = Clocked()
        peer.engine.send_message(b"\0", bytes(UNREAD))
        for _ in range(100):
            assert peer.wake()[1] == []
        assert peer.now > 3 * DEADLINE

    def test_then_the_command_reads_and_the_ping_is_answered(self) -> None:
        peer = Clocked()
        peer.engine.send_message(b"\0", bytes(UNREAD))
        for _ in range(100):
            peer.wake()
        peer.answer()
        assert peer.wake()[0] == [PING]
        pinged = peer.now
        when, _ = peer.until_dead()
        assert when == pinged + DEADLINE

    def test_a_few_bytes_explain_nothing(self) -> None:
        peer = Clocked()
        peer.engine.send_message(b"\0", bytes(UNREAD - 2))
        when, _ = peer.until_dead()
        assert when == PERIOD + DEADLINE

    def test_data_that_went_before_an_answered_ping_was_read(self) -> None:
        peer = Clocked()
        peer.engine.send_message(b"\0", bytes(1 << 20))
        peer.wake()
        peer.answer()
        peer.wake()
        when, _ = peer.until_dead()
        assert when == 2 * PERIOD + DEADLINE

    def test_data_behind_the_ping_that_was_answered_counts(self) -> None:
        peer = Clocked()
        peer.wake()
        peer.engine.send_message(b"\0", bytes(UNREAD))
        peer.answer()
        for _ in range(100):
            assert peer.wake()[1] == []

    def test_output_that_is_blocked_explains_silence(self) -> None:
        peer = Clocked()
        for _ in range(100):
            assert peer.wake(output_blocked=True)[1] == []
        unblocked = peer.now
        when, _ = peer.until_dead()
        assert when == unblocked + DEADLINE


class TestAfterOurClose:
    """The same deadline holds for the peer's Close: a wait without one could last for ever."""

    def test_no_ping_follows_it(self) -> None:
        peer = Clocked()
        peer.engine.close()
        peer.engine.data_to_send()
        sent = [opcode for _ in range(3) for opcode in peer.wake()[0]]
        assert sent == []

    @pytest.mark.parametrize("unread", [0, UNREAD])
    def test_a_peer_that_never_answers_it(self, unread: int) -> None:
        peer = Clocked()
        peer.engine.send_message(b"\0", bytes(unread))
        peer.engine.close()
        peer.engine.data_to_send()
        when, events = peer.until_dead()
        assert when == PERIOD + DEADLINE
        assert events[0][1] == "PeerTimeout"

    def test_a_close_long_after_the_last_byte_has_its_whole_deadline(self) -> None:
        peer = Clocked(period=60.0, deadline=2.0)
        peer.engine.handle_timeout(59.9)
        peer.engine.close()
        when, _ = peer.until_dead()
        assert when >= 62.0

    def test_a_peer_that_still_sends_is_heard_out(self) -> None:
        peer = Clocked()
        peer.engine.close()
        for _ in range(50):
            assert peer.wake()[1] == []
            peer.receive(wsframes.frame(BINARY, b"\1more"))
        events = peer.engine.receive_data(wsframes.close(), peer.now)
        assert wsframes.tell(events)[-1] == ("ConnectionTerminated", "NoneType", "None")
        assert peer.engine.next_deadline() is None

    def test_a_close_while_a_ping_is_unanswered(self) -> None:
        peer = Clocked()
        assert peer.wake()[0] == [PING]
        peer.engine.close()
        assert [opcode for opcode, _ in wsframes.sent(peer.engine.data_to_send())] == [CLOSE]
        when, _ = peer.until_dead()
        assert when == PERIOD + DEADLINE

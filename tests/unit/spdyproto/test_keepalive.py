"""When a PING is due, and when a silent peer is taken for dead."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spdyproto.keepalive import KeepaliveTimer, Verdict
from spdyproto.limits import Keepalive


def started(period: float = 5.0, deadline: float = 30.0, now: float = 0.0) -> KeepaliveTimer:
    timer = KeepaliveTimer(Keepalive(period, deadline))
    timer.start(now)
    return timer


def check(timer: KeepaliveTimer, now: float, *, waiting: bool, blocked: bool = False) -> Verdict:
    return timer.check(now, waiting=waiting, silence_proves_nothing=blocked)


def test_without_a_policy_there_is_no_clock() -> None:
    timer = KeepaliveTimer(None)
    timer.start(0.0)
    assert timer.deadline is None
    assert check(timer, 1e9, waiting=True) is Verdict.NOTHING
    assert "deadline 0 s" in timer.obituary(1.0)


def test_nothing_is_due_before_the_start() -> None:
    timer = KeepaliveTimer(Keepalive())
    assert timer.deadline is None
    assert check(timer, 1e9, waiting=False) is Verdict.NOTHING


def test_a_ping_each_period_while_they_are_answered() -> None:
    timer = started()
    pings = [now for now in range(41) if check(timer, float(now), waiting=False) is Verdict.PING]
    assert pings == [5, 10, 15, 20, 25, 30, 35, 40]


def test_starting_again_changes_nothing() -> None:
    timer = started()
    timer.start(4.0)
    assert timer.deadline == 5.0


def test_a_missing_answer_is_noticed_at_the_deadline_and_not_before() -> None:
    timer = started()
    assert check(timer, 5.0, waiting=False) is Verdict.PING
    now = 5.0
    while (verdict := check(timer, now, waiting=True)) is Verdict.NOTHING:
        assert now < 35.0
        assert timer.deadline is not None
        now = timer.deadline
    assert (verdict, now) == (Verdict.DEAD, 35.0)
    assert timer.deadline is None
    assert "for 30.0 s (deadline 30 s)" in timer.obituary(now)


def test_any_byte_is_a_sign_of_life() -> None:
    timer = started()
    check(timer, 5.0, waiting=False)
    timer.heard = 20.0
    assert check(timer, 35.0, waiting=True) is Verdict.NOTHING
    assert check(timer, 49.9, waiting=True) is Verdict.NOTHING
    assert check(timer, 50.0, waiting=True) is Verdict.DEAD


def test_silence_before_the_ping_does_not_count() -> None:
    timer = started(period=100.0, deadline=10.0)
    assert check(timer, 100.0, waiting=False) is Verdict.PING
    assert timer.deadline == 110.0
    assert check(timer, 109.0, waiting=True) is Verdict.NOTHING


def test_the_deadline_starts_anew_while_silence_proves_nothing() -> None:
    timer = started()
    check(timer, 5.0, waiting=False)
    for now in range(10, 1000, 5):
        assert check(timer, float(now), waiting=True, blocked=True) is Verdict.NOTHING
    assert check(timer, 1024.9, waiting=True) is Verdict.NOTHING
    assert check(timer, 1025.0, waiting=True) is Verdict.DEAD


@given(
    st.floats(0.01, 100.0),
    st.floats(0.01, 100.0),
    st.floats(0.0, 1e9),
)
def test_acting_only_at_its_deadlines_always_comes_to_an_end(period: float, deadline: float, start: float) -> None:
    """A driver that sleeps exactly until ``deadline`` makes progress, whatever the floats round to."""
    timer = started(period, deadline, start)
    waiting, now = False, start
    for _ in range(int(deadline / period) + 20):
        assert timer.deadline is not None
        assert timer.deadline >= now
        now = timer.deadline
        verdict = check(timer, now, waiting=waiting)
        waiting = waiting or verdict is Verdict.PING
        if verdict is Verdict.DEAD:
            break
    assert verdict is Verdict.DEAD
    assert start + period + deadline * 0.999 <= now * (1 + 1e-9)
    assert now <= (start + period + deadline) * (1 + 1e-9) + 1e-6

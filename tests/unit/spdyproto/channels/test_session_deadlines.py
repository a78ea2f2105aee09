"""Every wait of a client's session has a deadline, and none bounds the command itself. The clock is a number."""

from __future__ import annotations

import pytest

from spdyproto.channels.events import StreamKind, StreamSet
from spdyproto.channels.status import ExitStatus
from spdyproto.limits import Deadlines, Keepalive
from support import wire
from support.events import Told
from support.sessions import ALL, ERROR, STDERR, STDIN, STDOUT, SUCCESS, V2, V4, ClientBench, outcome

NEVER = Deadlines(stream_reply=None, status=None, drain=None)


def timed_out(told: list[Told]) -> str:
    end = outcome(told)
    assert end is not None
    assert end[:2] == ("Lost", "PeerTimeout")
    return str(end[2])


# -- replies -------------------------------------------------------------------------------------------------------


def test_replies_have_a_deadline() -> None:
    bench = ClientBench(ready=False)
    bench.feed(*bench.replies()[:3])
    assert bench.session.next_deadline() == 30.0
    assert bench.tick(29.9) == []
    text = timed_out(bench.tick(30.0))
    assert text.startswith("no SYN_REPLY within 30 s")
    assert "owed: the reply for stderr" in text
    assert bench.tick(31.0) == []


def test_replies_that_came_end_their_deadline() -> None:
    bench = ClientBench()
    assert bench.session.next_deadline() is None
    assert bench.tick(1e9) == [], "the command itself may take for ever"


def test_the_clock_of_the_replies_starts_with_the_session() -> None:
    bench = ClientBench(ready=False)
    bench.now = 20.0
    bench.feed(*bench.replies()[:1])
    assert bench.session.next_deadline() == 30.0


# -- the status ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [V2, V4])
def test_the_status_has_a_deadline_after_the_last_output(version: object) -> None:
    bench = ClientBench(V2 if version is V2 else V4)
    bench.now = 100.0
    bench.feed(bench.data(STDOUT, fin=True))
    assert bench.session.next_deadline() is None
    bench.now = 200.0
    bench.feed(bench.data(STDERR, fin=True))
    assert bench.session.next_deadline() == 260.0
    assert bench.tick(259.9) == []
    text = timed_out(bench.tick(260.0))
    assert text.startswith("every output ended, but no status came within 60 s")
    assert "owed: the exit status" in text


def test_a_status_that_never_ends_runs_into_the_deadline() -> None:
    bench = ClientBench()
    bench.feed(bench.fin(STDOUT, STDERR))
    for now in range(1, 60):
        bench.now = float(now)
        bench.feed(bench.data(ERROR, b" "))
    assert bench.session.next_deadline() == 60.0
    timed_out(bench.tick(60.0))


def test_there_is_no_deadline_for_the_status_when_no_output_was_asked_for() -> None:
    bench = ClientBench(V4, StreamSet(stdin=True, stdout=False, stderr=False))
    bench.feed(wire.ping(2))
    bench.session.write_stdin(b"x")
    bench.session.close_stdin()
    assert bench.session.next_deadline() is None
    assert bench.tick(1e9) == []
    assert outcome(bench.feed(bench.data(ERROR, SUCCESS), bench.rst(ERROR))) is not None


# -- draining ------------------------------------------------------------------------------------------------------


def status_first(keepalive: Keepalive | None = None) -> ClientBench:
    bench = ClientBench(V4, ALL, keepalive=keepalive)
    bench.now = 10.0
    assert outcome(bench.feed(bench.data(ERROR, SUCCESS), bench.rst(ERROR), bench.fin(STDERR))) is None
    return bench


def test_outputs_have_a_deadline_after_the_status() -> None:
    bench = status_first()
    assert bench.session.next_deadline() == 40.0
    assert bench.tick(39.9) == []
    text = timed_out(bench.tick(40.0))
    assert text.startswith("the status came, but the outputs did not end within 30 s")
    assert "owed: the end of stdout" in text


def test_output_that_still_comes_puts_the_deadline_off() -> None:
    bench = status_first()
    for now in (35.0, 60.0, 85.0):
        bench.now = now
        bench.feed(bench.data(STDOUT, b"slow link"))
        assert bench.session.next_deadline() == now + 30.0
    assert outcome(bench.feed(bench.fin(STDOUT))) == ("Exited", ExitStatus.success())


def test_outputs_have_a_deadline_after_an_error_stream_without_a_status_too() -> None:
    bench = ClientBench()
    bench.now = 10.0
    assert outcome(bench.feed(bench.rst(ERROR), bench.fin(STDERR))) is None
    assert bench.session.next_deadline() == 40.0
    end = outcome(bench.tick(40.0))
    assert end is not None
    assert end[:2] == ("Lost", "StatusError")
    assert "owed: the end of stdout, the exit status" in end[2]


def test_answers_to_our_pings_do_not_put_the_deadline_off() -> None:
    """They come every few seconds for as long as the connection stands: the wait would have no end."""
    bench = status_first(Keepalive(period=5.0, deadline=30.0))
    told: list[Told] = []
    while not told:
        deadline = bench.session.next_deadline()
        assert deadline is not None
        assert deadline <= 40.0
        told = bench.tick(deadline)
        for frame in bench.sent():
            assert frame[0] == "PING"
            told += bench.feed(wire.ping(frame[1]))
    assert bench.now == 40.0
    timed_out(told)


@pytest.mark.parametrize("noise", ["stdin data", "window update", "settings", "ping", "foreign stream"])
def test_other_frames_do_not_put_the_deadline_off(noise: str) -> None:
    bench = status_first()
    bench.now = 30.0
    bench.feed(
        {
            "stdin data": bench.data(STDIN, b"?"),
            "window update": wire.window_update(0, 1),
            "settings": wire.settings([(4, 100, 0)]),
            "ping": wire.ping(2),
            "foreign stream": bench.peer.syn_stream(2),
        }[noise]
    )
    assert bench.session.next_deadline() == 40.0


# -- what is not counted -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stage", "seconds"), [("reply", 30.0), ("status", 60.0), ("drain", 30.0)])
def test_nothing_that_is_missing_proves_anything_while_input_is_paused(stage: str, seconds: float) -> None:
    bench = ClientBench(ready=stage != "reply")
    if stage == "status":
        bench.feed(bench.fin(STDOUT, STDERR))
    elif stage == "drain":
        bench.feed(bench.data(ERROR, SUCCESS), bench.rst(ERROR))
    now = seconds
    for _ in range(5):
        assert bench.tick(now, input_paused=True) == []
        assert bench.session.next_deadline() == now + seconds, "it starts anew"
        now += seconds
    timed_out(bench.tick(now))


@pytest.mark.parametrize("stage", ["reply", "status", "drain"])
def test_a_deadline_of_none_waits_for_ever(stage: str) -> None:
    bench = ClientBench(V4, ALL, deadlines=NEVER, ready=stage != "reply")
    if stage == "status":
        bench.feed(bench.fin(STDOUT, STDERR))
    elif stage == "drain":
        bench.feed(bench.data(ERROR, SUCCESS), bench.rst(ERROR))
    assert bench.session.next_deadline() is None
    assert bench.tick(1e9) == []


# -- keepalive -----------------------------------------------------------------------------------------------------


def test_a_dead_peer_is_noticed_while_the_command_runs() -> None:
    bench = ClientBench(V4, ALL, keepalive=Keepalive(period=5.0, deadline=30.0))
    assert bench.session.next_deadline() == 5.0
    assert bench.tick(5.0) == []
    assert bench.sent() == [("PING", 1)]
    told: list[Told] = []
    while not told:
        deadline = bench.session.next_deadline()
        assert deadline is not None
        told = bench.tick(deadline)
    assert bench.now == 35.0
    assert timed_out(told).startswith("no answer to a PING")


@pytest.mark.parametrize("kind", ["output_blocked", "input_paused"])
def test_an_unread_stdin_for_three_deadlines_is_survived(kind: str) -> None:
    bench = ClientBench(V4, ALL, keepalive=Keepalive(period=5.0, deadline=30.0))
    for now in range(5, 101, 5):
        paused, blocked = kind == "input_paused", kind == "output_blocked"
        assert bench.tick(float(now), input_paused=paused, output_blocked=blocked) == []
    assert bench.feed(wire.ping(1), bench.data(STDOUT, b"alive")) == [("Output", StreamKind.STDOUT, b"alive")]


def test_the_earlier_of_two_deadlines_is_the_next() -> None:
    bench = ClientBench(V4, ALL, keepalive=Keepalive(period=50.0, deadline=10.0))
    assert bench.session.next_deadline() == 50.0
    bench.feed(bench.data(ERROR, SUCCESS), bench.rst(ERROR))
    assert bench.session.next_deadline() == 30.0


@pytest.mark.parametrize("how", ["outcome", "close"])
def test_nothing_is_due_after_the_end(how: str) -> None:
    """A deadline that stays in the past would keep a driver busy for nothing."""
    bench = ClientBench(V4, ALL, keepalive=Keepalive(period=5.0, deadline=30.0))
    if how == "close":
        bench.session.close()
    else:
        bench.feed(bench.fin(STDOUT, STDERR), bench.data(ERROR, SUCCESS), bench.rst(ERROR))
    assert bench.session.next_deadline() is None
    assert bench.tick(1e9) == []

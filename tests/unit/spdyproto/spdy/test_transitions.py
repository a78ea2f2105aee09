"""The engine keeps the law of the states: every half, every act, both ends, both openers, both policies."""

from __future__ import annotations

import pytest

from spdyproto.errors import LocalProtocolError, StreamClosedError
from spdyproto.spdy.constants import RstStatus
from spdyproto.spdy.states import TRANSITIONS, Act, Half
from spdyproto.spdy.streams import ClosedBy, StreamView
from spdyproto.types import Policy, Role
from support import wire
from support.pair import Bench, snapshot

AWAITING, OPEN, ENDED, RESET = Half


def bench_with(half: Half, *, ours: bool, opened_by_us: bool, policy: Policy) -> tuple[Bench, int]:
    """An engine with a stream one of whose halves is in that state, the other half open where it can be."""
    bench = Bench(Role.CLIENT, policy=policy)
    awaits = half is AWAITING
    if opened_by_us:
        stream_id = bench.we_open(replied=not awaits)
    else:
        stream_id = bench.peer_opens(2, accept=not awaits)
    if ours:
        if half is ENDED:
            bench.engine.end_stream(stream_id)
        elif half is RESET:
            bench.engine.reset_stream(stream_id)
    elif half is ENDED:
        bench.feed(wire.data(stream_id, fin=True))
    elif half is RESET:
        bench.feed(wire.rst(stream_id))
    bench.sent()
    return bench, stream_id


def possible(half: Half, *, ours: bool, opened_by_us: bool) -> bool:
    """The opener's half never waits for a reply."""
    return half is not AWAITING or ours is not opened_by_us


def do(bench: Bench, stream_id: int, act: Act) -> None:
    engine = bench.engine
    {
        Act.REPLY: lambda: engine.accept_stream(stream_id),
        Act.HEADERS: lambda: engine.send_headers(stream_id, [("a", "b")]),
        Act.DATA: lambda: engine.send_data(stream_id, b"data"),
        Act.END: lambda: engine.end_stream(stream_id),
        Act.RESET: lambda: engine.reset_stream(stream_id),
    }[act]()


def frame(bench: Bench, stream_id: int, act: Act) -> bytes:
    return {
        Act.REPLY: lambda: bench.peer.syn_reply(stream_id),
        Act.HEADERS: lambda: bench.peer.headers(stream_id, {"a": "b"}),
        Act.DATA: lambda: wire.data(stream_id, b"data"),
        Act.END: lambda: wire.data(stream_id, fin=True),
        Act.RESET: lambda: wire.rst(stream_id, 7),
    }[act]()


NAMES = {Act.REPLY: "SYN_REPLY", Act.HEADERS: "HEADERS", Act.DATA: "DATA", Act.END: "DATA", Act.RESET: "RST_STREAM"}
TOLD = {
    Act.REPLY: "StreamAccepted",
    Act.HEADERS: "HeadersReceived",
    Act.DATA: "DataReceived",
    Act.END: "DataReceived",
    Act.RESET: "StreamReset",
}
CASES = [
    pytest.param(half, act, opened_by_us, policy, id=f"{half.name}-{act.name}-{opened_by_us}-{policy.value}")
    for half in Half
    for act in Act
    for opened_by_us in (True, False)
    for policy in Policy
]


@pytest.mark.parametrize(("half", "act", "opened_by_us", "policy"), CASES)
def test_what_we_may_do(half: Half, act: Act, opened_by_us: bool, policy: Policy) -> None:
    if not possible(half, ours=True, opened_by_us=opened_by_us):
        return
    bench, stream_id = bench_with(half, ours=True, opened_by_us=opened_by_us, policy=policy)
    after = TRANSITIONS[half, act]
    if isinstance(after, RstStatus):
        before = snapshot(bench.engine)
        with pytest.raises(StreamClosedError) as caught:
            do(bench, stream_id, act)
        assert caught.value.stream_id == stream_id
        assert snapshot(bench.engine) == before
        assert bench.sent() == []
        return
    do(bench, stream_id, act)
    (sent,) = bench.sent()
    assert sent[:2] == (NAMES[act], stream_id)
    if after is RESET:
        assert bench.engine.stream(stream_id) is ClosedBy.OUR_RESET
    else:
        assert bench.view(stream_id).ours is after


@pytest.mark.parametrize(("half", "act", "opened_by_us", "policy"), CASES)
def test_what_the_peer_may_do(half: Half, act: Act, opened_by_us: bool, policy: Policy) -> None:
    if not possible(half, ours=False, opened_by_us=opened_by_us):
        return
    bench, stream_id = bench_with(half, ours=False, opened_by_us=opened_by_us, policy=policy)
    after = TRANSITIONS[half, act]
    told = bench.feed(frame(bench, stream_id, act))
    sent = bench.sent()
    if isinstance(after, Half):
        assert [event[0] for event in told] == [TOLD[act]]
        assert sent == []
        if after is RESET:
            assert bench.engine.stream(stream_id) is ClosedBy.THEIR_RESET
        else:
            assert bench.view(stream_id).theirs is after
    elif half is RESET:
        late = [("DataAfterReset",)] if act is Act.DATA and policy is Policy.KUBERNETES else []
        assert [event[:1] for event in told] == late
        assert sent == [], "what was on its way when the stream was reset is no new fault"
    elif policy is Policy.STRICT or (half is AWAITING and act in (Act.DATA, Act.END)):
        assert told == [("StreamReset", stream_id, after, False)]
        assert sent == [("RST_STREAM", stream_id, after)]
        assert bench.engine.stream(stream_id) is ClosedBy.OUR_RESET
    else:
        assert (told, sent) == ([], []), "dropped, as spdystream does"
        assert bench.view(stream_id).theirs is half
    assert not bench.engine.terminated
    assert bench.feed(bench.peer.syn_stream(8, {"still": "in step"}))[0][:3] == (
        "StreamOpened",
        8,
        [("still", "in step")],
    )


@pytest.mark.parametrize("policy", Policy)
@pytest.mark.parametrize("fin", [False, True])
@pytest.mark.parametrize("unidirectional", [False, True])
def test_how_an_opened_stream_begins(policy: Policy, fin: bool, unidirectional: bool) -> None:
    flags = (wire.FIN if fin else 0) | (wire.UNIDIRECTIONAL if unidirectional else 0)
    ours, theirs = Bench(Role.CLIENT, policy=policy), Bench(Role.SERVER, policy=policy)
    opened = ours.engine.open_stream([], fin=fin, unidirectional=unidirectional, priority=5)
    assert ours.sent() == [("SYN_STREAM", 1, flags, [], 5)]
    told = theirs.feed(theirs.peer.syn_stream(1, flags=flags, priority=5, associated=3))
    assert told == [("StreamOpened", 1, [], fin, unidirectional, 5, 3)]
    for bench, opener in ((ours, True), (theirs, False)):
        view = bench.engine.stream(opened)
        if fin and unidirectional:
            assert view is (ClosedBy.OUR_END if opener else ClosedBy.BOTH_ENDED)
            continue
        assert isinstance(view, StreamView)
        halves = (ENDED if fin else OPEN, ENDED if unidirectional else AWAITING)
        assert (view.ours, view.theirs) == (halves if opener else halves[::-1])
        assert view.opened_by_us is opener
        assert view.priority == 5


@pytest.mark.parametrize("policy", Policy)
def test_a_refusal_of_a_stream_that_our_fin_had_ended_is_told_once(policy: Policy) -> None:
    """What was said on it reached nobody, and nothing else of the peer would ever tell."""
    bench = Bench(Role.CLIENT, policy=policy)
    stream_id = bench.we_open(replied=False, unidirectional=True)
    bench.engine.send_data(stream_id, b"unheard-of", fin=True)
    refusal = wire.rst(stream_id, RstStatus.REFUSED_STREAM)
    assert bench.feed(wire.rst(stream_id, RstStatus.CANCEL)) == [], "it may have been read by then"
    assert bench.feed(refusal, refusal) == [("StreamReset", stream_id, RstStatus.REFUSED_STREAM, True)]
    assert bench.engine.stream(stream_id) is ClosedBy.THEIR_RESET


def test_goaway_of_a_strict_peer_refuses_what_it_has_not_seen_even_if_that_was_over() -> None:
    bench = Bench(Role.CLIENT, policy=Policy.STRICT)
    seen, unseen = (bench.we_open(replied=False, unidirectional=True, fin=True) for _ in range(2))
    told = bench.feed(wire.goaway(seen))
    assert told == [("GoAwayReceived", seen, 0), ("StreamReset", unseen, RstStatus.REFUSED_STREAM, True)]


@pytest.mark.parametrize("policy", Policy)
@pytest.mark.parametrize("act", [Act.REPLY, Act.HEADERS, Act.DATA])
def test_fin_ends_a_half_with_any_frame(policy: Policy, act: Act) -> None:
    bench = Bench(Role.CLIENT, policy=policy)
    stream_id = bench.we_open(replied=act is not Act.REPLY)
    made = {
        Act.REPLY: lambda: bench.peer.syn_reply(stream_id, flags=wire.FIN),
        Act.HEADERS: lambda: bench.peer.headers(stream_id, flags=wire.FIN),
        Act.DATA: lambda: wire.data(stream_id, b"x", fin=True),
    }[act]()
    (told,) = bench.feed(made)
    assert told[0] == TOLD[act]
    assert told[-1] is True
    assert bench.view(stream_id).theirs is ENDED
    bench.engine.end_stream(stream_id)
    assert bench.engine.stream(stream_id) is ClosedBy.BOTH_ENDED


@pytest.mark.parametrize("policy", Policy)
@pytest.mark.parametrize("act", [Act.REPLY, Act.HEADERS, Act.DATA])
def test_our_fin_goes_with_any_frame(policy: Policy, act: Act) -> None:
    bench = Bench(Role.SERVER, policy=policy)
    stream_id = bench.peer_opens(1, accept=act is not Act.REPLY)
    if act is Act.REPLY:
        bench.engine.accept_stream(stream_id, [("a", "b")], fin=True)
        expected: tuple[object, ...] = ("SYN_REPLY", 1, wire.FIN, [("a", "b")])
    elif act is Act.HEADERS:
        bench.engine.send_headers(stream_id, [("a", "b")], fin=True)
        expected = ("HEADERS", 1, wire.FIN, [("a", "b")])
    else:
        bench.engine.send_data(stream_id, b"x", fin=True)
        expected = ("DATA", 1, b"x", wire.FIN)
    assert bench.sent() == [expected]
    assert bench.view(stream_id).ours is ENDED
    bench.feed(wire.data(stream_id, fin=True))
    assert bench.engine.stream(stream_id) is ClosedBy.BOTH_ENDED


def test_refusing_is_for_streams_that_were_not_accepted() -> None:
    bench = Bench(Role.SERVER)
    bench.peer_opens(1)
    before = snapshot(bench.engine)
    with pytest.raises(LocalProtocolError, match="reset_stream ends it"):
        bench.engine.refuse_stream(1)
    assert snapshot(bench.engine) == before
    bench.peer_opens(3, accept=False)
    bench.engine.refuse_stream(3)
    assert bench.sent() == [("RST_STREAM", 3, RstStatus.REFUSED_STREAM)]


@pytest.mark.parametrize("stream_id", [1, 2, 99])
def test_unknown_streams_take_nothing_from_us(stream_id: int) -> None:
    bench = Bench(Role.SERVER)
    for act in Act:
        with pytest.raises(StreamClosedError, match="does not exist"):
            do(bench, stream_id, act)
    assert bench.sent() == []


@pytest.mark.parametrize(
    ("act", "status"), [(Act.REPLY, 2), (Act.HEADERS, 2), (Act.DATA, 2), (Act.END, 2), (Act.RESET, 0)]
)
@pytest.mark.parametrize("policy", Policy)
def test_unknown_streams_from_the_peer(act: Act, status: int, policy: Policy) -> None:
    bench = Bench(Role.SERVER, policy=policy)
    assert bench.feed(frame(bench, 99, act)) == []
    answered = [("RST_STREAM", 99, status)] if policy is Policy.STRICT and status else []
    assert bench.sent() == answered
    assert not bench.engine.terminated


def test_strict_tells_an_ended_stream_from_an_unknown_one() -> None:
    bench = Bench(Role.SERVER, policy=Policy.STRICT)
    bench.peer_opens(1)
    bench.feed(wire.data(1, fin=True))
    bench.engine.end_stream(1)
    bench.sent()
    bench.feed(wire.data(1, b"late"), wire.data(3, b"never"))
    assert bench.sent() == [
        ("RST_STREAM", 1, RstStatus.STREAM_ALREADY_CLOSED),
        ("RST_STREAM", 3, RstStatus.INVALID_STREAM),
    ]


@pytest.mark.parametrize("size", [None, 1, 9, 11])
def test_strict_answers_a_refused_frame_once_however_it_is_cut(size: int | None) -> None:
    bench = Bench(Role.SERVER, policy=Policy.STRICT)
    assert bench.feed(wire.data(3, b"twelve bytes"), size=size) == []
    assert bench.sent() == [("RST_STREAM", 3, RstStatus.INVALID_STREAM)]

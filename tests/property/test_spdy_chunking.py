"""How bytes are cut on their way never changes what the engine tells, nor what it answers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spdyproto.spdy.flow import FlowPolicy, Unmetered, Windowed
from spdyproto.types import Policy, Role
from support.events import Told, merged
from support.pair import Bench
from support.strategies import CUTS, LIVE_IDS, Said, conversations, render
from support.wire import Frame, cut_at

POLICIES = st.sampled_from(list(Policy))
ROLES = st.sampled_from(list(Role))
ROOM = 1 << 30


def prepared(role: Role, policy: Policy, flow: FlowPolicy) -> Bench:
    """An engine with streams in many states, odd and even, opened by either end."""
    bench = Bench(role, policy=policy, flow=flow)
    theirs = 2 if role is Role.CLIENT else 1
    for number in range(4):
        bench.engine.open_stream([("streamtype", str(number))], unidirectional=number == 3)
        bench.peer_opens(theirs + 2 * number, accept=number > 0, flags=2 if number == 3 else 0) if number < 3 else None
    ours = [stream_id for stream_id in range(1, 9) if bench.engine.stream(stream_id) and stream_id % 2 != theirs % 2]
    bench.feed(bench.peer.syn_reply(ours[0]), bench.peer.syn_reply(ours[1]))
    bench.engine.end_stream(ours[1])
    bench.sent()
    return bench


def run(
    role: Role, policy: Policy, windowed: bool, sayings: list[Said], cuts: list[int] | None
) -> tuple[list[Told], list[Frame], dict[int, object]]:
    bench = prepared(role, policy, Windowed(stream_window=ROOM, session_window=ROOM) if windowed else Unmetered())
    data = b"".join(render(sayings, bench.peer))[:4000]
    told: list[Told] = []
    for part in cut_at(data, cuts) if cuts is not None else [bytes([byte]) for byte in data]:
        told += bench.feed(part)
    told = merged(told)
    ends = [event for event in told if event[0] == "ConnectionTerminated"]
    assert len(ends) <= 1
    assert not ends or told[-1] == ends[0], "the terminal event is the last one"
    sent = [frame for frame in bench.sent() if frame[0] != "WINDOW_UPDATE"]
    return told, sent, {number: bench.engine.stream(number) for number in range(20)}


@given(ROLES, POLICIES, st.booleans(), conversations(hostile=True), CUTS)
def test_cuts_change_nothing(role: Role, policy: Policy, windowed: bool, sayings: list[Said], cuts: list[int]) -> None:
    assert run(role, policy, windowed, sayings, cuts) == run(role, policy, windowed, sayings, [])


@given(ROLES, POLICIES, conversations(hostile=False, ids=LIVE_IDS))
def test_single_bytes_change_nothing(role: Role, policy: Policy, sayings: list[Said]) -> None:
    assert run(role, policy, False, sayings, None) == run(role, policy, False, sayings, [])


@given(st.integers(1, 200_000), st.integers(100, 40_000), st.booleans(), POLICIES)
def test_a_window_overrun_tells_the_same_however_it_is_cut(size: int, cut: int, wide: bool, policy: Policy) -> None:
    def overrun(part: int | None) -> list[Told]:
        bench = Bench(policy=policy, flow=Windowed(session_window=1 << 20 if wide else 1 << 16))
        bench.peer_opens(1)
        bench.sent()
        header = (1).to_bytes(4, "big") + size.to_bytes(4, "big")
        told = bench.feed(header + bytes(size), size=part)
        return [(*event[:2], len(event[2])) if event[0] == "DataReceived" else event for event in told]

    assert overrun(cut) == overrun(None)

"""Two engines back to back: whatever their callers do, every byte arrives, in order, and both see the same streams."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from spdyproto.errors import LocalProtocolError
from spdyproto.limits import Limits
from spdyproto.spdy.connection import SpdyConnection
from spdyproto.spdy.constants import RstStatus
from spdyproto.spdy.flow import FlowPolicy, Unmetered, Windowed
from spdyproto.spdy.states import Half
from spdyproto.spdy.streams import StreamView
from spdyproto.types import Policy, Role
from support.events import Told
from support.pair import Pair, snapshot
from support.strategies import HEADERS

ROLES = st.sampled_from(list(Role))
LIMITS = Limits(streams=6, data_frame_out=5000, queued_bytes=200_000, closed_streams=512)
CUTS = {None: 1_000_000, 1: 4_000, 7: 28_000, 1000: 1_000_000}
"""The payload of one example by how the link cuts: what bounds the cost of an example is its number of pieces."""


def windowed() -> FlowPolicy:
    return Windowed()


class Talk(RuleBasedStateMachine):
    """Random intents at both ends, random deliveries between; the model is what each end was allowed to say."""

    @initialize(policy=st.sampled_from(list(Policy)), metered=st.booleans(), cut=st.sampled_from(list(CUTS)))
    def begin(self, policy: Policy, metered: bool, cut: int | None) -> None:
        self.policy = policy
        self.pair = Pair(policy=policy, flow=windowed if metered else Unmetered, limits=LIMITS, cut=cut)
        self.spoken: dict[tuple[Role, int], bytes] = defaultdict(bytes)
        self.heard: dict[tuple[Role, int], bytes] = defaultdict(bytes)
        self.ended: set[tuple[Role, int]] = set()
        self.heard_end: set[tuple[Role, int]] = set()
        self.cut_short: set[int] = set()
        self.number = 0
        self.budget = CUTS[cut]

    # -- intents

    def _try(self, role: Role, intent: Any, *arguments: Any, **options: Any) -> bool:
        """Carries out an intent; a refused one must leave no trace."""
        engine = self.pair.engines[role]
        before = snapshot(engine)
        try:
            intent(engine, *arguments, **options)
        except LocalProtocolError:
            assert snapshot(engine) == before
            return False
        return True

    @rule(role=ROLES, headers=HEADERS, fin=st.booleans(), unidirectional=st.booleans(), priority=st.integers(-1, 8))
    def open(self, role: Role, headers: dict[str, str], fin: bool, unidirectional: bool, priority: int) -> None:
        pairs = list(headers.items())
        engine = self.pair.engines[role]
        next_id = engine._next_id
        if (
            self._try(
                role, SpdyConnection.open_stream, pairs, fin=fin, unidirectional=unidirectional, priority=priority
            )
            and fin
        ):
            self.ended.add((role, next_id))

    @rule(role=ROLES, stream_id=st.integers(1, 12), headers=HEADERS, fin=st.booleans())
    def accept(self, role: Role, stream_id: int, headers: dict[str, str], fin: bool) -> None:
        if self._try(role, SpdyConnection.accept_stream, stream_id, list(headers.items()), fin=fin) and fin:
            self.ended.add((role, stream_id))

    @rule(role=ROLES, stream_id=st.integers(1, 12), size=st.integers(0, 90_000), fin=st.booleans())
    def say(self, role: Role, stream_id: int, size: int, fin: bool) -> None:
        engine = self.pair.engines[role]
        if self.policy is Policy.KUBERNETES and not self._replied(engine, stream_id):
            return  # a Kubernetes peer drops it: see the quirks
        self.number += 1
        data = bytes([self.number % 256]) * min(size, self.budget)
        self.budget -= len(data)
        if self._try(role, SpdyConnection.send_data, stream_id, data, fin=fin):
            self.spoken[role, stream_id] += data
            if fin:
                self.ended.add((role, stream_id))

    def _replied(self, engine: SpdyConnection, stream_id: int) -> bool:
        view = engine.stream(stream_id)
        return isinstance(view, StreamView) and Half.AWAITING_REPLY not in (view.ours, view.theirs)

    @rule(role=ROLES, stream_id=st.integers(1, 12), headers=HEADERS, fin=st.booleans())
    def send_headers(self, role: Role, stream_id: int, headers: dict[str, str], fin: bool) -> None:
        view = self.pair.engines[role].stream(stream_id)
        if isinstance(view, StreamView) and view.theirs is Half.AWAITING_REPLY and self.policy is Policy.KUBERNETES:
            return
        if self._try(role, SpdyConnection.send_headers, stream_id, list(headers.items()), fin=fin) and fin:
            self.ended.add((role, stream_id))

    @rule(role=ROLES, stream_id=st.integers(1, 12))
    def reset(self, role: Role, stream_id: int) -> None:
        if self._try(role, SpdyConnection.reset_stream, stream_id):
            self.cut_short.add(stream_id)

    @rule(role=ROLES)
    def ping(self, role: Role) -> None:
        self._try(role, SpdyConnection.ping, self.pair.now)

    # -- deliveries

    @rule(role=ROLES)
    def deliver(self, role: Role) -> None:
        self.pair.step(role)
        self._listen()

    @rule()
    def settle(self) -> None:
        self.pair.settle()
        self._listen()
        self.pair.mirrored()
        for key, data in self.spoken.items():
            role, stream_id = key
            other = Role.SERVER if role is Role.CLIENT else Role.CLIENT
            if stream_id not in self.cut_short:
                assert self.heard[other, stream_id] == data, f"stream {stream_id}"
        for role, stream_id in self.ended:
            other = Role.SERVER if role is Role.CLIENT else Role.CLIENT
            if stream_id not in self.cut_short:
                assert (other, stream_id) in self.heard_end, f"the end of stream {stream_id}"

    def _listen(self) -> None:
        for role in Role:
            for event in self.pair.take(role):
                self._hear(role, event)

    def _hear(self, role: Role, event: Told) -> None:
        name = event[0]
        assert name not in ("ConnectionTerminated", "GoAwayReceived"), event
        if name == "DataReceived":
            self.heard[role, event[1]] += event[2]
        if name == "StreamReset":
            assert event[3], f"two engines never have to reset each other's streams: {event}"
            if (
                event[2] == RstStatus.REFUSED_STREAM
            ):  # both ends opened their last streams at once: one had no room left
                self.cut_short.add(event[1])
            assert event[1] in self.cut_short
        if (name in ("DataReceived", "HeadersReceived", "StreamAccepted") and event[-1]) or (
            name == "StreamOpened" and event[3]
        ):
            assert (role, event[1]) not in self.heard_end, "an end is told once"
            self.heard_end.add((role, event[1]))

    @invariant()
    def sizes_are_bounded(self) -> None:
        for engine in self.pair.engines.values():
            assert engine.open_streams <= LIMITS.streams
            assert engine.pending_bytes <= LIMITS.queued_bytes + 100_000


TestTalk = Talk.TestCase
TestTalk.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("policy", list(Policy))
def test_a_refused_unidirectional_stream_is_told_though_it_was_over(policy: Policy) -> None:
    """Found by `Talk`: both ends open their last stream at once; one of them is over with its own FIN, and refused."""
    pair = Pair(policy=policy, limits=LIMITS)
    for _ in range(LIMITS.streams - 1):
        pair.client.open_stream([])
    pair.settle()
    pair.server.open_stream([])
    refused = pair.client.open_stream([], fin=True, unidirectional=True)
    pair.settle()
    reset = ("StreamReset", refused, RstStatus.REFUSED_STREAM, True)
    assert [event for event in pair.take(Role.CLIENT) if event[0] == "StreamReset"] == [reset]
    pair.mirrored()


@given(
    st.sampled_from(list(Policy)),
    st.booleans(),
    st.lists(st.tuples(ROLES, st.integers(0, 100_000)), max_size=12),
    st.sampled_from([None, 1000, 16_393]),
)
def test_bytes_of_a_duplex_stream_arrive_in_order(
    policy: Policy, metered: bool, writes: list[tuple[Role, int]], cut: int | None
) -> None:
    pair = Pair(policy=policy, flow=windowed if metered else Unmetered, cut=cut)
    stream_id = pair.client.open_stream([("streamtype", "x")])
    pair.settle()
    pair.server.accept_stream(stream_id)
    pair.settle()
    for role in Role:
        pair.take(role)
    spoken = dict.fromkeys(Role, b"")
    for number, (role, size) in enumerate(writes):
        data = bytes([number]) * size
        pair.engines[role].send_data(stream_id, data)
        spoken[role] += data
        pair.step(role)
    for role in Role:
        pair.engines[role].end_stream(stream_id)
    pair.settle()
    for role, other in ((Role.CLIENT, Role.SERVER), (Role.SERVER, Role.CLIENT)):
        told = [event for event in pair.take(other) if event[0] == "DataReceived"]
        assert b"".join(event[2] for event in told) == spoken[role]
        assert [event[3] for event in told].count(True) == 1
        assert told[-1][3]
        assert pair.engines[role].open_streams == 0
        assert pair.engines[role].pending_bytes == 0

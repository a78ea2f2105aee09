"""The whole table of states, sampled: random acts of both ends on several streams, against a model of the table."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from spdyproto.errors import StreamClosedError
from spdyproto.spdy.constants import RstStatus
from spdyproto.spdy.states import TRANSITIONS, Act, Half
from spdyproto.spdy.streams import ClosedBy, StreamView
from spdyproto.types import Policy, Role
from support import wire
from support.pair import Bench, snapshot

ACTS = st.sampled_from(list(Act))
STREAMS = st.integers(1, 8)


class Law(RuleBasedStateMachine):
    """One engine and a raw peer. ``live`` maps ids to [our half, their half]; ``gone`` to how they ended."""

    @initialize(policy=st.sampled_from(list(Policy)), role=st.sampled_from(list(Role)))
    def begin(self, policy: Policy, role: Role) -> None:
        self.policy, self.role = policy, role
        self.bench = Bench(role, policy=policy)
        self.live: dict[int, list[Half]] = {}
        self.gone: dict[int, ClosedBy] = {}
        self.alone: set[int] = set()
        self.next_ours, self.next_theirs = (1, 2) if role is Role.CLIENT else (2, 1)

    @precondition(lambda self: self.next_ours < 9)
    @rule(fin=st.booleans(), unidirectional=st.booleans())
    def we_open(self, fin: bool, unidirectional: bool) -> None:
        stream_id = self.bench.engine.open_stream([("a", "b")], fin=fin, unidirectional=unidirectional)
        assert stream_id == self.next_ours
        flags = int(fin) | 2 * int(unidirectional)
        assert self.bench.sent() == [("SYN_STREAM", stream_id, flags, [("a", "b")], 0)]
        self.next_ours += 2
        if unidirectional:
            self.alone.add(stream_id)
        self._begin(
            stream_id, [Half.ENDED if fin else Half.OPEN, Half.ENDED if unidirectional else Half.AWAITING_REPLY]
        )

    @precondition(lambda self: self.next_theirs < 9)
    @rule(fin=st.booleans(), unidirectional=st.booleans())
    def they_open(self, fin: bool, unidirectional: bool) -> None:
        stream_id, flags = self.next_theirs, int(fin) | 2 * int(unidirectional)
        told = self.bench.feed(self.bench.peer.syn_stream(stream_id, {"a": "b"}, flags=flags))
        assert told == [("StreamOpened", stream_id, [("a", "b")], fin, unidirectional, 0, 0)]
        self.next_theirs += 2
        self._begin(
            stream_id, [Half.ENDED if unidirectional else Half.AWAITING_REPLY, Half.ENDED if fin else Half.OPEN]
        )

    def _begin(self, stream_id: int, halves: list[Half]) -> None:
        self.live[stream_id] = halves
        self._forget(stream_id)

    def _forget(self, stream_id: int) -> None:
        if self.live[stream_id] == [Half.ENDED, Half.ENDED]:
            del self.live[stream_id]
            self.gone[stream_id] = ClosedBy.OUR_END if stream_id in self.alone else ClosedBy.BOTH_ENDED

    @rule(stream_id=STREAMS, act=ACTS)
    def we_act(self, stream_id: int, act: Act) -> None:
        engine = self.bench.engine
        intents: dict[Act, Any] = {
            Act.REPLY: lambda: engine.accept_stream(stream_id),
            Act.HEADERS: lambda: engine.send_headers(stream_id, [("c", "d")]),
            Act.DATA: lambda: engine.send_data(stream_id, b"data"),
            Act.END: lambda: engine.end_stream(stream_id),
            Act.RESET: lambda: engine.reset_stream(stream_id),
        }
        after = TRANSITIONS[self.live[stream_id][0], act] if stream_id in self.live else RstStatus.INVALID_STREAM
        before = snapshot(engine)
        try:
            intents[act]()
        except StreamClosedError:
            assert isinstance(after, RstStatus), f"{act} was refused"
            assert snapshot(engine) == before
            assert self.bench.sent() == []
            return
        assert isinstance(after, Half), f"{act} was allowed"
        assert [frame[1] for frame in self.bench.sent()] == [stream_id]
        if after is Half.RESET:
            del self.live[stream_id]
            self.gone[stream_id] = ClosedBy.OUR_RESET
        else:
            self.live[stream_id][0] = after
            self._forget(stream_id)

    @rule(stream_id=STREAMS, act=ACTS)
    def they_act(self, stream_id: int, act: Act) -> None:
        peer = self.bench.peer
        frame = {
            Act.REPLY: lambda: peer.syn_reply(stream_id),
            Act.HEADERS: lambda: peer.headers(stream_id, {"c": "d"}),
            Act.DATA: lambda: wire.data(stream_id, b"data"),
            Act.END: lambda: wire.data(stream_id, fin=True),
            Act.RESET: lambda: wire.rst(stream_id),
        }[act]()
        told, sent = self.bench.feed(frame), self.bench.sent()
        told = [event for event in told if event[0] != "DataAfterReset"]
        if stream_id not in self.live:
            self._on_stranger(stream_id, act, told, sent)
            return
        ours, theirs = self.live[stream_id]
        after = TRANSITIONS[theirs, act]
        unheard = self.policy is Policy.KUBERNETES and ours is Half.AWAITING_REPLY and act in (Act.DATA, Act.END)
        if isinstance(after, Half) and not unheard:
            assert [event[1] for event in told] == [stream_id]
            assert sent == []
            if after is Half.RESET:
                del self.live[stream_id]
                self.gone[stream_id] = ClosedBy.THEIR_RESET
            else:
                self.live[stream_id][1] = after
                self._forget(stream_id)
            return
        early = theirs is Half.AWAITING_REPLY and act in (Act.DATA, Act.END)
        if self.policy is Policy.STRICT or early:
            assert told == [("StreamReset", stream_id, after, False)]
            assert sent == [("RST_STREAM", stream_id, after)]
            del self.live[stream_id]
            self.gone[stream_id] = ClosedBy.OUR_RESET
        else:
            assert (told, sent) == ([], [])

    @rule(stream_id=STREAMS)
    def they_refuse_what_is_over(self, stream_id: int) -> None:
        if stream_id in self.live:
            return
        told, sent = self.bench.feed(wire.rst(stream_id, RstStatus.REFUSED_STREAM)), self.bench.sent()
        assert sent == []
        if self.gone.get(stream_id) is ClosedBy.OUR_END:
            assert told == [("StreamReset", stream_id, RstStatus.REFUSED_STREAM, True)]
            self.gone[stream_id] = ClosedBy.THEIR_RESET
        else:
            assert told == []

    def _on_stranger(self, stream_id: int, act: Act, told: list[Any], sent: list[Any]) -> None:
        assert told == []
        reset = self.gone.get(stream_id) in (ClosedBy.OUR_RESET, ClosedBy.THEIR_RESET)
        if self.policy is Policy.KUBERNETES or act is Act.RESET or reset:
            assert sent == []
            return
        ended = stream_id in self.gone and act in (Act.DATA, Act.END)
        status = RstStatus.STREAM_ALREADY_CLOSED if ended else RstStatus.INVALID_STREAM
        assert sent == [("RST_STREAM", stream_id, status)]

    @invariant()
    def the_engine_agrees(self) -> None:
        for stream_id in range(1, 10):
            seen = self.bench.engine.stream(stream_id)
            if stream_id in self.live:
                assert isinstance(seen, StreamView)
                assert [seen.ours, seen.theirs] == self.live[stream_id]
            else:
                assert seen is self.gone.get(stream_id)
        assert self.bench.engine.open_streams == len(self.live)
        assert not self.bench.engine.terminated


TestLaw = Law.TestCase
TestLaw.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)

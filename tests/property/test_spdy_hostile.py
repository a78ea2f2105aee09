"""Any bytes give events or one terminal event, in bounded memory, and never an exception."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spdyproto.errors import RemoteProtocolError
from spdyproto.limits import Limits
from spdyproto.spdy.connection import SpdyConnection
from spdyproto.spdy.events import ConnectionTerminated, Event
from spdyproto.spdy.flow import Unmetered, Windowed
from spdyproto.types import Policy, Role
from support.vectors import DIALOGUES, VECTORS
from support.wire import RawPeer, cut_at

LIMITS = Limits(control_frame=4096, header_block=4096, streams=8, closed_streams=8, queued_chores=16)
WIRES = [vector.wire for vector in VECTORS if len(vector.wire) < 2000] + [
    side.wire for dialogue in DIALOGUES for side in (dialogue.client, dialogue.server)
]


def survive(parts: list[bytes], role: Role, policy: Policy, metered: bool) -> None:
    """Feeds them, and holds the engine to its promises after every call."""
    engine = SpdyConnection(role, policy=policy, limits=LIMITS, flow=Windowed() if metered else Unmetered())
    if role is Role.CLIENT:
        for _ in range(3):
            engine.open_stream([("streamtype", "x")])
    engine.data_to_send()
    events: list[Event] = []
    for part in parts:
        events += engine.receive_data(part, 0.0)
        check(engine, events)
    events += engine.receive_eof(0.0, clean=False)
    check(engine, events)
    assert engine.terminated
    assert isinstance(events[-1], ConnectionTerminated)


def check(engine: SpdyConnection, events: list[Event]) -> None:
    ends = [event for event in events if isinstance(event, ConnectionTerminated)]
    assert len(ends) == engine.terminated
    if ends:
        assert events[-1] is ends[0]
        assert ends[0].error is None or isinstance(ends[0].error, RemoteProtocolError)
    assert engine.open_streams <= LIMITS.streams
    assert engine.pending_bytes <= (LIMITS.queued_chores + 1) * 16
    assert len(engine._parser._partial) <= LIMITS.control_frame + 8
    assert len(engine._table.closed) <= LIMITS.closed_streams


@given(
    st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5), st.sampled_from(Role), st.sampled_from(Policy)
)
def test_any_bytes(data: bytes, cuts: list[int], role: Role, policy: Policy) -> None:
    survive(cut_at(data, cuts), role, policy, False)


@given(
    st.lists(st.sampled_from(WIRES), min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=6),
    st.lists(st.integers(0, 3000), max_size=4),
    st.sampled_from(Role),
    st.sampled_from(Policy),
    st.booleans(),
)
def test_damaged_golden_bytes(
    wires: list[bytes], damage: list[tuple[int, int]], cuts: list[int], role: Role, policy: Policy, metered: bool
) -> None:
    data = bytearray(b"".join(wires))
    for position, byte in damage:
        data[position % len(data)] = byte
    survive(cut_at(bytes(data), cuts), role, policy, metered)


@given(
    st.lists(st.tuples(st.integers(1, 9), st.binary(max_size=60), st.integers(0, 3)), max_size=20),
    st.lists(st.integers(0, 1000), max_size=4),
    st.sampled_from(Role),
    st.sampled_from(Policy),
)
def test_well_cut_frames_with_any_payload(
    frames: list[tuple[int, bytes, int]], cuts: list[int], role: Role, policy: Policy
) -> None:
    """Past the framing, where random bytes hardly come: payloads are rubbish, half of them compressed rightly."""
    peer, data = RawPeer(), b""
    for kind, payload, flags in frames:
        body = payload
        if kind in (1, 2, 8) and len(payload) > 10:
            fixed = 10 if kind == 1 else 4
            body = payload[:fixed] + peer.compress(payload[fixed:])
        data += (0x80030000 | kind).to_bytes(4, "big") + bytes([flags]) + len(body).to_bytes(3, "big") + body
    survive(cut_at(data, cuts), role, policy, False)

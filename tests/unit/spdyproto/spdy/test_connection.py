"""The engine before a raw peer: events, answers, its end, and what it refuses its caller."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from spdyproto.errors import (
    EngineTerminated,
    LocalProtocolError,
    OutputLimitExceeded,
    StreamClosedError,
    StreamIdsExhausted,
)
from spdyproto.limits import Keepalive, Limits
from spdyproto.spdy.connection import SpdyConnection
from spdyproto.spdy.constants import MAX_PING_ID, MAX_STREAM_ID, GoAwayStatus, RstStatus
from spdyproto.spdy.events import ConnectionTerminated, DataReceived
from spdyproto.types import Policy, Role
from support import wire
from support.pair import Bench, snapshot

POLICIES = pytest.mark.parametrize("policy", Policy)

# -- the end of a connection ---------------------------------------------------------------------------------------


@POLICIES
@pytest.mark.parametrize(
    ("bad", "error", "status"),
    [
        pytest.param(wire.control(6, wire.u32(0)), "FramingError", 1, id="ping-0"),
        pytest.param(wire.control(1, b"short"), "FramingError", 1, id="short"),
        pytest.param(wire.control(2, wire.u32(1) + b"\xff\xff\xff"), "HeaderBlockError", 1, id="bad-reply"),
        pytest.param(wire.control(8, wire.u32(1) + b"\xff\xff\xff"), "HeaderBlockError", 1, id="bad-headers"),
        pytest.param(wire.data(0, b"x"), "FramingError", 1, id="data-0"),
        pytest.param(wire.settings([(1, 1, 0)] * 65), "LimitExceeded", 2, id="settings"),
    ],
)
@pytest.mark.parametrize("size", [None, 1])
def test_a_violation_ends_the_list_after_all_good_events(
    policy: Policy, bad: bytes, error: str, status: int, size: int | None
) -> None:
    bench = Bench(policy=policy)
    bench.peer_opens(1)
    told = bench.feed(wire.data(1, b"good"), wire.ping(1), bad, wire.data(1, b"never seen"), size=size)
    assert told[:2] == [("DataReceived", 1, b"good", False), ("PingReceived", 1)]
    assert [event[:2] for event in told[2:]] == [("ConnectionTerminated", error)]
    assert bench.sent() == [("PING", 1), ("GOAWAY", 1, status)]
    assert bench.engine.terminated
    assert bench.engine.next_deadline() is None


def test_a_terminated_engine_is_inert() -> None:
    bench = Bench(keepalive=Keepalive())
    bench.peer_opens(1)
    bench.feed(wire.data(0))
    bench.sent()
    assert bench.feed(wire.data(1, b"more"), wire.ping(1)) == []
    assert bench.engine.handle_timeout(1e9) == []
    assert bench.eof() == []
    assert bench.sent() == []
    bench.engine.acknowledge(1, 100)
    intents: list[Callable[[], object]] = [
        lambda: bench.engine.open_stream([]),
        lambda: bench.engine.accept_stream(1),
        lambda: bench.engine.refuse_stream(1),
        lambda: bench.engine.send_headers(1, []),
        lambda: bench.engine.send_data(1, b"x"),
        lambda: bench.engine.end_stream(1),
        lambda: bench.engine.reset_stream(1),
        lambda: bench.engine.ping(0.0),
        lambda: bench.engine.send_settings([]),
        lambda: bench.engine.go_away(),
    ]
    for intent in intents:
        with pytest.raises(EngineTerminated):
            intent()
    assert bench.sent() == []


def test_bytes_after_the_end_of_the_transport_are_the_callers_mistake() -> None:
    bench = Bench()
    assert bench.eof() == [("ConnectionTerminated", "NoneType", "None")]
    with pytest.raises(EngineTerminated, match="after the end of the transport"):
        bench.engine.receive_data(b"", 0.0)
    assert bench.eof() == []


@POLICIES
@pytest.mark.parametrize(
    ("clean", "streams", "partial", "complaint"),
    [
        (True, 0, b"", None),
        (False, 0, b"", "was cut"),
        (True, 1, b"", "without GOAWAY with 1 open streams"),
        (False, 1, b"", "was cut"),
        (True, 0, wire.ping(1)[:3], "within a frame"),
        (True, 0, wire.ping(1)[:8], "within a frame"),
        (True, 1, wire.data(1, b"xyz")[:8], "within a frame"),
        (False, 1, wire.data(1, b"xyz")[:10], "within a frame"),
    ],
)
def test_the_end_of_the_transport(policy: Policy, clean: bool, streams: int, partial: bytes, complaint: str) -> None:
    bench = Bench(policy=policy)
    for number in range(streams):
        bench.peer_opens(2 * number + 1)
    bench.feed(partial)
    assert bench.engine.within_frame is bool(partial)
    ((name, error, text),) = bench.eof(clean=clean)
    assert name == "ConnectionTerminated"
    assert error == ("PeerClosed" if complaint else "NoneType")
    assert (complaint or "None") in text
    assert bench.sent() == [], "nobody is there to be told"


# -- GOAWAY --------------------------------------------------------------------------------------------------------


def test_a_kubernetes_peer_is_over_with_its_goaway() -> None:
    bench = Bench()
    bench.peer_opens(1)
    told = bench.feed(wire.goaway(0, 0), wire.data(1, b"never seen"))
    assert told == [("GoAwayReceived", 0, 0), ("ConnectionTerminated", "NoneType", "None")]


def test_a_strict_peer_finishes_its_streams_after_goaway() -> None:
    bench = Bench(Role.CLIENT, policy=Policy.STRICT)
    first, second = bench.we_open(), bench.we_open()
    told = bench.feed(wire.goaway(first, 0), wire.data(first, b"still"), bench.peer.syn_stream(2))
    assert told == [
        ("GoAwayReceived", first, 0),
        ("StreamReset", second, RstStatus.REFUSED_STREAM, True),
        ("DataReceived", first, b"still", False),
        ("StreamOpened", 2, [], False, False, 0, 0),
    ]
    with pytest.raises(LocalProtocolError, match="after GOAWAY"):
        bench.engine.open_stream([])
    assert "after GOAWAY with 2 open streams" in bench.eof()[0][2]


def test_goaway_is_sent_once_and_new_streams_are_ignored_after_it() -> None:
    bench = Bench()
    bench.peer_opens(1)
    bench.engine.go_away()
    bench.engine.go_away(GoAwayStatus.INTERNAL_ERROR)
    assert bench.sent() == [("GOAWAY", 1, GoAwayStatus.OK)]
    assert bench.feed(bench.peer.syn_stream(3, {"a": "b"})) == []
    assert bench.engine.stream(3) is None
    assert bench.feed(wire.data(1, b"still read")) == [("DataReceived", 1, b"still read", False)]
    assert bench.feed(bench.peer.headers(1, {"in": "step"})) == [("HeadersReceived", 1, [("in", "step")], False)]
    with pytest.raises(LocalProtocolError, match="after GOAWAY"):
        bench.engine.open_stream([])
    bench.feed(wire.data(0))
    assert bench.sent() == [], "no second GOAWAY for the violation either"


# -- PING ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("role", "theirs", "ours"), [(Role.CLIENT, 2, 1), (Role.SERVER, 1, 2)])
def test_a_ping_is_echoed_by_its_parity(role: Role, theirs: int, ours: int) -> None:
    bench = Bench(role)
    assert bench.feed(wire.ping(theirs), wire.ping(MAX_PING_ID - (theirs + 1) % 2)) == [
        ("PingReceived", theirs),
        ("PingReceived", MAX_PING_ID - (theirs + 1) % 2),
    ]
    assert bench.sent() == [("PING", theirs), ("PING", MAX_PING_ID - (theirs + 1) % 2)]
    assert bench.feed(wire.ping(ours)) == [], "an echo that nobody waits for"
    assert bench.sent() == []


def test_the_echo_of_our_ping_measures_the_round_trip() -> None:
    bench = Bench(Role.CLIENT)
    assert [bench.engine.ping(1.0), bench.engine.ping(2.0)] == [1, 3]
    bench.now = 2.5
    assert bench.feed(wire.ping(3), wire.ping(1), wire.ping(1)) == [
        ("PingAcknowledged", 3, 0.5),
        ("PingAcknowledged", 1, 1.5),
    ]


@pytest.mark.parametrize(("role", "last"), [(Role.CLIENT, 0xFFFFFFFF), (Role.SERVER, 0xFFFFFFFE)])
def test_ping_ids_wrap_around_and_skip_zero(role: Role, last: int) -> None:
    bench = Bench(role)
    bench.engine._next_ping = last
    first = 1 if role is Role.CLIENT else 2
    assert [bench.engine.ping(0.0) for _ in range(3)] == [last, first, first + 2]


# -- ids -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("role", "ids"), [(Role.CLIENT, [1, 3, 5]), (Role.SERVER, [2, 4, 6])])
def test_ids_grow_by_two(role: Role, ids: list[int]) -> None:
    bench = Bench(role)
    assert [bench.engine.open_stream([]) for _ in ids] == ids
    assert [frame[1] for frame in bench.sent()] == ids


def test_ids_do_not_wrap() -> None:
    bench = Bench(Role.CLIENT)
    bench.engine._next_id = MAX_STREAM_ID
    assert bench.engine.open_stream([]) == MAX_STREAM_ID
    before = snapshot(bench.engine)
    bench.sent()
    with pytest.raises(StreamIdsExhausted, match="open a new connection"):
        bench.engine.open_stream([])
    assert snapshot(bench.engine)[2:] == before[2:]


def test_an_id_that_the_peer_has_taken_is_not_given_out_again() -> None:
    bench = Bench(Role.SERVER)
    bench.peer_opens(2, accept=False)
    bench.peer_opens(4, accept=False)
    bench.feed(wire.rst(4))
    assert bench.engine.open_stream([]) == 6
    assert bench.view(2).opened_by_us is False


@pytest.mark.parametrize(("role", "ours"), [(Role.CLIENT, 3), (Role.SERVER, 4)])
def test_strict_takes_no_ids_of_its_own_parity(role: Role, ours: int) -> None:
    bench = Bench(role, policy=Policy.STRICT)
    assert bench.feed(bench.peer.syn_stream(ours))[0][:2] == ("ConnectionTerminated", "FramingError")


def test_strict_takes_no_id_that_does_not_grow() -> None:
    bench = Bench(policy=Policy.STRICT)
    bench.peer_opens(5)
    bench.feed(wire.rst(5))
    ((name, error, text),) = bench.feed(bench.peer.syn_stream(3))
    assert (name, error) == ("ConnectionTerminated", "FramingError")
    assert "id 3 after 5" in text


def test_strict_resets_a_stream_that_is_opened_twice() -> None:
    bench = Bench(policy=Policy.STRICT)
    bench.peer_opens(1)
    assert bench.feed(bench.peer.syn_stream(1)) == [("StreamReset", 1, RstStatus.PROTOCOL_ERROR, False)]
    assert bench.sent() == [("RST_STREAM", 1, RstStatus.PROTOCOL_ERROR)]


# -- data ----------------------------------------------------------------------------------------------------------


def test_data_is_a_view_of_the_callers_buffer() -> None:
    bench = Bench()
    bench.peer_opens(1)
    buffer = bytearray(wire.data(1, b"payload"))
    (event,) = bench.engine.receive_data(buffer, 0.0)
    assert isinstance(event, DataReceived)
    buffer[8:] = b"PAYLOAD"
    assert bytes(event.data) == b"PAYLOAD"


@POLICIES
def test_empty_data_without_fin_says_nothing(policy: Policy) -> None:
    bench = Bench(policy=policy)
    bench.peer_opens(1)
    assert bench.feed(wire.data(1), wire.data(1, b"x"), wire.data(1)) == [("DataReceived", 1, b"x", False)]
    assert bench.view(1).received == 1


@POLICIES
def test_a_16_mib_frame_is_delivered_as_it_comes_and_never_kept(policy: Policy) -> None:
    bench = Bench(policy=policy)
    bench.peer_opens(1)
    size = (1 << 24) - 1
    bench.feed(wire.u32(1, 0x01000000 | size))
    chunk, received, fins = memoryview(bytes(64 * 1024)), 0, 0
    while received < size:
        for event in bench.engine.receive_data(chunk[: size - received], 0.0):
            assert isinstance(event, DataReceived)
            received += len(event.data)
            fins += event.fin
    assert (received, fins) == (size, 1)
    assert bench.view(1).received == size


@pytest.mark.parametrize("cut", range(1, 8))
def test_a_frame_that_began_before_the_reply_is_dropped_whole(cut: int) -> None:
    """A Go server drops what came before its reply; the second half of such a frame would be silent corruption."""
    bench = Bench()
    bench.peer_opens(1, accept=False)
    frame = wire.data(1, b"dropped!", fin=True)
    bench.feed(frame[: 8 + cut])
    bench.engine.accept_stream(1)
    assert bench.feed(frame[8 + cut :]) == []
    assert bench.feed(wire.data(1, b"whole")) == [("DataReceived", 1, b"whole", False)]


def test_the_rest_of_a_frame_for_a_stream_that_we_reset_is_dropped() -> None:
    bench = Bench()
    bench.peer_opens(1)
    frame = wire.data(1, b"abcdef")
    assert bench.feed(frame[:10]) == [("DataReceived", 1, b"ab", False)]
    bench.engine.reset_stream(1)
    assert bench.feed(frame[10:], wire.data(1, b"late")) == []


@POLICIES
def test_data_for_a_stream_without_its_reply_is_never_dropped_in_silence(policy: Policy) -> None:
    bench = Bench(Role.CLIENT, policy=policy)
    stream_id = bench.we_open(replied=False)
    assert bench.feed(wire.data(stream_id, b"early"), size=1) == [
        ("StreamReset", stream_id, RstStatus.PROTOCOL_ERROR, False)
    ]


def test_sent_views_stay_views_until_they_leave() -> None:
    bench = Bench(Role.CLIENT)
    payload = bytearray(b"x" * 2000)
    bench.engine.send_data(bench.we_open(), payload)
    with pytest.raises(BufferError):
        payload.append(0)
    bench.sent()
    payload.append(0)


@pytest.mark.parametrize("kind", ["B", "I"])
def test_any_contiguous_buffer_can_be_sent(kind: str) -> None:
    bench = Bench(Role.CLIENT)
    bench.engine.send_data(bench.we_open(), memoryview(b"12345678").cast("B").cast(kind))  # type: ignore[call-overload]  # the format is a literal there
    assert bench.sent() == [("DATA", 1, b"12345678", 0)]


# -- what the caller may not do, and that nothing changes then -----------------------------------------------------


MISUSE: list[tuple[str, Callable[[SpdyConnection], object], type[LocalProtocolError]]] = [
    ("priority 8", lambda engine: engine.open_stream([], priority=8), LocalProtocolError),
    ("priority -1", lambda engine: engine.open_stream([], priority=-1), LocalProtocolError),
    ("associated", lambda engine: engine.open_stream([], associated_to=1 << 31), LocalProtocolError),
    ("header", lambda engine: engine.open_stream([("", "x")]), LocalProtocolError),
    ("forbidden", lambda engine: engine.open_stream([("Host", "x")]), LocalProtocolError),
    ("reply header", lambda engine: engine.accept_stream(5, [("connection", "x")]), LocalProtocolError),
    ("too many pairs", lambda engine: engine.open_stream([("a", "b")] * 1001), LocalProtocolError),
    ("block too long", lambda engine: engine.open_stream([("a", "b" * 65536)]), LocalProtocolError),
    ("headers", lambda engine: engine.send_headers(1, [("a", "\0")]), LocalProtocolError),
    ("ended", lambda engine: engine.send_data(3, b"x"), StreamClosedError),
    ("not accepted", lambda engine: engine.send_data(5, b"x"), StreamClosedError),
    ("unknown", lambda engine: engine.send_data(99, b"x"), StreamClosedError),
    ("too much", lambda engine: engine.send_data(1, bytes(5 << 20)), OutputLimitExceeded),
    ("no status", lambda engine: engine.reset_stream(1, 0), LocalProtocolError),  # type: ignore[arg-type]  # the point
    ("setting id", lambda engine: engine.send_settings([(1 << 24, 1, 0)]), LocalProtocolError),
    ("setting value", lambda engine: engine.send_settings([(1, 1 << 32, 0)]), LocalProtocolError),
    ("setting flags", lambda engine: engine.send_settings([(1, 1, 256)]), LocalProtocolError),
]


@POLICIES
@pytest.mark.parametrize(("intent", "error"), [pytest.param(do, error, id=name) for name, do, error in MISUSE])
def test_misuse_changes_nothing(
    policy: Policy, intent: Callable[[SpdyConnection], object], error: type[LocalProtocolError]
) -> None:
    bench = Bench(Role.SERVER, policy=policy)
    bench.peer_opens(1)
    bench.peer_opens(3)
    bench.engine.end_stream(3)
    bench.peer_opens(5, accept=False)
    bench.sent()
    before = snapshot(bench.engine)
    with pytest.raises(error):
        intent(bench.engine)
    assert snapshot(bench.engine) == before
    assert bench.sent() == []
    assert bench.engine.open_stream([("in", "step")]) == 2
    bench.engine.accept_stream(5, [("in", "step")])
    bench.engine.send_data(1, b"goes on")
    assert bench.sent() == [
        ("SYN_STREAM", 2, 0, [("in", "step")], 0),
        ("SYN_REPLY", 5, 0, [("in", "step")]),
        ("DATA", 1, b"goes on", 0),
    ]


def test_output_that_is_not_taken_refuses_more() -> None:
    bench = Bench(Role.SERVER, limits=Limits(queued_bytes=1000))
    bench.peer_opens(1)
    bench.peer_opens(3, accept=False)
    bench.engine.send_data(1, bytes(900))
    before = snapshot(bench.engine)
    with pytest.raises(OutputLimitExceeded):
        bench.engine.send_data(1, bytes(100))
    assert snapshot(bench.engine) == before
    bench.engine.send_data(1, bytes(92))
    before = snapshot(bench.engine)
    for refused in (lambda: bench.engine.open_stream([]), lambda: bench.engine.accept_stream(3)):
        with pytest.raises(OutputLimitExceeded):
            refused()
    assert snapshot(bench.engine) == before
    bench.sent()
    bench.engine.accept_stream(3)
    assert bench.sent()[0][0] == "SYN_REPLY"


# -- keepalive -----------------------------------------------------------------------------------------------------


def test_keepalive_sends_pings_and_takes_a_silent_peer_for_dead() -> None:
    bench = Bench(Role.CLIENT, keepalive=Keepalive(period=5.0, deadline=30.0))
    assert bench.engine.next_deadline() == 5.0
    assert bench.engine.handle_timeout(4.9) == []
    assert bench.sent() == []
    bench.engine.handle_timeout(5.0)
    assert bench.sent() == [("PING", 1)]
    bench.now = 6.0
    assert bench.feed(wire.ping(1)) == [("PingAcknowledged", 1, 1.0)]
    bench.engine.handle_timeout(10.0)
    assert bench.sent() == [("PING", 3)]
    for now in range(15, 40, 5):
        assert bench.engine.handle_timeout(float(now)) == []
    (event,) = bench.engine.handle_timeout(40.0)
    assert isinstance(event, ConnectionTerminated)
    assert type(event.error).__name__ == "PeerTimeout"
    assert bench.sent() == [("GOAWAY", 0, GoAwayStatus.PROTOCOL_ERROR)]
    assert bench.engine.next_deadline() is None


def test_keepalive_counts_any_byte_as_life() -> None:
    bench = Bench(Role.CLIENT, keepalive=Keepalive(period=5.0, deadline=30.0))
    bench.engine.handle_timeout(5.0)
    bench.now = 30.0
    bench.feed(b"\x80")
    assert bench.engine.handle_timeout(59.9) == []
    assert len(bench.engine.handle_timeout(60.0)) == 1


def test_keepalive_proves_nothing_while_our_output_is_blocked() -> None:
    bench = Bench(Role.CLIENT, keepalive=Keepalive(period=5.0, deadline=30.0))
    for now in range(5, 500, 5):
        assert bench.engine.handle_timeout(float(now), output_blocked=True) == []
    assert len(bench.sent()) == 1, "one PING is on its way, more would only pile up"


def test_without_keepalive_no_time_passes() -> None:
    bench = Bench(Role.CLIENT)
    assert bench.engine.next_deadline() is None
    assert bench.engine.handle_timeout(1e9) == []
    assert bench.sent() == []


# -- the tracer ----------------------------------------------------------------------------------------------------


def test_the_tracer_sees_frames_and_never_payload() -> None:
    seen: list[tuple[str, tuple[object, ...]]] = []
    bench = Bench(Role.CLIENT, tracer=lambda direction, frame: seen.append((direction, frame)))
    stream_id = bench.we_open()
    bench.engine.send_data(stream_id, b"secret out")
    bench.engine.send_headers(stream_id, [("a", "b")])
    bench.engine.ping(0.0)
    bench.engine.send_settings([])
    bench.feed(
        wire.data(stream_id, b"secret in"),
        bench.peer.headers(stream_id),
        bench.peer.syn_stream(2),
        wire.ping(1),
        wire.settings([]),
        wire.window_update(1, 1),
        wire.rst(2),
    )
    bench.engine.accept_stream(bench.peer_opens(4, accept=False))
    bench.engine.reset_stream(stream_id)
    bench.engine.go_away()
    bench.feed(wire.goaway())
    names = [(direction, frame[0]) for direction, frame in seen]
    assert names == [
        ("out", "SYN_STREAM"),
        ("in", "SYN_REPLY"),
        ("out", "DATA"),
        ("out", "HEADERS"),
        ("out", "PING"),
        ("out", "SETTINGS"),
        ("in", "DATA"),
        ("in", "HEADERS"),
        ("in", "SYN_STREAM"),
        ("in", "PING"),
        ("in", "SETTINGS"),
        ("in", "WINDOW_UPDATE"),
        ("in", "RST_STREAM"),
        ("in", "SYN_STREAM"),
        ("out", "SYN_REPLY"),
        ("out", "RST_STREAM"),
        ("out", "GOAWAY"),
        ("in", "GOAWAY"),
    ]
    assert "secret" not in repr(seen)


# -- segments ------------------------------------------------------------------------------------------------------


def test_every_control_frame_is_one_segment() -> None:
    bench = Bench(Role.CLIENT)
    stream_id = bench.we_open()
    bench.peer_opens(2, accept=False)
    bench.engine.open_stream([("a", "x" * 2000)])
    bench.engine.accept_stream(2, [("a", "y" * 3000)])
    bench.engine.send_headers(stream_id, [("a", "b")])
    bench.engine.ping(0.0)
    bench.engine.send_settings([(1, 2, 3)] * 50)
    bench.feed(wire.ping(2))
    bench.engine.reset_stream(stream_id)
    bench.engine.go_away()
    segments = bench.engine.data_to_send()
    frames = [bench.peer.read([segment]) for segment in segments]
    assert [len(group) for group in frames] == [1] * 8
    assert not bench.peer.within_frame
    assert all(isinstance(segment, bytes) for segment in segments)


def test_after_the_end_of_headers_there_are_none() -> None:
    bench = Bench(Role.CLIENT)
    stream_id = bench.we_open()
    bench.peer_opens(2, accept=False)
    bench.engine.end_of_headers()
    before = snapshot(bench.engine)
    for intent in (
        lambda: bench.engine.open_stream([]),
        lambda: bench.engine.accept_stream(2),
        lambda: bench.engine.send_headers(stream_id, []),
    ):
        with pytest.raises(LocalProtocolError, match="end_of_headers"):
            intent()
    assert snapshot(bench.engine) == before
    bench.engine.send_data(stream_id, b"x")
    bench.engine.refuse_stream(2)
    assert [frame[0] for frame in bench.sent()] == ["DATA", "RST_STREAM"]
    assert bench.feed(bench.peer.headers(stream_id, {"still": "read"}))[0][0] == "HeadersReceived"


def test_pending_bytes_is_the_sum_of_the_segments() -> None:
    bench = Bench(Role.CLIENT)
    stream_id = bench.we_open()
    for size in (0, 1, 1024, 1025, 65_528, 65_529, 200_000):
        bench.engine.send_data(stream_id, bytes(size))
        bench.engine.ping(0.0)
    pending = bench.engine.pending_bytes
    assert pending == sum(memoryview(segment).nbytes for segment in bench.engine.data_to_send())
    assert bench.engine.pending_bytes == 0


def test_after_the_end_of_headers_no_block_can_be_sent_and_data_flows_on() -> None:
    engine = SpdyConnection(Role.CLIENT)
    stream_id = engine.open_stream([("streamtype", "data")])
    engine.end_of_headers()
    before = b"".join(engine.data_to_send())
    assert before
    for send in (
        lambda: engine.open_stream([]),
        lambda: engine.send_headers(stream_id, []),
    ):
        with pytest.raises(LocalProtocolError, match="end_of_headers"):
            send()
    assert engine.data_to_send() == []
    engine.send_data(stream_id, b"x")
    assert b"".join(engine.data_to_send()).endswith(b"x")
    assert engine.open_streams == 1

"""Flow control in the engine: windows as SPDY/3.1 writes them, in both policies, and none at all."""

from __future__ import annotations

import pytest

from spdyproto.errors import FlowControlError, LocalProtocolError, StreamClosedError
from spdyproto.spdy.constants import MAX_WINDOW, GoAwayStatus, RstStatus, SettingId
from spdyproto.spdy.flow import Windowed
from spdyproto.spdy.streams import ClosedBy
from spdyproto.types import Policy, Role
from support import wire
from support.pair import Bench

POLICIES = pytest.mark.parametrize("policy", Policy)


def metered(role: Role = Role.SERVER, policy: Policy = Policy.STRICT, **windows: int) -> Bench:
    return Bench(role, policy=policy, flow=Windowed(**windows))


def test_the_greeting_announces_the_windows() -> None:
    bench = metered(stream_window=1 << 20, session_window=1 << 21)
    assert bench.sent() == [
        ("SETTINGS", 0, [(SettingId.INITIAL_WINDOW_SIZE, 1 << 20, 0)]),
        ("WINDOW_UPDATE", 0, (1 << 21) - 65536),
    ]
    assert metered().sent() == []


def test_windows_open_as_the_application_takes() -> None:
    bench = metered()
    bench.peer_opens(1)
    bench.feed(wire.data(1, bytes(65536)))
    bench.engine.acknowledge(1, 32767)
    assert bench.sent() == []
    bench.engine.acknowledge(1, 1)
    assert bench.sent() == [("WINDOW_UPDATE", 1, 32768), ("WINDOW_UPDATE", 0, 32768)]
    assert bench.feed(wire.data(1, bytes(32768)))[0][0] == "DataReceived"


@POLICIES
@pytest.mark.parametrize("size", [None, 1000, 1001])
def test_data_beyond_a_streams_window_ends_the_stream(policy: Policy, size: int | None) -> None:
    bench = metered(policy=policy, session_window=1 << 20)
    bench.sent()
    bench.peer_opens(1)
    told = bench.feed(wire.data(1, bytes(70_000)), size=size)
    assert told[:2] == [
        ("DataReceived", 1, bytes(65536), False),
        ("StreamReset", 1, RstStatus.FLOW_CONTROL_ERROR, False),
    ]
    assert bench.sent()[0] == ("RST_STREAM", 1, RstStatus.FLOW_CONTROL_ERROR)
    assert not bench.engine.terminated


def test_data_beyond_a_streams_window_costs_the_session_nothing() -> None:
    """Each such stream used to leave the session's window smaller, until a peer without fault overran it."""
    bench = metered(session_window=1 << 20)
    bench.sent()
    for stream_id in range(1, 201, 2):
        bench.peer_opens(stream_id)
        told = bench.feed(wire.data(stream_id, bytes(80_000)))
        assert told[-1] == ("StreamReset", stream_id, RstStatus.FLOW_CONTROL_ERROR, False)
        bench.engine.acknowledge(stream_id, 65536)
        bench.sent()
    assert not bench.engine.terminated


@POLICIES
@pytest.mark.parametrize("size", [None, 999])
def test_data_beyond_the_session_window_ends_the_connection(policy: Policy, size: int | None) -> None:
    bench = metered(policy=policy, stream_window=1 << 20)
    bench.sent()
    bench.peer_opens(1)
    bench.peer_opens(3)
    told = bench.feed(wire.data(1, bytes(40_000)), wire.data(3, bytes(40_000)), size=size)
    assert [event[:2] for event in told] == [
        ("DataReceived", 1),
        ("DataReceived", 3),
        ("ConnectionTerminated", "FlowControlError"),
    ]
    assert len(told[1][2]) == 65536 - 40_000
    assert bench.sent() == [("GOAWAY", 3, GoAwayStatus.PROTOCOL_ERROR)]


@POLICIES
def test_dropped_data_opens_the_session_window_again(policy: Policy) -> None:
    bench = metered(policy=policy)
    bench.peer_opens(1)
    bench.engine.reset_stream(1)
    bench.sent()
    updates = []
    for _ in range(10):
        bench.feed(wire.data(1, bytes(20_000)))
        updates += bench.sent()
    assert not bench.engine.terminated
    assert sum(frame[2] for frame in updates) >= 180_000
    assert {frame[:2] for frame in updates} == {("WINDOW_UPDATE", 0)}


@POLICIES
def test_dropped_data_beyond_the_session_window_ends_the_connection(policy: Policy) -> None:
    bench = metered(policy=policy)
    assert bench.feed(wire.data(1, bytes(65_537)))[-1][:2] == ("ConnectionTerminated", "FlowControlError")


def test_what_a_window_holds_back_leaves_with_the_credit() -> None:
    bench = metered(Role.CLIENT)
    stream_id = bench.we_open()
    bench.engine.send_data(stream_id, bytes(100_000), fin=True)
    assert sum(len(frame[2]) for frame in bench.sent()) == 65_536
    assert bench.engine.pending_bytes == 100_000 - 65_536
    assert bench.feed(wire.window_update(stream_id, 50_000)) == [("WindowUpdated", stream_id, 50_000)]
    assert bench.sent() == [], "the session's window binds too"
    bench.feed(wire.window_update(0, 50_000))
    assert [(len(frame[2]), frame[3]) for frame in bench.sent()] == [(100_000 - 65_536, 1)]
    with pytest.raises(StreamClosedError):
        bench.engine.send_data(stream_id, b"x")


def test_a_stream_with_held_data_lives_until_it_has_left() -> None:
    bench = metered(Role.CLIENT)
    stream_id = bench.we_open()
    bench.engine.send_data(stream_id, bytes(65_537), fin=True)
    bench.feed(wire.data(stream_id, fin=True))
    assert bench.engine.open_streams == 1
    bench.feed(wire.window_update(stream_id, 1), wire.window_update(0, 1))
    assert bench.engine.stream(stream_id) is ClosedBy.BOTH_ENDED
    assert bench.sent()[-1][3] == wire.FIN


def test_held_data_goes_with_its_stream() -> None:
    bench = metered(Role.CLIENT)
    first, second = bench.we_open(), bench.we_open()
    bench.engine.send_data(first, bytes(70_000))
    bench.engine.send_data(second, bytes(70_000))
    bench.sent()
    bench.feed(wire.rst(first))
    assert bench.engine.pending_bytes == 70_000
    bench.engine.reset_stream(second)
    assert bench.engine.pending_bytes == 16
    bench.sent()
    third = bench.we_open()
    bench.engine.send_data(third, bytes(70_000))
    assert bench.engine.pending_bytes == 70_000
    bench.feed(wire.data(0))
    assert bench.engine.pending_bytes == 16, "only the GOAWAY: nothing waits for credit that cannot come"


def test_held_data_leaves_by_priority() -> None:
    bench = metered(Role.CLIENT)
    streams = [bench.we_open(priority=priority) for priority in (7, 3, 0)]
    bench.engine.send_data(streams[0], bytes(65_536))
    for stream_id in streams:
        bench.engine.send_data(stream_id, b"x")
    bench.sent()
    bench.feed(wire.window_update(streams[0], 10), wire.window_update(0, 2))
    assert [frame[1] for frame in bench.sent()] == [streams[2], streams[1]]


def test_headers_do_not_overtake_held_data() -> None:
    bench = metered(Role.CLIENT)
    stream_id = bench.we_open()
    bench.engine.send_data(stream_id, bytes(70_000))
    with pytest.raises(LocalProtocolError, match="overtake"):
        bench.engine.send_headers(stream_id, [])


def test_settings_move_the_windows_of_open_streams() -> None:
    bench = metered(Role.CLIENT)
    stream_id = bench.we_open()
    bench.feed(wire.window_update(0, 1 << 20))
    bench.engine.send_data(stream_id, bytes(70_000))
    bench.sent()
    told = bench.feed(wire.settings([(7, 69_000, 0), (7, 1 << 20, 0), (4, 10, 1)]))
    assert told == [("SettingsReceived", [(7, 69_000, 0), (7, 1 << 20, 0), (4, 10, 1)], False)]
    assert [len(frame[2]) for frame in bench.sent()] == [69_000 - 65_536], "only the first entry of an id counts"


@pytest.mark.parametrize("value", [MAX_WINDOW + 1, 0xFFFFFFFF])
def test_an_impossible_initial_window_ends_the_connection(value: int) -> None:
    bench = metered()
    assert bench.feed(wire.settings([(7, value, 0)]))[0][:2] == ("ConnectionTerminated", "FlowControlError")


def test_credit_beyond_31_bits() -> None:
    bench = metered()
    bench.peer_opens(1)
    assert bench.feed(wire.window_update(1, MAX_WINDOW)) == [("StreamReset", 1, RstStatus.FLOW_CONTROL_ERROR, False)]
    assert bench.feed(wire.window_update(0, MAX_WINDOW))[0][:2] == ("ConnectionTerminated", "FlowControlError")


def test_credit_of_nothing() -> None:
    bench = metered()
    bench.peer_opens(1)
    assert bench.feed(wire.window_update(99, 0)) == []
    assert bench.feed(wire.window_update(1, 0)) == [("StreamReset", 1, RstStatus.FLOW_CONTROL_ERROR, False)]
    ((name, error, text),) = bench.feed(wire.window_update(0, 0))
    assert (name, error, text) == ("ConnectionTerminated", FlowControlError.__name__, "WINDOW_UPDATE of 0")


def test_credit_for_an_unknown_stream_changes_nothing() -> None:
    bench = metered()
    bench.feed(wire.window_update(99, 1))
    assert bench.sent() == []
    assert not bench.engine.terminated


@POLICIES
def test_without_windows_credit_and_settings_mean_nothing(policy: Policy) -> None:
    bench = Bench(Role.CLIENT, policy=policy)
    stream_id = bench.we_open()
    told = bench.feed(
        wire.window_update(stream_id, MAX_WINDOW),
        wire.window_update(stream_id, MAX_WINDOW),
        wire.window_update(0, 0),
        wire.settings([(7, 0, 0), (7, 0xFFFFFFFF, 0)]),
    )
    assert [event[0] for event in told] == ["SettingsReceived"]
    bench.engine.send_data(stream_id, bytes(1 << 20))
    assert sum(len(frame[2]) for frame in bench.sent()) == 1 << 20
    bench.engine.acknowledge(stream_id, 1 << 30)
    assert bench.sent() == []

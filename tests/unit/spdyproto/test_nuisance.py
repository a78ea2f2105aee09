"""Floods of frames that move nothing end the connection; the same frames at a healthy pace do not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from spdyproto.errors import LimitExceeded
from spdyproto.limits import Limits
from spdyproto.nuisance import Nuisances
from spdyproto.spdy.connection import SpdyConnection
from spdyproto.spdy.events import ConnectionTerminated
from spdyproto.types import Policy, Role
from spdyproto.websocket import events as websocket
from spdyproto.websocket.connection import WebSocketConnection
from support import wire, wsframes
from support.wire import RawPeer

LIMITS = Limits(nuisances=100)
KEY = b"\x01\x02\x03\x04"


def test_the_bucket_holds_so_many_and_gives_a_tenth_back_each_second() -> None:
    bucket = Nuisances(100, 5.0)
    for _ in range(100):
        bucket.add(5.0)
    with pytest.raises(LimitExceeded, match="more than 100 frames that move nothing"):
        bucket.add(5.0)
    bucket = Nuisances(100, 0.0)
    for number in range(10_000):
        bucket.add(number / 10)


def syn_and_reset(peer: RawPeer, number: int) -> bytes:
    stream_id = 2 * number + 1
    return peer.syn_stream(stream_id, {"streamtype": "error"}) + wire.rst(stream_id)


SPDY: dict[str, Callable[[RawPeer, int], bytes]] = {
    "pings": lambda peer, number: wire.ping(2 * number + 1),
    "settings": lambda peer, number: wire.settings([(4, 100, 0)]),
    "rapid resets": syn_and_reset,
    "resets of nothing": lambda peer, number: wire.rst(2 * number + 1),
    "the same stream": lambda peer, number: peer.syn_stream(1, {"streamtype": "error"}),
    "window updates": lambda peer, number: wire.window_update(0, 1),
    "headers of nothing": lambda peer, number: peer.headers(2 * number + 9),
}


@pytest.mark.parametrize("flood", SPDY)
@pytest.mark.parametrize("policy", Policy)
def test_a_flood_over_spdy(flood: str, policy: Policy) -> None:
    engine = SpdyConnection(Role.SERVER, policy=policy, limits=LIMITS)
    peer = RawPeer()
    if flood == "the same stream" and policy is Policy.STRICT:
        return  # the second ends the connection by itself
    for number in range(300):
        events = engine.receive_data(SPDY[flood](peer, number), 0.0)
        engine.data_to_send()  # the peer reads the answers
        if engine.terminated:
            assert isinstance(events[-1], ConnectionTerminated)
            assert isinstance(events[-1].error, LimitExceeded)
            break
    assert 100 <= number <= 103


def test_empty_data_over_spdy() -> None:
    engine = SpdyConnection(Role.SERVER, limits=LIMITS)
    engine.receive_data(RawPeer().syn_stream(1, {"streamtype": "stdin"}), 0.0)
    engine.accept_stream(1)
    events = engine.receive_data(wire.data(1) * 150, 0.0)
    assert isinstance(events[-1], ConnectionTerminated)


def test_streams_that_carried_something_are_reset_as_often_as_one_likes() -> None:
    """As client-go ends every forwarded connection."""
    engine = SpdyConnection(Role.SERVER, limits=LIMITS)
    peer = RawPeer()
    for number in range(1000):
        stream_id = 2 * number + 1
        engine.receive_data(peer.syn_stream(stream_id, {"streamtype": "data"}), 0.0)
        engine.accept_stream(stream_id)
        if number % 2:
            engine.receive_data(wire.data(stream_id, b"x"), 0.0)
        else:
            engine.send_data(stream_id, b"x")
        engine.receive_data(wire.rst(stream_id), 0.0)
        engine.data_to_send()
    assert not engine.terminated


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("flood", ["pings", "pongs", "empty fragments", "empty messages"])
def test_a_flood_over_websocket(role: Role, flood: str) -> None:
    engine = WebSocketConnection(role, limits=LIMITS)
    key = KEY if role is Role.SERVER else None
    if flood == "empty fragments":
        engine.receive_data(wsframes.frame(2, b"x", fin=False, key=key), 0.0)
    opcode = {"pings": 9, "pongs": 10, "empty fragments": 0, "empty messages": 2}[flood]
    frame = wsframes.frame(opcode, fin=flood != "empty fragments", key=key)
    ends: list[websocket.Event] = []
    count = 0
    while not ends and count < 300:
        count += 1
        events = engine.receive_data(frame, 0.0)
        ends = [event for event in events if isinstance(event, websocket.ConnectionTerminated)]
        engine.data_to_send()
    assert count == 101
    (end,) = ends
    assert isinstance(end, websocket.ConnectionTerminated)
    assert isinstance(end.error, LimitExceeded)


def test_pings_at_a_healthy_pace_go_on_for_ever() -> None:
    spdy = SpdyConnection(Role.SERVER, limits=LIMITS)
    over_websocket = WebSocketConnection(Role.SERVER, limits=LIMITS)
    for number in range(2000):
        now = number * 0.2
        spdy.receive_data(wire.ping(2 * number + 1), now)
        over_websocket.receive_data(wsframes.frame(9, b"", key=KEY), now)
        spdy.data_to_send()
        over_websocket.data_to_send()
    assert not spdy.terminated
    assert not over_websocket.terminated

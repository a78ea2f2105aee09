"""The client over WebSocket, in both flavours, on the fake kubelet; and the choice of the transport."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fakekubelet import FakeKubelet, User
from fakekubelet.websockets import ALL_WEBSOCKET
from kubeletclient import BearerToken, ProtocolNotSupported, Unauthorized
from support.flavours import Flavour, flavour_fixture
from support.peers import FakePeer
from support.wscontract import WebSocketContract

flavour = flavour_fixture()


@pytest.fixture(scope="module")
def peer() -> Iterator[FakePeer]:
    with FakeKubelet() as kubelet:
        yield FakePeer(kubelet)


@pytest.fixture(scope="module")
def modern() -> Iterator[FakePeer]:
    with FakeKubelet(websocket_protocols=ALL_WEBSOCKET) as kubelet:
        yield FakePeer(kubelet)


@pytest.fixture(scope="module")
def without_spdy() -> Iterator[FakePeer]:
    with FakeKubelet(protocols=[], websocket_protocols=ALL_WEBSOCKET) as kubelet:
        yield FakePeer(kubelet)


class TestWebSocket(WebSocketContract):
    """All of it."""


def test_spdy_comes_first(flavour: Flavour, modern: FakePeer) -> None:
    done = flavour.node(modern.url, **modern.options()).run("cat", input=b"x")
    assert (done.transport, done.protocol) == ("spdy", "v4.channel.k8s.io")
    assert [attempt.transport for attempt in done.attempts] == ["spdy"]


def test_websocket_where_spdy_is_refused(flavour: Flavour, without_spdy: FakePeer) -> None:
    node = flavour.node(without_spdy.url, **without_spdy.options())
    done = node.run("cat", input=b"through")
    assert (done.returncode, done.stdout, done.transport) == (0, b"through", "ws")
    spdy, ws = done.attempts
    assert (spdy.transport, spdy.accepted, spdy.skipped) == ("spdy", None, False)
    assert spdy.reason
    assert (ws.transport, ws.offered, ws.accepted) == ("ws", ("v5.channel.k8s.io",), "v5.channel.k8s.io")
    again = node.run("echo", "x")
    assert [attempt.skipped for attempt in again.attempts] == [True, False]


def test_chosen_transport_is_the_only_one(flavour: Flavour, without_spdy: FakePeer) -> None:
    with pytest.raises(ProtocolNotSupported) as caught:
        flavour.node(without_spdy.url, **without_spdy.options(), transport="spdy").run("echo", "x")
    assert [attempt.transport for attempt in caught.value.attempts] == ["spdy"]


def test_token_among_the_subprotocols(flavour: Flavour) -> None:
    with FakeKubelet(tokens={"correct": User("alice")}) as kubelet:
        good, bad = BearerToken("correct"), BearerToken("wr0ng-secret")
        options = {"ca": kubelet.ca, "transport": "ws", "bearer_subprotocol": True}
        assert flavour.node(kubelet.url, **options, credentials=good).run("echo", "x").returncode == 0
        assert kubelet.executions[-1].request.user.name == "alice"
        with pytest.raises(Unauthorized) as caught:
            flavour.node(kubelet.url, **options, credentials=bad).run("echo", "x")
        assert "wr0ng-secret" not in repr(caught.value) + str(caught.value)

"""The client over WebSocket, in both flavours, against the code that real container runtimes and kubelets serve it
with: `x/net/websocket` for v4 and older, the translator for v5."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kubeletclient import PIPE, ConnectionLost
from support.contract import GIB, HashSink, hashed_blocks
from support.flavours import Flavour, Running, flavour_fixture
from support.peers import GoPeer
from support.pki import Pki
from support.wscontract import WebSocketContract

pytestmark = [pytest.mark.interop, pytest.mark.usefixtures("go_peers")]

flavour = flavour_fixture()


@pytest.fixture(scope="module")
def peer(go_peers: Path, pki: Pki) -> Iterator[GoPeer]:
    with GoPeer.serve(pki) as peer:
        yield peer


@pytest.fixture(scope="module")
def modern(go_peers: Path, pki: Pki) -> Iterator[GoPeer]:
    with GoPeer.serve(pki, translate=True) as peer:
        yield peer


class TestWebSocket(WebSocketContract):
    """All of it."""


@pytest.mark.parametrize("transport", ["spdy", "ws"])
def test_attach(flavour: Flavour, modern: GoPeer, transport: str) -> None:
    node = flavour.node(modern.url, **modern.options(), transport=transport)
    with Running(flavour, flavour.do(lambda: node.pod().attach(container="main", stdin=PIPE))) as process:
        process.write(b"err aside\nunheard-of\nexit\n")
        assert b"unheard-of\n" in process.read()
        assert process.read_stderr() == b"aside\n"
        assert process.wait(30) == 0
        assert process.process.transport == transport


@pytest.mark.parametrize("transport", ["ws:v4.channel.k8s.io", "ws:v4.base64.channel.k8s.io", "ws:channel.k8s.io"])
@pytest.mark.parametrize("size", [0, 1, 100_000])
def test_a_cut_is_no_success(flavour: Flavour, peer: GoPeer, transport: str, size: int) -> None:
    node = flavour.node(peer.url, **peer.options(), transport=transport)
    with pytest.raises(ConnectionLost) as caught:
        node.run("cut", str(size))
    assert caught.value.stdout == bytes(size)
    assert "the exit status" in caught.value.owed
    assert type(caught.value) is ConnectionLost, "a cut is no end in good order"


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_download_of_a_gibibyte(flavour: Flavour, peer: GoPeer, gibibyte: str) -> None:
    sink = HashSink()
    node = flavour.node(peer.url, **peer.options(), transport="ws:v4.channel.k8s.io")
    done = node.run("random", str(GIB), "gibibyte", stdout=sink)
    assert (done.returncode, sink.seen) == (0, (GIB, gibibyte))


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_upload_of_a_gibibyte(flavour: Flavour, modern: GoPeer, gibibyte: str) -> None:
    node = flavour.node(modern.url, **modern.options(), transport="ws:v5.channel.k8s.io")
    done = node.run("sink", input=hashed_blocks(GIB, "gibibyte", HashSink()))
    assert done.stdout == f"{GIB} {gibibyte}\n".encode()


@pytest.fixture(scope="module")
def gibibyte() -> str:
    """The digest of a GiB of random bytes."""
    sink = HashSink()
    for _ in hashed_blocks(GIB, "gibibyte", sink):
        pass
    return sink.seen[1]

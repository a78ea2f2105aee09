"""Streams and plain requests through real proxies, in both flavours."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from fakekubelet import FakeKubelet
from fakekubelet.websockets import ALL_WEBSOCKET
from kubeletclient import ProxyAuthenticationError, ProxyError
from support.flavours import Flavour, flavour_fixture
from support.gopeers import random_bytes
from support.peers import FakePeer
from support.proxies import PASSWORD, RealProxy, http_proxy, https_proxy, socks_proxy

pytestmark = pytest.mark.interop

flavour = flavour_fixture()
KINDS = ["http", "http with a password", "https with a password", "socks5", "socks5 with a password"]
DATA = random_bytes(16 * 1024 * 1024 + 1, seed=6)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def peer() -> Iterator[FakePeer]:
    with FakeKubelet(websocket_protocols=ALL_WEBSOCKET) as kubelet:
        yield FakePeer(kubelet)


@pytest.fixture(scope="module", params=KINDS)
def proxy(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA
) -> Iterator[RealProxy]:
    with started(request.param, tmp_path_factory.mktemp("proxy"), authority) as running:
        yield running


@contextlib.contextmanager
def started(kind: str, folder: Path, authority: trustme.CA) -> Iterator[RealProxy]:
    scheme, _, login = kind.partition(" ")
    if scheme == "http":
        context = http_proxy(folder, authenticated=bool(login))
    elif scheme == "https":
        context = https_proxy(folder, authority, authenticated=bool(login))
    else:
        context = socks_proxy(folder, authenticated=bool(login))
    with context as running:
        yield running


def options_of(peer: FakePeer, authority: trustme.CA, proxy: str) -> dict[str, Any]:
    """The authority of the proxy is trusted because it is among those of the server, as client-go has it."""
    options = peer.options()
    return {**options, "ca": options["ca"] + authority.cert_pem.bytes(), "proxy": proxy}


@pytest.mark.parametrize("transport", ["spdy", "ws"])
def test_sixteen_mebibytes_each_way(
    flavour: Flavour, peer: FakePeer, authority: trustme.CA, proxy: RealProxy, transport: str
) -> None:
    """One way at a time: microsocks stops for good when both are full, for it writes before it reads on."""
    node = flavour.node(peer.url, transport=transport, **options_of(peer, authority, proxy.url))
    up = node.run("sink", input=DATA, timeout=60)
    assert up.stdout.split() == [b"%d" % len(DATA), hashlib.sha256(DATA).hexdigest().encode()]
    down = node.run("random", str(len(DATA)), "6", timeout=60)
    assert hashlib.sha256(down.stdout).digest() == hashlib.sha256(DATA).digest()
    assert (down.returncode, down.transport) == (0, transport)
    assert proxy.connected_to(int(peer.url.rpartition(":")[2])), "it went through the proxy"


def test_a_plain_request(flavour: Flavour, peer: FakePeer, authority: trustme.CA, proxy: RealProxy) -> None:
    """Without a container's name the kubelet's list of pods is asked for."""
    node = flavour.node(peer.url, **options_of(peer, authority, proxy.url))
    assert node.run("echo", "hello", container=None, timeout=60).stdout == b"hello\n"


@pytest.mark.parametrize("userinfo", ["", "jane:wrong@", "eve:s3cr3t-pass@"])
def test_a_wrong_password(
    flavour: Flavour, peer: FakePeer, authority: trustme.CA, proxy: RealProxy, userinfo: str
) -> None:
    if not proxy.authenticated:
        return  # it takes anybody
    node = flavour.node(peer.url, **options_of(peer, authority, proxy.url_with(userinfo)))
    for container in ("main", None):
        with pytest.raises(ProxyAuthenticationError, match="the proxy") as caught:
            node.run("true", container=container, timeout=60)
        assert f"{proxy.scheme}://" in str(caught.value)
        for secret in (PASSWORD, "s3cr3t", "wrong", "eve"):
            assert secret not in str(caught.value) + repr(caught.value)


def test_a_server_that_the_proxy_cannot_reach(
    flavour: Flavour, peer: FakePeer, authority: trustme.CA, proxy: RealProxy
) -> None:
    node = flavour.node("https://127.0.0.1:1", **options_of(peer, authority, proxy.url))
    for container in ("main", None):
        with pytest.raises(ProxyError, match=rf"the proxy {proxy.scheme}://") as caught:
            node.run("true", container=container, timeout=60)
        assert caught.value.url.startswith("https://127.0.0.1:1/")


def test_nothing_listens_where_the_proxy_should_be(flavour: Flavour, peer: FakePeer) -> None:
    for container in ("main", None):
        with pytest.raises(ProxyError, match=r"the proxy http://127\.0\.0\.1:1 cannot be reached: nothing listens"):
            flavour.node(peer.url, proxy="http://127.0.0.1:1", **peer.options()).run(
                "true", container=container, timeout=60
            )


def test_the_certificate_of_a_proxy_is_verified(
    flavour: Flavour, peer: FakePeer, authority: trustme.CA, tmp_path: Path
) -> None:
    with https_proxy(tmp_path, authority, authenticated=True) as proxy:
        for container in ("main", None):
            with pytest.raises(ProxyError, match="authorit") as caught:
                flavour.node(peer.url, proxy=proxy.url, **peer.options()).run("true", container=container, timeout=60)
            assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("container", ["main", None], ids=["stream", "plain request"])
def test_the_environment_names_the_proxy(
    flavour: Flavour, peer: FakePeer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, container: str | None
) -> None:
    """This machine by an address that is none of its loopback ones, for those never go through a proxy."""
    port = peer.url.rpartition(":")[2]
    options = {**peer.options(), "server_name": "127.0.0.1"}
    with http_proxy(tmp_path, authenticated=True) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "10.0.0.0/8,0.0.0.0/8")
        node = flavour.node(f"https://0.0.0.0:{port}", **options)
        assert node.run("echo", "x", container=container, timeout=30).stdout == b"x\n"
        assert not proxy.connected_to(int(port)), "the network is excepted"
        monkeypatch.setenv("NO_PROXY", "10.0.0.0/8")
        node = flavour.node(f"https://0.0.0.0:{port}", **options)
        assert node.run("echo", "x", container=container, timeout=30).stdout == b"x\n"
        assert proxy.connected_to(int(port))

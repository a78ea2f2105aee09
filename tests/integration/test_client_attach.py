"""Attach, in both flavours and over both transports, on the fake kubelet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fakekubelet import Container, FakeKubelet, Pod
from fakekubelet.websockets import ALL_WEBSOCKET
from kubeletclient import PIPE, NotFound, ServerError
from support.flavours import Flavour, Running, flavour_fixture
from support.peers import FakePeer

flavour = flavour_fixture()
TRANSPORTS = ["spdy", "ws"]


@pytest.fixture
def peer() -> Iterator[FakePeer]:
    containers = [
        Container("main", main=["cat"], stdin=True),
        Container("once", main=["sink"], stdin=True, stdin_once=True, backlog=1000),
        Container("tty", main=["sizes", "1000000"], stdin=True, tty=True),
    ]
    with FakeKubelet([Pod("default/demo", containers)], websocket_protocols=ALL_WEBSOCKET) as kubelet:
        yield FakePeer(kubelet)


def attach(flavour: Flavour, peer: FakePeer, transport: str, **options: Any) -> Running:
    node = flavour.node(peer.url, **peer.options(), transport=transport)
    return Running(flavour, flavour.do(lambda: node.pod().attach(**{"container": "main", **options})))


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_talk_and_leave(flavour: Flavour, peer: FakePeer, transport: str) -> None:
    for text in (b"first\n", b"again\n"):  # the process lives on when nobody is attached
        with attach(flavour, peer, transport, stdin=PIPE) as process:
            process.write(text)
            assert process.read(6) == text
            assert process.process.transport == transport


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_end_of_stdin_ends_the_session_without_an_exit_code(
    flavour: Flavour, peer: FakePeer, transport: str
) -> None:
    with attach(flavour, peer, transport, stdin=PIPE) as process:
        process.write(b"x")
        assert process.read(1) == b"x"
        process.end_stdin()
        assert process.read() == b""
        assert process.wait(30) == 0


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_stdin_once(flavour: Flavour, peer: FakePeer, transport: str) -> None:
    with attach(flavour, peer, transport, container="once", stdin=PIPE) as process:
        assert process.communicate(b"all of it", timeout=30)[0].startswith(b"9 ")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_terminal(flavour: Flavour, peer: FakePeer, transport: str) -> None:
    with attach(flavour, peer, transport, container="tty", tty=True, stdin=PIPE) as process:
        assert process.process.stderr is None
        process.resize(80, 24)
        assert process.read(6) == b"80x24\n"


def test_two_who_watch(flavour: Flavour, peer: FakePeer) -> None:
    with attach(flavour, peer, "spdy", stdin=PIPE) as writer, attach(flavour, peer, "ws") as watcher:
        writer.write(b"seen by both")
        assert writer.read(12) == watcher.read(12) == b"seen by both"


def test_nothing_to_attach_to(flavour: Flavour, peer: FakePeer) -> None:
    with pytest.raises(ServerError):
        attach(flavour, peer, "auto", container="other")
    node = flavour.node(peer.url, **peer.options())
    with pytest.raises(NotFound, match="pod does not exist"):
        flavour.do(lambda: node.pod("other").attach(container="main"))

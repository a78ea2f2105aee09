"""The client, in both flavours, through Kubernetes' own apiserver proxy and translator: what it tries, in which order,
when it goes on to the next, and when it must not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubeletclient import PIPE, BadRequest, Forbidden, NotFound, RemoteError, ServerError, Unauthorized
from support.contract import ALL_BYTES, MIB, HashSink, expected, hashed_blocks
from support.flavours import Flavour, Node, Running, flavour_fixture
from support.front import through_apiserver
from support.gopeers import GoFront, GoServer, random_bytes
from support.peers import GoPeer
from support.pki import Pki

pytestmark = [pytest.mark.interop, pytest.mark.usefixtures("go_peers")]

flavour = flavour_fixture()
V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"


@pytest.fixture(scope="module")
def kubelet(go_peers: Path, pki: Pki) -> Iterator[GoPeer]:
    """A kubelet up to 1.35."""
    with GoPeer.serve(pki) as peer:
        yield peer


def front_of(kubelet: GoServer, pki: Pki, **settings: Any) -> GoFront:
    return GoFront(
        pki.server_certificate, pki.server_key, client_ca=pki.ca, backend=kubelet.url, backend_ca=pki.ca,
        backend_certificate=pki.client_certificate, backend_key=pki.client_key, **settings,
    )  # fmt: skip


@pytest.fixture(scope="module")
def modern(kubelet: GoPeer, pki: Pki) -> Iterator[GoFront]:
    """An apiserver that translates WebSocket v5: from 1.30 on."""
    with front_of(kubelet.server, pki) as front:
        yield front


@pytest.fixture(scope="module")
def old(kubelet: GoPeer, pki: Pki) -> Iterator[GoFront]:
    """One that passes everything on to a kubelet which knows no v5: before 1.30."""
    with front_of(kubelet.server, pki, pass_websockets=True) as front:
        yield front


def at(front: GoFront, flavour: Flavour, kubelet: GoPeer, **more: Any) -> Node:
    return through_apiserver(flavour, front.url, **{**kubelet.options(), **more})


def tried(done: Any) -> list[tuple[str, str | None]]:
    return [(attempt.transport, attempt.accepted) for attempt in done.attempts]


# -- the order -------------------------------------------------------------------------------------------------------


def test_websocket_v5_comes_first(flavour: Flavour, modern: GoFront, kubelet: GoPeer) -> None:
    node = at(modern, flavour, kubelet)
    done = node.run("cat", input=ALL_BYTES * 1000)
    assert (done.returncode, done.stdout) == (0, ALL_BYTES * 1000)
    assert (done.transport, done.protocol, done.route) == ("ws", V5, "apiserver")
    assert tried(done) == [("ws", V5)]
    assert done.attempts[0].why.startswith("an apiserver since 1.30")
    assert node.run("exit", "7").returncode == 7


def test_much_to_send_goes_over_spdy(flavour: Flavour, modern: GoFront, kubelet: GoPeer) -> None:
    data = random_bytes(8 * MIB, "bulk")
    done = at(modern, flavour, kubelet).run("discard", input=data)
    assert (done.stdout, done.transport) == (f"{8 * MIB}\n".encode(), "spdy")
    assert "needs no mask" in done.attempts[0].why


def test_spdy_at_an_old_apiserver_and_at_once_the_next_time(flavour: Flavour, old: GoFront, kubelet: GoPeer) -> None:
    node = at(old, flavour, kubelet)
    done = node.run("cat", input=b"through")
    assert (done.stdout, done.transport, done.protocol) == (b"through", "spdy", V4)
    assert tried(done) == [("ws", None), ("spdy", V4)]
    assert done.attempts[0].reason.startswith("HTTP 403 without a text")
    again = node.run("echo", "x")
    assert [(attempt.transport, attempt.skipped) for attempt in again.attempts] == [("ws", True), ("spdy", False)]


@pytest.mark.parametrize("transport", ["spdy", "ws", "ws:v4.channel.k8s.io", "ws:v4.base64.channel.k8s.io"])
def test_what_is_asked_for_is_all_that_is_tried(
    flavour: Flavour, modern: GoFront, kubelet: GoPeer, transport: str
) -> None:
    done = at(modern, flavour, kubelet, transport=transport).run("both", "300")
    assert (done.returncode, done.transport) == (0, transport.partition(":")[0])
    assert len(done.attempts) == 1
    assert done.stdout.count(b"\n") == done.stderr.count(b"\n") == 300


# -- what is final ---------------------------------------------------------------------------------------------------


def test_unknown_callers(flavour: Flavour, modern: GoFront, kubelet: GoPeer) -> None:
    for stranger in kubelet.strangers():
        with pytest.raises(Unauthorized) as caught:
            at(modern, flavour, kubelet, **{"credentials": None, **stranger}).run("echo", "x")
        assert [attempt.transport for attempt in caught.value.attempts] == ["ws"]


@pytest.mark.parametrize(("verbs", "missing"), [(["create"], "get"), (["get"], "create"), ([], "get")])
def test_no_right_is_never_a_reason_to_try_another_transport(
    flavour: Flavour, kubelet: GoPeer, pki: Pki, verbs: list[str], missing: str
) -> None:
    """With `create` alone SPDY would pass: falling back would get around the `get` that this apiserver asks for."""
    with front_of(kubelet.server, pki, verbs=verbs) as front:
        node = at(front, flavour, kubelet)
        with pytest.raises(Forbidden, match=f"cannot {missing} resource") as caught:
            node.run("echo", "x")
        assert [attempt.transport for attempt in caught.value.attempts] == ["ws"]
        assert "get" in str(caught.value)
        assert "`create`" in caught.value.hint
        assert "pods/exec" in caught.value.hint
        if verbs == ["create"]:
            assert at(front, flavour, kubelet, transport="spdy").run("echo", "x").stdout == b"x\n"


def test_missing_pods_and_containers(flavour: Flavour, modern: GoFront, kubelet: GoPeer) -> None:
    node = at(modern, flavour, kubelet)
    with pytest.raises(NotFound, match='pods "other" not found') as caught:
        node.run("echo", pod={"pod": "other"})
    assert len(caught.value.attempts) == 1
    with pytest.raises(BadRequest, match="container other is not valid for pod demo") as refused:
        node.run("echo", container="other")
    assert len(refused.value.attempts) == 1


def test_what_the_kubelet_refuses_behind_the_101_is_no_reason(flavour: Flavour, kubelet: GoPeer, pki: Pki) -> None:
    """The translator has said 101 by then; the same over SPDY is a plain refusal."""
    with front_of(kubelet.server, pki, containers=["main", "gone"]) as front:
        with pytest.raises(RemoteError, match="container not found") as translated:
            at(front, flavour, kubelet).run("echo", container="gone")
        assert len(translated.value.attempts) <= 1
        with pytest.raises(ServerError, match="container not found"):
            at(front, flavour, kubelet, transport="spdy").run("echo", container="gone")


# -- the rest of a session -------------------------------------------------------------------------------------------


def test_both_ways_by_digest(flavour: Flavour, modern: GoFront, kubelet: GoPeer) -> None:
    node = at(modern, flavour, kubelet)
    came = HashSink()
    assert node.run("random", str(4 * MIB + 1), "down", stdout=came).returncode == 0
    assert came.seen == expected(4 * MIB + 1, "down")
    sent = HashSink()
    done = node.run("sink", input=hashed_blocks(4 * MIB, "up", sink=sent))
    assert (done.stdout.decode(), done.transport) == ("{} {}\n".format(*sent.seen), "ws")


def test_half_close_and_terminal(flavour: Flavour, modern: GoFront, kubelet: GoPeer) -> None:
    node = at(modern, flavour, kubelet)
    with node.popen("cat", stdin=PIPE) as process:
        process.write(b"first,")
        assert process.read(6) == b"first,"
        process.end_stdin()
        assert process.read() == b""
        assert process.wait() == 0
    with node.popen("sizes", "2", tty=True) as process:
        process.resize(80, 24)
        process.resize(132, 43)
        assert process.read() == b"80x24\n132x43\n"


def test_attach(flavour: Flavour, modern: GoFront, kubelet: GoPeer) -> None:
    node = at(modern, flavour, kubelet)
    with Running(flavour, flavour.do(lambda: node.pod().attach(container="main", stdin=PIPE))) as process:
        process.write(b"err aside\nunheard-of\nexit\n")
        assert b"unheard-of\n" in process.read()
        assert process.read_stderr() == b"aside\n"
        assert (process.wait(30), process.process.transport) == (0, "ws")

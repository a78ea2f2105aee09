"""Sessions that end before their end: never a success, always a typed error in bounded time, nothing received is lost.

The fake kubelet serves through a proxy that cuts. What the client was told is judged by what the bytes it was given
prove (`support.proof`), not by its own engine.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from fakekubelet import FakeKubelet
from kubeletclient import (
    PIPE,
    ClientError,
    ConnectError,
    ConnectionLost,
    Deadlines,
    Keepalive,
    PeerNotResponding,
    TLSTimeout,
    UpgradeTimeout,
)
from support.cutproxy import Cut, CutProxy, How
from support.flavours import Flavour, flavour_fixture
from support.gopeers import random_bytes
from support.lines import (
    ERR,
    OUT,
    PATIENT,
    STDERR,
    STDOUT,
    VERSIONS,
    Line,
    judge_beginning,
    judge_loss,
    positions,
    sweep,
)
from support.peers import FakePeer
from support.proof import read
from support.scripted import Peer, Script, ScriptedServer

flavour = flavour_fixture()

SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
    b"X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n"
)
SYN_REPLY = bytes.fromhex("8003000200000014 00000001 78f9e3c6a7c202a6230600000000ffff")


@pytest.fixture(scope="module")
def kubelet() -> Iterator[FakeKubelet]:
    with FakeKubelet(anonymous=True) as kubelet:
        yield kubelet


@dataclass
class Inside:
    """Both ends of TLS, for a proxy that terminates it."""

    serve: ssl.SSLContext
    dial: ssl.SSLContext


@pytest.fixture(scope="module")
def inside(kubelet: FakeKubelet, tmp_path_factory: pytest.TempPathFactory) -> Inside:
    pair = kubelet.authority.issue_server(["127.0.0.1"])
    certificate, key = pair.write(tmp_path_factory.mktemp("proxy"), "proxy")
    serve = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serve.load_cert_chain(certificate, key)
    return Inside(serve, ssl.create_default_context(cadata=kubelet.ca.decode()))


@contextlib.contextmanager
def line_to(kubelet: FakeKubelet, flavour: Flavour, inside: Inside | None = None, **options: Any) -> Iterator[Line]:
    """A proxy before `kubelet` and a node behind it; with `inside` it cuts plaintext, else raw bytes."""
    contexts = {} if inside is None else {"serve": inside.serve, "dial": inside.dial}
    with CutProxy(("127.0.0.1", kubelet.port), **contexts) as proxy:
        url = f"https://127.0.0.1:{proxy.port}"
        yield Line(proxy, flavour.node(url, **{"ca": kubelet.ca, "deadlines": PATIENT, **options}))


@pytest.fixture
def outer(flavour: Flavour, kubelet: FakeKubelet) -> Iterator[Line]:
    """A line on which raw bytes are cut, those of the client's certificate among them."""
    with line_to(kubelet, flavour, **FakePeer(kubelet).options()) as line:
        yield line


@pytest.fixture
def inner(flavour: Flavour, kubelet: FakeKubelet, inside: Inside) -> Iterator[Line]:
    """A line on which plaintext is cut."""
    with line_to(kubelet, flavour, inside) as line:
        yield line


@pytest.mark.slow
@pytest.mark.parametrize("how", ["fin", "rst"])
def test_cut_ciphertext_from_the_server(outer: Line, how: How) -> None:
    whole, passage = outer.run(None, "both", "3")
    assert (whole.returncode, whole.stdout, whole.stderr) == (0, OUT, ERR)
    total = len(passage.down)
    succeeded = []
    for after in positions(total, 200):
        result, _ = outer.run(Cut(after, how), "both", "3")
        if isinstance(result, ClientError):
            judge_loss(result)
            judge_beginning(result, OUT, ERR)
        else:
            assert (result.returncode, result.stdout, result.stderr) == (0, OUT, ERR)
            succeeded.append(after)
    # Behind the status come RST_STREAM, GOAWAY and close_notify alone; a certificate's signature varies by 2 bytes.
    assert all(after > total - 200 for after in succeeded), (total, succeeded)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["fin", "rst"])
def test_cut_ciphertext_from_the_client(outer: Line, how: How) -> None:
    data = random_bytes(2000, "up")
    whole, passage = outer.run(None, "cat", input=data)
    assert (whole.returncode, whole.stdout) == (0, data)
    total = len(passage.up)
    for after in positions(total, 100):
        result, _ = outer.run(Cut(after, how, "up"), "cat", input=data)
        if isinstance(result, ClientError):
            judge_loss(result)
            judge_beginning(result, data)
        else:
            assert (result.returncode, result.stdout) == (0, data)
            assert after > total - 200, (after, total)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("version", "how", "count"),
    [(4, "close_notify", 200), (4, "fin", 100), (4, "rst", 100)]
    + [(version, "close_notify", 100) for version in (3, 2, 1)],
)
def test_cut_plaintext_from_the_server(
    flavour: Flavour, kubelet: FakeKubelet, inside: Inside, version: int, how: How, count: int
) -> None:
    """Success exactly when the bytes that came prove it, however orderly the connection ended."""
    with line_to(kubelet, flavour, inside, protocols=(VERSIONS[version],)) as line:
        sweep(line, version, how, count)


def test_exit_code_is_not_believed_without_the_outputs(inner: Line) -> None:
    """The status may overtake output; as long as an output has not ended, it proves nothing."""
    _, passage = inner.run(None, "exit", "3")
    for after in positions(len(passage.down), 40):
        result, passage = inner.run(Cut(after, "close_notify"), "exit", "3")
        if read(bytes(passage.down)).complete(4, {STDOUT, STDERR}):
            assert result.returncode == 3
        else:
            judge_loss(result)


@pytest.mark.parametrize("how", ["fin", "close_notify"])
def test_what_came_before_the_cut_is_delivered(inner: Line, how: How) -> None:
    data = random_bytes(1_000_000, "big")
    result, passage = inner.run(Cut(700_000, how), "random", "1000000", "big")
    judge_loss(result)
    came = read(bytes(passage.down)).payload[STDOUT]
    assert len(came) > 699_000
    assert result.stdout == came == data[: len(came)]
    assert result.received["stdout"] == len(came)
    assert "exit status" in " ".join(result.owed)
    assert f"{len(came)} bytes of stdout" in str(result)


def test_pipes_deliver_what_came_before_they_report_the_loss(inner: Line) -> None:
    inner.proxy.plan = Cut(700_000, "fin")
    with inner.node.popen("random", "1000000", "big", stdin=PIPE) as process:
        came = bytearray()
        with pytest.raises(ConnectionLost) as caught:
            process.read_on(came)
        told = read(bytes(inner.proxy.last().down)).payload[5]  # stdin has id 3 here
        assert came == told
        assert caught.value.received["stdout"] == len(told)
        with pytest.raises(ConnectionLost):
            process.wait()


@pytest.mark.slow
def test_silence_at_every_step_ends_by_a_deadline(flavour: Flavour, kubelet: FakeKubelet, inside: Inside) -> None:
    short = Deadlines(dial=0.3, tls=0.3, upgrade=0.3, stream_reply=0.3, status=0.3, drain=0.3)
    keepalive = Keepalive(period=0.1, deadline=0.3)
    kinds = set()
    for contexts in (inside, None):
        with line_to(kubelet, flavour, contexts, deadlines=short, keepalive=keepalive) as line:
            _, passage = line.run(None, "both", "3")
            for after in positions(len(passage.down) - 200, 8):
                line.proxy.plan = Cut(after, "freeze")
                with pytest.raises((TLSTimeout, UpgradeTimeout, PeerNotResponding)) as caught:
                    line.node.run("both", "3", timeout=20)
                assert isinstance(caught.value, TimeoutError)
                kinds.add(type(caught.value))
    assert kinds == {TLSTimeout, UpgradeTimeout, PeerNotResponding}


def test_server_that_closes_in_the_middle(flavour: Flavour) -> None:
    with FakeKubelet() as kubelet:
        peer = FakePeer(kubelet)
        with flavour.node(peer.url, **peer.options()).popen("cat", stdin=PIPE) as process:
            process.write(b"before")
            assert process.read(6) == b"before"
            kubelet.close()
            with pytest.raises(ConnectionLost) as caught:
                process.wait(20)
            assert caught.value.received["stdout"] == 6
            assert caught.value.sent["stdin"] == 6


def test_proxy_that_cuts_nothing_changes_nothing(inner: Line, outer: Line) -> None:
    for line in (inner, outer):
        data = random_bytes(300_000, "through")
        result, passage = line.run(None, "cat", input=data)
        assert (result.returncode, result.stdout, passage.cut) == (0, data, False)


def test_every_loss_is_a_connection_error() -> None:
    assert issubclass(ConnectError, ConnectionError)
    assert issubclass(ConnectionLost, ConnectionError)


def in_one_segment(context: ssl.SSLContext, answer: bytes) -> Script:
    """Answers a request with `answer` and close_notify in one piece, and keeps the socket open."""

    def script(peer: Peer) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)
        for step in (tls.do_handshake, lambda: tls.read(65536)):
            while True:
                try:
                    step()
                    break
                except ssl.SSLWantReadError:
                    peer.sock.sendall(outgoing.read())
                    incoming.write(peer.sock.recv(65536))
        tls.write(answer)
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.unwrap()
        peer.sock.sendall(outgoing.read())
        while peer.sock.recv(65536):
            pass

    return script


@pytest.mark.parametrize("size", [1, -1, None], ids=["begun", "one-byte-short", "whole"])
@pytest.mark.parametrize("behind", [b"", b"\x80", SYN_REPLY], ids=["nothing", "a-byte", "a-frame"])
def test_end_of_tls_that_comes_together_with_the_answer(
    flavour: Flavour, kubelet: FakeKubelet, inside: Inside, size: int | None, behind: bytes
) -> None:
    """Nothing more follows, so nothing more may be waited for: not even the end of TCP."""
    answer = SWITCH[:size] + (behind if size is None else b"")
    with ScriptedServer(in_one_segment(inside.serve, answer)) as server:
        url = f"https://127.0.0.1:{server.port}"
        with pytest.raises(ConnectionLost) as caught:
            flavour.node(url, ca=kubelet.ca, deadlines=PATIENT).run("true")
        judge_loss(caught.value)

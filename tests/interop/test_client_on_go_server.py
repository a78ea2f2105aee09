"""The client, in both flavours, against the code that real container runtimes serve exec with."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubeletclient import (
    PIPE,
    BadRequest,
    BearerToken,
    CertificateNameError,
    ConnectionLost,
    DeadlineExceeded,
    Keepalive,
    NotTLSError,
    PeerNotResponding,
    ServerError,
    StreamSet,
    Unauthorized,
    UnknownAuthorityError,
    UnverifiedTokenError,
)
from spdyproto.channels.subprotocols import Subprotocol
from support.contract import ALL_BYTES, GIB, MIB, ExecContract, HashSink, hashed_blocks
from support.cutproxy import CutProxy, How
from support.flavours import Flavour, Node, flavour_fixture
from support.gopeers import GoServer
from support.lines import PATIENT, VERSIONS, Line, judge_loss, sweep
from support.peers import GoPeer
from support.pki import Pki

pytestmark = [pytest.mark.interop, pytest.mark.usefixtures("go_peers")]

flavour = flavour_fixture()


@pytest.fixture(scope="module")
def peer(go_peers: Path, pki: Pki) -> Iterator[GoPeer]:
    with GoPeer.serve(pki) as peer:
        yield peer


class TestExec(ExecContract):
    """All of it."""


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_download_of_a_gibibyte(flavour: Flavour, peer: GoPeer, gibibyte: str) -> None:
    sink = HashSink()
    done = flavour.node(peer.url, **peer.options()).run("random", str(GIB), "gibibyte", stdout=sink)
    assert (done.returncode, sink.seen) == (0, (GIB, gibibyte))


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_upload_of_a_gibibyte(flavour: Flavour, peer: GoPeer) -> None:
    sent = HashSink()
    done = flavour.node(peer.url, **peer.options()).run("sink", input=hashed_blocks(GIB, "gibibyte", sent))
    assert done.stdout.decode() == "{} {}\n".format(*sent.seen)
    assert sent.size == GIB


@pytest.fixture(scope="module")
def gibibyte() -> str:
    """The digest of a GiB of random bytes."""
    sink = HashSink()
    for _ in hashed_blocks(GIB, "gibibyte", sink):
        pass
    return sink.seen[1]


# -- sessions that are lost --------------------------------------------------------------------------------------------


@pytest.fixture
def node(flavour: Flavour, peer: GoPeer) -> Node:
    return flavour.node(peer.url, **peer.options(), deadlines=PATIENT)


@pytest.fixture
def own_peer(go_peers: Path, pki: Pki) -> Iterator[GoPeer]:
    """A server that a test may stop or kill."""
    with contextlib.suppress(RuntimeError), GoPeer.serve(pki) as peer:  # RuntimeError: it was killed
        yield peer
        with contextlib.suppress(ProcessLookupError):
            os.kill(peer.server.pid, signal.SIGCONT)


def test_session_that_ends_in_good_order_without_a_status(node: Node) -> None:
    """client-go takes this for success (`test_client_go_takes_a_lost_session_for_success`)."""
    with pytest.raises(ConnectionLost) as caught:
        node.run("vanish", "last", "words")
    judge_loss(caught.value)
    assert caught.value.stdout == b"last words\n"
    assert caught.value.received["stdout"] == 11
    assert "the exit status" in caught.value.owed
    with node.popen("vanish", "last", "words") as process:
        assert process.read() == b"last words\n"
        with pytest.raises(ConnectionLost):
            process.wait()


@pytest.mark.parametrize("size", [0, 1, 100_000, 10 * MIB])
def test_connection_that_is_closed_under_tls(node: Node, size: int) -> None:
    with pytest.raises(ConnectionLost) as caught:
        node.run("cut", str(size))
    judge_loss(caught.value)
    assert caught.value.stdout == bytes(size)
    assert caught.value.received["stdout"] == size
    assert set(caught.value.owed) >= {"the end of stdout", "the end of stderr", "the exit status"}


@pytest.mark.parametrize("version", VERSIONS.values())
def test_no_version_takes_a_cut_for_success(flavour: Flavour, peer: GoPeer, version: Subprotocol) -> None:
    node = flavour.node(peer.url, **peer.options(), protocols=(version,), deadlines=PATIENT)
    with pytest.raises(ConnectionLost) as caught:
        node.run("cut", "1000")
    assert caught.value.stdout == bytes(1000)


@pytest.mark.parametrize("command", [("source", str(1 << 40)), ("sink",)], ids=["down", "up"])
def test_server_that_is_killed_in_the_middle(flavour: Flavour, own_peer: GoPeer, command: tuple[str, ...]) -> None:
    """The kernel closes its sockets: FIN where it had read everything, else a reset."""
    came = HashSink()

    def count(data: memoryview) -> None:
        came(data)
        if came.size > MIB:
            os.kill(own_peer.server.pid, signal.SIGKILL)

    def blocks() -> Iterator[bytes]:
        for index in itertools.count():
            if index == 100:
                os.kill(own_peer.server.pid, signal.SIGKILL)
            yield bytes(65536)

    stdin = blocks() if command == ("sink",) else None
    node = flavour.node(own_peer.url, **own_peer.options(), deadlines=PATIENT)
    with pytest.raises(ConnectionLost) as caught:
        node.run(*command, stdin=stdin, stdout=count, timeout=30)
    judge_loss(caught.value)
    assert caught.value.received["stdout"] == came.size


def test_server_that_is_stopped_is_noticed(flavour: Flavour, own_peer: GoPeer) -> None:
    keepalive = Keepalive(period=0.1, deadline=0.5)
    node = flavour.node(own_peer.url, **own_peer.options(), keepalive=keepalive)
    with node.popen("cat", stdin=PIPE) as process:
        process.write(b"alive")
        assert process.read(5) == b"alive"
        os.kill(own_peer.server.pid, signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(PeerNotResponding, match="no answer to a PING") as caught:
            process.wait(30)
        assert 0.4 < time.monotonic() - began < 20
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.received["stdout"] == 5


def test_server_that_is_stopped_while_it_owes_us_room(flavour: Flavour, own_peer: GoPeer) -> None:
    """Our output is blocked, so a missing pong proves nothing; the caller's own timeout still ends it."""
    keepalive = Keepalive(period=0.05, deadline=0.2)
    node = flavour.node(own_peer.url, **own_peer.options(), keepalive=keepalive)

    def blocks() -> Iterator[bytes]:
        yield bytes(65536)
        os.kill(own_peer.server.pid, signal.SIGSTOP)
        yield from itertools.repeat(bytes(65536))

    with pytest.raises(DeadlineExceeded):
        node.run("discard", stdin=blocks(), timeout=1.5)


# -- plain HTTP: every byte --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain(go_peers: Path) -> Iterator[GoServer]:
    with GoServer() as server:
        yield server


@pytest.mark.slow
@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("version", VERSIONS)
def test_cut_at_every_byte(flavour: Flavour, plain: GoServer, version: int, how: How) -> None:
    """Without TLS a lost connection looks like an end in good order wherever it happens."""
    with CutProxy((plain.host, plain.port)) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        line = Line(proxy, flavour.node(url, protocols=(VERSIONS[version],), deadlines=PATIENT))
        sweep(line, version, how, 10_000 if how == "fin" else 100)


def test_url_of_the_callers_own_on_plain_http(flavour: Flavour, plain: GoServer) -> None:
    with flavour.connect_exec(plain.exec_url(["echo", "x"])) as process:
        assert process.read() == b"x\n"
        assert process.wait() == 0
    for method in ("GET", "POST"):
        url = plain.exec_url(["cat"], stdin=True, stdout=True, stderr=False)
        streams = StreamSet(stdin=True, stdout=True, stderr=False)
        with flavour.connect_exec(url, streams=streams, method=method) as process:
            assert process.communicate(ALL_BYTES * 1000)[0] == ALL_BYTES * 1000
    with pytest.raises(ServerError, match="container not found"):
        flavour.connect_exec(plain.exec_url(["echo"], path="/exec/default/demo/other"))


def test_tls_asked_of_a_plain_server(flavour: Flavour, plain: GoServer) -> None:
    with pytest.raises(NotTLSError, match="http://"):
        flavour.node(plain.url.replace("http://", "https://"), verify=False).run("echo", "x")


def test_plain_http_asked_of_a_tls_server(flavour: Flavour, peer: GoPeer) -> None:
    with pytest.raises(BadRequest, match="HTTP request to an HTTPS server"):
        flavour.node(peer.url.replace("https://", "http://")).run("echo", "x")


def test_secrets_stay_at_home_on_plain_http(flavour: Flavour, plain: GoServer) -> None:
    with pytest.raises(UnverifiedTokenError) as caught:
        flavour.node(plain.url, credentials=BearerToken("s3cret")).run("echo", "x")
    assert "s3cret" not in str(caught.value)


# -- credentials -------------------------------------------------------------------------------------------------------


def test_bearer_token(flavour: Flavour, go_peers: Path, pki: Pki, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("correct\n")
    with GoServer(pki.server_certificate, pki.server_key, client_ca=pki.ca, token_file=file) as server:
        for good in (BearerToken("correct"), BearerToken(file=file)):
            assert flavour.node(server.url, ca=pki.ca, credentials=good).run("echo", "x").returncode == 0
        with pytest.raises(Unauthorized) as caught:
            flavour.node(server.url, ca=pki.ca, credentials=BearerToken("wr0ng")).run("echo", "x")
        assert "wr0ng" not in str(caught.value) + repr(caught.value)
        with pytest.raises(UnverifiedTokenError):
            flavour.node(server.url, verify=False, credentials=BearerToken("correct")).run("echo", "x")
        allowed = flavour.node(
            server.url, verify=False, allow_unverified_token=True, credentials=BearerToken("correct")
        )
        assert allowed.run("echo", "x").returncode == 0


def test_server_that_is_not_to_be_trusted(flavour: Flavour, peer: GoPeer, pki: Pki) -> None:
    with pytest.raises(UnknownAuthorityError):
        flavour.node(peer.url, ca=pki.stranger_certificate).run("echo", "x")
    with pytest.raises(CertificateNameError):
        flavour.node(peer.url, **peer.options(), server_name="other.test").run("echo", "x")
    assert flavour.node(peer.url, **peer.options(), server_name="localhost").run("echo", "x").returncode == 0


def test_outputs_that_are_reset_in_place_of_ended(flavour: Flavour, go_peers: Path, pki: Pki) -> None:
    """Runtimes that leave the end of the outputs to the connection: RST_STREAM in place of FIN."""
    with GoPeer.serve(pki, outputs_end="reset") as peer:
        for version in VERSIONS.values():
            node = flavour.node(peer.url, **peer.options(), protocols=(version,))
            done = node.run("both", "300")
            assert (done.returncode, len(done.stdout.splitlines()), len(done.stderr.splitlines())) == (0, 300, 300)
            assert node.run("cat", input=ALL_BYTES * 5000).stdout == ALL_BYTES * 5000

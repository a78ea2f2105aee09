"""From the dial to the upgrade, on real sockets: each fault is its own error, and leaves nothing open."""

from __future__ import annotations

import datetime
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import trustme

from kubeletclient import (
    BearerToken,
    CertificateExpiredError,
    CertificateNameError,
    ClientCertificate,
    ClientCertificateRejected,
    ConnectionLost,
    ConnectionRefused,
    DeadlineExceeded,
    Deadlines,
    DialTimeout,
    HandshakeCutError,
    InvalidAnswer,
    Kubelet,
    NameResolutionError,
    NotTLSError,
    TLSTimeout,
    UnknownAuthorityError,
    UpgradeTimeout,
    connect_exec,
)
from support.scripted import SUCCESS, Peer, ScriptedServer
from support.wire import data, goaway, ping

CA = trustme.CA()
SERVER = CA.issue_cert("127.0.0.1", "kubelet.internal")
CLIENT = CA.issue_cert("tester@kubewire.test", common_name="tester")
CREDENTIALS = ClientCertificate(CLIENT.cert_chain_pems[0].bytes(), CLIENT.private_key_pem.bytes())
CA_PEM = CA.cert_pem.bytes()
QUICK = Deadlines(dial=0.2, tls=0.2, upgrade=0.2)


def server_tls(leaf: trustme.LeafCert = SERVER, *, clients: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    if clients:
        CA.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def succeed(peer: Peer) -> None:
    """The shortest session that ends well."""
    peer.open_streams(3)
    peer.send(data(peer.stdout, b"hi", fin=True), data(peer.stderr, fin=True), data(peer.error, SUCCESS, fin=True))
    peer.read_to_the_end()


def never(peer: Peer) -> None:
    raise AssertionError("the client must not come this far")


def leave(peer: Peer) -> None:
    """Hang up at once."""


def listen_only(peer: Peer) -> None:
    peer.sock.recv(65536)
    peer.sock.recv(65536)


def run(url: str, **options: Any) -> bytes:
    with Kubelet(url, **options) as kubelet:
        stdout = kubelet.pod("p").run(["x"], container="c").stdout
        assert stdout is not None
        return stdout


@pytest.mark.parametrize("name", [None, "kubelet.internal"])
def test_verified_tls_with_a_client_certificate(name: str | None) -> None:
    with ScriptedServer(succeed, tls=server_tls(clients=True)) as server:
        assert run(server.address, ca=CA_PEM, credentials=CREDENTIALS, server_name=name) == b"hi"


def test_no_verification_when_told_so() -> None:
    with ScriptedServer(succeed, tls=server_tls(trustme.CA().issue_cert("elsewhere"))) as server:
        assert run(server.address, verify=False) == b"hi"


def test_only_http_1_1_is_offered() -> None:
    context = server_tls()
    context.set_alpn_protocols(["h2", "http/1.1"])
    chosen: list[str | None] = []

    def look(peer: Peer) -> None:
        assert isinstance(peer.sock, ssl.SSLSocket)
        chosen.append(peer.sock.selected_alpn_protocol())
        succeed(peer)

    with ScriptedServer(look, tls=context) as server:
        run(server.address, ca=CA_PEM)
    assert chosen == ["http/1.1"]


def test_a_token_goes_over_verified_tls() -> None:
    heads: list[bytes] = []

    def look(peer: Peer) -> None:
        heads.append(peer.read_head())
        peer.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with ScriptedServer(look, tls=server_tls()) as server, pytest.raises(Exception, match="HTTP 200") as caught:
        run(server.address, ca=CA_PEM, credentials=BearerToken("s3cr3t"))
    assert b"\r\nAuthorization: Bearer s3cr3t\r\n" in heads[0]
    assert "s3cr3t" not in str(caught.value)


EXPIRED = CA.issue_cert("127.0.0.1", not_after=datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
ELSEWHERE = CA.issue_cert("elsewhere.internal")
FOREIGN = trustme.CA().issue_cert("127.0.0.1")


@pytest.mark.parametrize(
    ("leaf", "kind"),
    [(EXPIRED, CertificateExpiredError), (ELSEWHERE, CertificateNameError), (FOREIGN, UnknownAuthorityError)],
)
def test_certificates_that_are_not_accepted(leaf: trustme.LeafCert, kind: type[Exception]) -> None:
    with ScriptedServer(never, tls=server_tls(leaf)) as server, pytest.raises(kind):
        run(server.address, ca=CA_PEM)


def test_a_server_that_wants_a_client_certificate() -> None:
    server = ScriptedServer(listen_only, tls=server_tls(clients=True))
    with server, pytest.raises(ClientCertificateRejected, match="client CA"):
        run(server.address, ca=CA_PEM)


def test_tls_1_2_works_and_older_does_not() -> None:
    context = server_tls()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with ScriptedServer(succeed, tls=context) as server:
        assert run(server.address, ca=CA_PEM) == b"hi"


def test_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionRefused, match=rf"nothing listens on port {port}: 127\.0\.0\.1"):
        run(f"https://127.0.0.1:{port}", ca=CA_PEM)


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """A port whose queue of connections is full, so that the next dial is never answered."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        dialled = []
        for _ in range(4):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
            dialled.append(sock)
        yield port
        for sock in dialled:
            sock.close()


def test_nothing_answers_the_dial(deaf_port: int) -> None:
    with pytest.raises(DialTimeout, match="nothing answered on port"):
        run(f"https://127.0.0.1:{deaf_port}", ca=CA_PEM, deadlines=QUICK)


def test_the_callers_timeout_covers_the_dial(deaf_port: int) -> None:
    kubelet = Kubelet(f"https://127.0.0.1:{deaf_port}", ca=CA_PEM)
    with pytest.raises(
        DeadlineExceeded, match=r"0\.1 s passed while waiting for the connection to be set up"
    ) as caught:
        kubelet.pod("p").run(["x"], container="c", timeout=0.1)
    assert caught.value.timeout == 0.1


def test_nothing_answers_the_handshake() -> None:
    with ScriptedServer(listen_only) as server, pytest.raises(TLSTimeout):
        run(f"https://127.0.0.1:{server.port}", ca=CA_PEM, deadlines=QUICK)


def test_nothing_answers_the_upgrade() -> None:
    with ScriptedServer(listen_only, tls=server_tls()) as server, pytest.raises(UpgradeTimeout, match=r"within 0\.2 s"):
        run(server.address, ca=CA_PEM, deadlines=QUICK)


def test_a_server_that_hangs_up_in_the_handshake() -> None:
    with ScriptedServer(leave) as server, pytest.raises(HandshakeCutError):
        run(f"https://127.0.0.1:{server.port}", ca=CA_PEM)


def test_a_server_that_hangs_up_after_the_handshake() -> None:
    with ScriptedServer(leave, tls=server_tls()) as server, pytest.raises(ConnectionLost, match="before it answered"):
        run(server.address, ca=CA_PEM)


def test_a_plain_http_server_on_a_tls_port() -> None:
    def plain(peer: Peer) -> None:
        peer.sock.recv(65536)
        peer.sock.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    with ScriptedServer(plain) as server, pytest.raises(NotTLSError, match="use http://"):
        run(f"https://127.0.0.1:{server.port}", ca=CA_PEM)


def test_a_tls_server_behind_a_plain_url() -> None:
    def alert(peer: Peer) -> None:
        peer.sock.recv(65536)
        peer.sock.sendall(b"\x15\x03\x01\x00\x02\x02\x46")

    with ScriptedServer(alert) as server, pytest.raises((InvalidAnswer, ConnectionLost), match="https"):
        connect_exec(f"http://127.0.0.1:{server.port}/exec/T")


def test_a_name_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(*_: object, **__: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(NameResolutionError, match=r"'node\.invalid' has no address: Name or service not known"):
        run("https://node.invalid", ca=CA_PEM)


def test_a_resolver_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()

    def look_up(*_: object, **__: object) -> list[Any]:
        done.wait(10)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    try:
        with pytest.raises(NameResolutionError, match="not resolved in time"):
            run("https://node.invalid", ca=CA_PEM, deadlines=QUICK)
    finally:
        done.set()
        for thread in threading.enumerate():
            if thread.name == "kubewire-resolver":
                thread.join()


def test_the_next_address_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        refused = listener.getsockname()
    with ScriptedServer(succeed) as server:
        entries = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", where) for where in (refused, ("127.0.0.1", server.port))
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: entries)
        with connect_exec("http://node.invalid/exec/T") as process:
            assert process.stdout is not None
            assert process.stdout.read() == b"hi"


def test_nothing_is_sent_before_the_whole_head_of_the_answer() -> None:
    def careful(peer: Peer) -> None:
        peer.read_head()
        peer.sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n")
        peer.sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            peer.sock.recv(1)
        peer.sock.settimeout(10)
        peer.sock.sendall(b"X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n")
        peer.read_streams(3)
        peer.send(*(peer.wire.syn_reply(number) for number in peer.streams.values()))
        peer.send(data(peer.stdout, fin=True), data(peer.stderr, fin=True), data(peer.error, SUCCESS), goaway())

    with ScriptedServer(careful) as server, connect_exec(server.url) as process:
        assert process.wait(10) == 0


def test_bytes_behind_the_head_are_kept() -> None:
    def eager(peer: Peer) -> None:
        peer.read_head()
        peer.switch(surplus=ping(2))
        peer.read_until(lambda frame: frame == ("PING", 2))
        peer.read_streams(3)
        peer.send(*(peer.wire.syn_reply(number) for number in peer.streams.values()))
        peer.send(data(peer.stdout, fin=True), data(peer.stderr, fin=True), data(peer.error, SUCCESS), goaway())

    with ScriptedServer(eager) as server, connect_exec(server.url) as process:
        assert process.wait(10) == 0


def test_streams_that_are_never_accepted() -> None:
    def deaf(peer: Peer) -> None:
        peer.read_head()
        peer.switch()
        peer.read_to_the_end()

    with ScriptedServer(deaf) as server, pytest.raises(ConnectionLost, match=r"no SYN_REPLY within 0\.2 s") as caught:
        connect_exec(server.url, deadlines=Deadlines(stream_reply=0.2))
    assert isinstance(caught.value, TimeoutError)
    assert "the reply for stdout" in caught.value.owed


def test_the_shown_url_never_holds_the_one_time_token() -> None:
    with ScriptedServer(leave) as server, pytest.raises(ConnectionLost) as caught:
        connect_exec(server.url)
    assert re.search(r"/exec/\.\.\.\]$", str(caught.value))
    assert "T0ken" not in str(caught.value)

"""Sessions that are never set up, in both flavours: each fault is its own error, in bounded time."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator

import pytest

from kubeletclient import (
    BadRequest,
    ClientError,
    ConnectionLost,
    ConnectionRefused,
    DeadlineExceeded,
    Deadlines,
    DialTimeout,
    Forbidden,
    InvalidAnswer,
    NameResolutionError,
    NotFound,
    NotTLSError,
    ProtocolNotSupported,
    Redirected,
    ServerError,
    TLSTimeout,
    TooManyRequests,
    Unauthorized,
    UpgradeMissing,
    UpgradeTimeout,
)
from support.flavours import Flavour, flavour_fixture
from support.pki import Pki, make_pki
from support.scripted import Peer, Script, ScriptedServer

flavour = flavour_fixture()

SHORT = Deadlines(dial=0.3, tls=0.3, upgrade=0.3, stream_reply=0.3, status=0.3, drain=0.3)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make_pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def tls(pki: Pki) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.server_certificate, pki.server_key)
    return context


@pytest.fixture
def deaf() -> Iterator[int]:
    """The port of a socket that listens, and whose connections nobody ever accepts."""
    with socket.create_server(("127.0.0.1", 0), backlog=8) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def full(deaf: int) -> Iterator[int]:
    """The same with its backlog full, so that a further dial is not even answered by the kernel."""
    with contextlib.ExitStack() as stack:
        answered = True
        while answered:
            sock = stack.enter_context(socket.socket())
            sock.settimeout(0.3)
            answered = sock.connect_ex(("127.0.0.1", deaf)) == 0
        yield deaf


def attempt(flavour: Flavour, url: str, deadlines: Deadlines = SHORT, **options: object) -> ClientError:
    """The error that a command at `url` ends with."""
    began = time.monotonic()
    with pytest.raises(ClientError) as caught:
        # One answer is judged here; what makes a client try the next transport has tests of its own.
        flavour.node(url, deadlines=deadlines, transport="spdy", **options).run("true", timeout=20)
    assert time.monotonic() - began < 15
    assert caught.value.hint
    assert "127.0.0.1" in str(caught.value) or "localhost" in str(caught.value) or ".invalid" in str(caught.value)
    return caught.value


def test_nothing_listens(flavour: Flavour) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    error = attempt(flavour, f"https://127.0.0.1:{port}", verify=False)
    assert type(error) is ConnectionRefused
    assert isinstance(error, ConnectionRefusedError)


def test_name_that_does_not_exist(flavour: Flavour) -> None:
    assert type(attempt(flavour, "https://kubelet.invalid:10250", verify=False)) is NameResolutionError


def test_nobody_accepts(flavour: Flavour, deaf: int, full: int) -> None:
    assert type(attempt(flavour, f"https://127.0.0.1:{full}", verify=False)) is DialTimeout


def test_nobody_speaks(flavour: Flavour, deaf: int) -> None:
    error = attempt(flavour, f"https://127.0.0.1:{deaf}", verify=False)
    assert type(error) is TLSTimeout
    assert isinstance(error, TimeoutError)


def test_nobody_answers(flavour: Flavour, deaf: int) -> None:
    assert type(attempt(flavour, f"http://127.0.0.1:{deaf}")) is UpgradeTimeout


def test_nobody_answers_inside_tls(flavour: Flavour, tls: ssl.SSLContext, pki: Pki) -> None:
    with ScriptedServer(lambda peer: drain(peer), tls=tls) as server:
        assert type(attempt(flavour, server.address, ca=pki.ca)) is UpgradeTimeout


def test_timeout_of_the_caller_comes_first(flavour: Flavour, deaf: int) -> None:
    for url in (f"http://127.0.0.1:{deaf}", f"https://127.0.0.1:{deaf}"):
        with pytest.raises(DeadlineExceeded):
            flavour.node(url, verify=False).run("true", timeout=0.2)


def drain(peer: Peer) -> None:
    """Read until the client leaves."""
    with contextlib.suppress(ConnectionError):
        while peer.sock.recv(65536):
            pass


def answering(answer: bytes) -> Script:
    def script(peer: Peer) -> None:
        peer.read_head()
        peer.sock.sendall(answer)
        peer.sock.shutdown(socket.SHUT_WR)
        drain(peer)

    return script


def refusal(status: str, body: bytes = b"the reason\n", headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n%s" % (status.encode(), headers, len(body), body)


@pytest.mark.parametrize(
    ("answer", "kind", "status"),
    [
        (refusal("400 Bad Request"), BadRequest, 400),
        (refusal("401 Unauthorized"), Unauthorized, 401),
        (refusal("403 Forbidden"), Forbidden, 403),
        (
            refusal("403 Forbidden", headers=b"X-Accepted-Stream-Protocol-Versions: v9.channel.k8s.io\r\n"),
            ProtocolNotSupported,
            403,
        ),
        (refusal("404 Not Found"), NotFound, 404),
        (refusal("429 Too Many Requests"), TooManyRequests, 429),
        (refusal("500 Internal Server Error"), ServerError, 500),
        (refusal("503 Service Unavailable"), ServerError, 503),
        (refusal("200 OK"), UpgradeMissing, 200),
        (refusal("101 Switching Protocols", b""), UpgradeMissing, 101),
        (b"220 mail.test ESMTP\r\n\r\n", InvalidAnswer, None),
        (b"", ConnectionLost, None),
        (b"HTTP/1.1 101 Switching", ConnectionLost, None),
    ],
    ids=["400", "401", "403", "403-versions", "404", "429", "500", "503", "200", "101", "smtp", "nothing", "cut"],
)
def test_answers_that_are_no_upgrade(
    flavour: Flavour, answer: bytes, kind: type[ClientError], status: int | None
) -> None:
    with ScriptedServer(answering(answer)) as server:
        error = attempt(flavour, server.address, Deadlines())
    assert (type(error), error.http_status) == (kind, status)
    if status in (400, 401, 403, 404, 429, 500, 503):
        assert "the reason" in str(error)


@pytest.mark.parametrize("status", ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent"])
def test_redirects_are_never_followed(flavour: Flavour, status: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.setblocking(False)
        target = b"Location: http://127.0.0.1:%d/exec/T0ken\r\n" % elsewhere.getsockname()[1]
        with ScriptedServer(answering(refusal(status, headers=target))) as server:
            error = attempt(flavour, server.address, Deadlines())
        assert (type(error), error.http_status) == (Redirected, int(status[:3]))
        with pytest.raises(BlockingIOError):
            elsewhere.accept()


def test_plain_http_server_on_a_tls_port(flavour: Flavour) -> None:
    def script(peer: Peer) -> None:
        peer.sock.recv(65536)
        peer.sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        drain(peer)

    with ScriptedServer(script) as server:
        error = attempt(flavour, server.address.replace("http://", "https://"), verify=False)
    assert type(error) is NotTLSError
    assert "http://" in str(error)

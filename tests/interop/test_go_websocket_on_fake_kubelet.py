"""Kubernetes' own WebSocket clients, translator and proxy on the fake kubelet, and its answers beside a Go server's."""

from __future__ import annotations

import hashlib
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fakekubelet import ALL_WEBSOCKET, BlockingExec, Container, FakeKubelet, Pod
from fakekubelet.websockets import CRI_WEBSOCKET
from support.contract import GIB, MIB, HashSink, hashed_blocks
from support.gopeers import GoFront, GoReport, GoServer, random_bytes, run_go_client
from support.pki import Pki
from support.rawclient import connect, exec_target, upgrade_headers, websocket_headers

pytestmark = [pytest.mark.interop, pytest.mark.usefixtures("go_peers"), pytest.mark.timeout(300)]
V4, V5 = "v4.channel.k8s.io", "v5.channel.k8s.io"
ATTACH = "/attach/default/demo"


def shout(exec: BlockingExec) -> None:
    """Each line, louder; those that begin with e on stderr."""
    for line in exec.stdin:
        (exec.stderr if line.startswith(b"e") else exec.stdout).write(line.upper())


CONTAINERS = [
    Container("main"),
    Container("shout", main=shout, stdin=True),
    Container("once", main=["sink"], stdin=True, stdin_once=True),
    Container("tty", main=["sizes", "1000"], stdin=True, tty=True),
]


@dataclass
class Route:
    """One way from the Go client to a fake kubelet."""

    base: str
    options: dict[str, Any]

    def run(self, *command: str, **options: Any) -> GoReport:
        return run_go_client(self.base, command, **{**self.options, **options})


class Servers:
    """A kubelet up to 1.35, one from 1.36 on, and an apiserver in front of the old one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.old = FakeKubelet([Pod("default/demo", CONTAINERS)])
        self.new = FakeKubelet(
            [Pod("default/demo", CONTAINERS)], ca=self.old.authority, websocket_protocols=ALL_WEBSOCKET
        )
        self.ca = folder / "ca.crt"
        self.ca.write_bytes(self.old.ca)
        self.certificate, self.key = self.old.credentials("go").write(folder)
        self.identity = {"ca": self.ca, "certificate": self.certificate, "key": self.key}

    def route(self, name: str, front: GoFront, pki: Pki) -> Route:
        options: dict[str, Any] = {"transport": "spdy" if "spdy" in name else "websocket"}
        if "v4" in name:
            options["protocols"] = "v4"
        if name.startswith("apiserver"):
            identity = {"ca": pki.ca, "certificate": pki.client_certificate, "key": pki.client_key}
            return Route(front.url, {**identity, **options, "apiserver": True})
        return Route((self.new if "v5" in name else self.old).url, {**self.identity, **options})


@pytest.fixture(scope="module")
def servers(go_peers: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    servers = Servers(tmp_path_factory.mktemp("guest"))
    with servers.old, servers.new:
        yield servers


@pytest.fixture(scope="module")
def front(servers: Servers, pki: Pki) -> Iterator[GoFront]:
    with GoFront(
        pki.server_certificate, pki.server_key, pki.ca, backend=servers.old.url, backend_ca=servers.ca,
        backend_certificate=servers.certificate, backend_key=servers.key,
    ) as running:  # fmt: skip
        yield running


@pytest.fixture(params=["v4", "v5", "apiserver-spdy", "apiserver-v4", "apiserver-v5"])
def route(request: pytest.FixtureRequest, servers: Servers, front: GoFront, pki: Pki) -> Route:
    return servers.route(request.param, front, pki)


# -- exec --------------------------------------------------------------------------------------------------------------


def test_outputs_apart_and_exit_codes(route: Route) -> None:
    report = route.run("both", "500")
    assert (report.exit_code, report.error) == (0, "")
    assert report.stdout == b"".join(b"out %d\n" % i for i in range(500))
    assert report.stderr == b"".join(b"err %d\n" % i for i in range(500))
    for code in (1, 137, 255):
        report = route.run("exit", str(code))
        assert (report.exit_code, report.session.exited) == (code, True)
    report = route.run("fail", "no luck")
    assert (report.exit_code, report.session.exited) == (255, False)
    assert "no luck" in report.error


@pytest.mark.parametrize("wanted", [{"stdout": "none"}, {"stderr": "none"}])
def test_only_the_outputs_that_were_asked_for(route: Route, wanted: dict[str, str]) -> None:
    report = route.run("both", "2", **wanted)
    assert report.exit_code == 0
    assert (report.stdout == b"", report.stderr == b"") == ("stdout" in wanted, "stderr" in wanted)


def test_terminal_sizes(route: Route) -> None:
    assert route.run("sizes", "2", tty=True, resize=[(80, 24), (132, 43)]).stdout == b"80x24\n132x43\n"


def test_bytes_by_digest(route: Route) -> None:
    down = route.run("random", str(16 * MIB + 1), "down", stdout="hash")
    expected = hashlib.sha256(random_bytes(16 * MIB + 1, "down")).hexdigest()
    assert (down.session.stdout.bytes, down.session.stdout.sha256) == (16 * MIB + 1, expected)
    up = route.run("early-exit", str(4 * MIB), stdin=f"random:{4 * MIB}:up")
    assert (up.exit_code, up.session.stdin_bytes) == (0, 4 * MIB)


@pytest.mark.parametrize("route", ["v5", "apiserver-spdy", "apiserver-v5"], indirect=True)
def test_half_close(route: Route) -> None:
    report = route.run("sink", stdin=f"random:{4 * MIB}:up")
    assert report.stdout.decode() == f"{4 * MIB} {hashlib.sha256(random_bytes(4 * MIB, 'up')).hexdigest()}\n"


@pytest.mark.parametrize("route", ["v4", "apiserver-v4"], indirect=True)
def test_stdin_never_ends_before_v5(route: Route) -> None:
    report = route.run("cat", stdin=b"hello", until="hello")
    assert (report.stdout, report.session.detached) == (b"hello", True)
    assert "deadline exceeded" in route.run("sink", stdin=b"hello", timeout=1).error


def test_many_sessions_at_once(route: Route) -> None:
    report = route.run("random", "100000", "7", stdout="hash", repeat=20, parallel=5)
    expected = hashlib.sha256(random_bytes(100000, 7)).hexdigest()
    assert [session.stdout.sha256 for session in report.sessions] == [expected] * 20


@pytest.mark.slow
@pytest.mark.parametrize("route", ["v5"], indirect=True)
def test_a_gibibyte_each_way(route: Route) -> None:
    sink = HashSink()
    for _ in hashed_blocks(GIB, "gibibyte", sink):
        pass
    digest = sink.seen[1]
    down = route.run("random", str(GIB), "gibibyte", stdout="hash", timeout=120)
    assert (down.exit_code, down.session.stdout.bytes, down.session.stdout.sha256) == (0, GIB, digest)
    up = route.run("sink", stdin=f"random:{GIB}:gibibyte", timeout=120)
    assert up.stdout.decode() == f"{GIB} {digest}\n"


# -- which transport ---------------------------------------------------------------------------------------------------


def test_an_old_kubelet_refuses_v5_and_kubectl_falls_back(servers: Servers) -> None:
    route = Route(servers.old.url, {**servers.identity, "transport": "fallback"})
    report = route.run("sink", stdin=b"abc")
    assert report.stdout.startswith(b"3 ")
    assert report.session.transports == ["websocket", "spdy"]
    assert "403" in report.session.fallback_reason


def test_a_new_kubelet_takes_v5(servers: Servers) -> None:
    report = Route(servers.new.url, {**servers.identity, "transport": "fallback"}).run("sink", stdin=b"abc")
    assert report.stdout.startswith(b"3 ")
    assert report.session.transports == ["websocket"]


@pytest.mark.parametrize("transport", ["spdy", "websocket"])
def test_unknown_containers(servers: Servers, transport: str) -> None:
    route = Route(servers.new.url, {**servers.identity, "transport": transport})
    report = route.run("true", path="/exec/default/demo/nope")
    assert (report.exit_code, report.session.exited) == (255, False)
    assert 'container not found ("nope")' in report.error or "500" in report.error


# -- attach ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["spdy", "v4", "v5", "apiserver-spdy", "apiserver-v4", "apiserver-v5"])
def test_attach_and_detach(name: str, servers: Servers, go_peers: Path, pki: Pki) -> None:
    with GoFront(
        pki.server_certificate, pki.server_key, pki.ca, backend=servers.old.url, backend_ca=servers.ca,
        backend_certificate=servers.certificate, backend_key=servers.key, containers=["main", "shout", "tty"],
    ) as front:  # fmt: skip
        route = servers.route(name, front, pki)
        where = {"attach": True, "path": f"{ATTACH}/shout", "container": "shout"}
        report = route.run(stdin="hold:err 1\nout 1\n", until="OUT 1\n", **where)
        assert (report.stdout, report.session.detached) == (b"OUT 1\n", True)
        assert report.stderr in (b"ERR 1\n", b"")  # the client may leave before it has read the other output
        where = {"attach": True, "path": f"{ATTACH}/tty", "container": "tty"}
        report = route.run(stdin="hold", tty=True, resize=[(80, 24)], until="80x24\n", **where)
        assert report.stdout == b"81x25\n80x24\n"


@pytest.mark.parametrize("transport", ["spdy", "websocket"])
def test_the_end_of_stdin_ends_an_attachment(servers: Servers, transport: str) -> None:
    route = Route(servers.new.url, {**servers.identity, "transport": transport, "attach": True})
    report = route.run(stdin=b"a\n", path=f"{ATTACH}/shout")
    assert (report.exit_code, report.error) == (0, "")
    assert servers.new.main_process("default/demo", "shout").running


@pytest.mark.parametrize("transport", ["spdy", "websocket"])
def test_stdin_once(servers: Servers, transport: str) -> None:
    servers.new.pods.add(Pod("default/demo", CONTAINERS))  # a process that has not been fed yet
    route = Route(servers.new.url, {**servers.identity, "transport": transport, "attach": True})
    report = route.run(stdin=b"abc", path=f"{ATTACH}/once")
    assert (report.exit_code, report.stdout) == (0, f"3 {hashlib.sha256(b'abc').hexdigest()}\n".encode())
    again = route.run(stdin=b"abc", path=f"{ATTACH}/once")
    assert again.exit_code == 255


# -- the handshake, beside a Go server's -------------------------------------------------------------------------------

TRUE = exec_target(["true"])
HANDSHAKES = {
    "v4": ("GET", TRUE, websocket_headers([V4])),
    "none": ("GET", TRUE, websocket_headers()),
    "order": ("GET", TRUE, websocket_headers(["v9", "channel.k8s.io", V4])),
    "base64": ("GET", TRUE, websocket_headers(["v4.base64.channel.k8s.io"])),
    "v5": ("GET", TRUE, websocket_headers([V5])),
    "v2": ("GET", TRUE, websocket_headers(["v2.channel.k8s.io"])),
    "post": ("POST", TRUE, websocket_headers([V4])),
    "no key": ("GET", TRUE, websocket_headers([V4], key=None)),
    "empty key": ("GET", TRUE, websocket_headers([V4], key="")),
    "short key": ("GET", TRUE, websocket_headers([V4], key="eA==")),
    "no version": ("GET", TRUE, websocket_headers([V4], version=None)),
    "old version": ("GET", TRUE, websocket_headers([V4], version="8")),
    "case": ("GET", TRUE, [("Connection", "UPGRADE"), ("Upgrade", "WebSocket"), *websocket_headers([V4])[2:]]),
    "tokens": ("GET", TRUE, [("Connection", "x, Upgrade"), ("Upgrade", "websocket"), *websocket_headers([V4])[2:]]),
    "two upgrades": (
        "GET", TRUE, [("Connection", "Upgrade"), ("Upgrade", "websocket, h2c"), *websocket_headers([V4])[2:]]
    ),
    "both": ("GET", TRUE, [*websocket_headers([V4]), *upgrade_headers([V4])[2:]]),
    "no flags": ("GET", "/exec/default/demo/main?command=true", websocket_headers([V4])),
    "no pod": ("GET", "/exec/default/gone/main?command=true&output=1", websocket_headers([V4])),
    "no container": ("GET", "/exec/default/demo/nope?command=true&output=1", websocket_headers([V4])),
    "attach, no flags": ("GET", "/attach/default/demo/main", websocket_headers([V4])),
    "attach, no pod": ("GET", "/attach/default/gone/main?output=1", websocket_headers([V4])),
    "attach, no container": ("GET", "/attach/default/demo/nope?output=1", websocket_headers([V4])),
}  # fmt: skip


@pytest.fixture(scope="module")
def go_server(go_peers: Path, pki: Pki) -> Iterator[GoServer]:
    with GoServer(pki.server_certificate, pki.server_key, client_ca=pki.ca) as running:
        yield running


@dataclass
class FilePair:
    """A client certificate read from files."""

    cert_pem: bytes
    key_pem: bytes


def converse(sock: ssl.SSLSocket, method: str, target: str, lines: list[tuple[str, str]]) -> tuple[str, list[str], str]:
    """Status line, header lines sorted by name, and what came behind them up to the end of the connection.

    Without what only a clock knows: no Date. A 101 is followed by frames, which are the session's.
    """
    text = "".join(f"{name}: {value}\r\n" for name, value in [("Host", "a"), *lines])
    with sock:
        sock.sendall(f"{method} {target} HTTP/1.1\r\n{text}\r\n".encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += sock.recv(65536)
        head, _, body = answer.partition(b"\r\n\r\n")
        status, *headers = head.decode().split("\r\n")
        length = re.search(r"(?i)^content-length: *(\d+)", head.decode(), re.MULTILINE)
        while data := (b"" if length and len(body) >= int(length[1]) else sock.recv(65536)):
            body += data
    kept = sorted(line for line in headers if not line.lower().startswith("date:"))
    return status, kept, body.decode("latin-1")


@pytest.fixture(scope="module")
def of_its_age(servers: Servers) -> Iterator[FakeKubelet]:
    """What the Go server is: the streaming server that comes with 1.36, and no translator in front of it."""
    with FakeKubelet(profile="1.36", websocket_protocols=CRI_WEBSOCKET, ca=servers.old.authority) as kubelet:
        yield kubelet


@pytest.mark.parametrize("case", HANDSHAKES)
def test_the_same_answer_as_a_go_server(
    case: str, servers: Servers, of_its_age: FakeKubelet, go_server: GoServer, pki: Pki
) -> None:
    method, target, lines = HANDSHAKES[case]
    ours = FilePair(servers.certificate.read_bytes(), servers.key.read_bytes())
    theirs = FilePair(pki.client_certificate.read_bytes(), pki.client_key.read_bytes())
    expected = converse(connect(go_server.url, pki.ca.read_bytes(), theirs), method, target, lines)
    answer = converse(connect(of_its_age.url, of_its_age.ca, ours), method, target, lines)
    assert answer == expected

"""The upgrade-aware proxy, byte for byte, and what it must never do: each rule is an incident of a real apiserver."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from fakekubelet import CertificateAuthority, FakeApiserver, FakeCluster, User
from fakekubelet.apiserver.nodes import node_document
from spdyproto.websocket.handshake import BEARER_PREFIX
from support.apiservers import Api, ScriptedKubelet, pod_document, pod_target
from support.rawclient import HttpClient, connect, upgrade_headers, websocket_headers

SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Odd: one\r\n\r\n"
TARGET = pod_target("exec", ["ls", "a b"], container="main")
ALICE = User("alice", ("system:masters",))

Behind = Callable[..., AbstractContextManager[tuple[FakeApiserver, ScriptedKubelet]]]


@pytest.fixture
def behind(tmp_path: Path) -> Behind:
    """A scripted kubelet, and an apiserver in front of it."""

    @contextmanager
    def start(says: bytes, **options: bool) -> Iterator[tuple[FakeApiserver, ScriptedKubelet]]:
        authority = CertificateAuthority.create()
        with ScriptedKubelet(authority, tmp_path, says, **options) as kubelet:
            documents = [kubelet.node(), pod_document("default/demo", "node-1")]
            trusted = [("127.0.0.1", kubelet.port)]
            tokens = {"secret-token": ALICE}
            with FakeApiserver(documents, ca=authority, trusted_kubelets=trusted, tokens=tokens) as server:
                yield server, kubelet

    return start


def head_of(received: bytes) -> tuple[str, dict[str, list[str]]]:
    lines = received.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    headers: dict[str, list[str]] = {}
    for line in lines[1:]:
        name, _, value = line.partition(": ")
        headers.setdefault(name.lower(), []).append(value)
    return lines[0], headers


# -- byte for byte -----------------------------------------------------------------------------------------------------


def test_bytes_pass_in_both_directions_and_none_is_added(behind: Behind) -> None:
    with behind(SWITCHED + b"\x80\x03first") as (server, kubelet):
        with HttpClient(Api(server).connect()) as http:
            answer = http.request("POST", TARGET, upgrade_headers())
            assert answer.status == 101
            assert ("X-Odd", "one") in answer.headers
            http.sock.sendall(bytes(range(256)))
            early = answer.surplus
            while len(early) < 7:
                early += http.sock.recv(100)
            assert early == b"\x80\x03first"  # what came right behind the kubelet's 101
        received = kubelet.wait_ended()
        assert received.partition(b"\r\n\r\n")[2] == bytes(range(256))


def test_the_request_keeps_its_method_and_headers(behind: Behind) -> None:
    with behind(SWITCHED) as (server, kubelet):
        extra = [("X-Forwarded-For", "192.0.2.7"), ("User-Agent", "me/1"), ("X-Mine", "kept")]
        with HttpClient(Api(server).connect()) as http:
            assert http.request("POST", TARGET, [*upgrade_headers(["v4.channel.k8s.io", "x"]), *extra]).status == 101
        line, headers = head_of(kubelet.wait_ended())
        assert line == "POST /exec/default/demo/main?output=1&error=1&command=ls&command=a+b HTTP/1.1"
        assert headers["x-forwarded-for"] == ["192.0.2.7, 127.0.0.1"]
        assert (headers["user-agent"], headers["x-mine"]) == (["me/1"], ["kept"])
        assert headers["x-stream-protocol-version"] == ["v4.channel.k8s.io", "x"]
        assert headers["host"] == [f"127.0.0.1:{kubelet.port}"]


def test_what_a_client_sends_before_its_101_is_lost(behind: Behind) -> None:
    """As in Go, whose proxy drops the reader that holds it: clients must wait."""
    with behind(SWITCHED) as (server, kubelet):
        with HttpClient(Api(server).connect()) as http:
            http.request("POST", TARGET, upgrade_headers(), early=b"too early")
            http.sock.sendall(b"in time")
        assert kubelet.wait_ended().partition(b"\r\n\r\n")[2] == b"in time"


def test_the_end_of_either_side_ends_both(behind: Behind) -> None:
    with behind(SWITCHED + b"last words", closes=True) as (server, _), HttpClient(Api(server).connect()) as http:
        got = http.request("POST", TARGET, upgrade_headers()).surplus
        while data := http.sock.recv(100):
            got += data
        assert got == b"last words"
    with behind(SWITCHED) as (server, kubelet):
        with HttpClient(Api(server).connect()) as http:
            http.request("POST", TARGET, upgrade_headers())
            http.sock.sendall(b"x")
        assert kubelet.wait_ended().endswith(b"x")


# -- a failed upgrade --------------------------------------------------------------------------------------------------


def test_after_a_refusal_no_further_byte_reaches_the_kubelet(behind: Behind) -> None:
    """CVE-2018-1002105: the connection stayed open, and carried requests in the apiserver's name."""
    refusal = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 5\r\nX-Why: because\r\n\r\nwrong"
    smuggled = b"GET /pods HTTP/1.1\r\nHost: x\r\n\r\n"
    with behind(refusal) as (server, kubelet):
        with HttpClient(Api(server).connect()) as http:
            answer = http.request("POST", TARGET, upgrade_headers(), early=smuggled)
            assert (answer.status, answer.body, answer.values("X-Why")) == (400, b"wrong", ["because"])
            assert answer.closed
            http.sock.sendall(smuggled)
            try:
                assert http.sock.recv(100) == b""  # and on this side nothing is answered either
            except ConnectionError:
                pass
        assert b"GET /pods" not in kubelet.wait_ended()
        assert len(kubelet.received) == 1


@pytest.mark.parametrize("location", ["https://127.0.0.1:1/steal", "/elsewhere"])
def test_a_redirect_is_an_error_and_is_never_followed(behind: Behind, location: str) -> None:
    """CVE-2020-8559: the apiserver's certificate and the request went wherever a node said."""
    answer = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
    with behind(answer) as (server, kubelet):
        code, message = Api(server).refusal(TARGET, "POST", upgrade_headers())
        assert (code, message) == (500, "invalid upgrade response: status code 302")
        kubelet.wait_ended()
        assert len(kubelet.received) == 1


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"hello, I am no HTTP\r\n\r\n"])
def test_what_is_no_upgrade_is_an_error(behind: Behind, answer: bytes) -> None:
    with behind(answer) as (server, kubelet):
        assert Api(server).refusal(TARGET, "POST", upgrade_headers())[0] == 500
        kubelet.wait_ended()


# -- credentials -------------------------------------------------------------------------------------------------------


def test_credentials_stay_with_the_apiserver(behind: Behind) -> None:
    with behind(SWITCHED) as (server, kubelet):
        with HttpClient(connect(server.url, server.ca)) as http:
            secret = [("Authorization", "Bearer secret-token"), ("Impersonate-User", "bob")]
            secret += [("Impersonate-Group", "system:masters"), ("X-Remote-User", "root")]
            assert http.request("POST", TARGET, [*upgrade_headers(), *secret]).status == 101
        received = kubelet.wait_ended().lower()
        for word in (b"secret-token", b"authorization", b"impersonate", b"x-remote", b"bob"):
            assert word not in received


def test_a_token_among_the_subprotocols_stays_too(behind: Behind) -> None:
    refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
    with behind(refusal) as (server, kubelet):
        entry = BEARER_PREFIX + "c2VjcmV0LXRva2Vu"  # secret-token
        with HttpClient(connect(server.url, server.ca)) as http:
            offered = websocket_headers(["v4.channel.k8s.io"], extra=[entry])
            assert http.request("GET", TARGET, offered).status == 403
        line, headers = head_of(kubelet.wait_ended())
        assert line.startswith("GET /exec/default/demo/main?")
        assert headers["sec-websocket-protocol"] == ["v4.channel.k8s.io"]


def test_a_bad_token_is_401_before_anything_else(behind: Behind) -> None:
    with behind(SWITCHED) as (server, kubelet):
        with HttpClient(connect(server.url, server.ca)) as http:
            answer = http.request("POST", TARGET, [*upgrade_headers(), ("Authorization", "Bearer wrong")])
        assert (answer.status, json.loads(answer.body)["reason"]) == (401, "Unauthorized")
        assert kubelet.received == []


def test_the_kubelets_certificate_is_verified(tmp_path: Path) -> None:
    """Unlike a real apiserver without ``--kubelet-certificate-authority``, unless that is asked for."""
    stranger = CertificateAuthority.create("stranger")
    with ScriptedKubelet(stranger, tmp_path, SWITCHED) as kubelet:
        documents = [kubelet.node(), pod_document("default/demo", "node-1")]
        trusted = [("127.0.0.1", kubelet.port)]
        with FakeApiserver(documents, trusted_kubelets=trusted) as server:
            code, message = Api(server).refusal(TARGET, "POST", upgrade_headers())
            assert code == 500
            assert message.startswith("error dialing backend: tls: ")
            assert not kubelet.received[0]
        careless = FakeApiserver(documents, trusted_kubelets=trusted, kubelet_ca=b"")
        with careless as server, HttpClient(Api(server).connect()) as http:
            assert http.request("POST", TARGET, upgrade_headers()).status == 101


# -- addresses and paths -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "169.254.169.254", "fe80::1", "0.0.0.0", "224.0.0.1"])
@pytest.mark.parametrize("target", [TARGET, "/api/v1/nodes/node-1/proxy/pods", "/api/v1/nodes/node-1:443/proxy/x"])
def test_node_addresses_are_checked(address: str, target: str) -> None:
    """CVE-2020-8562 and CVE-2022-3294: a node that lies about its address turns the apiserver against itself."""
    documents = [node_document("node-1", address, 10250, release="1.36.0"), pod_document("default/demo", "node-1")]
    with FakeApiserver(documents) as server:
        headers = upgrade_headers() if target is TARGET else []
        method = "POST" if target is TARGET else "GET"
        assert Api(server).refusal(target, method, headers) == (400, "address not allowed")


def test_other_ports_of_a_trusted_node_are_checked_too() -> None:
    with FakeCluster() as cluster:
        port = cluster.kubelets["node-1"].port
        api = Api(cluster)
        assert api.get(f"/api/v1/nodes/node-1:{port}/proxy/pods")["kind"] == "PodList"
        assert api.get(f"/api/v1/nodes/https:node-1:{port}/proxy/pods")["kind"] == "PodList"
        assert api.refusal("/api/v1/nodes/node-1:1/proxy/pods") == (400, "address not allowed")
        assert api.refusal("/api/v1/nodes/ftp:node-1:1/proxy/pods")[0] == 400


def test_names_are_not_resolved() -> None:
    documents = [node_document("node-1", "kubernetes.test", 10250, release="1.36.0")]
    with FakeApiserver(documents) as server:
        assert Api(server).refusal("/api/v1/nodes/node-1/proxy/pods")[0] == 400


@pytest.mark.parametrize(
    "target",
    [
        "/api/v1/nodes/node-1/proxy/../../../x",
        "/api/v1/nodes/node-1/proxy/%2e%2e/pods",
        "/api/v1/nodes/node-1/proxy/a%2f..%2fpods",
        "/api/v1/nodes/node-1/proxy/./pods",
        "/api/v1/namespaces/default/pods/../../../nodes",
        "/api/v1/namespaces/default%2fpods/x/exec",
    ],
)
def test_paths_that_climb_are_refused(target: str) -> None:
    with FakeCluster() as cluster:
        assert Api(cluster).request("GET", target).status in (400, 404)


# -- the node proxy ----------------------------------------------------------------------------------------------------


def test_the_node_proxy_passes_requests_with_their_query() -> None:
    with FakeCluster() as cluster:
        answer = Api(cluster).request("GET", "/api/v1/nodes/node-1/proxy/healthz?verbose")
        assert (answer.status, b"[+]ping ok" in answer.body) == (200, True)
        assert Api(cluster).request("GET", "/api/v1/nodes/node-1/proxy/nothing").status == 404
        assert Api(cluster).refusal("/api/v1/nodes/node-9/proxy/pods") == (404, 'nodes "node-9" not found')


def test_upgrades_through_the_node_proxy_lose_their_query(behind: Behind) -> None:
    """Issue 77142 of kubernetes/kubernetes: an exec on this route has no command."""
    with behind(SWITCHED) as (server, kubelet):
        target = "/api/v1/nodes/node-1/proxy/exec/default/demo/main?command=ls&output=1"
        with HttpClient(Api(server).connect()) as http:
            assert http.request("POST", target, upgrade_headers()).status == 101
        assert head_of(kubelet.wait_ended())[0] == "POST /exec/default/demo/main HTTP/1.1"
    with FakeCluster() as cluster:
        answer = Api(cluster).request("POST", target, upgrade_headers())
        assert (answer.status, b"at least 1 of stdin" in answer.body) == (400, True)


@pytest.mark.parametrize(
    ("location", "status", "seen"),
    [
        ("/logs/", 301, "/api/v1/nodes/node-1/proxy/logs/"),
        ("https://192.0.2.1/steal", 502, None),
        ("//192.0.2.1/steal", 502, None),
    ],
)
def test_redirects_of_plain_requests_stay_on_the_node(
    behind: Behind, location: str, status: int, seen: str | None
) -> None:
    answer = f"HTTP/1.1 301 Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
    with behind(answer) as (server, kubelet):
        done = Api(server).request("GET", "/api/v1/nodes/node-1/proxy/logs")
        assert (done.status, done.values("Location")) == (status, [] if seen is None else [seen])
        assert len(kubelet.received) == 1


def test_credentials_of_plain_requests_stay_too(behind: Behind) -> None:
    secret = [("Authorization", "Bearer secret-token"), ("X-Mine", "kept")]
    says = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    with behind(says) as (server, kubelet), HttpClient(connect(server.url, server.ca)) as http:
        assert http.request("GET", "/api/v1/nodes/node-1/proxy/x?y=1&z", secret).body == b"ok"
    line, headers = head_of(bytes(kubelet.received[0]))
    assert re.fullmatch(r"GET /x\?y=1&z=? HTTP/1.1", line)
    assert "authorization" not in headers
    assert (headers["x-mine"], headers["x-forwarded-for"]) == (["kept"], ["127.0.0.1"])


def test_a_refusal_without_a_length_ends_with_the_connection(behind: Behind) -> None:
    """As Go's WebSocket handshake refuses: a head, a text, and the end."""
    with behind(b"HTTP/1.1 403 Forbidden\r\n\r\nbecause", closes=True) as (server, _):
        answer = Api(server).request("GET", TARGET, websocket_headers(["v4.channel.k8s.io"]))
        assert (answer.status, answer.body) == (403, b"because")

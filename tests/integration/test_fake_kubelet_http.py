"""What the fake kubelet answers to each request: status codes, bodies, order of checks, as the real one."""

from __future__ import annotations

import json
import re
import socket
import ssl
import warnings
from collections.abc import Iterator

import pytest

from fakekubelet import Attributes, CertificateAuthority, Container, FakeKubelet, Pod, User
from fakekubelet.node import Serving
from spdyproto.channels.subprotocols import Subprotocol
from spdyproto.limits import Limits
from support.fakes import Caller
from support.rawclient import Answer, HttpClient, connect, exec_target, upgrade_headers

SPDY = upgrade_headers(["v4.channel.k8s.io"])
EXEC = exec_target(["true"])


@pytest.fixture(scope="module")
def kubelet() -> Iterator[FakeKubelet]:
    pods = [Pod("default/demo", labels={"app": "demo"}), Pod("kube-system/dns", [Container("a"), Container("b")])]
    with FakeKubelet(pods, tokens={"sesame": User("robot", ("robots",))}) as server:
        yield server


@pytest.fixture(scope="module")
def caller(kubelet: FakeKubelet) -> Caller:
    return Caller(kubelet)


def ask(caller: Caller, method: str, target: str, headers: list[tuple[str, str]] | None = None) -> Answer:
    with caller.http() as http:
        return http.request(method, target, headers or [])


# (method, target, headers, status, body): the body is compared whole
TABLE = [
    ("GET", "/healthz", [], 200, b"ok"),
    ("POST", "/healthz", [], 200, b"ok"),
    ("GET", "/healthz/ping", [], 200, b"ok"),
    ("GET", "/healthz/log", [], 200, b"ok"),
    ("GET", "/healthz/syncloop", [], 200, b"ok"),
    ("GET", "/healthz?verbose", [], 200, b"[+]ping ok\n[+]log ok\n[+]syncloop ok\nhealthz check passed\n"),
    (
        "GET",
        "/healthz?verbose&exclude=log&exclude=x",
        [],
        200,
        b"[+]ping ok\n[+]log excluded: ok\n[+]syncloop ok\n"
        b'warn: some health checks cannot be excluded: no matches for "x"\nhealthz check passed\n',
    ),
    ("GET", "/healthz/nope", [], 404, b"404 page not found\n"),
    ("GET", "/", [], 404, b"404 page not found\n"),
    ("GET", "/nope", [], 404, b"404 page not found\n"),
    ("GET", "/execute", [], 404, b"404 page not found\n"),
    ("GET", "/pods/x", [], 404, b"404: Page Not Found"),
    ("GET", "/exec", [], 404, b"404: Page Not Found"),
    ("GET", "/exec/default/demo", [], 404, b"404: Page Not Found"),
    ("GET", "/exec/a/b/c/d/e", [], 404, b"404: Page Not Found"),
    ("POST", "/pods", [], 405, b"405: Method Not Allowed"),
    ("PUT", EXEC, SPDY, 405, b"405: Method Not Allowed"),
    # exec: options, pod, container, upgrade, subprotocol, upgrade headers, in this order
    (
        "POST",
        "/exec/default/demo/main?command=true",
        SPDY,
        400,
        b"you must specify at least 1 of stdin, stdout, stderr",
    ),
    ("POST", "/exec/x/y/z?command=true", SPDY, 400, b"you must specify at least 1 of stdin, stdout, stderr"),
    ("POST", "/exec/x/y/z?output=true&error=yes", SPDY, 400, b"you must specify at least 1 of stdin, stdout, stderr"),
    ("POST", "/exec/x/y/z?tty=1&error=1", SPDY, 400, b"you must specify at least 1 of stdin, stdout, stderr"),
    ("POST", "/exec/x/y/z?output=0&output=1", SPDY, 400, b"you must specify at least 1 of stdin, stdout, stderr"),
    ("POST", "/exec/x/y/z?stdout=1", SPDY, 400, b"you must specify at least 1 of stdin, stdout, stderr"),
    ("POST", "/exec/default/nope/main?output=1", SPDY, 404, b"pod does not exist"),
    ("POST", "/exec/nope/demo/main?output=1", [], 404, b"pod does not exist"),
    ("GET", "/exec/default/demo/nope?output=1", SPDY, 500, b'container not found ("nope")'),
    ("POST", "/exec/default/demo/uid/nope?output=1", [], 500, b'container not found ("nope")'),
    ("GET", EXEC, [], 500, b"Upgrade request required\n"),
    ("POST", EXEC, [("X-Stream-Protocol-Version", "nope")], 500, b"Upgrade request required\n"),
    ("POST", EXEC, [("Connection", "keep-alive"), ("Upgrade", "SPDY/3.1")], 500, b"Upgrade request required\n"),
    (
        "GET",
        EXEC,
        [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")],
        400,
        b"unable to upgrade: header X-Stream-Protocol-Version does not exist in request with 2 headers\n",
    ),
    (
        "GET",
        EXEC,
        [
            ("Connection", "Upgrade"),
            ("Upgrade", "h2c"),
            ("X-Stream-Protocol-Version", "v9.channel.k8s.io, v5.channel.k8s.io"),
        ],
        403,
        b"unable to upgrade: unable to negotiate protocol: client supports [v9.channel.k8s.io v5.channel.k8s.io], "
        b"server accepts [v4.channel.k8s.io v3.channel.k8s.io v2.channel.k8s.io channel.k8s.io]\n",
    ),
]


@pytest.mark.parametrize(("method", "target", "headers", "status", "body"), TABLE)
def test_status_and_body(
    caller: Caller, method: str, target: str, headers: list[tuple[str, str]], status: int, body: bytes
) -> None:
    answer = ask(caller, method, target, headers)
    assert (answer.status, answer.body) == (status, body)


def test_upgrade_headers_are_judged_after_the_subprotocol(caller: Caller) -> None:
    headers = [("Connection", "Upgrade"), ("Upgrade", "h2c"), ("X-Stream-Protocol-Version", "v4.channel.k8s.io")]
    answer = ask(caller, "POST", EXEC, headers)
    assert answer.status == 400
    assert answer.body.startswith(b"unable to upgrade: missing upgrade headers in request: ")


def test_refused_protocols_are_listed_one_a_line(caller: Caller) -> None:
    answer = ask(caller, "POST", EXEC, upgrade_headers(["v9.channel.k8s.io"]))
    assert answer.status == 403
    assert answer.values("X-Accepted-Stream-Protocol-Versions") == [
        "v4.channel.k8s.io",
        "v3.channel.k8s.io",
        "v2.channel.k8s.io",
        "channel.k8s.io",
    ]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", ["default/demo/main", "default/demo/some-uid/main", "kube-system/dns/b"])
def test_both_path_forms_and_methods_upgrade(caller: Caller, method: str, path: str) -> None:
    answer = ask(caller, method, exec_target(["true"], path=path), SPDY)
    assert (answer.status, answer.reason, answer.body) == (101, "Switching Protocols", b"")
    assert answer.values("Connection") == ["Upgrade"]
    assert answer.values("Upgrade") == ["SPDY/3.1"]
    assert answer.values("X-Stream-Protocol-Version") == ["v4.channel.k8s.io"]
    assert answer.values("Content-Length") == []


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["v5.channel.k8s.io", "v4.channel.k8s.io"], "v4.channel.k8s.io"),
        (["v3.channel.k8s.io", "v4.channel.k8s.io"], "v3.channel.k8s.io"),
        (["v9.channel.k8s.io, v2.channel.k8s.io ,v4.channel.k8s.io"], "v2.channel.k8s.io"),
        (["channel.k8s.io"], "channel.k8s.io"),
    ],
)
def test_the_clients_first_protocol_wins(caller: Caller, offered: list[str], chosen: str) -> None:
    assert ask(caller, "POST", EXEC, upgrade_headers(offered)).values("X-Stream-Protocol-Version") == [chosen]


def test_protocols_can_be_forced() -> None:
    with FakeKubelet(protocols=[Subprotocol.V2]) as kubelet:
        answer = ask(Caller(kubelet), "POST", EXEC, upgrade_headers())
        assert answer.values("X-Stream-Protocol-Version") == ["v2.channel.k8s.io"]


def test_wrong_methods_name_the_right_ones(caller: Caller) -> None:
    assert ask(caller, "DELETE", "/pods").values("Allow") == ["GET"]
    assert ask(caller, "DELETE", EXEC).values("Allow") == ["GET, POST"]


def test_head_has_no_body_and_the_connection_stays_usable(caller: Caller) -> None:
    with caller.http() as http:
        head = http.request("HEAD", "/healthz")
        assert (head.status, head.body, head.values("Content-Length")) == (200, b"", ["2"])
        assert http.request("GET", "/healthz").body == b"ok"


@pytest.mark.parametrize("target", ["//healthz", "/./healthz", "/pods/../healthz", "/healthz/x/..", "/%2e/healthz"])
def test_unclean_paths_are_redirected(caller: Caller, target: str) -> None:
    answer = ask(caller, "GET", target)
    assert (answer.status, answer.values("Location")) == (301, ["/healthz"])


def test_a_redirect_cannot_be_made_to_say_more(caller: Caller) -> None:
    answer = ask(caller, "GET", "//a%0d%0aSet-Cookie:%20x=1/%3Cscript%3E")
    assert answer.values("Location") == ["/a%0D%0ASet-Cookie%3A%20x%3D1/%3Cscript%3E"]
    assert answer.values("Set-Cookie") == []
    assert b"<script>" not in answer.body


def test_pods_is_a_pod_list(caller: Caller, kubelet: FakeKubelet) -> None:
    answer = ask(caller, "GET", "/pods")
    assert answer.values("Content-Type") == ["application/json"]
    document = json.loads(answer.body)
    assert (document["kind"], document["apiVersion"]) == ("PodList", "v1")
    demo, dns = document["items"]
    assert demo["metadata"]["uid"] == kubelet.pods["default/demo"].uid
    assert demo["metadata"]["labels"] == {"app": "demo"}
    assert [each["name"] for each in dns["spec"]["containers"]] == ["a", "b"]
    assert {each["name"]: "running" in each["state"] for each in dns["status"]["containerStatuses"]} == {
        "a": True,
        "b": True,
    }
    assert demo["status"]["phase"] == "Running"
    assert demo["spec"]["nodeName"] == "fake-node"


def test_pods_come_and_go_while_the_server_runs(kubelet: FakeKubelet, caller: Caller) -> None:
    target = exec_target(["true"], path="default/late/main")
    assert ask(caller, "POST", target, SPDY).status == 404
    kubelet.pods.add(Pod("default/late"))
    assert ask(caller, "POST", target, SPDY).status == 101
    kubelet.pods.remove("default/late")
    assert ask(caller, "POST", target, SPDY).status == 404


@pytest.mark.parametrize(
    ("accept", "status"), [("application/json", 200), ("text/*, */*;q=0.1", 200), ("text/html", 406)]
)
def test_pods_are_json_only(caller: Caller, accept: str, status: int) -> None:
    assert ask(caller, "GET", "/pods", [("Accept", accept)]).status == status


# authentication


def anonymous(kubelet: FakeKubelet) -> HttpClient:
    return HttpClient(connect(kubelet.url, kubelet.ca))


@pytest.mark.parametrize("target", ["/healthz", "/pods", "/pods/x", EXEC, "/exec/a"])
def test_without_a_credential_everything_registered_is_401(kubelet: FakeKubelet, target: str) -> None:
    with anonymous(kubelet) as http:
        answer = http.request("GET", target, SPDY)
        assert (answer.status, answer.body) == (401, b"Unauthorized")


def test_what_is_not_registered_is_404_before_any_authentication(kubelet: FakeKubelet) -> None:
    with anonymous(kubelet) as http:
        assert http.request("GET", "/nope").status == 404


def test_a_certificate_of_somebody_else_is_401_and_no_tls_alert(kubelet: FakeKubelet) -> None:
    stranger = CertificateAuthority.create("somebody else").issue_client("mallory", ["system:masters"])
    with HttpClient(connect(kubelet.url, kubelet.ca, stranger)) as http:
        answer = http.request("GET", "/healthz")
        assert (answer.status, answer.body) == (401, b"Unauthorized")


def test_an_expired_certificate_is_401(kubelet: FakeKubelet) -> None:
    expired = kubelet.authority.issue_client("late", ["system:masters"], expired=True)
    with HttpClient(connect(kubelet.url, kubelet.ca, expired)) as http:
        assert http.request("GET", "/healthz").status == 401


def test_a_bearer_token_will_do_even_beside_a_bad_certificate(kubelet: FakeKubelet) -> None:
    stranger = CertificateAuthority.create("somebody else").issue_client("mallory")
    for identity in (None, stranger):
        with HttpClient(connect(kubelet.url, kubelet.ca, identity)) as http:
            assert http.request("GET", "/healthz", [("Authorization", "Bearer sesame")]).status == 200
            assert http.request("GET", "/healthz", [("Authorization", "bearer  sesame")]).status == 200
            assert http.request("GET", "/healthz", [("Authorization", "Bearer wrong")]).status == 401
            assert http.request("GET", "/healthz", [("Authorization", "Basic sesame")]).status == 401


def test_a_bad_credential_is_401_though_anonymous_is_allowed() -> None:
    with FakeKubelet(anonymous=True) as kubelet:
        with anonymous(kubelet) as http:
            assert http.request("GET", "/healthz").status == 200
            assert http.request("GET", "/healthz", [("Authorization", "Bearer wrong")]).status == 401
        stranger = CertificateAuthority.create("somebody else").issue_client("mallory")
        with HttpClient(connect(kubelet.url, kubelet.ca, stranger)) as http:
            assert http.request("GET", "/healthz").status == 401


def test_authorization_sees_user_verb_and_subresources_and_can_refuse() -> None:
    asked: list[Attributes] = []

    def judge(attributes: Attributes) -> bool:
        asked.append(attributes)
        return False

    with FakeKubelet(authorize=judge, node_name="n1") as kubelet:
        caller = Caller(kubelet, kubelet.credentials("alice", ["devs"]))
        answer = ask(caller, "GET", "/pods")
        assert (answer.status, answer.body) == (
            403,
            b"Forbidden (user=alice, verb=get, resource=nodes, subresource(s)=[pods proxy])\n",
        )
        assert asked == [
            Attributes(User("alice", ("devs", "system:authenticated")), "get", name, "/pods", "n1")
            for name in ("pods", "proxy")
        ]
        # Authorization comes before everything that the handlers check.
        answer = ask(caller, "POST", "/exec/a/b/c")
        assert answer.body == b"Forbidden (user=alice, verb=create, resource=nodes, subresource(s)=[proxy])\n"


# what is no request


def send_raw(caller: Caller, data: bytes) -> bytes:
    with caller.connect() as sock:
        sock.sendall(data)
        return b"".join(iter(lambda: sock.recv(65536), b""))


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", b"400 Bad Request"),
        (b"GET /healthz HTTP/1.1\r\n\r\n", b"400 Bad Request"),  # no Host
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: nope\r\n\r\n", b"501 Not Implemented"),
        (b"GET nope HTTP/1.1\r\nHost: a\r\n\r\n", b"400 Bad Request"),
        (
            b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
            b"431 Request Header Fields Too Large",
        ),
    ],
)
def test_bad_heads_are_answered_and_closed(caller: Caller, data: bytes, status: bytes) -> None:
    answer = send_raw(caller, data)
    assert answer.startswith(b"HTTP/1.1 " + status + b"\r\n")
    assert b"connection: close" in answer.lower()


def test_the_head_limit_is_configurable() -> None:
    with FakeKubelet(limits=Limits(http_head=1024)) as kubelet:
        answer = ask(Caller(kubelet), "GET", "/healthz", [("X", "y" * 2000)])
        assert answer.status == 431


def test_a_body_is_read_and_dropped_up_to_a_limit(caller: Caller) -> None:
    with caller.http() as http:
        assert http.request("POST", "/healthz", body=b"x" * 200_000).body == b"ok"
        assert http.request("POST", "/healthz", body=b"x" * 300_000).status == 413


def test_a_client_that_waits_to_be_told_to_go_on_is_told(caller: Caller) -> None:
    with caller.connect() as sock:
        sock.sendall(b"POST /healthz HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert sock.recv(1000).startswith(b"HTTP/1.1 100 ")
        sock.sendall(b"ab")
        assert sock.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_pipelined_requests_are_answered_in_order(caller: Caller) -> None:
    one = b"GET /healthz/%s HTTP/1.1\r\nHost: a\r\n\r\n"
    last = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    answer = send_raw(caller, one % b"ping" + one % b"nope" + last)
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"404", b"200"]


def send_many(sock: ssl.SSLSocket, data: bytes, times: int) -> None:
    for _ in range(times):
        sock.sendall(data)


def test_a_client_that_piles_up_requests_and_reads_nothing_is_not_read_either(caller: Caller) -> None:
    request = b"GET /pods HTTP/1.1\r\nHost: a\r\n\r\n"
    batch = request * 1000
    with caller.connect() as sock:
        sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            send_many(sock, batch, 2000)  # 80 MB of requests, two GB of answers
        sock.settimeout(30)
        assert sock.recv(1 << 16).startswith(b"HTTP/1.1 200 OK")


def test_plain_http_is_told_what_it_met(kubelet: FakeKubelet) -> None:
    with socket.create_connection(("127.0.0.1", kubelet.port), 30) as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    assert answer == b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"


def test_noise_instead_of_tls_ends_the_connection(kubelet: FakeKubelet) -> None:
    with socket.create_connection(("127.0.0.1", kubelet.port), 30) as sock:
        sock.sendall(b"\x16\x03\x01" + bytes(500))
        while sock.recv(65536):
            pass


def test_tls_1_1_is_refused(kubelet: FakeKubelet) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=kubelet.ca.decode())
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that is the point of it
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("127.0.0.1", kubelet.port), 30) as plain,
        pytest.raises(ssl.SSLError, match=r"(?i)protocol version|unsupported protocol|no protocols"),
    ):
        context.wrap_socket(plain, server_hostname="127.0.0.1")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["http/1.1", "h2"], "h2"),  # the server's order counts
        (["http/1.1"], "http/1.1"),
        ([], None),
    ],
)
def test_alpn(kubelet: FakeKubelet, version: ssl.TLSVersion, offered: list[str], chosen: str | None) -> None:
    assert negotiated(kubelet, version, offered) == chosen


def test_http2_can_be_left_out() -> None:
    with FakeKubelet(serving=Serving(http2=False)) as kubelet:
        assert negotiated(kubelet, ssl.TLSVersion.TLSv1_3, ["h2", "http/1.1"]) == "http/1.1"


def negotiated(kubelet: FakeKubelet, version: ssl.TLSVersion, offered: list[str]) -> str | None:
    context = ssl.create_default_context(cadata=kubelet.ca.decode())
    context.minimum_version = context.maximum_version = version
    if offered:
        context.set_alpn_protocols(offered)
    with (
        socket.create_connection(("127.0.0.1", kubelet.port), 30) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as sock,
    ):
        return sock.selected_alpn_protocol()

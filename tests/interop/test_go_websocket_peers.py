"""The Go peers against each other over WebSocket, through a translator, through an apiserver, and attached."""

from __future__ import annotations

import hashlib
import http.client
import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest

from support.gopeers import SOURCES, GoFront, GoReport, GoServer, pod_url, random_bytes, run_go_client
from support.pki import Pki

pytestmark = [pytest.mark.interop, pytest.mark.usefixtures("go_peers"), pytest.mark.timeout(300)]
MIB = 1 << 20
VECTORS = SOURCES.parents[1] / "vectors"
V4, V5 = "v4.channel.k8s.io", "v5.channel.k8s.io"
UNAUTHORIZED = "unable to upgrade connection: Unauthorized"
REFUSED = "websocket: bad handshake (403 Forbidden)"


def identity(pki: Pki) -> dict[str, Any]:
    return {"ca": pki.ca, "certificate": pki.client_certificate, "key": pki.client_key}


def secured(pki: Pki) -> dict[str, Any]:
    return {"certificate": pki.server_certificate, "key": pki.server_key, "client_ca": pki.ca}


def front_of(kubelet: GoServer, pki: Pki, **settings: Any) -> GoFront:
    """An apiserver that shows the kubelet the identity it asks for."""
    return GoFront(
        **secured(pki), backend=kubelet.url, backend_ca=pki.ca, backend_certificate=pki.client_certificate,
        backend_key=pki.client_key, **settings,
    )  # fmt: skip


@pytest.fixture(scope="module")
def old_kubelet(go_peers: Path, pki: Pki) -> Iterator[GoServer]:
    with GoServer(**secured(pki)) as running:
        yield running


@pytest.fixture(scope="module")
def new_kubelet(go_peers: Path, pki: Pki) -> Iterator[GoServer]:
    with GoServer(**secured(pki), translate=True) as running:
        yield running


@pytest.fixture(scope="module")
def front(old_kubelet: GoServer, pki: Pki) -> Iterator[GoFront]:
    with front_of(old_kubelet, pki) as running:
        yield running


class Route:
    """One way from the Go client to a command."""

    def __init__(self, base: str, pki: Pki, **options: Any) -> None:
        self.base, self.options = base, {**identity(pki), **options}

    def run(self, *command: str, **options: Any) -> GoReport:
        return run_go_client(self.base, command, **{**self.options, **options})


ROUTES = ["v4", "v5", "apiserver-spdy", "apiserver-v4", "apiserver-v5", "apiserver-v5-passed"]


@pytest.fixture(params=ROUTES)
def route(
    request: pytest.FixtureRequest, old_kubelet: GoServer, new_kubelet: GoServer, front: GoFront, pki: Pki
) -> Iterator[Route]:
    protocol = {"protocols": "v4"} if "v4" in request.param else {}
    if not request.param.startswith("apiserver"):
        kubelet = old_kubelet if protocol else new_kubelet
        yield Route(kubelet.url, pki, transport="websocket", **protocol)
    elif request.param == "apiserver-v5-passed":
        with front_of(new_kubelet, pki, pass_websockets=True) as passing:
            yield Route(passing.url, pki, transport="websocket", apiserver=True)
    else:
        transport = "spdy" if request.param == "apiserver-spdy" else "websocket"
        yield Route(front.url, pki, transport=transport, apiserver=True, **protocol)


def test_outputs_and_exit_code(route: Route) -> None:
    report = route.run("both", "3")
    assert (report.exit_code, report.error) == (0, "")
    assert report.stdout == b"out 0\nout 1\nout 2\n"
    assert report.stderr == b"err 0\nerr 1\nerr 2\n"
    failed = route.run("exit", "3")
    assert (failed.exit_code, failed.session.exited) == (3, True)
    broken = route.run("fail", "no such container")
    assert (broken.exit_code, broken.session.exited) == (255, False)
    assert "no such container" in broken.error


def test_terminal_sizes(route: Route) -> None:
    assert route.run("sizes", "2", tty=True, resize=[(80, 24), (132, 43)]).stdout == b"80x24\n132x43\n"


def test_bytes_by_digest(route: Route) -> None:
    down = route.run("random", str(16 * MIB), "down", stdout="hash")
    expected = hashlib.sha256(random_bytes(16 * MIB, "down")).hexdigest()
    assert (down.session.stdout.bytes, down.session.stdout.sha256) == (16 * MIB, expected)
    up = route.run("early-exit", str(4 * MIB), stdin=f"random:{4 * MIB}:up")
    assert (up.exit_code, up.session.stdin_bytes) == (0, 4 * MIB)


@pytest.mark.parametrize("route", ["v5", "apiserver-spdy", "apiserver-v5", "apiserver-v5-passed"], indirect=True)
def test_stdin_ends(route: Route) -> None:
    report = route.run("sink", stdin=f"random:{4 * MIB}:up")
    assert report.stdout.decode() == f"{4 * MIB} {hashlib.sha256(random_bytes(4 * MIB, 'up')).hexdigest()}\n"


@pytest.mark.parametrize("route", ["v4", "apiserver-v4"], indirect=True)
def test_stdin_never_ends_before_v5(route: Route) -> None:
    report = route.run("cat", stdin=b"hello", until="hello")
    assert (report.stdout, report.session.detached) == (b"hello", True)
    assert "deadline exceeded" in route.run("sink", stdin=b"hello", timeout=1).error


def test_lost_status_is_a_success_to_go(route: Route) -> None:
    """What kubewire must not do; the translator even writes a status of its own that says so."""
    report = route.run("vanish", "last", "words")
    assert (report.exit_code, report.stdout) == (0, b"last words\n")


def test_old_kubelet_refuses_v5(old_kubelet: GoServer, pki: Pki) -> None:
    assert REFUSED in Route(old_kubelet.url, pki, transport="websocket").run("echo").error


def test_subprotocol_that_client_go_cannot_speak(old_kubelet: GoServer, pki: Pki) -> None:
    route = Route(old_kubelet.url, pki, transport="websocket", protocols="base64.channel.k8s.io")
    assert "client-go panicked" in route.run("echo").error


def test_fallback_after_a_refusal(old_kubelet: GoServer, new_kubelet: GoServer, pki: Pki) -> None:
    fallen = Route(old_kubelet.url, pki, transport="fallback").run("cat", stdin=b"once")
    assert (fallen.exit_code, fallen.stdout) == (0, b"once")
    assert fallen.session.transports == ["websocket", "spdy"]
    assert REFUSED in fallen.session.fallback_reason
    stayed = Route(new_kubelet.url, pki, transport="fallback").run("exit", "3")
    assert (stayed.exit_code, stayed.session.transports, stayed.session.fallback_reason) == (3, ["websocket"], "")


def test_fallback_also_where_it_is_no_use(front: GoFront, old_kubelet: GoServer, pki: Pki) -> None:
    nobody = {"certificate": None, "key": None}
    report = Route(front.url, pki, transport="fallback", apiserver=True).run("echo", **nobody)
    assert (report.session.transports, report.error) == (["websocket", "spdy"], UNAUTHORIZED)
    with front_of(old_kubelet, pki, verbs=["get"]) as strict:
        report = Route(strict.url, pki, transport="fallback", apiserver=True).run("echo")
    assert report.session.transports == ["websocket", "spdy"]
    assert 'cannot create resource "pods/exec"' in report.session.fallback_reason
    assert 'cannot create resource "pods/exec"' in report.error


def test_no_fallback_without_an_answer(pki: Pki) -> None:
    with GoServer(**secured(pki)) as gone:
        pass
    report = Route(gone.url, pki, transport="fallback").run("echo")
    assert report.session.transports == ["websocket"]
    assert "connection refused" in report.error


def test_translator_says_101_before_it_asks(old_kubelet: GoServer, pki: Pki) -> None:
    with front_of(old_kubelet, pki, containers=["main", "ghost"]) as knowing:
        ghost = Route(knowing.url, pki, apiserver=True, container="ghost")
        translated = ghost.run("echo", transport="fallback")
        assert translated.session.transports == ["websocket"]
        assert 'container not found ("ghost")' in translated.error
        assert 'container not found ("ghost")' in ghost.run("echo").error


def test_apiserver_without_kubelet(pki: Pki) -> None:
    with GoFront(**secured(pki), backend="https://127.0.0.1:1", backend_ca=pki.ca) as lonely:
        route = Route(lonely.url, pki, apiserver=True)
        assert "error dialing backend: dial tcp 127.0.0.1:1" in route.run("echo").error
        assert "dial tcp 127.0.0.1:1" in route.run("echo", transport="websocket").error


def test_kubelet_does_not_know_the_apiserver(old_kubelet: GoServer, pki: Pki) -> None:
    with GoFront(**secured(pki), backend=old_kubelet.url) as stranger:  # nor does it know the kubelet
        assert "Unauthorized" in Route(stranger.url, pki, apiserver=True).run("echo").error


@pytest.mark.parametrize(
    ("pod", "container", "status", "message"),
    [
        ("default/demo", "main", 400, "Upgrade request required"),
        ("default/demo", "other", 400, "container other is not valid for pod demo"),
        ("default/demo", None, 400, "a container name must be specified for pod demo, choose one of: [main side]"),
        ("default/other", "main", 404, 'pods "other" not found'),
        ("else/demo", "main", 404, 'pods "demo" not found'),
    ],
)
def test_refusals_of_the_apiserver(pod: str, container: str | None, status: int, message: str) -> None:
    with GoServer() as kubelet, GoFront(backend=kubelet.url, containers=["main", "side"]) as front:
        answer = get(pod_url(front.url, "exec", ["echo"], pod=pod, container=container))
    assert (answer["kind"], answer["code"], answer["message"]) == ("Status", status, message)


def test_only_container_needs_no_name(front: GoFront, pki: Pki) -> None:
    assert Route(front.url, pki, apiserver=True, container=None).run("echo", "hi").stdout == b"hi\n"


@pytest.mark.parametrize(("value", "means"), [("true", True), ("", True), ("no", True), ("0", False), ("False", False)])
def test_flags_as_the_apiserver_reads_them(value: str, means: bool) -> None:
    with GoServer() as kubelet, GoFront(backend=kubelet.url) as front:
        url = pod_url(front.url, "exec", ["echo"], stdout=False, stderr=False) + f"&stdout={value}"
        answer = get(url, {"Connection": "Upgrade", "Upgrade": "SPDY/3.1"})
    missing = "you must specify at least 1 of stdin, stdout, stderr"
    assert (missing not in answer["message"]) is means, answer


def get(url: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """The answer to a plain request: a Status, or its text as the message."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.netloc, timeout=30)
    connection.request("GET", f"{address.path}?{address.query}", headers=headers or {})
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    if response.headers.get_content_type() != "application/json":
        return {"message": text, "code": response.status}
    status: dict[str, Any] = json.loads(text)
    assert status["code"] == response.status
    return status


def test_apiserver_reports_its_cost(front: GoFront, pki: Pki) -> None:
    before = front.usage()
    Route(front.url, pki, apiserver=True).run("source", str(16 * MIB), stdout="discard")
    assert front.usage().cpu > before.cpu


TRANSPORTS: tuple[Literal["spdy"], Literal["websocket"]] = ("spdy", "websocket")
ATTACHED: list[tuple[Literal["spdy", "websocket"], str]] = [("spdy", ""), ("websocket", "v4"), ("websocket", "v5")]


@pytest.mark.parametrize(("transport", "protocols"), ATTACHED)
def test_attach_to_the_program_and_leave_it(
    transport: Literal["spdy", "websocket"], protocols: str, new_kubelet: GoServer, pki: Pki
) -> None:
    route = Route(new_kubelet.url, pki, transport=transport, protocols=protocols, attach=True)
    report = route.run(until="tick")
    assert report.session.detached
    report = route.run(stdin="hold:err oops\nsource 100000\nhello there\nexit\n")
    assert (report.exit_code, report.session.exited) == (0, True)
    assert b"hello there\n" in report.stdout
    assert report.stdout.count(0) == 100000
    assert report.stderr == b"oops\n"


def test_attach_through_the_apiserver(front: GoFront, pki: Pki) -> None:
    route = Route(front.url, pki, apiserver=True, attach=True)
    for transport in (*TRANSPORTS, "fallback"):
        report = route.run(stdin="hold:hello there\n", until="hello there\n", transport=transport)
        assert report.session.detached


def test_end_of_stdin_ends_the_attacher_only(pki: Pki) -> None:
    with GoServer(attach_interval=0) as kubelet, ThreadPoolExecutor() as pool:
        watcher = pool.submit(run_go_client, kubelet.url, [], attach=True, until="second")
        assert run_go_client(kubelet.url, [], attach=True, stdin=b"first\n").session.exited
        while not watcher.done():  # it may attach after any of them
            run_go_client(kubelet.url, [], attach=True, stdin=b"second\n")
        assert watcher.result().session.detached


def test_stdin_once_ends_the_program() -> None:
    with GoServer(attach_interval=0, stdin_once=True, translate=True) as kubelet:
        for transport in TRANSPORTS:
            report = run_go_client(kubelet.url, [], attach=True, stdin=b"a\nb", transport=transport)
            assert (report.exit_code, report.stdout) == (0, b"a\nb")


def test_attach_to_a_terminal() -> None:
    with GoServer(attach_interval=0, attach_tty=True, translate=True) as kubelet:
        for transport in TRANSPORTS:
            report = run_go_client(
                kubelet.url, [], attach=True, tty=True, stdin="hold", resize=[(80, 24)], until="size 80x24\n",
                transport=transport,
            )  # fmt: skip
            assert report.stdout == b"size 81x25\nsize 80x24\n"


def test_attach_to_a_container_that_is_not_there() -> None:
    with GoServer() as kubelet:
        error = run_go_client(kubelet.url, [], attach=True, path="/attach/default/demo/other").error
    assert "container other not found in pod demo_default" in error


def test_golden_dialogues_can_be_captured_again(go_peers: Path, tmp_path: Path) -> None:
    subprocess.run(
        [go_peers / "kwvectors", "-out", tmp_path, "-only", "websocket"],
        check=True, timeout=120, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    fresh, golden = (json.loads((folder / "websocket-dialogues.json").read_text()) for folder in (tmp_path, VECTORS))
    assert fresh["source"] == golden["source"]
    for mine, theirs in zip(fresh["dialogues"], golden["dialogues"], strict=True):
        for key in ("name", "peers", "protocol", "stdout", "stderr", "exit_code", "error"):
            assert mine[key] == theirs[key]
        for side in ("client", "server"):
            assert by_channel(mine[side]["frames"]) == by_channel(theirs[side]["frames"])


def by_channel(frames: list[dict[str, Any]]) -> dict[object, list[tuple[object, ...]]]:
    """The order within each channel and among control frames; the order of stdout and stderr is nobody's promise."""
    found: dict[object, list[tuple[object, ...]]] = {}
    for frame in frames:
        what = (frame["opcode"], frame["fin"], frame["masked"], frame["payload"], frame["meaning"])
        found.setdefault(frame.get("channel"), []).append(what)
    return found

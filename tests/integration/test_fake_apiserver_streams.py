"""exec and attach through the fake apiserver: passed through, translated, and what goes wrong on the way."""

from __future__ import annotations

import hashlib
import json
import socket
import time
from collections.abc import Iterator

import pytest

from fakekubelet import Container, FakeApiserver, FakeCluster, Pod
from fakekubelet.apiserver.locations import NODES
from fakekubelet.apiserver.nodes import node_document
from fakekubelet.apiserver.translator import CLOSES_AT_ONCE
from spdyproto.channels.events import Lost, StreamSet
from support.apiservers import Api, pod_document, pod_target
from support.rawclient import ExecClient, upgrade_headers, websocket_headers
from support.rawwebsocket import RawWebSocket

MIB = 1 << 20
V5 = "v5.channel.k8s.io"
PROFILES = ("1.29", "1.31", "1.35", "1.36")
TRANSLATING = ("1.31", "1.35")


@pytest.fixture(params=PROFILES, scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[FakeCluster]:
    pods = [Pod("default/demo"), Pod("default/cat", [Container("main", main=["cat"], stdin=True)])]
    with FakeCluster(pods=pods, profile=request.param) as cluster:
        yield cluster


@pytest.fixture(params=TRANSLATING, scope="module")
def translating(request: pytest.FixtureRequest) -> Iterator[FakeCluster]:
    with FakeCluster(profile=request.param) as cluster:
        yield cluster


@pytest.mark.parametrize("websocket", [None, "", "v4.channel.k8s.io", "v4.base64.channel.k8s.io"])
def test_exec_is_passed_through(cluster: FakeCluster, websocket: str | None) -> None:
    done = Api(cluster).run(["random", str(MIB), "7"], websocket=websocket)
    assert len(done.stdout) == MIB
    execution = cluster.kubelets["node-1"].executions[-1]
    assert execution.request.user.name == "kube-apiserver-kubelet-client"
    assert (execution.request.transport.value == "spdy") is (websocket is None)


def test_stdin_and_exit_code_over_spdy(cluster: FakeCluster) -> None:
    api = Api(cluster)
    payload = bytes(range(256)) * 16384
    done = api.run(["sink"], stdin=payload)
    assert done.stdout.split()[1].decode() == hashlib.sha256(payload).hexdigest()
    assert api.run(["exit", "42"]).code == 42


def test_v5_goes_where_the_version_says(cluster: FakeCluster) -> None:
    api, profile = Api(cluster), cluster.apiserver.gates
    target = pod_target("exec", ["echo", "x"])
    if not profile.translate:
        # No server on the way speaks it: the kubelet's refusal comes through, and a client falls back.
        assert api.request("GET", target, websocket_headers([V5])).status == 403
        return
    payload = bytes(range(256)) * 16384
    done = api.run(["sink"], stdin=payload, websocket=V5)
    assert (done.code, done.stdout.split()[1].decode()) == (0, hashlib.sha256(payload).hexdigest())
    execution = cluster.kubelets["node-1"].executions[-1]
    assert execution.request.transport.value == ("websocket" if profile.extend else "spdy")
    done = api.run(["exit", "9"], websocket=V5)
    assert done.code == 9
    done = api.run(["both", "1000"], websocket=V5)
    assert (done.code, bool(done.stdout), bool(done.stderr)) == (0, True, True)


@pytest.mark.parametrize("websocket", [None, "v4.channel.k8s.io"])
def test_attach(cluster: FakeCluster, websocket: str | None) -> None:
    streams = StreamSet(stdin=True)
    target = pod_target("attach", streams=streams, pod="default/cat")
    with ExecClient.open(Api(cluster).connect(), None, streams=streams, target=target, websocket=websocket) as client:
        client.send(b"there and back\n")
        client.pump_until(lambda: client.stdout.endswith(b"back\n"))


def test_a_kubelet_of_1_36_without_the_feature_is_translated_for() -> None:
    with FakeCluster(profile="1.36") as cluster:
        node = cluster.store.get(NODES, "", "node-1")
        assert node is not None
        status = {key: value for key, value in node["status"].items() if key != "declaredFeatures"}
        cluster.store.put({**node, "status": status})
        assert Api(cluster).run(["echo", "x"], websocket=V5).stdout == b"x\n"
        assert cluster.kubelets["node-1"].executions[-1].request.transport.value == "spdy"


# -- the translator ----------------------------------------------------------------------------------------------------


def apiserver_with(document: dict[str, object], port: int, profile: str = "1.31") -> FakeApiserver:
    """An apiserver that knows a pod on a node at `port`."""
    node = node_document("node-1", "127.0.0.1", port, release="1.31.0")
    return FakeApiserver([node, document], profile=profile, trusted_kubelets=[("127.0.0.1", port)])


def test_the_translator_answers_101_before_it_asks_the_kubelet() -> None:
    """An unknown container: a Status on the error channel of v5, an HTTP 500 over SPDY."""
    with FakeCluster(profile="1.31") as cluster:
        kubelet = cluster.kubelets["node-1"]
        cluster.store.put(pod_document("default/demo", "node-1", ["ghost"]))
        api = Api(cluster)
        done = api.run(["echo"], websocket=V5)
        assert done.code is None
        assert done.message == 'Internal error occurred: unable to upgrade connection: container not found ("ghost")'
        target = pod_target("exec", ["echo"])
        answer = api.request("POST", target, upgrade_headers())
        assert (answer.status, answer.body) == (500, b'container not found ("ghost")')
        assert kubelet.executions == []


def test_a_kubelet_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with apiserver_with(pod_document("default/demo", "node-1"), port) as server:
        api = Api(server)
        code, message = api.refusal(pod_target("exec", ["x"]), "POST", upgrade_headers())
        assert code == 500
        assert message == f"error dialing backend: dial tcp 127.0.0.1:{port}: connect: connection refused"
        done = api.run(["x"], websocket=V5)
        assert (done.code, message in done.message) == (None, True)


def test_the_translator_keeps_its_own_checks_ahead_of_the_101(translating: FakeCluster) -> None:
    api = Api(translating)
    for target, code in (
        (pod_target("exec", ["x"], pod="default/nobody"), 404),
        (pod_target("exec", ["x"], container="nobody"), 400),
    ):
        assert api.refusal(target, headers=websocket_headers([V5]))[0] == code


def test_no_stream_at_all_is_refused_behind_the_101(translating: FakeCluster) -> None:
    target = pod_target("exec", ["x"]).replace("stdout=true&stderr=true", "")
    with ExecClient.open(Api(translating).connect(), ["x"], websocket=V5, target=target) as client:
        assert "you must specify at least 1 of stdin, stdout, stderr" in client.finish().message


def test_stdin_that_comes_before_the_kubelet_is_there_is_kept(translating: FakeCluster) -> None:
    done = Api(translating).run(["cat"], stdin=b"early", websocket=V5)
    assert (done.code, done.stdout) == (0, b"early")


def test_a_client_that_leaves_takes_its_kubelet_connection_along(translating: FakeCluster) -> None:
    client = Api(translating).open(["cat"], StreamSet(stdin=True), websocket=V5)
    client.send(b"here")
    client.pump_until(lambda: client.stdout == b"here")  # the kubelet is dialled in the background
    client.sock.close()
    translating.kubelets["node-1"].executions[-1].wait(30)  # its stdin has ended


SLOW = 64 * 1024
"""More than the socket of a client that wants to be small takes, less than the server's buffers."""


def _late(cluster: FakeCluster) -> ExecClient:
    """A client that reads nothing before the apiserver has written everything."""
    api = Api(cluster)
    sock = api.connect(receive_buffer=4096)
    target = pod_target("exec", ["source", str(SLOW)])
    client = ExecClient.open(sock, ["source"], websocket=V5, target=target)
    while not cluster.kubelets["node-1"].executions:
        time.sleep(0.01)  # the kubelet is dialled behind the 101
    cluster.kubelets["node-1"].sessions[-1].wait(30)
    return client


def test_a_slow_reader_loses_nothing() -> None:
    with FakeCluster(profile="1.31") as cluster, _late(cluster) as client:
        done = client.finish()
        assert (done.code, len(done.stdout)) == (0, SLOW)


def test_loss_of_older_versions_is_a_named_fault() -> None:
    """The translator closes as soon as it has written: a client that has not read by then gets no status."""
    with FakeCluster(profile="1.31", faults=[CLOSES_AT_ONCE]) as cluster, _late(cluster) as client:
        cluster.apiserver.sessions[-1].wait(30)
        assert isinstance(client.finish().outcome, Lost)
        assert len(client.stdout) < SLOW


def test_unknown_faults_are_refused() -> None:
    with pytest.raises(ValueError, match=CLOSES_AT_ONCE):
        FakeApiserver(faults=["bad weather"])


# -- containers and flags ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def choosy() -> Iterator[FakeCluster]:
    pods = {"node-1": [Pod("default/two", [Container("a"), Container("b")])], "": [Pod("default/waiting")]}
    with FakeCluster(pods=pods) as cluster:
        documents = pod_document("default/init", "node-1", ["a", "b"], initContainers=[{"name": "i"}, {"name": "j"}])
        cluster.store.put(documents)
        yield cluster


@pytest.mark.parametrize(
    ("pod", "container", "expected"),
    [
        ("default/nobody", "", (404, 'pods "nobody" not found')),
        ("default/two", "", (400, "a container name must be specified for pod two, choose one of: [a b]")),
        ("default/two", "c", (400, "container c is not valid for pod two")),
        (
            "default/init",
            "",
            (
                400,
                "a container name must be specified for pod init, choose one of: [a b] "
                "or one of the init containers: [i j]",
            ),
        ),
        ("default/waiting", "main", (400, "pod waiting does not have a host assigned")),
    ],
)
@pytest.mark.parametrize("kind", ["exec", "attach"])
def test_the_choice_of_a_container(
    choosy: FakeCluster, kind: str, pod: str, container: str, expected: tuple[int, str]
) -> None:
    target = pod_target(kind, ["x"] if kind == "exec" else [], pod=pod)
    if container:
        target += f"&container={container}"
    assert Api(choosy).refusal(target, "POST", upgrade_headers()) == expected


def test_init_containers_may_be_named(choosy: FakeCluster) -> None:
    target = pod_target("exec", ["x"], pod="default/init", container="i")
    answer = Api(choosy).request("POST", target, upgrade_headers())  # the kubelet does not know the pod
    assert (answer.status, answer.body) == (404, b"pod does not exist")


def test_an_exec_without_an_upgrade(choosy: FakeCluster) -> None:
    target = pod_target("exec", ["x"], pod="default/two", container="a")
    assert Api(choosy).refusal(target) == (400, "Upgrade request required")


@pytest.mark.parametrize(
    ("value", "true"), [("1", True), ("true", True), ("", True), ("yes", True), ("0", False), ("False", False)]
)
def test_flags_are_read_as_the_apiserver_reads_them(cluster: FakeCluster, value: str, true: bool) -> None:
    target = pod_target("exec", ["echo", "x"]).replace("stderr=true", f"stderr={value}")
    streams = StreamSet(stderr=true)
    with ExecClient.open(Api(cluster).connect(), ["echo"], streams=streams, target=target) as client:
        assert client.finish().stdout == b"x\n"
    assert cluster.kubelets["node-1"].executions[-1].request.streams.stderr is true


def test_the_status_is_json_with_metadata(translating: FakeCluster) -> None:
    with RawWebSocket(Api(translating).connect(), pod_target("exec", ["exit", "3"]), [V5]) as socket_:
        frames = [payload for _, payload in socket_.read_all()]
    status = json.loads(next(payload[1:] for payload in frames if payload[:1] == b"\3" and len(payload) > 1))
    assert status == {
        "metadata": {},
        "status": "Failure",
        "message": "command terminated with non-zero exit code: command terminated with exit code 3",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": "3"}]},
    }


@pytest.mark.parametrize("offered", [["SPDY/3.1+nonsense"], ["SPDY/3.1+nonsense", "v4.channel.k8s.io"]])
def test_a_tunnel_for_nothing_that_is_known(translating: FakeCluster, offered: list[str]) -> None:
    target = "/api/v1/namespaces/default/pods/demo/portforward"
    answer = Api(translating).request("GET", target, websocket_headers(offered))
    assert (answer.status, answer.body) == (400, b"unable to upgrade: no tunneling spdy protocols provided\n")


def test_a_tunnels_refusal_is_the_kubelets(translating: FakeCluster) -> None:
    """The kubelet is asked before the WebSocket is there, so a client may fall back."""
    translating.store.put(pod_document("default/ghost", "node-1"))
    target = "/api/v1/namespaces/default/pods/ghost/portforward"
    answer = Api(translating).request("GET", target, websocket_headers(["SPDY/3.1+portforward.k8s.io"]))
    assert (answer.status, answer.body) == (404, b"pod does not exist")

"""Unmodified ``kubectl`` on the fake cluster."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakekubelet import Container, FakeCluster, Pod, Rule
from fakekubelet.ports import echo
from support.gopeers import random_bytes
from support.kubectl import PROGRAMS, TRANSPORTS, Kubectl, find
from support.terminal import Terminal

pytestmark = pytest.mark.interop


async def echo_keys(context: Any) -> int:
    """Tells each size, and what each key was, until ``q``."""

    async def tell() -> None:
        while True:
            size = await context.resized()
            await context.stdout.write(f"{size[0]}x{size[1]}\r\n".encode())

    first = await context.resized()
    await context.stdout.write(f"{first[0]}x{first[1]}\r\nready\r\n".encode())
    telling = asyncio.create_task(tell())
    try:
        async for data in context.stdin:
            for byte in data:
                await context.stdout.write(b"<%02x>" % byte)
                if byte == ord("q"):
                    return 7
    finally:
        telling.cancel()
    return 8


DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "two"},
    "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "two"}}},
}
COUNT = "".join(f"2024-01-01T00:00:0{n}.000000000Z stdout F line {n}\n" for n in range(10))
PODS = {
    "node-1": [
        Pod("default/demo"),
        Pod("default/keys", [Container("main", behaviour=echo_keys)]),
        Pod("default/cat", [Container("main", main=["cat"], stdin=True)]),
        Pod("default/count", [Container("main", main=["true"], log=COUNT)]),
        Pod("default/host", [Container("main", processes=True)]),
    ],
    "node-2": [Pod("default/two", [Container("one"), Container("other")], labels={"app": "two"})],
    "": [Pod("default/pending")],
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster(2, PODS, [DEPLOYMENT], allow_processes=True) as cluster:
        yield cluster


@pytest.fixture(params=PROGRAMS, scope="module")
def kubectl(request: pytest.FixtureRequest, cluster: FakeCluster, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    return Kubectl(find(request.param), cluster.kubeconfig, tmp_path_factory.mktemp("home"))


@pytest.fixture(params=TRANSPORTS)
def either(request: pytest.FixtureRequest, kubectl: Kubectl) -> Kubectl:
    """kubectl with each of its transports."""
    return Kubectl(kubectl.program, kubectl.kubeconfig, kubectl.home, request.param)


def test_version(kubectl: Kubectl, cluster: FakeCluster) -> None:
    done = kubectl("version", "-o", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["serverVersion"]["gitVersion"] == f"v{cluster.apiserver.gates.release}"


def test_get_prints_tables(kubectl: Kubectl) -> None:
    pods = kubectl("get", "pods", "-o", "wide").stdout.decode().splitlines()
    shown = {line.split()[0]: line.split()[1:4] for line in pods[1:]}
    assert shown["demo"] == ["1/1", "Running", "0"]
    assert shown["pending"] == ["0/1", "Pending", "0"]
    assert shown["two"] == ["2/2", "Running", "0"]
    assert "node-2" in next(line for line in pods if line.startswith("two")).split()
    nodes = kubectl("get", "nodes").stdout.decode().splitlines()
    assert [line.split()[:2] for line in nodes[1:]] == [["node-1", "Ready"], ["node-2", "Ready"]]


def test_get_one_as_json_and_by_selectors(kubectl: Kubectl) -> None:
    assert json.loads(kubectl("get", "pod", "two", "-o", "json").stdout)["spec"]["nodeName"] == "node-2"
    assert kubectl("get", "pods", "-l", "app=two", "-o", "name").stdout == b"pod/two\n"
    assert kubectl("get", "po", "--field-selector", "spec.nodeName=node-2", "-o", "name").stdout == b"pod/two\n"
    done = kubectl("get", "pod", "nobody")
    assert (done.returncode, done.stderr) == (1, b'Error from server (NotFound): pods "nobody" not found\n')


def test_exec(either: Kubectl) -> None:
    done = either("exec", "demo", "--", "echo", "hello")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hello\n", b"")
    done = either("exec", "-i", "demo", "--", "sink", stdin=bytes(1 << 20))
    assert (done.returncode, done.stdout.split()[0]) == (0, b"1048576"), done.stderr


@pytest.mark.parametrize("code", [1, 7, 255])
def test_exec_exits_with_the_commands_code(either: Kubectl, code: int) -> None:
    done = either("exec", "demo", "--", "exit", str(code))
    assert done.returncode == code
    assert f"command terminated with exit code {code}" in done.stderr.decode()


def test_exec_on_a_terminal(either: Kubectl) -> None:
    command = either.argv("exec", "-it", "keys", "--", "echo-keys")
    with Terminal(command, (97, 31), either.environment) as terminal:
        assert b"97x31" in terminal.until(b"ready")
        terminal.type(b"a\x03")  # raw: the key that would interrupt kubectl goes over
        terminal.until(b"<61><03>")
        terminal.resize(101, 33)
        terminal.until(b"101x33")
        terminal.type(b"q")
        assert terminal.wait() == 7
        terminal.assert_restored()


def test_attach(either: Kubectl) -> None:
    with either.start("attach", "-i", "cat") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"there and back\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"there and back\n"
        process.kill()


def test_logs(kubectl: Kubectl) -> None:
    assert kubectl("logs", "count", "--tail", "2").stdout == b"line 8\nline 9\n"
    assert kubectl("logs", "-f", "count").stdout.splitlines()[0] == b"line 0"
    done = kubectl("logs", "two")
    assert done.returncode == 0, done.stderr  # of the first container, as kubectl chooses
    done = kubectl("logs", "two", "-c", "nobody")
    assert (done.returncode, b"container nobody is not valid for pod two" in done.stderr) == (1, True), done.stderr
    assert kubectl("logs", "pending").stdout == b""


def test_logs_are_followed(kubectl: Kubectl, cluster: FakeCluster) -> None:
    with kubectl.start("logs", "-f", "cat") as process:
        assert process.stdout is not None
        with kubectl.start("attach", "-i", "cat") as attached:
            assert attached.stdin is not None
            attached.stdin.write(b"logged\n")
            attached.stdin.flush()
            while process.stdout.readline() != b"logged\n":
                pass
            attached.kill()
        process.kill()


def test_cp_both_ways(either: Kubectl, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    payload = random_bytes(3 << 20, "cp")
    (source / "big").write_bytes(payload)
    (source / "with space").write_text("x")
    there = f"copied-{either.transport}-{either.program.name}-{tmp_path.name}"
    done = either("cp", str(source), f"host:{there}")
    assert done.returncode == 0, done.stderr
    back = tmp_path / "back"
    done = either("cp", f"host:{there}", str(back))
    assert done.returncode == 0, done.stderr
    assert (back / "big").read_bytes() == payload
    assert (back / "with space").read_text() == "x"


def test_a_refusal_costs_two_requests(cluster: FakeCluster, kubectl: Kubectl, tmp_path: Path) -> None:
    """kubectl takes every answer but 101 for a transport that is not there, 403 too, and the user sees the second."""
    cluster.apiserver.rules.add(Rule(("get",), ("pods",), users=("reader",)))
    config = cluster.write_kubeconfig(tmp_path / "config", "reader", ())
    done = Kubectl(kubectl.program, config, kubectl.home)("exec", "demo", "--", "echo")
    assert done.returncode == 1
    assert b'cannot create resource "pods/exec"' in done.stderr


def test_watch_prints_changes(kubectl: Kubectl, cluster: FakeCluster) -> None:
    with kubectl.start("get", "pods", "-w", "-o", "name", "--field-selector", "metadata.name=late") as process:
        assert process.stdout is not None
        cluster.kubelets["node-1"].pods.add(Pod("default/late"))
        assert process.stdout.readline() == b"pod/late\n"
        process.kill()
    cluster.kubelets["node-1"].pods.remove("default/late")


def test_what_is_there(kubectl: Kubectl) -> None:
    listed = kubectl("api-resources", "-o", "name").stdout.decode().split()
    assert {"pods", "nodes", "deployments.apps", "endpointslices.discovery.k8s.io"} <= set(listed)
    assert kubectl("exec", "deploy/two", "-c", "other", "--", "echo", "by selector").stdout == b"by selector\n"
    assert kubectl("get", "--raw", "/api/v1/nodes/node-1/proxy/healthz").stdout == b"ok"


@pytest.mark.parametrize("profile", ["1.29", "1.31", "1.35"])
def test_exec_on_older_versions(kubectl: Kubectl, profile: str) -> None:
    """Refused and tried again over SPDY, or translated."""
    with FakeCluster(profile=profile) as cluster:
        older = Kubectl(kubectl.program, cluster.kubeconfig, kubectl.home)
        assert older("exec", "-i", "demo", "--", "sink", stdin=bytes(1 << 20)).stdout.split()[0] == b"1048576"
        assert older("exec", "demo", "--", "exit", "5").returncode == 5
        path = cluster.apiserver.sessions[-1].path
        assert path == ("passed_through" if profile == "1.29" else "translated_at_apiserver")


@pytest.mark.parametrize(
    ("profile", "transport", "path"),
    [
        ("1.29", "websocket", "passed_through"),  # refused, and tried again over SPDY
        ("1.31", "websocket", "tunneled_at_apiserver"),
        ("1.31", "spdy", "passed_through"),
        ("1.36", "websocket", "proxied_to_kubelet"),
    ],
)
def test_port_forward_goes_where_the_version_says(kubectl: Kubectl, profile: str, transport: str, path: str) -> None:
    payload = random_bytes(2 << 20, "forward")
    with FakeCluster(pods=[Pod("default/web", ports={7: echo})], profile=profile) as cluster:
        forwarder = Kubectl(kubectl.program, cluster.kubeconfig, kubectl.home, transport)
        with forwarder.start("port-forward", "web", ":7") as process:
            assert process.stdout is not None
            line = process.stdout.readline().decode()
            port = int(line.split("->")[0].rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port), 20) as sock:
                sender = threading.Thread(target=sock.sendall, args=(payload,))
                sender.start()
                got = b""
                while len(got) < len(payload):
                    got += sock.recv(1 << 20)
                sender.join(20)
            assert got == payload
            process.kill()
        session = cluster.apiserver.sessions[-1]
        assert (session.kind, session.path) == ("portforward", path)


def test_questions_about_oneself(kubectl: Kubectl, cluster: FakeCluster, tmp_path: Path) -> None:
    """kubectl sends its reviews as protobuf."""
    assert kubectl("auth", "can-i", "create", "pods/exec").stdout == b"yes\n"
    cluster.apiserver.rules.add(Rule(("list",), ("pods",), users=("lister",), namespaces=("default",)))
    config = cluster.write_kubeconfig(tmp_path / "config", "lister", ("dev",))
    lister = Kubectl(kubectl.program, config, kubectl.home)
    assert lister("auth", "can-i", "list", "pods").stdout == b"yes\n"
    done = lister("auth", "can-i", "get", "pods", "-n", "default")
    assert (done.returncode, done.stdout) == (1, b"no\n")
    assert lister("auth", "can-i", "get", "/version").stdout == b"yes\n"
    told = json.loads(lister("auth", "whoami", "-o", "json").stdout)["status"]["userInfo"]
    assert (told["username"], told["groups"]) == ("lister", ["dev", "system:authenticated"])

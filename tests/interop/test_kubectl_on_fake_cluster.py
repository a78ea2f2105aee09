"""Unmodified ``kubectl`` on the fake cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from fakekubelet import Container, FakeCluster, Pod
from support.kubectl import PROGRAMS, TRANSPORTS, Kubectl, find

pytestmark = pytest.mark.interop

PODS = {
    "node-1": [Pod("default/demo")],
    "node-2": [Pod("default/two", [Container("one"), Container("other")], labels={"app": "two"})],
    "": [Pod("default/pending")],
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster(nodes=2, pods=PODS) as cluster:
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
    assert [line.split()[:4] for line in pods[1:]] == [
        ["demo", "1/1", "Running", "0"],
        ["pending", "0/1", "Pending", "0"],
        ["two", "2/2", "Running", "0"],
    ]
    assert "node-2" in pods[3].split()
    nodes = kubectl("get", "nodes").stdout.decode().splitlines()
    assert [line.split()[:2] for line in nodes[1:]] == [["node-1", "Ready"], ["node-2", "Ready"]]


def test_get_one_as_json_and_by_selectors(kubectl: Kubectl) -> None:
    assert json.loads(kubectl("get", "pod", "two", "-o", "json").stdout)["spec"]["nodeName"] == "node-2"
    assert kubectl("get", "pods", "-l", "app=two", "-o", "name").stdout == b"pod/two\n"
    assert kubectl("get", "po", "--field-selector", "spec.nodeName=node-1", "-o", "name").stdout == b"pod/demo\n"
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

"""``kubewire`` and the real ``kubectl`` with the same words on the same cluster: the same output and exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from fakekubelet import Container, FakeCluster, Pod
from support.kubectl import Kubectl, find

pytestmark = pytest.mark.interop

LOG = """2024-05-01T10:00:00.000000001Z stdout F one
2024-05-01T10:00:01.000000001Z stderr F two
2024-05-01T10:00:02.000000001Z stdout P thr
2024-05-01T10:00:02.000000002Z stdout F ee
"""
ANNOTATION = "kubectl.kubernetes.io/default-container"


def workload(kind: str, group: str, name: str, **labels: str) -> dict[str, Any]:
    spec = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}}}
    return {"kind": kind, "apiVersion": group, "metadata": {"name": name, "namespace": "default"}, "spec": spec}


OBJECTS: list[dict[str, Any]] = [
    workload("Deployment", "apps/v1", "web", app="web"),
    workload("StatefulSet", "apps/v1", "db", app="db"),
    workload("Job", "batch/v1", "once", app="once"),
    {
        "kind": "Service",
        "apiVersion": "v1",
        "metadata": {"name": "front", "namespace": "default"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
    },
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeCluster]:
    two = [Container("first", log=LOG), Container("second", log=LOG.replace("F ", "F 2nd "))]
    pods = [
        Pod("default/demo", [Container("main", log=LOG, previous_log="2024-05-01T09:00:00Z stdout F before\n")]),
        Pod("default/two", two, annotations={ANNOTATION: "second"}),
        Pod("default/web-1", [Container("app", log=LOG)], labels={"app": "web"}),
        Pod("default/db-0", [Container("sql", log=LOG)], labels={"app": "db"}),
        Pod("default/once-x", [Container("work", main=["echo", "done"])], labels={"app": "once"}),
        Pod("default/ends", [Container("main", main=["echo", "the end"])]),
        Pod("default/pulling", [Container("main", waiting="ImagePullBackOff")]),
    ]
    with FakeCluster(pods=pods, objects=OBJECTS) as running:
        for pod, container in (("default/once-x", "work"), ("default/ends", "main")):
            running.kubelets["node-1"].main_process(pod, container).wait(30)
        yield running


@pytest.fixture(scope="module")
def kubectl(cluster: FakeCluster, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    return Kubectl(find("built"), cluster.kubeconfig, tmp_path_factory.mktemp("home"))


def kubewire(cluster: FakeCluster, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    environ = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig), "HOME": "/nonexistent"}
    command = [sys.executable, "-m", "kubewire", *arguments]
    return subprocess.run(command, capture_output=True, timeout=60, check=False, env=environ)


@pytest.mark.parametrize(
    "arguments",
    [
        ["demo"],
        ["demo", "-c", "main"],
        ["demo", "main"],
        ["demo", "--tail=1"],
        ["demo", "--tail=0"],
        ["demo", "--tail=-1"],
        ["demo", "--timestamps"],
        ["demo", "--since-time=2024-05-01T10:00:01Z"],
        ["demo", "--since=1h"],
        ["demo", "--limit-bytes=5"],
        ["demo", "--limit-bytes=40", "--timestamps"],
        ["demo", "-p"],
        ["demo", "--prefix"],
        ["two"],
        ["two", "--all-containers"],
        ["two", "--all-containers", "--prefix"],
        ["deploy/web"],
        ["deployment/web", "--prefix"],
        ["sts/db"],
        ["job/once"],
        ["svc/front", "--tail=1"],
        ["-l", "app=web"],
        ["-l", "app in (web, db)", "--prefix", "--tail=1"],
        ["-l", "app=none"],
        ["-f", "ends"],
        ["none"],
        ["two", "-c", "x"],
        ["pulling"],
        ["demo", "--since=5"],
        ["demo", "--limit-bytes=0"],
        ["deploy/none"],
    ],
    ids=" ".join,
)
def test_logs(cluster: FakeCluster, kubectl: Kubectl, arguments: list[str]) -> None:
    theirs = kubectl("logs", *arguments)
    ours = kubewire(cluster, "logs", *arguments)  # straight from the kubelet, where kubectl asks the apiserver
    assert ours.stdout == theirs.stdout, (ours.stderr, theirs.stderr)
    assert (ours.returncode == 0) == (theirs.returncode == 0), (ours.stderr, theirs.stderr)


@pytest.mark.parametrize(
    "arguments",
    [
        ["demo", "--", "ls", "/"],
        ["two", "--", "echo", "x"],
        ["two", "-c", "first", "--", "exit", "7"],
        ["deploy/web", "--", "echo", "a  b"],
        ["sts/db", "--", "both", "2"],
        ["svc/front", "--", "exit", "255"],
        ["none", "--", "ls"],
        ["demo", "-c", "x", "--", "ls"],
        ["job/once", "--", "ls"],
    ],
    ids=" ".join,
)
def test_exec(cluster: FakeCluster, kubectl: Kubectl, arguments: list[str]) -> None:
    theirs = kubectl("exec", *arguments)
    for via in ("kubelet", "apiserver"):
        ours = kubewire(cluster, "exec", f"--via={via}", *arguments)
        assert ours.stdout == theirs.stdout, (ours.stderr, theirs.stderr)
        failed = theirs.returncode == 1  # kubectl says so where there is no exit code
        assert ours.returncode == (255 if failed else theirs.returncode), (ours.stderr, theirs.stderr)

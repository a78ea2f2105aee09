"""The official JavaScript client on the fake cluster."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakekubelet import Container, FakeCluster, Pod
from support.gopeers import random_bytes
from support.wsjudges import judge_command

pytestmark = pytest.mark.interop

SCRIPT = Path(__file__).parent / "node" / "client.js"
PODS = [
    Pod("default/demo", labels={"app": "demo"}),
    Pod("default/cat", [Container("main", main=["cat"], stdin=True)]),
    Pod("default/log", [Container("main", main=["echo", "logged"])]),
]


def run(cluster: FakeCluster, name: str) -> Any:
    node = judge_command("ws")[0]  # its packages are those of this client
    command = [node, str(SCRIPT), str(cluster.kubeconfig), name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert "error" not in answer, answer
    return answer["result"]


@pytest.fixture(scope="module", params=["1.31", "1.36"])
def cluster(request: pytest.FixtureRequest) -> Iterator[FakeCluster]:
    with FakeCluster(pods=PODS, profile=request.param) as cluster:
        yield cluster


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("objects", {"pods": ["demo"], "nodes": ["node-1"]}),
        ("watch", ["cat", "demo", "log"]),
        ("log", "logged\n"),
        ("attach", "there and back\n"),
        ("stdin", f"3 {hashlib.sha256(b'abc').hexdigest()}\n"),
    ],
)
def test_it_works(cluster: FakeCluster, name: str, expected: Any) -> None:
    assert run(cluster, name) == expected


def test_exec(cluster: FakeCluster) -> None:
    digest = hashlib.sha256(random_bytes(100_000, 1)).hexdigest()
    assert run(cluster, "exec") == {"status": "Success", "code": "3", "sha256": digest, "bytes": 100_000}


def test_before_v5_it_ends_stdin_by_leaving() -> None:
    """A known fault: it closes the connection, and neither the output nor the status ever reaches the caller."""
    with FakeCluster(pods=PODS, profile="1.29") as cluster:
        assert run(cluster, "stdinBefore5") == "nothing came"
        cluster.kubelets["node-1"].executions[-1].wait_client_left(30)

"""The Python clients that users have, on the fake cluster; and what is wrong with them, shown and named."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from typing import Any

import pytest

from fakekubelet import Container, FakeCluster, Pod
from support.gopeers import random_bytes
from support.pyclients import require, run

pytestmark = pytest.mark.interop

PODS = [
    Pod("default/demo", labels={"app": "demo"}),
    Pod("default/cat", [Container("main", main=["cat"], stdin=True)]),
    Pod("default/log", [Container("main", main=["echo", "logged"])]),
]
NAMES = ["cat", "demo", "log"]
BINARY = random_bytes(5000, 1)
SUM = f"3 {hashlib.sha256(b'abc').hexdigest()}\n"


@pytest.fixture(scope="module", params=["1.31", "1.36"])
def cluster(request: pytest.FixtureRequest) -> Iterator[FakeCluster]:
    """One that translates v5, and one whose kubelets take it."""
    require()
    with FakeCluster(pods=PODS, profile=request.param) as cluster:
        yield cluster


def result(cluster: FakeCluster, name: str) -> Any:
    answer = run(cluster.kubeconfig, name)
    assert "error" not in answer, answer
    return answer["result"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("kubernetes_objects", {"pods": ["demo"], "nodes": ["node-1"]}),
        ("kubernetes_watch", NAMES),
        ("kr8s_objects", NAMES),
        ("lightkube_objects", {"pods": NAMES, "nodes": ["node-1"]}),
        ("asyncio_objects", NAMES),
    ],
)
def test_objects(cluster: FakeCluster, name: str, expected: Any) -> None:
    assert result(cluster, name) == expected


@pytest.mark.parametrize("client", ["kubernetes", "kr8s", "lightkube", "asyncio"])
def test_logs(cluster: FakeCluster, client: str) -> None:
    lines = result(cluster, f"{client}_log")
    assert "".join(lines).strip() == "logged"


@pytest.mark.parametrize("client", ["kr8s", "lightkube"])
def test_exec_of_binary_output(cluster: FakeCluster, client: str) -> None:
    found = result(cluster, f"{client}_exec")
    assert (found["returncode"], base64.b64decode(found["output"])) == (3, BINARY)


@pytest.mark.parametrize("client", ["kubernetes", "asyncio"])
def test_exec_of_text(cluster: FakeCluster, client: str) -> None:
    assert result(cluster, f"{client}_exec") == {"returncode": 3, "echo": "hello\n"}


@pytest.mark.parametrize("client", ["kubernetes", "asyncio"])
def test_attach(cluster: FakeCluster, client: str) -> None:
    assert result(cluster, f"{client}_attach").strip() == "there and back"


@pytest.mark.parametrize("client", ["kubernetes", "lightkube"])
def test_stdin_that_ends(cluster: FakeCluster, client: str) -> None:
    assert result(cluster, f"{client}_stdin") == SUM


# -- known faults of the clients ---------------------------------------------------------------------------------------


def test_the_official_client_corrupts_what_is_no_text(cluster: FakeCluster) -> None:
    """By default each frame is decoded by itself with errors replaced: bytes are gone without a word."""
    assert base64.b64decode(result(cluster, "kubernetes_text")) != BINARY


def test_kr8s_raises_whenever_it_is_given_stdin(cluster: FakeCluster) -> None:
    """It offers v4 and then demands v5 of the connection, whatever the server speaks."""
    assert run(cluster.kubeconfig, "kr8s_stdin")["error"] == "ExceptionGroup"


def test_the_official_client_cannot_end_stdin_before_v5_and_does_not_say_so() -> None:
    """``close_channel`` is a no-op on v4: the command waits for ever, and the output that it owes never comes."""
    with FakeCluster(pods=PODS, profile="1.29") as cluster:
        assert result(cluster, "kubernetes_stdin") == ""
        assert cluster.kubelets["node-1"].executions[-1].request.protocol == "v4.channel.k8s.io"


def test_lightkube_says_that_it_cannot_end_stdin_before_v5() -> None:
    with FakeCluster(pods=PODS, profile="1.29") as cluster:
        answer = run(cluster.kubeconfig, "lightkube_stdin")
        assert "v5" in answer["text"], answer

"""Kubernetes' own executors through the fake apiserver: both transports, and the fallback between them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakekubelet import Container, FakeCluster, Pod
from fakekubelet.apiserver import locations
from support.gopeers import GoReport, run_go_client

pytestmark = [pytest.mark.interop, pytest.mark.usefixtures("go_peers")]

MIB = 1 << 20
PODS = [Pod("default/demo"), Pod("default/cat", [Container("main", main=["cat"], stdin=True)])]


@pytest.fixture(scope="module", params=["1.29", "1.31", "1.35", "1.36"])
def cluster(request: pytest.FixtureRequest) -> Iterator[FakeCluster]:
    with FakeCluster(pods=PODS, profile=request.param) as cluster:
        yield cluster


def go(cluster: FakeCluster, folder: Path, *command: str, **options: Any) -> GoReport:
    certificate, key = cluster.credentials("go").write(folder)
    ca = cluster.authority.write(folder / "ca.crt")
    return run_go_client(cluster.url, command, ca=ca, certificate=certificate, key=key, apiserver=True, **options)


def has_v5(cluster: FakeCluster) -> bool:
    return cluster.apiserver.gates.translate


def test_the_fallback_is_used_where_v5_is_not_spoken(cluster: FakeCluster, tmp_path: Path) -> None:
    report = go(cluster, tmp_path, "echo", "hello", transport="fallback")
    assert (report.exit_code, report.stdout) == (0, b"hello\n")
    if has_v5(cluster):
        assert report.session.transports == ["websocket"]
    else:
        assert report.session.transports == ["websocket", "spdy"]
        assert report.session.fallback_reason


@pytest.mark.parametrize("transport", ["spdy", "websocket"])
def test_data_both_ways(cluster: FakeCluster, tmp_path: Path, transport: Any) -> None:
    if transport == "websocket" and not has_v5(cluster):
        transport = "fallback"  # nobody speaks v5 there
    report = go(cluster, tmp_path, "sink", stdin=f"zero:{8 * MIB}", transport=transport)
    assert report.stdout.split()[1].decode() == hashlib.sha256(bytes(8 * MIB)).hexdigest()
    report = go(cluster, tmp_path, "random", str(8 * MIB), "3", stdout="hash", transport=transport)
    assert report.session.stdout.bytes == 8 * MIB
    report = go(cluster, tmp_path, "exit", "42", transport=transport)
    assert (report.session.exit_code, report.session.exited) == (42, True)


@pytest.mark.parametrize("transport", ["spdy", "websocket"])
def test_what_goes_wrong_behind_the_translator_never_makes_a_client_fall_back(tmp_path: Path, transport: Any) -> None:
    """The kubelet does not know the container that the apiserver names."""
    with FakeCluster(pods=PODS, profile="1.31") as cluster:
        pod = cluster.store.get(locations.PODS, "default", "demo")
        assert pod is not None
        spec = {**pod["spec"], "containers": [{"name": "ghost"}]}
        cluster.store.put({**pod, "spec": spec})
        fallback = "fallback" if transport == "websocket" else "spdy"
        report = go(cluster, tmp_path, "echo", transport=fallback, container="ghost")
        assert (report.session.exited, 'container not found ("ghost")' in report.error) == (False, True)
        assert report.session.transports == [transport]


@pytest.mark.parametrize("transport", ["spdy", "websocket"])
def test_attach(cluster: FakeCluster, tmp_path: Path, transport: Any) -> None:
    if transport == "websocket" and not has_v5(cluster):
        transport = "fallback"  # nobody speaks v5 there
    certificate, key = cluster.credentials("go").write(tmp_path)
    ca = cluster.authority.write(tmp_path / "ca.crt")
    url = cluster.url
    report = run_go_client(
        url, (), ca=ca, certificate=certificate, key=key, apiserver=True, attach=True, transport=transport,
        stdin="hold:there and back\n", until="back", path=None, pod="default/cat",
    )  # fmt: skip
    assert report.session.detached

"""``kubectl port-forward`` on the fake cluster, over both of its transports."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fakekubelet import FakeCluster, Pod, Port
from fakekubelet.ports import echo, http
from support.goforward import exchange
from support.kubectl import PROGRAMS, TRANSPORTS, Kubectl, find

pytestmark = pytest.mark.interop

PROFILES = ("1.31", "1.36")
"""Before and after kubelets took WebSockets themselves."""

SERVICE = {
    "kind": "Service",
    "apiVersion": "v1",
    "metadata": {"name": "front", "namespace": "default"},
    "spec": {"selector": {"app": "web"}, "ports": [{"name": "main", "port": 8000, "targetPort": "http"}]},
}


@pytest.fixture(params=PROFILES, scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[FakeCluster]:
    pod = Pod("default/web", labels={"app": "web"}, ports={7: echo, 80: Port(http, name="http")})
    with FakeCluster(pods=[pod], objects=[SERVICE], profile=request.param, forward_grace=None) as cluster:
        yield cluster


@pytest.fixture(params=PROGRAMS, scope="module")
def program(request: pytest.FixtureRequest) -> Path:
    return find(request.param)


@pytest.fixture(params=TRANSPORTS)
def kubectl(request: pytest.FixtureRequest, program: Path, cluster: FakeCluster, tmp_path: Path) -> Kubectl:
    return Kubectl(program, cluster.kubeconfig, tmp_path, request.param)


@contextmanager
def forwarding(kubectl: Kubectl, *arguments: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """The local port, and the process."""
    with kubectl.start("port-forward", "--address", "127.0.0.1", *arguments) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.match(rb"Forwarding from 127\.0\.0\.1:(\d+) -> \d+", line)
            assert found is not None, (line, process.stderr and process.stderr.read())
            yield int(found[1]), process
        finally:
            process.send_signal(signal.SIGTERM)


def test_data_and_half_close(kubectl: Kubectl) -> None:
    data = bytes(range(256)) * 4096
    with forwarding(kubectl, "pod/web", ":7") as (port, _):
        for _ in range(3):
            assert exchange(port, data) == data


def test_a_service_with_a_named_port(kubectl: Kubectl) -> None:
    with forwarding(kubectl, "service/front", ":main") as (port, _):
        answer = exchange(port, b"GET /x HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert answer.endswith(b"GET /x HTTP/1.1\n")


def test_a_refusal_ends_the_whole_of_kubectls_session(kubectl: Kubectl) -> None:
    with forwarding(kubectl, "pod/web", ":99") as (port, process):
        assert exchange(port, b"") == b""
        assert process.stderr is not None
        said = process.stderr.read().decode()
    assert "failed to connect to localhost:99 inside namespace" in said
    assert "lost connection to pod" in said

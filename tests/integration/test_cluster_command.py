"""``kubewire exec`` and ``attach`` in a cluster, by its kubeconfig."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakekubelet import Container, FakeCluster, Pod
from fakekubelet.apiserver.rbac import Rule

DEPLOYMENT = {
    "kind": "Deployment",
    "apiVersion": "apps/v1",
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {"selector": {"matchLabels": {"app": "web"}}},
}
RULES = (
    Rule(users=("jane",), verbs=("get", "create"), resources=("pods", "pods/exec")),
    Rule(users=("jane",), verbs=("get",), resources=("nodes",)),
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeCluster]:
    pods = [
        Pod("default/demo"),
        Pod("prod/web-1", labels={"app": "web"}),
        Pod("default/web-2", labels={"app": "web"}),
        Pod("default/attach", [Container("main", main=["cat"], stdin=True)]),
    ]
    with FakeCluster(pods=pods, objects=[DEPLOYMENT], rules=RULES) as running:
        yield running


def kubewire(cluster: Path | FakeCluster, *arguments: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
    kubeconfig = cluster.kubeconfig if isinstance(cluster, FakeCluster) else cluster
    environ = {**os.environ, "KUBECONFIG": str(kubeconfig), "HOME": "/nonexistent", **more.pop("env", {})}
    command = [sys.executable, "-m", "kubewire", *arguments]
    return subprocess.run(command, capture_output=True, timeout=60, check=False, env=environ, **more)


@pytest.mark.parametrize(("via", "route"), [("auto", "kubelet"), ("kubelet", "kubelet"), ("apiserver", "apiserver")])
def test_a_command(cluster: FakeCluster, via: str, route: str) -> None:
    done = kubewire(cluster, "exec", "demo", "-i", f"--via={via}", "--json", "--", "cat", input=b"hello")
    assert (done.returncode, done.stdout) == (0, b"hello")
    told = json.loads(done.stderr)
    assert told["route"] == route
    assert told["route_reason"].startswith("node node-1 answers at 127.0.0.1:") == (route == "kubelet")
    assert kubewire(cluster, "exec", "demo", f"--via={via}", "--", "exit", "7").returncode == 7


def test_names(cluster: FakeCluster) -> None:
    for pod in ("deploy/web", "default/deploy/web", "pod/web-2", "default/web-2"):
        done = kubewire(cluster, "exec", pod, "--", "echo", "x")
        assert (done.returncode, done.stdout, done.stderr) == (0, b"x\n", b""), pod
    assert kubewire(cluster, "exec", "-n", "prod", "web-1", "--", "echo", "x").stdout == b"x\n"
    for pod, text in (("..", "a name is not empty"), ("a/b/c", "non-empty names"), ("default/-/x", "non-empty names")):
        done = kubewire(cluster, "exec", pod, "--", "echo", "x")
        assert done.returncode == 2, pod
        assert text in done.stderr.decode()


def test_attach(cluster: FakeCluster) -> None:
    done = kubewire(cluster, "attach", "attach", "-i", "-v", input=b"typed")
    assert (done.returncode, done.stdout) == (0, b"typed")
    assert b"straight to the kubelet: node node-1 answers" in done.stderr


def test_a_refusal_by_the_kubelet_is_told(cluster: FakeCluster, tmp_path: Path) -> None:
    jane = cluster.write_kubeconfig(tmp_path / "jane", "jane", [])
    done = kubewire(jane, "exec", "demo", "--", "echo", "x")
    assert (done.returncode, done.stdout) == (0, b"x\n")
    assert b"kubewire: through the apiserver: the kubelet refused this identity (HTTP 403" in done.stderr
    done = kubewire(jane, "exec", "demo", "--via=kubelet", "--", "echo", "x")
    assert done.returncode == 255
    assert b"nodes/proxy" in done.stderr


def test_the_insecure_switches_are_told(cluster: FakeCluster) -> None:
    done = kubewire(cluster, "exec", "demo", "--kubelet-insecure-skip-tls-verify", "--", "echo", "x")
    assert done.stdout == b"x\n"
    assert b"warning: --kubelet-insecure-skip-tls-verify: anyone between may pose as the kubelets" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["exec", "demo", "--context=none", "--", "ls"], 255, "the context 'none' does not exist"),
        (["exec", "demo", "--kubeconfig=/none", "--", "ls"], 255, "/none"),
        (
            ["exec", "none", "--", "ls"],
            255,
            'none cannot be had: the apiserver answered HTTP 404: pods "none" not found',
        ),
        (["exec", "demo", "-c", "x", "--", "ls"], 255, "no container 'x'; choose from main"),
        (["exec", "demo", "--server=https://127.0.0.1:1", "--", "ls"], 255, "nothing listens on port 1"),
        (["exec", "demo", "--server=https://no.such.host.invalid", "--", "ls"], 255, "has no address"),
        (["exec", "demo", "--tls-server-name=other", "--", "ls"], 255, "not valid for 'other'"),
        (["exec", "demo", "--address-types=ExternalIP", "--via=kubelet", "--", "ls"], 255, "no address to go to"),
        (["exec", "node/demo", "--", "ls"], 255, "pod node/demo cannot be had"),
        (["exec", "deploy/web", "--kubelet=https://h", "--", "ls"], 2, "a kubelet knows pods by their own names"),
        (["exec", "demo", "--kubelet-client-key=x", "--", "ls"], 2, "--kubelet-client-key needs"),
        (["exec", "demo", "--as=jane", "--via=kubelet", "--", "ls"], 255, "knows nothing of impersonation"),
    ],
)
def test_errors_say_what_to_do(cluster: FakeCluster, arguments: list[str], code: int, text: str) -> None:
    done = kubewire(cluster, *arguments)
    assert done.returncode == code
    assert text in done.stderr.decode()
    assert b"Traceback" not in done.stderr
    if code == 255:
        assert done.stderr.count(b"\n") == 1
        assert b"; " in done.stderr, "cause and next step"


def test_no_kubeconfig_at_all() -> None:
    done = kubewire(Path("/none"), "exec", "demo", "--", "ls", env={"KUBECONFIG": ""})
    assert done.returncode == 255
    assert b"kubewire: there is no kubeconfig: looked for /nonexistent/.kube/config" in done.stderr


def test_an_authority_that_did_not_sign(cluster: FakeCluster, tmp_path: Path) -> None:
    with FakeCluster() as other:
        (tmp_path / "ca").write_bytes(other.ca)
    done = kubewire(cluster, "exec", "demo", f"--certificate-authority={tmp_path / 'ca'}", "--", "ls")
    assert b"not signed by an authority trusted here" in done.stderr
    done = kubewire(cluster, "exec", "demo", f"--kubelet-certificate-authority={tmp_path / 'ca'}", "--", "ls")
    assert done.returncode == 255
    assert b"not signed by an authority trusted here" in done.stderr


def test_credentials_that_the_apiserver_does_not_know(cluster: FakeCluster, tmp_path: Path) -> None:
    path = cluster.write_kubeconfig(tmp_path / "stale", token="gone")
    for via in ("auto", "kubelet", "apiserver"):
        done = kubewire(path, "exec", "demo", "-c", "main", f"--via={via}", "--", "ls")
        assert done.returncode == 255
        assert b"HTTP 401" in done.stderr
        assert done.stderr.count(b"\n") == 1
        assert b"check the credentials" in done.stderr


def test_an_apiserver_that_says_nothing(cluster: FakeCluster) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = f"--server=https://127.0.0.1:{silent.getsockname()[1]}"
        done = kubewire(cluster, "exec", "demo", server, "--connect-timeout=0.5", "--", "ls")
    assert done.returncode == 255
    assert b"did not finish the TLS handshake in time; check that the port speaks TLS" in done.stderr


def test_impersonation(cluster: FakeCluster) -> None:
    done = kubewire(cluster, "exec", "demo", "--as=jane", "-v", "--", "echo", "x")
    assert (done.returncode, done.stdout) == (0, b"x\n")
    assert b"through the apiserver: a kubelet knows nothing of impersonation" in done.stderr
    done = kubewire(cluster, "exec", "demo", "--as=nobody", "--", "echo", "x")
    assert done.returncode == 255
    assert b"HTTP 403" in done.stderr
    assert b"nobody" in done.stderr


def test_through_the_apiserver_no_library_for_plain_requests_is_loaded(cluster: FakeCluster) -> None:
    program = (
        "import sys; sys.argv = ['kubewire', 'exec', 'demo', '-c', 'main', '--via=apiserver', '--', 'true']\n"
        "from kubewire.cli import main\n"
        "try:\n    main()\nfinally:\n    print(*sorted(sys.modules), file=sys.stderr)"
    )
    environ = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, env=environ)
    assert done.returncode == 0
    loaded = set(done.stderr.decode().split())
    assert not loaded & {"httpx", "httpcore", "h2", "rich", "asyncio", "cryptography", "fakekubelet"}

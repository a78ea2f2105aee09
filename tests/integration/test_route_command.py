"""``kubewire route``: the report, as a person and as a program sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakekubelet import Container, FakeCluster, Pod
from fakekubelet.apiserver.rbac import Rule
from fakekubelet.auth import User

RULES = (Rule(users=("jane",), verbs=("get",), resources=("pods", "nodes", "nodes/proxy")),)
TOP = {"schema", "pod", "node", "client", "apiserver", "addresses_left_out", "kubelets", "decision", "findings"}
OF_A_KUBELET = {
    *("address", "dial", "tls", "milliseconds", "access", "anonymous", "read_only_port", "subprotocols", "error"),
}
OF_A_CERTIFICATE = {"subject", "issuer", "self_signed", "names", "not_before", "not_after", "fingerprint"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster(pods=[Pod("default/demo", [Container("main"), Container("side")])], rules=RULES) as running:
        yield running


def route(cluster: Path | FakeCluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    kubeconfig = cluster.kubeconfig if isinstance(cluster, FakeCluster) else cluster
    environ = {**os.environ, "KUBECONFIG": str(kubeconfig), "HOME": "/nonexistent"}
    command = [sys.executable, "-m", "kubewire", "route", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environ)


def report(cluster: Path | FakeCluster, *arguments: str) -> tuple[int, dict[str, Any]]:
    done = route(cluster, *arguments, "--json")
    return done.returncode, json.loads(done.stdout)


def codes(document: dict[str, Any]) -> set[str]:
    return {finding["code"] for finding in document["findings"]}


def test_the_schema(cluster: FakeCluster) -> None:
    code, document = report(cluster, "demo")
    assert (code, document["schema"], set(document)) == (0, "kubewire.route/1", TOP)
    assert document["pod"]["containers"] == ["main", "side"]
    assert document["node"]["name"] == "node-1"
    assert document["apiserver"]["user"] == "kubewire"
    assert document["apiserver"]["access"]["create pods/exec"] is True
    first = document["kubelets"][0]
    assert set(first) >= OF_A_KUBELET
    assert set(first["tls"]["chain"][0]) == OF_A_CERTIFICATE
    assert first["dial"]["milliseconds"] > 0
    assert first["tls"]["milliseconds"] > 0
    assert first["access"] == {"create nodes/proxy": True, "get nodes/proxy": True}
    assert first["anonymous"] == "refused"
    assert "v4.channel.k8s.io" in first["subprotocols"]["spdy"]
    assert document["decision"]["route"] == "kubelet"
    assert document["decision"]["reason"].startswith("node node-1 answers at 127.0.0.1:")
    assert {"no-audit", "expires-soon"} <= codes(document)


def test_nothing_was_run(cluster: FakeCluster) -> None:
    before = len(cluster.kubelets["node-1"].transcript.sessions)
    assert route(cluster, "demo").returncode == 0
    assert len(cluster.kubelets["node-1"].transcript.sessions) == before


def test_the_words(cluster: FakeCluster) -> None:
    done = route(cluster, "demo")
    for text in (
        "pod         default/demo  Running",
        "containers main, side",
        "known there as kubewire, of system:masters",
        "may     create nodes/proxy, get nodes/proxy",
        "speaks over SPDY       v4.channel.k8s.io",
        "decision    straight to the kubelet: node node-1 answers",
        "fix: use --via apiserver where they must",
    ):
        assert text in done.stdout


def test_an_identity_that_reads_and_can_run_commands(cluster: FakeCluster, tmp_path: Path) -> None:
    jane = cluster.write_kubeconfig(tmp_path / "jane", "jane", [])
    code, document = report(jane, "demo")
    assert code == 1
    assert "read-only-exec" in codes(document)
    assert document["decision"]["route"] is None
    assert "nodes/proxy" in route(jane, "demo", "--via=kubelet").stdout


def test_a_node_on_loopback_that_is_not_allowed(cluster: FakeCluster, tmp_path: Path) -> None:
    path = tmp_path / "strict"
    path.write_text(cluster.kubeconfig.read_text().replace("allow-loopback-nodes: true", "allow-loopback-nodes: false"))
    code, document = report(path, "demo")
    assert (code, document["decision"]["route"]) == (0, "apiserver")
    assert "address-left-out" in codes(document)


def test_an_authority_that_did_not_sign(cluster: FakeCluster, tmp_path: Path) -> None:
    with FakeCluster() as other:
        (tmp_path / "ca").write_bytes(other.ca)
    code, document = report(cluster, "demo", f"--kubelet-certificate-authority={tmp_path / 'ca'}")
    assert code == 1
    assert "unverified" in codes(document)
    assert document["kubelets"][0]["tls"]["chain"], "it is shown whose certificate it is"
    assert "not signed by an authority trusted here" in document["decision"]["reason"]


def test_one_kubelet(cluster: FakeCluster, tmp_path: Path) -> None:
    kubelet = cluster.kubelets["node-1"]
    certificate, key = kubelet.credentials().write(tmp_path)
    (tmp_path / "ca").write_bytes(cluster.ca)
    options = [f"--kubelet={kubelet.url}", f"--certificate-authority={tmp_path / 'ca'}"]
    code, document = report(cluster, "demo", *options, f"--client-certificate={certificate}", f"--client-key={key}")
    assert (code, document["decision"]["route"], document["apiserver"]) == (0, "kubelet", None)
    code, document = report(cluster, "demo", *options)
    assert code == 1
    assert "401" in document["decision"]["reason"]


def test_a_token_is_not_shown_to_the_node_here_either(tmp_path: Path) -> None:
    with FakeCluster(tokens={"t0ken": User("joe", ("system:masters",))}) as other:
        joe = other.write_kubeconfig(tmp_path / "joe", token="t0ken")
        code, document = report(joe, "demo")
        assert (code, document["decision"]["route"]) == (0, "apiserver")
        assert document["decision"]["reason"] == "the cluster's token is not shown to nodes"
        assert document["client"]["sends_secret"] is True
        assert document["kubelets"][0]["anonymous"] == "refused"
        assert document["kubelets"][0]["access"] == {}
        assert "refused" not in codes(document)
        code, document = report(joe, "demo", "--via=kubelet")
        assert (code, document["decision"]["route"]) == (0, "kubelet")
        assert document["kubelets"][0]["access"]["create nodes/proxy"] is True


def test_what_is_not_there(cluster: FakeCluster) -> None:
    code, document = report(cluster, "none")
    assert code == 1
    assert "HTTP 404" in document["decision"]["reason"]
    assert "Traceback" not in route(cluster, "none", "--server=https://127.0.0.1:1").stderr

"""``kubewire logs``, ``kubewire kubelet`` and ``kubewire trust``, as a person uses them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from fakekubelet import Container, FakeCluster, FakeKubelet, Pod
from fakekubelet.node import Machine, Serving

LOG = "2024-05-01T10:00:00.000000001Z stdout F one\n2024-05-01T10:00:01.000000001Z stdout F two\n"


async def slow() -> AsyncIterator[str]:
    for number in range(5):
        yield f"line {number}"
        await asyncio.sleep(0.05)


DEPLOYMENT = {
    "kind": "Deployment",
    "apiVersion": "apps/v1",
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {"selector": {"matchLabels": {"app": "web"}}},
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeCluster]:
    two = [Container("main", log=LOG), Container("side", log=LOG.replace("F ", "F side "))]
    pods = [
        Pod("default/demo", two),
        Pod("default/web-1", [Container("main", log=LOG)], labels={"app": "web"}),
        Pod("default/web-2", [Container("main", log=LOG)], labels={"app": "web"}),
        Pod("default/pulling", [Container("main", waiting="ImagePullBackOff")], labels={"app": "broken"}),
        Pod("default/over", [Container("main", main=["both", "3"])]),
    ]
    with FakeCluster(pods=pods, objects=[DEPLOYMENT]) as running:
        running.kubelets["node-1"].main_process("default/over").wait(30)
        yield running


@pytest.fixture(scope="module")
def kubelet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Options for a kubelet alone."""
    journal = {"kubelet": "2024-05-01T10:00:00.25Z stdout F started\n2024-05-01T10:00:01Z stdout F synced\n"}
    machine = Machine(logs={"/kubelet.log": "a log\n", "/pods/x y/0.log": "deep\n"}, journal=journal)
    with FakeKubelet([Pod("default/demo")], serving=Serving(log_query=True), machine=machine) as server:
        folder = tmp_path_factory.mktemp("config")
        certificate, key = server.credentials().write(folder)
        (folder / "ca").write_bytes(server.ca)
        yield [
            f"--kubelet={server.url}",
            f"--certificate-authority={folder / 'ca'}",
            f"--client-certificate={certificate}",
            f"--client-key={key}",
        ]


def kubewire(*arguments: str, env: dict[str, str] | None = None, **more: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kubewire", *arguments]
    environ = {**os.environ, "HOME": "/nonexistent", **(env or {})}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environ, **more)


def at(cluster: FakeCluster, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return kubewire(*arguments, env={"KUBECONFIG": str(cluster.kubeconfig)}, **more)


# -- logs --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("via", ["kubelet", "apiserver"])
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["demo"], "one\ntwo\n"),
        (["demo", "side"], "side one\nside two\n"),
        (["demo", "-c", "side", "--tail=1"], "side two\n"),
        (["demo", "--since-time=2024-05-01T12:00:01+02:00"], "two\n"),
        (["demo", "--since=1h30m"], ""),
        (["demo", "--limit-bytes=5"], "one\nt"),
        (["demo", "--timestamps", "--tail", "1"], "2024-05-01T10:00:01.000000001Z two\n"),
        (["demo", "--prefix", "--limit-bytes=5"], "[pod/demo/main] one\n[pod/demo/main] t\n"),
        (["demo", "--all-containers"], "one\ntwo\nside one\nside two\n"),
        (["deploy/web", "--prefix"], "[pod/web-1/main] one\n[pod/web-1/main] two\n"),
        (["deploy/web", "--all-pods", "--tail=1"], "[pod/web-1/main] two\n[pod/web-2/main] two\n"),
        (["-l", "app=web", "--tail=1"], "two\ntwo\n"),
    ],
)
def test_logs(cluster: FakeCluster, arguments: list[str], text: str, via: str) -> None:
    done = at(cluster, "logs", *arguments, f"--via={via}")
    assert (done.returncode, done.stdout, done.stderr) == (0, text, "")


def test_following_several(cluster: FakeCluster) -> None:
    pods = [Pod(f"default/p{n}", [Container("main", main=["echo", str(n)])], labels={"a": "b"}) for n in range(3)]
    with FakeCluster(pods=pods) as other:
        done = at(other, "logs", "-f", "-l", "a=b", "--prefix")
        assert (done.returncode, done.stderr) == (0, "")
        assert sorted(done.stdout.splitlines()) == [f"[pod/p{n}/main] {n}" for n in range(3)]
        done = at(other, "logs", "-f", "-l", "a=b", "--max-log-requests=2")
        assert done.returncode == 2
        assert "raise it with --max-log-requests=3" in done.stderr


def test_one_log_that_fails(cluster: FakeCluster) -> None:
    for arguments in (["pulling"], ["-l", "app=broken"]):
        done = at(cluster, "logs", *arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert "waiting to start" in done.stderr
    done = at(cluster, "logs", "-l", "app=broken", "--ignore-errors")
    assert done.returncode == 0
    assert done.stderr.startswith("error: ")


def test_logs_of_one_kubelet(kubelet: list[str]) -> None:
    done = kubewire("logs", "demo", *kubelet, "-v")
    assert (done.returncode, done.stdout) == (0, "")
    assert "straight from the kubelet" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "name the pod, or choose pods"),
        (["demo", "-l", "a=b"], "name the pod, or choose pods"),
        (["demo", "x", "-c", "y"], "named twice"),
        (["demo", "x", "--all-containers"], "leaves no container to name"),
        (["demo", "--since=5"], "'5' is no duration"),
        (["demo", "--since=1h", "--since-time=2024-01-01T00:00:00Z"], "not both"),
        (["demo", "--since-time=2024-01-01T00:00:00"], "has a zone"),
        (["demo", "-f", "-p"], "nothing more is written to --previous"),
        (["deploy/x", "--kubelet=https://h"], "needs a cluster"),
    ],
)
def test_wrong_usage(cluster: FakeCluster, arguments: list[str], text: str) -> None:
    done = at(cluster, "logs", *arguments)
    assert done.returncode == 2
    assert text in done.stderr


# -- kubelet -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("via", ["kubelet", "apiserver"])
def test_what_a_kubelet_tells(cluster: FakeCluster, via: str) -> None:
    options = ["--node=node-1", f"--via={via}"]
    for name in ("pods", "runningpods"):
        done = at(cluster, "kubelet", name, *options)
        assert (done.returncode, done.stderr) == (0, "")
        assert re.search(r"^default +demo +main,side +Running +0 ", done.stdout, re.MULTILINE) or name != "pods"
        assert "web-1" in done.stdout
        document = json.loads(at(cluster, "kubelet", name, *options, "--json").stdout)
        names = [item["metadata"]["name"] for item in document["items"]]
        assert "demo" in names
    done = at(cluster, "kubelet", "healthz", *options)
    assert done.returncode == 0
    assert "ok" in done.stdout
    assert json.loads(at(cluster, "kubelet", "healthz", "ping", *options, "--json").stdout)["healthy"] is True
    assert re.search(r"^default/demo ", at(cluster, "kubelet", "stats", *options).stdout, re.MULTILINE)
    assert json.loads(at(cluster, "kubelet", "stats", *options, "--json").stdout)["node"]["nodeName"] == "node-1"
    assert "# TYPE" in at(cluster, "kubelet", "metrics", *options).stdout
    samples = json.loads(at(cluster, "kubelet", "metrics", "resource", *options, "--json").stdout)
    assert all(set(sample) >= {"name", "labels", "value"} for sample in samples)
    assert samples
    assert "authentication:" in at(cluster, "kubelet", "configz", *options).stdout
    assert "kubeletconfig" in json.loads(at(cluster, "kubelet", "configz", *options, "--json").stdout)
    done = at(cluster, "kubelet", "get", "/healthz?verbose=true", *options, "-v")
    assert "ok" in done.stdout
    assert ("straight from the kubelet" in done.stderr) == (via == "kubelet")


@pytest.mark.parametrize("via", ["kubelet", "apiserver"])
def test_commands_about_a_pod_find_its_node(cluster: FakeCluster, via: str) -> None:
    done = at(cluster, "kubelet", "run", "demo", "-c", "main", f"--via={via}", "--", "echo", "a", "b")
    assert (done.returncode, done.stdout, done.stderr) == (0, "a b\n", "")
    done = at(cluster, "kubelet", "run", "demo", "-c", "main", "--", "echo", "a b")
    assert done.returncode == 2
    done = at(cluster, "kubelet", "checkpoint", "demo", "-c", "main", f"--via={via}")
    assert done.returncode == 0
    assert done.stdout.startswith("/")


def test_logs_of_the_node(kubelet: list[str]) -> None:
    assert kubewire("kubelet", "logs", *kubelet).stdout == "kubelet.log\npods/\n"
    assert json.loads(kubewire("kubelet", "logs", *kubelet, "--json").stdout) == ["kubelet.log", "pods/"]
    assert kubewire("kubelet", "logs", "kubelet.log", *kubelet).stdout == "a log\n"
    assert kubewire("kubelet", "logs", "pods/x y/0.log", *kubelet).stdout == "deep\n"
    assert "synced" in kubewire("kubelet", "logs", "--query=kubelet", "--tail=1", *kubelet).stdout
    assert kubewire("kubelet", "logs", "--tail=1", *kubelet).returncode == 2


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["pods"], 2, "name the node"),
        (["pods", "--node=none"], 1, "node none cannot be had"),
        (["get", "/../x", "--node=node-1"], 2, "no '.' or '..'"),
        (["get", "x", "--node=node-1"], 2, "begins with '/'"),
        (["get", "/none", "--node=node-1"], 1, "HTTP 404"),
        (["run", "none", "-c", "main", "--", "ls"], 1, "HTTP 404"),
    ],
)
def test_errors(cluster: FakeCluster, arguments: list[str], code: int, text: str) -> None:
    done = at(cluster, "kubelet", *arguments)
    assert done.returncode == code, done.stderr
    assert text in done.stderr
    assert "Traceback" not in done.stderr


# -- trust -------------------------------------------------------------------------------------------------------------


def test_pinning(cluster: FakeCluster, tmp_path: Path) -> None:
    known = f"--known-nodes={tmp_path / 'known'}"
    kubelet = cluster.kubelets["node-1"]
    server = f"127.0.0.1:{kubelet.port}"
    done = kubewire("trust", server, known, input="n\n")
    assert done.returncode == 2
    fingerprint = re.search(r"presents (sha256:[0-9a-f]{64})", done.stderr)[1]  # type: ignore[index]  # it is there
    assert "valid" in done.stderr
    assert kubewire("trust", known).stdout == "SERVER   FINGERPRINT\n"
    done = kubewire("trust", server, known, "--fingerprint", "sha256:" + "0" * 64)
    assert done.returncode == 2
    assert "not pinned" in done.stderr
    colons = ":".join(re.findall("..", fingerprint.removeprefix("sha256:"))).upper()
    done = kubewire("trust", server, known, "--fingerprint", f"SHA256 Fingerprint={colons}", "--json")
    assert json.loads(done.stdout) == {"server": server, "fingerprint": fingerprint}
    assert at(cluster, "exec", "demo", "--via=kubelet", known, "--", "echo", "x").stdout == "x\n"
    with FakeKubelet(port=0) as other:
        # a node that was replaced, at the same address as far as the file knows
        text = (tmp_path / "known").read_text().replace(server, f"127.0.0.1:{other.port}")
        (tmp_path / "other").write_text(text)
        there = f"--known-nodes={tmp_path / 'other'}"
        done = kubewire("exec", f"--kubelet={other.url}", "demo", "-c", "main", there, "--", "ls")
        assert done.returncode == 255
        assert "HAS CHANGED" in done.stderr
        done = kubewire("trust", f"127.0.0.1:{other.port}", there, "--yes")
        assert done.returncode == 2
        assert "pin it with --replace" in done.stderr
        assert kubewire("trust", f"127.0.0.1:{other.port}", there, "--yes", "--replace").returncode == 0
        assert kubewire("trust", f"127.0.0.1:{other.port}", there, "--remove").returncode == 0
        assert kubewire("trust", f"127.0.0.1:{other.port}", there, "--remove").returncode == 2
    assert kubewire("trust", "127.0.0.1:1", known, "--yes").returncode == 1

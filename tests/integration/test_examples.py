"""The programs in docs/examples do what they say."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakekubelet import FakeCluster

DIRECT_EXEC = Path(__file__).parents[2] / "docs" / "examples" / "direct_exec.py"


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster() as running:
        yield running


def run(cluster: FakeCluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    node = f"127.0.0.1:{cluster.kubelets['node-1'].port}"
    command = [sys.executable, str(DIRECT_EXEC), "--kubeconfig", str(cluster.kubeconfig), node, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_direct_exec(cluster: FakeCluster) -> None:
    done = run(cluster, "default", "demo", "main")
    assert (done.returncode, done.stderr) == (0, "")
    direct, _, rest = done.stdout.removeprefix("# straight to the kubelet, which is verified\n").partition("#")
    unverified, _, through = rest.partition("#")
    listing = direct.splitlines()
    assert "etc" in listing
    assert unverified.splitlines() == [" straight to the kubelet, and whoever answers is taken for it", *listing]
    assert through.splitlines() == [" through the apiserver", *listing]


def test_direct_exec_says_why_not(cluster: FakeCluster, tmp_path: Path) -> None:
    with FakeCluster() as other:
        (tmp_path / "ca").write_bytes(other.ca)
    done = run(cluster, "default", "demo", "main", "--kubelet-ca", str(tmp_path / "ca"))
    assert done.returncode == 255
    assert "not signed by an authority trusted here" in done.stderr
    assert "Traceback" not in done.stderr

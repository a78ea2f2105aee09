"""Copies into and out of real containers, by containerd's own streaming server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubeletclient import Kubelet, ProtocolNotSupported, StdinCannotEnd
from kubeletclient.copy.errors import NoStrategy, RemoteToolFailed
from support.containerd import Containerd, Pod
from support.trees import describe, every_kind, odd_names

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

OWN = [f"/bin/{name}" for name in "sh cat mv rm mkdir readlink ln chmod touch dd sleep".split()]
OWN += [f"/usr/bin/{name}" for name in "find stat wc id cksum".split()]
"""Programs of this machine: the shell of busybox takes its own applets for everything else's."""

IMAGES: dict[str, dict[str, Any]] = {
    "busybox": {},
    "gnu": {"tools": [], "programs": [*OWN, "/usr/bin/tar"]},
    "notar": {"tools": [], "programs": OWN},
}
STRATEGIES = {"busybox": "tar (busybox)", "gnu": "tar (gnu)", "notar": "files (cat)"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shared")
    every_kind(root / "src")
    odd_names(root / "src" / "odd")
    return root


@pytest.fixture(scope="module")
def pod(containerd: Containerd, shared: Path) -> Iterator[Pod]:
    with containerd.pod() as pod:
        for name, image in IMAGES.items():
            reference = containerd.image() if not image else containerd.image(name, **image)
            pod.container(name=name, image=reference, mounts={"/shared": shared})
        yield pod


@pytest.fixture
def ours(containerd: Containerd, pod: Pod) -> Iterator[Any]:
    with Kubelet(containerd.url, **containerd.options()) as node:
        yield node.pod(pod.name)


@pytest.mark.parametrize("image", IMAGES)
def test_a_tree_goes_in_and_comes_out(ours: Any, shared: Path, tmp_path: Path, image: str) -> None:
    (shared / image).mkdir()
    report = ours.copy_in(shared / "src", f"/shared/{image}", container=image)
    assert describe(shared / image / "src") == describe(shared / "src")
    assert report.strategy == STRATEGIES[image]
    assert report.verification in ("cksum", "sha256")
    report = ours.copy_out(f"/shared/{image}/src", tmp_path / "back", container=image)
    assert describe(tmp_path / "back") == describe(shared / "src")
    assert report.verification in ("cksum", "sha256")


def test_over_websocket(containerd: Containerd, pod: Pod, shared: Path, tmp_path: Path) -> None:
    """containerd speaks v4, which cannot end stdin: the way in is refused before anything is sent; the way out needs
    none.
    """
    with Kubelet(containerd.url, **containerd.options(), transport="ws") as node:
        there = node.pod(pod.name)
        report = there.copy_out("/shared/src/plain", tmp_path / "plain", container="gnu")
        assert (report.transport, report.verification) == ("ws", "cksum")
        with pytest.raises((StdinCannotEnd, ProtocolNotSupported), match="end"):
            there.copy_in(shared / "src", "/tmp", container="busybox")


def test_a_large_file_in_runs(ours: Any, shared: Path, tmp_path: Path) -> None:
    data = bytes(range(256)) * 4096 * 130
    (tmp_path / "large").write_bytes(data)
    report = ours.copy_in(tmp_path / "large", "/shared/large", container="busybox", parallel=3)
    assert (shared / "large").read_bytes() == data
    assert report.connections == 3
    ours.copy_out("/shared/large", tmp_path / "back", container="gnu", parallel=3)
    assert (tmp_path / "back").read_bytes() == data


def test_a_container_with_nothing_but_its_program(containerd: Containerd, tmp_path: Path) -> None:
    image = containerd.image("alone", tools=[])
    with containerd.pod() as pod, Kubelet(containerd.url, **containerd.options()) as node:
        pod.container(image=image)
        with pytest.raises(NoStrategy, match="neither a shell nor tar"):
            node.pod(pod.name).copy_out("/etc", tmp_path / "x", container="main")


def test_a_full_disk_in_the_container(ours: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"data")
    with pytest.raises(RemoteToolFailed) as caught:
        ours.copy_in(tmp_path / "file", "/proc/file", container="busybox")
    assert "/proc" in str(caught.value)

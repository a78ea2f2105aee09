"""What ``kubectl cp`` and we make of the same tree, through the same apiserver, into and out of the same container."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fakekubelet import Container, FakeCluster
from fakekubelet import Pod as FakePod
from kubeletclient import Cluster
from support.kubectl import Kubectl, find
from support.trees import describe, every_kind

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]


@dataclass
class World:
    """A cluster, both clients of it, and a tree."""

    kubectl: Kubectl
    pod: Any
    src: Path


@pytest.fixture(scope="module", params=["kubelet", "apiserver"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("beside")
    every_kind(root / "src")
    pods = [FakePod("default/host", [Container("main", processes=True)])]
    with FakeCluster(pods=pods, allow_processes=True) as cluster:
        config = cluster.kubeconfig
        with Cluster.from_kubeconfig(kubeconfig=str(config), via=request.param) as ours:
            yield World(Kubectl(find("built"), config, root), ours.pod("host"), root / "src")


def test_into_the_container(world: World, tmp_path: Path) -> None:
    done = world.kubectl("cp", str(world.src), f"default/host:{tmp_path}/kubectl", "-c", "main")
    assert done.returncode == 0, done.stderr
    world.pod.copy_in(world.src, tmp_path / "ours")
    theirs, ours, source = describe(tmp_path / "kubectl"), describe(tmp_path / "ours"), describe(world.src)
    assert ours == source
    assert set(theirs) == set(source)
    for name, facts in source.items():
        kind = int(str(facts[0]))
        if stat.S_ISLNK(kind):
            assert theirs[name] == facts
        elif stat.S_ISREG(kind):
            assert theirs[name][3] == facts[3]
            assert theirs[name][1] == facts[1]
    # What kubectl loses: hard links are files of their own, times are those of the copy, modes of full directories too.
    assert len(theirs[b"another name"]) == 4
    assert theirs[b"plain/text"][2] != source[b"plain/text"][2]
    assert theirs[b"sealed"][1] != source[b"sealed"][1]


def test_out_of_the_container(world: World, tmp_path: Path) -> None:
    done = world.kubectl("cp", f"default/host:{world.src}", f"{tmp_path}/kubectl", "-c", "main")
    assert done.returncode == 0, done.stderr
    world.pod.copy_out(world.src, tmp_path / "ours")
    theirs, ours, source = describe(tmp_path / "kubectl"), describe(tmp_path / "ours"), describe(world.src)
    assert ours == source
    links = {name for name, facts in source.items() if stat.S_ISLNK(int(str(facts[0])))}
    assert links
    assert set(source) - set(theirs) == links  # kubectl skips symbolic links
    regular = [name for name, facts in theirs.items() if stat.S_ISREG(int(str(facts[0])))]
    wrong = [name for name in regular if theirs[name][3] != source[name][3]]
    assert wrong in ([b"another name"], [b"plain/text"])  # the second name of a file comes out empty
    assert theirs[b"plain/script"][1] != source[b"plain/script"][1]  # modes are lost

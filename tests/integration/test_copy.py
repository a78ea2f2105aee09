"""Copies into, out of and between containers of the fake kubelet that run real tools, with every set of tools."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fakekubelet import Container, FakeKubelet
from fakekubelet import Pod as FakePod
from kubeletclient import ClientCertificate, ClientError
from kubeletclient.copy.common import LARGE
from kubeletclient.copy.entries import Entry, Preserve
from kubeletclient.copy.errors import (
    BadPath,
    CopyError,
    LocalFileFailed,
    NoStrategy,
    RemoteToolFailed,
    SourceChanged,
    SourceMissing,
    VerificationFailed,
)
from kubeletclient.copy.fetch import Transfer
from kubeletclient.copy.report import CopyReport, Progress
from support.flavours import Flavour, flavour_fixture
from support.trees import describe, every_kind, odd_names, toolset

flavour = flavour_fixture()

BASICS = "cat mv rm mkdir find stat readlink ln chmod touch wc id dd head tail".split()
SETS: dict[str, dict[str, Any]] = {
    "gnu": {"tools": [*BASICS, "tar", "cksum", "sha256sum", "gzip", "zstd"], "shell": "dash"},
    "bash": {"tools": [*BASICS, "tar", "sha256sum"], "shell": "bash"},
    "busybox": {"tools": [], "busybox": [*BASICS, "tar", "sha256sum", "gzip"], "shell": "busybox"},
    "bsdtar": {"tools": [*BASICS, "bsdtar", "md5sum"], "shell": "dash"},
    "no tar": {"tools": [*BASICS, "cksum"], "shell": "dash"},
    "no dd": {"tools": [each for each in [*BASICS, "cksum"] if each not in ("dd", "tail")], "shell": "dash"},
    "base64 alone": {
        "tools": ["base64", "mv", "rm", "mkdir", "find", "stat", "readlink", "ln", "chmod", "touch", "cksum"],
        "shell": "dash",
    },
    "no digest": {"tools": [*BASICS, "tar"], "shell": "dash"},
    "no list": {"tools": ["tar", "cat", "mv", "rm", "mkdir", "cksum"], "shell": "dash"},
}
DIGESTS = {
    "gnu": "cksum", "bash": "sha256", "busybox": "sha256", "bsdtar": "md5", "no tar": "cksum",
    "no dd": "cksum", "base64 alone": "cksum", "no digest": "sizes", "no list": "none",
}  # fmt: skip


@dataclass
class World:
    """A fake kubelet, a client of it, and a tree."""

    kubelet: FakeKubelet
    flavour: Flavour
    root: Path
    node: Any = field(init=False)

    def __post_init__(self) -> None:
        identity = self.kubelet.credentials()
        credentials = ClientCertificate(identity.cert_pem, identity.key_pem)
        self.node = self.flavour.client.Kubelet(self.kubelet.url, ca=self.kubelet.ca, credentials=credentials)

    def copy_in(self, sources: Any, target: Any, tools: str = "gnu", **choices: Any) -> CopyReport:
        pod = self.node.pod(pod_name(tools))
        report: CopyReport = self.flavour.do(lambda: pod.copy_in(sources, target, **choices))
        return report

    def copy_out(self, sources: Any, target: Any, tools: str = "gnu", **choices: Any) -> CopyReport:
        pod = self.node.pod(pod_name(tools))
        report: CopyReport = self.flavour.do(lambda: pod.copy_out(sources, target, **choices))
        return report

    def close(self) -> None:
        self.flavour.do(self.node.close)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FakeKubelet, Path]]:
    root = tmp_path_factory.mktemp("copy")
    every_kind(root / "src")
    odd_names(root / "src" / "odd")
    pods = [FakePod("default/bare", [Container("main", processes=True, path=str(root / "nowhere"))])]
    for name, tools in SETS.items():
        container = Container("main", processes=True, path=toolset(root / name, **tools))
        pods.append(FakePod(f"default/{pod_name(name)}", [container]))
    with FakeKubelet(pods, allow_processes=True) as kubelet:
        yield kubelet, root


@pytest.fixture
def world(flavour: Flavour, served: tuple[FakeKubelet, Path]) -> Iterator[World]:
    world = World(served[0], flavour, served[1])
    yield world
    world.close()


def pod_name(tools: str) -> str:
    return tools.replace(" ", "-").replace(",", "")


@pytest.mark.parametrize("tools", SETS)
def test_a_tree_goes_in_and_comes_out(world: World, tmp_path: Path, tools: str) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    there.mkdir()
    report = world.copy_in(world.root / "src", there, tools)
    assert describe(there / "src") == describe(world.root / "src")
    assert [path.name for path in there.iterdir()] == ["src"]
    tree = describe(world.root / "src")
    counts = report.files + report.directories + report.links
    assert counts == len(tree) + 1
    assert report.verification == DIGESTS[tools]
    assert report.unverified == (report.files if DIGESTS[tools] in ("sizes", "none") else 0)
    assert report.strategy.startswith("files" if tools in ("no tar", "no dd", "base64 alone") else "tar")
    report = world.copy_out(there / "src", back, tools)
    assert describe(back) == tree
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "there"]
    assert report.files + report.directories + report.links == len(tree) + 1
    assert (report.verification, report.route) == (DIGESTS[tools], "kubelet")


@pytest.mark.parametrize("tools", ["gnu", "busybox", "no tar", "bsdtar"])
def test_large_files_go_in_runs(world: World, tmp_path: Path, tools: str) -> None:
    source, there, back = tmp_path / "src", tmp_path / "there", tmp_path / "back"
    source.mkdir()
    there.mkdir()
    with open(source / "large", "wb") as file:
        for _ in range(LARGE // (1 << 20) * 2):
            file.write(os.urandom(1 << 20))
        file.write(b"odd end")
    (source / "small").write_bytes(b"small")
    os.link(source / "large", source / "also large")
    report = world.copy_in(source, there, tools, parallel=3)
    assert describe(there / "src") == describe(source)
    assert report.connections >= 3
    report = world.copy_out(there / "src", back, tools, parallel=3)
    assert describe(back) == describe(source)
    assert report.connections >= 3


def test_as_cp_r_with_what_is_there(world: World, tmp_path: Path) -> None:
    target = tmp_path / "target"
    (target / "src").mkdir(parents=True)
    (target / "src" / "stays").write_bytes(b"stays")
    (target / "src" / "plain").mkdir()
    (target / "src" / "plain" / "text").write_bytes(b"old")
    (target / "src").chmod(0o700)
    world.copy_in(world.root / "src", target)
    assert (target / "src" / "stays").read_bytes() == b"stays"
    assert (target / "src" / "plain" / "text").read_bytes() == b"hello\n"
    assert os.stat(target / "src").st_mode & 0o777 == 0o700
    world.copy_out(world.root / "src", target)
    assert (target / "src" / "stays").read_bytes() == b"stays"


def test_a_file_gets_a_new_name_or_goes_below_a_directory(world: World, tmp_path: Path) -> None:
    file = world.root / "src" / "plain" / "blocks"
    for copy in (world.copy_in, world.copy_out):
        copy(file, tmp_path / copy.__name__)
        (tmp_path / f"{copy.__name__} folder").mkdir()
        copy(file, tmp_path / f"{copy.__name__} folder")
        assert (tmp_path / copy.__name__).read_bytes() == file.read_bytes()
        assert (tmp_path / f"{copy.__name__} folder" / "blocks").read_bytes() == file.read_bytes()


def test_several_sources_and_wildcards(world: World, tmp_path: Path) -> None:
    for name in ("a.log", "b.log", "c.txt", "a b.log"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    world.copy_in([tmp_path / "a.log", tmp_path / "c.txt"], tmp_path / "in")
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == ["a.log", "c.txt"]
    world.copy_out(f"{tmp_path}/*.log", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a b.log", "a.log", "b.log"]
    with pytest.raises(SourceMissing, match="nothing in the container matches"):
        world.copy_out(f"{tmp_path}/*.none", tmp_path / "out")


@pytest.mark.parametrize("tools", ["gnu", "no list", "base64 alone"])
def test_what_is_excluded_stays(world: World, tmp_path: Path, tools: str) -> None:
    plain = describe(world.root / "src" / "plain")
    wanted = {name: facts[:4] for name, facts in plain.items() if name != b"secret"}  # the other name of text stays
    world.copy_out(world.root / "src" / "plain", tmp_path / "out", tools, exclude=["secret"])
    assert describe(tmp_path / "out") == wanted
    world.copy_in(world.root / "src" / "plain", tmp_path / "in", tools, exclude=["s*"], include=["script"])
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == ["blocks", "nothing", "script", "text"]


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
@pytest.mark.parametrize("strategy", ["tar", "files"])
def test_compressed(world: World, tmp_path: Path, compression: str, strategy: str) -> None:
    (tmp_path / "in").mkdir()
    report = world.copy_in(world.root / "src", tmp_path / "in", compression=compression, strategy=strategy)
    assert report.compression == compression
    world.copy_out(tmp_path / "in" / "src", tmp_path / "out", compression=compression, strategy=strategy)
    assert describe(tmp_path / "out") == describe(world.root / "src")
    with pytest.raises(NoStrategy, match="the container has no zstd"):
        world.copy_in(world.root / "src", tmp_path / "in", "busybox", compression="zstd")


def test_links_can_be_followed(world: World, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "file").write_bytes(b"data")
    (tmp_path / "src" / "link").symlink_to("file")
    follow = Preserve(links="follow")
    world.copy_in(tmp_path / "src", tmp_path / "in", preserve=follow)
    world.copy_out(tmp_path / "src", tmp_path / "out", preserve=follow)
    for target in ("in", "out"):
        assert not (tmp_path / target / "link").is_symlink()
        assert (tmp_path / target / "link").read_bytes() == b"data"


def test_a_stream_goes_in_and_comes_out(world: World, tmp_path: Path) -> None:
    data = os.urandom(1_000_003)
    for tools in ("gnu", "busybox", "base64 alone"):
        report = world.copy_in(io.BytesIO(data), tmp_path / tools, tools)
        assert (tmp_path / tools).read_bytes() == data
        assert (report.bytes, report.verification) == (len(data), DIGESTS[tools])
        out = io.BytesIO()
        assert world.copy_out(tmp_path / tools, out, tools).verification == DIGESTS[tools]
        assert out.getvalue() == data
    with pytest.raises(BadPath, match="is a directory in the container"):
        world.copy_in(io.BytesIO(data), tmp_path)


def test_container_to_container(world: World, tmp_path: Path) -> None:
    other = world.node.pod("busybox")
    pod = world.node.pod("gnu")
    (tmp_path / "there").mkdir()
    report: CopyReport = world.flavour.do(lambda: pod.copy_to(world.root / "src", other, tmp_path / "there"))
    tree = describe(world.root / "src")
    found = describe(tmp_path / "there" / "src")
    assert found == tree
    assert (report.verification, report.files) == ("sha256", sum(1 for facts in tree.values() if len(facts) > 3) - 1)
    world.flavour.do(lambda: other.copy_to(world.root / "src" / "plain", pod, tmp_path / "renamed"))
    renamed = {name: facts[:4] for name, facts in describe(tmp_path / "renamed").items()}
    assert renamed == {name: facts[:4] for name, facts in describe(world.root / "src" / "plain").items()}


@pytest.mark.parametrize(
    "choices",
    [
        {"preserve": Preserve(links="skip")},
        {"preserve": Preserve(modes=False)},
        {"strategy": "files"},
        {"strategy": "compat"},
        {"resume": True},
        {"compression": "gzip"},
        {"exclude": ["*.tmp"]},
    ],
    ids=repr,
)
def test_container_to_container_refuses_what_has_no_effect(
    world: World, tmp_path: Path, choices: dict[str, Any]
) -> None:
    pod, other = world.node.pod("gnu"), world.node.pod("busybox")
    with pytest.raises(BadPath, match="between containers"):
        world.flavour.do(lambda: pod.copy_to(world.root / "src" / "plain", other, tmp_path, **choices))
    assert os.listdir(tmp_path) == []


def test_container_to_container_dry_run_changes_nothing(world: World, tmp_path: Path) -> None:
    pod, other = world.node.pod("gnu"), world.node.pod("busybox")
    report: CopyReport = world.flavour.do(
        lambda: pod.copy_to(world.root / "src", other, tmp_path, dry_run=True, resume=False)
    )
    assert (report.dry_run, os.listdir(tmp_path)) == (True, [])


@pytest.mark.parametrize("end", ["/.", "/./"])
def test_container_to_container_content_needs_a_directory(world: World, tmp_path: Path, end: str) -> None:
    pod, other = world.node.pod("gnu"), world.node.pod("busybox")
    (tmp_path / "plain").write_text("mine")
    with pytest.raises(BadPath, match="is no directory"):
        world.flavour.do(lambda: pod.copy_to(f"{world.root}/src{end}", other, tmp_path / "new"))
    assert {name: (tmp_path / name).read_text() for name in os.listdir(tmp_path)} == {"plain": "mine"}


@pytest.mark.parametrize("tools", ["gnu", "busybox", "no tar"])
def test_a_fifo_is_refused_as_a_source(world: World, tmp_path: Path, tools: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(BadPath, match="is no regular file"):
        world.copy_out(tmp_path / "fifo", io.BytesIO(), tools)
    with pytest.raises(BadPath, match="neither a file nor a directory"):
        world.copy_out(tmp_path / "fifo", tmp_path / "out", tools)
    assert os.listdir(tmp_path) == ["fifo"]


def test_a_dry_run_changes_nothing(world: World, tmp_path: Path) -> None:
    before = describe(tmp_path)
    report = world.copy_in(world.root / "src", tmp_path, dry_run=True)
    assert (report.dry_run, report.bytes > 0, report.files > 0) == (True, True, True)
    report = world.copy_out(world.root / "src", tmp_path, dry_run=True)
    assert (report.dry_run, report.bytes > 0, report.files > 0) == (True, True, True)
    assert describe(tmp_path) == before


def test_progress_is_told(world: World, tmp_path: Path) -> None:
    seen: list[Progress] = []
    world.copy_in(world.root / "src" / "plain", tmp_path / "in", progress=seen.append)
    world.flavour.do(lambda: None)  # what was told to a loop has arrived
    phases = list(dict.fromkeys(each.phase for each in seen))
    assert phases == ["scan", "transfer", "verify", "place"]
    transfer = [each for each in seen if each.phase == "transfer"][-1]
    assert (transfer.bytes, transfer.files) == (transfer.total_bytes, transfer.total_files)


@pytest.mark.parametrize(
    ("source", "target", "kind", "part"),
    [
        ("nosuch", "x", SourceMissing, "does not exist"),
        ("src", "no/such/place", BadPath, "does not exist in the container"),
        ("src", "nosuch/", BadPath, "is no directory in the container"),
    ],
)
def test_what_cannot_go_in(
    world: World, tmp_path: Path, source: str, target: str, kind: type[CopyError], part: str
) -> None:
    with pytest.raises(kind, match=part):
        world.copy_in(world.root / source, f"{tmp_path}/{target}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("source", "target", "kind", "part"),
    [
        ("nosuch", "x", SourceMissing, "does not exist in the container"),
        ("src", "no/such/place", LocalFileFailed, "No such file"),
        ("src", "nosuch/", BadPath, "is no directory"),
    ],
)
def test_what_cannot_come_out(
    world: World, tmp_path: Path, source: str, target: str, kind: type[CopyError], part: str
) -> None:
    with pytest.raises(kind, match=part):
        world.copy_out(world.root / source, f"{tmp_path}/{target}")
    assert list(tmp_path.iterdir()) == []


def test_a_container_without_anything_says_what_was_looked_for(world: World, tmp_path: Path) -> None:
    for copy in (world.copy_in, world.copy_out):
        with pytest.raises(NoStrategy, match="neither a shell nor tar; looked for sh, tar and bsdtar"):
            copy(world.root / "src", tmp_path / "x", "bare")


def test_a_digest_that_is_not_there_is_refused(world: World, tmp_path: Path) -> None:
    with pytest.raises(NoStrategy, match="cannot compute sha256"):
        world.copy_in(world.root / "src", tmp_path, "no tar", verify="sha256")


def test_right_size_and_wrong_content_is_caught(world: World, tmp_path: Path) -> None:
    """A tool that lies about what it stored: the copy ends with an error, and nothing is in place."""
    lying = tmp_path / "bin"
    shutil.copytree(world.root / "gnu", lying, symlinks=True)
    (lying / "tar").unlink()
    tar = shutil.which("tar")
    spoil = "[ -f src/plain/blocks ] && dd if=/dev/zero of=src/plain/blocks bs=10240 count=1 2>/dev/null"
    (lying / "tar").write_text(f'#!/bin/sh\n{tar} "$@" && [ "$1" != --version ] && {spoil}; exit 0\n')
    (lying / "tar").chmod(0o755)
    pod = FakePod("default/lying", [Container("main", processes=True, path=str(lying))])
    world.kubelet.pods.add(pod)
    (tmp_path / "target").mkdir()
    with pytest.raises(
        VerificationFailed, match=r"1 files differ from their source by cksum: 'src/plain/blocks'"
    ) as caught:
        world.copy_in(world.root / "src", tmp_path / "target", "lying", retries=1)
    assert not (tmp_path / "target" / "src").exists()
    assert caught.value.report is not None
    assert (caught.value.report.retries, caught.value.report.leftover is not None) == (1, True)


def test_a_read_only_target_says_so(world: World) -> None:
    with pytest.raises((RemoteToolFailed, BadPath)) as caught:
        world.copy_in(world.root / "src" / "plain" / "text", "/proc/kubewire")
    assert isinstance(caught.value, ClientError)
    with pytest.raises(LocalFileFailed):
        world.copy_out(world.root / "src" / "plain" / "text", "/proc/kubewire")


def test_as_kubectl_does_without_a_shell(world: World, tmp_path: Path) -> None:
    """Nothing but tar in the container, nothing verified; links, modes and times of the way out are ours to keep."""
    alone = toolset(tmp_path / "bin", ["tar"], shell="")
    world.kubelet.pods.add(FakePod("default/alone", [Container("main", processes=True, path=alone)]))
    (tmp_path / "there").mkdir()
    try:
        with pytest.raises(NoStrategy, match="--strategy=compat sends the archive to tar alone"):
            world.copy_in(world.root / "src", tmp_path / "there" / "src", "alone")
        report = world.copy_in(world.root / "src", tmp_path / "there" / "src", "alone", strategy="compat")
        assert (report.verification, report.unverified) == ("none", report.files)
        assert describe(tmp_path / "there" / "src", times=False) == describe(world.root / "src", times=False)
        report = world.copy_out(world.root / "src", tmp_path / "back", "alone", strategy="compat")
        assert (report.strategy, report.verification) == ("compat (tar cf -)", "none")
        assert describe(tmp_path / "back") == describe(world.root / "src")
        world.copy_out(world.root / "src", tmp_path / "again", "alone")  # tar alone is enough for the way out
        assert describe(tmp_path / "again") == describe(world.root / "src")
    finally:
        world.kubelet.pods.remove("default/alone")


def test_a_helper_is_lent_and_taken_back(world: World, tmp_path: Path) -> None:
    """In a container with hardly anything a busybox of ours makes tar, find and digests, and leaves no trace."""
    box = shutil.which("busybox")
    assert box is not None
    poor = toolset(tmp_path / "bin", ["cat", "mkdir", "chmod", "rm"], shell="dash")
    world.kubelet.pods.add(FakePod("default/poor", [Container("main", processes=True, path=poor)]))
    (tmp_path / "there").mkdir()
    try:
        with pytest.raises(NoStrategy, match="nothing that could write a file"):
            world.copy_in(world.root / "src", tmp_path / "there", "poor")
        report = world.copy_in(world.root / "src", tmp_path / "there", "poor", helper=box)
        assert (report.strategy, report.verification) == ("tar (busybox)", "sha256")
        assert describe(tmp_path / "there" / "src") == describe(world.root / "src")
        world.copy_out(tmp_path / "there" / "src", tmp_path / "back", "poor", helper=box)
        assert describe(tmp_path / "back") == describe(world.root / "src")
        with pytest.raises(SourceMissing, match="the helper '/no/such/busybox' does not exist"):
            world.copy_out(tmp_path / "there" / "src", tmp_path / "x", "poor", helper="/no/such/busybox")
    finally:
        world.kubelet.pods.remove("default/poor")
    words = [word for each in world.kubelet.executions for word in each.request.argv]
    lent = {word for word in words if word.startswith(".kubewire-") and "/" not in word}
    assert len(lent) >= 2
    assert [name for name in lent if Path("/tmp", name).exists()] == []


def test_several_streams_lose_neither_links_nor_directories(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("upload", "fetch"):
        monkeypatch.setattr(f"kubeletclient.copy.{module}._STREAM_FILES", 2)
    (tmp_path / "there").mkdir()
    for tools in ("gnu", "busybox", "bsdtar"):
        report = world.copy_in(world.root / "src", tmp_path / "there" / tools, tools, parallel=3)
        assert report.connections > 2
        assert describe(tmp_path / "there" / tools) == describe(world.root / "src")
        world.copy_out(world.root / "src", tmp_path / tools, tools, parallel=3)
        assert describe(tmp_path / tools) == describe(world.root / "src")


@pytest.mark.parametrize("direction", ["in", "out"])
def test_what_an_earlier_attempt_left_and_this_one_does_not_have_goes(
    world: World, tmp_path: Path, direction: str
) -> None:
    """An interrupted copy, then another wish: nothing of the first comes to stand under a final name."""
    source, target = tmp_path / "src", tmp_path / "target"
    source.mkdir()
    (source / "wanted").write_bytes(b"wanted")
    (source / "other").write_bytes(bytes(3 << 20))

    class Stop(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.phase == "verify":
            raise Stop

    copy = world.copy_in if direction == "in" else world.copy_out
    if world.flavour.name == "blocking":
        with pytest.raises(Stop):
            copy(source, target, progress=stop)
    copy(source, target, resume=True, exclude=["other"])
    assert [path.name for path in target.iterdir()] == ["wanted"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["src", "target"]


def test_two_copies_of_the_same_at_once_do_not_mix(world: World, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(os.urandom(1 << 20) * 20)
    pod = world.node.pod("gnu")
    calls = [lambda: pod.copy_in(tmp_path / "large", tmp_path / "target") for _ in range(4)]
    for _ in range(3):
        outcomes = world.flavour.together(calls)
        if any(isinstance(outcome, CopyReport) for outcome in outcomes):
            assert (tmp_path / "target").read_bytes() == (tmp_path / "large").read_bytes()
        assert all(isinstance(outcome, CopyReport | ClientError) for outcome in outcomes)


def test_a_large_file_that_changes_on_the_way_out_is_no_success(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("common", "fetch"):
        monkeypatch.setattr(f"kubeletclient.copy.{module}.LARGE", 1 << 20)
    monkeypatch.setattr("kubeletclient.copy.common._LONGEST", 1 << 20)
    large = tmp_path / "large"
    large.write_bytes(b"A" * (4 << 20))
    os.utime(large, (1_000_000_000, 1_000_000_000))
    check = Transfer._check_unchanged

    async def change(self: Transfer, files: Sequence[Entry]) -> None:
        """Somebody writes to it when all runs have come, each right in itself."""
        large.write_bytes(b"B" * (4 << 20))
        await check(self, files)

    monkeypatch.setattr(Transfer, "_check_unchanged", change)
    with pytest.raises(SourceChanged, match="changed while it was copied"):
        world.copy_out(large, tmp_path / "target", parallel=1)
    assert not (tmp_path / "target").exists()


def test_a_dry_run_of_a_stream_writes_nothing(world: World, tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"old")
    assert world.copy_in(io.BytesIO(b"new"), tmp_path / "old", dry_run=True).dry_run
    assert (tmp_path / "old").read_bytes() == b"old"
    out = io.BytesIO()
    assert world.copy_out(tmp_path / "old", out, dry_run=True).dry_run
    assert out.getvalue() == b""


def test_links_that_lead_out_of_the_tree_can_be_followed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kubeletclient.copy.upload.LARGE", 1 << 20)
    (tmp_path / "outside").write_bytes(bytes(2 << 20))
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "link").symlink_to("../outside")
    for copy in (world.copy_in, world.copy_out):
        copy(tmp_path / "src", tmp_path / copy.__name__, preserve=Preserve(links="follow"))
        assert (tmp_path / copy.__name__ / "link").read_bytes() == bytes(2 << 20)
        assert not (tmp_path / copy.__name__ / "link").is_symlink()


@pytest.mark.parametrize("tools", ["gnu", "busybox"])
@pytest.mark.parametrize("left_out", ["a", "b"])
def test_one_name_of_two_can_be_left_out(world: World, tmp_path: Path, tools: str, left_out: str) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a").write_bytes(b"data")
    os.link(tmp_path / "src" / "a", tmp_path / "src" / "b")
    world.copy_out(tmp_path / "src", tmp_path / "out", tools, exclude=[left_out])
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {
        "b" if left_out == "a" else "a": b"data"
    }


def test_a_copy_that_was_cancelled_has_left(world: World, tmp_path: Path) -> None:
    if world.flavour.name != "asyncio":
        pytest.skip("the blocking flavour has nothing to cancel")

    async def cancelled() -> int:
        tasks = [
            asyncio.ensure_future(world.node.pod("gnu").copy_in(world.root / "src", tmp_path / f"t{number}"))
            for number in range(8)
        ]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        return sum(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)

    assert world.flavour.do(cancelled) == 8
    assert [thread.name for thread in threading.enumerate() if thread.name == "kubewire-copy"] == []
    assert list(tmp_path.glob("t*")) == []

"""Copies whose connections are cut: whole in the end, or an error; never a part under a final name."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakekubelet import Container, FakeKubelet
from fakekubelet import Pod as FakePod
from kubeletclient import ClientCertificate, ConnectionLost, Kubelet
from kubeletclient.copy.errors import CopyError
from support.cutproxy import Cut, CutProxy
from support.trees import describe, every_kind, odd_names

MIB = 1 << 20


class Cutter(CutProxy):
    """Cuts one connection after another as it is told, and none when that is used up."""

    cuts: list[Cut | None]

    @property
    def plan(self) -> Cut | None:
        return self.cuts.pop(0) if self.cuts else None

    @plan.setter
    def plan(self, plan: Cut | None) -> None:
        self.cuts = [] if plan is None else [plan]


@pytest.fixture(scope="module")
def kubelet() -> Iterator[FakeKubelet]:
    pod = FakePod("default/host", [Container("main", processes=True)])
    with FakeKubelet([pod], allow_processes=True) as kubelet:
        yield kubelet


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cut") / "src"
    every_kind(root)
    odd_names(root / "odd")
    (root / "large").write_bytes(random.Random(5).randbytes(3 * MIB + 77))
    return root


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of a MiB, and no pauses: what takes minutes over a network is over in a moment here."""
    for module in ("common", "upload", "fetch"):
        monkeypatch.setattr(f"kubeletclient.copy.{module}.LARGE", MIB)
    monkeypatch.setattr("kubeletclient.copy.common._LONGEST", MIB)
    monkeypatch.setattr("kubeletclient.copy.common.FIRST_PAUSE", 0.001)


@pytest.fixture
def proxied(kubelet: FakeKubelet) -> Iterator[tuple[Cutter, Any]]:
    identity = kubelet.credentials()
    credentials = ClientCertificate(identity.cert_pem, identity.key_pem)
    with (
        Cutter(("127.0.0.1", kubelet.port)) as proxy,
        Kubelet(f"https://127.0.0.1:{proxy.port}", ca=kubelet.ca, credentials=credentials) as node,
    ):
        yield proxy, node.pod("host")


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("direction", ["in", "out"])
@pytest.mark.parametrize("part", range(5))
def test_cut_at_random_places_it_is_whole_in_the_end(
    proxied: tuple[Cutter, Any], tree: Path, tmp_path: Path, direction: str, part: int
) -> None:
    """Ten places in each of these tests: a hundred in all, of every kind of cut, in both directions of the wire."""
    proxy, pod = proxied
    expected = describe(tree)
    chance = random.Random(f"{direction} {part}")
    for number in range(10):
        target = tmp_path / str(number)
        cuts = [_somewhere(chance) for _ in range(2)]
        proxy.cuts = [*([None] * chance.randrange(4)), *cuts]
        copy = pod.copy_in if direction == "in" else pod.copy_out
        report = copy(tree, target, container="main", retries=4)
        assert describe(target) == expected, cuts
        assert report.verification == "cksum"
        assert report.retries <= len(cuts)
    assert sorted(path.name for path in tmp_path.iterdir()) == [str(number) for number in range(10)]


def _somewhere(chance: random.Random) -> Cut:
    large = 3 * MIB
    how = chance.choice(["fin", "rst"])
    direction = chance.choice(["down", "up"])
    after = chance.choice([chance.randrange(6000), chance.randrange(large)])
    return Cut(after, how, direction)  # type: ignore[arg-type]  # chosen among the literals


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("direction", ["in", "out"])
def test_without_further_attempts_nothing_is_in_place_and_what_came_is_used_next_time(
    proxied: tuple[Cutter, Any], tree: Path, tmp_path: Path, direction: str
) -> None:
    proxy, pod = proxied
    target = tmp_path / "target"
    copy = pod.copy_in if direction == "in" else pod.copy_out
    # Behind the probe and what prepares the copy: the first run of the large file comes whole, the second does not.
    proxy.cuts = [*([None] * 6), *[Cut(MIB // 2, "rst", "up" if direction == "in" else "down")] * 20]
    with pytest.raises(ConnectionLost):
        copy(tree, target, container="main", retries=0, parallel=1)
    assert not target.exists()
    left = list(tmp_path.iterdir())
    assert [path.name.startswith(".kubewire-") for path in left] == [True]
    proxy.cuts = []
    report = copy(tree, target, container="main", resume=True)
    assert describe(target) == describe(tree)
    assert report.resumed_bytes > 0
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("direction", ["in", "out"])
def test_an_old_file_stays_until_the_new_one_is_verified(
    proxied: tuple[Cutter, Any], tree: Path, tmp_path: Path, direction: str
) -> None:
    proxy, pod = proxied
    target = tmp_path / "large"
    target.write_bytes(b"old")
    proxy.cuts = [None, None, *[Cut(200_000, "fin", "up" if direction == "in" else "down")] * 40]
    copy = pod.copy_in if direction == "in" else pod.copy_out
    with pytest.raises(ConnectionLost):
        copy(tree / "large", target, container="main", retries=2)
    assert target.read_bytes() == b"old"


@pytest.mark.usefixtures("small_steps")
def test_what_was_left_and_then_damaged_is_sent_again(proxied: tuple[Cutter, Any], tree: Path, tmp_path: Path) -> None:
    proxy, pod = proxied
    target = tmp_path / "large"
    proxy.cuts = [None, None, None, None, *[Cut(MIB // 2, "rst", "up")] * 20]
    with pytest.raises(ConnectionLost):
        pod.copy_in(tree / "large", target, container="main", retries=0, parallel=1)
    (stage,) = tmp_path.iterdir()
    part = stage / "large"
    damaged = bytearray(part.read_bytes())
    damaged[1000] ^= 1
    part.write_bytes(damaged)
    proxy.cuts = []
    pod.copy_in(tree / "large", target, container="main", resume=True)
    assert target.read_bytes() == (tree / "large").read_bytes()


@pytest.mark.usefixtures("small_steps")
def test_a_refusal_is_not_tried_again(kubelet: FakeKubelet, tree: Path, tmp_path: Path) -> None:
    with Kubelet(kubelet.url, ca=kubelet.ca) as node, pytest.raises(PermissionError):
        node.pod("host").copy_in(tree, tmp_path / "x", container="main")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("small_steps")
def test_a_stream_is_not_tried_again_and_not_in_place(proxied: tuple[Cutter, Any], tmp_path: Path) -> None:
    import io

    proxy, pod = proxied
    proxy.cuts = [None, Cut(100_000, "rst", "up")]
    with pytest.raises((ConnectionLost, CopyError)):
        pod.copy_in(io.BytesIO(os.urandom(MIB)), tmp_path / "file", container="main")
    assert not (tmp_path / "file").exists()

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kubeletclient.copy import place
from kubeletclient.copy.directories import Root
from kubeletclient.copy.errors import BadPath, UnsafeEntry
from support.trees import describe


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    for side in ("stage", "base"):
        (tmp_path / side / "both" / "deep").mkdir(parents=True)
        for name in ("a", "both/b", "both/deep/c"):
            (tmp_path / side / name).write_text(side)
    (tmp_path / "stage" / "both" / "new").mkdir()
    (tmp_path / "base" / "both" / "old").write_text("base")
    return tmp_path / "stage", tmp_path / "base"


def move(stage: Path, base: Path) -> None:
    with Root(os.fsencode(stage)) as source, Root(os.fsencode(base)) as target:
        place.place(source, target)


def test_a_tree_is_merged(trees: tuple[Path, Path]) -> None:
    stage, base = trees
    move(stage, base)
    found = {str(path.relative_to(base)): path.read_text() for path in base.rglob("*") if path.is_file()}
    assert found == {"a": "stage", "both/b": "stage", "both/deep/c": "stage", "both/old": "base"}
    assert (base / "both" / "new").is_dir()


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("link", [False, True])
def test_nothing_is_moved_where_a_file_meets_a_directory(trees: tuple[Path, Path], side: int, link: bool) -> None:
    (trees[side] / "both" / "deep" / "x").mkdir()
    other = trees[1 - side] / "both" / "deep" / "x"
    other.symlink_to("c") if link else other.write_text("file")
    before = [describe(each) for each in trees]
    with pytest.raises(UnsafeEntry, match="nothing was moved"):
        move(*trees)
    assert [describe(each) for each in trees] == before


def test_nothing_is_moved_where_a_directory_is_another_mount(
    trees: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = (trees[1] / "both" / "deep").stat().st_ino
    monkeypatch.setattr(place, "_device", lambda fd: 2 if os.fstat(fd).st_ino == mount else 1)
    before = [describe(each) for each in trees]
    with pytest.raises(BadPath, match="'both/deep' at the target is a mount of its own"):
        move(*trees)
    assert [describe(each) for each in trees] == before

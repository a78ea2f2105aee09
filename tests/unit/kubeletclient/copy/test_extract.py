"""The hostile archives of five rounds of CVEs in `kubectl cp`, and what may and may not be written."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest

from kubeletclient.copy.directories import Root
from kubeletclient.copy.entries import Entry, Kind, Preserve, TreeLimits
from kubeletclient.copy.errors import CopyError, LocalFileFailed, UnsafeEntry
from kubeletclient.copy.extract import Extractor
from support.trees import describe

Member = tuple[Entry, bytes]


def file(name: bytes, data: bytes = b"evil", mode: int = 0o644) -> Member:
    return Entry(name, Kind.FILE, mode, len(data), mtime=10**18), data


def link(name: bytes, target: bytes, kind: Kind = Kind.SYMLINK) -> Member:
    return Entry(name, kind, target=target), b""


def directory(name: bytes, mode: int = 0o755) -> Member:
    return Entry(name, Kind.DIRECTORY, mode, mtime=10**18), b""


def extract(target: Path, members: Sequence[Member], **options: object) -> Extractor:
    with Root(str(target)) as root:
        extractor = Extractor(root, **options)  # type: ignore[arg-type]  # a test names what it sets
        try:
            for entry, data in members:
                extractor.begin(entry)
                if data:
                    extractor.data(0, memoryview(data))
                if entry.kind is Kind.FILE:
                    extractor.end()
            extractor.finish()
        finally:
            extractor.abort()
    return extractor


HOSTILE: dict[str, list[Member]] = {
    "CVE-2018-1002100: climbs": [file(b"../evil")],
    "climbs in the middle": [file(b"a/../../evil")],
    "climbs and comes back": [file(b"a/../a/evil")],
    "absolute": [file(b"/evil")],
    "absolute, doubled": [file(b"//evil")],
    "CVE-2019-1002101: through a link to a directory": [link(b"a", b"../outside"), file(b"a/evil")],
    "through a link to itself": [link(b"a", b"."), file(b"a/evil")],
    "CVE-2019-11246: link below a link": [link(b"a", b"../outside"), link(b"a/b", b".."), file(b"a/b/evil")],
    "CVE-2019-11251: two links": [link(b"a", b"b"), link(b"b", b"../outside"), file(b"a/evil")],
    "an absolute link": [link(b"a", b"/"), file(b"a/evil")],
    "directory through a link": [link(b"a", b"../outside"), directory(b"a/evil")],
    "a link in place of a directory": [directory(b"a"), link(b"a", b"../outside"), file(b"a/evil")],
    "a link in place of a file": [file(b"a"), link(b"a", b"../outside/evil")],
    "a file in place of a link": [link(b"a", b"../outside/evil"), file(b"a")],
    "hard link to the outside": [link(b"a", b"../outside/secret", Kind.HARDLINK)],
    "hard link to an absolute name": [link(b"a", b"/etc/passwd", Kind.HARDLINK)],
    "hard link through a link": [link(b"l", b"../outside"), link(b"a", b"l/secret", Kind.HARDLINK)],
    "hard link to a link": [link(b"l", b"../outside/secret"), link(b"a", b"l", Kind.HARDLINK)],
    "hard link to what was there before": [link(b"a", b"mine", Kind.HARDLINK)],
    "hard link to itself": [link(b"a", b"a", Kind.HARDLINK)],
    "NUL in a name": [file(b"a\0b")],
    "NUL in a link": [link(b"a", b"b\0c")],
    "an empty link": [link(b"a", b"")],
    "a file for the target itself": [file(b".")],
    "a link for the target itself": [link(b"./", b"../outside")],
    "too deep": [file(b"/".join([b"d"] * 300))],
    "a part too long": [file(b"n" * 256)],
    "twice": [file(b"a"), file(b"a")],
    "a file in place of a directory": [directory(b"a"), file(b"a")],
    "below a file": [file(b"a"), file(b"a/evil")],
    "over my directory": [file(b"folder")],
    "through my link": [file(b"my link/evil")],
}


@pytest.mark.parametrize("case", HOSTILE)
def test_nothing_outside_changes(tmp_path: Path, case: str) -> None:
    target, outside = tmp_path / "target", tmp_path / "outside"
    target.mkdir()
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (target / "mine").write_bytes(b"mine")
    (target / "folder").mkdir()
    (target / "my link").symlink_to(outside)
    before = describe(outside)
    with pytest.raises(CopyError) as caught:
        extract(target, HOSTILE[case])
    assert isinstance(caught.value, UnsafeEntry)
    assert describe(outside) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside", "target"]
    assert (target / "mine").read_bytes() == b"mine"
    assert os.stat(outside / "secret").st_nlink == 1


def test_links_are_written_as_they_stand_and_never_followed(tmp_path: Path) -> None:
    extract(tmp_path, [link(b"out", b"../../etc"), link(b"in", b"a/b"), link(b"absolute", b"/etc")])
    assert {name: os.readlink(tmp_path / name) for name in ("out", "in", "absolute")} == {
        "out": "../../etc",
        "in": "a/b",
        "absolute": "/etc",
    }


@pytest.mark.parametrize(("policy", "kept"), [("keep", 4), ("safe", 2), ("skip", 0)])
def test_link_policies(tmp_path: Path, policy: str, kept: int) -> None:
    skipped: list[str] = []
    members = [link(b"a/x", b"../b"), link(b"a/y", b"../../b"), link(b"z", b"/b"), link(b"w", b"./c/../d")]
    extract(tmp_path, members, preserve=Preserve(links=policy), skipped=lambda entry, reason: skipped.append(reason))
    assert len(describe(tmp_path)) - (tmp_path / "a").is_dir() == kept
    assert len(skipped) == 4 - kept
    if policy == "safe":
        assert skipped == ["link to b'../../b', outside the tree", "link to b'/b', outside the tree"]


@pytest.mark.parametrize("kind", [Kind.FIFO, Kind.CHARACTER, Kind.BLOCK, Kind.SOCKET])
def test_special_files_are_left_out_and_told(tmp_path: Path, kind: Kind) -> None:
    skipped: list[str] = []
    entry = Entry(b"dev", kind)
    extract(tmp_path, [(entry, b"")], skipped=lambda entry, reason: skipped.append(reason))
    assert list(tmp_path.iterdir()) == []
    assert skipped == [f"a {kind.value} is not copied"]


def test_setuid_setgid_and_sticky_bits_are_dropped(tmp_path: Path) -> None:
    extract(tmp_path, [file(b"f", mode=0o6755), directory(b"d", 0o1777)])
    assert stat.S_IMODE(os.stat(tmp_path / "f").st_mode) == 0o755
    assert stat.S_IMODE(os.stat(tmp_path / "d").st_mode) == 0o777


def test_a_directory_that_may_not_be_written_gets_what_is_below_it_first(tmp_path: Path) -> None:
    extract(tmp_path, [directory(b"d", 0o555), file(b"d/f")])
    status = os.stat(tmp_path / "d")
    assert (stat.S_IMODE(status.st_mode), status.st_mtime) == (0o555, 1_000_000_000)
    (tmp_path / "d").chmod(0o755)


def test_modes_and_times_can_be_left_to_this_machine(tmp_path: Path) -> None:
    extract(tmp_path, [file(b"f", mode=0o777)], preserve=Preserve(modes=False, times=False))
    status = os.stat(tmp_path / "f")
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(status.st_mode) == 0o777 & ~mask
    assert status.st_mtime > 1_000_000_000


def test_zeros_become_holes(tmp_path: Path) -> None:
    data = b"x" * 100 + bytes((1 << 20) - 100) + b"y" * 4096 + bytes(1 << 20)
    with Root(str(tmp_path)) as root:
        extractor = Extractor(root)
        extractor.begin(Entry(b"f", Kind.FILE, size=len(data)))
        for at in range(0, len(data), 16384):
            extractor.data(at, memoryview(data)[at : at + 16384])
        extractor.end()
    assert (tmp_path / "f").read_bytes() == data
    assert os.stat(tmp_path / "f").st_blocks * 512 <= 65536


def test_a_full_disk_is_told_with_what_to_do() -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    with Root("/dev") as root:
        extractor = Extractor(root)
        extractor._fd = os.open("/dev/full", os.O_WRONLY)
        extractor._entry = Entry(b"f", Kind.FILE, size=10)
        with pytest.raises(LocalFileFailed, match="No space left on device; free space") as caught:
            extractor.data(0, memoryview(b"x" * 10))
        extractor.abort()
    assert caught.value.errno == 28


def test_limits_reach_the_names(tmp_path: Path) -> None:
    with pytest.raises(UnsafeEntry, match="3 parts, and the limit is 2"):
        extract(tmp_path, [file(b"a/b/c")], limits=TreeLimits(depth=2))


def test_digests_are_taken_on_the_way(tmp_path: Path) -> None:
    from kubeletclient.copy.checksums import new_checksum

    extractor = extract(tmp_path, [file(b"d/f", b"hello")], digest=lambda: new_checksum("cksum"))
    assert extractor.files[b"d", b"f"].digest == "3287646509"  # as cksum says

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubeletclient.copy.checksums import new_checksum
from kubeletclient.copy.directories import Root
from kubeletclient.copy.entries import Entry, Kind, Preserve, Received
from kubeletclient.copy.errors import CopyError, LocalFileFailed, SourceChanged
from kubeletclient.copy.scan import LocalFile, Scan


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    (tmp_path / "t" / "d").mkdir(parents=True)
    (tmp_path / "t" / "d" / "f").write_bytes(b"data")
    with Root(str(tmp_path)) as root:
        yield root


def test_directories_come_first_and_names_are_sorted(root: Root, tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        (tmp_path / "t" / name).write_bytes(b"")
    assert [entry.name for entry in Scan(root, b"t", b"new")] == [
        b"new", b"new/a", b"new/b", b"new/c", b"new/d", b"new/d/f",
    ]  # fmt: skip


def test_a_second_name_is_a_hard_link_to_the_first(root: Root, tmp_path: Path) -> None:
    os.link(tmp_path / "t" / "d" / "f", tmp_path / "t" / "a")
    entries = {entry.name: entry for entry in Scan(root, b"t", b"t")}
    assert entries[b"t/a"].kind is Kind.FILE
    assert (entries[b"t/d/f"].kind, entries[b"t/d/f"].target) == (Kind.HARDLINK, b"t/a")


def test_special_files_are_left_out_and_told(root: Root, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "t" / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(tmp_path)
        listener.bind("t/s")
    skipped: list[tuple[bytes, str]] = []
    entries = [e.name for e in Scan(root, b"t", b"t", skipped=lambda e, reason: skipped.append((e.name, reason)))]
    assert entries == [b"t", b"t/d", b"t/d/f"]
    assert skipped == [(b"t/fifo", "a fifo is not copied"), (b"t/s", "a socket is not copied")]


def test_what_is_not_wanted_is_not_entered(root: Root, tmp_path: Path) -> None:
    asked: list[bytes] = []

    def wanted(path: bytes, directory: bool) -> bool:
        asked.append(path)
        return path != b"d"

    assert [entry.name for entry in Scan(root, b"t", b"t", wanted=wanted)] == [b"t"]
    assert asked == [b"d"]


def test_links_are_followed_only_when_asked(root: Root, tmp_path: Path) -> None:
    (tmp_path / "t" / "l").symlink_to("d")
    assert {e.name: e.kind for e in Scan(root, b"t", b"t")}[b"t/l"] is Kind.SYMLINK
    with Root(str(tmp_path), follow=True) as following:
        kinds = {e.name: e.kind for e in Scan(following, b"t", b"t", preserve=Preserve(links="follow"))}
    assert (kinds[b"t/l"], kinds[b"t/l/f"]) == (Kind.DIRECTORY, Kind.FILE)


def test_a_loop_of_links_is_an_error(root: Root, tmp_path: Path) -> None:
    (tmp_path / "t" / "d" / "up").symlink_to("..")
    with (
        Root(str(tmp_path), follow=True) as following,
        pytest.raises(CopyError, match="a link to a directory above it"),
    ):
        list(Scan(following, b"t", b"t"))


def test_pieces_of_a_file_with_holes(root: Root, tmp_path: Path) -> None:
    with open(tmp_path / "t" / "s", "wb") as file:
        file.seek(1 << 20)
        file.write(b"x" * 4096)
        file.truncate(3 << 20)
    entry = next(e for e in Scan(root, b"t", b"t") if e.name == b"t/s")
    assert entry.sparse == [(1 << 20, 4096)]
    assert (entry.size, entry.stored) == (3 << 20, 4096)


def entry_of(root: Root) -> Entry:
    return next(e for e in Scan(root, b"t", b"t") if e.kind is Kind.FILE)


def read(file: LocalFile, size: int) -> bytes:
    room = memoryview(bytearray(size))
    got = file.readinto(0, room)
    file.close()
    return bytes(room[:got])


def test_a_file_is_digested_as_it_is_read(root: Root) -> None:
    sent: list[Received] = []
    entry = entry_of(root)
    file = LocalFile(
        root, (b"t", b"d", b"f"), entry, digest=lambda: new_checksum("md5"), done=lambda e, r: sent.append(r)
    )
    assert read(file, 4) == b"data"
    assert sent == [Received(4, "8d777f385d3dfec8815d20f7496026dc")]
    assert file.fault is None


@pytest.mark.parametrize("change", ["shorter", "longer", "touched"])
def test_a_file_that_changed_is_told(root: Root, tmp_path: Path, change: str) -> None:
    entry = entry_of(root)
    path = tmp_path / "t" / "d" / "f"
    if change == "touched":
        os.utime(path, ns=(1, 1))
    else:
        path.write_bytes(b"da" if change == "shorter" else b"data and more")
    file = LocalFile(root, (b"t", b"d", b"f"), entry, digest=None)
    read(file, 4)
    assert isinstance(file.fault, SourceChanged)


def test_a_file_that_vanished_is_told(root: Root, tmp_path: Path) -> None:
    entry = entry_of(root)
    (tmp_path / "t" / "d" / "f").unlink()
    with pytest.raises(SourceChanged, match="vanished"):
        LocalFile(root, (b"t", b"d", b"f"), entry, digest=None).readinto(0, memoryview(bytearray(4)))


def test_a_fifo_that_took_a_files_place_does_not_hold_the_copy(root: Root, tmp_path: Path) -> None:
    entry = entry_of(root)
    path = tmp_path / "t" / "d" / "f"
    path.unlink()
    os.mkfifo(path)
    file = LocalFile(root, (b"t", b"d", b"f"), entry, digest=None)
    with pytest.raises(LocalFileFailed):
        file.readinto(0, memoryview(bytearray(4)))
    file.close()


def test_a_link_that_took_a_files_place_is_not_followed(root: Root, tmp_path: Path) -> None:
    entry = entry_of(root)
    path = tmp_path / "t" / "d" / "f"
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(LocalFileFailed):
        LocalFile(root, (b"t", b"d", b"f"), entry, digest=None).readinto(0, memoryview(bytearray(4)))

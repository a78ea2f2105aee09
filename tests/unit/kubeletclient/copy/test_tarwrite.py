from __future__ import annotations

import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubeletclient.copy.checksums import new_checksum
from kubeletclient.copy.directories import Root
from kubeletclient.copy.entries import Entry, Kind, Received
from kubeletclient.copy.scan import LocalFile, Scan
from kubeletclient.copy.tarwrite import Content, header, trailer, write_archive
from support.trees import describe, every_kind, odd_names, require_tools

TARS = {
    "gnu": (["tar", "-xpf", "-"], True),
    "busybox": (["busybox", "tar", "-xpf", "-"], False),
    "bsdtar": (["bsdtar", "-xpf", "-"], True),
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tar") / "src"
    every_kind(root)
    odd_names(root / "odd")
    return root


def archive(tree: Path, *, sparse: bool, room: int = 65536, digests: dict[bytes, str | None] | None = None) -> bytes:
    kept = {} if digests is None else digests

    def done(entry: Entry, sent: Received) -> None:
        kept[entry.name] = sent.digest

    def members(root: Root) -> Iterator[tuple[Entry, Content | None]]:
        for entry in Scan(root, b"src", b"src"):
            if entry.kind is not Kind.FILE:
                yield entry, None
                continue
            file = LocalFile(
                root, tuple(entry.name.split(b"/")), entry, digest=lambda: new_checksum("cksum"), done=done
            )
            yield entry, file
            assert file.fault is None

    with Root(str(tree.parent)) as root:
        return b"".join(map(bytes, write_archive(members(root), memoryview(bytearray(room)), sparse=sparse)))


@pytest.mark.parametrize("tar", TARS)
def test_each_tar_reads_it(tree: Path, tmp_path: Path, tar: str) -> None:
    words, sparse = TARS[tar]
    require_tools(words[0])
    subprocess.run(words, input=archive(tree, sparse=sparse), cwd=tmp_path, check=True, capture_output=True)
    found, expected = describe(tmp_path / "src", holes=sparse), describe(tree, holes=sparse)
    if tar == "busybox":  # it sets the time of a directory when it makes it, and then writes below it
        for facts in (found, expected):
            facts.update({name: fact[:2] for name, fact in facts.items() if stat.S_ISDIR(int(str(fact[0])))})
    assert found == expected


def test_pythons_reader_reads_it(tree: Path, tmp_path: Path) -> None:
    path = tmp_path / "archive"
    path.write_bytes(archive(tree, sparse=True))
    with tarfile.open(path, errors="surrogateescape") as opened:
        names = {member.name.encode("utf-8", "surrogateescape") for member in opened}
    assert names == {b"src", *(b"src/" + name for name in describe(tree))}


@pytest.mark.parametrize("room", [512, 1000, 1001, 4096])
def test_the_room_does_not_matter(tree: Path, room: int) -> None:
    assert archive(tree, sparse=True, room=room) == archive(tree, sparse=True)


def test_digests_are_those_of_the_files(tree: Path) -> None:
    digests: dict[bytes, str | None] = {}
    archive(tree, sparse=True, digests=digests)
    assert len(digests) > 15
    for name, digest in digests.items():
        path = tree.parent / name.decode("utf-8", "surrogateescape")
        assert subprocess.run(["cksum", path], capture_output=True, check=True).stdout.split()[0].decode() == digest


def test_it_ends_with_two_blocks_of_zeros() -> None:
    assert bytes(next(write_archive([], memoryview(bytearray(2048))))) == trailer() == bytes(1024)


def test_owners_are_kept_when_asked_for() -> None:
    entry = Entry(b"f", Kind.FILE, uid=1234, gid=5_000_000)
    read = tarfile.TarInfo.frombuf(header(entry, owners=True), "utf-8", "strict")
    assert (read.uid, read.gid) == (1234, 5_000_000)
    assert tarfile.TarInfo.frombuf(header(entry), "utf-8", "strict").uid == 0


def test_a_size_beyond_eight_gib() -> None:
    entry = Entry(b"f", Kind.FILE, size=9 << 30)
    assert tarfile.TarInfo.frombuf(header(entry), "utf-8", "strict").size == 9 << 30


class Shorter:
    """A file that lost its end after it was listed."""

    closed = 0

    def readinto(self, offset: int, room: memoryview) -> int:
        left = max(0, 700 - offset)
        step = min(left, len(room))
        room[:step] = b"x" * step
        return step

    def close(self) -> None:
        self.closed += 1


def test_a_file_that_became_shorter_is_filled_up_so_that_the_archive_goes_on() -> None:
    content = Shorter()
    members: list[tuple[Entry, Content | None]] = [
        (Entry(b"f", Kind.FILE, size=2000), content),
        (Entry(b"d", Kind.DIRECTORY), None),
    ]
    data = b"".join(map(bytes, write_archive(members, memoryview(bytearray(512)))))
    assert data[512 : 512 + 2000] == b"x" * 700 + bytes(1300)
    assert data[512 + 2048 :].startswith(b"d/")
    assert content.closed == 1


def test_content_is_closed_when_nobody_wants_the_rest() -> None:
    content = Shorter()
    pieces = write_archive([(Entry(b"f", Kind.FILE, size=5000), content)], memoryview(bytearray(512)))
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]  # a generator, as every iterator of pieces here
    assert content.closed == 1

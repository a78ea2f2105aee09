from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from kubeletclient.copy.directories import Root
from kubeletclient.copy.entries import Entry, Kind, TreeLimits
from kubeletclient.copy.errors import ArchiveError
from kubeletclient.copy.extract import Extractor
from kubeletclient.copy.tarread import TarReader
from kubeletclient.copy.tarwrite import header, trailer
from support.trees import describe, every_kind, odd_names, require_tools


class Seen:
    """A receiver that remembers."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.content: dict[bytes, bytearray] = {}

    def begin(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.content[entry.name] = bytearray(entry.size if entry.size < 1 << 24 else 0)

    def data(self, offset: int, view: memoryview) -> None:
        self.content[self.entries[-1].name][offset : offset + len(view)] = view

    def end(self) -> None:
        pass


def read(data: bytes, step: int | None = None, limits: TreeLimits = TreeLimits()) -> Seen:
    seen = Seen()
    reader = TarReader(seen, limits)
    step = step or len(data) or 1
    for at in range(0, len(data), step):
        reader.feed(memoryview(data)[at : at + step])
    reader.close()
    return seen


@pytest.mark.parametrize("step", [None, 1, 512, 700])
@pytest.mark.parametrize("zeros", [1, 2, 20])
def test_nothing_but_zeros_follows_the_end_mark(zeros: int, step: int | None) -> None:
    first = header(Entry(b"first", Kind.FILE, 0o644, 0, 0))
    second = header(Entry(b"second", Kind.FILE, 0o644, 0, 0))  # busybox unpacks it behind a lone block of zeros
    with pytest.raises(ArchiveError, match="follows the end mark"):
        read(first + bytes(512 * zeros) + second + trailer(), step)
    with pytest.raises(ArchiveError, match="follows the end mark"):
        read(first + bytes(512 * zeros + 7) + b"x", step)
    assert [entry.name for entry in read(first + bytes(512 * zeros + 7), step).entries] == [b"first"]


TARS: dict[str, Sequence[str]] = {
    "gnu": ("tar", "-cf", "-", "src"),
    "gnu sparse": ("tar", "-Scf", "-", "src"),
    "gnu pax": ("tar", "--format=posix", "-cf", "-", "src"),
    "gnu pax sparse": ("tar", "-S", "--format=posix", "-cf", "-", "src"),
    "gnu pax sparse 0.1": ("tar", "-S", "--format=posix", "--sparse-version=0.1", "-cf", "-", "src"),
    "gnu ustar": ("tar", "--format=ustar", "-cf", "-", "src/plain", "src/empty", "src/relative", "src/another name"),
    "gnu v7": ("tar", "--format=v7", "-cf", "-", "src/plain", "src/empty", "src/relative", "src/another name"),
    "busybox": ("busybox", "tar", "-cf", "-", "src"),
    "bsdtar": ("bsdtar", "-cf", "-", "src"),
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tar") / "src"
    every_kind(root)
    odd_names(root / "odd")
    return root


@pytest.mark.parametrize("step", [None, 512, 10007, 700])
@pytest.mark.parametrize("tar", TARS)
def test_what_each_tar_writes(tree: Path, tmp_path: Path, tar: str, step: int | None) -> None:
    require_tools(TARS[tar][0])
    data = subprocess.run(TARS[tar], cwd=tree.parent, capture_output=True, check=True).stdout
    with Root(str(tmp_path)) as root:
        extractor = Extractor(root)
        reader = TarReader(extractor)
        for at in range(0, len(data), step or len(data)):
            reader.feed(memoryview(data)[at : at + (step or len(data))])
        reader.close()
        extractor.finish()
    expected, found = describe(tree), describe(tmp_path / "src")
    if tar in ("gnu ustar", "gnu v7"):  # forms that have no room for some names
        expected = {name: facts for name, facts in expected.items() if name in found}
        assert len(expected) > 6
    assert found == expected


def test_a_stream_that_stops_early_is_told(tree: Path) -> None:
    data = subprocess.run(TARS["gnu"], cwd=tree.parent, capture_output=True, check=True).stdout
    end = -(-len(data.rstrip(b"\0")) // 512) * 512  # everything is there but the end mark
    for cut in (1, 511, 512, 700, len(data) // 2, end):
        seen = Seen()
        reader = TarReader(seen)
        reader.feed(data[:cut])
        with pytest.raises(ArchiveError, match="the archive is cut off"):
            reader.close()


def test_zeros_behind_the_end_are_passed_over() -> None:
    data = header(Entry(b"a", Kind.DIRECTORY)) + trailer()
    assert [entry.name for entry in read(data + bytes(10240)).entries] == [b"a/"]


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"not an archive".ljust(512, b"x"), "no header of an archive"),
        (header(Entry(b"a", Kind.FILE))[:512].replace(b"a", b"b", 1), "no header of an archive"),
    ],
)
def test_what_is_no_archive(data: bytes, part: str) -> None:
    with pytest.raises(ArchiveError, match=part):
        read(data)


def sealed(block: bytearray) -> bytes:
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def raw(name: bytes = b"f", flag: bytes = b"0", size: bytes = b"00000000000\0", **fields: bytes) -> bytes:
    block = bytearray(header(Entry(name, Kind.FILE)))
    block[156:157] = flag
    block[124:136] = size
    for key, value in fields.items():
        at = int(key[1:])
        block[at : at + len(value)] = value
    return sealed(block)


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (raw(size=b"\xff" * 12), "negative size"),
        (raw(size=b"12345678901x"), "is no size"),
        (raw(size=b"\x80" + b"\x7f" * 11), "bytes of content are announced"),
        (raw(flag=b"x", size=b"77777777777\0"), "an extended header of 8589934591 bytes"),
        (raw(flag=b"L", size=b"77777777777\0"), "an extended header of"),
        (raw(flag=b"x", size=b"00000000005\0") + b"junk\n".ljust(512, b"\0"), "no list of records"),
        (raw(flag=b"x", size=b"00000000011\0") + b"9 novalue".ljust(512, b"\0"), "no list of records"),
        (raw(flag=b"x", size=b"00000000013\0") + b"11 novalue\n".ljust(512, b"\0"), "without value"),
        (raw(flag=b"x", size=b"00000000014\0") + b"12 size=-5x\n".ljust(512, b"\0") + raw(), "is no size"),
        (raw(flag=b"L", size=b"00000000002\0") + b"n\0".ljust(512, b"\0") + bytes(512), "has no member"),
        (raw(flag=b"S", _386=b"00000000000\0" + b"00000001000\0", _483=b"00000000010\0"), "behind its end|add up"),
        (
            raw(flag=b"S", _386=b"00000001000\0" + b"00000000010\0" + b"00000000000\0" + b"00000000010\0"),
            "overlap",
        ),
    ],
)
def test_hostile_headers(data: bytes, part: str) -> None:
    with pytest.raises(ArchiveError, match=part):
        read(data + trailer())


def test_limits_are_crossed_one_by_one() -> None:
    many = b"".join(raw(b"f%d" % number) for number in range(5)) + trailer()
    with pytest.raises(ArchiveError, match="more than 4 entries"):
        read(many, limits=TreeLimits(entries=4))
    with pytest.raises(ArchiveError, match="more than 100 bytes of content"):
        read(raw(size=b"00000000145\0") + bytes(512) + trailer(), limits=TreeLimits(total=100))
    with pytest.raises(ArchiveError, match="a name of 90 bytes"):
        read(raw(b"n" * 90) + trailer(), limits=TreeLimits(path=80))


def test_a_list_of_pieces_has_an_end() -> None:
    body = b"999999999\n".ljust(512, b"0")
    records = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n29 GNU.sparse.realsize=10000\n"
    pax = raw(flag=b"x", size=b"%011o\0" % len(records)) + records.ljust(512, b"\0")
    with pytest.raises(ArchiveError, match="broken list of pieces"):
        read(pax + raw(size=b"00000001000\0") + body + trailer())


def test_sizes_beyond_eight_gib_and_odd_times() -> None:
    huge = raw(size=b"\x80\0\0\0" + (9 << 30).to_bytes(8, "big"), _136=b"\xff" * 12)
    seen = Seen()
    TarReader(seen).feed(huge)
    assert (seen.entries[0].size, seen.entries[0].mtime) == (9 << 30, 0)


def test_what_pythons_own_writer_makes() -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in (("é" * 90, b"long"), ("plain", b"x" * 600)):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1234567890.5
            archive.addfile(info, io.BytesIO(data))
    seen = read(file.getvalue(), 100)
    assert {name: bytes(content) for name, content in seen.content.items()} == {
        os.fsencode("é" * 90): b"long",
        b"plain": b"x" * 600,
    }
    assert {entry.mtime for entry in seen.entries} == {1234567890_500000000}

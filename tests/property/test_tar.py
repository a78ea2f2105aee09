"""What the writer writes the reader reads, however the stream is cut; and no bytes bring the reader down."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from kubeletclient.copy.entries import Entry, Kind, TreeLimits
from kubeletclient.copy.errors import ArchiveError
from kubeletclient.copy.tarread import TarReader
from kubeletclient.copy.tarwrite import Content, header, write_archive

PART = st.binary(min_size=1, max_size=120).filter(lambda part: not {0x2F, 0} & set(part) and part not in (b".", b".."))
NAME = st.lists(PART, min_size=1, max_size=4).map(b"/".join)


class Bytes:
    """Content in memory."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def readinto(self, offset: int, room: memoryview) -> int:
        piece = self.data[offset : offset + len(room)]
        room[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        pass


class Seen:
    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.content: list[bytearray] = []

    def begin(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.content.append(bytearray(entry.size))

    def data(self, offset: int, view: memoryview) -> None:
        self.content[-1][offset : offset + len(view)] = view

    def end(self) -> None:
        pass


@st.composite
def members(draw: st.DrawFn) -> tuple[Entry, bytes]:
    kind = draw(st.sampled_from([Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK, Kind.HARDLINK]))
    data = draw(st.binary(max_size=2000)) if kind is Kind.FILE else b""
    entry = Entry(
        draw(NAME),
        kind,
        draw(st.integers(0, 0o7777)),
        len(data),
        draw(st.integers(0, 2**33)) * 10**9,
        draw(st.integers(0, 2**32 - 1)),
        draw(st.integers(0, 2**32 - 1)),
        draw(NAME) if kind in (Kind.SYMLINK, Kind.HARDLINK) else b"",
    )
    if kind is Kind.FILE and draw(st.booleans()):
        cuts = sorted(set(draw(st.lists(st.integers(0, len(data)), max_size=12))))
        pairs = list(zip(cuts[::2], cuts[1::2], strict=False))
        entry.sparse = [(start, stop - start) for start, stop in pairs]
        kept = bytearray(len(data))
        for start, stop in pairs:
            kept[start:stop] = data[start:stop]
        data = bytes(kept)
    return entry, data


@given(st.lists(members(), max_size=6), st.booleans(), st.integers(512, 3000), st.lists(st.integers(1, 2000)))
def test_round_trip(tree: list[tuple[Entry, bytes]], sparse: bool, room: int, steps: list[int]) -> None:
    def contents() -> Iterator[tuple[Entry, Content | None]]:
        for entry, data in tree:
            yield entry, Bytes(data) if entry.kind is Kind.FILE else None

    pieces = write_archive(contents(), memoryview(bytearray(room)), owners=True, sparse=sparse)
    archive = b"".join(map(bytes, pieces))
    seen = Seen()
    reader = TarReader(seen)
    at = 0
    for step in [*steps, len(archive)]:
        reader.feed(memoryview(archive)[at : at + step])
        at += step
    reader.close()
    assert len(seen.entries) == len(tree)
    for (entry, data), found, content in zip(tree, seen.entries, seen.content, strict=True):
        assert found.name.rstrip(b"/") == entry.name.rstrip(b"/")
        assert (found.kind, found.target, found.mode) == (entry.kind, entry.target, entry.mode)
        assert (found.mtime, found.uid, found.gid) == (entry.mtime, entry.uid, entry.gid)
        assert content == data


LIMITS = TreeLimits(entries=50, total=1 << 22, metadata=1 << 16)


@given(st.lists(st.one_of(st.binary(max_size=700), members().map(lambda m: header(m[0], sparse=True))), max_size=8))
def test_any_bytes_give_entries_or_one_error(pieces: list[bytes]) -> None:
    reader = TarReader(Seen(), LIMITS)
    try:
        for piece in pieces:
            reader.feed(piece)
        reader.close()
    except ArchiveError:
        pass
    assert len(reader._carry) <= LIMITS.metadata + 512


@given(members(), st.data())
def test_a_damaged_header_is_no_other_exception(member: tuple[Entry, bytes], data: st.DataObject) -> None:
    block = bytearray(header(member[0], sparse=True))
    for _ in range(data.draw(st.integers(1, 4))):
        block[data.draw(st.integers(0, len(block) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):  # with a checksum that is right all the same
        block[148:156] = b"        "
        block[148:156] = b"%06o\0 " % sum(block[:512])
    reader = TarReader(Seen(), LIMITS)
    try:
        reader.feed(bytes(block) + bytes(4096))
        reader.close()
    except ArchiveError:
        pass

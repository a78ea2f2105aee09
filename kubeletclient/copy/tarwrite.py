"""A writer of tar streams that is pulled: it fills the buffer in which stdin is framed, headers and content alike.

What is written is read by GNU tar, busybox and bsdtar: ustar headers, GNU's ``L`` and ``K`` members for names that do
not fit (busybox passes over the pax form of them), sizes beyond 8 GiB in GNU's binary form. Times are whole seconds.
Sparse files are written in GNU's old form where the reader knows it, else with their zeros.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Protocol

from kubeletclient.copy.entries import Entry, Kind

__all__ = ["Content", "header", "trailer", "write_archive"]

BLOCK: Final = 512
_FLAGS: Final = {Kind.FILE: b"0", Kind.HARDLINK: b"1", Kind.SYMLINK: b"2", Kind.DIRECTORY: b"5"}
_MAX_OCTAL: Final = 8**11


class Content(Protocol):
    """The bytes of one file; see ``write_archive``."""

    def readinto(self, offset: int, room: memoryview) -> int:
        """Fill ``room`` from ``offset`` of the content. Fewer bytes mean that the file has become shorter."""

    def close(self) -> None:
        """Everything was read, or nobody wants the rest."""


def header(entry: Entry, *, owners: bool = False, sparse: bool = False) -> bytes:
    """The blocks in front of an entry's content. ``owners`` keeps user and group numbers, else they are 0."""
    name = entry.name + b"/" if entry.kind is Kind.DIRECTORY else entry.name
    blocks = b""
    prefix, short = _split(name)
    if short is None:
        blocks += _long(b"L", name)
        prefix, short = b"", name[:100]
    target = entry.target
    if len(target) > 100:
        blocks += _long(b"K", target)
        target = target[:100]
    pieces = entry.sparse if sparse and entry.kind is Kind.FILE else None
    stored = 0 if entry.kind is not Kind.FILE else entry.stored if pieces is not None else entry.size
    fields = [
        short.ljust(100, b"\0"),
        b"%07o\0" % (entry.mode & 0o7777),
        _numeric(entry.uid if owners else 0, 8),
        _numeric(entry.gid if owners else 0, 8),
        _numeric(stored, 12),
        _numeric(max(0, entry.mtime // 10**9), 12),
        b"        ",
        b"S" if pieces is not None else _FLAGS[entry.kind],
        target.ljust(100, b"\0"),
        b"ustar  \0" if pieces is not None else b"ustar\00000",
        bytes(32 + 32 + 8 + 8),  # names of owners: numbers say it all, and names differ between machines
    ]
    if pieces is None:
        fields.append(prefix.ljust(155, b"\0"))
        fields.append(bytes(12))
        return blocks + _sealed(b"".join(fields))
    if prefix:  # the old GNU form uses that space for the pieces
        blocks = _long(b"L", name) + blocks
        fields[0] = name[:100]
    ending = pieces if pieces and pieces[-1][0] + pieces[-1][1] == entry.size else [*pieces, (entry.size, 0)]
    first, rest = ending[:4], ending[4:]
    fields.append(bytes(41))
    fields.append(_pieces(first, 4))
    fields.append(b"\1" if rest else b"\0")
    fields.append(_numeric(entry.size, 12))
    fields.append(bytes(17))
    blocks += _sealed(b"".join(fields))
    for at in range(0, len(rest), 21):
        more = b"\1" if at + 21 < len(rest) else b"\0"
        blocks += _pieces(rest[at : at + 21], 21) + more + bytes(7)
    return blocks


def trailer() -> bytes:
    """The end mark. Readers stop at it even when stdin stays open, as before v5 over WebSocket."""
    return bytes(2 * BLOCK)


def write_archive(
    members: Iterable[tuple[Entry, Content | None]],
    room: memoryview,
    *,
    owners: bool = False,
    sparse: bool = False,
) -> Iterator[memoryview]:
    """Pieces of the archive, each a view of ``room`` that the next one overwrites; all but the last fill it.

    ``members`` are pulled one at a time, so a tree is never listed twice. A file that turns out shorter than its header
    says is filled up with zeros, for the archive has to go on; its ``Content`` knows, and says so.
    """
    return _Filler(room).archive(members, owners, sparse)


class _Filler:
    """Fills ``room`` again and again; each method yields it whenever it is full."""

    def __init__(self, room: memoryview) -> None:
        self._room, self._size, self._at = room, len(room), 0

    def archive(
        self, members: Iterable[tuple[Entry, Content | None]], owners: bool, sparse: bool
    ) -> Iterator[memoryview]:
        for entry, content in members:
            yield from self._put(header(entry, owners=owners, sparse=sparse))
            if content is not None:
                try:
                    yield from self._content(entry, content, sparse)
                finally:
                    content.close()
        yield from self._put(trailer())
        yield self._room[: self._at]

    def _put(self, data: bytes) -> Iterator[memoryview]:
        while len(data) > self._size - self._at:
            step = self._size - self._at
            self._room[self._at :] = data[:step]
            data = data[step:]
            self._at = 0
            yield self._room
        self._room[self._at : self._at + len(data)] = data
        self._at += len(data)

    def _content(self, entry: Entry, content: Content, sparse: bool) -> Iterator[memoryview]:
        room, size, at = self._room, self._size, self._at
        stored = 0
        for offset, length in entry.sparse if sparse and entry.sparse is not None else ((0, entry.size),):
            stored += length
            end = offset + length
            while offset < end:
                if at == size:
                    yield room
                    at = 0
                step = min(end - offset, size - at)
                got = content.readinto(offset, room[at : at + step])
                if got < step:
                    room[at + got : at + step] = bytes(step - got)
                at += step
                offset += step
        self._at = at
        yield from self._put(bytes(-stored % BLOCK))


def _sealed(block: bytes) -> bytes:
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _numeric(value: int, width: int) -> bytes:
    if value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    return b"\x80" + value.to_bytes(width - 1, "big")


def _pieces(pieces: list[tuple[int, int]], count: int) -> bytes:
    return b"".join(_numeric(offset, 12) + _numeric(length, 12) for offset, length in pieces).ljust(count * 24, b"\0")


def _split(name: bytes) -> tuple[bytes, bytes | None]:
    """Prefix and name for a ustar header; None for the name if it does not fit."""
    if len(name) <= 100:
        return b"", name
    cut = name.rfind(b"/", 0, 156)
    at = name.find(b"/", len(name) - 101) if len(name) > 101 else 0
    cut = at if 0 < at <= 155 else cut
    if 0 < cut <= 155 and 0 < len(name) - cut - 1 <= 100:
        return name[:cut], name[cut + 1 :]
    return b"", None


def _long(flag: bytes, text: bytes) -> bytes:
    """GNU's member in front of one whose name (L) or target (K) does not fit."""
    body = text + b"\0"
    fields = [
        b"././@LongLink".ljust(100, b"\0"),
        b"0000644\0" + b"0000000\0" * 2,
        _numeric(len(body), 12),
        _numeric(0, 12),
        b"        ",
        flag,
        bytes(100),
        b"ustar  \0",
        bytes(247),
    ]
    return _sealed(b"".join(fields)) + body + bytes(-len(body) % BLOCK)

"""A reader of tar streams that is fed: ustar, pax and GNU archives, as GNU tar, busybox and bsdtar write them.

Theory of operation
===================

``feed`` takes whatever the network gave, of any size, and calls the receiver: ``begin(entry)`` for each member, then
``data(offset, view)`` for the pieces of a file, in order, then ``end()``. Nothing is assembled but headers: content
goes through as views of the caller's buffer, valid during the call. An archive ends with a block of zeros (writers
pad with more). Anything but zeros behind it is an error, since readers differ there: GNU tar stops, busybox goes on
behind a lone block, so members there would pass one reader unseen and be unpacked by another. A stream that stops
before that block is an error in ``close``.

The reader is not a policy: names are handed on as they stand, ``..`` included. What may be written where is for the
receiver to judge (``extract``), and only the sizes of things are judged here (``TreeLimits``).

Numbers are octal text or, with the high bit of the first byte set, binary ("base-256", GNU). Long names come as pax
records (POSIX.1-2008, pax "Extended Header") or as GNU's ``L`` and ``K`` members in front. Sparse files come in GNU's
old form (type ``S``, pieces in the header) or in pax forms 0.1 and 1.0 (pieces in a record or in front of the
content): see the GNU tar manual, "Storing Sparse Files".
"""

from __future__ import annotations

import re
from typing import Final, Protocol

from kubeletclient.copy.entries import Entry, Kind, TreeLimits
from kubeletclient.copy.errors import ArchiveError

__all__ = ["Receiver", "TarReader"]

BLOCK: Final = 512

_KINDS: Final = {
    b"0": Kind.FILE,
    b"\0": Kind.FILE,
    b"7": Kind.FILE,  # contiguous file: a plain one for everybody
    b"S": Kind.FILE,
    b"1": Kind.HARDLINK,
    b"2": Kind.SYMLINK,
    b"3": Kind.CHARACTER,
    b"4": Kind.BLOCK,
    b"5": Kind.DIRECTORY,
    b"6": Kind.FIFO,
}
_META: Final = b"xgXLK"
_PAX_LENGTH: Final = re.compile(rb"([0-9]{1,7}) ")
_ZEROS: Final = bytes(BLOCK)
_MAX_PIECES: Final = 100_000
"""Of one sparse file: sixteen bytes each here; GNU tar itself slows down long before."""


class Receiver(Protocol):
    """Takes the members of an archive."""

    def begin(self, entry: Entry) -> None:
        """A member begins. Its name and target are as the archive has them."""

    def data(self, offset: int, view: memoryview) -> None:
        """Content of the file begun last. The view dies with the call."""

    def end(self) -> None:
        """The member begun last is complete."""


class TarReader:
    """Feed it; see the module's theory of operation. After an exception it must not be fed again."""

    def __init__(self, receiver: Receiver, limits: TreeLimits = TreeLimits()) -> None:
        self._receiver = receiver
        self._limits = limits
        self._carry = bytearray()  # part of a block that has to be looked at whole
        self._skip = 0  # bytes to pass over: padding, content that nobody wants
        self._left = 0  # stored bytes of the current file that are still to come
        self._padding = 0
        self._offset = 0
        self._pieces: list[tuple[int, int]] = []  # of a sparse file, those not begun yet, last first
        self._entry: Entry | None = None
        self._meta: bytes | None = None  # type of the extended header being gathered
        self._meta_left = 0
        self._pax: dict[bytes, bytes] = {}
        self._pax_global: dict[bytes, bytes] = {}
        self._long: dict[bytes, bytes] = {}
        self._extended_map: Entry | None = None  # a sparse member whose list goes on in the next block
        self._map_in_data = False
        self.ended = False
        """The end mark was seen."""
        self.entries = 0
        """Members so far."""
        self.total = 0
        """Bytes of content that they have announced."""
        self.fed = 0
        """Bytes of the stream taken so far."""

    def feed(self, data: memoryview | bytes) -> None:
        """Take the next bytes. Raises ArchiveError for what is no archive or crosses a limit, and whatever the
        receiver raises.
        """
        view = memoryview(data)
        size = len(view)
        self.fed += size
        at = 0
        while at < size:
            if self.ended:
                self._check_padding(view[at:])
                return
            if self._left:
                at = self._content(view, at)
            elif self._skip:
                step = min(self._skip, size - at)
                self._skip -= step
                at += step
            elif self._meta is not None:
                at = self._gather(view, at)
            elif self._carry or size - at < BLOCK:
                step = min(BLOCK - len(self._carry), size - at)
                self._carry += view[at : at + step]
                at += step
                if len(self._carry) == BLOCK:
                    block = bytes(self._carry)
                    self._carry.clear()
                    self._block(block)
            else:
                self._block(bytes(view[at : at + BLOCK]))
                at += BLOCK

    def close(self) -> None:
        """The stream has ended. Raises ArchiveError if the archive had not."""
        if not self.ended:
            where = f"inside {self._entry.name!r}" if self._entry is not None else f"after {self.entries} entries"
            raise ArchiveError(
                f"the archive is cut off: {self.fed} bytes came, and it stops {where} without its end mark",
                hint="the remote tar was ended early or could not read its source; its stderr says more",
            )

    def _check_padding(self, view: memoryview) -> None:
        if view.tobytes().strip(b"\0"):
            raise ArchiveError("something follows the end mark of the archive", hint="do not trust this container")

    # -- content -----------------------------------------------------------------------------------------------------

    def _content(self, view: memoryview, at: int) -> int:
        step = min(self._left, len(view) - at)
        if not self._pieces:
            self._receiver.data(self._offset, view[at : at + step])
            self._offset += step
        else:
            stop = at + step
            while at < stop:
                offset, length = self._pieces.pop()
                part = min(length, stop - at)
                self._receiver.data(offset, view[at : at + part])
                at += part
                if part < length:
                    self._pieces.append((offset + part, length - part))
            at -= step
        self._left -= step
        if not self._left:
            self._skip = self._padding
            self._finish()
        return at + step

    def _finish(self) -> None:
        self._entry = None
        self._pieces = []
        self._receiver.end()

    # -- headers -----------------------------------------------------------------------------------------------------

    def _block(self, block: bytes) -> None:
        if self._map_in_data:
            self._map_block(block)
        elif self._extended_map is not None:
            self._more_pieces(block)
        else:
            self._header(block)

    def _header(self, block: bytes) -> None:
        if block == _ZEROS:
            if self._pax or self._long:
                raise ArchiveError("the archive ends behind an extended header that has no member", hint=_CORRUPT)
            self.ended = True
            return
        if not _is_header(block):
            raise ArchiveError(
                f"no header of an archive where one has to be, {self.fed} bytes into the stream", hint=_CORRUPT
            )
        flag = block[156:157]
        size = _number(block[124:136], "size")
        if flag in _META:
            if size > self._limits.metadata:
                raise ArchiveError(
                    f"an extended header of {size} bytes, and the limit is {self._limits.metadata}", hint=_HOSTILE
                )
            self._meta, self._meta_left = flag, -(-size // BLOCK) * BLOCK
            self._meta_size = size
            if not size:
                self._end_meta()
            return
        self._member(block, flag, size)

    def _member(self, block: bytes, flag: bytes, size: int) -> None:
        pax = {**self._pax_global, **self._pax} if self._pax_global else self._pax
        kind = _KINDS.get(flag, Kind.FILE)  # POSIX: an unknown type is taken for a file
        name = pax.get(b"GNU.sparse.name") or pax.get(b"path") or self._long.get(b"L") or _ustar_name(block)
        if kind is Kind.FILE and name.endswith(b"/") and flag in b"0\0":
            kind = Kind.DIRECTORY  # as archives older than POSIX have it
        target = pax.get(b"linkpath") or self._long.get(b"K") or _text(block[157:257])
        if b"size" in pax:
            size = _decimal(pax[b"size"], "size")
        entry = Entry(
            name,
            kind,
            _number(block[100:108], "mode") & 0o7777,
            size if kind is Kind.FILE else 0,
            _time(pax.get(b"mtime"), block),
            _decimal(pax[b"uid"], "uid") if b"uid" in pax else _number(block[108:116], "uid"),
            _decimal(pax[b"gid"], "gid") if b"gid" in pax else _number(block[116:124], "gid"),
            target if kind in (Kind.SYMLINK, Kind.HARDLINK) else b"",
        )
        if kind is not Kind.FILE and flag != b"1":
            size = 0  # some writers leave the size of a directory in its header; nothing follows it
        elif kind is Kind.HARDLINK:
            size = 0 if b"size" not in pax else size  # pax may store the content with each name
        self._stored = size
        self._long = {}
        if flag == b"S":
            self._old_sparse(entry, block)
        elif b"GNU.sparse.major" in pax or b"GNU.sparse.map" in pax or b"GNU.sparse.numblocks" in pax:
            self._pax_sparse(entry, pax)
        else:
            self._begin(entry)
        self._pax = {}

    def _begin(self, entry: Entry) -> None:
        limits = self._limits
        self.entries += 1
        self.total += entry.size
        if self.entries > limits.entries:
            raise ArchiveError(f"more than {limits.entries} entries", hint=_HOSTILE)
        if self.total > limits.total:
            raise ArchiveError(f"more than {limits.total} bytes of content are announced", hint=_HOSTILE)
        if len(entry.name) > limits.path or len(entry.target) > limits.path:
            raise ArchiveError(
                f"a name of {max(len(entry.name), len(entry.target))} bytes, and the limit is {limits.path}",
                hint=_HOSTILE,
            )
        stored = self._stored
        self._entry = entry
        self._offset = 0
        self._left = stored if entry.kind is Kind.FILE else 0
        self._padding = -stored % BLOCK
        if entry.sparse is not None:
            self._pieces = [piece for piece in reversed(entry.sparse) if piece[1]]
            if sum(length for _, length in self._pieces) != stored:
                raise ArchiveError(f"the pieces of sparse file {entry.name!r} do not add up", hint=_CORRUPT)
        self._receiver.begin(entry)
        if entry.kind is not Kind.FILE:
            self._skip = stored + self._padding
        if not self._left:
            self._finish()

    # -- extended headers --------------------------------------------------------------------------------------------

    def _gather(self, view: memoryview, at: int) -> int:
        step = min(self._meta_left, len(view) - at)
        self._carry += view[at : at + step]
        self._meta_left -= step
        if not self._meta_left:
            self._end_meta()
        return at + step

    def _end_meta(self) -> None:
        body = bytes(self._carry[: self._meta_size])
        self._carry.clear()
        flag, self._meta = self._meta, None
        if flag in (b"L", b"K"):
            assert flag is not None
            self._long[flag] = body.rstrip(b"\0")
        elif flag == b"g":
            self._pax_global.update(_records(body))
            if sum(map(len, self._pax_global.values())) > self._limits.metadata:
                raise ArchiveError("the global headers cross the limit of one", hint=_HOSTILE)
        else:
            self._pax = _records(body)

    # -- sparse files ------------------------------------------------------------------------------------------------

    def _old_sparse(self, entry: Entry, block: bytes) -> None:
        entry.size = _number(block[483:495], "real size")
        entry.sparse = []
        self._take_pieces(entry, block[386:482])
        if block[482]:
            self._extended_map = entry
        else:
            self._begin_sparse(entry)

    def _more_pieces(self, block: bytes) -> None:
        entry = self._extended_map
        assert entry is not None
        self._take_pieces(entry, block[:504])
        if not block[504]:
            self._extended_map = None
            self._begin_sparse(entry)

    def _take_pieces(self, entry: Entry, fields: bytes) -> None:
        assert entry.sparse is not None
        for at in range(0, len(fields), 24):
            if not fields[at]:
                return
            entry.sparse.append((_number(fields[at : at + 12], "piece"), _number(fields[at + 12 : at + 24], "piece")))
        if len(entry.sparse) > _MAX_PIECES:
            raise ArchiveError(f"sparse file {entry.name!r} has more than {_MAX_PIECES} pieces", hint=_HOSTILE)

    def _pax_sparse(self, entry: Entry, pax: dict[bytes, bytes]) -> None:
        real = pax.get(b"GNU.sparse.realsize") or pax.get(b"GNU.sparse.size")
        if real is None:
            raise ArchiveError(f"sparse file {entry.name!r} without its size", hint=_CORRUPT)
        entry.size = _decimal(real, "real size")
        if pax.get(b"GNU.sparse.major") == b"1":
            self._sparse_entry = entry
            self._map_text = bytearray()
            self._map_in_data = True
            return
        if b"GNU.sparse.map" not in pax:
            raise ArchiveError(
                f"sparse file {entry.name!r} in pax form 0.0, which is not read", hint="use GNU tar 1.16+"
            )
        numbers = [_decimal(text, "piece") for text in pax[b"GNU.sparse.map"].split(b",")]
        self._set_pieces(entry, numbers)
        self._begin_sparse(entry)

    def _map_block(self, block: bytes) -> None:
        """Pax form 1.0: the list stands in front of the content, as decimal lines, padded to whole blocks."""
        self._map_text += block
        self._stored -= BLOCK
        lines = self._map_text.split(b"\n")
        count = _decimal(bytes(lines[0]), "number of pieces") if len(lines) > 1 else _MAX_PIECES
        if count > _MAX_PIECES or self._stored < 0 or len(lines[0]) > 20:
            raise ArchiveError(f"sparse file {self._sparse_entry.name!r} has a broken list of pieces", hint=_HOSTILE)
        if len(lines) > 2 * count + 1:
            self._map_in_data = False
            self._set_pieces(self._sparse_entry, [_decimal(bytes(line), "piece") for line in lines[1 : 2 * count + 1]])
            self._begin_sparse(self._sparse_entry)

    def _set_pieces(self, entry: Entry, numbers: list[int]) -> None:
        if len(numbers) % 2 or len(numbers) > 2 * _MAX_PIECES:
            raise ArchiveError(f"sparse file {entry.name!r} has a broken list of pieces", hint=_CORRUPT)
        entry.sparse = list(zip(numbers[::2], numbers[1::2], strict=True))

    def _begin_sparse(self, entry: Entry) -> None:
        end = 0
        for offset, length in entry.sparse or ():
            if offset < end or length < 0:
                raise ArchiveError(f"the pieces of sparse file {entry.name!r} overlap", hint=_CORRUPT)
            end = offset + length
        if end > entry.size:
            raise ArchiveError(f"a piece of sparse file {entry.name!r} lies behind its end", hint=_CORRUPT)
        self._begin(entry)


_CORRUPT: Final = "the stream was damaged, or the container's tar writes a format of its own"
_HOSTILE: Final = "if you trust the container, raise the limit by name"


def _is_header(block: bytes) -> bool:
    """Whether the checksum is right: the sum of all bytes, its own field taken for spaces."""
    try:
        return int(block[148:156].strip(b" \0"), 8) == sum(block) - sum(block[148:156]) + 256
    except ValueError:
        return False


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _ustar_name(block: bytes) -> bytes:
    name = _text(block[:100])
    if block[257:263] == b"ustar\0" and block[345]:
        return _text(block[345:500]) + b"/" + name
    return name


def _number(field: bytes, what: str) -> int:
    """A number of a header. Raises ArchiveError for none, and for a negative one."""
    first = field[0]
    if first & 0x80:
        if first & 0x40:
            raise ArchiveError(f"a negative {what} in a header", hint=_CORRUPT)
        return int.from_bytes(bytes([first & 0x3F]) + field[1:], "big")
    text = field.strip(b" \0")
    try:
        return int(text, 8) if text else 0
    except ValueError:
        raise ArchiveError(f"{field!r} is no {what} of a header", hint=_CORRUPT) from None


def _decimal(text: bytes, what: str) -> int:
    if not text.isdigit() or len(text) > 20:
        raise ArchiveError(f"{text[:40]!r} is no {what} of an extended header", hint=_CORRUPT)
    return int(text)


def _time(record: bytes | None, block: bytes) -> int:
    """Nanoseconds. Times before the epoch and nonsense become 0: a wrong time is no reason to refuse a file."""
    if record is not None:
        whole, _, part = record.partition(b".")
        if whole.isdigit() and len(whole) < 12 and (not part or part.isdigit()):
            return int(whole) * 10**9 + int((part + b"000000000")[:9])
        return 0
    if block[136] & 0xC0 == 0xC0:
        return 0
    seconds = _number(block[136:148], "time")
    return seconds * 10**9 if seconds < 1 << 40 else 0


def _records(body: bytes) -> dict[bytes, bytes]:
    """The records of a pax header: ``LENGTH KEY=VALUE\\n``, the length counting itself."""
    records = {}
    at = 0
    while at < len(body):
        match = _PAX_LENGTH.match(body, at)
        end = at + int(match[1]) if match else 0
        if match is None or end > len(body) or end <= match.end() or body[end - 1] != 0x0A:
            raise ArchiveError("an extended header that is no list of records", hint=_CORRUPT)
        key, equals, value = body[match.end() : end - 1].partition(b"=")
        if not equals:
            raise ArchiveError("an extended header with a record without value", hint=_CORRUPT)
        records[key] = value
        at = end
    return records

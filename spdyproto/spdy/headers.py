"""Header blocks: name/value pairs, compressed with one zlib stream per direction for the life of the connection.

Theory of operation. SYN_STREAM, SYN_REPLY and HEADERS share the stream (draft 3.1 section 2.6.10), so

* the order of compression is the order of sending: a block is compressed when its frame is queued, never later;
* every block that arrives is inflated, also when its frame is refused or ignored, or all later blocks are garbage;
* an error in one block ends the connection, since the shared state is unknown from there on.

The compressor uses a window of 4 KiB at memLevel 3: the dictionary (1423 bytes) fits, Kubernetes' headers are shorter
than 100 bytes, and a connection then costs 24 KiB instead of zlib's usual 256 KiB; the sizes are the same. Any SPDY
inflater, which has a window of 32 KiB, reads it. Level 6 gives the same sizes as Go's level 9 at a fifth of the time.
"""

from __future__ import annotations

import struct
import zlib

from spdyproto.errors import HeaderBlockError, LimitExceeded, LocalProtocolError
from spdyproto.limits import Limits
from spdyproto.spdy.dictionary import DICTIONARY
from spdyproto.types import Buffer, HeaderList, Policy

_U32 = struct.Struct(">I")
_pack_u32 = _U32.pack
_unpack_u32 = _U32.unpack_from

FORBIDDEN_IN_REPLY = frozenset({"connection", "keep-alive", "proxy-connection", "transfer-encoding"})
FORBIDDEN_IN_REQUEST = FORBIDDEN_IN_REPLY | {"host"}
"""Hop-by-hop names that must not occur (draft 3.1 sections 3.2.1, 3.2.2); spdystream ends the connection for them."""


def encode_pairs(headers: HeaderList, forbidden: frozenset[str], *, strict: bool = False) -> bytes:
    """The uncompressed form of a block. Names are lower-cased; values of a repeated name are joined by NUL.

    Raises ``LocalProtocolError`` for an empty or forbidden name and for a value that would not come back as it was.
    """
    values: dict[str, list[str]] = {}
    for name, value in headers:
        lowered = name.lower()
        if not lowered:
            raise LocalProtocolError("a SPDY header name must not be empty")
        if lowered in forbidden:
            raise LocalProtocolError(f"the header {lowered!r} must not be sent over SPDY")
        if "\x00" in value:
            raise LocalProtocolError(f"the value of {lowered!r} contains NUL; give several values as several pairs")
        values.setdefault(lowered, []).append(value)
    parts = [_pack_u32(len(values))]
    for name, items in values.items():
        if strict and len(items) > 1 and "" in items:
            raise LocalProtocolError(f"the header {name!r} has an empty value in its list")
        try:
            raw_name = name.encode("latin-1")
            raw_value = "\x00".join(items).encode("latin-1")
        except UnicodeEncodeError:
            raise LocalProtocolError(f"the header {name!r} has characters outside ISO 8859-1") from None
        parts += (_pack_u32(len(raw_name)), raw_name, _pack_u32(len(raw_value)), raw_value)
    return b"".join(parts)


def decode_pairs(block: bytes, limits: Limits, forbidden: frozenset[str], *, strict: bool) -> list[tuple[str, str]]:
    """The pairs of an inflated block, in order; a value with NULs gives one pair for each part.

    Raises ``HeaderBlockError`` or ``LimitExceeded``. In ``strict`` mode a repeated or empty name, or an empty part of a
    list, is an error as draft 3.1 section 2.6.10 demands; spdystream merges and accepts them.
    """
    if len(block) < 4:
        raise HeaderBlockError(f"header block of {len(block)} bytes has no pair count (4 bytes expected)")
    (count,) = _unpack_u32(block, 0)
    if count > limits.header_pairs:
        raise LimitExceeded(f"header block announces {count} pairs; the limit is {limits.header_pairs}")
    pairs: list[tuple[str, str]] = []
    seen: set[str] = set()
    position = 4
    for _ in range(count):
        name, position = _take_string(block, position)
        value, position = _take_string(block, position)
        if name != name.lower():
            raise HeaderBlockError(f"header name {name[:80]!r} is not lower case")
        if name in forbidden:
            raise HeaderBlockError(f"header {name!r} must not occur over SPDY")
        parts = value.split("\x00")
        if strict:
            if not name:
                raise HeaderBlockError("header with an empty name")
            if name in seen:
                raise HeaderBlockError(f"header name {name[:80]!r} occurs twice in one block")
            if len(parts) > 1 and "" in parts:
                raise HeaderBlockError(f"header {name[:80]!r} has an empty value in its list")
            seen.add(name)
        if len(pairs) + len(parts) > limits.header_pairs:
            raise LimitExceeded(f"header block holds more than {limits.header_pairs} values")
        pairs.extend((name, part) for part in parts)
    if position != len(block):
        raise HeaderBlockError(f"{len(block) - position} bytes follow the last pair of a header block")
    return pairs


def _take_string(block: bytes, position: int) -> tuple[str, int]:
    if len(block) - position < 4:
        raise HeaderBlockError("header block ends within a length")
    (length,) = _unpack_u32(block, position)
    position += 4
    if length > len(block) - position:
        raise HeaderBlockError(
            f"header block ends within a string: {length} bytes announced, {len(block) - position} left"
        )
    return block[position : position + length].decode("latin-1"), position + length


class HeaderCompressor:
    """The sending half of the shared compression. zlib's state is made at the first block: an idle end costs
    nothing."""

    def __init__(self, level: int = 6) -> None:
        self._level = level
        self._zlib: zlib._Compress | None = None

    def compress(self, block: bytes) -> bytes:
        """One block, ended by a sync flush so that the peer can inflate it at once."""
        if self._zlib is None:
            self._zlib = zlib.compressobj(self._level, zlib.DEFLATED, 12, 3, zlib.Z_DEFAULT_STRATEGY, DICTIONARY)
        return self._zlib.compress(block) + self._zlib.flush(zlib.Z_SYNC_FLUSH)


_HISTORY = 1024
"""Compressed bytes remembered so that a decompressor at rest can be made again. The replies of an exec are 70 bytes."""


class HeaderDecompressor:
    """The receiving half. ``inflate`` raises ``HeaderBlockError`` or ``LimitExceeded``; after either it is unusable.

    zlib keeps a window of 32 KiB, the most that an idle connection holds. So it can be put to ``rest``: only the blocks
    so far are kept then, and the state is made again from them if another one comes.
    """

    def __init__(self, limits: Limits) -> None:
        self._limit = limits.header_block
        self._zlib: zlib._Decompress | None = None
        self._history: bytes | None = b""
        """Every block so far; None once they are too many to be kept."""

    def inflate(self, block: Buffer) -> bytes:
        """The plain block of one frame; feeds the shared state."""
        if self._zlib is None:
            self._zlib = zlib.decompressobj(zlib.MAX_WBITS, zdict=DICTIONARY)
            self._zlib.decompress(self._history or b"")
        try:
            plain = self._zlib.decompress(block, self._limit + 1)
        except zlib.error as error:
            raise HeaderBlockError(f"header block does not inflate: {error}") from None
        if len(plain) > self._limit or self._zlib.unconsumed_tail:
            raise LimitExceeded(f"header block inflates to more than {self._limit} bytes")
        if self._zlib.eof:
            raise HeaderBlockError("header block ends the shared zlib stream, which must never end")
        if self._history is not None:
            fits = len(self._history) + len(block) <= _HISTORY
            self._history = self._history + bytes(block) if fits else None
        return plain

    def rest(self) -> None:
        """No block is expected for a while. Does nothing once there were too many to begin again."""
        if self._history is not None:
            self._zlib = None


class HeaderCodec:
    """Both halves, and which names are forbidden where."""

    def __init__(self, limits: Limits, policy: Policy) -> None:
        self._limits = limits
        self._strict = policy is Policy.STRICT
        self._compressor: HeaderCompressor | None = HeaderCompressor()
        self._decompressor = HeaderDecompressor(limits)

    def encode(self, headers: HeaderList, *, reply: bool) -> bytes:
        """Raises ``LocalProtocolError`` before the compression state changes."""
        if self._compressor is None:
            raise LocalProtocolError("no header block can follow end_of_headers(): the compression state is gone")
        forbidden = FORBIDDEN_IN_REPLY if reply else FORBIDDEN_IN_REQUEST
        plain = encode_pairs(headers, forbidden, strict=self._strict)
        if len(headers) > self._limits.header_pairs:
            raise LocalProtocolError(f"{len(headers)} header pairs; the limit is {self._limits.header_pairs}")
        if len(plain) > self._limits.header_block:
            raise LocalProtocolError(f"header block of {len(plain)} bytes; the limit is {self._limits.header_block}")
        return self._compressor.compress(plain)

    def end_sending(self) -> None:
        """Frees the compressor for good."""
        self._compressor = None

    def rest_receiving(self) -> None:
        """Frees the decompressor until another block comes."""
        self._decompressor.rest()

    def decode(self, block: Buffer, *, reply: bool) -> list[tuple[str, str]]:
        """The pairs of a block as it came. Raises ``HeaderBlockError`` or ``LimitExceeded``."""
        plain = self._decompressor.inflate(block)
        return decode_pairs(
            plain, self._limits, FORBIDDEN_IN_REPLY if reply else FORBIDDEN_IN_REQUEST, strict=self._strict
        )

"""A raw SPDY/3.1 peer: makes and reads frames with code of its own, to judge the engine and to break its rules.

Only the preset dictionary is shared with the engine, and that is pinned by its digest. Frames are plain tuples whose
first item names the type::

    ("SYN_STREAM", id, flags, headers, priority)   ("SYN_REPLY", id, flags, headers)   ("HEADERS", id, flags, headers)
    ("RST_STREAM", id, status)   ("PING", id)   ("GOAWAY", last good id, status)   ("WINDOW_UPDATE", id, delta)
    ("SETTINGS", flags, [(id, value, flags)...])   ("DATA", id, payload, flags)
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

from spdyproto.spdy.dictionary import DICTIONARY

Frame: TypeAlias = tuple[Any, ...]
Headers: TypeAlias = Mapping[str, str] | Sequence[tuple[str, str]]

FIN = 1
UNIDIRECTIONAL = 2


def u32(*numbers: int) -> bytes:
    return struct.pack(f">{len(numbers)}I", *numbers)


def control(kind: int, payload: bytes, *, flags: int = 0, version: int = 3, length: int | None = None) -> bytes:
    """A control frame; ``length`` may lie."""
    size = len(payload) if length is None else length
    return u32(0x80000000 | version << 16 | kind, flags << 24 | size) + payload


def data(stream_id: int, payload: bytes = b"", *, fin: bool = False, flags: int | None = None) -> bytes:
    flags = (FIN if fin else 0) if flags is None else flags
    return u32(stream_id, flags << 24 | len(payload)) + payload


def rst(stream_id: int, status: int = 5) -> bytes:
    return control(3, u32(stream_id, status))


def settings(entries: Sequence[tuple[int, int, int]], *, flags: int = 0, count: int | None = None) -> bytes:
    body = b"".join(u32(flag << 24 | key, value) for key, value, flag in entries)
    return control(4, u32(len(entries) if count is None else count) + body, flags=flags)


def ping(ping_id: int) -> bytes:
    return control(6, u32(ping_id))


def goaway(last_good: int = 0, status: int = 0) -> bytes:
    return control(7, u32(last_good, status))


def window_update(stream_id: int, delta: int) -> bytes:
    return control(9, u32(stream_id, delta))


def plain_block(headers: Headers) -> bytes:
    """An uncompressed name/value block, exactly as given: nothing is lower-cased, merged or checked."""
    pairs = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
    block = u32(len(pairs))
    for name, value in pairs:
        block += u32(len(name)) + name.encode("latin-1") + u32(len(value)) + value.encode("latin-1")
    return block


class RawPeer:
    """One end's compression state, both directions."""

    def __init__(self, level: int = 9, *, dictionary: bytes | None = DICTIONARY) -> None:
        if dictionary is None:
            self._deflate = zlib.compressobj(level, zlib.DEFLATED, 15, 9)
        else:
            self._deflate = zlib.compressobj(level, zlib.DEFLATED, 15, 9, zlib.Z_DEFAULT_STRATEGY, dictionary)
        self._inflate = zlib.decompressobj(15, zdict=DICTIONARY)
        self._rest = b""

    def compress(self, plain: bytes) -> bytes:
        return self._deflate.compress(plain) + self._deflate.flush(zlib.Z_SYNC_FLUSH)

    def block(self, headers: Headers = ()) -> bytes:
        return self.compress(plain_block(headers))

    def syn_stream(
        self, stream_id: int, headers: Headers = (), *, flags: int = 0, priority: int = 0, associated: int = 0
    ) -> bytes:
        head = u32(stream_id, associated) + bytes([priority << 5, 0])
        return control(1, head + self.block(headers), flags=flags)

    def syn_reply(self, stream_id: int, headers: Headers = (), *, flags: int = 0) -> bytes:
        return control(2, u32(stream_id) + self.block(headers), flags=flags)

    def headers(self, stream_id: int, headers: Headers = (), *, flags: int = 0) -> bytes:
        return control(8, u32(stream_id) + self.block(headers), flags=flags)

    def read(self, segments: Iterable[bytes | bytearray | memoryview] | bytes) -> list[Frame]:
        """The whole frames in what the engine sent; a part of a frame is kept for the next call."""
        self._rest += segments if isinstance(segments, bytes) else b"".join(segments)
        frames: list[Frame] = []
        while len(self._rest) >= 8:
            word, rest = struct.unpack_from(">II", self._rest)
            length, flags = rest & 0xFFFFFF, rest >> 24
            if len(self._rest) < 8 + length:
                break
            payload = self._rest[8 : 8 + length]
            self._rest = self._rest[8 + length :]
            frames.append(self._control(word, flags, payload) if word >> 31 else ("DATA", word, payload, flags))
        return frames

    @property
    def within_frame(self) -> bool:
        return bool(self._rest)

    def _control(self, word: int, flags: int, payload: bytes) -> Frame:
        assert word >> 16 & 0x7FFF == 3, "control frames carry version 3"
        kind = word & 0xFFFF
        if kind == 1:
            stream_id, associated, priority, slot = struct.unpack_from(">IIBB", payload)
            assert (associated, priority & 0x1F, slot) == (0, 0, 0), "unused fields are zero"
            return ("SYN_STREAM", stream_id, flags, self._pairs(payload[10:]), priority >> 5)
        if kind in (2, 8):
            (stream_id,) = struct.unpack_from(">I", payload)
            return ({2: "SYN_REPLY", 8: "HEADERS"}[kind], stream_id, flags, self._pairs(payload[4:]))
        if kind == 4:
            (count,) = struct.unpack_from(">I", payload)
            words = struct.unpack_from(f">{2 * count}I", payload, 4)
            assert len(payload) == 4 + 8 * count
            entries = [(key & 0xFFFFFF, value, key >> 24) for key, value in zip(words[::2], words[1::2], strict=True)]
            return ("SETTINGS", flags, entries)
        assert flags == 0, "no flags are defined for the other types"
        numbers = struct.unpack(f">{len(payload) // 4}I", payload)
        name = {3: "RST_STREAM", 6: "PING", 7: "GOAWAY", 9: "WINDOW_UPDATE"}[kind]
        assert len(numbers) == (1 if kind == 6 else 2)
        return (name, *numbers)

    def _pairs(self, block: bytes) -> list[tuple[str, str]]:
        plain = self._inflate.decompress(block)
        assert not self._inflate.eof
        (count,) = struct.unpack_from(">I", plain)
        position, strings = 4, []
        for _ in range(2 * count):
            (size,) = struct.unpack_from(">I", plain, position)
            strings.append(plain[position + 4 : position + 4 + size].decode("latin-1"))
            position += 4 + size
        assert position == len(plain)
        return list(zip(strings[::2], strings[1::2], strict=True))


def pieces(wire: bytes, size: int) -> list[bytes]:
    """``wire`` cut into pieces of ``size`` bytes."""
    return [wire[at : at + size] for at in range(0, len(wire), size)]


def cut_at(wire: bytes, positions: Iterable[int]) -> list[bytes]:
    """``wire`` cut at these positions; those beyond its end are ignored."""
    marks = [0, *sorted(position for position in positions if 0 <= position <= len(wire)), len(wire)]
    return [wire[a:b] for a, b in pairwise(marks)]

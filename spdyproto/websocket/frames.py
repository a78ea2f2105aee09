"""Frame headers as functions (RFC 6455 section 5.2)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from spdyproto.errors import FramingError
from spdyproto.websocket.constants import MAX_CONTROL, Opcode

_TWO = struct.Struct(">BB")
_FOUR = struct.Struct(">BBH")
_TEN = struct.Struct(">BBQ")
_OPCODES = frozenset(Opcode)

MAX_HEADER = 14


@dataclass(slots=True)
class FrameHeader:
    """A decoded header. ``key`` is None on an unmasked frame."""

    opcode: int
    fin: bool
    length: int
    key: bytes | None


def pack_header(opcode: int, length: int, *, fin: bool = True, key: bytes | None = None) -> bytes:
    """A header with the shortest form of the length; with ``key`` it says that the payload is masked, and holds it."""
    first = 0x80 | opcode if fin else opcode
    masked = 0x80 if key is not None else 0
    if length < 126:
        head = _TWO.pack(first, masked | length)
    elif length < 65536:
        head = _FOUR.pack(first, masked | 126, length)
    else:
        head = _TEN.pack(first, masked | 127, length)
    return head if key is None else head + key


def unpack_header(data: memoryview | bytearray, position: int, end: int) -> tuple[FrameHeader, int] | None:
    """The header at ``position`` and where its payload begins, or None while it is incomplete.

    Raises ``FramingError`` as soon as the bytes at hand break a rule, without waiting for the rest.
    """
    if end - position < 2:
        if end - position == 1:
            _check_first(data[position])
        return None
    first, second = data[position], data[position + 1]
    _check_first(first)
    opcode, fin, length = first & 0x0F, first >= 0x80, second & 0x7F
    if opcode >= Opcode.CLOSE and (length > MAX_CONTROL or not fin):
        what = f"of more than {MAX_CONTROL} bytes" if length > MAX_CONTROL else "in fragments"
        raise FramingError(f"a control frame {what}")
    position += 2
    if length >= 126:
        size = 2 if length == 126 else 8
        if end - position < size:
            return None
        length = int.from_bytes(data[position : position + size], "big")
        if length < (126 if size == 2 else 65536):
            raise FramingError(f"a length of {length} in {size} bytes; the shortest form is required")
        if length >> 63:
            raise FramingError("a length with the top bit set")
        position += size
    key = None
    if second & 0x80:
        if end - position < 4:
            return None
        key = bytes(data[position : position + 4])
        position += 4
    return FrameHeader(opcode, fin, length, key), position


def _check_first(first: int) -> None:
    if first & 0x70:
        raise FramingError("a reserved bit is set, and no extension was agreed on")
    if first & 0x0F not in _OPCODES:
        raise FramingError(f"opcode {first & 0x0F} is reserved")

"""The XOR of RFC 6455 section 5.3, behind one function.

Every byte that a client sends goes through it, and it costs plain Python three times what TLS costs: it is the
ceiling of uploads over WebSocket, and the reason why bulk uploads prefer SPDY, which has no mask. Strategies,
measured on 32 KiB (``benchmarks/micro``): one big integer of the whole message 0.3-0.5 GB/s, four strided
``translate`` 0.5, big integers in pieces that stay in the processor's cache 0.6, numpy 10, a C function 38. The plain
path is the third. An accelerator is used when it can be imported (the ``fast`` extra brings numpy); all give the same
bytes, which a self-test checks at import.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from spdyproto.types import Buffer

Masker: TypeAlias = Callable[[Buffer, bytes], Buffer]
"""(data, key of four bytes) -> data XOR the repeated key, in a new buffer."""

_PIECE: Final = 8192
"""Bytes of one big integer: three of them (data, key, result) fit the first-level cache."""

_REPEAT: Final = int.from_bytes(b"\x01\x00\x00\x00" * (_PIECE // 4), "little")
"""A key times this is the key repeated over a piece."""


def mask_plain(data: Buffer, key: bytes) -> bytes:
    """Without any dependency."""
    view = memoryview(data).cast("B")
    size = len(view)
    number = int.from_bytes(key, "little") * _REPEAT
    if size <= _PIECE:
        return _xor(view, number, size)
    parts = []
    for start in range(0, size - size % _PIECE, _PIECE):
        piece = int.from_bytes(view[start : start + _PIECE], "little") ^ number
        parts.append(piece.to_bytes(_PIECE, "little"))
    rest = size % _PIECE
    if rest:
        parts.append(_xor(view[size - rest :], number, rest))
    return b"".join(parts)


def _xor(view: memoryview, number: int, size: int) -> bytes:
    number &= (1 << 8 * size) - 1
    return (int.from_bytes(view, "little") ^ number).to_bytes(size, "little")


def _with_numpy() -> Masker:
    numpy: Any = importlib.import_module("numpy")

    def mask_numpy(data: Buffer, key: bytes) -> Buffer:
        """Four bytes at a time."""
        view = memoryview(data).cast("B")
        size = len(view)
        if size < 128:
            return mask_plain(view, key)
        whole = size & ~3
        result = bytearray(size)
        word = numpy.frombuffer(key, numpy.uint32)[0]
        source = numpy.frombuffer(view[:whole], numpy.uint32)
        numpy.bitwise_xor(source, word, out=numpy.frombuffer(memoryview(result)[:whole], numpy.uint32))
        if size > whole:
            result[whole:] = bytes(a ^ b for a, b in zip(view[whole:], key, strict=False))
        return result

    return mask_numpy


def _with_websockets() -> Masker:
    function: Masker = importlib.import_module("websockets.speedups").apply_mask
    return function


def _agrees(masker: Masker) -> bool:
    """The self-test: odd lengths, and around the sizes where a strategy changes."""
    key = b"\x00\x5a\xff\x81"
    for size in (0, 1, 2, 3, 5, 64, 127, 128, 129, _PIECE, _PIECE + 3):
        data = bytes(i * 7 & 0xFF for i in range(size))
        expected = bytes(byte ^ key[i & 3] for i, byte in enumerate(data))
        if bytes(masker(data, key)) != expected:
            return False
    return True


def choose_masker() -> tuple[str, Masker]:
    """The fastest strategy that can be imported and passes the self-test: its name and the function."""
    for name, make in (("websockets.speedups", _with_websockets), ("numpy", _with_numpy)):
        try:
            masker = make()
        except (ImportError, AttributeError):
            continue
        if _agrees(masker):
            return name, masker
    return "plain", mask_plain


_CHOICE: list[tuple[str, Masker]] = []


def accelerator() -> str:
    """Which strategy ``apply_mask`` uses."""
    if not _CHOICE:
        _CHOICE.append(choose_masker())
    return _CHOICE[0][0]


def apply_mask(data: Buffer, key: bytes, offset: int = 0) -> Buffer:
    """``data`` XOR the key, as if ``offset`` bytes had gone before. The choice of strategy is made at the first call,
    so that importing this module imports no accelerator."""
    if offset & 3:
        offset &= 3
        key = key[offset:] + key[:offset]
    if not _CHOICE:
        _CHOICE.append(choose_masker())
    return _CHOICE[0][1](data, key)

"""The XOR of RFC 6455 section 5.3, behind one function.

Every byte that a client sends goes through it, and in plain Python it costs more than TLS does: it is the ceiling of
uploads over WebSocket, and the reason why bulk uploads prefer SPDY, which has no mask. Strategies, in GB/s on messages
of 64 KiB: one big integer of the whole message 0.57, big integers in pieces that stay in the processor's cache 0.74,
one table for each of four lanes 0.96, numpy 12.6, the C function of websockets 45. The plain path is the third. An
accelerator is used when one can be imported (the ``fast`` extra brings numpy); all strategies give the same bytes,
which a self-test checks before one is taken. A whole upload, TLS and socket included, then costs 1.65 (plain), 0.58
(numpy) or 0.53 CPU seconds per GiB, beside 0.65 of ``SSLSocket.sendall`` with ready bytes. ``python -m
benchmarks.micro.masking`` measures all of these; the numbers are of Python 3.11 on an AMD EPYC.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from spdyproto.types import Buffer

Masker: TypeAlias = Callable[[Buffer, bytes], Buffer]
"""(data, key of four bytes) -> data XOR the repeated key, in a new buffer."""

LARGE: Final = 2048
"""Bytes from which on an accelerator is worth its calls, and the time that importing it takes."""

_SHORT: Final = 384
"""Bytes up to which one big integer is faster than four lanes."""

_WRITTEN_OUT: Final = 65536
"""Bytes of a key written out: they stay in the processor's cache."""

_ONES: Final = int.from_bytes(b"\x01" * 256, "little")
_EVERY: Final = int.from_bytes(range(256), "little")
_TABLES: Final = tuple((_EVERY ^ _ONES * byte).to_bytes(256, "little") for byte in range(256))
"""For each byte of a key: the table by which ``translate`` XORs with it."""


def mask_plain(data: Buffer, key: bytes) -> Buffer:
    """Without any dependency: every fourth byte meets the same byte of the key, so that four translations do it."""
    size = len(data)
    if size <= _SHORT:
        repeated = int.from_bytes((key * (size // 4 + 1))[:size], "little")
        return (int.from_bytes(data, "little") ^ repeated).to_bytes(size, "little")
    result = bytearray(data)
    for lane in range(4):
        result[lane::4] = result[lane::4].translate(_TABLES[key[lane]])
    return result


def _with_websockets() -> Masker:
    masker: Masker = importlib.import_module("websockets.speedups").apply_mask
    return masker


def _with_numpy() -> Masker:
    numpy: Any = importlib.import_module("numpy")
    from_buffer, empty, xor, byte = numpy.frombuffer, numpy.empty, numpy.bitwise_xor, numpy.uint8

    def mask_numpy(data: Buffer, key: bytes) -> Buffer:
        """Byte by byte with the key written out: numpy does that with vector instructions wherever the data begins, but
        words only where they are aligned."""
        size = len(data)
        source = from_buffer(data, byte)
        if size <= _WRITTEN_OUT:
            return memoryview(xor(source, from_buffer(key * (size // 4 + 1), byte, size)))
        written = from_buffer(key * (_WRITTEN_OUT // 4), byte)
        result = empty(size, byte)
        for start in range(0, size, _WRITTEN_OUT):
            piece = source[start : start + _WRITTEN_OUT]
            xor(piece, written[: len(piece)], result[start : start + _WRITTEN_OUT])
        return memoryview(result)

    return mask_numpy


_ACCELERATORS: Final[dict[str, Callable[[], Masker]]] = {"websockets.speedups": _with_websockets, "numpy": _with_numpy}
"""Fastest first."""


def load_masker(name: str) -> Masker:
    """A strategy by its name: ``plain``, ``numpy`` or ``websockets.speedups``. Raises ImportError where it is not
    installed, KeyError for another name."""
    return mask_plain if name == "plain" else _ACCELERATORS[name]()


def agrees(masker: Masker) -> bool:
    """The self-test: odd sizes, and data that is not aligned."""
    key = b"\x00\x5a\xff\x81"
    buffer = memoryview(bytes(i * 7 & 0xFF for i in range(LARGE + 64)))
    for start in (0, 1):
        for size in (0, 1, 2, 3, 5, 64, 127, 128, 129, LARGE, LARGE + 7):
            data = buffer[start : start + size]
            if bytes(masker(data, key)) != bytes(byte ^ key[i & 3] for i, byte in enumerate(data)):
                return False
    return True


def choose_masker() -> tuple[str, Masker]:
    """The fastest strategy that can be imported and passes the self-test: its name and the function."""
    for name in _ACCELERATORS:
        try:
            masker = load_masker(name)
            right = agrees(masker)
        except Exception:  # a broken installation raises anything, and there is always the plain strategy
            continue
        if right:
            return name, masker
    return "plain", mask_plain


_CHOICE: list[tuple[str, Masker]] = []


def accelerator() -> str:
    """Which strategy ``apply_mask`` uses for large data."""
    if not _CHOICE:
        _CHOICE.append(choose_masker())
    return _CHOICE[0][0]


def use_masker(name: str) -> None:
    """Takes the strategy of that name from now on, in all connections, whatever is faster. Raises as ``load_masker``
    does."""
    _CHOICE[:] = [(name, load_masker(name))]


def apply_mask(data: Buffer, key: bytes, offset: int = 0) -> Buffer:
    """``data`` (bytes, or a view of bytes) XOR the key, as if ``offset`` bytes had gone before.

    The strategy is chosen when large data first comes: neither importing this module nor an interactive session loads
    an accelerator.
    """
    if offset & 3:
        offset &= 3
        key = key[offset:] + key[:offset]
    if len(data) < LARGE:
        return mask_plain(data, key)
    if not _CHOICE:
        _CHOICE.append(choose_masker())
    return _CHOICE[0][1](data, key)

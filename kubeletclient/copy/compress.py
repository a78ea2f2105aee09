"""Compression on the way, for slow networks: by the tools of the container there, by Python's here."""

from __future__ import annotations

import binascii
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from kubeletclient.copy.errors import ArchiveError, NoStrategy
from kubeletclient.copy.remote import Tools

__all__ = [
    "base64_lines",
    "base64_reader",
    "check_compression",
    "compressed",
    "inflater",
    "packer",
    "unpacker",
]

_GZIP: Final = 31  # window bits: 15, and 16 for the gzip wrapper
_PIECE: Final = 1 << 20
"""Bytes that one step of inflating may make: a few bytes can stand for any number of zeros."""


def check_compression(compression: str | None, tools: Tools) -> None:
    """Raises NoStrategy when one of the sides cannot do it."""
    if compression is None:
        return
    if compression not in tools.names:
        raise NoStrategy(f"the container has no {compression}", hint="copy without --compress, or with another one")
    if compression == "zstd":
        _zstandard()


def packer(compression: str | None) -> str:
    """What a script in the container appends to a command to compress its output."""
    return {None: "", "gzip": " | gzip -1 -c", "zstd": " | zstd -1 -q -c"}[compression]


def unpacker(compression: str | None) -> str:
    """What a script in the container puts in front of a command to inflate its input."""
    return {None: "", "gzip": "gzip -dc | ", "zstd": "zstd -dqc | "}[compression]


def compressed(pieces: Iterable[memoryview | bytes], compression: str | None) -> Iterator[memoryview | bytes]:
    """The pieces, compressed; empty results are passed over by whoever sends them."""
    if compression is None:
        yield from pieces
        return
    packing: Any = (
        zlib.compressobj(1, zlib.DEFLATED, _GZIP)
        if compression == "gzip"
        else _zstandard().ZstdCompressor(1).compressobj()
    )
    for piece in pieces:
        yield packing.compress(piece)
    yield packing.flush()


def inflater(take: Callable[[memoryview], object], compression: str | None) -> Callable[[memoryview], object]:
    """A function that inflates what it is given and hands it to ``take``, at most a MiB at a time."""
    if compression is None:
        return take
    if compression == "zstd":
        return _Zstd(take).feed
    return _Gzip(take).feed


def base64_lines(pieces: Iterable[memoryview | bytes]) -> Iterator[bytes]:
    """The pieces as text; all but the last are a multiple of three bytes long."""
    for piece in pieces:
        yield binascii.b2a_base64(piece)


def base64_reader(take: Callable[[memoryview], object]) -> Callable[[memoryview], object]:
    """A function that decodes the text it is given and hands it to ``take``."""
    return _Base64(take).feed


class _Base64:
    def __init__(self, take: Callable[[memoryview], object]) -> None:
        self._take = take
        self._carry = b""

    def feed(self, view: memoryview) -> None:
        text = self._carry + bytes(view).replace(b"\n", b"")
        whole = len(text) // 4 * 4
        self._carry = text[whole:]
        if whole:
            self._take(memoryview(binascii.a2b_base64(text[:whole])))


class _Gzip:
    def __init__(self, take: Callable[[memoryview], object]) -> None:
        self._take = take
        self._inflate = zlib.decompressobj(_GZIP)

    def feed(self, data: memoryview) -> None:
        rest: memoryview | bytes = data
        while len(rest):
            try:
                plain = self._inflate.decompress(rest, _PIECE)
            except zlib.error as error:
                raise ArchiveError(f"the container's gzip sent no gzip: {error}") from None
            if plain:
                self._take(memoryview(plain))
            rest = self._inflate.unconsumed_tail
            if self._inflate.eof:
                rest = self._inflate.unused_data
                self._inflate = zlib.decompressobj(_GZIP)


class _Zstd:
    def __init__(self, take: Callable[[memoryview], object]) -> None:
        self._take = take
        self._writer = _zstandard().ZstdDecompressor().stream_writer(self)

    def write(self, data: bytes) -> int:
        self._take(memoryview(data))
        return len(data)

    def feed(self, data: memoryview) -> None:
        self._writer.write(data)


def _zstandard() -> Any:  # noqa: ANN401 - a module that may be missing
    try:
        import zstandard
    except ImportError:
        raise NoStrategy("zstd needs the zstd extra here: pip install 'kubewire[zstd]'", hint="or use gzip") from None
    return zstandard

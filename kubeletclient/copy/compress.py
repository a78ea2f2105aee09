"""Compression on the way, for slow networks: by the tools of the container there, by Python's here."""

from __future__ import annotations

import binascii
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Protocol

from kubeletclient.copy.errors import ArchiveError, NoStrategy
from kubeletclient.copy.remote import Tools

__all__ = [
    "Inflater",
    "base64_lines",
    "base64_reader",
    "check_compression",
    "compressed",
    "inflater",
    "packed",
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


def packed(body: str, compression: str | None) -> str:
    """A script whose output is that of ``body``, compressed, and whose status, too: a pipe has that of its last
    command, so that of the first goes around it, through descriptor 3.
    """
    if compression is None:
        return body
    tool = {"gzip": "gzip -1 -c", "zstd": "zstd -1 -q -c"}[compression]
    return f"""{{ {{ {{ (
{body}
); echo $? >&3; }} | {tool} >&4; }} 3>&1 | {{ read -r s; exit "$s"; }}; }} 4>&1"""


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


class Inflater(Protocol):
    """Takes what came, and hands on what it stands for."""

    def __call__(self, data: memoryview) -> None:
        """Take the next bytes. Raises ArchiveError for what cannot be inflated."""

    def close(self) -> None:
        """All has come. Raises ArchiveError where the stream had not ended."""


def inflater(take: Callable[[memoryview], object], compression: str | None) -> Inflater:
    """Inflates what it is given and hands it to ``take``, at most a MiB at a time."""
    if compression is None:
        return _Plain(take)
    return _Zstd(take) if compression == "zstd" else _Gzip(take)


def base64_lines(pieces: Iterable[memoryview | bytes]) -> Iterator[bytes]:
    """The pieces as text; all but the last are a multiple of three bytes long."""
    for piece in pieces:
        yield binascii.b2a_base64(piece)


def base64_reader(take: Callable[[memoryview], object]) -> Inflater:
    """Decodes the text it is given and hands it to ``take``."""
    return _Base64(take)


def _cut_off(what: str) -> ArchiveError:
    return ArchiveError(
        f"the container's {what} came without its end, though the command succeeded",
        hint="its runtime loses output; another attempt may get all of it",
    )


class _Plain:
    def __init__(self, take: Callable[[memoryview], object]) -> None:
        self._take = take

    def __call__(self, data: memoryview) -> None:
        self._take(data)

    def close(self) -> None:
        pass  # nothing in it tells its end


class _Base64:
    def __init__(self, take: Callable[[memoryview], object]) -> None:
        self._take = take
        self._carry = b""

    def __call__(self, data: memoryview) -> None:
        text = self._carry + bytes(data).replace(b"\n", b"")
        whole = len(text) // 4 * 4
        self._carry = text[whole:]
        if whole:
            try:
                plain = binascii.a2b_base64(text[:whole])
            except binascii.Error as error:
                raise ArchiveError(f"the container's base64 sent no base64: {error}") from None
            self._take(memoryview(plain))

    def close(self) -> None:
        if self._carry:
            raise _cut_off("base64")


class _Gzip:
    def __init__(self, take: Callable[[memoryview], object]) -> None:
        self._take = take
        self._inflate = zlib.decompressobj(_GZIP)
        self._ended = False

    def __call__(self, data: memoryview) -> None:
        rest: memoryview | bytes = data
        while len(rest):
            try:
                plain = self._inflate.decompress(rest, _PIECE)
            except zlib.error as error:
                raise ArchiveError(f"the container's gzip sent no gzip: {error}") from None
            if plain:
                self._take(memoryview(plain))
            rest = self._inflate.unconsumed_tail
            self._ended = self._inflate.eof
            if self._ended:
                rest = self._inflate.unused_data
                self._inflate = zlib.decompressobj(_GZIP)

    def close(self) -> None:
        if not self._ended:
            raise _cut_off("gzip")


class _Writable:
    """Apart from its reader, which must not look like a file: those are written to, not called."""

    def __init__(self, reader: _Zstd) -> None:
        self._reader = reader

    def write(self, data: bytes) -> int:
        self._reader.hand_on(memoryview(data))
        return len(data)


class _Zstd:
    def __init__(self, take: Callable[[memoryview], object]) -> None:
        self._take = take
        self._module = _zstandard()
        self._writer = self._module.ZstdDecompressor().stream_writer(_Writable(self))
        self._came = False

    def hand_on(self, data: memoryview) -> None:
        self._take(data)

    def __call__(self, data: memoryview) -> None:
        self._came = self._came or len(data) > 0
        try:
            self._writer.write(data)
        except self._module.ZstdError as error:
            raise ArchiveError(f"the container's zstd sent no zstd: {error}") from None

    def close(self) -> None:
        # The writer does not tell whether a frame is open. One more frame comes out as itself only where none is.
        mark, seen = b"the end", bytearray()
        self._take = seen.extend
        try:
            self._writer.write(self._module.ZstdCompressor().compress(mark))
        except self._module.ZstdError:
            seen.clear()
        if not self._came or seen != mark:
            raise _cut_off("zstd")


def _zstandard() -> Any:  # noqa: ANN401 - a module that may be missing
    try:
        import zstandard
    except ImportError:
        raise NoStrategy("zstd needs the zstd extra here: pip install 'kubewire[zstd]'", hint="or use gzip") from None
    return zstandard

"""Digests that both sides can compute: here while the bytes pass by, there by the tools of the container.

POSIX ``cksum`` is a CRC-32 with the polynomial of zlib's, taken bit by bit from the other end, and with the length of
the content behind it (POSIX.1-2017, "cksum"). So zlib computes it: over bytes whose bits are reversed, and the result
reversed. It catches every accident on the way; it is no defence against somebody who forges content, which is what
the others are for.
"""

from __future__ import annotations

import hashlib
import zlib
from typing import Final, Protocol

__all__ = ["ALGORITHMS", "Checksum", "new_checksum"]

_REVERSED: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_ZEROS: Final = bytes(1 << 20)


class Checksum(Protocol):
    """A running digest."""

    def update(self, data: memoryview | bytes, /) -> None:
        """Add content."""

    def hexdigest(self) -> str:
        """As the tool prints it."""


class Cksum:
    """As ``cksum`` computes it; ``hexdigest`` is its decimal number."""

    __slots__ = ("_crc", "_size")

    def __init__(self) -> None:
        self._crc = 0xFFFFFFFF  # zlib inverts what it is given
        self._size = 0

    def update(self, data: memoryview | bytes, /) -> None:
        """Add content."""
        self._size += len(data)
        self._crc = zlib.crc32(bytes(data).translate(_REVERSED), self._crc)

    def hexdigest(self) -> str:
        """The decimal number in the first column of ``cksum``."""
        length = self._size.to_bytes((self._size.bit_length() + 7) // 8, "little").translate(_REVERSED)
        crc = zlib.crc32(length, self._crc) ^ 0xFFFFFFFF
        return str(int(f"{crc:032b}"[::-1], 2) ^ 0xFFFFFFFF)


ALGORITHMS: Final = {
    "cksum": "cksum",
    "sha256": "sha256sum",
    "sha512": "sha512sum",
    "sha1": "sha1sum",
    "md5": "md5sum",
}
"""Names of digests, and the tool of the container that computes each."""


def new_checksum(algorithm: str) -> Checksum:
    """A fresh digest. Raises ValueError for an unknown name."""
    if algorithm == "cksum":
        return Cksum()
    if algorithm not in ALGORITHMS:
        raise ValueError(f"verify: expected one of {', '.join(ALGORITHMS)}, none or auto, not {algorithm!r}")
    return hashlib.new(algorithm, usedforsecurity=False)


def add_zeros(checksum: Checksum, count: int) -> None:
    """Add a hole."""
    while count > 0:
        step = min(count, len(_ZEROS))
        checksum.update(_ZEROS if step == len(_ZEROS) else memoryview(_ZEROS)[:step])
        count -= step

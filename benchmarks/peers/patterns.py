"""How frames, of SPDY or of WebSocket, are cut into TLS records, by sender.

The receiver's cost per byte depends on it more than on anything else: without read-ahead OpenSSL spends two system
calls on each record. A limit must therefore be taken over the same records as the variant that is compared with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

BATCH: Final = 256 * 1024
"""Plaintext that a peer encrypts before it hands it to the socket in one piece."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """One frame: its payload, the lengths of the records that carry header and payload, and the header's size."""

    payload: int
    records: tuple[int, ...]
    who: str
    header: int = 8

    def __post_init__(self) -> None:
        if sum(self.records) != self.payload + self.header:
            raise ValueError(f"the records {self.records} do not hold a frame of {self.payload} bytes")

    @property
    def frames_per_batch(self) -> int:
        """Frames that a peer prepares at once."""
        return max(1, BATCH // (self.payload + self.header))


PATTERNS: Final = {
    "go-32k": Pattern(32768, (4, 4, 16384, 16384), "a Go server (moby/spdystream on crypto/tls, io.Copy's 32 KiB)"),
    "joined-32k": Pattern(32760, (16384, 16384), "a sender that fits frames to records"),
    "joined-64k": Pattern(65528, (16384,) * 4, "the fake kubelet and our client"),
    "go-1k": Pattern(1024, (4, 4, 1024), "a Go server whose command writes 1 KiB at a time"),
    "ws-32k": Pattern(
        32768, (4096, 16384, 12293), "a Go server over WebSocket (x/net/websocket through a buffer of 4 KiB)", 5
    ),
    "joined-1k": Pattern(1024, (1032,), "the same, one record for a frame"),
}


def cut_into_records(frames: bytes, lengths: Sequence[int]) -> list[memoryview]:
    """``frames`` cut by these lengths, over and over; the last piece may be shorter."""
    view, pieces, start = memoryview(frames), [], 0
    while start < len(view):
        for length in lengths:
            if start < len(view):
                pieces.append(view[start : start + length])
                start += length
    return pieces

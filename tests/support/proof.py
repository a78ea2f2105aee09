"""What the bytes that a client was given prove, read off them without the project's own engine."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["Dialogue", "read"]

_FIN = 0x01
_RST_STREAM, _GOAWAY = 3, 7


@dataclass
class Dialogue:
    """The server's side of a session: payload by stream id, the streams it ended, and whether it said goodbye."""

    payload: dict[int, bytes] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    goaway: bool = False

    def complete(self, version: int, outputs: set[int]) -> bool:
        """Whether a client of protocol `version` knows now how the command ended. The error stream has id 1.

        v4: a status came and every output ended; GOAWAY ends all of them. Before: every stream ended. v1 servers reset
        the error stream before the command runs, so there it is GOAWAY that ends it.
        """
        if version >= 4:
            return _is_json(self.payload.get(1, b"")) and (self.goaway or outputs <= self.ended)
        return outputs <= self.ended and (self.goaway if version == 1 else 1 in self.ended)


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def read(wire: bytes) -> Dialogue:
    """The dialogue in `wire`, which begins with the head of the HTTP answer and may end anywhere."""
    told = Dialogue()
    head, blank, frames = wire.partition(b"\r\n\r\n")
    for first, flags, body, whole in _frames(frames if head.startswith(b"HTTP/1.1 101") and blank else b""):
        if first >> 31 == 0:
            told.payload[first] = told.payload.get(first, b"") + body
            if whole and flags & _FIN:
                told.ended.add(first)
        elif whole and first & 0xFFFF == _RST_STREAM:
            told.ended.add(struct.unpack(">I", body[:4])[0])
        elif whole and first & 0xFFFF == _GOAWAY:
            told.goaway = True
    return told


def _frames(wire: bytes) -> Iterator[tuple[int, int, bytes, bool]]:
    """First word, flags, body and whether it is whole, of each frame."""
    position = 0
    while len(wire) - position >= 8:
        first, rest = struct.unpack_from(">II", wire, position)
        end = position + 8 + (rest & 0xFFFFFF)
        yield first, rest >> 24, wire[position + 8 : end], end <= len(wire)
        position = end

"""A raw WebSocket peer: makes and reads frames with code of its own, to judge the engine and break its rules.

Frames are read as plain tuples ``(opcode, fin, payload, key)``; events are told as plain tuples whose first item names
the event.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from spdyproto.websocket.events import ConnectionTerminated, Event, MessageChunk

Frame: TypeAlias = tuple[int, bool, bytes, bytes | None]
Told: TypeAlias = tuple[Any, ...]

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
KEY = b"\x37\xfa\x21\x3d"


@dataclass(frozen=True)
class Blob:
    """Payload by its recipe, so that a failing example can be shown."""

    size: int
    seed: int

    def __bytes__(self) -> bytes:
        return bytes((index * self.seed + self.size) & 0xFF for index in range(min(self.size, 256))) + bytes(
            max(0, self.size - 256)
        )

    def __len__(self) -> int:
        return self.size


def xor(data: bytes, key: bytes) -> bytes:
    """The definition in RFC 6455 section 5.3, letter by letter."""
    return bytes(byte ^ key[index % 4] for index, byte in enumerate(data))


def header(
    opcode: int, length: int, *, fin: bool = True, rsv: int = 0, masked: bool = False, form: int | None = None
) -> bytes:
    """The first bytes of a frame, without its key; ``form`` is the size of the length field where it shall not be the
    shortest: 7, 16 or 64 bits."""
    if form is None:
        form = 7 if length < 126 else 16 if length < 65536 else 64
    first = fin << 7 | rsv << 4 | opcode
    mask = masked << 7
    if form == 7:
        return bytes((first, mask | length))
    return bytes((first, mask | (126 if form == 16 else 127))) + length.to_bytes(form // 8, "big")


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    key: bytes | None = None,
    rsv: int = 0,
    form: int | None = None,
    length: int | None = None,
) -> bytes:
    """One frame; ``length`` may lie."""
    size = len(payload) if length is None else length
    head = header(opcode, size, fin=fin, rsv=rsv, masked=key is not None, form=form)
    return head + payload if key is None else head + key + xor(payload, key)


def close(code: int | None = 1000, reason: bytes = b"", *, key: bytes | None = None) -> bytes:
    return frame(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason, key=key)


def read(segments: Iterable[bytes | bytearray | memoryview] | bytes) -> list[Frame]:
    """All frames in what an engine sent, which must be whole frames in the shortest form."""
    data = segments if isinstance(segments, bytes) else b"".join(segments)
    frames: list[Frame] = []
    at = 0
    while at < len(data):
        first, second = data[at], data[at + 1]
        assert not first & 0x70, "no reserved bit is ever sent"
        length, start = second & 0x7F, at + 2
        if length > 125:
            start += 2 if length == 126 else 8
            smallest = 126 if length == 126 else 65536
            length = int.from_bytes(data[at + 2 : start], "big")
            assert length >= smallest, "lengths are sent in their shortest form"
        key = data[start : start + 4] if second & 0x80 else None
        start += 4 if key is not None else 0
        payload = data[start : start + length]
        assert len(payload) == length, "what was sent ends with a whole frame"
        frames.append((first & 15, first >= 0x80, payload if key is None else xor(payload, key), key))
        at = start + length
    return frames


def sent(segments: Iterable[bytes | bytearray | memoryview] | bytes) -> list[tuple[int, bytes]]:
    """Opcode and payload of what an engine sent: every frame of it final."""
    frames = read(segments)
    assert all(fin for _, fin, _, _ in frames), "nothing is ever fragmented"
    return [(opcode, payload) for opcode, _, payload, _ in frames]


def told(event: Event) -> Told:
    """The event as a tuple of plain values, its payload copied (a view dies with its buffer)."""
    name = type(event).__name__
    if isinstance(event, MessageChunk):
        return (name, event.opcode, bytes(event.data), event.first, event.last, event.frame_start)
    if isinstance(event, ConnectionTerminated):
        return (name, type(event.error).__name__, str(event.error))
    return (name, *(getattr(event, field) for field in type(event).__slots__))


def tell(events: Iterable[Event]) -> list[Told]:
    return [told(event) for event in events]


def merged(events: Iterable[Told]) -> list[Told]:
    """Adjacent pieces of one frame as one event: how they were cut on the way means nothing."""
    result: list[Told] = []
    for event in events:
        last = result[-1] if result else ("",)
        if event[0] == last[0] == "MessageChunk" and not event[5]:
            result[-1] = (event[0], last[1], last[2] + event[2], last[3], event[4], last[5])
        else:
            result.append(event)
    return result


def messages(events: Iterable[Told]) -> list[tuple[int, bytes]]:
    """Opcode and payload of the messages that are whole."""
    result: list[tuple[int, bytes]] = []
    payload = b""
    for event in events:
        if event[0] == "MessageChunk":
            payload = payload + event[2] if not event[3] else event[2]
            if event[4]:
                result.append((event[1], payload))
    return result

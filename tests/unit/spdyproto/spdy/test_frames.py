"""Frames as functions: our bytes against the golden ones, and what is no frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from spdyproto.errors import FramingError, LimitExceeded
from spdyproto.spdy import frames
from support import wire
from support.vectors import VECTORS, Vector

GOLDEN = {vector.name: vector for vector in VECTORS}
BLOCK = GOLDEN["syn-stream"].wire[18:]


def by_type(*types: str) -> list[Any]:
    return [
        pytest.param(vector, id=vector.name)
        for vector in GOLDEN.values()
        if len(vector.frames) == 1
        and vector.frames[0]["type"] in types
        and not vector.frames[0].get("slot")  # always 0 in what we send
    ]


def packed(frame: dict[str, Any], payload: bytes) -> bytes:
    """What our functions make of the described frame; header blocks are taken from the vector itself."""
    kind, flags = frame["type"], frame["flags"]
    stream_id = frame.get("stream_id", 0)
    if kind == "SYN_STREAM":
        associated, priority = frame["associated_to"], frame["priority"]
        block = payload[10:]
        return frames.pack_syn_stream(stream_id, block, flags=flags, associated_to=associated, priority=priority)
    if kind == "SYN_REPLY":
        return frames.pack_syn_reply(stream_id, payload[4:], flags=flags)
    if kind == "HEADERS":
        return frames.pack_headers(stream_id, payload[4:], flags=flags)
    if kind == "RST_STREAM":
        return frames.pack_rst_stream(stream_id, frame["status"])
    if kind == "SETTINGS":
        entries = [(key, value, flag) for flag, key, value in frame["entries"]]
        return frames.pack_settings(entries, clear=bool(flags))
    if kind == "PING":
        return frames.pack_ping(frame["ping_id"])
    if kind == "GOAWAY":
        return frames.pack_goaway(frame["last_good_stream_id"], frame["status"])
    if kind == "WINDOW_UPDATE":
        return frames.pack_window_update(stream_id, frame["delta"])
    assert kind == "DATA"
    return frames.pack_data_header(stream_id, flags << 24 | len(payload)) + payload


@pytest.mark.parametrize(
    "vector",
    by_type("SYN_STREAM", "SYN_REPLY", "HEADERS", "RST_STREAM", "SETTINGS", "PING", "GOAWAY", "WINDOW_UPDATE", "DATA"),
)
def test_our_bytes_are_the_golden_ones(vector: Vector) -> None:
    assert packed(vector.frames[0], vector.wire[8:]) == vector.wire


def payload_of(frame: bytes) -> memoryview:
    return memoryview(frame)[8:]


def test_syn_stream_fields() -> None:
    stream_id, associated, priority, block = frames.unpack_syn_stream(payload_of(GOLDEN["syn-stream-slot"].wire), 0)
    assert (stream_id, associated, priority, bytes(block)) == (1, 0, 0, BLOCK)


@pytest.mark.parametrize("priority", range(8))
def test_priority_is_the_top_of_its_byte(priority: int) -> None:
    payload = payload_of(GOLDEN[f"syn-stream-priority-{priority}"].wire)
    assert frames.unpack_syn_stream(payload, 0)[2] == priority


def test_the_reserved_top_bit_of_an_id_is_ignored() -> None:
    top = 0x80000000
    assert frames.unpack_syn_stream(memoryview(wire.u32(top | 1, top | 2) + b"\0\0"), 0)[:2] == (1, 2)
    assert frames.unpack_rst_stream(memoryview(wire.u32(top | 1, 5)), 0) == (1, 5)
    assert frames.unpack_goaway(memoryview(wire.u32(top | 1, 0)), 0) == (1, 0)
    assert frames.unpack_window_update(memoryview(wire.u32(top | 1, top | 7)), 0) == (1, 7)


Unpack = Callable[[memoryview, int], object]


def syn_reply(payload: memoryview, flags: int) -> object:
    return frames.unpack_reply_or_headers("SYN_REPLY", payload, flags)


def settings(payload: memoryview, flags: int) -> object:
    return frames.unpack_settings(payload, flags, 64)


LENGTHS: list[tuple[Unpack, list[int]]] = [
    (frames.unpack_syn_stream, [0, 9]),
    (syn_reply, [0, 3]),
    (frames.unpack_rst_stream, [0, 7, 9]),
    (frames.unpack_ping, [0, 3, 5, 8]),
    (frames.unpack_goaway, [0, 4, 7, 9]),
    (frames.unpack_window_update, [0, 4, 7, 9]),
    (settings, [0, 3]),
]


@pytest.mark.parametrize(
    ("unpack", "size"),
    [pytest.param(unpack, n, id=f"{unpack.__name__}-{n}") for unpack, sizes in LENGTHS for n in sizes],
)
def test_wrong_lengths(unpack: Unpack, size: int) -> None:
    with pytest.raises(FramingError, match=f"of {size} bytes"):
        unpack(memoryview(b"\x01" * size), 0)


FLAGS: list[tuple[Unpack, bytes, int]] = [
    (frames.unpack_syn_stream, wire.u32(1, 0) + b"\0\0", 0x04),
    (syn_reply, wire.u32(1), 0x02),
    (frames.unpack_rst_stream, wire.u32(1, 5), 0x01),
    (frames.unpack_ping, wire.u32(1), 0x01),
    (frames.unpack_goaway, wire.u32(1, 0), 0x01),
    (frames.unpack_window_update, wire.u32(1, 1), 0x80),
    (settings, wire.u32(0), 0x02),
]


@pytest.mark.parametrize(("unpack", "payload", "flags"), FLAGS)
def test_unknown_flags(unpack: Unpack, payload: bytes, flags: int) -> None:
    unpack(memoryview(payload), 0)
    with pytest.raises(FramingError, match="unknown flags"):
        unpack(memoryview(payload), flags)


@pytest.mark.parametrize(
    ("unpack", "payload"),
    [
        (frames.unpack_syn_stream, wire.u32(0, 0) + b"\0\0"),
        (frames.unpack_syn_stream, wire.u32(0x80000000, 0) + b"\0\0"),
        (syn_reply, wire.u32(0)),
        (frames.unpack_rst_stream, wire.u32(0, 5)),
        (frames.unpack_rst_stream, wire.u32(1, 0)),
        (frames.unpack_ping, wire.u32(0)),
    ],
)
def test_zeros_that_mean_nothing(unpack: Unpack, payload: bytes) -> None:
    with pytest.raises(FramingError, match=r"0"):
        unpack(memoryview(payload), 0)


@pytest.mark.parametrize("count", [0, 2, 0xFFFFFFFF, 0x20000001])
def test_settings_count_must_agree_with_the_length(count: int) -> None:
    with pytest.raises(FramingError, match=f"announces {count} entries in 8 bytes"):
        frames.unpack_settings(memoryview(wire.u32(count, 1, 1)), 0, 64)


def test_settings_entries_have_a_limit() -> None:
    body = payload_of(wire.settings([(1, 1, 0)] * 65))
    with pytest.raises(LimitExceeded, match="65 entries"):
        frames.unpack_settings(body, 0, 64)
    assert len(frames.unpack_settings(body, 0, 65)[0]) == 65

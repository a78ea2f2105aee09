"""Frames as functions over precompiled structs (draft 3.1 section 2.2 and 2.6; ``moby/spdystream:
spdy/{read,write}.go``).

``pack_*`` give whole frames as one ``bytes``: a Go peer inflates through a bounded reader and may give up when the
end of a header block arrives in a later read, so every control frame must leave in one piece. ``unpack_*`` take the
payload of a control frame and raise ``FramingError`` or ``LimitExceeded``.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from spdyproto.errors import FramingError, LimitExceeded
from spdyproto.spdy.constants import (
    FLAG_CLEAR_SETTINGS,
    FLAG_FIN,
    FLAG_UNIDIRECTIONAL,
    MAX_STREAM_ID,
    VERSION,
    FrameType,
)

CONTROL_BIT = 0x80000000
_PREFIX = CONTROL_BIT | VERSION << 16

_HEADER = struct.Struct(">II")
_SYN_STREAM = struct.Struct(">IIIIBB")
_SYN_REPLY = struct.Struct(">III")
_TWO_WORDS = struct.Struct(">IIII")
_PING = struct.Struct(">III")
_COUNT = struct.Struct(">III")
_SETTING = struct.Struct(">II")

unpack_header = _HEADER.unpack_from
"""``(word, rest)``: word is the stream id or, with the top bit set, version and type; rest is flags << 24 | length."""

pack_data_header = _HEADER.pack
"""``(stream_id, flags << 24 | length)``."""

_unpack_u32 = struct.Struct(">I").unpack_from
_unpack_u32_pair = struct.Struct(">II").unpack_from
_unpack_syn_stream = struct.Struct(">IIBB").unpack_from


def pack_syn_stream(
    stream_id: int, block: bytes, *, flags: int = 0, associated_to: int = 0, priority: int = 0
) -> bytes:
    """A SYN_STREAM; ``block`` is compressed, ``priority`` 0 (highest) to 7."""
    word = flags << 24 | 10 + len(block)
    return _SYN_STREAM.pack(_PREFIX | FrameType.SYN_STREAM, word, stream_id, associated_to, priority << 5, 0) + block


def pack_syn_reply(stream_id: int, block: bytes, *, flags: int = 0) -> bytes:
    """A SYN_REPLY; ``block`` is compressed."""
    return _SYN_REPLY.pack(_PREFIX | FrameType.SYN_REPLY, flags << 24 | 4 + len(block), stream_id) + block


def pack_headers(stream_id: int, block: bytes, *, flags: int = 0) -> bytes:
    """A HEADERS frame; ``block`` is compressed."""
    return _SYN_REPLY.pack(_PREFIX | FrameType.HEADERS, flags << 24 | 4 + len(block), stream_id) + block


def pack_rst_stream(stream_id: int, status: int) -> bytes:
    """A RST_STREAM."""
    return _TWO_WORDS.pack(_PREFIX | FrameType.RST_STREAM, 8, stream_id, status)


def pack_ping(ping_id: int) -> bytes:
    """A PING, or its echo."""
    return _PING.pack(_PREFIX | FrameType.PING, 4, ping_id)


def pack_goaway(last_good_stream: int, status: int) -> bytes:
    """A GOAWAY."""
    return _TWO_WORDS.pack(_PREFIX | FrameType.GOAWAY, 8, last_good_stream, status)


def pack_window_update(stream_id: int, delta: int) -> bytes:
    """A WINDOW_UPDATE; stream 0 is the session."""
    return _TWO_WORDS.pack(_PREFIX | FrameType.WINDOW_UPDATE, 8, stream_id, delta)


def pack_settings(entries: Sequence[tuple[int, int, int]], *, clear: bool = False) -> bytes:
    """``entries`` as (id, value, flags); the id has 24 bits, the value 32."""
    flags = FLAG_CLEAR_SETTINGS if clear else 0
    head = _COUNT.pack(_PREFIX | FrameType.SETTINGS, flags << 24 | 4 + 8 * len(entries), len(entries))
    return head + b"".join(_SETTING.pack(flag << 24 | key, value) for key, value, flag in entries)


def unpack_syn_stream(payload: memoryview, flags: int) -> tuple[int, int, int, memoryview]:
    """(stream id, associated-to id, priority, compressed block)."""
    if len(payload) < 10:
        raise FramingError(f"SYN_STREAM of {len(payload)} bytes; at least 10 expected")
    _known_flags("SYN_STREAM", flags, FLAG_FIN | FLAG_UNIDIRECTIONAL)
    stream_id, associated, priority, _slot = _unpack_syn_stream(payload)
    return _stream_id("SYN_STREAM", stream_id), associated & MAX_STREAM_ID, priority >> 5, payload[10:]


def unpack_reply_or_headers(name: str, payload: memoryview, flags: int) -> tuple[int, memoryview]:
    """(stream id, compressed block) of SYN_REPLY or HEADERS."""
    if len(payload) < 4:
        raise FramingError(f"{name} of {len(payload)} bytes; at least 4 expected")
    _known_flags(name, flags, FLAG_FIN)
    return _stream_id(name, _unpack_u32(payload)[0]), payload[4:]


def unpack_rst_stream(payload: memoryview, flags: int) -> tuple[int, int]:
    """(stream id, status)."""
    _exactly("RST_STREAM", payload, 8, flags)
    stream_id, status = _unpack_u32_pair(payload)
    if status == 0:
        raise FramingError("RST_STREAM with status 0, which is not defined")
    return _stream_id("RST_STREAM", stream_id), status


def unpack_ping(payload: memoryview, flags: int) -> int:
    """The id."""
    _exactly("PING", payload, 4, flags)
    ping_id: int = _unpack_u32(payload)[0]
    if ping_id == 0:
        raise FramingError("PING with id 0")
    return ping_id


def unpack_goaway(payload: memoryview, flags: int) -> tuple[int, int]:
    """(last good stream id, status)."""
    _exactly("GOAWAY", payload, 8, flags)
    last_good, status = _unpack_u32_pair(payload)
    return last_good & MAX_STREAM_ID, status


def unpack_window_update(payload: memoryview, flags: int) -> tuple[int, int]:
    """(stream id or 0 for the session, delta)."""
    _exactly("WINDOW_UPDATE", payload, 8, flags)
    stream_id, delta = _unpack_u32_pair(payload)
    return stream_id & MAX_STREAM_ID, delta & MAX_STREAM_ID


def unpack_settings(payload: memoryview, flags: int, limit: int) -> tuple[list[tuple[int, int, int]], bool]:
    """(entries as (id, value, flags), clear). The count is believed only when the length agrees (CVE-2026-35469)."""
    if len(payload) < 4:
        raise FramingError(f"SETTINGS of {len(payload)} bytes; at least 4 expected")
    _known_flags("SETTINGS", flags, FLAG_CLEAR_SETTINGS)
    (count,) = _unpack_u32(payload)
    if len(payload) - 4 != 8 * count:
        raise FramingError(f"SETTINGS announces {count} entries in {len(payload) - 4} bytes; 8 bytes each expected")
    if count > limit:
        raise LimitExceeded(f"SETTINGS with {count} entries; the limit is {limit}")
    entries = []
    for offset in range(4, len(payload), 8):
        key, value = _unpack_u32_pair(payload, offset)
        entries.append((key & 0xFFFFFF, value, key >> 24))
    return entries, bool(flags & FLAG_CLEAR_SETTINGS)


def _exactly(name: str, payload: memoryview, length: int, flags: int) -> None:
    if len(payload) != length:
        raise FramingError(f"{name} of {len(payload)} bytes; exactly {length} expected")
    _known_flags(name, flags, 0)


def _known_flags(name: str, flags: int, known: int) -> None:
    if flags & ~known:
        raise FramingError(f"{name} with unknown flags 0x{flags:02x}")


def _stream_id(name: str, stream_id: int) -> int:
    stream_id &= MAX_STREAM_ID
    if stream_id == 0:
        raise FramingError(f"{name} for stream 0")
    return stream_id

"""Cuts the incoming bytes into frames without ever assembling a data frame.

Theory of operation. The parser is in one of three places: within a frame header, within a control frame, or within the
payload of a data frame. Only the first two need memory between calls: at most a header and ``Limits.control_frame``
bytes. Payload of a data frame is handed on as a view of the caller's buffer, as much of it as has come; a peer that
announces 16 MiB thus makes us hold nothing. One loop serves the common case of many frames in one large buffer; the
carry-over path is separate, so that the loop has nothing to do with it.
"""

from __future__ import annotations

from typing import Protocol

from spdyproto.errors import FramingError, LimitExceeded
from spdyproto.limits import Limits
from spdyproto.spdy.constants import FLAG_FIN, HEADER_SIZE, MAX_LENGTH, VERSION
from spdyproto.spdy.frames import CONTROL_BIT, unpack_header
from spdyproto.types import Buffer

_FLAGS_BEYOND_FIN = 0x02000000
"""The second word of a data header is below this when no flag but FIN is set."""


class FrameSink(Protocol):
    """Receives the frames. Each call may return True to stop the parser: the rest of the buffer is then dropped."""

    def on_data(self, stream_id: int, chunk: memoryview, fin: bool, end: bool, /) -> bool | None:
        """The first piece of a data frame. ``end``: also the last. ``fin`` is set only together with it."""

    def on_more_data(self, stream_id: int, chunk: memoryview, fin: bool, end: bool, /) -> bool | None:
        """A later piece of the same frame, at the start of a buffer; it may be empty."""

    def on_control(self, kind: int, flags: int, payload: memoryview, /) -> bool | None:
        """A whole control frame. ``payload`` must not be kept."""


class FrameParser:
    """``feed`` raises ``FramingError`` or ``LimitExceeded`` for the peer's faults; the engine turns them into an
    event."""

    def __init__(self, limits: Limits) -> None:
        self._control_limit = limits.control_frame
        self._data_limit = limits.data_frame
        self._partial = bytearray()
        self._wanted = HEADER_SIZE
        self._left = 0
        self._stream_id = 0
        self._fin = False

    @property
    def in_frame(self) -> bool:
        """True when the bytes so far end within a frame: an end of the connection here cuts something."""
        return bool(self._partial) or self._left > 0

    def feed(self, data: Buffer, sink: FrameSink) -> None:
        """Hands every frame in ``data`` to ``sink``; keeps what is incomplete."""
        view = memoryview(data).cast("B")
        position = 0
        if self._left:
            position = min(self._left, len(view))
            self._left -= position
            end = not self._left
            if sink.on_more_data(self._stream_id, view[:position], self._fin and end, end):
                return
        elif self._partial:
            position = self._complete_partial(view, sink)
            if position < 0:
                return
        self._parse(view, position, sink)

    def _parse(self, view: memoryview, position: int, sink: FrameSink) -> None:
        on_data = sink.on_data
        limit = self._data_limit
        size = len(view)
        while size - position >= HEADER_SIZE:
            word, rest = unpack_header(view, position)
            length = rest & MAX_LENGTH
            start = position + HEADER_SIZE
            position = start + length
            if word & CONTROL_BIT:
                self._check_control(word, length)
                if position > size:
                    self._keep(view[start - HEADER_SIZE :], HEADER_SIZE + length)
                    return
                if sink.on_control(word & 0xFFFF, rest >> 24, view[start:position]):
                    return
            elif position <= size:
                if rest >= _FLAGS_BEYOND_FIN or not word or length > limit:
                    self._check_data(word, rest)
                if on_data(word, view[start:position], rest > MAX_LENGTH, True):
                    return
            else:
                self._check_data(word, rest)
                self._left = position - size
                self._stream_id = word
                self._fin = bool(rest & 0x01000000)
                if start < size:
                    on_data(word, view[start:], False, False)
                return
        if position < size:
            self._keep(view[position:], HEADER_SIZE)

    def _complete_partial(self, view: memoryview, sink: FrameSink) -> int:
        """Adds to the carried-over header or control frame; returns where parsing goes on, or -1 to stop."""
        partial = self._partial
        position = 0
        if len(partial) < HEADER_SIZE:
            position = min(HEADER_SIZE - len(partial), len(view))
            partial += view[:position]
            if len(partial) < HEADER_SIZE:
                return -1
            word, rest = unpack_header(partial, 0)
            length = rest & MAX_LENGTH
            if not word & CONTROL_BIT:
                self._check_data(word, rest)
                self._partial = bytearray()
                return self._start_data(word, rest, view, position, sink)
            self._check_control(word, length)
            self._wanted = HEADER_SIZE + length
        take = min(self._wanted - len(partial), len(view) - position)
        partial += view[position : position + take]
        if len(partial) < self._wanted:
            return -1
        self._partial = bytearray()
        word, rest = unpack_header(partial, 0)
        if sink.on_control(word & 0xFFFF, rest >> 24, memoryview(partial)[HEADER_SIZE:]):
            return -1
        return position + take

    def _start_data(self, word: int, rest: int, view: memoryview, position: int, sink: FrameSink) -> int:
        length = rest & MAX_LENGTH
        take = min(length, len(view) - position)
        self._left = length - take
        self._stream_id = word
        self._fin = bool(rest & 0x01000000)
        end = not self._left
        if (take or end) and sink.on_data(word, view[position : position + take], self._fin and end, end):
            return -1
        return position + take if end else -1

    def _keep(self, rest: memoryview, wanted: int) -> None:
        self._partial = bytearray(rest)
        self._wanted = wanted

    def _check_control(self, word: int, length: int) -> None:
        version = word >> 16 & 0x7FFF
        if version != VERSION:
            raise FramingError(f"control frame of SPDY version {version}; version {VERSION} expected")
        if length > self._control_limit:
            raise LimitExceeded(f"control frame of {length} bytes; the limit is {self._control_limit}")

    def _check_data(self, stream_id: int, rest: int) -> None:
        if stream_id == 0:
            raise FramingError("DATA for stream 0")
        if rest & MAX_LENGTH > self._data_limit:
            raise LimitExceeded(f"DATA of {rest & MAX_LENGTH} bytes; the limit is {self._data_limit}")
        if rest >> 24 & ~FLAG_FIN:
            raise FramingError(f"DATA with unknown flags 0x{rest >> 24:02x}")

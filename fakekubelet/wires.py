"""The frames of an upgraded connection, read off its bytes beside the engine: for faults, which change them on the way.

Nothing here judges: what cannot be read is handed on as it is. ``Wire`` cuts what a session sends into whole frames,
each with the name of the stream that it belongs to; it learns the names from what the client sends.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from spdyproto.errors import ProtocolError
from spdyproto.limits import Limits
from spdyproto.spdy import frames as spdy
from spdyproto.spdy.constants import FLAG_FIN, HEADER_SIZE, MAX_LENGTH, FrameType, RstStatus
from spdyproto.spdy.headers import HeaderCodec
from spdyproto.spdy.parser import FrameParser
from spdyproto.types import Buffer, Policy
from spdyproto.websocket import frames as websocket
from spdyproto.websocket.constants import Opcode

SPDY: Final = "spdy"
WEBSOCKET: Final = "websocket"

_CHANNELS: Final = ("stdin", "stdout", "stderr", "error", "resize")
_FIN_WORD = FLAG_FIN << 24
_close_code = struct.Struct(">H").pack


@dataclass(frozen=True, slots=True)
class Frame:
    """One whole frame on its way to the client.

    ``kind`` is the frame's name: ``DATA``, ``SYN_REPLY``, ``RST_STREAM``, ``GOAWAY``, ``PING`` ... over SPDY; ``DATA``
    (a message with payload for a channel), ``GREETING`` (one without), ``CLOSE``, ``PONG`` ... over WebSocket.
    ``stream`` is the stream's or channel's name where it has one, ``start`` where the payload begins in ``data``.
    """

    kind: str
    data: bytes
    stream: str = ""
    stream_id: int = 0
    start: int = 0
    fin: bool = False

    @property
    def payload(self) -> int:
        """Bytes of payload; 0 for frames without any."""
        return len(self.data) - self.start if self.kind == "DATA" else 0

    @property
    def is_output(self) -> bool:
        """Whether it carries, or ends, what a command prints or a port answers."""
        return self.kind == "DATA" and self.stream in ("stdout", "stderr", "data")

    @property
    def is_status(self) -> bool:
        """Whether it carries the error stream's text, or its end."""
        return self.kind == "DATA" and self.stream == "error"


class Wire:
    """The frames of one session. ``outgoing`` gives those that the server sends, ``incoming`` learns from the
    client's."""

    name: str = ""

    def outgoing(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete with ``data``."""
        raise NotImplementedError

    def incoming(self, data: Buffer) -> None:
        """What the client sends."""

    def goodbye(self, code: int = 1000) -> Frame:
        """The frame with which a server ends the connection in good order."""
        raise NotImplementedError

    def shorter(self, frame: Frame, size: int) -> Frame:
        """A DATA frame with the first ``size`` bytes of its payload."""
        raise NotImplementedError


class SpdyWire(Wire):
    """SPDY/3.1. The names of the streams stand in the client's SYN_STREAMs (``streamtype``)."""

    name = SPDY

    def __init__(self) -> None:
        limits = Limits()
        self._rest = b""
        self._parser: FrameParser | None = FrameParser(limits)
        self._codec = HeaderCodec(limits, Policy.KUBERNETES)
        self._names: dict[int, str] = {}

    def outgoing(self, data: bytes) -> Iterator[Frame]:
        """Whole frames."""
        data = self._rest + data
        position = 0
        while len(data) - position >= HEADER_SIZE:
            word, rest = spdy.unpack_header(data, position)
            end = position + HEADER_SIZE + (rest & MAX_LENGTH)
            if end > len(data):
                break
            yield self._frame(data[position:end], word, rest >> 24)
            position = end
        self._rest = data[position:]

    def _frame(self, data: bytes, word: int, flags: int) -> Frame:
        fin = bool(flags & FLAG_FIN)
        if not word & spdy.CONTROL_BIT:
            return Frame("DATA", data, self._names.get(word, ""), word, HEADER_SIZE, fin)
        kind = FrameType(word & 0xFFFF)
        stream_id = 0
        if kind in (FrameType.SYN_REPLY, FrameType.RST_STREAM, FrameType.HEADERS):
            stream_id = spdy.unpack_header(data, HEADER_SIZE)[0] if len(data) > HEADER_SIZE + 4 else 0
        return Frame(kind.name, data, self._names.get(stream_id, ""), stream_id, len(data), fin)

    def incoming(self, data: Buffer) -> None:
        """Learn the names of streams."""
        if self._parser is not None:
            try:
                self._parser.feed(data, self)
            except ProtocolError:
                self._parser = None  # the session itself will say so

    def on_data(self, stream_id: int, chunk: memoryview, fin: bool, end: bool) -> None:
        """For the parser."""

    def on_more_data(self, stream_id: int, chunk: memoryview, fin: bool, end: bool) -> None:
        """For the parser."""

    def on_control(self, kind: int, flags: int, payload: memoryview) -> None:
        """For the parser."""
        if kind == FrameType.SYN_STREAM:
            stream_id, _, _, block = spdy.unpack_syn_stream(payload, flags)
            headers = dict(self._codec.decode(block, reply=False))
            self._names.setdefault(stream_id, headers.get("streamtype", ""))

    def goodbye(self, code: int = 1000) -> Frame:
        """GOAWAY, OK."""
        data = spdy.pack_goaway(max(self._names, default=0), 0)
        return Frame("GOAWAY", data, start=len(data))

    def shorter(self, frame: Frame, size: int) -> Frame:
        """As ``Wire.shorter``."""
        word, rest = spdy.unpack_header(frame.data, 0)
        head = spdy.pack_data_header(word, rest & ~MAX_LENGTH | size)
        return replace(frame, data=head + frame.data[HEADER_SIZE : HEADER_SIZE + size])

    def without_fin(self, frame: Frame) -> Frame:
        """The same DATA, with the stream left open."""
        word, rest = spdy.unpack_header(frame.data, 0)
        return replace(frame, data=spdy.pack_data_header(word, rest & ~_FIN_WORD) + frame.data[HEADER_SIZE:], fin=False)

    def reset(self, stream_id: int, status: int = RstStatus.CANCEL) -> Frame:
        """RST_STREAM."""
        data = spdy.pack_rst_stream(stream_id, status)
        return Frame("RST_STREAM", data, self._names.get(stream_id, ""), stream_id, len(data))


class WebSocketWire(Wire):
    """WebSocket. ``channels`` names them; none are named in a tunnel, whose messages are nothing but bytes."""

    name = WEBSOCKET

    def __init__(self, protocol: str, *, forwarding: bool) -> None:
        self._rest = b""
        self._tunnel = protocol.startswith("SPDY/3.1+")
        self._base64 = "base64." in protocol
        self._forwarding = forwarding

    def outgoing(self, data: bytes) -> Iterator[Frame]:
        """Whole frames; ours are never fragmented."""
        data = self._rest + data
        position = 0
        view = memoryview(data)
        while (found := websocket.unpack_header(view, position, len(data))) is not None:
            header, start = found
            end = start + header.length
            if end > len(data):
                break
            yield self._frame(data[position:end], header.opcode, start - position)
            position = end
        self._rest = data[position:]

    def _frame(self, data: bytes, opcode: int, start: int) -> Frame:
        if opcode not in (Opcode.BINARY, Opcode.TEXT):
            return Frame(Opcode(opcode).name, data, start=len(data))
        if self._tunnel:
            return Frame("DATA", data, "data", start=start)
        channel = data[start] - ord("0") if self._base64 else data[start]
        kind = "DATA" if len(data) > start + 1 else "GREETING"
        return Frame(kind, data, self._name(channel), channel, start + 1)

    def _name(self, channel: int) -> str:
        if self._forwarding:
            return "error" if channel % 2 else "data"
        return _CHANNELS[channel] if channel < len(_CHANNELS) else ""

    def shorter(self, frame: Frame, size: int) -> Frame:
        """As ``Wire.shorter``; base64 is cut where it stays base64."""
        size = size // 3 * 4 if self._base64 else size
        found = websocket.unpack_header(memoryview(frame.data), 0, len(frame.data))
        assert found is not None, "whole frames come here"
        header, start = found
        body = frame.data[start : frame.start + size]
        head = websocket.pack_header(header.opcode, len(body))
        return replace(frame, data=head + body, start=len(head) + frame.start - start)

    def goodbye(self, code: int = 1000) -> Frame:
        """Close."""
        data = websocket.pack_header(Opcode.CLOSE, 2) + _close_code(code)
        return Frame("CLOSE", data, start=len(data))


def fragments(frame: Frame, size: int) -> Iterator[Frame]:
    """A message in pieces of ``size`` bytes, and an empty last one: as Go's tunnel writes what its buffer cannot
    hold."""
    found = websocket.unpack_header(memoryview(frame.data), 0, len(frame.data))
    assert found is not None, "whole frames come here"
    header, start = found
    opcode = header.opcode
    for at in range(start, len(frame.data), size):
        piece = frame.data[at : at + size]
        data = websocket.pack_header(opcode, len(piece), fin=False) + piece
        yield replace(frame, data=data, start=len(data) - len(piece))
        opcode = Opcode.CONTINUATION
    yield replace(frame, data=websocket.pack_header(opcode, 0, fin=True), start=2)

"""Several streams in one WebSocket: the channel that each message begins with (``channel.k8s.io`` and its kin).

A raw message is binary: one byte of channel, then payload. A base64 message is text: the channel as an ASCII digit,
then padded standard base64, each message encoded for itself (``streaming: pkg/httpstream/wsstream/conn.go``). Payload
is handed on as it arrives, so a message of any size costs nothing; base64 keeps up to three characters between pieces.
"""

from __future__ import annotations

import binascii
import enum
from dataclasses import dataclass
from typing import Final

from spdyproto.errors import EncodingError, FramingError
from spdyproto.types import Buffer
from spdyproto.websocket.constants import Opcode
from spdyproto.websocket.events import MessageChunk

CLOSE: Final = 255
"""The channel of v5's CLOSE signal: two bytes, this and the channel to end. Client to server only."""


class Channel(enum.IntEnum):
    """The channels of exec and attach."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2
    ERROR = 3
    RESIZE = 4


@dataclass(slots=True)
class Piece:
    """Payload of one channel, as it arrived. ``first`` and ``last`` mark the message's ends; ``data`` may be empty."""

    channel: int
    data: memoryview
    first: bool
    last: bool


class Multiplexer:
    """Makes messages: what to put in front of a payload, and the payload as it goes on the wire."""

    def __init__(self, *, base64: bool) -> None:
        self.opcode = Opcode.TEXT if base64 else Opcode.BINARY
        self._base64 = base64

    def prefix(self, channel: int) -> bytes:
        """The bytes that name the channel. Base64 has digits only, and so no CLOSE."""
        if not self._base64:
            return bytes((channel,))
        if not 0 <= channel <= 9:
            raise ValueError(f"channel {channel} has no digit, so base64 messages cannot name it")
        return b"%d" % channel

    def payload(self, data: Buffer) -> Buffer:
        """``data`` as it stands in the message."""
        return binascii.b2a_base64(data, newline=False) if self._base64 else data


class Demultiplexer:
    """Takes messages apart. One for each connection.

    ``per_frame`` takes every frame for a message of its own, as Go's ``x/net/websocket`` server does: a fragmented
    message then begins a new "channel" with each fragment. ``strict`` refuses the wrong kind of message (the Go
    client takes only binary for raw channels); servers take both.
    """

    def __init__(self, *, base64: bool, per_frame: bool = False, strict: bool = True) -> None:
        self._base64 = base64
        self._per_frame = per_frame
        self._strict = strict
        self._channel = -1
        self._rest = b""
        self._padded = False
        self._spoilt = False

    def feed(self, chunk: MessageChunk) -> Piece | None:
        """The payload in ``chunk``, or None when there is none for anybody.

        Raises ``FramingError`` for the wrong kind of message, ``EncodingError`` for what is no base64 (``strict``; else
        the rest of that message is dropped, as Go's server does).
        """
        data = chunk.data
        begins = chunk.frame_start if self._per_frame else chunk.first
        if begins:
            self._begin(chunk.opcode)
        if not data and self._channel < 0:
            return None
        first = self._channel < 0
        if first:
            self._channel = self._name(data[0])
            data = data[1:]
        last = chunk.last
        if self._base64 and not self._spoilt:
            data = self._decode(data, last)
        if self._spoilt:
            return None
        return Piece(self._channel, data, first, last)

    def _begin(self, opcode: int) -> None:
        wanted = Opcode.TEXT if self._base64 else Opcode.BINARY
        if self._strict and opcode != wanted:
            raise FramingError(f"a {Opcode(opcode).name} message; {wanted.name} expected for this subprotocol")
        self._channel = -1
        self._rest = b""
        self._padded = self._spoilt = False

    def _name(self, byte: int) -> int:
        return byte - 0x30 if self._base64 else byte

    def _decode(self, data: memoryview, last: bool) -> memoryview:
        text = self._rest + bytes(data)
        usable = len(text) - len(text) % 4
        self._rest = text[usable:]
        complete = text[:usable]
        bad = (complete and self._padded) or (last and self._rest)
        self._padded = self._padded or complete.endswith(b"=")
        try:
            if bad:
                raise binascii.Error("the length is no multiple of four, or something follows the padding")
            return memoryview(binascii.a2b_base64(complete, strict_mode=True))
        except binascii.Error as error:
            if self._strict:
                raise EncodingError(f"a message on channel {self._channel} is not base64: {error}") from None
            self._spoilt = True
            return memoryview(b"")

"""Upgraded connections, decoded as they pass: which frames, on which streams, with what in them.

Theory of operation. A ``Dissector`` reads both directions of one connection beside the engine, with the codecs alone:
what it says does not depend on what the engine made of the bytes. Payload is counted where it lies and never
assembled; only what a protocol says about itself is decoded: headers, sizes of terminals, statuses, close codes. Bytes
that cannot be read are said to be so, once, and that direction is left alone from there on.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from spdyproto.errors import KubewireError
from spdyproto.limits import Limits
from spdyproto.spdy import frames as spdy
from spdyproto.spdy.constants import FLAG_FIN, FrameType, GoAwayStatus, RstStatus
from spdyproto.spdy.headers import HeaderCodec
from spdyproto.spdy.parser import FrameParser
from spdyproto.text import printable
from spdyproto.types import Buffer, Policy
from spdyproto.websocket import frames as websocket
from spdyproto.websocket.constants import Opcode

Sender = Literal["client", "server"]

CHANNELS: Final = ("stdin", "stdout", "stderr", "error", "resize")
_CLOSE_SIGNAL: Final = 255
_DETAIL: Final = 200  # characters of a header's value, or of a reason
_PAIRS: Final = 16  # headers of one frame
_NAMES: Final = 1024  # streams of one connection


@dataclass(slots=True)
class Seen:
    """One frame, or a piece of one."""

    sender: Sender
    kind: str
    """Its name: ``SYN_STREAM``, ``DATA``, ``PING``, ``CLOSE`` ...; ``CLOSE-STREAM`` is v5's end of a stream, and
    ``UNREADABLE`` the last thing that is said of a direction."""
    stream: str = ""
    """The stream's or channel's name."""
    detail: str = ""
    """What it says."""
    size: int = 0
    """Bytes of payload."""
    payload: bytes = b""
    """The payload itself: of sizes and statuses always, else if all of it is wanted."""
    fin: bool = False
    more: bool = False
    """A later piece of the same frame."""


@dataclass(slots=True)
class Run:
    """Payload that goes on and on, on one stream: what the fast path counts in, in place of telling each frame."""

    entry: Counted
    total: list[int]
    sender: Sender = "client"
    stream: str = ""


class Counted(Protocol):
    """Where a run is counted."""

    size: int
    count: int


Note = Callable[[Seen], Run | None]
"""Takes what was seen. What it answers to payload is counted in for as long as nothing else is seen."""

_ALWAYS_READ: Final = ("error", "resize")


class Dissector(Protocol):
    """Both directions of one connection."""

    def feed(self, sender: Sender, data: Buffer) -> None:
        """Bytes that ``sender`` sent, behind the 101."""


def dissector(transport: str, protocol: str, note: Note, *, forwarding: bool, payload: bool = False) -> Dissector:
    """For a connection over ``transport`` (``spdy`` or ``websocket``) that speaks ``protocol``. With ``payload`` all of
    it is handed on."""
    return _WebSocket(protocol, note, forwarding, payload) if transport == "websocket" else _Spdy(note, payload)


class _Spdy:
    def __init__(self, note: Note, payload: bool) -> None:
        self._note = note
        self.run: Run | None = None
        self.payload = payload
        self.names: dict[int, str] = {}
        self._ends = {"client": _SpdyEnd(self, "client"), "server": _SpdyEnd(self, "server")}

    def feed(self, sender: Sender, data: Buffer) -> None:
        """As ``Dissector.feed``."""
        self._ends[sender].feed(data)

    def note(self, seen: Seen) -> None:
        """Tell of it; a run begins, or is over."""
        self.run = self._note(seen)


class _SpdyEnd:
    """One direction; a ``FrameSink``."""

    def __init__(self, both: _Spdy, sender: Sender) -> None:
        limits = Limits()
        self._both, self._sender = both, sender
        self._parser: FrameParser | None = FrameParser(limits)
        self._codec = HeaderCodec(limits, Policy.KUBERNETES)
        self._run_id = -1

    def feed(self, data: Buffer) -> None:
        if self._parser is None:
            return
        try:
            self._parser.feed(data, self)
        except KubewireError as error:
            self._parser = None
            self._both.note(Seen(self._sender, "UNREADABLE", detail=printable(str(error), limit=_DETAIL)))

    def _name(self, stream_id: int) -> str:
        return self._both.names.get(stream_id) or str(stream_id)

    def on_data(self, stream_id: int, chunk: memoryview, fin: bool, end: bool) -> None:
        """As ``FrameSink.on_data``."""
        self._tell(stream_id, chunk, fin, False)

    def on_more_data(self, stream_id: int, chunk: memoryview, fin: bool, end: bool) -> None:
        """As ``FrameSink.on_more_data``."""
        self._tell(stream_id, chunk, fin, True)

    def _tell(self, stream_id: int, chunk: memoryview, fin: bool, more: bool) -> None:
        run = self._both.run
        if run is not None and self._run_id == stream_id and run.sender == self._sender and not fin:
            size = len(chunk)
            run.entry.size += size
            run.total[0] += size
            if not more:
                run.entry.count += 1
            return
        self._run_id = stream_id
        name = self._name(stream_id)
        wanted = self._both.payload or name.partition("#")[0] in _ALWAYS_READ
        payload = bytes(chunk) if wanted else b""
        self._both.note(Seen(self._sender, "DATA", name, "", len(chunk), payload, fin, more))

    def on_control(self, kind: int, flags: int, payload: memoryview) -> None:
        """As ``FrameSink.on_control``."""
        if kind not in _READERS:
            self._both.note(Seen(self._sender, f"CONTROL {kind}", detail=f"{len(payload)} bytes"))
            return
        stream, detail = _READERS[kind](self, flags, payload)
        fin = bool(flags & FLAG_FIN) and kind in (FrameType.SYN_STREAM, FrameType.SYN_REPLY, FrameType.HEADERS)
        self._both.note(Seen(self._sender, FrameType(kind).name, stream, detail, fin=fin))

    def _syn_stream(self, flags: int, payload: memoryview) -> tuple[str, str]:
        stream_id, _, _, block = spdy.unpack_syn_stream(payload, flags)
        headers = self._headers(block, reply=False)
        if len(self._both.names) < _NAMES:
            name, request = headers.get("streamtype", ""), headers.get("requestid")
            self._both.names[stream_id] = f"{name}#{request}" if name and request else name
        return self._name(stream_id), _pairs({"id": str(stream_id), **headers})

    def _reply(self, flags: int, payload: memoryview) -> tuple[str, str]:
        stream_id, block = spdy.unpack_reply_or_headers("", payload, flags)
        return self._name(stream_id), _pairs(self._headers(block, reply=True))

    def _rst_stream(self, flags: int, payload: memoryview) -> tuple[str, str]:
        stream_id, status = spdy.unpack_rst_stream(payload, flags)
        return self._name(stream_id), _word(RstStatus, status)

    def _settings(self, flags: int, payload: memoryview) -> tuple[str, str]:
        entries, _ = spdy.unpack_settings(payload, flags, Limits().settings_entries)
        return "", ", ".join(f"{key}={value}" for key, value, _ in entries)

    def _ping(self, flags: int, payload: memoryview) -> tuple[str, str]:
        return "", str(spdy.unpack_ping(payload, flags))

    def _goaway(self, flags: int, payload: memoryview) -> tuple[str, str]:
        last, status = spdy.unpack_goaway(payload, flags)
        return "", f"last stream {last}, {_word(GoAwayStatus, status)}"

    def _window_update(self, flags: int, payload: memoryview) -> tuple[str, str]:
        stream_id, delta = spdy.unpack_window_update(payload, flags)
        return self._name(stream_id) if stream_id else "", f"+{delta}"

    def _headers(self, block: memoryview, *, reply: bool) -> dict[str, str]:
        headers = self._codec.decode(block, reply=reply)
        self._codec.rest_receiving()
        return {printable(name, limit=80): printable(value, limit=_DETAIL) for name, value in headers[:_PAIRS]}


_READERS: Final[dict[int, Callable[[_SpdyEnd, int, memoryview], tuple[str, str]]]] = {
    FrameType.SYN_STREAM: _SpdyEnd._syn_stream,
    FrameType.SYN_REPLY: _SpdyEnd._reply,
    FrameType.RST_STREAM: _SpdyEnd._rst_stream,
    FrameType.SETTINGS: _SpdyEnd._settings,
    FrameType.PING: _SpdyEnd._ping,
    FrameType.GOAWAY: _SpdyEnd._goaway,
    FrameType.HEADERS: _SpdyEnd._reply,
    FrameType.WINDOW_UPDATE: _SpdyEnd._window_update,
}


def _pairs(headers: dict[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in headers.items())


def _word(names: Callable[[int], RstStatus | GoAwayStatus], code: int) -> str:
    try:
        return names(code).name
    except ValueError:
        return f"status {code}"


class _WebSocket:
    def __init__(self, protocol: str, note: Note, forwarding: bool, payload: bool) -> None:
        self._note = note
        self.run: Run | None = None
        self.payload = payload
        self.base64 = "base64." in protocol
        self.forwarding = forwarding
        self.tunnel = _Spdy(note, payload) if protocol.startswith("SPDY/3.1+") else None
        self.signals = protocol == "v5.channel.k8s.io" and not forwarding
        self._ends = {"client": _WebSocketEnd(self, "client"), "server": _WebSocketEnd(self, "server")}

    def feed(self, sender: Sender, data: Buffer) -> None:
        """As ``Dissector.feed``."""
        self._ends[sender].feed(data)

    def note(self, seen: Seen) -> None:
        """Tell of it; a run begins, or is over."""
        self.run = self._note(seen)

    def channel(self, number: int) -> str:
        """Its name."""
        if self.forwarding:
            return f"{'error' if number % 2 else 'data'}#{number // 2}"
        return CHANNELS[number] if 0 <= number < len(CHANNELS) else str(number)


class _WebSocketEnd:
    """One direction. Payload is read as it comes; headers and control frames, which are short, wait to be whole."""

    def __init__(self, both: _WebSocket, sender: Sender) -> None:
        self._both, self._sender = both, sender
        self._rest = b""
        self._left = 0  # of the payload of a frame
        self._at = 0  # how much of it has come, for the mask
        self._key: bytes | None = None
        self._stream = ""
        self._readable = True

    def feed(self, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        if self._rest:
            view, self._rest = memoryview(self._rest + bytes(view)), b""
        try:
            while view and self._readable:
                view = self._payload(view) if self._left else self._frame(view)
        except KubewireError as error:
            self._readable = False
            self._both.note(Seen(self._sender, "UNREADABLE", detail=printable(str(error), limit=_DETAIL)))

    def _frame(self, view: memoryview) -> memoryview:
        found = websocket.unpack_header(view, 0, len(view))
        # Of a message as much as tells its channel, and which one a CLOSE signal ends.
        if found is None or len(view) < found[1] + min(found[0].length, 125 if found[0].opcode >= Opcode.CLOSE else 2):
            self._rest = bytes(view)
            return view[:0]
        header, start = found
        body = view[start : start + header.length]
        self._left, self._key, self._at = header.length, header.key, 0
        if header.opcode >= Opcode.CLOSE:
            self._left = 0
            self._control(header.opcode, _unmask(body, header.key, 0))
            return view[start + header.length :]
        if header.opcode != Opcode.CONTINUATION and self._both.tunnel is None:
            return self._begin(view[start:], header.length)
        return view[start:]

    def _begin(self, view: memoryview, length: int) -> memoryview:
        """The first frame of a message: its channel stands before its payload."""
        both = self._both
        if not length:
            both.note(Seen(self._sender, "MESSAGE", detail="empty"))
            return view
        first = _unmask(view[:1], self._key, 0)[0]
        number = first - ord("0") if both.base64 else first
        self._stream = both.channel(number)
        self._left, self._at = length - 1, 1
        if number == _CLOSE_SIGNAL and both.signals and length > 1:
            ended = both.channel(_unmask(view[1:2], self._key, 1)[0])
            both.note(Seen(self._sender, "CLOSE-STREAM", ended))
            self._stream = ""
            return view[1:]
        if length == 1:
            both.note(Seen(self._sender, "DATA", self._stream))
        return view[1:]

    def _payload(self, view: memoryview) -> memoryview:
        both, part = self._both, view[: self._left]
        more = self._at > 1
        run = both.run
        if run is not None and run.sender == self._sender and run.stream == self._stream and not both.base64:
            size = len(part)
            self._left -= size
            self._at += size
            run.entry.size += size
            run.total[0] += size
            if not more:
                run.entry.count += 1
            return view[size:]
        plain = b""
        if both.tunnel is not None or both.payload or self._stream in _ALWAYS_READ:
            plain = _unmask(part, self._key, self._at)
        self._left -= len(part)
        self._at += len(part)
        if both.tunnel is not None:
            both.tunnel.feed(self._sender, plain)
        elif self._stream:
            size = len(part)
            if both.base64:
                plain = _plain(plain)
                padding = bytes(part[-2:]).count(b"=") if self._key is None else 0
                size = len(plain) or size * 3 // 4 - padding
            both.note(Seen(self._sender, "DATA", self._stream, "", size, plain, False, more))
        return view[len(part) :]

    def _control(self, opcode: int, payload: bytes) -> None:
        detail = ""
        if opcode == Opcode.CLOSE:
            code = int.from_bytes(payload[:2], "big") if len(payload) > 1 else 1005
            detail = f"{code} {printable(payload[2:].decode('utf-8', 'replace'))}".strip()
        self._both.note(Seen(self._sender, Opcode(opcode).name, detail=detail))


def _unmask(part: memoryview, key: bytes | None, at: int) -> bytes:
    if key is None:
        return bytes(part)
    size = len(part)
    keys = key * (size // 4 + 2)
    plain = int.from_bytes(part, "big") ^ int.from_bytes(keys[at % 4 : at % 4 + size], "big")
    return plain.to_bytes(size, "big")


def _plain(text: bytes) -> bytes:
    """Of base64 as far as it goes: a piece may end anywhere."""
    try:
        return base64.b64decode(text[: len(text) // 4 * 4])
    except binascii.Error:
        return text

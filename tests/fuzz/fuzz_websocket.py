"""WebSocket: first byte the size of the pieces, second the part that is tried, the rest what the peer sent.

The second byte is ``c`` for a client's engine, ``s`` for a server's (frames come masked), ``h`` for a client's
handshake, ``n`` for a server's, which gets the lines of the rest as parsed headers.
"""

from __future__ import annotations

from spdyproto.errors import ProtocolError, UpgradeError
from spdyproto.http import UpgradeAccepted, UpgradeFailed, UpgradeOutcome, UpgradeRefused
from spdyproto.limits import Limits
from spdyproto.types import Role
from spdyproto.websocket.connection import WebSocketConnection
from spdyproto.websocket.constants import valid_close_code
from spdyproto.websocket.events import CloseReceived, ConnectionTerminated, Event, MessageChunk, PingReceived
from spdyproto.websocket.handshake import (
    BEARER_PREFIX,
    ClientHandshake,
    negotiate_websocket,
    take_bearer_token,
    wants_websocket,
)

SECRET = "Zebra-0123456789"  # no escape sequence can spell its first letter
KEY = bytes.fromhex("7468652073616d706c65206e6f6e6365")  # of RFC 6455 section 1.3
LIMITS = Limits(http_head=1024, refusal_body=256, ws_frame=1000, ws_message=2000, queued_chores=8)
HEADER = b"sec-websocket-protocol"
PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
SUPPORTED = ("", "channel.k8s.io", "base64.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io")
TOKENS = (
    b"\x82\x05hello",
    b"\x81\x02\xc3\xa9",
    b"\x01\x01\xc3",
    b"\x80\x01\xa9",
    b"\x00\x00",
    b"\x89\x00",
    b"\x8a\x00",
    b"\x88\x02\x03\xe8",
    b"\x88\x00",
    b"\x82\x7e\x00\x7e",
    b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00",
    b"\x82\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58",
    b"\x89\x80\x00\x00\x00\x00",
    b"\x88\x82\x37\xfa\x21\x3d\x34\x12",
    b"\xed\xa0\x80",
    b"HTTP/1.1 101 Switching Protocols\r\n",
    b"Upgrade: websocket\r\n",
    b"Connection: Upgrade\r\n",
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
    b"Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n",
    b"Sec-WebSocket-Extensions: x\r\n",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n",
    b"Sec-WebSocket-Version: 13\n",
    b"v4.channel.k8s.io",
    BEARER_PREFIX.encode() + b"eHh4",
    b"\r\n\r\n",
    b", ",
    SECRET.encode(),
)


def one_input(data: bytes) -> None:
    """Any bytes give the same events (or outcome) in whatever pieces they come, and no exception.

    An engine ends at most once, as the last thing it does, and with a Close frame that tells the peer; frames and
    messages stay within their limits; texts are UTF-8. A handshake is accepted only for a protocol that was offered;
    errors are harmless, short, and show no credentials. A server answers from its own list, and never with a token.
    """
    size = max(1, (data[0] - 0x30) % 256) if data else 1
    mode = data[1:2]
    wire = data[2:]
    if mode == b"h":
        _shake(wire, size)
    elif mode == b"n":
        _negotiate(wire)
    else:
        role = Role.SERVER if mode == b"s" else Role.CLIENT
        whole, sent, texts = _run(role, wire, max(1, len(wire)))
        pieces, also_sent, _ = _run(role, wire, size)
        # Before a fault in a text is found, the first bytes of its character may have been delivered.
        if not whole or "not UTF-8" not in str(whole[-1]):
            assert whole == pieces
        assert sent == also_sent
        for text in texts:
            text.decode()


def _run(role: Role, wire: bytes, size: int) -> tuple[list[object], list[bytes], list[bytes]]:
    """What the engine reports, in plain values with the pieces of a frame joined; what it sends; the whole texts."""
    engine = WebSocketConnection(role, limits=LIMITS, mask_source=lambda: b"abcd")
    told: list[list[object]] = []
    text = b""
    texts: list[bytes] = []
    message = 0
    for at in range(0, len(wire), size):
        events = engine.receive_data(wire[at : at + size], 0.0)
        for event in events:
            if isinstance(event, MessageChunk):
                message = len(event.data) + (0 if event.first else message)
                assert message <= LIMITS.ws_message
                text = bytes(event.data) if event.first else text + bytes(event.data)
                if event.opcode == 1 and event.last:
                    texts.append(text)
            _tell(told, event)
        assert not any(isinstance(event, ConnectionTerminated) for event in events[:-1])
        assert engine.terminated == (bool(told) and told[-1][0] == "ConnectionTerminated")
    sent = [bytes(segment) for segment in engine.data_to_send()]
    if engine.terminated:
        assert sent[-1][0] == 0x88
        assert engine.receive_data(b"\x82\x00", 0.0) == []
    else:
        (end,) = engine.receive_eof(0.0)
        assert isinstance(end, ConnectionTerminated)
        assert end.error is not None
    return [tuple(event) for event in told], sent, texts


def _tell(told: list[list[object]], event: Event) -> None:
    if isinstance(event, MessageChunk):
        if event.frame_start:
            told.append(["MessageChunk", event.opcode, bytes(event.data), event.first, event.last])
            return
        last = told[-1]
        assert last[0] == "MessageChunk"
        assert isinstance(last[2], bytes)
        last[2] += bytes(event.data)
        last[4] = event.last
    elif isinstance(event, ConnectionTerminated):
        assert event.error is None or isinstance(event.error, ProtocolError)
        assert str(event.error).isprintable()
        assert len(str(event.error)) < 300
        told.append(["ConnectionTerminated", str(event.error)])
    elif isinstance(event, CloseReceived):
        assert valid_close_code(event.code) or event.code == 1005
        told.append(["CloseReceived", event.code, event.reason])
    else:
        assert len(event.payload) <= 125
        told.append(["PingReceived" if isinstance(event, PingReceived) else "PongReceived", event.payload])


def _shake(wire: bytes, size: int) -> None:
    whole, rest = _settle(wire, max(1, len(wire)))
    assert not rest
    pieces, rest = _settle(wire, size)
    assert type(pieces) is type(whole)
    assert SECRET not in repr(whole)
    if isinstance(whole, UpgradeAccepted) and isinstance(pieces, UpgradeAccepted):
        assert whole.protocol == pieces.protocol
        assert whole.protocol in PROTOCOLS
        assert whole.surplus == pieces.surplus + rest
        assert wire.endswith(whole.surplus)
    elif isinstance(whole, UpgradeRefused) and isinstance(pieces, UpgradeRefused):
        assert (whole.status, whole.reason, whole.headers) == (pieces.status, pieces.reason, pieces.headers)
    else:
        assert isinstance(whole, UpgradeFailed)
        assert isinstance(whole.error, UpgradeError)
        assert str(whole.error).isprintable()
        assert len(str(whole.error)) < 2000


def _settle(wire: bytes, size: int) -> tuple[UpgradeOutcome, bytes]:
    handshake = ClientHandshake(
        "h", "/exec", protocols=PROTOCOLS, key_source=lambda: KEY, bearer_token=SECRET, limits=LIMITS
    )
    handshake.data_to_send()
    for at in range(0, len(wire), size):
        outcome = handshake.receive_data(wire[at : at + size])
        if outcome is not None:
            return outcome, wire[at + size :]
    return handshake.receive_eof(), b""


def _negotiate(wire: bytes) -> None:
    lines = [line.partition(b":") for line in wire.split(b"\n")]
    headers = [(name.strip(), value.strip()) for name, _, value in lines]
    offer = take_bearer_token(headers)
    assert not (offer.token and offer.fault)
    if offer.token is not None:
        assert wants_websocket(headers)
        entries = [entry for name, value in offer.headers if name.lower() == HEADER for entry in value.split(b",")]
        assert not any(entry.strip(b" \t").startswith(BEARER_PREFIX.encode()) for entry in entries)
    else:
        assert offer.headers == headers
    answer = negotiate_websocket(offer.headers, SUPPORTED)
    assert answer.status in (101, 400, 403)
    assert (answer.protocol is not None) == (answer.status == 101)
    assert answer.protocol is None or answer.protocol in SUPPORTED
    text = answer.to_bytes()
    assert text.count(b"\r\n\r\n") == 1
    assert text.count(b"\n") == text.count(b"\r") == len(answer.headers) + 2
    assert BEARER_PREFIX.encode() not in text

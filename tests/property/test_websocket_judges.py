"""Judged by others: wsproto and websockets read what the engine writes, and it reads what they write; same for the
handshake. Their sans-I/O layers are the peers, so that every kind of message can be tried in no time."""

from __future__ import annotations

from typing import Any

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame
from websockets.frames import Opcode as TheirOpcode
from websockets.http11 import Request as TheirRequest
from websockets.protocol import Protocol, Side
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol as TheirSubprotocol
from websockets.uri import parse_uri
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, RejectConnection, Request
from wsproto.frame_protocol import CloseReason, FrameProtocol
from wsproto.frame_protocol import Opcode as WsprotoOpcode

from spdyproto.http import UpgradeAccepted, UpgradeFailed, UpgradeRefused
from spdyproto.types import Role
from spdyproto.websocket.connection import WebSocketConnection
from spdyproto.websocket.constants import Opcode
from spdyproto.websocket.handshake import ClientHandshake, negotiate_websocket
from support import wsframes
from support.wsframes import BINARY, CLOSE, CONT, PING, PONG, TEXT

ROLES = st.sampled_from([Role.CLIENT, Role.SERVER])
SIZES = st.one_of(st.integers(0, 130), st.integers(120, 300), st.integers(65520, 65550), st.integers(0, 70_000))
PAYLOADS = st.builds(wsframes.Blob, SIZES, st.integers(1, 255))
OURS = st.lists(
    st.one_of(
        st.tuples(st.just(BINARY), PAYLOADS),
        st.tuples(st.just(TEXT), st.text(max_size=200).map(str.encode)),
        st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125)),
    ),
    max_size=6,
)
Recipe = list[tuple[int, bytes | wsframes.Blob]]
REASONS = st.text(max_size=30)
CODES = st.sampled_from([1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 3000, 4999])


def cook(recipe: Recipe) -> list[tuple[int, bytes]]:
    return [(opcode, bytes(data)) for opcode, data in recipe]


def write(role: Role, messages: list[tuple[int, bytes]], close: tuple[int, str]) -> bytes:
    """What our engine sends for these; pongs are answers to pings that it is given."""
    engine = WebSocketConnection(role)
    key = wsframes.KEY if role is Role.SERVER else None
    for opcode, payload in messages:
        if opcode == PING:
            engine.ping(payload, now=0.0)
        elif opcode == PONG:
            engine.receive_data(wsframes.frame(PING, payload, key=key), 0.0)
        else:
            engine.send_message(payload[:1], payload[1:], opcode=Opcode(opcode))
    engine.close(*close)
    return b"".join(engine.data_to_send())


def close_payload(close: tuple[int, str]) -> bytes:
    return close[0].to_bytes(2, "big") + close[1].encode()


@settings(max_examples=40)  # its buffer makes it slow
@given(ROLES, OURS, CODES, REASONS, st.integers(200, 50_000))
def test_wsproto_reads_what_we_write(role: Role, recipe: Recipe, code: int, reason: str, size: int) -> None:
    messages = cook(recipe)
    wire = write(role, messages, (code, reason))
    judge = FrameProtocol(client=role is Role.SERVER, extensions=[])
    read: list[tuple[int, bytes]] = []
    begun: tuple[int, bytes] | None = None
    for at in range(0, len(wire), size):
        judge.receive_bytes(wire[at : at + size])
        for frame in judge.received_frames():
            payload: Any = frame.payload
            if frame.opcode is WsprotoOpcode.CLOSE:
                assert payload == (code, reason)
                continue
            data = payload.encode() if isinstance(payload, str) else bytes(payload)
            if frame.opcode in (WsprotoOpcode.PING, WsprotoOpcode.PONG):
                read.append((int(frame.opcode), data))
                continue
            kind, before = begun or (int(frame.opcode), b"")
            begun = (kind, before + data)
            if frame.message_finished:
                read.append(begun)
                begun = None
    assert read == messages


@given(ROLES, OURS, CODES, REASONS, st.integers(1, 5000))
def test_websockets_reads_what_we_write(role: Role, recipe: Recipe, code: int, reason: str, size: int) -> None:
    messages = cook(recipe)
    wire = write(role, messages, (code, reason))
    judge = Protocol(Side.CLIENT if role is Role.SERVER else Side.SERVER)
    for at in range(0, len(wire), size):
        judge.receive_data(wire[at : at + size])
    frames = []
    for frame in judge.events_received():
        assert isinstance(frame, Frame)
        frames.append((int(frame.opcode), frame.fin, bytes(frame.data)))
    assert frames == [
        (opcode, True, payload) for opcode, payload in [*messages, (CLOSE, close_payload((code, reason)))]
    ]
    assert judge.close_rcvd is not None
    assert (judge.close_rcvd.code, judge.close_rcvd.reason) == (code, reason)


PARTS = st.lists(st.text(max_size=50), min_size=1, max_size=4)
ONE_PART = st.lists(st.text(max_size=20), min_size=1, max_size=1)
THEIRS = st.lists(
    st.one_of(
        st.tuples(st.just("message"), st.sampled_from([TEXT, BINARY]), PARTS),
        st.tuples(st.just("control"), st.sampled_from([PING, PONG]), ONE_PART),
    ),
    max_size=6,
)
Script = list[tuple[str, int, list[str]]]


def expected(script: Script) -> tuple[list[tuple[int, bytes]], list[tuple[int, bytes]]]:
    """The messages and the control frames that such a script comes to."""
    found: dict[str, list[tuple[int, bytes]]] = {"message": [], "control": []}
    for kind, opcode, parts in script:
        found[kind].append((opcode, "".join(parts).encode()))
    return found["message"], found["control"]


def check(role: Role, wire: bytes, script: Script, size: int, code: int) -> None:
    engine = WebSocketConnection(role)
    told = [
        event
        for at in range(0, len(wire), size)
        for event in wsframes.tell(engine.receive_data(wire[at : at + size], 0.0))
    ]
    messages, controls = expected(script)
    assert wsframes.messages(told) == messages
    names = {"PingReceived": PING, "PongReceived": PONG}
    assert [(names[event[0]], event[1]) for event in told if event[0] in names] == controls
    assert told[-2:] == [("CloseReceived", code, "bye"), ("ConnectionTerminated", "NoneType", "None")]
    answers = [(PONG, payload) for opcode, payload in controls if opcode == PING]
    assert wsframes.sent(engine.data_to_send()) == [*answers, (CLOSE, code.to_bytes(2, "big"))]


@given(ROLES, THEIRS, CODES, st.integers(1, 200))
def test_we_read_what_websockets_writes(role: Role, script: Script, code: int, size: int) -> None:
    peer = Protocol(Side.CLIENT if role is Role.SERVER else Side.SERVER)
    for kind, opcode, parts in script:
        if kind == "control":
            (peer.send_ping if opcode == PING else peer.send_pong)(parts[0].encode())
            continue
        first, rest = parts[0].encode(), parts[1:]
        (peer.send_text if opcode == TEXT else peer.send_binary)(first, fin=not rest)
        for number, part in enumerate(rest, 1):
            peer.send_continuation(part.encode(), fin=number == len(rest))
    peer.send_close(code, "bye")
    check(role, b"".join(peer.data_to_send()), script, size, code)


@given(ROLES, THEIRS, CODES, st.integers(1, 200))
def test_we_read_what_wsproto_writes(role: Role, script: Script, code: int, size: int) -> None:
    peer = FrameProtocol(client=role is Role.SERVER, extensions=[])
    wire = b""
    for kind, opcode, parts in script:
        if kind == "control":
            wire += (peer.ping if opcode == PING else peer.pong)(parts[0].encode())
            continue
        for number, part in enumerate(parts, 1):
            data: Any = part if opcode == TEXT else part.encode()
            wire += peer.send_data(data, fin=number == len(parts))
    wire += peer.close(CloseReason(code) if code in set(CloseReason) else code, "bye")
    check(role, wire, script, size, code)


@pytest.mark.parametrize("role", [Role.CLIENT, Role.SERVER])
def test_websockets_answers_our_ping_and_our_close(role: Role) -> None:
    peer = Protocol(Side.CLIENT if role is Role.SERVER else Side.SERVER)
    engine = WebSocketConnection(role)
    engine.ping(b"abc", now=1.0)
    engine.close(1000, "done")
    peer.receive_data(b"".join(engine.data_to_send()))
    events = wsframes.tell(engine.receive_data(b"".join(peer.data_to_send()), 1.5))
    assert events == [
        ("PongReceived", b"abc", 0.5),
        ("CloseReceived", 1000, "done"),
        ("ConnectionTerminated", "NoneType", "None"),
    ]


# -- the handshake -----------------------------------------------------------------------------------------------------

PROTOCOLS = ["v5.channel.k8s.io", "v4.channel.k8s.io", "channel.k8s.io", "base64.channel.k8s.io"]
OFFERS = st.lists(st.sampled_from(PROTOCOLS), max_size=4, unique=True)


@settings(max_examples=50)
@given(OFFERS, OFFERS, st.binary(max_size=10))
def test_server_of_websockets_takes_our_handshake(offer: list[str], supported: list[str], surplus: bytes) -> None:
    ours = ClientHandshake("node:10250", "/exec/a/b/c?command=ls", protocols=offer)
    server = ServerProtocol(subprotocols=[TheirSubprotocol(name) for name in supported] or None)
    server.receive_data(ours.data_to_send())
    (request,) = server.events_received()
    assert isinstance(request, TheirRequest)
    server.send_response(server.accept(request))
    outcome = ours.receive_data(b"".join(server.data_to_send()) + surplus)
    common = [name for name in supported if name in offer]
    if not supported or not offer:
        # They choose nothing where one of the two lists is empty.
        assert isinstance(outcome, UpgradeFailed if offer else UpgradeAccepted | UpgradeRefused)
    elif common:
        assert isinstance(outcome, UpgradeAccepted)
        assert outcome.protocol in common
        assert outcome.surplus == surplus
    else:
        assert not isinstance(outcome, UpgradeAccepted)


@settings(max_examples=50)
@given(OFFERS, st.binary(max_size=10))
def test_server_of_wsproto_takes_our_handshake(offer: list[str], surplus: bytes) -> None:
    ours = ClientHandshake("node:10250", "/exec", protocols=offer)
    server = WSConnection(ConnectionType.SERVER)
    server.receive_data(ours.data_to_send())
    (request,) = server.events()
    assert isinstance(request, Request)
    assert (request.host, request.target, request.subprotocols) == ("node:10250", "/exec", offer)
    wire = server.send(AcceptConnection(subprotocol=offer[-1] if offer else None))
    outcome = ours.receive_data(wire + surplus)
    assert isinstance(outcome, UpgradeAccepted)
    assert (outcome.protocol, outcome.surplus) == (offer[-1] if offer else "", surplus)


def test_refusal_of_wsproto_is_a_refusal() -> None:
    ours = ClientHandshake("node", "/exec", protocols=["v4.channel.k8s.io"])
    server = WSConnection(ConnectionType.SERVER)
    server.receive_data(ours.data_to_send())
    list(server.events())
    wire = server.send(RejectConnection(status_code=403))
    outcome = ours.receive_data(wire) or ours.receive_eof()
    assert isinstance(outcome, UpgradeRefused)
    assert outcome.status == 403


def decide(request: bytes, supported: list[str]) -> bytes:
    """Our server's answer to a request that h11 parsed, as it parses them for the fake kubelet."""
    http = h11.Connection(h11.SERVER)
    http.receive_data(request)
    event = http.next_event()
    assert isinstance(event, h11.Request)
    return negotiate_websocket(list(event.headers), supported, method=event.method.decode()).to_bytes()


@settings(max_examples=50)
@given(st.lists(st.sampled_from(PROTOCOLS), min_size=1, max_size=4, unique=True), OFFERS)
def test_client_of_websockets_takes_our_answer(offer: list[str], supported: list[str]) -> None:
    client = ClientProtocol(parse_uri("ws://node:10250/exec"), subprotocols=[TheirSubprotocol(name) for name in offer])
    client.send_request(client.connect())
    wire = decide(b"".join(client.data_to_send()), supported)
    client.receive_data(wire)
    client.receive_eof()
    common = [name for name in offer if name in supported]
    if common:
        assert client.handshake_exc is None
        assert client.subprotocol == common[0]
        assert isinstance(client.close_exc.rcvd, type(None))
    else:
        assert wire == b"HTTP/1.1 403 Forbidden\r\n\r\n"
        assert client.handshake_exc is not None


@settings(max_examples=50)
@given(st.lists(st.sampled_from(PROTOCOLS), min_size=1, max_size=4, unique=True), OFFERS)
def test_client_of_wsproto_takes_our_answer(offer: list[str], supported: list[str]) -> None:
    client = WSConnection(ConnectionType.CLIENT)
    request = client.send(Request(host="node:10250", target="/exec", subprotocols=offer))
    client.receive_data(decide(request, supported))
    client.receive_data(None)
    event = next(iter(client.events()))
    common = [name for name in offer if name in supported]
    if common:
        assert isinstance(event, AcceptConnection)
        assert event.subprotocol == common[0]
    else:
        assert isinstance(event, RejectConnection)
        assert event.status_code == 403


def test_their_opcodes_are_ours() -> None:
    assert {int(opcode) for opcode in TheirOpcode} == {int(opcode) for opcode in WsprotoOpcode} == set(Opcode)
    assert CONT == Opcode.CONTINUATION

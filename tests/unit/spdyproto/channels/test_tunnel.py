"""SPDY in a WebSocket: a stream of bytes, however the messages and frames are cut."""

from __future__ import annotations

import pytest

from spdyproto.channels.forwarding import ForwardTransport
from spdyproto.channels.portforward import ForwardClient
from support import wire
from support.forwards import tell
from support.wire import RawPeer
from support.wsframes import BINARY, CLOSE, CONT, TEXT, frame, read


def client() -> tuple[ForwardClient, RawPeer]:
    session, peer = ForwardClient(transport=ForwardTransport.TUNNEL), RawPeer()
    session.start(0.0)
    session.open(80, 0.0)
    assert [f[0] for f in peer.read([_payload(session)])] == ["SYN_STREAM", "SYN_STREAM"]
    return session, peer


def _payload(session: ForwardClient) -> bytes:
    return b"".join(payload for opcode, _, payload, _ in read(b"".join(session.data_to_send())) if opcode == BINARY)


def test_messages_of_two_and_four_bytes_as_go_writes_them() -> None:
    session, peer = client()
    stream = peer.syn_reply(1) + peer.syn_reply(3) + wire.data(3, b"hello")
    sizes = [2, 2, 4, *[1] * len(stream)]
    told = []
    while stream:
        size = sizes.pop(0)
        told += tell(session.receive_data(frame(BINARY, stream[:size]), 0.0))
        stream = stream[size:]
    assert told[0] == ("Opened", 0)
    assert b"".join(each[2] for each in told[1:]) == b"hello"


def test_fragments_are_reassembled_with_an_empty_last_one() -> None:
    session, peer = client()
    stream = peer.syn_reply(1) + peer.syn_reply(3) + wire.data(3, b"hello")
    message = frame(BINARY, stream[:5], fin=False) + frame(CONT, stream[5:], fin=False) + frame(CONT, b"")
    assert tell(session.receive_data(message, 0.0)) == [("Opened", 0), ("Received", 0, b"hello")]


def test_a_text_message_is_a_fault() -> None:
    session, _ = client()
    assert tell(session.receive_data(frame(TEXT, b"x"), 0.0))[-1] == ("SessionOver", "FramingError")


@pytest.mark.parametrize(
    ("payload", "error"), [(b"\x03\xe8", "PeerClosed"), (b"", "PeerClosed"), (b"\x03\xf3why", "PeerClosed")]
)
def test_a_close_ends_the_stream_of_bytes(payload: bytes, error: str) -> None:
    session, _ = client()
    told = session.receive_data(frame(CLOSE, payload), 0.0)
    assert tell(told)[0][:2] == ("Failed", 0)
    assert tell(told)[-1] == ("SessionOver", error)
    if payload.endswith(b"why"):
        assert "1011 (why)" in str(getattr(told[-1], "error", ""))


def test_the_mere_end_of_the_transport_is_a_cut() -> None:
    session, _ = client()
    assert tell(session.receive_eof(0.0, clean=True))[-1] == ("SessionOver", "PeerClosed")


def test_close_comes_behind_goaway() -> None:
    session, peer = client()
    session.close()
    *messages, close = read(b"".join(session.data_to_send()))
    assert [f[0] for f in peer.read([payload for _, _, payload, _ in messages])] == ["GOAWAY"]
    assert (close[0], close[2]) == (CLOSE, b"\x03\xe8")


def test_large_data_is_masked_once_and_whole() -> None:
    session, peer = client()
    session.receive_data(frame(BINARY, peer.syn_reply(1) + peer.syn_reply(3)), 0.0)
    payload = bytes(range(256)) * 1024
    session.send(0, payload)
    messages = read(b"".join(session.data_to_send()))
    assert all(fin and key is not None for _, fin, _, key in messages)
    frames = peer.read([payload for _, _, payload, _ in messages])
    assert b"".join(f[2] for f in frames if f[:2] == ("DATA", 3)) == payload

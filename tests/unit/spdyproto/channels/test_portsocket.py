"""The old WebSocket form of port-forward, each end before raw frames."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from spdyproto.channels.forwarding import ForwardTransport
from spdyproto.channels.portsocket import ForwardSocketClient, ForwardSocketServer
from spdyproto.errors import HalfCloseUnsupported, LocalProtocolError
from spdyproto.limits import Deadlines
from support.forwards import Told, tell
from support.wsframes import BINARY, CLOSE, KEY, TEXT, frame, read

RAW, BASE64 = ForwardTransport.WEBSOCKET, ForwardTransport.WEBSOCKET_BASE64
BOTH = pytest.mark.parametrize("transport", [RAW, BASE64])


def message(transport: ForwardTransport, channel: int, data: bytes, **options: Any) -> bytes:
    if transport is BASE64:
        return frame(TEXT, b"%d" % channel + base64.b64encode(data), **options)
    return frame(BINARY, bytes((channel,)) + data, **options)


def parsed(transport: ForwardTransport, wire: bytes) -> list[tuple[int, bytes]]:
    found = []
    for opcode, fin, payload, _ in read(wire):
        assert fin
        if opcode == CLOSE:
            found.append((-1, payload))
        elif transport is BASE64:
            assert opcode == TEXT
            found.append((payload[0] - 0x30, base64.b64decode(payload[1:])))
        else:
            assert opcode == BINARY
            found.append((payload[0], payload[1:]))
    return found


def announced(transport: ForwardTransport, *ports: int) -> ForwardSocketClient:
    session = ForwardSocketClient(ports, transport=transport)
    assert session.start(0.0) == []
    wire = b"".join(
        message(transport, 2 * index + each, port.to_bytes(2, "little"))
        for index, port in enumerate(ports)
        for each in (0, 1)
    )
    assert tell(session.receive_data(wire, 0.0)) == [("Opened", index) for index in range(len(ports))]
    return session


@BOTH
def test_each_port_is_announced_on_both_of_its_channels(transport: ForwardTransport) -> None:
    session = ForwardSocketServer([8080, 80], transport=transport)
    assert tell(session.start(0.0)) == [("Requested", 0, 8080), ("Requested", 1, 80)]
    wire = b"".join(session.data_to_send())
    assert parsed(transport, wire) == [(0, b"\x90\x1f"), (1, b"\x90\x1f"), (2, b"P\0"), (3, b"P\0")]


@BOTH
def test_data_flows_both_ways_behind_the_announcement(transport: ForwardTransport) -> None:
    session = announced(transport, 8080, 80)
    told = tell(session.receive_data(message(transport, 2, b"hello") + message(transport, 0, b"x"), 0.0))
    assert told == [("Received", 1, b"hello"), ("Received", 0, b"x")]
    session.send(1, b"there")
    assert parsed(transport, b"".join(session.data_to_send())) == [(2, b"there")]


def test_nothing_is_sent_before_the_announcement_and_it_may_come_in_pieces() -> None:
    session = ForwardSocketClient([8080])
    session.start(0.0)
    assert not session.may_send(0)
    assert tell(session.receive_data(message(RAW, 0, b"\x90") + message(RAW, 1, b"\x90\x1f"), 0.0)) == []
    told = tell(session.receive_data(message(RAW, 0, b"\x1fdata"), 0.0))
    assert told == [("Opened", 0), ("Received", 0, b"data")]


def test_another_port_than_asked_for_is_a_fault() -> None:
    session = ForwardSocketClient([8080])
    session.start(0.0)
    told = tell(session.receive_data(message(RAW, 0, b"P\0"), 0.0))
    assert told[0][:2] == ("Failed", 0)
    assert told[1] == ("SessionOver", "FramingError")


def test_a_server_that_announces_nothing_is_given_up() -> None:
    session = ForwardSocketClient([8080], deadlines=Deadlines(stream_reply=30.0))
    session.start(0.0)
    assert session.next_deadline() == 30.0
    assert tell(session.handle_timeout(30.0, input_paused=True)) == []
    assert tell(session.handle_timeout(60.0))[-1] == ("SessionOver", "PeerTimeout")


@BOTH
def test_close_1000_is_the_end_of_every_port_and_a_text_a_failure(transport: ForwardTransport) -> None:
    session = announced(transport, 8080, 80)
    wire = message(transport, 3, b"refused") + message(transport, 0, b"all") + frame(CLOSE, b"\x03\xe8")
    told = tell(session.receive_data(wire, 0.0))
    assert told == [
        ("Received", 0, b"all"), ("RemoteEnded", 0), ("Finished", 0), ("Failed", 1, "refused"),
        ("SessionOver", "NoneType"),
    ]  # fmt: skip


@pytest.mark.parametrize("wire", [None, frame(CLOSE, b"\x03\xf3")])
def test_any_other_end_is_a_loss(wire: bytes | None) -> None:
    session = announced(RAW, 8080)
    told: list[Told] = tell(session.receive_eof(0.0, clean=True) if wire is None else session.receive_data(wire, 0.0))
    assert [each[0] for each in told] == ["Failed", "SessionOver"]


def test_there_is_no_half_close() -> None:
    session = announced(RAW, 8080)
    assert not session.half_close
    with pytest.raises(HalfCloseUnsupported):
        session.end(0)
    assert session.may_send(0)


def test_giving_up_the_last_connection_closes() -> None:
    session = announced(RAW, 8080, 80)
    session.reset(0)
    assert session.data_to_send() == []
    session.reset(1)
    assert parsed(RAW, b"".join(session.data_to_send())) == [(-1, b"\x03\xe8")]


@pytest.mark.parametrize("ports", [[], [80] * 6])
def test_base64_has_ten_channels(ports: list[int]) -> None:
    with pytest.raises(LocalProtocolError):
        ForwardSocketClient(ports, transport=BASE64)


@BOTH
def test_the_server_takes_data_and_closes_behind_the_last_port(transport: ForwardTransport) -> None:
    session = ForwardSocketServer([8080, 80], transport=transport)
    session.start(0.0)
    session.data_to_send()
    told = tell(session.receive_data(message(transport, 2, b"up", key=KEY), 0.0))
    assert told == [("Received", 1, b"up")]
    session.fail(0, "no")
    session.end(1)
    assert parsed(transport, b"".join(session.data_to_send())) == [(1, b"no")]
    session.send(1, b"bye")
    session.finish(1)
    assert parsed(transport, b"".join(session.data_to_send())) == [(2, b"bye"), (-1, b"\x03\xe8")]


def test_a_client_that_closes_ends_every_connection() -> None:
    session = ForwardSocketServer([80])
    session.start(0.0)
    told = tell(session.receive_data(frame(CLOSE, b"\x03\xe8", key=KEY), 0.0))
    assert [each[0] for each in told] == ["Failed", "SessionOver"]

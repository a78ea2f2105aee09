"""Recorded sessions of Go's port-forwarder with Go's server, fed to both of our ends: whole, byte by byte, and cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from spdyproto.channels.forwarding import ForwardTransport
from spdyproto.channels.portforward import ForwardClient
from spdyproto.channels.portserver import ForwardServer
from support.forwards import Told, tell
from support.wire import pieces

RECORDED: list[dict[str, Any]] = json.loads(
    (Path(__file__).resolve().parents[3] / "vectors" / "portforward.json").read_text()
)
TRANSPORTS = {"spdy": ForwardTransport.SPDY, "websocket": ForwardTransport.TUNNEL}
SESSIONS = pytest.mark.parametrize("session", RECORDED, ids=lambda each: f"{each['transport']}-{each['what']}")
SIZES = pytest.mark.parametrize("size", [1 << 20, 1, 2, 7])


def joined(told: list[Told]) -> list[Told]:
    """Adjacent payload in one event."""
    result: list[Told] = []
    for event in told:
        if result and event[0] == "Received" and result[-1][:2] == event[:2]:
            result[-1] = (*event[:2], result[-1][2] + event[2])
        else:
            result.append(event)
    return result


def at_client(session: dict[str, Any], size: int, end: int | None = None) -> tuple[ForwardClient, list[Told]]:
    client = ForwardClient(transport=TRANSPORTS[session["transport"]])
    client.start(0.0)
    client.open(session["port"], 0.0)
    told: list[Told] = []
    for part in pieces(bytes.fromhex(session["server"])[:end], size):
        told += tell(client.receive_data(part, 0.0))
        client.data_to_send()
    return client, joined(told)


@SESSIONS
@SIZES
def test_what_gos_server_said(session: dict[str, Any], size: int) -> None:
    client, told = at_client(session, size)
    told += tell(client.receive_eof(0.0, clean=True))
    if session["what"] == "echo":
        assert told[:2] == [("Opened", 0), ("Received", 0, b"hello")]
        assert ("RemoteEnded", 0) in told
    else:
        assert told[0] == ("Opened", 0)
        assert told[1][:2] == ("Failed", 0)
        assert "connection refused" in told[1][2]


@SESSIONS
@pytest.mark.parametrize("size", [1, 2, 7])  # it waits for replies, so what it says never comes as one piece
def test_what_gos_client_said(session: dict[str, Any], size: int) -> None:
    server = ForwardServer(transport=TRANSPORTS[session["transport"]])
    told = tell(server.start(0.0))
    for part in pieces(bytes.fromhex(session["client"]), size):
        told += tell(server.receive_data(part, 0.0))
        server.data_to_send()
    told += tell(server.receive_eof(0.0, clean=True))
    assert told[0] == ("Requested", 0, session["port"])
    if session["what"] == "echo":
        assert joined(told)[1:3] == [("Received", 0, b"hello"), ("RemoteEnded", 0)]
    assert told[-1][0] == "SessionOver"


@SESSIONS
def test_cut_at_every_byte_nothing_is_whole_that_was_not(session: dict[str, Any]) -> None:
    wire = bytes.fromhex(session["server"])
    _, whole = at_client(session, 1 << 20)
    for end in range(len(wire)):
        client, told = at_client(session, 1 << 20, end)
        told += tell(client.receive_eof(0.0, clean=False))
        ended = [each[0] for each in told if each[0] in ("Finished", "Failed")]
        assert len(ended) <= 1
        if ("RemoteEnded", 0) not in told and not client.over:
            assert ended == ["Failed"]
        got = b"".join(each[2] for each in told if each[0] == "Received")
        assert b"".join(each[2] for each in whole if each[0] == "Received").startswith(got)

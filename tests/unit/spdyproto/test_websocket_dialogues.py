"""Whole WebSocket sessions recorded between Kubernetes' own client and servers, fed to both ends of ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from spdyproto.channels.events import (
    Exited,
    Lost,
    Output,
    SessionEvent,
    Stdin,
    StdinEnded,
    StreamKind,
    StreamSet,
    Transport,
)
from spdyproto.channels.session import ClientSession, ServerSession
from spdyproto.channels.subprotocols import Subprotocol
from spdyproto.errors import OutcomeUnknown, StatusError

FILE = Path(__file__).parents[2] / "vectors" / "websocket-dialogues.json"
DIALOGUES: list[dict[str, Any]] = json.loads(FILE.read_text())["dialogues"]
NAMES = [dialogue["name"] for dialogue in DIALOGUES]

DIALECTS = {
    "": (Subprotocol.V1, Transport.WEBSOCKET),
    "channel.k8s.io": (Subprotocol.V1, Transport.WEBSOCKET),
    "base64.channel.k8s.io": (Subprotocol.V1, Transport.WEBSOCKET_BASE64),
    "v4.channel.k8s.io": (Subprotocol.V4, Transport.WEBSOCKET),
    "v4.base64.channel.k8s.io": (Subprotocol.V4, Transport.WEBSOCKET_BASE64),
    "v5.channel.k8s.io": (Subprotocol.V5, Transport.WEBSOCKET),
}


def streams_of(dialogue: dict[str, Any]) -> StreamSet:
    tty = dialogue["tty"]
    return StreamSet(dialogue["stdin"] is not None, True, not tty, tty)


def client_for(dialogue: dict[str, Any]) -> ClientSession:
    version, transport = DIALECTS[dialogue["protocol"]]
    session = ClientSession(version, streams_of(dialogue), transport=transport)
    session.start(0.0)
    return session


def heard(dialogue: dict[str, Any], piece: int) -> tuple[dict[StreamKind, bytes], Exited | Lost | None]:
    session = client_for(dialogue)
    wire = bytes.fromhex(dialogue["server"]["hex"])
    outputs = {StreamKind.STDOUT: b"", StreamKind.STDERR: b""}
    for start in range(0, len(wire), piece):
        for event in session.receive_data(wire[start : start + piece], 0.0):
            if isinstance(event, Output):
                outputs[event.kind] += bytes(event.data)
    session.receive_eof(0.0, clean=True)
    return outputs, session.outcome


@pytest.mark.parametrize("piece", [1, 2, 7, 1 << 20])
@pytest.mark.parametrize("dialogue", DIALOGUES, ids=NAMES)
def test_what_the_server_said(dialogue: dict[str, Any], piece: int) -> None:
    outputs, outcome = heard(dialogue, piece)
    if dialogue["peers"].startswith("client-go"):
        assert outputs[StreamKind.STDOUT].decode() == dialogue["stdout"]
        assert outputs[StreamKind.STDERR].decode() == dialogue["stderr"]
    name = dialogue["name"]
    if name == "v4-no-status":  # client-go took it for success
        assert isinstance(outcome, Lost)
        assert isinstance(outcome.error, StatusError)
    elif name in ("v1-exit-0", "none-exit-0"):
        assert isinstance(outcome, Lost)
        assert isinstance(outcome.error, OutcomeUnknown)
    elif dialogue["exit_code"] is not None:
        assert isinstance(outcome, Exited)
        assert outcome.status.code == dialogue["exit_code"]
    elif "exit-3" in name:
        assert isinstance(outcome, Exited)
        assert outcome.status.code == (3 if name.startswith("v4") else None)
        assert "3" in outcome.status.message


@pytest.mark.parametrize("dialogue", DIALOGUES, ids=NAMES)
def test_cut_at_every_byte_is_never_an_end(dialogue: dict[str, Any]) -> None:
    wire = bytes.fromhex(dialogue["server"]["hex"])
    for cut in range(len(wire)):
        session = client_for(dialogue)
        session.receive_data(wire[:cut], 0.0)
        session.receive_eof(0.0, clean=bool(cut % 2))
        assert isinstance(session.outcome, Lost), f"cut after {cut} of {len(wire)} bytes"


@pytest.mark.parametrize("dialogue", DIALOGUES, ids=NAMES)
def test_what_the_client_said(dialogue: dict[str, Any]) -> None:
    version, transport = DIALECTS[dialogue["protocol"]]
    session = ServerSession(version, streams_of(dialogue), transport=transport)
    session.start(0.0)
    wire = bytes.fromhex(dialogue["client"]["hex"])
    events: list[SessionEvent] = []
    stdin = b""
    for byte in range(len(wire)):
        for event in session.receive_data(wire[byte : byte + 1], 0.0):
            events.append(event)
            if isinstance(event, Stdin):
                stdin += bytes(event.data)
    if dialogue["peers"].startswith("client-go"):
        assert stdin.decode() == (dialogue["stdin"] or "")
        # client-go sends the CLOSE signal over v4, too, where it means nothing.
        ended = any(isinstance(event, StdinEnded) for event in events)
        assert ended == (version is Subprotocol.V5 and dialogue["stdin"] is not None)

"""The decoder of transcripts, judged by sessions recorded between Kubernetes' own programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fakekubelet.dissect import Seen, Sender, dissector
from fakekubelet.transcript import Exchange
from spdyproto.websocket.frames import pack_header
from support.vectors import DIALOGUES, Dialogue
from support.wsframes import xor

WEBSOCKET: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "vectors" / "websocket-dialogues.json").read_text()
)["dialogues"]
PIECES = pytest.mark.parametrize("piece", [1, 2, 3, 7, 64, 1 << 20])


def read(transport: str, protocol: str, wires: dict[Sender, bytes], piece: int) -> Exchange:
    exchange = Exchange("GET", "/exec/", {}, [])
    decoder = dissector(transport, protocol, lambda seen: exchange.note(seen, 1 << 20), forwarding=False, payload=True)
    for sender, wire in wires.items():
        for start in range(0, len(wire), piece):
            decoder.feed(sender, wire[start : start + piece])
    return exchange


@PIECES
@pytest.mark.parametrize("dialogue", DIALOGUES, ids=lambda dialogue: dialogue.name)
def test_spdy_as_go_spoke_it(dialogue: Dialogue, piece: int) -> None:
    told = read("spdy", dialogue.protocol, {"client": dialogue.client.wire, "server": dialogue.server.wire}, piece)
    assert told.streams.get(("server", "stdout"), b"") == dialogue.stdout
    assert told.streams.get(("server", "stderr"), b"") == dialogue.stderr
    assert told.streams.get(("client", "stdin"), b"") == (dialogue.stdin or b"")
    opened = [line for line in told.frames("client") if line.startswith("SYN_STREAM")]
    assert opened[0] == "SYN_STREAM error id=1 streamtype=error"
    assert len(opened) == sum(frame.startswith("SYN_REPLY") for frame in told.frames("server"))
    if dialogue.name == "v4-no-status":  # which client-go took for success
        assert told.exit_status == ""
    elif dialogue.exit_code == 0 and dialogue.protocol.startswith("v4"):
        assert json.loads(told.exit_status)["status"] == "Success"
    assert not any("UNREADABLE" in frame for frame in told.frames())


@PIECES
@pytest.mark.parametrize("dialogue", WEBSOCKET, ids=lambda dialogue: str(dialogue["name"]))
def test_websocket_as_go_spoke_it(dialogue: dict[str, Any], piece: int) -> None:
    wires: dict[Sender, bytes] = {
        "client": bytes.fromhex(dialogue["client"]["hex"]),
        "server": bytes.fromhex(dialogue["server"]["hex"]),
    }
    told = read("websocket", dialogue["protocol"], wires, piece)
    if dialogue["peers"].startswith("client-go"):
        assert told.total("server", "stdout") == len(dialogue["stdout"].encode())
        assert told.total("client", "stdin") == len((dialogue["stdin"] or "").encode())
        if "base64" not in dialogue["protocol"]:
            assert told.streams.get(("server", "stdout"), b"").decode() == dialogue["stdout"]
        if dialogue["protocol"].startswith("v5") and dialogue["stdin"] is not None:
            assert "CLOSE-STREAM stdin" in told.frames("client")
    assert not any("UNREADABLE" in frame for frame in told.frames())


@pytest.mark.parametrize("dialogue", DIALOGUES[:3], ids=lambda dialogue: dialogue.name)
def test_pieces_make_no_difference(dialogue: Dialogue) -> None:
    wires: dict[Sender, bytes] = {"client": dialogue.client.wire, "server": dialogue.server.wire}
    whole = read("spdy", dialogue.protocol, wires, 1 << 20)
    for piece in (1, 5, 13):
        assert str(read("spdy", dialogue.protocol, wires, piece)) == str(whole)


def test_a_tunnel_is_read_through() -> None:
    dialogue = DIALOGUES[0]
    wires: dict[Sender, bytes] = {"client": b"", "server": b""}
    for sender, wire in (("client", dialogue.client.wire), ("server", dialogue.server.wire)):
        for start in range(0, len(wire), 3):
            part = wire[start : start + 3]
            key = b"abcd" if sender == "client" else None
            wires["client" if sender == "client" else "server"] += pack_header(2, len(part), key=key)
            wires["client" if sender == "client" else "server"] += part if key is None else xor(part, key)
    told = read("websocket", "SPDY/3.1+portforward.k8s.io", wires, 5)
    straight = read("spdy", "", {"client": dialogue.client.wire, "server": dialogue.server.wire}, 1 << 20)
    assert told.frames() == straight.frames()


@pytest.mark.parametrize(
    ("transport", "wire"),
    [
        ("spdy", b"\x80\x02" + bytes(20)),
        ("spdy", bytes(20)),
        ("websocket", b"\xf2\x00\x00"),
        ("websocket", b"\x83\x00"),
    ],
)
def test_what_cannot_be_read_is_said_once_and_left_alone(transport: str, wire: bytes) -> None:
    seen: list[Seen] = []
    decoder = dissector(transport, "v4.channel.k8s.io", seen.append, forwarding=False)
    for _ in range(3):
        decoder.feed("client", wire)
    assert [each.kind for each in seen] == ["UNREADABLE"]
    assert seen[0].detail


def test_payload_is_counted_and_not_kept_unless_wanted() -> None:
    seen: list[Seen] = []
    decoder = dissector("spdy", "v4.channel.k8s.io", seen.append, forwarding=False)
    decoder.feed("client", DIALOGUES[0].client.wire)
    (stdin,) = [each for each in seen if each.kind == "DATA" and each.size]
    assert (stdin.size, stdin.payload) == (len(DIALOGUES[0].stdin or b""), b"")

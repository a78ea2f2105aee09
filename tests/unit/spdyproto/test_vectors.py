"""Golden bytes, of the specification and of the Go framer: fed whole, byte by byte, and with more behind them."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from spdyproto.spdy.states import Half
from spdyproto.spdy.streams import Stream
from spdyproto.types import Policy, Role
from support import wire
from support.events import Told
from support.pair import Bench
from support.vectors import DIALOGUES, VECTORS, Dialogue, Vector, pairs


def expected(frame: dict[str, Any]) -> Told | None:
    """What a frame tells an engine on whose connection it is legal; None for nothing."""
    kind, fin = frame["type"], bool(frame["flags"] & wire.FIN)
    stream_id = frame.get("stream_id", 0)
    if kind == "SYN_STREAM":
        uni = bool(frame["flags"] & wire.UNIDIRECTIONAL)
        associated, priority = frame["associated_to"], frame["priority"]
        return ("StreamOpened", stream_id, pairs(frame["headers"]), fin, uni, priority, associated)
    if kind == "SYN_REPLY":
        return ("StreamAccepted", stream_id, pairs(frame["headers"]), fin)
    if kind == "HEADERS":
        return ("HeadersReceived", stream_id, pairs(frame["headers"]), fin)
    if kind == "RST_STREAM":
        return ("StreamReset", stream_id, frame["status"], True)
    if kind == "SETTINGS":
        entries = [(key, value, flag) for flag, key, value in frame["entries"]]
        return ("SettingsReceived", entries, bool(frame["flags"]))
    if kind == "PING":
        return ("PingReceived", frame["ping_id"])
    if kind == "GOAWAY":
        return ("GoAwayReceived", frame["last_good_stream_id"], frame["status"])
    if kind == "DATA":
        return ("DataReceived", stream_id, frame["length"], frame["sha256"], fin) if frame["length"] or fin else None
    assert kind == "WINDOW_UPDATE"
    return None


def digested(told: list[Told]) -> list[Told]:
    """As the vectors have it: payload by its length and digest, headers sorted by name."""
    result: list[Told] = []
    for event in told:
        if event[0] == "DataReceived":
            name, stream_id, payload, fin = event
            event = (name, stream_id, len(payload), hashlib.sha256(payload).hexdigest(), fin)
        elif event[0] in ("StreamOpened", "StreamAccepted", "HeadersReceived"):
            by_name = sorted(event[2], key=lambda pair: str(pair[0]))
            event = (*event[:2], by_name, *event[3:])
        result.append(event)
    return result


def bench_for(vector: Vector) -> Bench:
    """An engine on whose connection every frame of the vector is legal.

    The vector's compression is that of a fresh connection, so streams that it takes for granted cannot be opened by
    frames: they are put into the engine's table.
    """
    frames = vector.frames
    from_a_server = any(
        frame["type"] in ("SYN_REPLY", "HEADERS") or (frame["type"] == "PING" and frame["ping_id"] % 2 == 0)
        for frame in frames
    )
    lists_with_empty_values = any(
        len(values) > 1 and "" in values for frame in frames for _, values in frame.get("headers", ())
    )
    policy = Policy.KUBERNETES if lists_with_empty_values else Policy.STRICT
    bench = Bench(Role.CLIENT if from_a_server else Role.SERVER, policy=policy)
    known = {frame["stream_id"] for frame in frames if frame["type"] == "SYN_STREAM"}
    for frame in frames:
        stream_id = frame.get("stream_id", 0)
        if stream_id and stream_id not in known:
            known.add(stream_id)
            theirs = Half.AWAITING_REPLY if frame["type"] == "SYN_REPLY" else Half.OPEN
            bench.engine._add(Stream(stream_id, Half.OPEN, theirs, opened_by_us=True))
    return bench


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
@pytest.mark.parametrize("size", [None, 1, 3])
def test_golden_bytes_tell_what_they_hold(vector: Vector, size: int | None) -> None:
    bench = bench_for(vector)
    told = digested(bench.feed(vector.wire, size=size))
    wanted = [event for event in map(expected, vector.frames) if event is not None]
    assert told[: len(wanted)] == wanted
    assert told[len(wanted) :] == []
    assert not bench.engine.within_frame
    assert not bench.engine.terminated


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
@pytest.mark.parametrize(
    ("trailer", "within"),
    [(b"\x80\x03\x00", True), (wire.settings([(1, 2, 0)]), False), (wire.control(6, b"", length=4), True)],
)
def test_golden_bytes_with_more_behind_them(vector: Vector, trailer: bytes, within: bool) -> None:
    bench = bench_for(vector)
    told = digested(bench.feed(vector.wire + trailer))
    wanted = [event for event in map(expected, vector.frames) if event is not None]
    if not within:
        wanted.append(("SettingsReceived", [(1, 2, 0)], False))
    assert told == wanted
    assert bench.engine.within_frame is within


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_golden_bytes_followed_by_rubbish(vector: Vector) -> None:
    bench = bench_for(vector)
    told = digested(bench.feed(vector.wire + b"\xff" * 64))
    wanted = [event for event in map(expected, vector.frames) if event is not None]
    assert told[:-1] == wanted
    assert told[-1][:2] == ("ConnectionTerminated", "FramingError")


@pytest.mark.parametrize("dialogue", DIALOGUES, ids=lambda dialogue: dialogue.name)
@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("size", [None, 1, 2, 5])
def test_our_reader_reads_go_and_agrees_with_the_recording(dialogue: Dialogue, side: str, size: int | None) -> None:
    """The raw peer that the tests use as a judge, judged itself."""
    vector: Vector = getattr(dialogue, side)
    peer, frames = wire.RawPeer(), []
    for part in wire.pieces(vector.wire, size or len(vector.wire)):
        frames += peer.read(part)
    assert not peer.within_frame
    assert [frame[0] for frame in frames] == [frame["type"] for frame in vector.frames]
    for frame, recorded in zip(frames, vector.frames, strict=True):
        if frame[0] == "DATA":
            assert hashlib.sha256(frame[2]).hexdigest() == recorded["sha256"]
        if "headers" in recorded:
            assert sorted(frame[3]) == pairs(recorded["headers"])

"""Cutting bytes into frames: whatever the pieces, the same frames; data never assembled; little kept."""

from __future__ import annotations

import pytest

from spdyproto.errors import FramingError, LimitExceeded
from spdyproto.limits import Limits
from spdyproto.spdy.parser import FrameParser
from support import wire
from support.vectors import VECTORS, Vector
from support.wire import pieces


class Recorder:
    """Notes the frames, the pieces of a data frame joined; stops after so many calls."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.frames: list[tuple[object, ...]] = []
        self.calls: list[tuple[str, int, bool, bool]] = []
        self._stop_after = stop_after
        self._payload = b""

    def on_data(self, stream_id: int, chunk: memoryview, fin: bool, end: bool) -> bool | None:
        self.calls.append(("data", len(chunk), fin, end))
        assert end or not fin, "FIN belongs to the last piece"
        self._payload += chunk
        if end:
            self.frames.append(("DATA", stream_id, self._payload, fin))
            self._payload = b""
        return self._stop()

    def on_more_data(self, stream_id: int, chunk: memoryview, fin: bool, end: bool) -> bool | None:
        stopped = self.on_data(stream_id, chunk, fin, end)
        self.calls[-1] = ("more", len(chunk), fin, end)
        return stopped

    def on_control(self, kind: int, flags: int, payload: memoryview) -> bool | None:
        self.calls.append(("control", len(payload), False, True))
        self.frames.append((kind, flags, bytes(payload)))
        return self._stop()

    def _stop(self) -> bool:
        return self._stop_after is not None and len(self.calls) >= self._stop_after


def feed_all(parser: FrameParser, sink: Recorder, parts: list[bytes]) -> None:
    for part in parts:
        parser.feed(part, sink)


def parse(parts: list[bytes], limits: Limits | None = None) -> Recorder:
    parser, sink = FrameParser(limits or Limits()), Recorder()
    feed_all(parser, sink, parts)
    assert not parser.in_frame
    return sink


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 8, 9, 1 << 20])
def test_golden_frames_in_any_pieces(vector: Vector, size: int) -> None:
    assert parse(pieces(vector.wire, size)).frames == parse([vector.wire]).frames


def test_data_is_handed_on_as_it_comes_and_as_views() -> None:
    buffer = bytearray(wire.data(1, b"abcdef", fin=True))
    parser, views = FrameParser(Limits()), []

    class Keeper(Recorder):
        def on_data(self, stream_id: int, chunk: memoryview, fin: bool, end: bool) -> bool | None:
            views.append(chunk)
            return super().on_data(stream_id, chunk, fin, end)

    sink = Keeper()
    parser.feed(memoryview(buffer)[:10], sink)
    within = [parser.in_frame]
    assert sink.calls == [("data", 2, False, False)]
    parser.feed(memoryview(buffer)[10:], sink)
    assert sink.calls[1:] == [("more", 4, True, True)]
    assert [*within, parser.in_frame] == [True, False]
    buffer[8:10] = b"AB"
    assert bytes(views[0]) == b"AB", "a view of the caller's buffer, not a copy"


def test_a_header_alone_makes_no_call() -> None:
    parser, sink = FrameParser(Limits()), Recorder()
    parser.feed(wire.data(1, b"x")[:8], sink)
    assert sink.calls == []
    assert parser.in_frame
    parser.feed(b"", sink)
    parser.feed(b"x", sink)
    assert sink.frames == [("DATA", 1, b"x", False)]


def test_an_empty_data_frame_is_a_whole_one() -> None:
    header = wire.data(1, fin=True)
    for parts in ([header], pieces(header, 1), [header[:4], header[4:]]):
        assert parse(parts).calls == [("data", 0, True, True)]


@pytest.mark.parametrize("split", range(1, 20))
def test_frames_that_follow_a_cut_one(split: int) -> None:
    stream = wire.ping(1) + wire.data(3, b"xyz") + wire.ping(2)
    expected = [(6, 0, wire.u32(1)), ("DATA", 3, b"xyz", False), (6, 0, wire.u32(2))]
    assert parse([stream[:split], stream[split:]]).frames == expected


@pytest.mark.parametrize("stop", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 5, 6, 7, 1000])
def test_a_sink_that_stops_gets_nothing_more_of_the_buffer(stop: int, size: int) -> None:
    stream = wire.ping(1) + wire.data(3, b"xyz") + wire.ping(2) + wire.ping(3)
    parser, sink = FrameParser(Limits()), Recorder(stop_after=stop)
    for part in pieces(stream, size):
        parser.feed(part, sink)
        if len(sink.calls) >= stop:
            break
    assert len(sink.calls) == stop


def test_a_sink_that_stops_on_the_rest_of_a_frame() -> None:
    stream = wire.data(3, b"xyz") + wire.ping(2)
    parser, sink = FrameParser(Limits()), Recorder(stop_after=2)
    parser.feed(stream[:9], sink)
    parser.feed(stream[9:], sink)
    assert [call[0] for call in sink.calls] == ["data", "more"]


@pytest.mark.parametrize("size", [1, 8, 1000])
@pytest.mark.parametrize(
    ("frame", "error", "complaint"),
    [
        (wire.control(6, wire.u32(1), version=2), FramingError, "version 2; version 3 expected"),
        (wire.control(6, wire.u32(1), version=0x7FFF), FramingError, "version 32767"),
        (wire.control(4, b"", length=64 * 1024 + 1), LimitExceeded, "65537 bytes; the limit is 65536"),
        (wire.data(0, b"x"), FramingError, "DATA for stream 0"),
        (wire.data(1, b"x", flags=2), FramingError, "unknown flags 0x02"),
        (wire.data(1, b"x", flags=0x81), FramingError, "unknown flags 0x81"),
        (wire.data(1, b"x", flags=2) + b"whatever", FramingError, "unknown flags"),
        (wire.data(1, bytes(101)), LimitExceeded, "DATA of 101 bytes; the limit is 100"),
        (wire.u32(1, 0xFFFFFF), LimitExceeded, "DATA of 16777215 bytes"),
    ],
)
def test_headers_that_are_none(frame: bytes, error: type[Exception], complaint: str, size: int) -> None:
    parser, sink = FrameParser(Limits(data_frame=100)), Recorder()
    with pytest.raises(error, match=complaint):
        feed_all(parser, sink, pieces(frame, size))
    assert sink.calls == [], "judged by its header alone"


@pytest.mark.parametrize("size", [7, 8])
def test_the_limits_themselves_are_allowed(size: int) -> None:
    limits = Limits(control_frame=4, data_frame=100)
    assert len(parse(pieces(wire.ping(1) + wire.data(1, bytes(100)), size), limits).frames) == 2


def test_other_buffers_than_bytes() -> None:
    frame = wire.ping(1)
    for buffer in (bytearray(frame), memoryview(frame), memoryview(bytearray(frame)).cast("I")):
        sink = Recorder()
        FrameParser(Limits()).feed(buffer, sink)
        assert sink.frames == [(6, 0, wire.u32(1))]

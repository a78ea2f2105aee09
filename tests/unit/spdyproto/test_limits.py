"""Each limit is crossed: what a hostile peer gets is a typed end of the connection, and bounded memory and time."""

from __future__ import annotations

import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from spdyproto.channels.events import StreamSet
from spdyproto.errors import LocalProtocolError, OutputLimitExceeded
from spdyproto.limits import KIB, MIB, Deadlines, Keepalive, Limits
from spdyproto.spdy.dictionary import DICTIONARY
from spdyproto.spdy.flow import Windowed
from spdyproto.types import Policy, Role
from support import wire
from support.events import Told
from support.pair import Bench
from support.sessions import ERROR, RESIZE, STDOUT, V4, ClientBench, ServerBench
from support.wire import pieces, u32

TTY = StreamSet(stdin=True, stderr=False, tty=True)


@contextmanager
def within(limit: int) -> Iterator[None]:
    """The most memory that Python objects took at any moment in between."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < limit, f"peak of {peak} bytes"


def exceeded(told: list[Told]) -> str:
    assert told
    assert [event[0] for event in told].count("ConnectionTerminated") == 1
    assert told[-1][:2] == ("ConnectionTerminated", "LimitExceeded"), told[-1]
    return str(told[-1][2])


def bomb(inflated: int, largest: int) -> bytes:
    """A block of zeros that is small on the wire."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 15, 9, zlib.Z_DEFAULT_STRATEGY, DICTIONARY)
    parts = [packer.compress(u32(1, 1) + b"a" + u32(inflated))]
    parts += [packer.compress(bytes(1 << 16)) for _ in range(inflated >> 16)]
    block = b"".join(parts) + packer.flush(zlib.Z_SYNC_FLUSH)
    assert len(block) <= largest
    return block


# -- memory and time under attack ----------------------------------------------------------------------------------

BOMB = bomb(64 * MIB - (1 << 16), 66 * KIB)


@pytest.mark.parametrize("policy", Policy)
@pytest.mark.parametrize("size", [None, 1000])
def test_a_deflate_bomb_of_64_kib_is_never_inflated(policy: Policy, size: int | None) -> None:
    bench = Bench(policy=policy, limits=Limits(control_frame=128 * KIB))
    frame = wire.control(1, u32(1, 0) + b"\0\0" + BOMB)
    start = time.process_time()
    with within(1 * MIB):
        text = exceeded(bench.feed(frame, size=size))
    assert "inflates to more than 65536 bytes" in text
    assert time.process_time() - start < 2
    assert bench.sent() == [("GOAWAY", 0, 2)]


@pytest.mark.parametrize("kind", ["count", "name", "value", "values"])
def test_lengths_on_the_wire_are_believed_only_when_the_bytes_are_there(kind: str) -> None:
    bench = Bench()
    block = {
        "count": u32(0xFFFFFFFF),
        "name": u32(1, 0xFFFFFFFF),
        "value": u32(1, 1) + b"a" + u32(0xFFFFFFFF),
        "values": u32(1, 1) + b"a" + u32(60_000) + bytes(60_000),
    }[kind]
    with within(1 * MIB):
        told = bench.feed(wire.control(1, u32(1, 0) + b"\0\0" + bench.peer.compress(block)))
    assert told[-1][:2] in (("ConnectionTerminated", "LimitExceeded"), ("ConnectionTerminated", "HeaderBlockError"))


def test_a_settings_count_of_4_billion() -> None:
    bench = Bench()
    with within(256 * KIB):
        told = bench.feed(wire.settings([], count=0xFFFFFFFF))
    assert told[0][:2] == ("ConnectionTerminated", "FramingError")


@pytest.mark.parametrize("policy", Policy)
@pytest.mark.parametrize("size", [None, 12, 5000])
def test_a_ping_flood_that_is_not_read(policy: Policy, size: int | None) -> None:
    bench = Bench(policy=policy)
    flood = b"".join(wire.ping(number) for number in range(1, 2 * 1024 * 4, 2))
    with within(4 * MIB):
        text = exceeded(bench.feed(flood, size=size))
    assert "more than 1024 answers" in text
    frames = bench.sent()
    assert [frame[0] for frame in frames] == ["PING"] * 1024 + ["GOAWAY"]


def test_any_number_of_pings_that_are_read() -> None:
    bench = Bench(limits=Limits(nuisances=1 << 40))
    for number in range(1, 20_001, 2):
        assert bench.feed(wire.ping(number)) == [("PingReceived", number)]
        assert bench.sent() == [("PING", number)]


@pytest.mark.parametrize("policy", Policy)
def test_a_storm_of_openings_and_resets_leaves_nothing_behind(policy: Policy) -> None:
    bench = Bench(policy=policy)
    for number in range(1, 3001, 2):
        bench.feed(bench.peer.syn_stream(number), wire.rst(number))
    assert bench.engine.open_streams == 0
    assert bench.engine.pending_bytes == 0
    with within(512 * KIB):
        for number in range(3001, 6001, 2):
            bench.feed(bench.peer.syn_stream(number), wire.rst(number))
    assert len(bench.engine._table.closed) == Limits().closed_streams


@pytest.mark.parametrize("policy", Policy)
def test_a_storm_of_refused_streams_that_reads_no_refusal(policy: Policy) -> None:
    bench = Bench(policy=policy, limits=Limits(streams=1, queued_chores=100))
    bench.peer_opens(1)
    told: list[Told] = []
    for number in range(3, 1000, 2):
        told += bench.feed(bench.peer.syn_stream(number))
    assert "more than 100 answers" in exceeded(told)
    assert bench.engine.pending_bytes == 100 * 16 + 16


@pytest.mark.parametrize(
    ("policy", "frame"),
    [
        (Policy.KUBERNETES, lambda bench: bench.peer.syn_stream(1)),
        (Policy.STRICT, lambda bench: wire.data(99, b"x")),
        (Policy.STRICT, lambda bench: bench.peer.headers(99)),
    ],
    ids=["repeated id", "data", "headers"],
)
def test_a_storm_of_anything_that_is_answered_with_a_reset(policy: Policy, frame: Callable[[Bench], bytes]) -> None:
    bench = Bench(policy=policy)
    bench.peer_opens(1)
    told: list[Told] = []
    for _ in range(1100):
        told += bench.feed(frame(bench))
    exceeded(told)


def test_the_answer_too_many_comes_after_the_reset_that_it_was_for() -> None:
    bench = Bench(policy=Policy.STRICT, limits=Limits(queued_chores=0))
    bench.peer_opens(1)
    told = bench.feed(bench.peer.syn_stream(1), wire.ping(1))
    assert [event[0] for event in told] == ["StreamReset", "ConnectionTerminated"]


def test_a_flood_of_data_that_nobody_takes_is_not_credited_for_ever() -> None:
    bench = Bench(policy=Policy.STRICT, flow=Windowed(), limits=Limits(queued_chores=20))
    bench.peer_opens(1)
    bench.feed(wire.rst(1))
    bench.sent()
    told: list[Told] = []
    for _ in range(30):
        told += bench.feed(wire.data(1, bytes(32 * KIB)))
    exceeded(told)


def test_a_frame_of_16_mib_that_is_announced_costs_nothing() -> None:
    bench = Bench()
    bench.peer_opens(1)
    with within(256 * KIB):
        bench.feed(u32(1, (1 << 24) - 1))
        for _ in range(100):
            for event in bench.engine.receive_data(bytes(1000), 0.0):
                del event


def test_floods_of_frames_that_are_ignored_cost_nothing() -> None:
    bench = Bench(limits=Limits(nuisances=1 << 40))
    bench.peer_opens(1)
    one = wire.window_update(1, 1) + wire.settings([]) + wire.data(99, b"") + wire.data(1) + wire.rst(99) + wire.ping(2)
    buffer = one * 100
    bench.engine.receive_data(buffer, 0.0)
    with within(512 * KIB):
        for _ in range(30):
            bench.engine.receive_data(buffer, 0.0)
    assert bench.engine.pending_bytes == 0


# -- each limit, at its value and beyond it ------------------------------------------------------------------------


@pytest.mark.parametrize("size", [None, 1])
def test_control_frame(size: int | None) -> None:
    limits = Limits(control_frame=4 + 8 * 20, settings_entries=1000)
    assert Bench(limits=limits).feed(wire.settings([(1, 1, 0)] * 20), size=size)[0][0] == "SettingsReceived"
    text = exceeded(Bench(limits=limits).feed(wire.settings([(1, 1, 0)] * 21), size=size))
    assert text == "control frame of 172 bytes; the limit is 164"


def test_a_control_frame_beyond_its_limit_is_refused_by_its_header() -> None:
    bench = Bench()
    with within(64 * KIB):
        assert "16777215" in exceeded(bench.feed(wire.control(4, b"", length=(1 << 24) - 1)))


@pytest.mark.parametrize("over", [0, 1])
def test_header_block(over: int) -> None:
    bench = Bench(limits=Limits(header_block=1000))
    told = bench.feed(bench.peer.syn_stream(1, {"a": "x" * (1000 - 13 + over)}))
    assert told[0][0] == ("ConnectionTerminated" if over else "StreamOpened")


@pytest.mark.parametrize("over", [0, 1])
def test_header_pairs(over: int) -> None:
    bench = Bench()
    told = bench.feed(bench.peer.syn_stream(1, {f"x{number}": "" for number in range(1000 + over)}))
    if over:
        assert "announces 1001 pairs; the limit is 1000" in exceeded(told)
    else:
        assert len(told[0][2]) == 1000


def test_a_name_of_more_than_a_mebibyte() -> None:
    bench = Bench(limits=Limits(control_frame=2 * MIB))
    exceeded(bench.feed(bench.peer.syn_stream(1, {"x" * (MIB + 1): ""})))


@pytest.mark.parametrize("policy", Policy)
def test_streams(policy: Policy) -> None:
    bench = Bench(policy=policy)
    for number in range(256):
        assert bench.feed(bench.peer.syn_stream(2 * number + 1)) != []
    assert bench.feed(bench.peer.syn_stream(513)) == []
    assert bench.sent() == [("RST_STREAM", 513, 3)]
    assert bench.feed(wire.data(513, b"on its way")) == []
    assert bench.feed(bench.peer.headers(513)) == []
    assert bench.sent() == [], "what was on its way to a refused stream is no fault"
    with pytest.raises(LocalProtocolError, match="256 streams are open"):
        bench.engine.open_stream([])
    bench.feed(wire.rst(1))
    assert bench.feed(bench.peer.syn_stream(515)) != []


@pytest.mark.parametrize("memory", [0, 3])
def test_closed_streams(memory: int) -> None:
    bench = Bench(policy=Policy.STRICT, limits=Limits(closed_streams=memory))
    for number in range(1, 21, 2):
        bench.feed(bench.peer.syn_stream(number), wire.rst(number))
    assert len(bench.engine._table.closed) == memory
    for number in range(1, 21, 2):
        bench.feed(wire.data(number, b"late"))
    assert len(bench.sent()) == 10 - memory, "forgotten streams are unknown ones"


@pytest.mark.parametrize("over", [0, 1])
def test_settings_entries(over: int) -> None:
    told = Bench().feed(wire.settings([(1, 1, 0)] * (64 + over)))
    assert told[0][0] == ("ConnectionTerminated" if over else "SettingsReceived")


@pytest.mark.parametrize("size", [None, 3])
@pytest.mark.parametrize("over", [0, 1])
def test_data_frame(over: int, size: int | None) -> None:
    bench = Bench(limits=Limits(data_frame=1000))
    bench.peer_opens(1)
    told = bench.feed(wire.data(1, bytes(1000 + over)), size=size)
    assert told[0][0] == ("ConnectionTerminated" if over else "DataReceived")


def test_data_frame_out() -> None:
    bench = Bench(Role.CLIENT)
    bench.engine.send_data(bench.we_open(), bytes(200_000))
    assert [len(frame[2]) for frame in bench.sent()] == [65_528, 65_528, 65_528, 200_000 - 3 * 65_528]


def test_queued_bytes() -> None:
    bench = Bench(Role.CLIENT)
    stream_id = bench.we_open()
    for _ in range(40):
        bench.engine.send_data(stream_id, bytes(100 * KIB))
    with pytest.raises(OutputLimitExceeded, match="send what is queued first"):
        bench.engine.send_data(stream_id, bytes(100 * KIB))
    assert bench.engine.pending_bytes == 40 * (100 * KIB + 2 * 8)


def test_queued_chores() -> None:
    bench = Bench(limits=Limits(queued_chores=3))
    assert bench.feed(*(wire.ping(number) for number in (1, 3, 5)))[-1] == ("PingReceived", 5)
    bench.sent()
    assert "more than 3 answers" in exceeded(bench.feed(*(wire.ping(number) for number in (1, 3, 5, 7))))


@pytest.mark.parametrize("size", [None, 10_000])
@pytest.mark.parametrize("over", [0, 1])
def test_error_stream(over: int, size: int | None) -> None:
    body = b'{"status":"Success"}'.ljust(256 * KIB + over)
    bench = ClientBench()
    told = bench.feed(bench.fin(STDOUT), bench.data(ERROR, body), wire.goaway(), size=size)
    if over:
        assert told[-1][:2] == ("Lost", "LimitExceeded")
        assert "the error stream holds more than 262144 bytes" in told[-1][2]
    else:
        assert told[-1][0] == "Exited"


def test_an_endless_error_stream_costs_its_limit() -> None:
    bench = ClientBench()
    block = bench.data(ERROR, b"x" * 32 * KIB)
    with within(2 * MIB):
        for _ in range(1000):
            bench.session.receive_data(block, 0.0)
    assert bench.session.outcome is not None


def test_resize_buffer() -> None:
    bench = ServerBench(V4, TTY)
    with within(512 * KIB):
        for part in pieces(bench.data(RESIZE, b'{"Width":"' + b"x" * 100_000), 1000):
            bench.feed(part)
    assert bench.feed(bench.data(RESIZE, b'{"Width":1,"Height":1}')) == []


# -- the values themselves -----------------------------------------------------------------------------------------


def test_defaults_are_those_that_are_documented() -> None:
    limits, deadlines, keepalive = Limits(), Deadlines(), Keepalive()
    assert (limits.control_frame, limits.header_block, limits.header_pairs) == (64 * KIB, 64 * KIB, 1000)
    assert (limits.streams, limits.settings_entries, limits.data_frame) == (256, 64, (1 << 24) - 1)
    assert (limits.data_frame_out + 8) % (16 * KIB) == 0, "whole TLS records"
    assert (deadlines.stream_reply, deadlines.streams, deadlines.status, deadlines.drain) == (30.0, 30.0, 60.0, 30.0)
    assert (keepalive.period, keepalive.deadline) == (5.0, 30.0)


@pytest.mark.parametrize("size", [-1, 0, 1 << 24])
def test_frames_that_could_not_be_written(size: int) -> None:
    with pytest.raises(ValueError, match="data_frame_out"):
        Limits(data_frame_out=size)


@pytest.mark.parametrize(("period", "deadline"), [(0.0, 30.0), (-1.0, 30.0), (5.0, 0.0)])
def test_a_keepalive_that_would_never_rest(period: float, deadline: float) -> None:
    with pytest.raises(ValueError, match="more than 0"):
        Keepalive(period, deadline)

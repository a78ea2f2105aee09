"""The pipes of the asyncio client, without a connection."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeletclient._policy import BATCH, HIGH_WATER
from kubeletclient.aio.pipes import InputPipe, PipeSink, Signal
from kubeletclient.errors import OutputLimitExceeded
from support.loops import cancelled, on_a_loop


class Port:
    """What an exchange would be: takes batches when it is asked to, if it has room."""

    def __init__(self, pipe: InputPipe, *, room: int = 1 << 30) -> None:
        self.pipe = pipe
        self.room = room
        self.soon = 0
        self.taken = bytearray()
        self.ended = False
        pipe.start(self)

    def flush(self) -> None:
        while self.room > 0:
            batch = self.pipe.next_batch(memoryview(bytearray(BATCH)))
            if batch is None:
                return
            if not len(batch):
                self.ended = True
                return
            self.taken += batch
            self.room -= len(batch)

    def flush_written(self) -> None:
        self.soon += 1

    def abort(self, cause: BaseException) -> None:
        raise AssertionError("a pipe does not fail")


async def write(pipe: InputPipe, data: memoryview) -> bool:
    left = pipe.write(data)
    return left is None or await pipe.until_taken(left)


def sink_with(*chunks: bytes) -> PipeSink:
    sink = PipeSink(asyncio.new_event_loop())
    sink._loop.close()
    for chunk in chunks:
        sink.feed(memoryview(chunk))
    return sink


# -- output -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(min_size=1, max_size=20)), st.lists(st.integers(0, 30)), st.booleans())
def test_whatever_is_taken_comes_in_order(chunks: list[bytes], sizes: list[int], into: bool) -> None:
    sink = sink_with(*chunks)
    came = b""
    for size in sizes:
        if into:
            room = memoryview(bytearray(size))
            piece = bytes(room[: sink.take_into(room)])
        else:
            piece = sink.take(size)
        assert len(piece) == min(size, len(b"".join(chunks)) - len(came))
        came += piece
    assert came + sink.take(1 << 20) == b"".join(chunks)
    assert sink.size == 0


def test_a_waiting_buffer_is_filled_before_anything_is_kept() -> None:
    sink = sink_with()
    room = memoryview(bytearray(5))
    sink.into = room
    sink.feed(memoryview(b"abc"))
    sink.feed(memoryview(b"defg"))
    assert (bytes(room), sink.size, sink.take(10)) == (b"abcde", 2, b"fg")
    sink.give_back(room[:3])
    sink.into = None
    assert sink.take(10) == b"abc"


def test_views_are_copied() -> None:
    scratch = bytearray(b"abc")
    sink = sink_with()
    sink.feed(memoryview(scratch))
    scratch[:] = b"xyz"
    assert sink.take(3) == b"abc"


def test_the_mark_and_the_limit() -> None:
    rooms: list[int] = []
    sink = sink_with()
    sink.start(lambda: rooms.append(sink.size))
    sink.feed(memoryview(bytes(HIGH_WATER - 1)))
    full = [sink.full]
    sink.feed(memoryview(b"x"))
    assert [*full, sink.full] == [False, True]
    sink.take(HIGH_WATER // 2 - 1)
    assert rooms == []
    sink.take(1)
    assert rooms == [HIGH_WATER // 2], "told once, at half"
    sink.take(1)
    assert len(rooms) == 1
    sink.limit = sink.size + 2
    assert not sink.full
    with pytest.raises(OutputLimitExceeded, match="raise capture_limit"):
        sink.feed(memoryview(b"123"))
    assert sink.take(1 << 20).endswith(b"x12"), "up to the limit it is kept"


def test_discarding() -> None:
    sink = sink_with(b"some")
    sink.discard()
    sink.feed(memoryview(b"more"))
    assert (sink.size, sink.take(10)) == (0, b"")


@on_a_loop
async def test_readers_are_woken_by_what_they_wait_for() -> None:
    sink = PipeSink(asyncio.get_running_loop())
    waiting = asyncio.ensure_future(sink.wait(lambda: sink.size >= 3))
    await asyncio.sleep(0)
    for piece in (b"a", b"b"):
        sink.feed(memoryview(piece))
        sink.look()
        await asyncio.sleep(0)
        assert not waiting.done()
    sink.feed(memoryview(b"c"))
    sink.look()
    sink.wake()  # twice is as good as once
    await waiting
    sink.look()
    waiting = asyncio.ensure_future(sink.wait(lambda: False))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="two tasks"):
        await sink.wait(lambda: True)
    await cancelled(waiting)
    waiting = asyncio.ensure_future(sink.wait(lambda: False))
    await asyncio.sleep(0)
    sink.wake()
    await waiting


@on_a_loop
async def test_a_signal() -> None:
    signal = Signal()
    waiting = [asyncio.ensure_future(signal.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    await cancelled(waiting.pop())
    assert not any(task.done() for task in waiting)
    signal.set()
    signal.set()
    await asyncio.gather(*waiting, signal.wait())


# -- stdin ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from([0, 1, 10, 1000, BATCH - 1, BATCH, BATCH + 1, 3 * BATCH + 7]), max_size=6))
def test_writes_come_out_whole_and_in_order(sizes: list[int]) -> None:
    async def run() -> None:
        pipe = InputPipe()
        port = Port(pipe)
        expected = b""
        for index, size in enumerate(sizes):
            data = bytearray([index + 1]) * size
            expected += data
            assert await write(pipe, memoryview(data))
            data[:] = bytes(size)
        pipe.close()
        port.flush()
        assert port.taken == expected
        assert port.ended

    asyncio.run(run())


@on_a_loop
async def test_small_writes_leave_together() -> None:
    pipe = InputPipe()
    port = Port(pipe)
    for _ in range(100):
        assert await write(pipe, memoryview(b"0123456789"))
    assert port.soon == 100, "asked for, and not sent one by one"
    batch = pipe.next_batch(memoryview(bytearray(BATCH)))
    assert batch is not None
    assert len(batch) == 1000
    assert pipe.next_batch(memoryview(bytearray(BATCH))) is None


@on_a_loop
async def test_a_write_waits_for_room() -> None:
    pipe = InputPipe()
    port = Port(pipe, room=0)
    assert await write(pipe, memoryview(bytes(1000)))
    writing = [asyncio.ensure_future(write(pipe, memoryview(bytearray(BATCH)))) for _ in range(2)]
    await asyncio.sleep(0)
    await cancelled(writing[1])
    port.room = 1 << 30
    port.flush()
    assert await writing[0]
    assert len(port.taken) == 1000 + BATCH, "the cancelled one never leaves"


@on_a_loop
async def test_who_waits_is_told_when_nobody_takes_it() -> None:
    pipe = InputPipe()
    Port(pipe, room=0)
    writing = asyncio.ensure_future(write(pipe, memoryview(bytes(2 * BATCH))))
    await asyncio.sleep(0)
    pipe.stop()
    assert await writing is False
    assert pipe.next_batch(memoryview(bytearray(10))) is None

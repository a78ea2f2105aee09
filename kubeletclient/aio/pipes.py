"""The two ends that a caller holds while a command runs: outputs to be read, and stdin to be written.

A pipe lives on the loop and is never shared between threads. Output is copied once, or not at all when a ``readinto``
already waits for it. A reader is woken once for each time the socket was read, not for each frame.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from kubeletclient._policy import BATCH, HIGH_WATER, first_batch
from kubeletclient.results import gathered_too_much
from spdyproto.types import Buffer

__all__ = ["InputPipe", "PipeSink", "Port", "Signal", "Write"]


class Port(Protocol):
    """What a source of stdin sees of the exchange that it feeds."""

    def flush(self) -> None:
        """Take what there is, and send it."""

    def flush_written(self) -> None:
        """The same for small pieces: the first at once, those that follow together, when the loop comes round."""

    def abort(self, cause: BaseException) -> None:
        """Give the session up: the source has failed."""


class Signal:
    """Something that happens once, for any number of tasks to wait for. ``asyncio.Event`` costs four times as much."""

    __slots__ = ("_waiters", "happened")

    def __init__(self) -> None:
        self.happened = False
        self._waiters: list[asyncio.Future[None]] = []

    def set(self) -> None:
        """It has happened."""
        self.happened = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self) -> None:
        """Until it has happened."""
        if not self.happened:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            finally:
                self._waiters.remove(waiter)


class PipeSink:
    """Output that waits for the caller to read it, and the place where a waiting read wants it. One task reads at a
    time.
    """

    __slots__ = ("_enough", "_loop", "_on_room", "_waiter", "chunks", "discarding", "ended", "into", "limit", "size")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._enough: Callable[[], bool] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._on_room: Callable[[], None] | None = None
        self.chunks: deque[bytes | memoryview] = deque()
        self.size = 0
        self.into: memoryview | None = None
        self.ended = False
        self.discarding = False
        self.limit: int | None = None
        """Set while everything is gathered: kept are so many bytes, and reading the socket never stops."""

    def feed(self, data: memoryview) -> None:
        """Straight into the waiting buffer; what does not fit is copied once and kept."""
        if self.discarding:
            return
        into = self.into
        if into is not None:
            size = min(len(into), len(data))
            into[:size] = data[:size]
            self.into = into[size:]
            data = data[size:]
        if data:
            if self.limit is not None and self.size + len(data) > self.limit:
                self._keep(data[: self.limit - self.size])
                raise gathered_too_much(self.limit)
            self._keep(data)

    def _keep(self, data: memoryview) -> None:
        self.chunks.append(bytes(data))
        self.size += len(data)

    def partial(self) -> None:
        """A pipe keeps nothing for errors: its reader has it, or will get it."""

    @property
    def full(self) -> bool:
        """Whether reading the socket has to stop for it."""
        return self.size >= HIGH_WATER and self.limit is None

    def start(self, on_room: Callable[[], None]) -> None:
        """``on_room`` is called when a full pipe has become half empty."""
        self._on_room = on_room

    def look(self) -> None:
        """Something has come: wake the reader if it is what it waits for."""
        if self._enough is not None and self._enough():
            self.wake()

    def wake(self) -> None:
        """Let the reader look again."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def wait(self, enough: Callable[[], bool]) -> None:
        """Until ``enough()``, or until ``wake`` because nothing more comes. One task at a time: else RuntimeError."""
        if self._waiter is not None:
            raise RuntimeError("two tasks read the same output at once")
        self._waiter = self._loop.create_future()
        self._enough = enough
        try:
            await self._waiter
        finally:
            self._waiter = self._enough = None

    def take(self, size: int) -> bytes:
        """At most ``size`` bytes of what is kept."""
        chunks, left = self.chunks, size
        taken: list[bytes | memoryview] = []
        while left > 0 and chunks:
            chunk = chunks[0]
            if len(chunk) > left:
                view = memoryview(chunk)
                chunks[0] = view[left:]
                chunk = view[:left]
            else:
                chunks.popleft()
            taken.append(chunk)
            left -= len(chunk)
        self._took(size - left)
        return bytes(taken[0]) if len(taken) == 1 else b"".join(taken)

    def take_into(self, into: memoryview) -> int:
        """As much of what is kept as fits into ``into``; how many bytes that were."""
        chunks, done = self.chunks, 0
        while chunks and done < len(into):
            chunk = memoryview(chunks[0])
            size = min(len(chunk), len(into) - done)
            into[done : done + size] = chunk[:size]
            if size < len(chunk):
                chunks[0] = chunk[size:]
            else:
                chunks.popleft()
            done += size
        self._took(done)
        return done

    def give_back(self, data: memoryview) -> None:
        """A cancelled read had these already: the next one gets them first."""
        if data:
            self.chunks.appendleft(bytes(data))
            self.size += len(data)

    def discard(self) -> None:
        """Throw away what is kept, and what comes."""
        self.discarding = True
        self.chunks.clear()
        self._took(self.size)

    def _took(self, size: int) -> None:
        before, self.size = self.size, self.size - size
        if self._on_room is not None and before > HIGH_WATER // 2 >= self.size:
            self._on_room()


class InputPipe:
    """Stdin that the caller writes while the command runs: a source for the exchange.

    A write returns when the bytes have left, or when less than a batch waits before them. What returned early is a copy
    or immutable, so a caller may use its buffer again.
    """

    __slots__ = ("_closing", "_flush", "_flush_written", "_queue", "_size")

    descriptor: int | None = None

    def __init__(self) -> None:
        self._queue: deque[Write] = deque()
        self._size = 0
        self._closing = False
        self._flush: Callable[[], None] | None = None
        self._flush_written: Callable[[], None] | None = None

    def start(self, port: Port) -> None:
        """Written bytes go to ``port``."""
        self._flush = port.flush
        self._flush_written = port.flush_written

    def stop(self) -> None:
        """Nothing is taken any more: whoever waits is woken."""
        for entry in self._queue:
            entry.finish(taken=False)
        self._queue.clear()
        self._size = 0

    def next_batch(self, room: memoryview) -> Buffer | None:
        """What was written, small writes joined; empty after ``close``; None when there is nothing now."""
        queue = self._queue
        if not queue:
            return b"" if self._closing else None
        first = queue[0]
        size = len(first.data)
        if size < len(room) and len(queue) > 1:
            return self._joined(room)
        batch = first_batch(first.data, len(room))
        if len(batch) < size:
            first.data = first.data[len(batch) :]
        else:
            queue.popleft()
            first.finish(taken=True)
        self._size -= len(batch)
        return batch

    def _joined(self, room: memoryview) -> memoryview:
        queue, used = self._queue, 0
        while queue and used + len(queue[0].data) <= len(room):
            entry = queue.popleft()
            size = len(entry.data)
            room[used : used + size] = entry.data
            used += size
            entry.finish(taken=True)
        self._size -= used
        return room[:used]

    def put(self, data: memoryview) -> None:
        """Queue ``data``, which must not change until it has left. ``flush``, ``write`` or ``close`` sends it."""
        if data:
            self._queue.append(Write(data))
            self._size += len(data)

    def write(self, data: memoryview) -> Write | None:
        """Queue ``data``. None if all of it has left, or was copied to leave soon; else what ``until_taken`` takes."""
        if self._size + len(data) < BATCH:
            self.put(data if type(data.obj) is bytes else memoryview(bytes(data)))
            self.flush()
            return None
        write = Write(data)
        self._queue.append(write)
        self._size += len(data)
        assert self._flush is not None
        self._flush()
        return None if write.taken else write

    async def until_taken(self, write: Write) -> bool:
        """Wait until all of ``write`` has left. False if nobody took all of it.

        Cancelled, part of it may have been sent; the rest never is.
        """
        if write not in self._queue:
            return write.taken
        write.done = asyncio.get_running_loop().create_future()
        try:
            await write.done
        except asyncio.CancelledError:
            if write in self._queue:
                self._queue.remove(write)
                self._size -= len(write.data)
            raise
        return write.taken

    def close(self) -> None:
        """The end of stdin, behind what was written."""
        self._closing = True
        self.flush()

    def flush(self) -> None:
        """Send what is queued."""
        assert self._flush_written is not None
        self._flush_written()


class Write:
    """One write that has not left completely."""

    __slots__ = ("data", "done", "taken")

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.taken = False
        self.done: asyncio.Future[None] | None = None

    def finish(self, *, taken: bool) -> None:
        """It waits no more."""
        self.taken = taken
        if self.done is not None and not self.done.done():
            self.done.set_result(None)

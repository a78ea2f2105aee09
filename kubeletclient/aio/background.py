"""Files, functions and iterators of the caller that may keep us waiting, kept away from the loop.

What never waits (memory, regular files, plain functions) is called directly by the exchange; it costs nothing then.
The rest stands here, each with a bounded buffer in front: descriptors that can be polled are polled, coroutines are
awaited in a task, and what can only block does so in a thread of its own.
"""

from __future__ import annotations

import asyncio
import inspect
import io
import os
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import IO, Final, TypeAlias

from kubeletclient._policy import (
    BATCH,
    HIGH_WATER,
    FileSink,
    FileSource,
    InputTarget,
    OutputTarget,
    Sink,
    Source,
    first_batch,
)
from kubeletclient._worker import Worker
from kubeletclient.aio.pipes import Port
from spdyproto.types import Buffer

__all__ = ["AsyncInput", "AsyncOutput", "AsyncSource", "Background", "PolledSource"]

AsyncInput: TypeAlias = InputTarget | AsyncIterable[Buffer]
"""What the blocking flavour takes, and an asynchronous iterable of bytes, or anything with a coroutine ``read(n)``."""

AsyncOutput: TypeAlias = OutputTarget | Callable[[memoryview], Awaitable[object]]
"""What the blocking flavour takes, and a coroutine function; that one gets views of copies, which stay valid."""

_NOTHING: Final = memoryview(b"")


# -- output ----------------------------------------------------------------------------------------------------------


class Background:
    """A sink whose consumer may wait; up to ``HIGH_WATER`` bytes stand in front of it, then the socket is not read."""

    __slots__ = ("_chunks", "_consume", "_on_room", "_port", "_task", "_waiter", "_worker", "ended", "size")

    def __init__(self, consume: Callable[[memoryview], Awaitable[object]], worker: Worker | None = None) -> None:
        self._consume = consume
        self._worker = worker
        self._chunks: deque[bytes] = deque()
        self._port: Port | None = None
        self._on_room: Callable[[], None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.size = 0
        self.ended = False

    @classmethod
    def blocking(cls, loop: asyncio.AbstractEventLoop, sink: Sink) -> Background:
        """``sink`` in a thread."""
        worker = Worker(loop)

        def consume(data: memoryview) -> Awaitable[None]:
            return worker.submit(lambda: sink.feed(data))

        return cls(consume, worker)

    def start(self, port: Port, on_room: Callable[[], None]) -> None:
        """Failures go to ``port``; ``on_room`` is called when a full buffer is half empty."""
        self._port = port
        self._on_room = on_room

    def feed(self, data: memoryview) -> None:
        """Copy ``data``, to be consumed as soon as what came before it is done with."""
        self._chunks.append(bytes(data))
        self.size += len(data)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="kubewire-output")

    def partial(self) -> None:
        """Nothing is kept."""

    @property
    def full(self) -> bool:
        """Whether reading the socket has to stop for it."""
        return self.size >= HIGH_WATER

    async def drained(self) -> None:
        """Until everything that came has been consumed, or the consumer has failed."""
        if self._task is not None:
            await asyncio.wait([self._task])
        self._end_worker()

    def stop(self) -> None:
        """Drop what waits. A call in progress in a thread is left to itself."""
        self._chunks.clear()
        self.size = 0
        if self._task is not None:
            self._task.cancel()
        self._end_worker()

    def _end_worker(self) -> None:
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    async def _run(self) -> None:
        try:
            while self._chunks:
                chunk = self._chunks.popleft()
                await self._consume(memoryview(chunk))
                before, self.size = self.size, self.size - len(chunk)
                if before > HIGH_WATER // 2 >= self.size and self._on_room is not None:
                    self._on_room()
        except Exception as error:
            assert self._port is not None
            self._chunks.clear()
            self._port.abort(error)
        finally:
            self._task = None


def output_of(loop: asyncio.AbstractEventLoop, target: AsyncOutput | None, sink: Sink | None) -> Sink | None:
    """``sink`` as it is if it never waits, else in the background."""
    call = getattr(target, "__call__", None)  # noqa: B004 - the method itself is what we ask about
    if inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(call):
        return Background(target)  # type: ignore[arg-type]  # a coroutine function is what was asked for just now
    if isinstance(sink, FileSink) and not _is_prompt(target):
        return Background.blocking(loop, sink)
    if isinstance(target, int) and target >= 0 and sink is not None and _blocks(target):
        return Background.blocking(loop, sink)
    return sink


# -- stdin -----------------------------------------------------------------------------------------------------------


class PolledSource:
    """A pipe, socket or terminal: read when the loop says that it is ready."""

    __slots__ = ("_loop", "_port", "_ready", "_source", "_watched", "descriptor")

    def __init__(self, loop: asyncio.AbstractEventLoop, source: Source) -> None:
        self._loop = loop
        self._source = source
        self._port: Port | None = None
        self._ready = False
        self._watched = -1
        self.descriptor: int | None = None

    def start(self, port: Port) -> None:
        """Begin to look for input. It goes to ``port``."""
        self._port = port
        assert self._source.descriptor is not None
        # A duplicate, because a loop watches a descriptor for one purpose only, and the caller may have its own.
        self._watched = os.dup(self._source.descriptor)
        try:
            self._loop.add_reader(self._watched, self._on_ready)
        except PermissionError:  # epoll takes no descriptor that is always ready, such as /dev/zero
            self._release()
            self._ready = True

    def _on_ready(self) -> None:
        self._ready = True
        self._loop.remove_reader(self._watched)
        assert self._port is not None
        self._port.flush()

    def next_batch(self, room: memoryview) -> Buffer | None:
        """One read, if it cannot wait."""
        if not self._ready:
            return None
        batch = self._source.next_batch(room)
        if self._watched >= 0:
            self._ready = False
            if batch is None or len(batch):
                self._loop.add_reader(self._watched, self._on_ready)
        return batch

    def stop(self) -> None:
        """Look no more."""
        self._release()

    def _release(self) -> None:
        if self._watched >= 0:
            self._loop.remove_reader(self._watched)
            os.close(self._watched)
            self._watched = -1


class AsyncSource:
    """Pieces of bytes that have to be awaited. The next one is asked for when the last has left."""

    __slots__ = ("_left", "_next", "_stopped", "_task", "_waiting", "descriptor")

    def __init__(self, pieces: AsyncIterator[Buffer]) -> None:
        self._next = pieces
        self._left: memoryview | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._stopped = False
        self._task: asyncio.Task[None] | None = None
        self.descriptor: int | None = None

    def start(self, port: Port) -> None:
        """Begin to iterate. The pieces go to ``port``."""
        self._task = asyncio.get_running_loop().create_task(self._run(port), name="kubewire-stdin")

    async def _run(self, port: Port) -> None:
        loop = asyncio.get_running_loop()
        try:
            async for piece in self._next:
                if not len(piece):
                    continue
                self._left = memoryview(piece).cast("B")
                self._waiting = loop.create_future()
                port.flush()
                if self._stopped:
                    return
                await self._waiting
            self._left = _NOTHING
            port.flush()
        except Exception as error:
            port.abort(error)
        finally:
            await _close(self._next)

    def next_batch(self, room: memoryview) -> Buffer | None:
        """The rest of the last piece; empty at the end; None while the next one is awaited."""
        left = self._left
        if not left:
            return left
        batch = first_batch(left, len(room))
        self._left = left[len(batch) :] or None
        if self._left is None and self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
        return batch

    def stop(self) -> None:
        """Ask for nothing more; the iterator is cancelled where it waits, and closed."""
        self._left = None
        self._stopped = True
        # Called from within it, e.g. when it has come to its end, it must not be cancelled while it is being closed.
        if self._task is not None and self._task is not asyncio.current_task(self._task.get_loop()):
            self._task.cancel()

    async def stopped(self) -> None:
        """Until the iterator has been closed."""
        if self._task is not None and self._task is not asyncio.current_task():
            await asyncio.wait([self._task])


async def _close(pieces: AsyncIterator[Buffer]) -> None:
    close = getattr(pieces, "aclose", None)
    if close is not None:
        await close()


def blocking_pieces(loop: asyncio.AbstractEventLoop, source: Source) -> AsyncIterator[Buffer]:
    """``source``, read in a thread."""
    return _blocking_pieces(Worker(loop), source)


async def _blocking_pieces(worker: Worker, source: Source) -> AsyncIterator[Buffer]:
    room = memoryview(bytearray(BATCH))
    try:
        while True:
            batch = await worker.submit(lambda: source.next_batch(room))
            if batch is not None and not len(batch):
                return
            if batch is not None:
                yield batch
    finally:
        worker.stop()


async def _read_pieces(read: Callable[[int], Awaitable[Buffer]]) -> AsyncIterator[Buffer]:
    while piece := await read(BATCH):
        yield piece


def input_of(loop: asyncio.AbstractEventLoop, target: object, source: Source | None) -> Source | None:
    """``source`` as it is if it never waits, else one that keeps its waiting away from the loop."""
    read = getattr(target, "read", None)
    if inspect.iscoroutinefunction(read):
        return AsyncSource(_read_pieces(read))
    if isinstance(target, AsyncIterable):
        return AsyncSource(aiter(target))
    if source is None:
        return None
    if source.descriptor is not None:
        return PolledSource(loop, source)
    if isinstance(source, FileSource) and not _is_prompt(target):
        return AsyncSource(blocking_pieces(loop, source))
    return source


def is_async_input(target: object) -> bool:
    """Whether ``target`` has to be awaited."""
    return isinstance(target, AsyncIterable) or inspect.iscoroutinefunction(getattr(target, "read", None))


# -- which is which --------------------------------------------------------------------------------------------------


def _is_prompt(target: object) -> bool:
    """Whether a file object answers without waiting for anybody: it is memory, or a regular file."""
    if isinstance(target, io.BytesIO):
        return True
    try:
        file: IO[bytes] = target  # type: ignore[assignment]  # asked with care
        return not _blocks(file.fileno())
    except (AttributeError, OSError, ValueError):  # ValueError: io.UnsupportedOperation, or closed
        return False


def _blocks(descriptor: int) -> bool:
    import stat

    mode = os.fstat(descriptor).st_mode
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISBLK(mode))

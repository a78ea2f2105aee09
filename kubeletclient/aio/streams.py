"""The ends of a running command's pipes that the caller holds."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

from kubeletclient._policy import NEVER
from kubeletclient.aio.exchange import Exchange
from kubeletclient.aio.pipes import InputPipe, PipeSink
from kubeletclient.results import stdin_cannot_end

__all__ = ["InputWriter", "OutputReader"]

_ALL: Final = 1 << 62
"""A limit for a read that asked for more than a pipe may hold: what it was asked for is not stopped by the mark."""

_LARGE: Final = 1 << 19


class OutputReader:
    """Stdout or stderr of a running command, read by one task at a time.

    ``read(n)`` and ``readinto`` wait until they have all they were asked for or the output ends; ``read1`` and
    ``readinto1`` give what there is, at least one byte. ``readinto`` is the fastest way: data goes straight into the
    caller's buffer, which must not be touched meanwhile. Iterating gives lines. The end of the output means that the
    server ended it; a session that is lost before raises ConnectionLost once everything that came has been read.

    Output that nobody reads stops the connection at 1 MiB (see ``Process``). ``close`` throws the rest of it away. Of a
    cancelled read nothing is lost: the next one gets it.
    """

    def __init__(self, exchange: Exchange, sink: PipeSink, name: str) -> None:
        self._exchange = exchange
        self.sink = sink
        self.name = name

    def __repr__(self) -> str:
        return f"<OutputReader {self.name}: {self.sink.size} bytes waiting>"

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self.sink.discarding

    async def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401 - any writable buffer
        """Fill ``buffer``; fewer bytes only at the end of the output."""
        return await self._fill(memoryview(buffer).cast("B"), all_of_it=True)

    async def readinto1(self, buffer: Any, /) -> int:  # noqa: ANN401 - any writable buffer
        """Put what there is into ``buffer``, waiting for the first byte; 0 at the end of the output."""
        return await self._fill(memoryview(buffer).cast("B"), all_of_it=False)

    async def read(self, size: int | None = -1, /) -> bytes:
        """``size`` bytes, fewer only at the end of the output, or before a loss that the next read raises; all up to
        the end if negative or None. A loss before the end leaves what came to ``read1``, and raises at once.
        """
        sink = self.sink
        wanted = _ALL if size is None or size < 0 else size
        await self._wait(lambda: sink.size >= wanted, _ALL if wanted >= _LARGE else None)
        if wanted == _ALL and not sink.ended:
            self._exchange.raise_failure()
        return sink.take(wanted)

    async def read1(self, size: int = -1, /) -> bytes:
        """What there is, at most ``size`` bytes if not negative, waiting for the first; ``b""`` at the end of the
        output.
        """
        if size == 0:
            return b""
        sink = self.sink
        if not sink.size:
            await self._wait(lambda: sink.size > 0)
        if not sink.chunks:
            return b""
        first = len(sink.chunks[0])
        return sink.take(first if size < 0 else size)

    async def readline(self, size: int | None = -1, /) -> bytes:
        """One line, with its end if it has one; at most ``size`` bytes if that is given; ``b""`` at the end. A loss in
        the middle of a line leaves the part that came to ``read1``.
        """
        limit = _ALL if size is None or size < 0 else size
        sink = self.sink
        searched = 0

        def enough() -> bool:
            nonlocal searched
            if sink.size >= limit:
                return True
            found = _newline(sink, searched)
            searched = sink.size
            return found

        await self._wait(enough, _ALL if limit >= _LARGE else None)
        line = min(_line_size(sink), limit)
        if line == sink.size < limit and not sink.ended and not _newline(sink, line - 1):
            self._exchange.raise_failure()
        return sink.take(line)

    async def peek(self, size: int = 0, /) -> bytes:
        """Some bytes without taking them, waiting for the first; ``b""`` at the end of the output."""
        sink = self.sink
        await self._wait(lambda: sink.size > 0)
        return bytes(sink.chunks[0]) if sink.chunks else b""

    def __aiter__(self) -> OutputReader:
        return self

    async def __anext__(self) -> bytes:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    def close(self) -> None:
        """Throw away what is left of the output, now and as it comes. The command is not stopped."""
        if not self.sink.discarding:
            self.sink.discard()
            self._exchange.on_room()

    async def _wait(self, enough: Callable[[], bool], limit: int | None = None) -> None:
        """Until there is enough, or nothing more can come. Raises the session's failure only when there is nothing
        left.
        """
        exchange, sink = self._exchange, self.sink
        if sink.discarding:
            raise ValueError("read from a closed output")
        if enough() or sink.ended:
            return
        if not exchange.over:
            saved = sink.limit
            if limit is not None:
                sink.limit = limit
                exchange.on_room()
            try:
                await exchange.wait(sink.wait(enough), NEVER, self.name)
            finally:
                sink.limit = saved
        if not sink.ended and not sink.size and sink.into is None and not enough():
            exchange.raise_failure()

    async def _fill(self, buffer: memoryview, *, all_of_it: bool) -> int:
        """Kept chunks first; then the buffer itself is where the exchange puts what comes."""
        sink = self.sink
        if not buffer:
            return 0
        if sink.into is not None:
            raise RuntimeError("two tasks read the same output at once")
        filled = sink.take_into(buffer)
        if filled == len(buffer) or (filled and not all_of_it):
            return filled
        rest = len(buffer) - filled
        sink.into = buffer[filled:]
        try:
            await self._wait(lambda: not sink.into or (not all_of_it and len(sink.into) < rest))
            filled = len(buffer) - len(sink.into)
            if not filled and not sink.ended:
                self._exchange.raise_failure()
        except BaseException:
            sink.give_back(buffer[: len(buffer) - len(sink.into)])
            raise
        finally:
            sink.into = None
        return filled


def _newline(sink: PipeSink, start: int) -> bool:
    """Whether a line ends behind ``start``."""
    position = 0
    for chunk in sink.chunks:
        end = position + len(chunk)
        if end > start and b"\n" in bytes(chunk[max(0, start - position) :]):
            return True
        position = end
    return False


def _line_size(sink: PipeSink) -> int:
    """Bytes up to the end of the first line, or all there is."""
    position = 0
    for chunk in sink.chunks:
        found = bytes(chunk).find(b"\n")
        if found >= 0:
            return position + found + 1
        position += len(chunk)
    return position


class InputWriter:
    """Stdin of a running command. All of a write is taken, and is on its way when the loop has come round.

    A write waits while the command does not read; reading goes on meanwhile, so a command that answers as it reads
    does not block both sides. Writing large pieces is fastest. Raises StdinClosed (a BrokenPipeError) once nobody
    takes stdin any more. Cancelled, a part may have been sent, and the rest never is. Leaving the ``async with`` block
    closes it.
    """

    def __init__(self, exchange: Exchange, pipe: InputPipe) -> None:
        self._exchange = exchange
        self._pipe = pipe
        self.name = "stdin"
        self.closed = False

    def __repr__(self) -> str:
        return f"<InputWriter {self.name}: {'closed' if self.closed else 'open'}>"

    async def write(self, data: Any, /) -> int:  # noqa: ANN401 - any buffer
        """Send all of ``data``, which is free to be changed when this returns. Answers its size in bytes."""
        if self.closed:
            raise ValueError("write to a closed stdin")
        view = memoryview(data).cast("B")
        exchange = self._exchange
        exchange.require_stdin()
        if view:
            write = self._pipe.write(view)
            if write and not await exchange.wait(self._pipe.until_taken(write), NEVER, "stdin to be taken"):
                exchange.require_stdin()
        return len(view)

    def finish(self, data: memoryview) -> None:
        """Send ``data``, which must not change until it has left, and end stdin; do not wait for it."""
        self.closed = True
        self._pipe.put(data)
        if self._exchange.session.streams.tty:  # its end would stop the output, too
            self._pipe.flush()
        else:
            self._pipe.close()

    def require_end(self) -> None:
        """Raises StdinCannotEnd when stdin is open, and this transport cannot end it."""
        session = self._exchange.session
        if session.stdin_open and not session.can_close_stdin:
            raise self._exchange.filled(stdin_cannot_end(session.version))

    async def close(self) -> None:
        """End stdin, behind what was written: the command sees the end of its input. Its output and exit status still
        come.

        With a terminal this makes containerd stop the output, too; ``Process.close`` is what ends such a session.
        Raises StdinCannotEnd over a WebSocket before v5, and leaves stdin open.
        """
        if not self.closed:
            self.require_end()
            self.closed = True
            self._pipe.close()

    async def __aenter__(self) -> InputWriter:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

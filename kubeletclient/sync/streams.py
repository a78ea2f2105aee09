"""The ends of a running command's pipes that the caller holds: files, as far as a network connection can be one."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

from kubeletclient._policy import NEVER
from kubeletclient.results import closed_before_its_end, stdin_cannot_end
from kubeletclient.sync.pipes import PipeSink
from kubeletclient.sync.pump import Pump
from spdyproto.types import Buffer

__all__ = ["InputWriter", "OutputReader"]


class OutputReader(io.BufferedIOBase):
    """Stdout or stderr of a running command. Reading pumps the whole connection, in the calling thread.

    ``read(n)`` and ``readinto`` wait until they have all they were asked for or the output ends; ``read1`` and
    ``readinto1`` give what there is, at least one byte. ``readinto`` is the fastest way: data goes straight into the
    caller's buffer. Iterating gives lines. The end of file means that the server ended this output; a session that
    is lost before raises ConnectionLost once everything that came has been read.

    Output that nobody reads stops the connection at 1 MiB (see ``Process``). ``close`` throws the rest of it away.
    After a timeout or Ctrl-C everything that came is still there to be read.
    """

    def __init__(self, pump: Pump, sink: PipeSink, name: str) -> None:
        self._pump = pump
        self.sink = sink
        self.name = name

    def readable(self) -> bool:
        """Always true."""
        return True

    def fileno(self) -> int:
        """There is no descriptor of its own: raises io.UnsupportedOperation."""
        raise io.UnsupportedOperation("output of a remote command has no descriptor: several streams share one socket")

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401 - any writable buffer
        """Fill ``buffer``; fewer bytes only at the end of the output."""
        return self._fill(memoryview(buffer).cast("B"), all_of_it=True)

    def readinto1(self, buffer: Any, /) -> int:  # noqa: ANN401 - any writable buffer
        """Put what there is into ``buffer``, waiting for the first byte; 0 at the end of the output."""
        return self._fill(memoryview(buffer).cast("B"), all_of_it=False)

    def read(self, size: int | None = -1, /) -> bytes:
        """``size`` bytes, fewer only at the end of the output, or before a loss that the next read raises; all up to
        the end if negative or None. A loss before the end leaves what came to ``read1``, and raises at once.
        """
        sink = self.sink
        wanted = -1 if size is None or size < 0 else size
        with self._open():
            self._wait(lambda: 0 <= wanted <= sink.size, self._limit(wanted))
            if wanted < 0 and not sink.ended:
                raise ending(self._pump)
            return self._take(sink.size if wanted < 0 else wanted)

    def readline(self, size: int | None = -1, /) -> bytes:
        """One line, with its end if it has one; at most ``size`` bytes if that is given; ``b""`` at the end. A loss in
        the middle of a line leaves the part that came to ``read1``.
        """
        limit = sys.maxsize if size is None or size < 0 else size
        taken: list[bytes] = []
        with self._open():
            try:
                while limit > 0 and (chunk := self._first()):
                    found = chunk.find(b"\n", 0, limit) + 1
                    taken.append(self._take(found or min(limit, len(chunk))))
                    limit -= len(taken[-1])
                    if found:
                        break
            except BaseException:
                self._give_back(b"".join(taken))
                raise
        return b"".join(taken)

    def read1(self, size: int = -1, /) -> bytes:
        """What there is, at most ``size`` bytes if not negative, waiting for the first; ``b""`` at the end of the
        output.
        """
        if size == 0:
            return b""
        sink = self.sink
        with self._open():
            self._wait(lambda: sink.size > 0)
            if sink.chunks and (size < 0 or len(sink.chunks[0]) <= size):
                chunk = sink.chunks.popleft()
                sink.size -= len(chunk)
                self._pump.poke()
                return chunk
            return self._take(size)

    def peek(self, size: int = 0, /) -> bytes:
        """Some bytes without taking them, waiting for the first; ``b""`` at the end of the output."""
        with self._open():
            return self._first()

    def _first(self) -> bytes:
        """The first chunk, with the lock held (once: a wait releases it once)."""
        sink = self.sink
        self._wait(lambda: sink.size > 0)
        return sink.chunks[0] if sink.chunks else b""

    def close(self) -> None:
        """Throw away what is left of the output, now and as it comes. The command is not stopped."""
        if not self.closed:
            with self._pump.lock:
                self.sink.discarding = True
                self.sink.chunks.clear()
                self.sink.size = 0
                self._pump.poke()
        super().close()

    def _open(self) -> Any:  # noqa: ANN401 - the lock, which typeshed does not name
        if self.closed:
            raise ValueError("read from a closed output")
        return self._pump.lock

    def _wait(self, enough: Callable[[], bool], limit: int | None = None) -> None:
        """Until there is enough, or nothing more can come; with the lock held. Raises the session's failure only when
        there is nothing left.
        """
        pump, sink = self._pump, self.sink
        if enough():
            return
        saved = sink.limit
        if limit is not None:
            sink.limit = limit
        pump.poke()  # there is room for what comes now, if a full pipe was what kept a leader from listening
        try:
            pump.wait_locked(lambda: enough() or sink.ended or pump.over, NEVER, self.name)
        finally:
            sink.limit = saved
        if not sink.ended and not sink.size and sink.into is None:
            raise ending(pump)

    def _limit(self, wanted: int) -> int | None:
        """How much a read keeps meanwhile: what it was asked for must not be stopped by the high-water mark."""
        return None if 0 <= wanted < 1 << 19 else 1 << 62

    def _take(self, size: int) -> bytes:
        sink = self.sink
        taken: list[bytes] = []
        left = size
        while left > 0 and sink.chunks:
            chunk = sink.chunks.popleft()
            if len(chunk) > left:
                sink.chunks.appendleft(chunk[left:])
                chunk = chunk[:left]
            taken.append(chunk)
            left -= len(chunk)
        sink.size -= size - left
        self._pump.poke()
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def _fill(self, buffer: memoryview, *, all_of_it: bool) -> int:
        """Kept chunks first; then the buffer itself is where the pump puts what comes."""
        pump, sink = self._pump, self.sink
        if not buffer:
            return 0
        with self._open():
            if sink.into is not None:
                raise RuntimeError("two threads read the same output at once")
            filled = 0
            try:
                while sink.chunks and filled < len(buffer):
                    piece = self._take(len(buffer) - filled)
                    buffer[filled : filled + len(piece)] = piece
                    filled += len(piece)
                if filled < len(buffer) and (all_of_it or not filled):
                    rest = len(buffer) - filled
                    sink.into = buffer[filled:]
                    self._wait(lambda: not sink.into or (not all_of_it and len(sink.into) < rest))
                    filled = len(buffer) - len(sink.into)
            except BaseException:
                self._give_back(buffer[: filled if sink.into is None else len(buffer) - len(sink.into)])
                raise
            finally:
                sink.into = None
            if not filled and not sink.ended:
                raise ending(pump)
            return filled

    def _give_back(self, read: Buffer) -> None:
        """The wait ended with an error: what was taken already is kept for the next read."""
        if read:
            self.sink.chunks.appendleft(bytes(read))
            self.sink.size += len(read)


class InputWriter(io.RawIOBase):
    """Stdin of a running command. Unbuffered: every ``write`` is on its way when it returns, and all of it is taken.

    A write waits while the command does not read, and goes on receiving meanwhile, so a command that answers as it
    reads does not block both sides. Writing large pieces is fastest. Raises StdinClosed (a BrokenPipeError) once
    nobody takes stdin any more. Interrupted by a timeout or Ctrl-C, a part may have been sent.
    """

    def __init__(self, pump: Pump) -> None:
        self._pump = pump
        self.name = "stdin"

    def writable(self) -> bool:
        """Always true."""
        return True

    def write(self, data: Any, /) -> int:  # noqa: ANN401 - any buffer
        """Send all of ``data``, which is free to be changed when this returns. Answers its size in bytes."""
        if self.closed:
            raise ValueError("write to a closed stdin")
        view = memoryview(data).cast("B")
        self._pump.write_stdin(view, NEVER)
        return len(view)

    def require_end(self) -> None:
        """Raises StdinCannotEnd when stdin is open, and this transport cannot end it."""
        session = self._pump.session
        if session.stdin_open and not session.can_close_stdin:
            raise self._pump.filled(stdin_cannot_end(session.version))

    def close(self) -> None:
        """End stdin: the command sees the end of its input. Its output and exit status still come.

        With a terminal this makes containerd stop the output, too; ``Process.close`` is what ends such a session.
        Raises StdinCannotEnd over a WebSocket before v5, and leaves stdin open.
        """
        if self.closed:
            return
        with self._pump.lock:
            self.require_end()
            super().close()
            if self._pump.session.stdin_open and not self._pump.over:
                self._pump.session.close_stdin()
                self._pump.push(NEVER, "the end of stdin to be sent")


def ending(pump: Pump) -> BaseException:
    """Why nothing more comes."""
    if pump.failure is not None:
        return pump.failure
    return closed_before_its_end(pump.context.url)

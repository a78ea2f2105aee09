"""Where the output of one command goes, and a bell for threads that sleep in ``poll``."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping

from kubeletclient._policy import HIGH_WATER, CallSink, FileSink, Sink
from kubeletclient.results import gathered_too_much
from spdyproto.channels.events import StreamKind

__all__ = ["Outputs", "PipeSink", "Waker"]


class Waker:
    """Ends the ``poll`` of threads that watch it."""

    __slots__ = ("_read", "_write")

    def __init__(self) -> None:
        if hasattr(os, "eventfd"):
            self._read = self._write = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self._read, self._write = os.pipe()
            os.set_blocking(self._read, False)
            os.set_blocking(self._write, False)

    def fileno(self) -> int:
        """What to poll for input."""
        return self._read

    def poke(self) -> None:
        """Wake every watcher. Poking twice is as good as once, so a full pipe is no fault."""
        try:
            os.write(self._write, b"\1\0\0\0\0\0\0\0")
        except BlockingIOError:
            pass

    def quiet(self) -> None:
        """Take back all pokes."""
        try:
            os.read(self._read, 4096)
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Nobody watches any more."""
        os.close(self._read)
        if self._write != self._read:
            os.close(self._write)


class PipeSink:
    """Output that waits for the caller to read it, and the place where a waiting read wants it."""

    __slots__ = ("chunks", "discarding", "ended", "into", "limit", "size")

    def __init__(self) -> None:
        self.chunks: deque[bytes] = deque()
        self.size = 0
        self.into: memoryview | None = None
        self.ended = False
        self.discarding = False
        self.limit: int | None = None
        """Set while ``communicate`` gathers: kept are so many bytes, and reading never stops."""

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
                raise gathered_too_much(self.limit)
            self.chunks.append(bytes(data))
            self.size += len(data)

    def partial(self) -> None:
        """A pipe keeps nothing for errors: its reader has it, or will get it."""

    @property
    def full(self) -> bool:
        """Whether reading the socket has to stop for it."""
        return self.size >= HIGH_WATER and self.limit is None


class _Held:
    """Stands in for a callback that may not be called yet; keeps what comes meanwhile."""

    __slots__ = ("pieces", "sink")

    def __init__(self, sink: CallSink) -> None:
        self.sink = sink
        self.pieces: deque[bytes] = deque()

    def feed(self, data: memoryview) -> None:
        """Keep a copy."""
        self.pieces.append(bytes(data))

    def partial(self) -> None:
        """Nothing is kept for errors."""


class Outputs:
    """The sinks of one command.

    Output may come together with the server's acceptance of the streams, before ``popen`` has returned. A callback that
    uses the process would not find it, so it is called for these pieces only after ``release``, by ``hand_out``.
    """

    __slots__ = ("_due", "_pipes", "sinks")

    def __init__(self, sinks: Mapping[StreamKind, Sink]) -> None:
        self.sinks: dict[StreamKind, Sink] = {
            kind: _Held(sink) if isinstance(sink, CallSink) else sink for kind, sink in sinks.items()
        }
        self._due: list[_Held] = []
        self._pipes = [sink for sink in sinks.values() if isinstance(sink, PipeSink)]

    def release(self) -> None:
        """From now on callbacks are called."""
        for kind, held in self.sinks.items():
            if isinstance(held, _Held):
                self.sinks[kind] = held.sink
                if held.pieces:
                    self._due.append(held)

    @property
    def due(self) -> bool:
        """Whether callbacks have to be given what came before ``release``."""
        return bool(self._due)

    def hand_out(self) -> None:
        """Give it to them. Raises what they raise; the rest is gone then."""
        due, self._due = self._due, []
        for held in due:
            while held.pieces:
                held.sink.feed(memoryview(held.pieces.popleft()))

    def end(self, kind: StreamKind) -> None:
        """The server ended this output."""
        sink = self.sinks[kind]
        if isinstance(sink, PipeSink):
            sink.ended = True
        elif isinstance(sink, FileSink):
            sink.flush()

    def full(self) -> bool:
        """Whether a pipe has reached the high-water mark, so that reading the socket has to stop."""
        for pipe in self._pipes:  # noqa: SIM110 - a generator costs more than the look itself
            if pipe.size >= HIGH_WATER and pipe.limit is None:
                return True
        return False

    def full_names(self) -> list[str]:
        """The outputs that nobody reads."""
        return [kind.value for kind, sink in self.sinks.items() if isinstance(sink, PipeSink) and sink.full]

    def partial(self, kind: StreamKind) -> bytes | None:
        """What has been captured of an output; None when it is not captured."""
        sink = self.sinks.get(kind)
        return None if sink is None else sink.partial()

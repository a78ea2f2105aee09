"""Output that waits for its reader, and a bell for threads that sleep in ``poll``."""

from __future__ import annotations

import os
from collections import deque

from kubeletclient import errors
from kubeletclient._policy import HIGH_WATER

__all__ = ["PipeSink", "Waker"]


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
                raise errors.OutputLimitExceeded(
                    f"gathered output crossed the limit of {self.limit} bytes",
                    hint="raise capture_limit=, or read the pipe yourself",
                )
            self.chunks.append(bytes(data))
            self.size += len(data)

    def partial(self) -> None:
        """A pipe keeps nothing for errors: its reader has it, or will get it."""

    @property
    def full(self) -> bool:
        """Whether reading the socket has to stop for it."""
        return self.size >= HIGH_WATER and self.limit is None

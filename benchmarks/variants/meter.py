"""Cost of a block of code, and the memory of this process."""

from __future__ import annotations

import gc
import hashlib
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

UNIT: Final = 256 * 1024
"""Bytes that a consumer takes, and a producer gives, at a time."""


class Meter:
    """Wall and processor seconds of a ``with`` block, in this process."""

    def __enter__(self) -> Self:
        gc.collect()
        self._usage = resource.getrusage(resource.RUSAGE_SELF)
        self._start = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.wall = time.perf_counter() - self._start
        after = resource.getrusage(resource.RUSAGE_SELF)
        self.user = after.ru_utime - self._usage.ru_utime
        self.system = after.ru_stime - self._usage.ru_stime

    def answer(self, size: int, **more: object) -> dict[str, Any]:
        """The worker's answer for a transfer of ``size`` payload bytes."""
        return {"bytes": size, "wall": self.wall, "user": self.user, "system": self.system, **more}


class Consumer:
    """What reads the bytes: it counts, pauses after each 256 KiB to be slow, and takes a digest to check."""

    def __init__(self, *, pause: float = 0.0, digest: bool = False) -> None:
        self.count = 0
        self.digest = hashlib.sha256() if digest else None
        self._pause = pause
        self._next_pause = UNIT

    def take(self, data: memoryview | bytes) -> None:
        """Some bytes have come; a blocking consumer pauses here."""
        self.count += len(data)
        if self.digest is not None:
            self.digest.update(data)
        if self._pause and self.count >= self._next_pause:
            time.sleep(self.due())

    def due(self) -> float:
        """Seconds to pause before the next bytes."""
        if not self._pause or self.count < self._next_pause:
            return 0.0
        pauses = (self.count - self._next_pause) // UNIT + 1
        self._next_pause += pauses * UNIT
        return pauses * self._pause

    def sink(self) -> Callable[[memoryview], None]:
        """``take``, or the least that counts when nothing else is wanted."""
        return self.take

    def check(self, size: int, digest: str | None) -> None:
        """Raises ValueError unless exactly ``size`` bytes came, with this digest if one is given."""
        if self.count != size:
            raise ValueError(f"{self.count} bytes came instead of {size}")
        if digest is not None and (self.digest is None or self.digest.hexdigest() != digest):
            raise ValueError("the bytes came damaged: their digest is wrong")


def command(argv: list[str], size: int) -> list[str]:
    """The command with the transfer's size in it."""
    return [word.replace("{size}", str(size)) for word in argv]


def resident() -> int:
    """Bytes of this process in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def peak() -> int:
    """Most bytes of this process that were in memory at once.

    Not ``ru_maxrss``: that starts with the peak of the process that started this one.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("the system does not tell the peak of this process's memory")

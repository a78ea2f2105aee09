"""What both directions of a copy do the same way: large files in runs, attempts, and the comparison of digests."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, TypeVar

from kubeletclient import errors
from kubeletclient.copy.errors import VerificationFailed
from kubeletclient.copy.options import CopyOptions
from kubeletclient.copy.report import CopyReport, Tracker

__all__ = ["LARGE", "MIB", "RETRIED", "Run", "attempts", "gather", "mismatch", "runs_of", "stage_name"]

MIB: Final = 1 << 20

LARGE: Final = 64 * MIB
"""The size from which a file is moved in runs, and of the smallest run. Below it a command for each costs more than the
parallel connections and the finer resume are worth."""

_LONGEST: Final = 1024 * MIB

FIRST_PAUSE: Final = 0.5
LAST_PAUSE: Final = 8.0
"""Seconds between attempts: the first pause, and what doubling it ends at."""

RETRIED: Final = (
    errors.ConnectionLost,
    errors.ConnectionRefused,
    errors.DialTimeout,
    errors.HandshakeCutError,
    errors.TLSTimeout,
    errors.UpgradeTimeout,
    errors.TooManyRequests,
    VerificationFailed,
)
"""What another attempt may mend. Refusals and identities that cannot be verified are not among them."""

Run = tuple[int, int]
"""First MiB of a part of a file, and how many."""

Result = TypeVar("Result")


def stage_name(*identity: bytes) -> bytes:
    """The name of the directory that an unfinished copy works in: the same for the same copy by the same
    user of the same machine, so it is found again.
    """
    who = f"{os.uname().nodename} {os.getuid()}".encode()
    return b".kubewire-" + hashlib.sha256(b"\0".join([who, *identity])).hexdigest()[:16].encode() + b".part"


def runs_of(size: int, parallel: int) -> list[Run]:
    """The parts that a file of this size is moved in."""
    whole = -(-size // MIB)
    step = max(LARGE, min(_LONGEST, size // (2 * parallel))) // MIB
    return [(first, min(step, whole - first)) for first in range(0, whole, step)]


async def gather(work: Iterable[Callable[[], Awaitable[None]]], parallel: int) -> None:
    """Do everything, so many at a time. The first failure ends the others, and is raised."""
    queue = list(work)
    queue.reverse()

    async def worker() -> None:
        while queue:
            await queue.pop()()

    tasks = [asyncio.ensure_future(worker()) for _ in range(min(parallel, len(queue)))]
    try:
        for task in asyncio.as_completed(tasks):
            await task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def attempts(
    attempt: Callable[[bool], Awaitable[None]], options: CopyOptions, report: CopyReport, tracker: Tracker
) -> None:
    """Call ``attempt(resume)`` until it succeeds, again after what may mend itself, with growing pauses."""
    pause = FIRST_PAUSE
    while True:
        try:
            await attempt(options.resume or report.retries > 0)
            return
        except RETRIED as error:
            if report.retries >= options.retries:
                raise
            report.retries += 1
            tracker.retry(error, report.retries)
        await asyncio.sleep(pause)
        pause = min(2 * pause, LAST_PAUSE)


def mismatch(names: Sequence[str], algorithm: str) -> VerificationFailed:
    """What arrived is not what was sent, for these files."""
    shown = ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return VerificationFailed(
        f"{len(names)} files differ from their source by {algorithm}: {shown}",
        hint="nothing of it was put in place; if the source is being written to, copy a snapshot of it",
    )

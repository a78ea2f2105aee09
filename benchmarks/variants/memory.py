"""Memory of the client's process: through one transfer, and with many sessions that do nothing."""

from __future__ import annotations

import asyncio
import gc
import resource
import time
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.variants import aio, blocking
from benchmarks.variants.meter import UNIT, peak, resident
from kubeletclient import PIPE
from kubeletclient import aio as aio_client
from kubeletclient.sync.process import Process

Target = dict[str, str]
_TOGETHER = 16
"""Sessions of the asyncio flavour that have their burst at the same time."""


def transfer(target: Target, argv: list[str], size: int, flavour: str, direction: str) -> dict[str, Any]:
    """The peak of resident memory after one transfer, and the memory before it with everything imported."""
    module: Any = blocking if flavour == "blocking" else aio
    module.client(target)
    gc.collect()
    before = resident()
    if direction == "download":
        answer = module.download(target, argv, size, "readinto")
    else:
        answer = module.upload(target, argv, size, "write")
    return {**answer, "before": before, "peak": peak()}


def idle(target: Target, count: int, flavour: str) -> dict[str, Any]:
    """Memory per session of ``count`` that are open: idle, after 256 KiB received each, after as much sent each too.

    One session of the same kind comes and goes first, so that what is allocated once for a process is not counted.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if flavour == "blocking":
        return _idle_blocking(target, count)
    return asyncio.run(_idle_aio(target, count))


class _Marks:
    """Resident memory at the steps of a run, as KiB per session above the start."""

    def __init__(self, count: int) -> None:
        self._count = count
        gc.collect()
        self._base = resident()
        self.found: dict[str, float] = {}
        self._start = time.perf_counter()

    def mark(self, name: str) -> None:
        gc.collect()
        self.found[name] = (resident() - self._base) / 1024 / self._count
        self.found.setdefault("open_seconds", time.perf_counter() - self._start)


def _idle_blocking(target: Target, count: int) -> dict[str, Any]:
    with blocking.client(target) as node:
        pod = node.pod("demo")

        def start(command: list[str]) -> Process:
            return pod.popen(command, container="main", stdin=PIPE, stdout=PIPE, stderr=PIPE)

        with start(["burst", str(UNIT)]) as first:
            _receive(first)
            _send(first)
        marks = _Marks(count)
        sessions = [start(["burst", str(UNIT)]) for _ in range(count)]
        marks.mark("idle")
        for session in sessions:
            _receive(session)
        marks.mark("received")
        for session in sessions:
            _send(session)
        marks.mark("sent")
        for session in sessions:
            session.close()
    return marks.found


def _receive(process: Process) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"?")
    left, buffer = UNIT, memoryview(bytearray(UNIT))
    while left:
        left -= process.stdout.readinto(buffer[:left])


def _send(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.write(b"!" + bytes(UNIT - 1))


async def _idle_aio(target: Target, count: int) -> dict[str, Any]:
    async with aio.client(target) as node:
        pod = node.pod("demo")

        async def start(command: list[str]) -> aio_client.Process:
            return await pod.popen(command, container="main", stdin=PIPE, stdout=PIPE, stderr=PIPE)

        async with await start(["burst", str(UNIT)]) as first:
            await _receive_aio(first)
            await _send_aio(first)
        marks = _Marks(count)
        sessions: list[aio_client.Process] = []
        while len(sessions) < count:
            batch = min(_TOGETHER, count - len(sessions))
            sessions += await asyncio.gather(*(start(["burst", str(UNIT)]) for _ in range(batch)))
        marks.mark("idle")
        await _each(sessions, _receive_aio)
        marks.mark("received")
        await _each(sessions, _send_aio)
        marks.mark("sent")
        for session in sessions:
            await session.close()
    return marks.found


async def _each(sessions: list[aio_client.Process], call: Callable[[aio_client.Process], Awaitable[None]]) -> None:
    for start in range(0, len(sessions), _TOGETHER):
        await asyncio.gather(*(call(session) for session in sessions[start : start + _TOGETHER]))


async def _receive_aio(process: aio_client.Process) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    await process.stdin.write(b"?")
    left, buffer = UNIT, memoryview(bytearray(UNIT))
    while left:
        left -= await process.stdout.readinto(buffer[:left])


async def _send_aio(process: aio_client.Process) -> None:
    assert process.stdin is not None
    await process.stdin.write(b"!" + bytes(UNIT - 1))

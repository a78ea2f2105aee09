"""The asyncio client, on the standard library's loop."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from benchmarks.variants.blocking import check_upload, pieces
from benchmarks.variants.limits import echo_answer
from benchmarks.variants.meter import UNIT, Consumer, Meter, command
from kubeletclient import PIPE, ClientCertificate
from kubeletclient.aio import Kubelet
from kubeletclient.aio.client import Pod

Target = dict[str, str]
_ZEROS = memoryview(bytes(1 << 20))


def client(target: Target) -> Kubelet:
    """As in the blocking flavour."""
    return Kubelet(target["url"], ca=target["ca"], credentials=ClientCertificate(target["cert"], target["key"]))


def download(
    target: Target, argv: list[str], size: int, how: str, warm: int = 0, pause: float = 0.0,
    digest: str | None = None, connections: int = 1,
) -> dict[str, Any]:  # fmt: skip
    """As in the blocking flavour; ``connections`` are read at once, by a task each, and share the bytes evenly."""

    async def run() -> dict[str, Any]:
        async with client(target) as node:
            pod = node.pod("demo")
            if warm:
                await _download(pod, command(argv, warm), how, Consumer(), 0.0)
            share = size // connections
            consumers = [Consumer(digest=digest is not None) for _ in range(connections)]
            words = command(argv, share)
            with Meter() as meter:
                await asyncio.gather(*(_download(pod, words, how, consumer, pause) for consumer in consumers))
            for consumer in consumers:
                consumer.check(share, digest)
            return meter.answer(share * connections)

    return asyncio.run(run())


async def _download(pod: Pod, argv: list[str], how: str, consumer: Consumer, pause: float) -> None:
    if how == "callback":
        await pod.run(argv, container="main", stdout=consumer.take, stderr=None, check=True)
        return
    rest = Consumer(pause=pause)
    async with await pod.popen(argv, container="main", stdout=PIPE, stderr=None) as process:
        assert process.stdout is not None
        buffer = memoryview(bytearray(UNIT))
        while True:
            if how == "read":
                data = memoryview(await process.stdout.read(UNIT))
            else:
                data = buffer[: await process.stdout.readinto(buffer)]
            if not data:
                break
            consumer.take(data)
            if pause:
                rest.count = consumer.count
                if seconds := rest.due():
                    await asyncio.sleep(seconds)
        if code := await process.wait():
            raise ValueError(f"the command ended with {code}")


def upload(target: Target, argv: list[str], size: int, how: str, warm: int = 0) -> dict[str, Any]:
    """As in the blocking flavour."""

    async def run() -> dict[str, Any]:
        async with client(target) as node:
            pod = node.pod("demo")
            if warm:
                await _upload(pod, argv, warm, how)
            with Meter() as meter:
                answer = await _upload(pod, argv, size, how)
            check_upload(answer, size)
            return meter.answer(size)

    return asyncio.run(run())


async def _upload(pod: Pod, argv: list[str], size: int, how: str) -> bytes:
    if how == "iterable":
        done = await pod.run(argv, container="main", stdin=pieces(size), stderr=None, check=True)
        assert done.stdout is not None
        return done.stdout
    async with await pod.popen(argv, container="main", stdin=PIPE, stdout=PIPE, stderr=None) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        left = size
        while left:
            count = min(left, len(_ZEROS))
            await process.stdin.write(_ZEROS[:count])
            left -= count
        await process.stdin.close()
        answer = await process.stdout.read()
        if code := await process.wait():
            raise ValueError(f"the command ended with {code}")
    return answer


def latency(target: Target, argv: list[str], count: int) -> dict[str, Any]:
    """As in the blocking flavour, on one loop."""

    async def run() -> dict[str, Any]:
        sessions = []
        async with client(target) as node:
            pod = node.pod("demo")
            with Meter() as meter:
                for _ in range(count):
                    start = time.perf_counter()
                    await pod.run(argv, container="main", check=True)
                    sessions.append({"seconds": time.perf_counter() - start})
        return meter.answer(1, sessions=sessions, cpu_ms=1e3 * (meter.user + meter.system) / count)

    return asyncio.run(run())


def echo(target: Target, count: int, size: int = 64) -> dict[str, Any]:
    """As in the blocking flavour."""

    async def run() -> dict[str, Any]:
        data, times = bytes(size), []
        async with (
            client(target) as node,
            await node.pod("demo").popen(["echo"], container="main", stdin=PIPE, stdout=PIPE, stderr=None) as process,
        ):
            assert process.stdin is not None
            assert process.stdout is not None
            buffer = memoryview(bytearray(size))
            for _ in range(count):
                start = time.perf_counter()
                await process.stdin.write(data)
                missing = size
                while missing:
                    missing -= await process.stdout.readinto(buffer[:missing])
                times.append(time.perf_counter() - start)
        return echo_answer(times, size)

    return asyncio.run(run())

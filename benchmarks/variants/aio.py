"""The asyncio client, on the standard library's loop."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from benchmarks.variants.blocking import check_upload, pieces
from benchmarks.variants.limits import echo_answer
from benchmarks.variants.meter import UNIT, Consumer, Meter, command
from kubeletclient import PIPE, ClientCertificate
from kubeletclient.aio import Kubelet, Process
from kubeletclient.aio.pods import Pod
from spdyproto.websocket.masking import use_masker

Target = dict[str, str]
_ZEROS = memoryview(bytes(1 << 20))


def client(target: Target, transport: str = "auto") -> Kubelet:
    """As in the blocking flavour."""
    credentials = ClientCertificate(target["cert"], target["key"])
    return Kubelet(target["url"], ca=target["ca"], credentials=credentials, transport=transport)


def download(
    target: Target, argv: list[str], size: int, how: str, warm: int = 0, pause: float = 0.0,
    digest: str | None = None, connections: int = 1, transport: str = "auto",
) -> dict[str, Any]:  # fmt: skip
    """As in the blocking flavour. Several connections are opened before the clock starts, then read by a task each."""

    async def run() -> dict[str, Any]:
        async with client(target, transport) as node:
            pod = node.pod("demo")
            if warm:
                await _download(pod, command(argv, warm), how, Consumer(), 0.0)
            if connections > 1:
                return await _download_many(pod, command(argv, size // connections), how, size, connections)
            consumer = Consumer(digest=digest is not None)
            with Meter() as meter:
                await _download(pod, command(argv, size), how, consumer, pause)
            consumer.check(size, digest)
            return meter.answer(size)

    return asyncio.run(run())


async def _download(pod: Pod, argv: list[str], how: str, consumer: Consumer, pause: float) -> None:
    if how == "callback":
        await pod.run(argv, container="main", stdout=consumer.take, stderr=None, check=True)
        return
    async with await pod.popen(argv, container="main", stdout=PIPE, stderr=None) as process:
        await _read(process, how, consumer, pause)


async def _download_many(pod: Pod, argv: list[str], how: str, size: int, connections: int) -> dict[str, Any]:
    consumers = [Consumer() for _ in range(connections)]
    processes = []
    for consumer in consumers:
        stdout: Any = consumer.take if how == "callback" else PIPE
        words = [*argv, "wait"]
        processes.append(await pod.popen(words, container="main", stdin=PIPE, stdout=stdout, stderr=None))
    with Meter() as meter:
        for process in processes:
            assert process.stdin is not None
            await process.stdin.write(b"!")
        pairs = zip(processes, consumers, strict=True)
        if how == "callback":
            await asyncio.gather(*(process.wait() for process in processes))
        else:
            await asyncio.gather(*(_read(process, how, consumer, 0.0) for process, consumer in pairs))
    for process, consumer in zip(processes, consumers, strict=True):
        await process.close()
        consumer.check(size // connections, None)
    return meter.answer(size // connections * connections)


async def _read(process: Process, how: str, consumer: Consumer, pause: float) -> None:
    """Read stdout to its end, pausing where that is due, and wait for the command. Raises ValueError if it failed."""
    assert process.stdout is not None
    slow = Consumer(pause=pause)
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
            slow.count = consumer.count
            if seconds := slow.due():
                await asyncio.sleep(seconds)
    if code := await process.wait():
        raise ValueError(f"the command ended with {code}")


def upload(
    target: Target, argv: list[str], size: int, how: str, warm: int = 0, transport: str = "auto",
    masker: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """As in the blocking flavour."""
    if masker is not None:
        use_masker(masker)

    async def run() -> dict[str, Any]:
        async with client(target, transport) as node:
            pod = node.pod("demo")
            if warm:
                await _upload(pod, command(argv, warm), warm, how)
            with Meter() as meter:
                answer = await _upload(pod, command(argv, size), size, how)
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
        if process.transport == "spdy":
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

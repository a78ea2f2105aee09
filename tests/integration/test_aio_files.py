"""Where the asyncio client takes stdin from and puts output: files, functions, iterators, quick and slow ones."""

from __future__ import annotations

import asyncio
import io
import os
import select
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from fakekubelet import FakeKubelet
from kubeletclient._policy import HIGH_WATER
from kubeletclient.aio import DEVNULL, ClientCertificate, Completed, ConnectionLost, DeadlineExceeded, Kubelet, Pod
from support.loops import cancelled, on_a_loop, until

MIB = 1 << 20
DATA = os.urandom(3 * MIB + 11)


@pytest.fixture(scope="module")
def server() -> Iterator[FakeKubelet]:
    with FakeKubelet() as kubelet:
        yield kubelet


@pytest.fixture
def pod(server: FakeKubelet) -> Pod:
    pair = server.credentials("alice", ["system:masters"])
    credentials = ClientCertificate(pair.cert_pem, pair.key_pem)
    return Kubelet(server.url, ca=server.ca, credentials=credentials).pod("demo")


async def cat(pod: Pod, source: Any, **options: Any) -> bytes:
    done: Completed[bytes] = await pod.run(["cat"], container="main", stdin=source, timeout=30, **options)
    assert done.returncode == 0
    assert done.stdout is not None
    return done.stdout


# -- stdin ------------------------------------------------------------------------------------------------------------


class Unknown:
    """A file of which nothing is known but that it can be read, here only outside the loop's thread."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)
        self.threads: set[int] = set()

    def read(self, size: int = -1) -> bytes:
        self.threads.add(threading.get_ident())
        return self._file.read(min(size, 70_000))


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]
        await asyncio.sleep(0)


@on_a_loop
async def test_memory(pod: Pod) -> None:
    for source in (DATA, bytearray(DATA), memoryview(DATA), io.BytesIO(DATA), [DATA[:5], b"", DATA[5:]]):
        assert await cat(pod, source) == DATA
    assert await cat(pod, DEVNULL) == b""


@on_a_loop
async def test_a_regular_file(pod: Pod, tmp_path: Path) -> None:
    path = tmp_path / "input"
    path.write_bytes(DATA)
    with path.open("rb") as buffered, path.open("rb", buffering=0) as raw:
        assert await cat(pod, buffered) == DATA
        assert await cat(pod, raw) == DATA
        os.lseek(raw.fileno(), 100, os.SEEK_SET)
        assert await cat(pod, raw.fileno()) == DATA[100:]


@on_a_loop
async def test_a_pipe_is_polled(pod: Pod) -> None:
    receiver, sender = os.pipe()
    with os.fdopen(receiver, "rb") as source:
        running = asyncio.ensure_future(cat(pod, source))
        writer = threading.Thread(target=_write_all, args=(sender, DATA))
        writer.start()
        assert await running == DATA
        writer.join()


def _write_all(descriptor: int, data: bytes) -> None:
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


@on_a_loop
async def test_a_pipe_in_which_nothing_comes_holds_up_nothing(pod: Pod) -> None:
    receiver, sender = os.pipe()
    try:
        done = await pod.run(["echo", "x"], container="main", stdin=receiver, timeout=20)
        assert done.stdout == b"x\n"
        with pytest.raises(DeadlineExceeded):
            await pod.run(["cat"], container="main", stdin=receiver, timeout=0.1)
    finally:
        os.close(receiver)
        os.close(sender)


@on_a_loop
async def test_a_device_that_cannot_be_polled(pod: Pod) -> None:
    with open("/dev/zero", "rb", buffering=0) as zero, open("/dev/null", "rb") as null:  # noqa: ASYNC230 - devices
        done = await pod.run(["exit", "0"], container="main", stdin=zero, timeout=20)
        assert done.returncode == 0
        assert await cat(pod, null) == b""


@on_a_loop
async def test_a_file_of_which_nothing_is_known_is_read_in_a_thread(pod: Pod) -> None:
    source = Unknown(DATA)
    assert await cat(pod, source) == DATA
    assert threading.get_ident() not in source.threads


@pytest.mark.parametrize("size", [1000, 400_000])
@on_a_loop
async def test_an_asynchronous_iterator(pod: Pod, size: int) -> None:
    assert await cat(pod, pieces(DATA, size)) == DATA
    done = await pod.run(["cat"], container="main", input=pieces(b"text", 3), text=True)
    assert done.stdout == "text"


@on_a_loop
async def test_a_stream_reader(pod: Pod) -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(DATA)
    reader.feed_eof()
    assert await cat(pod, reader) == DATA


@on_a_loop
async def test_an_iterator_is_closed_when_the_command_ends_first(pod: Pod) -> None:
    closed: list[str] = []

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(50_000)
        finally:
            await asyncio.sleep(0)
            closed.append("closed")

    done = await pod.run(["exit", "0"], container="main", stdin=endless(), timeout=20)
    assert done.returncode == 0
    assert closed == ["closed"]


@on_a_loop
async def test_an_iterator_that_ends_is_closed_in_peace(pod: Pod) -> None:
    """Not cancelled while it closes what it holds."""

    class Pieces:
        left = 3
        closed = False

        def __aiter__(self) -> Pieces:
            return self

        async def __anext__(self) -> bytes:
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            return b"x" * 100_000

        async def aclose(self) -> None:
            for _ in range(5):
                await asyncio.sleep(0)
            self.closed = True

    source = Pieces()
    assert len(await cat(pod, source)) == 300_000
    assert source.closed


@on_a_loop
async def test_what_a_source_raises_reaches_the_caller(pod: Pod) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"some"
        raise ZeroDivisionError("in the iterator")

    def broken_too() -> Iterator[bytes]:
        yield b"some"
        raise ZeroDivisionError("in the iterator")

    for source in (broken(), broken_too()):
        with pytest.raises(ZeroDivisionError, match="in the iterator"):
            await pod.run(["cat"], container="main", stdin=source)
    async with pod.popen(["cat"], container="main", stdin=broken()) as process:
        with pytest.raises(ZeroDivisionError):
            await process.wait()
        with pytest.raises(ConnectionLost, match="interrupted by ZeroDivisionError") as caught:
            await process.wait()
        assert isinstance(caught.value.__cause__, ZeroDivisionError)


@on_a_loop
async def test_what_is_no_source_is_refused_before_anything_is_dialled(pod: Pod) -> None:
    wrong: list[Any] = ["text", True, -7, io.StringIO("text"), object()]
    for source in wrong:
        with pytest.raises((TypeError, ValueError)):
            await pod.popen(["cat"], container="main", stdin=source)
    with pytest.raises(ValueError, match="nobody to write"):
        await pod.run(["cat"], container="main", stdin=-1)
    with pytest.raises(ValueError, match="not both"):
        await pod.run(["cat"], container="main", stdin=pieces(b"", 1), input=b"x")


# -- output -----------------------------------------------------------------------------------------------------------


async def emit(pod: Pod, target: Any, size: int = len(DATA)) -> Completed[bytes]:
    return await pod.run(["random", str(size), "out"], container="main", stdout=target, timeout=30)


async def expected(pod: Pod, size: int = len(DATA)) -> bytes:
    stdout = (await pod.run(["random", str(size), "out"], container="main")).stdout
    assert stdout is not None
    return stdout


@on_a_loop
async def test_files(pod: Pod, tmp_path: Path) -> None:
    wanted = await expected(pod)
    path = tmp_path / "output"
    for buffering in (-1, 0):
        with path.open("wb", buffering=buffering) as file:
            assert (await emit(pod, file)).stdout is None
            assert path.read_bytes() == wanted, "flushed when the output ended"
    with path.open("wb") as file:
        await emit(pod, file.fileno())
    assert path.read_bytes() == wanted
    memory = io.BytesIO()
    await emit(pod, memory)
    assert memory.getvalue() == wanted


@on_a_loop
async def test_a_function(pod: Pod) -> None:
    kept = bytearray()
    await emit(pod, kept.extend)
    assert kept == await expected(pod)


@on_a_loop
async def test_a_coroutine_function(pod: Pod) -> None:
    views: list[memoryview] = []

    async def take(data: memoryview) -> None:
        await asyncio.sleep(0)
        views.append(data)

    await emit(pod, take)
    assert b"".join(views) == await expected(pod), "its views stay valid"


@on_a_loop
async def test_a_slow_consumer_stops_the_socket(pod: Pod) -> None:
    size, waiting = 16 * MIB, asyncio.Event()
    kept = bytearray()

    async def take(data: memoryview) -> None:
        await waiting.wait()
        kept.extend(data)

    async with pod.popen(["random", str(size), "out"], container="main", stdout=take) as process:
        await until(lambda: process._exchange._wire.paused)
        assert process.received["stdout"] < 2 * HIGH_WATER
        waiting.set()
        assert await process.wait() == 0
        assert len(kept) == size, "wait() ends when the consumer has all"


@on_a_loop
async def test_a_pipe_is_written_in_a_thread(pod: Pod) -> None:
    receiver, sender = os.pipe()
    came = bytearray()

    def read() -> None:
        with os.fdopen(receiver, "rb") as file:
            came.extend(file.read())

    reader = threading.Thread(target=read)
    try:
        running = asyncio.ensure_future(emit(pod, sender))
        await until(lambda: select.select([receiver], [], [], 0)[0])
        reader.start()
        await running
    finally:
        os.close(sender)
    reader.join()
    assert came == await expected(pod)


@on_a_loop
async def test_a_pipe_that_nobody_reads_does_not_hold_the_loop(pod: Pod) -> None:
    receiver, sender = os.pipe()
    try:
        with os.fdopen(os.dup(sender), "wb", buffering=0) as file:
            running = asyncio.ensure_future(emit(pod, file))
            await until(lambda: select.select([receiver], [], [], 0)[0])
            assert (await pod.run(["echo", "x"], container="main")).stdout == b"x\n"
            await cancelled(running)
            os.read(receiver, MIB)  # the thread is let go
    finally:
        os.close(receiver)
        os.close(sender)


@on_a_loop
async def test_what_a_consumer_raises_reaches_the_caller(pod: Pod) -> None:
    def broken(data: memoryview) -> None:
        raise ZeroDivisionError("in the function")

    async def broken_too(data: memoryview) -> None:
        raise ZeroDivisionError("in the function")

    for target in (broken, broken_too):
        with pytest.raises(ZeroDivisionError, match="in the function"):
            await emit(pod, target)
    receiver, sender = os.pipe()
    os.close(receiver)
    try:
        with pytest.raises(BrokenPipeError) as caught:
            await emit(pod, sender)
        assert type(caught.value) is BrokenPipeError
    finally:
        os.close(sender)


@on_a_loop
async def test_a_function_may_close_its_process(pod: Pod) -> None:
    process: Any = None
    calls = 0

    def close(data: memoryview) -> None:
        nonlocal calls
        calls += 1
        process.kill()

    process = await pod.popen(["cat"], container="main", stdin=-1, stdout=close)
    await process.stdin.write(b"x")
    with pytest.raises(Exception, match="was closed"):
        await process.wait()
    assert calls == 1

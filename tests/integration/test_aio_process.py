"""A process of the asyncio client and its pipes, on the fake kubelet."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fakekubelet import FakeKubelet
from kubeletclient._policy import HIGH_WATER, SCRATCH
from kubeletclient.aio import (
    PIPE,
    ClientCertificate,
    CommandFailed,
    DeadlineExceeded,
    Kubelet,
    OutputLimitExceeded,
    Pod,
    Process,
    ProcessClosed,
    StdinClosed,
    exchange,
)
from support.loops import cancelled, on_a_loop, until, write_for_ever

MIB = 1 << 20


@pytest.fixture(scope="module")
def server() -> Iterator[FakeKubelet]:
    with FakeKubelet() as kubelet:
        yield kubelet


def node_of(server: FakeKubelet, **options: Any) -> Kubelet:
    pair = server.credentials("alice", ["system:masters"])
    return Kubelet(server.url, ca=server.ca, credentials=ClientCertificate(pair.cert_pem, pair.key_pem), **options)


@pytest.fixture
def pod(server: FakeKubelet) -> Pod:
    return node_of(server).pod("demo")


def opening(pod: Pod, *words: str, **options: Any) -> Any:
    return pod.popen(words, container="main", **options)


# -- starting and leaving ---------------------------------------------------------------------------------------------


@on_a_loop
async def test_both_ways_to_start_a_process(pod: Pod) -> None:
    process: Any
    async with opening(pod, "echo", "x") as process:
        started: object = process
        assert isinstance(started, Process)
        assert await process.stdout.read() == b"x\n"
    process = await opening(pod, "echo", "y")
    assert await process.stdout.read() == b"y\n"
    assert await process.wait() == 0
    await process.close()
    async with await opening(pod, "echo", "z") as process:
        assert await process.stdout.read() == b"z\n"


@on_a_loop
async def test_leaving_the_block_closes_the_process(pod: Pod) -> None:
    async with opening(pod, "sleep", "600") as process:
        assert process.poll() is None
    with pytest.raises(ProcessClosed, match="closed before its output ended"):
        await process.wait()
    with pytest.raises(ProcessClosed):
        await process.stdout.read()
    await process.close()


@on_a_loop
async def test_leaving_the_kubelet_closes_what_it_started(server: FakeKubelet) -> None:
    async with node_of(server) as node:
        process = await opening(node.pod("demo"), "sleep", "600", stdin=PIPE)
    with pytest.raises(ProcessClosed):
        await process.stdin.write(b"x")
    with pytest.raises(ProcessClosed, match="this Kubelet was closed"):
        await node.pod("demo").run(["echo"], container="main")


@on_a_loop
async def test_a_forgotten_process_is_told_and_closed(server: FakeKubelet, pod: Pod) -> None:
    process = await opening(pod, "sleep", "600")
    execution = server.executions[-1]
    with pytest.warns(ResourceWarning, match="was never closed"):
        del process
    await until(lambda: execution.client_left)


def test_a_process_that_outlives_its_loop(server: FakeKubelet) -> None:
    async def start() -> Process:
        process: Process = await opening(node_of(server).pod("demo"), "sleep", "600", stdin=PIPE, timeout=600)
        return process

    process = asyncio.run(start())
    execution = server.executions[-1]
    with pytest.warns(ResourceWarning, match="was never closed"):
        del process
    execution.wait_client_left(10)


@on_a_loop
async def test_results(pod: Pod) -> None:
    async with opening(pod, "exit", "7", stdin=PIPE) as process:
        assert await process.wait() == process.returncode == process.poll() == 7
        assert process.route == "kubelet"
        assert "exit code 7" in repr(process)
    with pytest.raises(CommandFailed) as caught:
        await pod.run(["exit", "7"], container="main", check=True)
    assert caught.value.returncode == 7
    done = await pod.run(["echo", "grüß"], container="main", text=True)
    assert done.stdout == "grüß\n"
    assert done.received["stdout"] == 7


# -- reading ----------------------------------------------------------------------------------------------------------


@on_a_loop
async def test_read_waits_for_all_that_was_asked_for(pod: Pod) -> None:
    async with opening(pod, "cat", stdin=PIPE) as process:
        reading = asyncio.ensure_future(process.stdout.read(6))
        for piece in (b"a", b"bc", b"def", b"g"):
            await process.stdin.write(piece)
        assert await reading == b"abcdef"
        assert await process.stdout.read1() == b"g"
        await process.stdin.close()
        assert await process.stdout.read(5) == b""
        assert await process.stdout.read() == b""
        assert await process.stdout.read1() == b""
        assert await process.wait() == 0


@on_a_loop
async def test_what_there_is(pod: Pod) -> None:
    async with opening(pod, "cat", stdin=PIPE) as process:
        await process.stdin.write(b"0123456789")
        assert await process.stdout.peek() == b"0123456789"
        assert await process.stdout.read1(3) == b"012"
        assert await process.stdout.read(0) == await process.stdout.read1(0) == b""
        room = bytearray(4)
        assert await process.stdout.readinto1(room) == 4
        assert room == b"3456"
        assert await process.stdout.readinto1(room) == 3
        assert await process.stdout.readinto1(bytearray()) == 0


@on_a_loop
async def test_readinto_fills_the_buffer(pod: Pod) -> None:
    async with opening(pod, "random", str(3 * MIB + 17), "seed") as process:
        digest, room, sizes = hashlib.sha256(), bytearray(MIB), []
        while size := await process.stdout.readinto(room):
            digest.update(room[:size])
            sizes.append(size)
        assert sizes == [MIB, MIB, MIB, 17]
    whole = await pod.run(["random", str(3 * MIB + 17), "seed"], container="main")
    assert hashlib.sha256(whole.stdout or b"").digest() == digest.digest()


@on_a_loop
async def test_lines(pod: Pod) -> None:
    async with opening(pod, "cat", stdin=b"one\n\nthree\r\nlong" + b"g" * 200_000 + b"\nrest") as process:
        assert await process.stdout.readline(2) == b"on"
        assert await process.stdout.readline() == b"e\n"
        assert [line async for line in process.stdout] == [
            b"\n",
            b"three\r\n",
            b"long" + b"g" * 200_000 + b"\n",
            b"rest",
        ]


@on_a_loop
async def test_two_readers_of_one_output_are_refused(pod: Pod) -> None:
    async with opening(pod, "cat", stdin=PIPE) as process:
        first = asyncio.ensure_future(process.stdout.read(1))
        await asyncio.sleep(0)
        for second in (process.stdout.read(1), process.stdout.readinto(bytearray(1))):
            with pytest.raises(RuntimeError, match="two tasks read the same output"):
                await second
        await process.stdin.write(b"x")
        assert await first == b"x"


@on_a_loop
async def test_nobody_reads(pod: Pod) -> None:
    """Reading stops at the mark and says so; nothing is lost, and memory stays bounded."""
    size = 32 * MIB
    async with opening(pod, "random", str(size), "slow") as process:
        await until(lambda: process._exchange._wire.paused)
        assert HIGH_WATER <= process.received["stdout"] < HIGH_WATER + 2 * SCRATCH
        with pytest.raises(DeadlineExceeded, match=r"the command to end \(nobody reads stdout, so nothing more"):
            await process.wait(0.05)
        data = await process.stdout.read()
        assert await process.wait() == 0
    assert (await pod.run(["random", str(size), "slow"], container="main")).stdout == data


@on_a_loop
async def test_an_output_thrown_away_holds_up_nothing(pod: Pod) -> None:
    async with opening(pod, "source", str(8 * MIB)) as process:
        await until(lambda: process._exchange._wire.paused)
        process.stdout.close()
        assert process.stdout.closed
        assert await process.wait() == 0
        with pytest.raises(ValueError, match="closed output"):
            await process.stdout.read()


@on_a_loop
async def test_a_cancelled_read_loses_nothing(pod: Pod) -> None:
    async with opening(pod, "cat", stdin=PIPE) as process:
        room = bytearray(10)
        starts: list[Callable[[], Any]] = [lambda: process.stdout.readinto(room), lambda: process.stdout.read(10)]
        for start in starts:
            reading = asyncio.ensure_future(start())
            await process.stdin.write(b"12345")
            count = process.received["stdout"]
            await until(functools.partial(lambda count: process.received["stdout"] == count + 5, count))
            await cancelled(reading)
            await process.stdin.write(b"6789")
            assert await process.stdout.read(9) == b"123456789"


# -- writing ----------------------------------------------------------------------------------------------------------


@on_a_loop
async def test_a_written_buffer_may_be_changed_at_once(pod: Pod) -> None:
    async with opening(pod, "cat", stdin=PIPE) as process:
        expected = b""
        reading = asyncio.ensure_future(process.stdout.read())
        for size in (1, 1000, 70_000, 262_112, MIB + 5):
            data = bytearray(os.urandom(size))
            expected += data
            assert await process.stdin.write(data) == size
            data[:] = bytes(size)
        assert await process.stdin.write(b"") == 0
        await process.stdin.close()
        assert await reading == expected
        with pytest.raises(ValueError, match="closed stdin"):
            await process.stdin.write(b"x")


@on_a_loop
async def test_small_writes_in_a_row_are_joined(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first leaves at once; those that follow closely leave together when the loop comes round."""
    monkeypatch.setattr(exchange, "_BURST", 5.0)  # on a busy machine even the next statement comes late
    async with opening(pod, "cat", stdin=PIPE) as process:
        wire, sent = process._exchange._wire, []
        send = wire._sock.sendmsg

        class Counting:
            def sendmsg(self, pieces: Any) -> int:
                sent.append(sum(map(len, pieces)))
                return int(send(pieces))

            def __getattr__(self, name: str) -> Any:
                return getattr(sock, name)

        await asyncio.sleep(0)
        sock, wire._sock = wire._sock, Counting()
        for _ in range(50):
            await process.stdin.write(b"0123456789")
        assert await process.stdout.read(500) == b"0123456789" * 50
        wire._sock = sock
        assert len(sent) == 2
        assert sent[0] < 100


@on_a_loop
async def test_writers_take_turns(pod: Pod) -> None:
    async with opening(pod, "cat", stdin=PIPE) as process:
        pieces = [bytes([65 + i]) * (200_000 * i + 1) for i in range(8)]
        reading = asyncio.ensure_future(process.stdout.read(sum(map(len, pieces))))
        await asyncio.gather(*map(process.stdin.write, pieces))
        assert await reading == b"".join(pieces)


@on_a_loop
async def test_one_task_that_writes_more_than_it_reads(pod: Pod) -> None:
    """Echo: a write must not wait for us to read what it caused before."""
    async with opening(pod, "cat", stdin=PIPE) as process:
        data = os.urandom(900_000)
        for _ in range(20):
            await process.stdin.write(data)
            assert await process.stdout.read(len(data)) == data


@on_a_loop
async def test_full_duplex(pod: Pod) -> None:
    data = os.urandom(24 * MIB)
    async with opening(pod, "cat", stdin=PIPE) as process:
        assert await process.communicate(data) == (data, b"")
        assert process.returncode == 0
    assert (await pod.run(["cat"], container="main", input=data)).stdout == data


@on_a_loop
async def test_nobody_takes_stdin_any_more(pod: Pod) -> None:
    async with opening(pod, "exit", "0", stdin=PIPE) as process:
        with pytest.raises(StdinClosed, match="ended, or does not read it") as caught:
            await write_for_ever(process, bytes(100_000))
        assert isinstance(caught.value, BrokenPipeError)
        assert await process.wait() == 0
        await process.stdin.close()


@on_a_loop
async def test_a_cancelled_write_sends_nothing_later(pod: Pod) -> None:
    async with opening(pod, "ignore-stdin", "600", stdin=PIPE) as process:
        chunk = bytearray(MIB)

        async def fill() -> None:
            while True:
                await process.stdin.write(chunk)

        filling = asyncio.ensure_future(fill())
        await until(lambda: process._exchange._wire.blocked)
        await asyncio.sleep(0)
        sent = process.sent["stdin"]
        await cancelled(filling)
        assert process.sent["stdin"] == sent
        await process.stdin.write(b"a small one, which waits behind nothing of the cancelled one")
        assert process.stdin._pipe.next_batch(memoryview(bytearray(100))).tobytes().startswith(b"a small one")


# -- communicate ------------------------------------------------------------------------------------------------------


@on_a_loop
async def test_communicate_goes_on_after_its_timeout(pod: Pod) -> None:
    async with opening(pod, "sleep", "0.3", stdin=PIPE) as process:
        with pytest.raises(DeadlineExceeded, match=r"the timeout of 0\.01 s passed"):
            await process.communicate(b"input", timeout=0.01)
        with pytest.raises(ValueError, match="was called before"):
            await process.communicate(b"again")
        assert await process.communicate() == (b"", b"")
        assert process.returncode == 0


@on_a_loop
async def test_what_communicate_gathers_is_bounded(pod: Pod) -> None:
    async with opening(pod, "source", str(4 * MIB), capture_limit=MIB + 3) as process:
        with pytest.raises(OutputLimitExceeded, match="raise capture_limit") as caught:
            await process.communicate()
        assert caught.value.stdout == bytes(MIB + 3)


@on_a_loop
async def test_the_deadline_of_a_process(pod: Pod) -> None:
    async with opening(pod, "sleep", "600", timeout=0.2) as process:
        with pytest.raises(DeadlineExceeded, match=r"0\.2 s passed while waiting for stdout") as caught:
            await process.stdout.read()
        assert caught.value.timeout == 0.2
        with pytest.raises(DeadlineExceeded):
            await process.wait()


@on_a_loop
async def test_many_idle_processes_are_small(server: FakeKubelet) -> None:
    """No buffer belongs to a connection: all of a loop share the same."""
    from kubeletclient._wire import Scratch

    async with node_of(server) as node:
        pod = node.pod("demo")
        processes = await asyncio.gather(*(opening(pod, "cat", stdin=PIPE) for _ in range(50)))
        scratch = {id(process._exchange._wire._scratch) for process in processes}
        assert scratch == {id(Scratch.of(asyncio.get_running_loop()))}
        for process in processes:
            await process.stdin.write(b"x" * 300_000)
        for process in processes:
            assert await process.stdout.read(300_000) == b"x" * 300_000
            assert not process._exchange._wire.blocked

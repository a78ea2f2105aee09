"""Containers written in Python: ordinary functions in threads, coroutine functions on the server's loop."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable

import pytest

from fakekubelet import AsyncExec, BlockingExec, Container, FakeKubelet, Pod
from spdyproto.channels.events import StreamKind, StreamSet
from spdyproto.channels.status import ExitStatus
from support.fakes import Caller
from support.rawclient import Result

MIB = 1 << 20


def shout(exec: BlockingExec) -> int:
    exec.stdout.write(exec.stdin.read().upper())
    exec.stderr.write(b"done")
    return 7


async def shout_async(exec: AsyncExec) -> int:
    async for chunk in exec.stdin:
        await exec.stdout.write(chunk.upper())
    await exec.stderr.write(b"done")
    return 7


class Shout:
    """An object that can be called."""

    async def __call__(self, exec: AsyncExec) -> int:
        return await shout_async(exec)


def call(behaviour: Callable[..., object], argv: list[str] | None = None, **options: object) -> Result:
    with FakeKubelet([Pod("demo", [Container("main", behaviour=behaviour)])]) as kubelet:  # type: ignore[arg-type]  # any
        return Caller(kubelet).run(argv or ["x"], **options)


@pytest.mark.parametrize("behaviour", [shout, shout_async, Shout()])
def test_streams_and_exit_code(behaviour: Callable[..., object]) -> None:
    result = call(behaviour, stdin=b"quiet")
    assert (result.code, result.stdout, result.stderr) == (7, b"QUIET", b"done")


@pytest.mark.parametrize("behaviour", [shout, shout_async])
def test_large_data_both_ways(behaviour: Callable[..., object]) -> None:
    data = b"abcdefgh" * (MIB // 2)
    with (
        FakeKubelet([Pod("demo", [Container("main", behaviour=behaviour)])]) as kubelet,  # type: ignore[arg-type]  # any
        Caller(kubelet).open(["x"], streams=StreamSet(stdin=True)) as client,
    ):
        for start in range(0, len(data), MIB // 4):
            client.send(data[start : start + MIB // 4])
            if behaviour is shout_async:  # which answers at once: take it, or both ends wait for each other
                client.pump_until(lambda end=start + MIB // 4: len(client.stdout) >= end)  # type: ignore[misc]  # int
        client.send(b"", eof=True)
        assert client.finish().stdout == data.upper()


def raises(exec: BlockingExec) -> int:
    raise KeyError("lost")


async def raises_async(exec: AsyncExec) -> int:
    raise KeyError("lost")


def exits(exec: BlockingExec) -> None:
    sys.exit(5)


async def exits_async(exec: AsyncExec) -> None:
    sys.exit(5)


@pytest.mark.parametrize("behaviour", [raises, raises_async])
def test_an_exception_is_a_failure_of_the_runtime(behaviour: Callable[..., object]) -> None:
    result = call(behaviour)
    assert result.code is None
    assert result.message.endswith("error executing command in container: KeyError: 'lost'")


@pytest.mark.parametrize("behaviour", [exits, exits_async])
def test_system_exit_is_an_exit_code(behaviour: Callable[..., object]) -> None:
    assert call(behaviour).code == 5


@pytest.mark.parametrize(
    ("value", "code", "text"),
    [
        (None, 0, ""),
        (0, 0, ""),
        (True, None, "expected an exit code of 0 to 255, got True"),
        (300, None, "expected an exit code of 0 to 255, got 300"),
        ("3", None, "expected an exit code of 0 to 255, got '3'"),
        (ExitStatus.failure("Internal error occurred: own words"), None, "own words"),
    ],
)
def test_what_a_function_returns(value: object, code: int | None, text: str) -> None:
    async def later(exec: AsyncExec) -> object:
        return value

    for behaviour in (lambda exec: value, later):
        result = call(behaviour)
        assert result.code == code
        assert text in result.message


def test_arguments_terminal_and_size() -> None:
    def describe(exec: BlockingExec) -> None:
        assert exec.stdin.read(1) == b"!"  # the size was sent before it
        exec.stdout.write(f"{exec.argv} {exec.tty} {exec.size} {exec.request.user.name}".encode())

    async def describe_async(exec: AsyncExec) -> None:
        size = await exec.resized()
        await exec.stdout.write(f"{exec.argv} {exec.tty} {size} {exec.request.user.name}".encode())

    for behaviour in (describe, describe_async):
        with (
            FakeKubelet([Pod("demo", [Container("main", behaviour=behaviour)])]) as kubelet,
            Caller(kubelet).open(["a", "b"], streams=StreamSet(stdin=True, stderr=False, tty=True)) as client,
        ):
            client.session.resize(80, 24)
            client.send(b"!")
            assert client.finish().stdout == b"('a', 'b') True (80, 24) tester"


def test_an_output_can_end_before_the_command() -> None:
    def early(exec: BlockingExec) -> None:
        exec.stdout.write(b"all")
        exec.stdout.close()
        exec.stdin.read()

    async def early_async(exec: AsyncExec) -> None:
        await exec.stdout.write(b"all")
        exec.stdout.close()
        await exec.stdin.read()

    for behaviour in (early, early_async):
        with (
            FakeKubelet([Pod("demo", [Container("main", behaviour=behaviour)])]) as kubelet,
            Caller(kubelet).open(["x"], streams=StreamSet(stdin=True)) as client,
        ):
            client.pump_until(lambda: bool(client.session.received[StreamKind.STDOUT]))
            client.send(b"", eof=True)
            result = client.finish()
            assert (result.code, result.stdout) == (0, b"all")


def test_reads_of_a_given_size() -> None:
    async def measured(exec: AsyncExec) -> None:
        sizes = []
        while chunk := await exec.stdin.read(3):
            sizes.append(len(chunk))
            assert len(chunk) <= 3
        assert await exec.stdin.read(3) == b""
        await exec.stdout.write(str(sum(sizes)).encode())

    assert call(measured, stdin=b"12345678").stdout == b"8"


@pytest.mark.parametrize("kind", ["blocking", "async"])
def test_a_reader_that_waits_stops_the_client_and_then_gets_everything(kind: str) -> None:
    go_on = threading.Event()

    def slow(exec: BlockingExec) -> None:
        assert go_on.wait(30)
        exec.stdout.write(str(len(exec.stdin.read())).encode())

    async def slow_async(exec: AsyncExec) -> None:
        await asyncio.to_thread(go_on.wait, 30)
        await exec.stdout.write(str(len(await exec.stdin.read())).encode())

    behaviour = slow if kind == "blocking" else slow_async
    size = 64 * MIB
    with (
        FakeKubelet([Pod("demo", [Container("main", behaviour=behaviour)])]) as kubelet,
        Caller(kubelet).open(["x"], streams=StreamSet(stdin=True)) as client,
    ):
        sender = threading.Thread(target=lambda: client.send(bytes(size), eof=True))
        sender.start()
        sender.join(0.3)
        assert sender.is_alive(), "64 MiB went through to a command that reads nothing"
        assert kubelet.executions[0].received < 8 * MIB
        go_on.set()
        sender.join(30)
        assert client.finish().stdout == str(size).encode()


@pytest.mark.parametrize("kind", ["blocking", "async"])
def test_when_the_client_leaves_writing_fails_and_reading_ends(kind: str) -> None:
    seen: list[object] = []

    def endless(exec: BlockingExec) -> None:
        try:
            while True:
                exec.stdout.write(bytes(MIB))
        except BrokenPipeError:
            seen.append(exec.stdin.read())

    async def endless_async(exec: AsyncExec) -> None:
        try:
            while True:
                await exec.stdout.write(bytes(MIB))
        except BrokenPipeError:
            seen.append(await exec.stdin.read())

    behaviour = endless if kind == "blocking" else endless_async
    with FakeKubelet([Pod("demo", [Container("main", behaviour=behaviour)])]) as kubelet:
        with Caller(kubelet).open(["x"], streams=StreamSet(stdin=True)):
            pass
        status = kubelet.executions[0].wait(10)
        assert status is not None
        assert status.ok
    assert seen == [b""]


@pytest.mark.parametrize("kind", ["blocking", "blocking, watching", "async"])
def test_closing_the_server_ends_functions_that_wait(kind: str) -> None:
    entered = threading.Event()
    left = threading.Event()

    def waits(exec: BlockingExec) -> None:
        entered.set()
        if kind == "blocking":
            exec.stdin.read()
        else:
            exec.closing.wait(30)
        left.set()

    async def waits_async(exec: AsyncExec) -> None:
        entered.set()
        try:
            await asyncio.sleep(1000)
        finally:
            left.set()

    behaviour = waits_async if kind == "async" else waits
    with FakeKubelet([Pod("demo", [Container("main", behaviour=behaviour)])]) as kubelet:
        client = Caller(kubelet).open(["x"], streams=StreamSet(stdin=True))
        assert entered.wait(10)
    client.sock.close()
    assert left.is_set()
    assert not kubelet.executions[0].running

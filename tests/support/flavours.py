"""Both flavours of the client behind one plain, blocking face, so that each test is written once.

A flavour runs what it is given: the blocking one in the calling thread, the asyncio one on a loop in a thread of its
own, which turns between calls too, as it does in a program. `Node` and `Running` add nothing to what they wrap.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType, TracebackType
from typing import Any, Self

import pytest

import kubeletclient
import kubeletclient.aio

__all__ = ["Asyncio", "Blocking", "Flavour", "Node", "Running", "flavour_fixture"]

_STOP_SECONDS = 10
Call = Callable[[], Any]


class Flavour:
    """One flavour; a context manager."""

    name: str
    client: ModuleType

    def do(self, call: Call) -> Any:
        """What `call` answers, awaited if it is awaitable."""
        raise NotImplementedError

    def together(self, calls: Sequence[Call]) -> list[Any]:
        """All of `calls` at the same time; what each answered or raised."""
        raise NotImplementedError

    def node(self, url: str, **options: Any) -> Node:
        """A `Kubelet`."""
        return Node(self, self.client.Kubelet(url, **options))

    def connect_exec(self, url: str, **options: Any) -> Running:
        """`connect_exec`."""
        return Running(self, self.do(lambda: self.client.connect_exec(url, **options)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing to stop."""


class Blocking(Flavour):
    """`kubeletclient`."""

    name = "blocking"
    client = kubeletclient

    def do(self, call: Call) -> Any:
        return call()

    def together(self, calls: Sequence[Call]) -> list[Any]:
        def attempt(call: Call) -> Any:
            try:
                return call()
            except Exception as error:
                return error

        with ThreadPoolExecutor(len(calls)) as pool:
            return list(pool.map(attempt, calls))


class Asyncio(Flavour):
    """`kubeletclient.aio`, on a loop in a thread."""

    name = "asyncio"
    client = kubeletclient.aio

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._faults: list[str] = []
        self._loop.set_exception_handler(lambda _, context: self._faults.append(repr(context)))
        self._thread = threading.Thread(target=self._loop.run_forever, name="asyncio-flavour", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(_cancel_others(), self._loop).result(_STOP_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_STOP_SECONDS)
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()
        if kind is None and self._faults:
            raise AssertionError(f"the loop was told of what nobody handled: {self._faults}")

    def do(self, call: Call) -> Any:
        future = asyncio.run_coroutine_threadsafe(_awaited(call), self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # the test is being ended; nothing is left of what it waited for
            raise

    def together(self, calls: Sequence[Call]) -> list[Any]:
        async def gather() -> list[Any]:
            return await asyncio.gather(*map(_awaited, calls), return_exceptions=True)

        answers: list[Any] = self.do(gather)
        return answers


async def _awaited(call: Call) -> Any:
    answer = call()
    return await answer if inspect.isawaitable(answer) else answer


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


class Node:
    """A kubelet, as one flavour of the client sees it. Commands run in default/demo, container main, by default."""

    def __init__(self, flavour: Flavour, kubelet: Any) -> None:
        self.flavour = flavour
        self.kubelet = kubelet

    def pod(self, pod: str = "demo", namespace: str = "default", uid: str | None = None) -> Any:
        return self.kubelet.pod(pod, namespace, uid=uid)

    def run(self, *args: str, pod: dict[str, Any] | None = None, **options: Any) -> Any:
        """`Pod.run`: a `Completed`, of text or bytes as `options` say."""
        return self.flavour.do(self.call(*args, pod=pod, **options))

    def call(self, *args: str, pod: dict[str, Any] | None = None, **options: Any) -> Call:
        """The same, to be done later."""
        return lambda: self.pod(**(pod or {})).run(args, **{"container": "main", **options})

    def popen(self, *args: str, pod: dict[str, Any] | None = None, **options: Any) -> Running:
        """`Pod.popen`."""
        return Running(self.flavour, self.flavour.do(self.opening(*args, pod=pod, **options)))

    def opening(self, *args: str, pod: dict[str, Any] | None = None, **options: Any) -> Call:
        """The same, to be done later; it answers the bare process."""
        return lambda: self.pod(**(pod or {})).popen(args, **{"container": "main", **options})

    def close(self) -> None:
        self.flavour.do(self.kubelet.close)


class Running:
    """A process; leaving the block closes it."""

    def __init__(self, flavour: Flavour, process: Any) -> None:
        self.flavour = flavour
        self.process = process

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def write(self, data: bytes) -> None:
        self.flavour.do(lambda: self.process.stdin.write(data))

    def write_for_ever(self, data: bytes) -> None:
        """Until a write fails."""
        while True:
            self.write(data)

    def end_stdin(self) -> None:
        self.flavour.do(self.process.stdin.close)

    def read(self, size: int = -1) -> bytes:
        data: bytes = self.flavour.do(lambda: self.process.stdout.read(size))
        return data

    def read_on(self, into: bytearray) -> None:
        """Until the end of stdout, or until a read fails; what came stays in `into`."""
        while data := self.flavour.do(lambda: self.process.stdout.read1(65536)):
            into += data

    def read_stderr(self, size: int = -1) -> bytes:
        data: bytes = self.flavour.do(lambda: self.process.stderr.read(size))
        return data

    def wait(self, timeout: float | None = None) -> int:
        code: int = self.flavour.do(lambda: self.process.wait(timeout))
        return code

    def communicate(self, input: bytes | None = None, timeout: float | None = None) -> tuple[bytes, bytes]:
        outputs: tuple[bytes, bytes] = self.flavour.do(lambda: self.process.communicate(input, timeout))
        return outputs

    def resize(self, width: int, height: int) -> None:
        self.flavour.do(lambda: self.process.resize(width, height))

    def close(self) -> None:
        self.flavour.do(self.process.close)


def flavour_fixture() -> Any:
    """The fixture `flavour`, to be assigned to that name in a module of tests: each test then runs in both."""

    @pytest.fixture(params=[Blocking, Asyncio], ids=lambda kind: kind.name, name="flavour")
    def flavour(request: pytest.FixtureRequest) -> Iterator[Flavour]:
        with request.param() as running:
            yield running

    return flavour

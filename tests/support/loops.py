"""Async tests on a loop of their own, after which nothing may be left: no task, no descriptor, no thread."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from kubeletclient.aio import Process

__all__ = ["cancelled", "descriptors", "on_a_loop", "until", "write_for_ever"]

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")

_JOIN_SECONDS = 10


def on_a_loop(test: Callable[Arguments, Coroutine[Any, Any, None]]) -> Callable[Arguments, None]:
    """``test``, run to its end on a new loop, which must be as it was before."""

    @functools.wraps(test)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        asyncio.run(_watched(test(*args, **kwargs)))
        gc.collect()
        for thread in threading.enumerate():
            if thread.name.startswith("kubewire-"):
                thread.join(_JOIN_SECONDS)
                assert not thread.is_alive(), f"{thread.name} was left behind"

    del run.__wrapped__  # pytest would look through it and find a coroutine function
    run.__signature__ = inspect.signature(test)  # type: ignore[attr-defined]  # by which fixtures are found
    return run


async def _watched(test: Coroutine[Any, Any, None]) -> None:
    before = _watching()
    await test
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"tasks were left behind: {left}"
    assert _watching() == before, "descriptors are still watched by the loop"


def _watching() -> int:
    selector: Any = getattr(asyncio.get_running_loop(), "_selector", None)  # the standard library's loops have one
    return 0 if selector is None else len(selector.get_map())


def descriptors() -> int:
    """How many descriptors this process has open."""
    gc.collect()
    return len(os.listdir("/dev/fd"))


async def until(condition: Callable[[], object], *, seconds: float = 10) -> None:
    """Let the loop turn until ``condition()``; a bound, never a pause."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.001)  # gives the other end, in its thread, the interpreter


async def cancelled(task: asyncio.Task[Any]) -> None:
    """Cancel ``task`` and see it end so."""
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return
    raise AssertionError("the task was not cancelled")


async def write_for_ever(process: Process, data: bytes) -> None:
    """Write stdin until that fails."""
    assert process.stdin is not None
    while True:
        await process.stdin.write(data)

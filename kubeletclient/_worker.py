"""A thread for calls that block: to files that cannot be polled, and to the resolver.

It is a daemon and not one of the loop's executor: a call that never returns (a write to a pipe that nobody reads, a
resolver that hangs) must neither keep the program from ending nor hold up the calls of others.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["Worker", "in_thread"]

Result = TypeVar("Result")


class Worker:
    """One thread for the blocking calls of one stream, in order."""

    __slots__ = ("_calls", "_loop", "_thread")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: queue.SimpleQueue[tuple[Callable[[], object], asyncio.Future[Any]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def submit(self, call: Callable[[], Result]) -> asyncio.Future[Result]:
        """Do ``call`` after those that were submitted before."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="kubewire-blocking", daemon=True)
            self._thread.start()
        future: asyncio.Future[Result] = self._loop.create_future()
        self._calls.put((call, future))
        return future

    def stop(self) -> None:
        """End the thread, behind the call that it is in."""
        self._calls.put(None)
        self._thread = None

    def _run(self) -> None:
        while (task := self._calls.get()) is not None:
            call, future = task
            try:
                result, error = call(), None
            except BaseException as raised:
                result, error = None, raised
            try:
                self._loop.call_soon_threadsafe(_settle, future, result, error)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return
            del task, call, future, result, error  # hold no data while waiting


def _settle(future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


async def in_thread(call: Callable[[], Result]) -> Result:
    """What ``call`` answers, from a thread of its own. Cancelled, the thread is left to end by itself."""
    worker = Worker(asyncio.get_running_loop())
    try:
        return await worker.submit(call)
    finally:
        worker.stop()

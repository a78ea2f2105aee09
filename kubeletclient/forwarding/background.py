"""The thread in which a blocking program's ports are forwarded: one for the process, while anything is forwarded."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from kubeletclient import errors
from kubeletclient._policy import Deadline

__all__ = ["call", "thread"]

Result = TypeVar("Result")


class _LoopThread:
    """The thread that forwards, while there is anything to forward."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def acquire(self) -> asyncio.AbstractEventLoop:
        """The loop, which runs until ``release`` was called as often."""
        with self._lock:
            self._users += 1
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._run, args=(self._loop,), name="kubewire-forward", daemon=True
                )
                self._thread.start()
            return self._loop

    def release(self) -> None:
        """The thread ends with the last user."""
        with self._lock:
            self._users -= 1
            if self._users or self._loop is None:
                return
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        loop.call_soon_threadsafe(loop.stop)
        if thread is not None and thread is not threading.current_thread():
            thread.join(10)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            loop.close()


thread: Final = _LoopThread()


def call(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Result], deadline: Deadline) -> Result:
    """Do ``work`` on the loop, and wait for it. An interrupt, or the deadline, cancels it."""
    future = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        return future.result(deadline.left())
    except concurrent.futures.TimeoutError as error:
        if future.done() or isinstance(error, errors.ClientError):
            raise
        future.cancel()
        raise deadline.error("the session to the pod") from None
    except BaseException:
        future.cancel()
        raise

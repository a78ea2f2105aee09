"""A server that runs a loop of its own in a thread of its own, and is driven from any other thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

from fakekubelet.accounting import SessionLog, SessionRecord
from fakekubelet.listening import CLOSE_SECONDS, keep_freed_memory


class BackgroundServer:
    """Started by ``with``, ``async with`` or ``start``, once. A subclass says by ``_serve`` what runs on the loop.

    ``what`` names it in errors, ``thread_name`` its thread.
    """

    def __init__(self, what: str, thread_name: str) -> None:
        self._what, self._thread_name = what, thread_name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self._fault: BaseException | None = None
        self._cpu: float | None = None  # once the thread has ended
        self.session_log = SessionLog()
        """The sums of all sessions, which are metrics, too."""

    @property
    def sessions(self) -> list[SessionRecord]:
        """What its sessions have cost, oldest first (the last thousand); open ones among them."""
        return self.session_log.records

    @property
    def cpu_seconds(self) -> float:
        """Processor seconds that the server's thread has used so far: everything but commands in threads or processes
        of their own."""
        thread = self._thread
        if self._cpu is not None or thread is None or thread.ident is None:
            return self._cpu or 0.0
        try:
            return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
        except OSError:  # it has ended just now
            return self._cpu or 0.0

    @property
    def started(self) -> bool:
        """Whether ``start`` was called."""
        return self._thread is not None

    def start(self) -> Self:
        """Listen, and return when clients can connect. Raises OSError if the address cannot be had."""
        try:
            self._launch().result()
        except BaseException:
            self._join()
            raise
        return self

    def close(self) -> None:
        """End sessions and commands, and wait until nothing is left. Closing twice is allowed.

        Raises TimeoutError if the server's thread does not end, and RuntimeError if the server itself failed at
        something while it ran: such a fault shall not hide in a log.
        """
        self._join()
        self._raise_fault()

    def _join(self) -> None:
        self._request_stop()
        if self._thread is not None:
            self._thread.join(2 * CLOSE_SECONDS)
            if self._thread.is_alive():
                raise TimeoutError(f"{self._what}: its thread still runs {2 * CLOSE_SECONDS:g} s after close()")

    def _raise_fault(self) -> None:
        fault, self._fault = self._fault, None
        if fault is not None:
            raise RuntimeError(f"{self._what} failed while it ran") from fault

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._join()
        if error is None:
            self._raise_fault()

    async def __aenter__(self) -> Self:
        try:
            await asyncio.wrap_future(self._launch())
        except BaseException:
            await self._close_from_loop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close_from_loop()
        if error is None:
            self._raise_fault()

    async def _close_from_loop(self) -> None:
        self._request_stop()
        if self._thread is not None:
            await asyncio.wrap_future(self._over)
            self._thread.join()  # it ends right behind the future

    def _launch(self) -> concurrent.futures.Future[None]:
        if self._thread is not None or self._closed:
            raise RuntimeError(f"{self._what} is started once: make a new one")
        ready: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._over: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._run, args=(ready,), name=self._thread_name, daemon=True)
        self._thread.start()
        return ready

    def _request_stop(self) -> None:
        self._closed = True
        loop, stop = self._loop, self._stop
        if loop is not None and stop is not None:
            try:
                loop.call_soon_threadsafe(stop.set)
            except RuntimeError:
                pass  # the loop has ended already

    def _run(self, ready: concurrent.futures.Future[None]) -> None:
        try:
            asyncio.run(self._main(ready))
        except BaseException as error:
            if not ready.done():
                ready.set_exception(error)
            else:
                raise
        finally:
            self._cpu = time.thread_time()
            self._over.set_result(None)

    async def _main(self, ready: concurrent.futures.Future[None]) -> None:
        keep_freed_memory()
        stop = self._stop = asyncio.Event()
        self._loop = loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_fault)

        async def serve() -> None:
            ready.set_result(None)
            if not self._closed:
                await stop.wait()

        await self._serve(loop, serve)

    async def _serve(self, loop: asyncio.AbstractEventLoop, ready: Callable[[], Awaitable[object]]) -> None:
        """Listen, await ``ready()``, which returns when the server shall close, and release everything."""
        raise NotImplementedError

    def _on_fault(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Something that no other code handled; the first one is kept."""
        if self._fault is None:
            self._fault = context.get("exception") or RuntimeError(context["message"])

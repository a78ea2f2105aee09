"""Logs of containers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from kubeletclient import errors
from kubeletclient._door import PodRef, Way
from kubeletclient._logs import Backoff, Lines, LogOptions, logs_ask, worth_waiting_for
from kubeletclient._policy import Deadline
from kubeletclient.aio.door import Client
from kubeletclient.endpoints import Target

if TYPE_CHECKING:
    from kubeletclient.aio.answers import Answer

__all__ = ["LogStream"]


class LogStream:
    """The log of a container, as lines; made by ``Pod.logs``.

    Iterate over it with ``async for``, or ``read`` all of it; otherwise as ``kubeletclient.sync.logs.LogStream``. A
    wait for a line that is cancelled loses nothing: the next one gets it.
    """

    def __init__(
        self,
        client: Client,
        pod: PodRef,
        container: str | None,
        options: LogOptions,
        patience: float,
        deadline: Deadline,
    ) -> None:
        self.reconnects = 0
        self._client = client
        self._pod = pod
        self._container = container
        self._options = options
        self._patience = patience
        self._deadline = deadline
        self._answer: Answer | None = None
        self._lines: AsyncGenerator[list[bytes], None] | None = None
        self._closed = asyncio.Event()
        self._failure: errors.ClientError | None = None
        self._ready: deque[bytes] = deque()
        self._reading: asyncio.Future[list[bytes] | None] | None = None

    def __repr__(self) -> str:
        return f"<LogStream of {self._pod.namespace}/{self._pod.selected or self._pod.name}>"

    @property
    def route(self) -> str:
        """How it is read: ``"kubelet"`` or ``"apiserver"``; empty before it was opened."""
        return self._answer.call.target.route if self._answer is not None else ""

    @property
    def route_reason(self) -> str:
        """Why so, where there was a choice."""
        return self._answer.call.target.reason if self._answer is not None else ""

    async def open(self) -> None:
        """Ask for the log, and return when it begins. Called by itself when it is needed."""
        if self._lines is None:
            await self._open(Lines(self._options))

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not self._ready:
            if self._failure is not None:
                raise self._failure
            if self._reading is None:
                self._reading = asyncio.ensure_future(self._batch())
            try:
                batch = await asyncio.shield(self._reading)
            except asyncio.CancelledError:
                if self._reading.cancelled():  # by ``close``, and not the wait
                    self._failure = errors.ProcessClosed("this log was closed", hint="ask for it again")
                    raise self._failure from None
                raise  # the reading goes on; what it brings is for the next call
            except errors.ClientError as error:
                self._failure = error  # what failed once is no end the next time
                self._reading = None
                raise
            self._reading = None
            if batch is None:
                raise StopAsyncIteration
            self._ready.extend(batch)
        return self._ready.popleft()

    async def _batch(self) -> list[bytes] | None:
        await self.open()
        assert self._lines is not None
        return await anext(self._lines, None)

    async def read(self) -> bytes:
        """All that is still to come, to the end of the log."""
        return b"".join([line async for line in self])

    async def close(self) -> None:
        """Leave. Lines that were not taken are gone; calling it again does nothing."""
        self._closed.set()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        await self._hang_up()

    async def _hang_up(self) -> None:
        if self._answer is not None:
            await self._answer.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _open(self, lines: Lines) -> None:
        if self._closed.is_set():
            raise errors.ProcessClosed("this log was closed", hint="ask for it again")
        self._answer = await self._connect(self._options.query())
        self._lines = self._follow(lines)

    async def _connect(self, query: list[tuple[str, str]]) -> Answer:
        from kubeletclient._answers import Call  # httpx takes a tenth of a second
        from kubeletclient.aio.answers import open_answer

        what = f"the log of {self._pod.namespace}/{self._pod.selected or self._pod.name}"

        async def opener(way: Way, target: Target) -> Answer:
            return await open_answer(Call(way, target, what), self._deadline)

        found: list[PodRef] = []
        answer = await self._client._reach(self._pod, self._container, logs_ask(query, found), opener, self._deadline)
        self._pod, self._container = found[0], found[0].default_container
        return answer

    async def _follow(self, lines: Lines) -> AsyncGenerator[list[bytes], None]:
        try:
            while True:
                assert self._answer is not None
                try:
                    async for piece in self._answer.pieces():
                        if batch := lines.feed(piece):
                            yield batch
                    break
                except errors.ClientError as error:
                    if self._closed.is_set():
                        raise errors.ProcessClosed("this log was closed", hint="ask for it again") from error
                    if not (lines.can_resume and worth_waiting_for(error)):
                        raise
                    lines.broken()
                    await self._reconnect(lines, error)
            if batch := lines.end():
                yield batch
        finally:
            self._closed.set()
            await self._hang_up()

    async def _reconnect(self, lines: Lines, lost: errors.ClientError) -> None:
        """Raises the loss itself when nothing comes of it in time."""
        assert self._answer is not None
        await self._answer.close()
        backoff = Backoff(self._patience)
        while (pause := backoff.wait()) is not None:
            await asyncio.sleep(self._deadline.left(pause) or 0)
            if self._closed.is_set():
                raise errors.ProcessClosed("this log was closed", hint="ask for it again")
            if self._deadline.passed():
                raise self._deadline.error("the log to be reached again") from lost
            try:
                self._answer = await self._connect(lines.resume_query)
            except errors.ClientError as error:
                if not worth_waiting_for(error):
                    raise
                lost = error
            else:
                self.reconnects += 1
                return
        raise lost

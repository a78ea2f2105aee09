"""Logs of containers."""

from __future__ import annotations

import asyncio
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

    Iterate over it with ``async for``, or ``read`` all of it; otherwise as ``kubeletclient.sync.logs.LogStream``. What
    is cancelled while it waits for a line ends it: lines that were handed out are whole, and a later one is asked for
    with a new LogStream.
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
        self._lines: AsyncGenerator[bytes, None] | None = None
        self._closed = asyncio.Event()
        self._cancelled = False

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
        await self.open()
        assert self._lines is not None
        try:
            return await anext(self._lines)
        except asyncio.CancelledError:
            self._cancelled = True
            raise
        except StopAsyncIteration:
            if self._cancelled:
                raise errors.ProcessClosed(
                    "this log was ended by a cancelled wait", hint="ask for it again, with since="
                ) from None
            raise

    async def read(self) -> bytes:
        """All that is still to come, to the end of the log."""
        return b"".join([line async for line in self])

    async def close(self) -> None:
        """Leave. Lines that were not taken are gone; calling it again does nothing."""
        self._closed.set()
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

    async def _follow(self, lines: Lines) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                assert self._answer is not None
                try:
                    async for piece in self._answer.pieces():
                        for line in lines.feed(piece):
                            yield line
                    break
                except errors.ClientError as error:
                    if self._closed.is_set():
                        raise errors.ProcessClosed("this log was closed", hint="ask for it again") from error
                    if not (lines.can_resume and worth_waiting_for(error)):
                        raise
                    lines.broken()
                    await self._reconnect(lines, error)
            for line in lines.end():
                yield line
        finally:
            await self.close()

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

"""What the asyncio clients have in common: they do what a door asks for, and close what they opened."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from kubeletclient import errors
from kubeletclient._door import Ask, Door, Fetch, PodRef, Way
from kubeletclient._fetch import Body, client_options, fetch_error, request_of
from kubeletclient._policy import Deadline
from kubeletclient.aio.worker import in_thread
from kubeletclient.endpoints import Target

__all__ = ["Client"]


class _Closable(Protocol):
    async def close(self) -> None: ...


Session = TypeVar("Session", bound=_Closable)


class Client:
    """A door with what was opened through it. It belongs to no loop; each session belongs to the one it was opened
    on.
    """

    def __init__(self, door: Door) -> None:
        self._door = door
        self._sessions: weakref.WeakSet[Any] = weakref.WeakSet()
        self._closed = False

    async def close(self) -> None:
        """Close every session that was opened through this object and is still open; no new ones can be opened."""
        self._closed = True
        for session in list(self._sessions):
            await session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _reach(
        self,
        pod: PodRef,
        container: str | None,
        ask: Ask,
        opener: Callable[[Way, Target], Awaitable[Session]],
        deadline: Deadline,
    ) -> Session:
        """The session that ``opener`` makes of the request ``ask``, on the way that the door decides on."""
        self._check_open()
        reach = self._door.reach(pod, container, ask)
        try:
            command = next(reach)
            while True:
                try:
                    answer: Any = (
                        await fetch_json(command, deadline)
                        if isinstance(command, Fetch)
                        else await opener(command.way, command.target)
                    )
                except errors.ClientError as error:
                    command = reach.throw(error)
                else:
                    command = reach.send(answer)
        except StopIteration as done:
            session: Session = done.value
        try:
            self._check_open()
        except BaseException:
            await session.close()
            raise
        self._sessions.add(session)
        return session

    def _check_open(self) -> None:
        if self._closed:
            raise errors.ProcessClosed(f"this {type(self).__name__} was closed", hint="make a new one")


async def fetch_json(fetch: Fetch, deadline: Deadline) -> Any:  # noqa: ANN401 - JSON
    """Do what ``Fetch`` says."""
    try:
        async with asyncio.timeout(deadline.left(fetch.way.settings.deadlines.upgrade)):
            return await _get(fetch)
    except TimeoutError as error:
        if isinstance(error, errors.ClientError):
            raise
        if deadline.passed():
            raise deadline.error(fetch.what) from None
        raise fetch_error(fetch, None, error) from error


async def _get(fetch: Fetch) -> Any:  # noqa: ANN401 - JSON
    import httpx  # a tenth of a second, and not needed by a command in a container that was named

    way = fetch.way
    trust = way.settings.trust
    url, headers = await in_thread(lambda: request_of(fetch))
    options = await in_thread(lambda: client_options(fetch))
    extensions = {"sni_hostname": trust.server_name} if trust.server_name else {}
    body = Body(fetch)
    try:
        async with (
            httpx.AsyncClient(timeout=None, **options) as client,
            client.stream("GET", url, headers=headers, extensions=extensions) as answer,
        ):
            if answer.status_code != 200:
                raise fetch_error(fetch, answer.status_code, None)
            async for piece in answer.aiter_bytes():
                body.add(piece)
    except httpx.HTTPError as error:
        raise fetch_error(fetch, None, error) from error
    return body.parse()

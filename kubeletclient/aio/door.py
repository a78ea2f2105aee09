"""What the asyncio clients have in common: they do what a door asks for, and close what they opened."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Awaitable, Callable, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from kubeletclient import errors
from kubeletclient._door import Ask, Command, Door, Fetch, Load, Open, PodRef, Way
from kubeletclient._fetch import REFUSAL_LIMIT, Body, complain, fetch_error, request_of, route_of
from kubeletclient._policy import Deadline
from kubeletclient._worker import in_thread
from kubeletclient.endpoints import Endpoint, Target

if TYPE_CHECKING:
    import httpx

__all__ = ["Client", "Http"]


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
        session: Session = await self._follow(self._door.reach(pod, container, ask), deadline, opener)
        try:
            self._check_open()
        except BaseException:
            await session.close()
            raise
        self._sessions.add(session)
        return session

    async def _follow(
        self,
        steps: Generator[Command, Any, Any],
        deadline: Deadline,
        opener: Callable[[Way, Target], Awaitable[object]] | None = None,
    ) -> Any:  # noqa: ANN401 - what the generator answers
        """Do what ``steps`` asks for, to its end."""
        self._check_open()
        http = Http(deadline)
        try:
            command = next(steps)
            while True:
                try:
                    answer = (
                        await http.fetch(command) if isinstance(command, Fetch) else await _perform(command, opener)
                    )
                except errors.ClientError as error:
                    command = steps.throw(error)
                else:
                    command = steps.send(answer)
        except StopIteration as done:
            return done.value
        finally:
            await http.close()

    def _check_open(self) -> None:
        if self._closed:
            raise errors.ProcessClosed(f"this {type(self).__name__} was closed", hint="make a new one")


async def _perform(command: Load | Open, opener: Callable[[Way, Target], Awaitable[object]] | None) -> object:
    if isinstance(command, Load):
        return await in_thread(command.function)
    assert opener is not None
    return await opener(command.way, command.target)


class Http:
    """Plain requests that belong together: they share a connection."""

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._taken = 0.0  # when the credentials of the last request were in hand
        self._clients: dict[Endpoint, httpx.AsyncClient] = {}

    async def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            await client.aclose()

    async def fetch(self, fetch: Fetch) -> Any:  # noqa: ANN401 - JSON
        """Do what ``fetch`` says; once more if other credentials can be had than those that were refused."""
        try:
            return await self._in_time(fetch)
        except errors.Unauthorized as error:
            refusal = error
            if not await in_thread(lambda: fetch.way.settings.trust.rejected(self._taken)):
                await in_thread(lambda: complain(fetch, refusal))
                raise
        stale = self._clients.pop(fetch.way.endpoint, None)
        if stale is not None:
            await stale.aclose()  # its connections show the certificate that was refused
        return await self._in_time(fetch)

    async def _in_time(self, fetch: Fetch) -> Any:  # noqa: ANN401 - JSON
        deadline = self._deadline
        try:
            async with asyncio.timeout(deadline.left()):  # a credential plugin may wait for a person
                client, url, headers = await self._prepared(fetch)
            async with asyncio.timeout(deadline.left(fetch.way.settings.deadlines.upgrade)):
                return await self._fetch(fetch, client, url, headers)
        except TimeoutError as error:
            if isinstance(error, errors.ClientError):
                raise
            if deadline.passed():
                raise deadline.error(fetch.what) from None
            raise fetch_error(fetch, None, error) from error

    async def _prepared(self, fetch: Fetch) -> tuple[httpx.AsyncClient, str, list[tuple[str, str]]]:
        from kubeletclient.aio.plain import plain_client

        way, left = fetch.way, self._deadline.left
        url, headers = await in_thread(lambda: request_of(fetch, left()))
        self._taken = time.monotonic()
        client = self._clients.get(way.endpoint)
        if client is None:
            client = self._clients[way.endpoint] = await plain_client(route_of(fetch), self._deadline)
        return client, url, headers

    async def _fetch(self, fetch: Fetch, client: httpx.AsyncClient, url: str, headers: list[tuple[str, str]]) -> Any:  # noqa: ANN401 - JSON
        import httpx  # a tenth of a second, and not needed by a command in a container that was named

        trust = fetch.way.settings.trust
        extensions = {"sni_hostname": trust.server_name} if trust.server_name else {}
        body = Body(fetch)
        try:
            async with client.stream("GET", url, headers=headers, extensions=extensions) as answer:
                async for piece in answer.aiter_bytes():
                    body.add(piece)
                    if answer.status_code != 200 and len(body) > REFUSAL_LIMIT:
                        break
        except httpx.HTTPError as error:
            raise fetch_error(fetch, None, error) from error
        return body.parse(answer.status_code)

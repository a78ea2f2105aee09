"""What the blocking clients have in common: they do what a door asks for, and close what they opened."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from kubeletclient import errors
from kubeletclient._door import Ask, Command, Door, Fetch, Load, Open, PodRef, Way
from kubeletclient._fetch import REFUSAL_LIMIT, Body, complain, fetch_error, request_of, route_of
from kubeletclient._policy import Deadline
from kubeletclient.endpoints import Endpoint, Target

if TYPE_CHECKING:
    import httpx

__all__ = ["Client", "Http"]


class _Closable(Protocol):
    def close(self) -> None: ...


Session = TypeVar("Session", bound=_Closable)


class Client:
    """A door with what was opened through it. Safe to share between threads."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._lock = threading.Lock()
        self._sessions: weakref.WeakSet[Any] = weakref.WeakSet()
        self._closed = False

    def close(self) -> None:
        """Close every session that was opened through this object and is still open; no new ones can be opened."""
        with self._lock:
            self._closed = True
            sessions = list(self._sessions)
        for session in sessions:
            session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _reach(
        self,
        pod: PodRef,
        container: str | None,
        ask: Ask,
        opener: Callable[[Way, Target], Session],
        deadline: Deadline,
    ) -> Session:
        """The session that ``opener`` makes of the request ``ask``, on the way that the door decides on."""
        session: Session = self._follow(self._door.reach(pod, container, ask), deadline, opener)
        return self._keep(session)

    def _follow(
        self,
        steps: Generator[Command, Any, Any],
        deadline: Deadline,
        opener: Callable[[Way, Target], object] | None = None,
    ) -> Any:  # noqa: ANN401 - what the generator answers
        """Do what ``steps`` asks for, to its end."""
        self._check_open()
        http = Http(deadline)
        try:
            command = next(steps)
            while True:
                try:
                    answer = http.fetch(command) if isinstance(command, Fetch) else _perform(command, opener)
                except errors.ClientError as error:
                    command = steps.throw(error)
                else:
                    command = steps.send(answer)
        except StopIteration as done:
            return done.value
        finally:
            http.close()

    def _keep(self, session: Session) -> Session:
        try:
            with self._lock:
                self._check_open()
                self._sessions.add(session)
        except BaseException:
            session.close()
            raise
        return session

    def _check_open(self) -> None:
        if self._closed:
            raise errors.ProcessClosed(f"this {type(self).__name__} was closed", hint="make a new one")


def _perform(command: Load | Open, opener: Callable[[Way, Target], object] | None) -> object:
    if isinstance(command, Load):
        return command.function()
    assert opener is not None
    return opener(command.way, command.target)


class Http:
    """Plain requests that belong together: they share a connection."""

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._taken = 0.0  # when the credentials of the last request were in hand
        self._clients: dict[Endpoint, httpx.Client] = {}

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            client.close()

    def fetch(self, fetch: Fetch) -> Any:  # noqa: ANN401 - JSON
        """Do what ``fetch`` says; once more if other credentials can be had than those that were refused."""
        try:
            return self._fetch(fetch)
        except errors.Unauthorized as error:
            if not fetch.way.settings.trust.rejected(self._taken):
                complain(fetch, error)
                raise
        stale = self._clients.pop(fetch.way.endpoint, None)
        if stale is not None:
            stale.close()  # its connections show the certificate that was refused
        return self._fetch(fetch)

    def _fetch(self, fetch: Fetch) -> Any:  # noqa: ANN401 - JSON
        import httpx  # a tenth of a second, and not needed by a command in a container that was named

        from kubeletclient.sync.plain import plain_client

        way, deadline = fetch.way, self._deadline
        trust = way.settings.trust
        url, headers = request_of(fetch, deadline.left())
        self._taken = time.monotonic()
        timeout = deadline.left(way.settings.deadlines.upgrade)
        client = self._clients.get(way.endpoint)
        if client is None:
            client = self._clients[way.endpoint] = plain_client(route_of(fetch), deadline)
        extensions = {"sni_hostname": trust.server_name} if trust.server_name else {}
        body = Body(fetch)
        try:
            with client.stream("GET", url, headers=headers, extensions=extensions, timeout=timeout) as answer:
                for piece in answer.iter_bytes():
                    body.add(piece)
                    if deadline.passed():
                        raise deadline.error(fetch.what)
                    if answer.status_code != 200 and len(body) > REFUSAL_LIMIT:
                        break
        except httpx.HTTPError as error:
            if deadline.passed():
                raise deadline.error(fetch.what) from None
            raise fetch_error(fetch, None, error) from error
        return body.parse(answer.status_code)

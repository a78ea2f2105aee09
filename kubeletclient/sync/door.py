"""What the blocking clients have in common: they do what a door asks for, and close what they opened."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from kubeletclient import errors
from kubeletclient._door import Ask, Door, Fetch, PodRef, Way
from kubeletclient._fetch import Body, client_options, fetch_error, request_of
from kubeletclient._policy import Deadline
from kubeletclient.endpoints import Target

__all__ = ["Client"]


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
        self._check_open()
        reach = self._door.reach(pod, container, ask)
        try:
            command = next(reach)
            while True:
                try:
                    answer: Any = (
                        fetch_json(command, deadline)
                        if isinstance(command, Fetch)
                        else opener(command.way, command.target)
                    )
                except errors.ClientError as error:
                    command = reach.throw(error)
                else:
                    command = reach.send(answer)
        except StopIteration as done:
            session: Session = done.value
        return self._keep(session)

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


def fetch_json(fetch: Fetch, deadline: Deadline) -> Any:  # noqa: ANN401 - JSON
    """Do what ``Fetch`` says."""
    import httpx  # a tenth of a second, and not needed by a command in a container that was named

    way = fetch.way
    trust = way.settings.trust
    url, headers = request_of(fetch, deadline.left())
    options = client_options(fetch, deadline.left())
    timeout = deadline.left(way.settings.deadlines.upgrade)
    extensions = {"sni_hostname": trust.server_name} if trust.server_name else {}
    body = Body(fetch)
    try:
        with (
            httpx.Client(timeout=timeout, **options) as client,
            client.stream("GET", url, headers=headers, extensions=extensions) as answer,
        ):
            if answer.status_code != 200:
                raise fetch_error(fetch, answer.status_code, None)
            for piece in answer.iter_bytes():
                body.add(piece)
                if deadline.passed():
                    raise deadline.error(fetch.what)
    except httpx.HTTPError as error:
        if deadline.passed():
            raise deadline.error(fetch.what) from None
        raise fetch_error(fetch, None, error) from error
    return body.parse()

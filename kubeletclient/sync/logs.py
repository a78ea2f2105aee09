"""Logs of containers."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from kubeletclient import errors
from kubeletclient._door import PodRef, Way
from kubeletclient._logs import Backoff, Lines, LogOptions, logs_ask, worth_waiting_for
from kubeletclient._policy import Deadline
from kubeletclient.endpoints import Target
from kubeletclient.sync.door import Client

if TYPE_CHECKING:
    from kubeletclient.sync.answers import Answer

__all__ = ["LogStream"]


class LogStream:
    """The log of a container, as lines; made by ``Pod.logs``.

    Iterate over it for the lines, each bytes with its end, or ``read`` all of it. It is opened when the first line is
    asked for, or by entering it with ``with``, which closes it at the end. ``reconnects`` counts how often a log that
    is followed was gone on with after the connection broke.
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
        self._lines: Generator[bytes, None, None] | None = None
        self._failure: errors.ClientError | None = None
        self._closed = threading.Event()

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

    def open(self) -> None:
        """Ask for the log, and return when it begins. Called by itself when it is needed."""
        if self._lines is None:
            self._open(Lines(self._options))

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._failure is not None:
            raise self._failure
        self.open()
        assert self._lines is not None
        try:
            return next(self._lines)
        except errors.ClientError as error:
            self._failure = error  # what failed once is no end the next time
            raise
        except BaseException as error:
            if not isinstance(error, StopIteration):
                self._failure = errors.ProcessClosed("this log was ended by an interrupt", hint="ask for it again")
            raise

    def read(self) -> bytes:
        """All that is still to come, to the end of the log."""
        return b"".join(self)

    def close(self) -> None:
        """Leave, from any thread. Lines that were not taken are gone; calling it again does nothing."""
        self._closed.set()
        if self._answer is not None:
            self._answer.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, lines: Lines) -> None:
        if self._closed.is_set():
            raise errors.ProcessClosed("this log was closed", hint="ask for it again")
        self._answer = self._connect(self._options.query())
        self._lines = self._follow(lines)

    def _connect(self, query: list[tuple[str, str]]) -> Answer:
        from kubeletclient._answers import Call  # httpx takes a tenth of a second
        from kubeletclient.sync.answers import open_answer

        what = f"the log of {self._pod.namespace}/{self._pod.selected or self._pod.name}"

        def opener(way: Way, target: Target) -> Answer:
            return open_answer(Call(way, target, what), self._deadline)

        found: list[PodRef] = []
        answer = self._client._reach(self._pod, self._container, logs_ask(query, found), opener, self._deadline)
        self._pod, self._container = found[0], found[0].default_container
        return answer

    def _follow(self, lines: Lines) -> Generator[bytes, None, None]:
        try:
            while True:
                assert self._answer is not None
                try:
                    for piece in self._answer.pieces():
                        yield from lines.feed(piece)
                    break
                except errors.ClientError as error:
                    if self._closed.is_set():
                        raise errors.ProcessClosed("this log was closed", hint="ask for it again") from error
                    if not (lines.can_resume and worth_waiting_for(error)):
                        raise
                    lines.broken()
                    self._reconnect(lines, error)
            yield from lines.end()
        finally:
            self.close()

    def _reconnect(self, lines: Lines, lost: errors.ClientError) -> None:
        """Raises the loss itself when nothing comes of it in time."""
        assert self._answer is not None
        self._answer.close()
        backoff = Backoff(self._patience)
        while (pause := backoff.wait()) is not None:
            if self._closed.wait(self._deadline.left(pause)):
                raise errors.ProcessClosed("this log was closed", hint="ask for it again")
            if self._deadline.passed():
                raise self._deadline.error("the log to be reached again") from lost
            try:
                self._answer = self._connect(lines.resume_query)
            except errors.ClientError as error:
                if not worth_waiting_for(error):
                    raise
                lost = error
            else:
                self.reconnects += 1
                return
        raise lost

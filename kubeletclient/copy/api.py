"""The verbs ``copy_in``, ``copy_out`` and ``copy_between``, for both flavours.

A copy is one coroutine over several commands, and reads and writes files between them. It runs on an event loop of
its own: on the caller's thread in the blocking flavour, in a thread in the asyncio flavour, so that a slow disk holds
up nobody else's loop. Cancelling the caller cancels the copy, and waits until it has left.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import IO, Any, TypeAlias, TypeGuard

from kubeletclient._door import Door, PodRef
from kubeletclient.aio.door import Client
from kubeletclient.aio.pods import Pod
from kubeletclient.copy.between import Between
from kubeletclient.copy.download import Download
from kubeletclient.copy.errors import CopyError
from kubeletclient.copy.helper import Helper
from kubeletclient.copy.options import CopyChoices, CopyOptions
from kubeletclient.copy.remote import Remote
from kubeletclient.copy.report import CopyReport, ProgressFunction, Tracker
from kubeletclient.copy.streams import from_stream, to_stream
from kubeletclient.copy.upload import Upload

__all__ = ["Place", "copy_between", "copy_in", "copy_out", "in_own_thread", "on_own_loop"]

Path: TypeAlias = str | bytes | os.PathLike[str]
Place: TypeAlias = tuple[Door, PodRef, str | None]
"""A container: the way to its pod, the pod, its name or None for the default one."""

Job: TypeAlias = Callable[[ProgressFunction | None], Coroutine[Any, Any, CopyReport]]


def copy_in(place: Place, sources: Path | Sequence[Path] | IO[bytes], target: Path, choices: CopyChoices) -> Job:
    """The job that ``Pod.copy_in`` does. Raises ValueError for a choice that is none."""
    options = CopyOptions(**choices)

    async def job(progress: ProgressFunction | None) -> CopyReport:
        remote, tracker = _remote(place, options), Tracker(progress)
        async with _helped(remote, options):
            if _is_stream(sources):
                return await from_stream(remote, sources, os.fsencode(target), options, tracker)
            upload = Upload(remote, _paths(sources), os.fsencode(target), options, tracker)
            return await _reported(upload)

    return job


def copy_out(place: Place, sources: Path | Sequence[Path], target: Path | IO[bytes], choices: CopyChoices) -> Job:
    """The job that ``Pod.copy_out`` does. Raises ValueError for a choice that is none."""
    options = CopyOptions(**choices)

    async def job(progress: ProgressFunction | None) -> CopyReport:
        remote, tracker, paths = _remote(place, options), Tracker(progress), _paths(sources)
        async with _helped(remote, options):
            if isinstance(target, str | bytes | os.PathLike):
                return await _reported(Download(remote, paths, os.fsencode(target), options, tracker))
            if len(paths) != 1:
                raise ValueError("only one file can go to a stream")
            return await to_stream(remote, paths[0], target, options, tracker)

    return job


def copy_between(source: Place, path: Path, target: Place, to: Path, choices: CopyChoices) -> Job:
    """The job that ``Pod.copy_to`` does. Raises ValueError for a choice that is none."""
    options = CopyOptions(**choices)

    async def job(progress: ProgressFunction | None) -> CopyReport:
        sides = _remote(source, options), _remote(target, options)
        async with _helped(sides[0], options), _helped(sides[1], options):
            return await _reported(
                Between(sides[0], os.fsencode(path), sides[1], os.fsencode(to), options, Tracker(progress))
            )

    return job


def on_own_loop(job: Job, progress: ProgressFunction | None) -> CopyReport:
    """Run it on this thread, or, where a loop runs already, in a thread that is waited for."""
    try:
        asyncio.get_running_loop()
        busy = True
    except RuntimeError:
        busy = False
    if not busy:
        return asyncio.run(job(progress))
    outcome: list[CopyReport | BaseException] = []

    def run() -> None:
        try:
            outcome.append(asyncio.run(job(progress)))
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run, name="kubewire-copy")
    thread.start()
    thread.join()
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


async def in_own_thread(job: Job, progress: ProgressFunction | None) -> CopyReport:
    """Run it on a loop in a thread of its own; ``progress`` is called on the caller's loop. Cancelled, it cancels the
    copy and waits until that has left, however often it is cancelled meanwhile.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[CopyReport] = loop.create_future()
    told = None if progress is None else (lambda event: loop.call_soon_threadsafe(progress, event))
    thread = _CopyThread(job, told, loop, done)
    thread.start()
    cancelled: asyncio.CancelledError | None = None
    while not done.done():
        try:
            await asyncio.wait([done])
        except asyncio.CancelledError as error:
            cancelled = error
            thread.cancel()
    thread.join()  # it has said its last word, and only has to return
    if cancelled is not None:
        done.cancelled() or done.exception()  # looked at, so that nobody complains
        raise cancelled
    return done.result()


class _CopyThread(threading.Thread):
    """One copy on a loop of its own; ``done`` belongs to the caller's."""

    def __init__(
        self,
        job: Job,
        told: ProgressFunction | None,
        outer: asyncio.AbstractEventLoop,
        done: asyncio.Future[CopyReport],
    ) -> None:
        super().__init__(name="kubewire-copy", daemon=True)
        self._job, self._told, self._outer, self._done = job, told, outer, done
        self._lock = threading.Lock()
        self._task: asyncio.Task[CopyReport] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._cancelled = False

    def cancel(self) -> None:
        """From any thread, at any time."""
        with self._lock:
            self._cancelled = True
            if self._loop is not None and self._task is not None:
                self._loop.call_soon_threadsafe(self._task.cancel)

    async def _main(self) -> CopyReport:
        with self._lock:
            if self._cancelled:
                raise asyncio.CancelledError
            self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        try:
            return await self._job(self._told)
        finally:
            with self._lock:
                self._task = None

    def run(self) -> None:
        """As ``Thread.run``."""
        result, error = None, None
        try:
            result = asyncio.run(self._main())
        except BaseException as raised:
            error = raised
        try:
            self._outer.call_soon_threadsafe(self._settle, result, error)
        except RuntimeError:  # the caller's loop is closed: nobody waits any more
            pass

    def _settle(self, result: CopyReport | None, error: BaseException | None) -> None:
        if self._done.done():
            return
        if error is None:
            assert result is not None
            self._done.set_result(result)
        elif isinstance(error, asyncio.CancelledError):
            self._done.cancel()
        else:
            self._done.set_exception(error)


def _helped(remote: Remote, options: CopyOptions) -> AbstractAsyncContextManager[None]:
    return nullcontext() if options.helper is None else Helper(remote, os.fsencode(options.helper))


def _remote(place: Place, options: CopyOptions) -> Remote:
    door, ref, container = place
    return Remote(Pod(Client(door), ref), container, options.timeout)


def _is_stream(source: object) -> TypeGuard[IO[bytes]]:
    return hasattr(source, "read")


def _paths(sources: Any) -> list[bytes]:  # noqa: ANN401 - checked here
    if isinstance(sources, str | bytes | os.PathLike):
        sources = [sources]
    paths = [os.fsencode(each) for each in sources]
    if not paths or not all(paths):
        raise ValueError("name at least one source, and no empty one")
    return paths


async def _reported(copy: Upload | Download | Between) -> CopyReport:
    try:
        return await copy.run()
    except CopyError as error:
        error.report = copy.report
        raise

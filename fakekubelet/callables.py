"""Containers whose behaviour is a Python function.

An ordinary function runs in a thread of its own and sees file-like streams; a coroutine function runs on the server's
loop and awaits them::

    def shout(exec):                                  async def shout(exec):
        exec.stdout.write(exec.stdin.read().upper())      async for chunk in exec.stdin:
        return 0                                              await exec.stdout.write(chunk.upper())

What the function returns is the exit code; None is 0, and an ``ExitStatus`` is sent as it is. ``SystemExit`` counts
as its code. Any other exception is a failure of the runtime, whose text the client sees.

The client may leave early: reading then gives the end of stdin, writing raises ``BrokenPipeError``; the function goes
on, as a process in a container would. When the server closes, coroutines are cancelled and reads and writes of
threads end in the same two ways; a thread that does neither can watch ``exec.closing``.
"""

from __future__ import annotations

import asyncio
import inspect
import io
import threading
import warnings
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

from fakekubelet.runtimes import STDIN_HIGH_WATER, Command, ExecRequest, Runtime, exited, internal_failure
from spdyproto.channels.events import StreamKind
from spdyproto.channels.status import ExitStatus
from spdyproto.types import Buffer

_PIECE = 256 * 1024  # of one write to the session; larger data goes piece by piece as the client takes it
_JOIN_SECONDS = 5.0  # how long a thread may take to notice that the server closes

Result: TypeAlias = "int | ExitStatus | None"
AsyncBehaviour: TypeAlias = "Callable[[AsyncExec], Awaitable[Result]]"
BlockingBehaviour: TypeAlias = "Callable[[BlockingExec], Result]"
Behaviour: TypeAlias = "AsyncBehaviour | BlockingBehaviour"


class AsyncReader:
    """Stdin of a coroutine."""

    def __init__(self, command: AsyncCommand) -> None:
        self._command = command
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._arrived = asyncio.Event()

    async def read(self, size: int = -1) -> bytes:
        """All of stdin up to its end; or, with ``size``, from 1 to ``size`` bytes, b"" at the end."""
        if size >= 0:
            return await self._some(size)
        parts = []
        while part := await self._some(_PIECE):
            parts.append(part)
        return b"".join(parts)

    async def _some(self, size: int) -> bytes:
        while not self._chunks:
            if self._ended or size == 0:
                return b""
            self._arrived.clear()
            await self._arrived.wait()
        chunk = self._chunks.popleft()
        if len(chunk) > size:
            self._chunks.appendleft(chunk[size:])
            chunk = chunk[:size]
        self._size -= len(chunk)
        if self._size < STDIN_HIGH_WATER // 2:
            self._command.outlet.resume_stdin()
        return chunk

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while chunk := await self._some(_PIECE):
            yield chunk

    def feed(self, data: memoryview) -> None:
        """Called by the command."""
        self._chunks.append(bytes(data))
        self._size += len(data)
        if self._size >= STDIN_HIGH_WATER:
            self._command.outlet.pause_stdin()
        self._arrived.set()

    def end(self) -> None:
        """Called by the command."""
        self._ended = True
        self._arrived.set()


class AsyncWriter:
    """Stdout or stderr of a coroutine."""

    def __init__(self, command: AsyncCommand, kind: StreamKind) -> None:
        self._command = command
        self._kind = kind

    async def write(self, data: Buffer) -> None:
        """Queue ``data`` (it must not change afterwards) and wait while too much is queued.

        Raises BrokenPipeError once the client has left.
        """
        view = memoryview(data).cast("B")
        for start in range(0, len(view), _PIECE):
            if self._command.left:
                raise BrokenPipeError("the client has left")
            if not self._command.outlet.write(self._kind, view[start : start + _PIECE]):
                await self._command.room()

    def close(self) -> None:
        """End this output before the command ends."""
        self._command.outlet.end(self._kind)


class _Exec:
    """What both kinds of functions see of their session."""

    def __init__(self, request: ExecRequest) -> None:
        self.request = request
        self.size: tuple[int, int] | None = None
        """Columns and rows of the client's terminal, once it told them."""

    @property
    def argv(self) -> tuple[str, ...]:
        """The command and its arguments."""
        return self.request.argv

    @property
    def tty(self) -> bool:
        """Whether the client asked for a terminal; stderr then goes to stdout."""
        return self.request.streams.tty


class AsyncExec(_Exec):
    """The session of a coroutine function."""

    stdin: AsyncReader
    stdout: AsyncWriter
    stderr: AsyncWriter

    def __init__(self, command: AsyncCommand) -> None:
        super().__init__(command.request)
        self.stdin = AsyncReader(command)
        self.stdout = AsyncWriter(command, StreamKind.STDOUT)
        self.stderr = AsyncWriter(command, StreamKind.STDERR)
        self._resized = asyncio.Event()

    async def resized(self) -> tuple[int, int]:
        """Wait for the next size of the terminal."""
        self._resized.clear()
        await self._resized.wait()
        assert self.size is not None
        return self.size

    def resize(self, width: int, height: int) -> None:
        """Called by the command."""
        self.size = (width, height)
        self._resized.set()


class AsyncCommand(Command):
    """A coroutine function on the server's loop."""

    def __init__(self, request: ExecRequest, function: AsyncBehaviour) -> None:
        super().__init__(request)
        self._function = function
        self._task: asyncio.Task[None] | None = None
        self._room = asyncio.Event()
        self.left = False

    def start(self) -> None:  # noqa: D102 - as Command.start
        self.exec = AsyncExec(self)
        self._task = self.outlet.loop.create_task(self._run(), name=f"exec {self.request}")

    async def _run(self) -> None:
        try:
            status = _status(self.request, await self._function(self.exec))
        except SystemExit as end:
            status = _status(self.request, end.code)
        except Exception as error:
            status = _failure(error)
        self.outlet.exit(status)

    async def room(self) -> None:
        """Wait until output may be written again."""
        self._room.clear()
        await self._room.wait()

    def stdin(self, data: memoryview) -> None:  # noqa: D102 - as Command.stdin
        self.exec.stdin.feed(data)

    def stdin_ended(self) -> None:  # noqa: D102 - as Command.stdin_ended
        self.exec.stdin.end()

    def resized(self, width: int, height: int) -> None:  # noqa: D102 - as Command.resized
        self.exec.resize(width, height)

    def writable(self) -> None:  # noqa: D102 - as Command.writable
        self._room.set()

    def gone(self) -> None:  # noqa: D102 - as Command.gone
        self.left = True
        self.exec.stdin.end()
        self._room.set()

    async def close(self) -> None:  # noqa: D102 - as Command.close
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])


class BlockingReader(io.RawIOBase):
    """Stdin of a thread; ``BlockingExec.stdin`` puts a buffer before it."""

    def __init__(self, command: ThreadCommand) -> None:
        self._command = command

    def readable(self) -> bool:  # noqa: D102 - as io.RawIOBase
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401, D102 - any writable buffer; as io.RawIOBase
        return self._command.take(memoryview(buffer).cast("B"))


class BlockingWriter(io.RawIOBase):
    """Stdout or stderr of a thread: unbuffered, each ``write`` takes everything."""

    def __init__(self, command: ThreadCommand, kind: StreamKind) -> None:
        self._command = command
        self._kind = kind

    def writable(self) -> bool:  # noqa: D102 - as io.RawIOBase
        return True

    def write(self, data: Any) -> int:  # noqa: ANN401 - any readable buffer
        """Copy ``data`` to the session, waiting while too much is queued. Raises BrokenPipeError when the client
        left."""
        view = memoryview(data).cast("B")
        for start in range(0, len(view), _PIECE):
            self._command.put(self._kind, bytes(view[start : start + _PIECE]))
        return len(view)

    def close(self) -> None:
        """End this output before the command ends."""
        if not self.closed:
            self._command.put(self._kind, None)
        super().close()

    def __del__(self) -> None:
        """Do not close: the command's end does, and a finalizer must never wait."""


class BlockingExec(_Exec):
    """The session of an ordinary function, which runs in a thread of its own."""

    def __init__(self, command: ThreadCommand) -> None:
        super().__init__(command.request)
        self.stdin = io.BufferedReader(BlockingReader(command), _PIECE)
        self.stdout = BlockingWriter(command, StreamKind.STDOUT)
        self.stderr = BlockingWriter(command, StreamKind.STDERR)
        self.closing = threading.Event()
        """Set when the server closes: return soon. Wait on it instead of sleeping."""


class ThreadCommand(Command):
    """An ordinary function in a thread. What it writes waits here, bounded, until the loop takes it."""

    def __init__(self, request: ExecRequest, function: BlockingBehaviour) -> None:
        super().__init__(request)
        self._function = function
        self._condition = threading.Condition()
        self._input: deque[memoryview] = deque()
        self._input_size = 0
        self._input_ended = False
        self._output: deque[tuple[StreamKind, bytes | None]] = deque()
        self._output_size = 0
        self._left = False
        self._draining = False  # a call of _drain is under way to the loop
        self._full = False  # the session takes nothing for now
        self._status: ExitStatus | None = None
        self._thread = threading.Thread(target=self._run, name=f"exec {request}", daemon=True)

    def start(self) -> None:  # noqa: D102 - as Command.start
        self._loop = self.outlet.loop
        self.exec = BlockingExec(self)
        self._thread.start()

    # -- in the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            status = _status(self.request, self._function(self.exec))
        except SystemExit as end:
            status = _status(self.request, end.code)
        except Exception as error:
            status = _failure(error)
        with self._condition:
            self._status = status
            self._wake_loop()

    def take(self, buffer: memoryview) -> int:
        """Wait for stdin and copy some of it; 0 at its end."""
        with self._condition:
            self._condition.wait_for(lambda: self._input or self._input_ended)
            if not self._input:
                return 0
            chunk = self._input.popleft()
            size = min(len(chunk), len(buffer))
            buffer[:size] = chunk[:size]
            if size < len(chunk):
                self._input.appendleft(chunk[size:])
            before = self._input_size
            self._input_size -= size
            if before >= STDIN_HIGH_WATER // 2 > self._input_size:
                self._call(self.outlet.resume_stdin)
            return size

    def put(self, kind: StreamKind, data: bytes | None) -> None:
        """Hand output (None: its end) to the loop; waits while more than a piece is there already."""
        with self._condition:
            self._condition.wait_for(lambda: self._left or self._output_size < _PIECE)
            if self._left:
                if data is None:
                    return
                raise BrokenPipeError("the client has left")
            self._output.append((kind, data))
            self._output_size += len(data or b"")
            self._wake_loop()

    def _wake_loop(self) -> None:
        if not self._draining and not self._full:
            self._draining = True
            self._call(self._drain)

    def _call(self, function: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:
            pass  # the loop is closed: nobody is left to tell

    # -- on the loop -------------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        with self._condition:
            self._draining = False
            while self._output:
                kind, data = self._output.popleft()
                if data is None:
                    self.outlet.end(kind)
                    continue
                self._output_size -= len(data)
                if not self.outlet.write(kind, data):
                    self._full = True
                    break
            self._condition.notify_all()
            status = self._status if not self._output else None
        if status is not None and not self._full:
            self._status = None
            self._thread.join()  # it has nothing left to do
            self.outlet.exit(status)

    def writable(self) -> None:  # noqa: D102 - as Command.writable
        self._full = False
        self._drain()

    def stdin(self, data: memoryview) -> None:  # noqa: D102 - as Command.stdin
        with self._condition:
            self._input.append(memoryview(bytes(data)))
            self._input_size += len(data)
            if self._input_size >= STDIN_HIGH_WATER:
                self.outlet.pause_stdin()
            self._condition.notify_all()

    def stdin_ended(self) -> None:  # noqa: D102 - as Command.stdin_ended
        with self._condition:
            self._input_ended = True
            self._condition.notify_all()

    def resized(self, width: int, height: int) -> None:  # noqa: D102 - as Command.resized
        self.exec.size = (width, height)

    def gone(self) -> None:  # noqa: D102 - as Command.gone
        with self._condition:
            self._left = True
            self._input_ended = True
            self._output.clear()
            self._full = False
            self._condition.notify_all()
        self._drain()

    async def close(self) -> None:  # noqa: D102 - as Command.close
        self.exec.closing.set()
        self.gone()
        waited = 0.0
        while self._thread.is_alive() and waited < _JOIN_SECONDS:
            await asyncio.sleep(0.005)
            waited += 0.005
        if self._thread.is_alive():
            warnings.warn(
                f"the function of {self.request} still runs {_JOIN_SECONDS:g} s after the server closed; "
                "let it watch exec.closing",
                ResourceWarning,
                stacklevel=1,
            )


def run_callable(function: Behaviour) -> Runtime:
    """A runtime that answers every exec with ``function``."""
    coroutine = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)

    def launch(request: ExecRequest) -> Command:
        if coroutine:
            return AsyncCommand(request, function)  # type: ignore[arg-type]  # looked at above
        return ThreadCommand(request, function)  # type: ignore[arg-type]  # looked at above

    return launch


def _status(request: ExecRequest, result: object) -> ExitStatus:
    if isinstance(result, ExitStatus):
        return result
    if result is None:
        return ExitStatus.success()
    if isinstance(result, int) and not isinstance(result, bool) and 0 <= result <= 255:
        return exited(request.argv, result)
    return internal_failure(f"expected an exit code of 0 to 255, got {result!r}")


def _failure(error: Exception) -> ExitStatus:
    return internal_failure(f"{type(error).__name__}: {error}")

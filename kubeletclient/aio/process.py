"""A command that runs in a container, awaited."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Coroutine, Generator, Sequence
from types import TracebackType
from typing import Any, NamedTuple

from kubeletclient import errors
from kubeletclient._flows import Established, ExecRequest, exec_flow
from kubeletclient._ladder import Attempt
from kubeletclient._plan import Plan
from kubeletclient._policy import Deadline, Sink, Source
from kubeletclient.aio.background import AsyncInput, AsyncOutput, input_of, output_of
from kubeletclient.aio.driver import establish
from kubeletclient.aio.exchange import Exchange
from kubeletclient.aio.pipes import InputPipe, PipeSink
from kubeletclient.aio.streams import InputWriter, OutputReader
from kubeletclient.results import Context
from spdyproto.channels.events import Exited, StreamKind
from spdyproto.types import Buffer

__all__ = ["Opening", "Process", "Targets", "open_process"]


class Process:
    """A running command; shaped like ``subprocess.Popen``. Made by ``Pod.popen`` and ``connect_exec``.

    ``stdin``, ``stdout`` and ``stderr`` are there for the streams that were asked for as PIPE, else None. It belongs
    to the loop that it was made on. What may wait is awaited; the rest (``poll``, ``resize``, ``kill``, attributes)
    are plain.

    Bytes move whenever the loop runs, whatever the caller waits for. As with ``subprocess``, output in a pipe that
    nobody reads stops the command: here at 1 MiB, and the whole connection, because its streams share it. So read both
    pipes, or use ``communicate``. ``wait`` then still ends at its timeout.

    A cancelled call leaves the process as it was: what was received is there for the next read, and what was written
    may have been sent in part. Leaving the ``async with`` block closes the connection and does not wait for the
    command. A kubelet does not kill a command whose client leaves.
    """

    def __init__(
        self,
        exchange: Exchange,
        pipe: InputPipe | None,
        established: Established,
        *,
        args: Sequence[str],
        capture_limit: int,
    ) -> None:
        self.args = args
        self._established = established
        self._exchange = exchange
        self._loop = asyncio.get_running_loop()
        self._capture_limit = capture_limit
        self._communicating = False
        self.stdin = InputWriter(exchange, pipe) if pipe is not None else None
        self.stdout = self._reader(StreamKind.STDOUT)
        self.stderr = self._reader(StreamKind.STDERR)

    def _reader(self, kind: StreamKind) -> OutputReader | None:
        sink = self._exchange.sinks.get(kind)
        return OutputReader(self._exchange, sink, kind.value) if isinstance(sink, PipeSink) else None

    def __repr__(self) -> str:
        over = "over" if self._exchange.over else "running"
        state = over if self.returncode is None else f"exit code {self.returncode}"
        return f"<Process {self.args!r} at {self._exchange.context.url}: {state}>"

    @property
    def returncode(self) -> int | None:
        """The exit code, once it is known."""
        outcome = self._exchange.session.outcome
        return outcome.status.code if isinstance(outcome, Exited) else None

    @property
    def received(self) -> dict[str, int]:
        """Payload bytes received so far, by stream name."""
        return {str(kind): count for kind, count in self._exchange.session.received.items()}

    @property
    def sent(self) -> dict[str, int]:
        """Payload bytes sent so far, by stream name."""
        return {str(kind): count for kind, count in self._exchange.session.sent.items()}

    @property
    def route(self) -> str:
        """How the server was reached: ``"kubelet"``, ``"apiserver"`` or ``"url"``."""
        return self._exchange.context.route

    @property
    def route_reason(self) -> str:
        """Why it was reached so, where there was a choice."""
        return self._exchange.context.reason

    @property
    def transport(self) -> str:
        """What carries the session: ``"spdy"`` or ``"ws"``."""
        return self._established.transport

    @property
    def protocol(self) -> str:
        """The subprotocol that was negotiated."""
        return self._established.protocol

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Which transports were tried, and why each was left; the last is the one in use."""
        return self._established.attempts

    def poll(self) -> int | None:
        """The exit code if it is known by now, else None.

        Raises what ``wait`` raises when the session has failed.
        """
        return self._result() if self._exchange.over else None

    async def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and answer the exit code. Output goes to its sinks meanwhile; full pipes are not drained.

        Raises DeadlineExceeded after ``timeout`` seconds, which leaves everything running, as cancelling does;
        ConnectionLost when the end is not known; RemoteError when the server reports a failure without an exit code;
        ProcessClosed after ``close``.
        """
        await self._exchange.until_over(Deadline.after(timeout))
        return self._result()

    def _result(self) -> int:
        self._exchange.raise_failure()
        code = self.returncode
        assert code is not None
        return code

    async def communicate(
        self, input: Buffer | None = None, timeout: float | None = None
    ) -> tuple[bytes | None, bytes | None]:
        """Send ``input``, end stdin, and gather both pipes until the command ends; then ``returncode`` is set.

        Answers stdout and stderr, None for what is no pipe. Raises as ``wait`` does; after DeadlineExceeded (and after
        cancelling) it may be called again, without ``input``, and nothing is lost. OutputLimitExceeded ends the
        session.
        """
        exchange = self._exchange
        if not self._communicating:
            if self.stdin is not None and not exchange.session.streams.tty:
                self.stdin.require_end()
            self._communicating = True
            if self.stdin is not None and not self.stdin.closed:
                self.stdin.finish(memoryview(b"" if input is None else input).cast("B"))
        elif input is not None:
            raise ValueError("communicate() was called before: its input is on the way, and cannot be given again")
        for reader in (self.stdout, self.stderr):
            if reader is not None:
                reader.sink.limit = self._capture_limit
        exchange.on_room()
        try:
            await self.wait(timeout)
        except errors.ClientError as error:
            error.stdout, error.stderr = self._gathered(self.stdout), self._gathered(self.stderr)
            raise
        gathered = self._gathered(self.stdout), self._gathered(self.stderr)
        for reader in (self.stdout, self.stderr):
            if reader is not None:
                reader.close()
        return gathered

    def _gathered(self, reader: OutputReader | None) -> bytes | None:
        return None if reader is None else b"".join(reader.sink.chunks)

    def resize(self, width: int, height: int) -> None:
        """Tell the terminal's size in characters. Raises LocalProtocolError without ``tty=True``."""
        exchange = self._exchange
        if not exchange.over:
            exchange.session.resize(width, height)
            exchange.flush()

    async def close(self) -> None:
        """Leave: close the connection at once. What was not read is gone; calling it again does nothing.

        Waits for nothing but the caller's own iterators and coroutines that served this process: they are cancelled.
        The command may go on running: a kubelet does not kill it.
        """
        await self._exchange.aclose()

    def kill(self) -> None:
        """Leave without waiting for anything; there is no way to send a signal through exec. Run ``kill`` in the
        container for that.
        """
        self._exchange.close()

    async def __aenter__(self) -> Process:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        exchange = getattr(self, "_exchange", None)
        if exchange is None or exchange.over:
            return
        warnings.warn(f"{self!r} was never closed", ResourceWarning, source=self, stacklevel=2)
        try:
            self._loop.call_soon_threadsafe(exchange.close)
        except RuntimeError:  # the loop is closed
            exchange.close()


class Opening:
    """A process that is being started: ``await`` it, or enter it with ``async with``, which closes the process at the
    end.

    ::

        process = await pod.popen(["cat"], stdin=PIPE)
        async with pod.popen(["cat"], stdin=PIPE) as process: ...
    """

    __slots__ = ("_opening", "_process")

    def __init__(self, opening: Coroutine[Any, Any, Process]) -> None:
        self._opening = opening
        self._process: Process | None = None

    def __await__(self) -> Generator[Any, Any, Process]:
        return self._opening.__await__()

    async def __aenter__(self) -> Process:
        self._process = await self._opening
        return self._process

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process is not None:
            await self._process.close()


class Targets(NamedTuple):
    """What the caller gave for the three streams; the plan was made from it."""

    stdin: AsyncInput
    stdout: AsyncOutput | None
    stderr: AsyncOutput | None


async def open_process(
    request: ExecRequest, plan: Plan, targets: Targets, args: Sequence[str], deadline: Deadline, capture_limit: int
) -> Process:
    """Dial, upgrade, open the streams, and wait until the server has accepted them. Leaves nothing behind when it fails
    or is cancelled.
    """
    connection, established = await establish(exec_flow(request), deadline)
    try:
        loop = asyncio.get_running_loop()
        sinks: dict[StreamKind, Sink] = {}
        if plan.streams.stdout:
            sinks[StreamKind.STDOUT] = output_of(loop, targets.stdout, plan.stdout) or PipeSink(loop)
        if plan.streams.stderr:
            sinks[StreamKind.STDERR] = output_of(loop, targets.stderr, plan.stderr) or PipeSink(loop)
        source: Source | None = None
        if plan.streams.stdin:
            source = input_of(loop, targets.stdin, plan.source) or InputPipe()
        context = Context(request.target.route, request.target.shown, plan.streams, request.target.reason)
        exchange = Exchange(connection, established, sinks, source, context, deadline)
    except BaseException:
        connection.close()
        raise
    try:
        exchange.start()
        await exchange.until_ready()
        pipe = source if isinstance(source, InputPipe) else None
        return Process(exchange, pipe, established, args=args, capture_limit=capture_limit)
    except BaseException:
        await exchange.aclose()
        raise

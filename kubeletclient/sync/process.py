"""A command that runs in a container."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from types import TracebackType

from kubeletclient import errors
from kubeletclient._flows import Established, ExecRequest, exec_flow
from kubeletclient._ladder import Attempt
from kubeletclient._plan import Plan
from kubeletclient._policy import CAPTURE_LIMIT, BytesSource, Deadline, Sink
from kubeletclient.results import Context
from kubeletclient.sync.driver import establish
from kubeletclient.sync.pipes import PipeSink
from kubeletclient.sync.pump import Pump
from kubeletclient.sync.streams import InputWriter, OutputReader, ending
from spdyproto.channels.events import Exited, StreamKind
from spdyproto.types import Buffer

__all__ = ["Process"]


class Process:
    """A running command; shaped like ``subprocess.Popen``. Made by ``Pod.popen`` and ``connect_exec``.

    ``stdin``, ``stdout`` and ``stderr`` are files for the streams that were asked for as PIPE, else None. Two
    threads may use one process, e.g. one that writes stdin and one that reads stdout; one thread alone never blocks
    itself by writing.

    There is no thread behind it: bytes move while one of its methods, or of its files, waits. As with
    ``subprocess``, output in a pipe that nobody reads stops the command: here at 1 MiB, and the whole connection,
    because its streams share it. So read both pipes, or use ``communicate``. ``wait`` then still ends at its
    timeout.

    Leaving the ``with`` block closes the connection and does not wait. A kubelet does not kill a command whose
    client leaves.
    """

    def __init__(self, pump: Pump, established: Established, *, args: Sequence[str], capture_limit: int) -> None:
        self.args = args
        self._established = established
        self._pump = pump
        self._capture_limit = capture_limit
        self._communicating = False
        self.stdin = InputWriter(pump) if pump.context.streams.stdin and pump.source is None else None
        self.stdout = self._reader(StreamKind.STDOUT)
        self.stderr = self._reader(StreamKind.STDERR)

    def _reader(self, kind: StreamKind) -> OutputReader | None:
        sink = self._pump.outputs.sinks.get(kind)
        return OutputReader(self._pump, sink, kind.value) if isinstance(sink, PipeSink) else None

    def __repr__(self) -> str:
        state = (
            f"exit code {self.returncode}" if self.returncode is not None else "over" if self._pump.over else "running"
        )
        return f"<Process {self.args!r} at {self._pump.context.url}: {state}>"

    @property
    def returncode(self) -> int | None:
        """The exit code, once it is known: after ``wait`` or ``poll``, or when reading has come across it."""
        outcome = self._pump.session.outcome
        return outcome.status.code if isinstance(outcome, Exited) else None

    @property
    def received(self) -> dict[str, int]:
        """Payload bytes received so far, by stream name."""
        return {str(kind): count for kind, count in self._pump.session.received.items()}

    @property
    def sent(self) -> dict[str, int]:
        """Payload bytes sent so far, by stream name."""
        return {str(kind): count for kind, count in self._pump.session.sent.items()}

    @property
    def route(self) -> str:
        """How the server was reached: ``"kubelet"``, ``"apiserver"`` or ``"url"``."""
        return self._pump.context.route

    @property
    def route_reason(self) -> str:
        """Why it was reached so, where there was a choice."""
        return self._pump.context.reason

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
        """The exit code if it is known by now, else None; takes in what has come, and never waits.

        Raises what ``wait`` raises when the session has failed.
        """
        self._pump.glance()
        return self._result() if self._pump.over else None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and answer the exit code. Output goes to its sinks meanwhile; full pipes are not drained.

        Raises DeadlineExceeded after ``timeout`` seconds, which leaves everything running; ConnectionLost when the
        end is not known; RemoteError when the server reports a failure without an exit code; ProcessClosed after
        ``close``.
        """
        pump = self._pump
        pump.wait_for(lambda: pump.over, Deadline.after(timeout), "the command to end")
        return self._result()

    def _result(self) -> int:
        code = self.returncode
        if code is None:
            raise ending(self._pump)
        return code

    def communicate(
        self, input: Buffer | None = None, timeout: float | None = None
    ) -> tuple[bytes | None, bytes | None]:
        """Send ``input``, end stdin, and gather both pipes until the command ends; then ``returncode`` is set.

        Answers stdout and stderr, None for what is no pipe. Raises as ``wait`` does; after DeadlineExceeded it may
        be called again, without ``input``, and nothing is lost. OutputLimitExceeded ends the session.
        """
        pump = self._pump
        with pump.lock:
            if not self._communicating:
                if self.stdin is not None and not pump.session.streams.tty:
                    self.stdin.require_end()
                self._communicating = True
                if self.stdin is not None and not self.stdin.closed:
                    pump.source = BytesSource(b"" if input is None else input)
            elif input is not None:
                raise ValueError("communicate() was called before: its input is on the way, and cannot be given again")
            for reader in (self.stdout, self.stderr):
                if reader is not None:
                    reader.sink.limit = self._capture_limit
            pump.poke()
        try:
            self.wait(timeout)
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
        """Tell the terminal's size in characters. Raises LocalProtocolError without ``tty=True``.

        Not for signal handlers: set a flag there and call it from the program's flow.
        """
        pump = self._pump
        with pump.lock:
            if not pump.over:
                pump.session.resize(width, height)
                pump.push(Deadline(None), "the terminal's size to be sent")

    def close(self) -> None:
        """Leave: close the connection at once, from any thread. What was not read is gone; calling it again does
        nothing.

        The command may go on running: a kubelet does not kill it.
        """
        self._pump.close()

    def kill(self) -> None:
        """The same as ``close``: there is no way to send a signal through exec. Run ``kill`` in the container for
        that.
        """
        self.close()

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        pump = getattr(self, "_pump", None)
        if pump is not None and not pump.over:
            warnings.warn(f"{self!r} was never closed", ResourceWarning, source=self, stacklevel=2)
            pump.close()


def open_process(
    request: ExecRequest, plan: Plan, args: Sequence[str], deadline: Deadline, capture_limit: int = CAPTURE_LIMIT
) -> Process:
    """Dial, upgrade, open the streams, and wait until the server has accepted them. Leaves nothing behind when it
    fails.
    """
    transport, established = establish(exec_flow(request), deadline)
    try:
        sinks: dict[StreamKind, Sink] = {}
        if plan.streams.stdout:
            sinks[StreamKind.STDOUT] = plan.stdout or PipeSink()
        if plan.streams.stderr:
            sinks[StreamKind.STDERR] = plan.stderr or PipeSink()
        context = Context(request.target.route, request.target.shown, plan.streams, request.target.reason)
        pump = Pump(transport, established, sinks, plan.source, context, deadline)
    except BaseException:
        transport.close()
        raise
    try:
        session = established.session
        pump.wait_for(lambda: pump.over or session.ready, Deadline(None), "the server to accept the streams")
        if not session.ready:
            raise ending(pump)
        pump.release()
        return Process(pump, established, args=args, capture_limit=capture_limit)
    except BaseException:
        pump.close()
        raise

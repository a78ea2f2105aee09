"""A pod: the verbs of ``kubeletclient.sync.pods``, awaited. What a verb does is in its own module."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import IO, TYPE_CHECKING, Any, Literal, TypedDict, Unpack, overload

from kubeletclient._door import PodRef
from kubeletclient._logs import LogOptions
from kubeletclient._plan import command_words, plan_process, plan_run
from kubeletclient._policy import CAPTURE, CAPTURE_LIMIT, FORWARD_BUFFER, FORWARD_STALL, PIPE, Deadline
from kubeletclient.aio import commands
from kubeletclient.aio.background import AsyncInput, AsyncOutput
from kubeletclient.aio.commands import Call
from kubeletclient.aio.door import Client
from kubeletclient.aio.logs import LogStream
from kubeletclient.aio.process import Opening, Targets
from kubeletclient.results import Completed
from kubeletclient.selection import PodFacts

if TYPE_CHECKING:
    from kubeletclient.aio.forward import Connector, ForwardOpening
    from kubeletclient.copy.api import Path, Place
    from kubeletclient.copy.options import CopyChoices
    from kubeletclient.copy.report import CopyReport, ProgressFunction
    from kubeletclient.forwarding.records import OnEvent

__all__ = ["Pod"]


class _RunOptions(TypedDict, total=False):
    """What every overload of ``run`` takes."""

    container: str | None
    stdin: AsyncInput
    stdout: AsyncOutput | None
    stderr: AsyncOutput | None
    tty: bool
    check: bool
    timeout: float | None
    capture_limit: int


class Pod:
    """A pod; made by ``Kubelet.pod``."""

    def __init__(self, client: Client, ref: PodRef) -> None:
        self._client = client
        self._ref = ref
        self._connector: Connector | None = None

    def __repr__(self) -> str:
        return f"<Pod {self.namespace}/{self.name} of {self._client!r}>"

    @property
    def name(self) -> str:
        """Its name."""
        return self._ref.name

    @property
    def namespace(self) -> str:
        """Its namespace."""
        return self._ref.namespace

    @property
    def uid(self) -> str | None:
        """Its uid, if the caller gave one."""
        return self._ref.uid

    async def facts(self, *, timeout: float | None = None) -> PodFacts:
        """As ``kubeletclient.Pod.facts``."""
        facts: PodFacts = await self._client._follow(self._client._door.find(self._ref), Deadline.after(timeout))
        return facts

    @overload
    async def run(
        self,
        args: Sequence[str],
        *,
        input: AsyncInput = None,
        text: Literal[False] = False,
        encoding: None = None,
        errors: None = None,
        **options: Unpack[_RunOptions],
    ) -> Completed[bytes]: ...

    @overload
    async def run(
        self,
        args: Sequence[str],
        *,
        input: AsyncInput | str = None,
        text: Literal[True],
        encoding: str | None = None,
        errors: str | None = None,
        **options: Unpack[_RunOptions],
    ) -> Completed[str]: ...

    @overload
    async def run(
        self,
        args: Sequence[str],
        *,
        input: AsyncInput | str = None,
        text: bool = False,
        encoding: str | None = None,
        errors: str | None = None,
        **options: Unpack[_RunOptions],
    ) -> Completed[bytes] | Completed[str]: ...

    async def run(
        self,
        args: Sequence[str],
        *,
        container: str | None = None,
        input: AsyncInput | str = None,
        stdin: AsyncInput = None,
        stdout: AsyncOutput | None = CAPTURE,
        stderr: AsyncOutput | None = CAPTURE,
        tty: bool = False,
        check: bool = False,
        timeout: float | None = None,
        text: bool = False,
        encoding: str | None = None,
        errors: str | None = None,
        capture_limit: int = CAPTURE_LIMIT,
    ) -> Completed[bytes] | Completed[str]:
        """Run a command to its end; like ``subprocess.run``.

        Parameters, result and errors as of ``kubeletclient.Pod.run``. ``input`` (or ``stdin``) may also be an
        asynchronous iterable of bytes, or anything with a coroutine ``read(n)``; ``stdout`` and ``stderr`` also a
        coroutine function, which is awaited with each piece. Pipes and terminals are polled, regular files are read
        and written on the loop, other file objects in a thread.

        However it ends, cancelled too, the connection is closed, and nothing of it stays on the loop. The command
        itself may go on running: a kubelet does not kill it when the client leaves.
        """
        plan = plan_run(
            input=commands.to_plan(input),
            stdin=commands.to_plan(stdin),
            stdout=stdout,
            stderr=stderr,
            tty=tty,
            capture_limit=capture_limit,
            text=text,
            encoding=encoding,
            errors=errors,
        )
        given: Any = stdin if input is None else input
        targets = Targets(given, stdout, stderr)
        call = Call(self._client, self._ref, container, plan, targets, Deadline.after(timeout), capture_limit)
        return await commands.run(call, command_words(args), check=check)

    def popen(
        self,
        args: Sequence[str],
        *,
        container: str | None = None,
        stdin: AsyncInput = None,
        stdout: AsyncOutput | None = PIPE,
        stderr: AsyncOutput | None = PIPE,
        tty: bool = False,
        timeout: float | None = None,
        capture_limit: int = CAPTURE_LIMIT,
    ) -> Opening:
        """Start a command and go on while it runs; like ``subprocess.Popen``. Arguments as for ``run``.

        Await the answer for the Process, or enter it with ``async with``, which closes the process at the end. Either
        is done when the server has accepted every stream. ``timeout`` bounds the life of the whole session: past it
        every wait raises DeadlineExceeded and the connection is closed. ``capture_limit`` is for CAPTURE and for what
        ``communicate`` gathers from each pipe.

        Raises as ``run`` does for a command that was not started; nothing is left open then, nor when it is cancelled.
        """
        plan = plan_process(
            stdin=commands.to_plan(stdin), stdout=stdout, stderr=stderr, tty=tty, capture_limit=capture_limit
        )
        targets = Targets(stdin, stdout, stderr)
        call = Call(self._client, self._ref, container, plan, targets, Deadline.after(timeout), capture_limit)
        return Opening(commands.popen(call, command_words(args)))

    def attach(
        self,
        *,
        container: str | None = None,
        stdin: AsyncInput = None,
        stdout: AsyncOutput | None = PIPE,
        stderr: AsyncOutput | None = PIPE,
        tty: bool = False,
        timeout: float | None = None,
        capture_limit: int = CAPTURE_LIMIT,
    ) -> Opening:
        """Attach to the main process of a container: its output from now on, and its stdin if it has one.

        Parameters and answer as of ``popen``; everything else as of ``kubeletclient.Pod.attach``.
        """
        plan = plan_process(
            stdin=commands.to_plan(stdin), stdout=stdout, stderr=stderr, tty=tty, capture_limit=capture_limit
        )
        targets = Targets(stdin, stdout, stderr)
        call = Call(self._client, self._ref, container, plan, targets, Deadline.after(timeout), capture_limit)
        return Opening(commands.attach(call))

    def forward(
        self,
        ports: int | str | Mapping[int, int | str] | Mapping[str, int | str] | Iterable[int | str],
        *,
        address: str | Sequence[str] = "localhost",
        on_event: OnEvent | None = None,
        buffer_limit: int = FORWARD_BUFFER,
        stall: float = FORWARD_STALL,
        isolate: bool = False,
        hold_half_close: bool = False,
        supervised: bool = True,
        wait: float = 30.0,
        timeout: float | None = None,
    ) -> ForwardOpening:
        """Forward ports of this pod to local addresses, until the answer is closed.

        - ``ports``: ``{8080: 80, 0: "http", "/tmp/.s.PGSQL.5432": 5432}``: local port (0: a free one) or the path of a
          Unix socket, to the pod's port or its name; or as kubectl has them, ``"8080:80"``, ``":80"``, ``80``, or a
          list of these;
        - ``address``: where to listen: ``"localhost"`` (IPv4 and IPv6), an IP address, or a list;
        - ``on_event``: called with every change (see ``ForwardEvent``), in the thread that forwards: it
          must not block;
        - ``buffer_limit``: bytes that may wait for clients which do not read, for each session; ``stall``: seconds that
          a client may take nothing at all while others wait because of it, before it is reset;
        - ``isolate``: a session of its own for each connection: exact back-pressure, at the price of a handshake;
        - ``hold_half_close``: do not tell the pod that a client has half-closed before the pod has ended, too.
          containerd closes both directions one second after either has ended, which cuts slow answers;
        - ``supervised``: dial again when the session is lost; ``wait``: seconds for which a connection waits for that;
        - ``timeout``: seconds for the first session.

        Many connections share one session, and each fails alone. A connection that fails on the pod's side, or whose
        session is lost, is reset: an end of file is always the pod's own.

        Raises OSError where it cannot listen, ValueError for ports or addresses that are none, and as ``run`` where no
        session can be had; nothing is left open then.

        Await the answer for the Forward, or enter it with ``async with``, which closes it at the end.
        """
        # Most programs never forward, and it brings modules of its own.
        from kubeletclient.aio.forward import ForwardOpening, forward
        from kubeletclient.forwarding.forwarder import ForwardOptions
        from kubeletclient.forwarding.plan import parse_ports

        options = ForwardOptions(
            buffer_limit=buffer_limit, stall=stall, wait=wait, isolate=isolate, hold=hold_half_close,
            supervised=supervised,
        )  # fmt: skip
        deadline = Deadline.after(timeout)
        return ForwardOpening(
            forward(self._client, self._ref, parse_ports(ports), address, options, on_event, deadline)
        )

    async def connect(
        self, port: int | str, *, timeout: float | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to a port of this pod (or to a named one), as asyncio's pair of streams; nothing listens here.

        It is there once the server has accepted its streams; whether anything listens at the port shows with the first
        read: a refusal, and any other failure of the pod's side, is a ConnectionResetError. ``writer.write_eof()``
        half-closes. The connections of one Pod object share a session.

        Raises as ``run`` where no session can be had, ForwardFailed where the server does not accept the connection;
        nothing is left open then, nor when it is cancelled.
        """
        if self._connector is None:
            from kubeletclient.aio.forward import Connector

            self._connector = Connector(self._client, self._ref)
        return await self._connector.connect(port, Deadline.after(timeout))

    def logs(
        self,
        *,
        container: str | None = None,
        follow: bool = False,
        previous: bool = False,
        since: float | datetime | None = None,
        tail: int | None = None,
        timestamps: bool = False,
        limit_bytes: int | None = None,
        reconnect: float = 60.0,
        timeout: float | None = None,
    ) -> LogStream:
        """The log of a container, as lines, for ``async for``; otherwise as ``kubeletclient.Pod.logs``."""
        options = LogOptions(follow, previous, since, tail, timestamps, limit_bytes)
        return LogStream(self._client, self._ref, container, options, reconnect, Deadline.after(timeout))

    async def copy_in(
        self,
        sources: Path | Sequence[Path] | IO[bytes],
        target: Path,
        *,
        container: str | None = None,
        progress: ProgressFunction | None = None,
        **choices: Unpack[CopyChoices],
    ) -> CopyReport:
        """As ``kubeletclient.Pod.copy_in``, awaited. A thread of its own does the work; cancelled, it leaves first."""
        from kubeletclient.copy import api  # loaded when it is used

        return await api.in_own_thread(api.copy_in(self._place(container), sources, target, choices), progress)

    async def copy_out(
        self,
        sources: Path | Sequence[Path],
        target: Path | IO[bytes],
        *,
        container: str | None = None,
        progress: ProgressFunction | None = None,
        **choices: Unpack[CopyChoices],
    ) -> CopyReport:
        """As ``kubeletclient.Pod.copy_out``, awaited; see ``copy_in``."""
        from kubeletclient.copy import api  # loaded when it is used

        return await api.in_own_thread(api.copy_out(self._place(container), sources, target, choices), progress)

    async def copy_to(
        self,
        path: Path,
        other: Pod,
        target: Path,
        *,
        container: str | None = None,
        other_container: str | None = None,
        progress: ProgressFunction | None = None,
        **choices: Unpack[CopyChoices],
    ) -> CopyReport:
        """As ``kubeletclient.Pod.copy_to``, awaited; see ``copy_in``."""
        from kubeletclient.copy import api  # loaded when it is used

        here, there = self._place(container), other._place(other_container)
        return await api.in_own_thread(api.copy_between(here, path, there, target, choices), progress)

    def _place(self, container: str | None) -> Place:
        return self._client._door, self._ref, container

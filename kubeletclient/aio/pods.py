"""A pod: the verbs of ``kubeletclient.sync.pods``, awaited. What a verb does is in its own module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypedDict, Unpack, overload

from kubeletclient._door import PodRef
from kubeletclient._plan import command_words, plan_process, plan_run
from kubeletclient._policy import CAPTURE, CAPTURE_LIMIT, PIPE, Deadline
from kubeletclient.aio import commands
from kubeletclient.aio.background import AsyncInput, AsyncOutput
from kubeletclient.aio.commands import Call
from kubeletclient.aio.door import Client
from kubeletclient.aio.process import Opening, Targets
from kubeletclient.results import Completed

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

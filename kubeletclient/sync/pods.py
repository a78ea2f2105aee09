"""A pod: the verbs that callers use, each with its signature and its rules. What a verb does is in its own module."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import IO, TYPE_CHECKING, Literal, TypedDict, Unpack, overload

from kubeletclient._door import PodRef
from kubeletclient._logs import LogOptions
from kubeletclient._plan import command_words, plan_process, plan_run
from kubeletclient._policy import (
    CAPTURE,
    CAPTURE_LIMIT,
    FORWARD_BUFFER,
    FORWARD_STALL,
    PIPE,
    Deadline,
    InputTarget,
    OutputTarget,
)
from kubeletclient.results import Completed
from kubeletclient.selection import PodFacts
from kubeletclient.sync import commands
from kubeletclient.sync.commands import Call
from kubeletclient.sync.door import Client
from kubeletclient.sync.logs import LogStream
from kubeletclient.sync.process import Process

if TYPE_CHECKING:
    from kubeletclient.copy.api import Path, Place
    from kubeletclient.copy.options import CopyChoices
    from kubeletclient.copy.report import CopyReport, ProgressFunction
    from kubeletclient.forwarding.records import OnEvent
    from kubeletclient.sync.forward import Connector, Forward, ForwardedSocket

__all__ = ["Pod"]


class _RunOptions(TypedDict, total=False):
    """What every overload of ``run`` takes."""

    container: str | None
    stdin: InputTarget
    stdout: OutputTarget | None
    stderr: OutputTarget | None
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

    def facts(self, *, timeout: float | None = None) -> PodFacts:
        """What the cluster, or the kubelet, says of the pod now: its node, phase, containers, labels.

        Raises NotFound, and the errors of a request that is refused or not answered.
        """
        facts: PodFacts = self._client._follow(self._client._door.find(self._ref), Deadline.after(timeout))
        return facts

    @overload
    def run(
        self,
        args: Sequence[str],
        *,
        input: InputTarget = None,
        text: Literal[False] = False,
        encoding: None = None,
        errors: None = None,
        **options: Unpack[_RunOptions],
    ) -> Completed[bytes]: ...

    @overload
    def run(
        self,
        args: Sequence[str],
        *,
        input: InputTarget | str = None,
        text: Literal[True],
        encoding: str | None = None,
        errors: str | None = None,
        **options: Unpack[_RunOptions],
    ) -> Completed[str]: ...

    @overload
    def run(
        self,
        args: Sequence[str],
        *,
        input: InputTarget | str = None,
        text: bool = False,
        encoding: str | None = None,
        errors: str | None = None,
        **options: Unpack[_RunOptions],
    ) -> Completed[bytes] | Completed[str]: ...

    def run(
        self,
        args: Sequence[str],
        *,
        container: str | None = None,
        input: InputTarget | str = None,
        stdin: InputTarget = None,
        stdout: OutputTarget | None = CAPTURE,
        stderr: OutputTarget | None = CAPTURE,
        tty: bool = False,
        check: bool = False,
        timeout: float | None = None,
        text: bool = False,
        encoding: str | None = None,
        errors: str | None = None,
        capture_limit: int = CAPTURE_LIMIT,
    ) -> Completed[bytes] | Completed[str]:
        """Run a command to its end; like ``subprocess.run``.

        - ``args``: the words of the command. No shell is involved: for one give ``["sh", "-c", "..."]``.
        - ``container``: by default the pod's default container, which costs a request for the node's pods, once per
          Pod object.
        - ``input`` (or ``stdin``): bytes, a descriptor, a binary file, or an iterable of bytes; None opens no
          stdin. Text with
          ``text=True``. Bytes that the command leaves unread are no error.
        - ``stdout``, ``stderr``: CAPTURE (kept in memory, ``capture_limit`` bytes for both together), DEVNULL, a
          descriptor, a
          binary file, a function that is called with each piece (a memoryview that is valid only during the call),
          or None: not asked for.
        - ``tty``: run on a terminal, which mixes stderr into stdout; stdin is never ended then.
        - ``check``: raise CommandFailed for another exit code than 0.
        - ``timeout``: seconds for all of it, from the dial to the exit status.
        - ``text``, ``encoding``, ``errors``: decode what is captured, as UTF-8 if no encoding is named.

        Raises ConnectError, UpgradeRefused and their kin when the command was not started; ConnectionLost when its
        end is unknown; RemoteError when the server reports a failure without an exit code; DeadlineExceeded;
        OutputLimitExceeded. Each carries what had been captured. What a function of the caller's raises goes
        through.

        However it ends, with Ctrl-C too, the connection is closed. The command itself may go on running: a kubelet
        does not kill it when the client leaves.
        """
        plan = plan_run(
            input=input,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            tty=tty,
            capture_limit=capture_limit,
            text=text,
            encoding=encoding,
            errors=errors,
        )
        call = Call(self._client, self._ref, container, plan, Deadline.after(timeout), capture_limit)
        return commands.run(call, command_words(args), check=check)

    def popen(
        self,
        args: Sequence[str],
        *,
        container: str | None = None,
        stdin: InputTarget = None,
        stdout: OutputTarget | None = PIPE,
        stderr: OutputTarget | None = PIPE,
        tty: bool = False,
        timeout: float | None = None,
        capture_limit: int = CAPTURE_LIMIT,
    ) -> Process:
        """Start a command and return while it runs; like ``subprocess.Popen``. Arguments as for ``run``.

        PIPE gives a file on the process. Returns when the server has accepted every stream. ``timeout`` bounds the
        life of the whole session: past it every wait raises DeadlineExceeded and the connection is closed.
        ``capture_limit`` is for CAPTURE and for what ``communicate`` gathers from each pipe.

        Raises as ``run`` does for a command that was not started; nothing is left open then, nor after Ctrl-C.
        """
        plan = plan_process(stdin=stdin, stdout=stdout, stderr=stderr, tty=tty, capture_limit=capture_limit)
        call = Call(self._client, self._ref, container, plan, Deadline.after(timeout), capture_limit)
        return commands.popen(call, command_words(args))

    def attach(
        self,
        *,
        container: str | None = None,
        stdin: InputTarget = None,
        stdout: OutputTarget | None = PIPE,
        stderr: OutputTarget | None = PIPE,
        tty: bool = False,
        timeout: float | None = None,
        capture_limit: int = CAPTURE_LIMIT,
    ) -> Process:
        """Attach to the main process of a container: its output from now on, and its stdin if it has one.

        Parameters and answer as of ``popen``. ``tty`` must say what the container was started with: a kubelet goes by
        the container, whatever is asked for. Attach has no exit code: ``wait`` answers 0 once the server has said that
        the session ended, be it that the process ended or that stdin did. Ending stdin ends the session, and the
        process's own stdin where the container says ``stdinOnce``. Leaving does not touch the process.
        """
        plan = plan_process(stdin=stdin, stdout=stdout, stderr=stderr, tty=tty, capture_limit=capture_limit)
        call = Call(self._client, self._ref, container, plan, Deadline.after(timeout), capture_limit)
        return commands.attach(call)

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
    ) -> Forward:
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

        A thread does the work: one for all forwarding of the process, while there is any.
        """
        # Most programs never forward, and it brings modules of its own.
        from kubeletclient.forwarding.forwarder import ForwardOptions
        from kubeletclient.forwarding.plan import parse_ports
        from kubeletclient.sync.forward import forward

        options = ForwardOptions(
            buffer_limit=buffer_limit, stall=stall, wait=wait, isolate=isolate, hold=hold_half_close,
            supervised=supervised,
        )  # fmt: skip
        deadline = Deadline.after(timeout)
        return forward(self._client, self._ref, parse_ports(ports), address, options, on_event, deadline)

    def connect(self, port: int | str, *, timeout: float | None = None) -> ForwardedSocket:
        """A connection to a port of this pod (or to a named one), as a socket; nothing listens here.

        It is a real socket, to be given to whatever takes one. It is there once the server has accepted its streams;
        whether anything listens at the port shows with the first read: a refusal, and any other failure of the pod's
        side, is ForwardFailed, a ConnectionResetError with the server's words. ``shutdown(SHUT_WR)`` half-closes. The
        connections of one Pod object share a session.

        Raises as ``run`` where no session can be had, ForwardFailed where the server does not accept the connection;
        nothing is left open then.
        """
        if self._connector is None:
            from kubeletclient.sync.forward import Connector

            self._connector = Connector(self._client, self._ref)
        return self._connector.connect(port, Deadline.after(timeout))

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
        """The log of a container, as lines; nothing is asked before the first is taken, or the answer is entered.

        - ``follow``: go on with what is written from now on, until the container ends. When the connection breaks, it
          is made again for up to ``reconnect`` seconds, and no line comes twice or is left out: where that cannot be
          kept, because the log is another one by then, ConnectionLost is raised.
        - ``previous``: of the container's instance before this one.
        - ``since``: seconds before now, or a ``datetime`` with a time zone; ``tail``: so many lines from the end;
          ``limit_bytes``: so many bytes at most, which may end within a line, and such a log is not gone on with.
        - ``timestamps``: begin each line with the time at which it was written.
        - ``timeout``: seconds for all of it.

        A log that is not followed and does not end as it should raises ConnectionLost as well. Raises the errors of
        ``run`` when it cannot be had: BadRequest for a container that has not started, NotFound for no such pod.
        """
        options = LogOptions(follow, previous, since, tail, timestamps, limit_bytes)
        return LogStream(self._client, self._ref, container, options, reconnect, Deadline.after(timeout))

    def copy_in(
        self,
        sources: Path | Sequence[Path] | IO[bytes],
        target: Path,
        *,
        container: str | None = None,
        progress: ProgressFunction | None = None,
        **choices: Unpack[CopyChoices],
    ) -> CopyReport:
        """Copy files and trees into a container; ``sources`` may also be a binary file object, which becomes one file.

        As ``cp -r``: a target that is a directory takes the sources below it, else it is the new name of the one
        source. Everything is verified before it is moved to its place; see ``CopyOptions`` for the keyword arguments.

        Raises CopyError (``report`` tells how far things came) and what ``run`` raises. Whatever happens, no file under
        a final name is incomplete. ``progress`` is called with a ``Progress`` ten times a second at most; what it
        raises ends the copy. Interrupted, the copy leaves the working directory that ``resume=True`` goes on from.
        """
        from kubeletclient.copy import api  # loaded when it is used

        return api.on_own_loop(api.copy_in(self._place(container), sources, target, choices), progress)

    def copy_out(
        self,
        sources: Path | Sequence[Path],
        target: Path | IO[bytes],
        *,
        container: str | None = None,
        progress: ProgressFunction | None = None,
        **choices: Unpack[CopyChoices],
    ) -> CopyReport:
        """Copy files and trees out of a container; the target may also be one binary file object, for one file.

        Sources may hold wildcards, which the container's shell expands. Everything else as ``copy_in``.
        """
        from kubeletclient.copy import api  # loaded when it is used

        return api.on_own_loop(api.copy_out(self._place(container), sources, target, choices), progress)

    def copy_to(
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
        """Copy a file or tree to another container, through this machine, which keeps no copy of it.

        Arguments and errors as ``copy_in``; digests are compared on both sides. Nothing can be resumed or left out.
        """
        from kubeletclient.copy import api  # loaded when it is used

        here, there = self._place(container), other._place(other_container)
        return api.on_own_loop(api.copy_between(here, path, there, target, choices), progress)

    def _place(self, container: str | None) -> Place:
        return self._client._door, self._ref, container

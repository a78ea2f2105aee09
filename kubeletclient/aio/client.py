"""The asyncio client: a kubelet, the pods on it, and commands in their containers."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Literal, overload

from kubeletclient import errors
from kubeletclient._containers import PodsBody, choose_container, pods_error, pods_request
from kubeletclient._plan import Plan, command_words, plan_process, plan_run
from kubeletclient._policy import CAPTURE, CAPTURE_LIMIT, DEVNULL, PIPE, Deadline
from kubeletclient._settings import Settings
from kubeletclient._trust import Trust
from kubeletclient.aio.background import AsyncInput, AsyncOutput, is_async_input
from kubeletclient.aio.process import Opening, Process, Targets, open_process
from kubeletclient.aio.worker import in_thread
from kubeletclient.credentials import Credentials
from kubeletclient.endpoints import KUBELET_PORT, Target, attach_target, exec_target, parse_endpoint, parse_target
from kubeletclient.results import Completed
from spdyproto.channels.events import StreamSet
from spdyproto.channels.subprotocols import Subprotocol
from spdyproto.limits import Deadlines, Keepalive, Limits
from spdyproto.pem import PathOrPEM
from spdyproto.types import Tracer

__all__ = ["Kubelet", "Pod", "connect_exec"]


class Kubelet:
    """One node's kubelet, reached directly: no apiserver takes part.

    - ``url``: ``https://HOST[:PORT]``; port 10250 if none is given. Making the object connects to nothing and reads
      nothing.
    - ``ca``: whom to trust, as a path or as PEM bytes; None trusts the system's authorities, which rarely know a
      kubelet.
    - ``credentials``: ``ClientCertificate``, ``BearerToken`` or None.
    - ``server_name``: the name to ask for and to verify, when it is not the host of the URL.
    - ``verify=False`` accepts any certificate: whoever answers can pretend to be the kubelet.
    - ``allow_unverified_token=True`` lets a bearer token go out even so, or over plain HTTP.
    - ``deadlines``, ``keepalive``, ``limits``: see ``spdyproto.limits``; ``keepalive=None`` sends no PINGs.
    - ``transport``: ``"auto"``: SPDY/3.1, and WebSocket where the server's answer means that SPDY does not pass;
      ``"spdy"`` or ``"ws"``: that one; ``"spdy:NAME"`` or ``"ws:NAME"``: one subprotocol, e.g.
      ``"ws:v4.channel.k8s.io"``. Before v5 WebSocket cannot end stdin: see ``StdinCannotEnd``.
    - ``method``: of a SPDY request, ``"POST"`` or ``"GET"``, which kubelets authorize as ``create`` and ``get`` on
      ``nodes/proxy``; ``protocols``: the subprotocols to offer over SPDY, best first, which leaves no WebSocket to
      fall back to.
    - ``bearer_subprotocol=True`` hides a bearer token among the subprotocols of a WebSocket request, for proxies that
      drop the header. Others may log it there.
    - ``tracer``: see ``spdyproto.types.Tracer``.

    Any number of commands may run at once: each has a connection of its own, all share one TLS context. A process
    belongs to the loop that it was started on; the object itself to none.
    """

    def __init__(
        self,
        url: str,
        *,
        ca: PathOrPEM | None = None,
        credentials: Credentials | None = None,
        server_name: str | None = None,
        verify: bool = True,
        allow_unverified_token: bool = False,
        deadlines: Deadlines | None = None,
        keepalive: Keepalive | None = Keepalive(),
        limits: Limits | None = None,
        transport: str = "auto",
        protocols: Sequence[Subprotocol] | None = None,
        method: Literal["POST", "GET"] = "POST",
        bearer_subprotocol: bool = False,
        user_agent: str | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self.endpoint = parse_endpoint(url, default_port=KUBELET_PORT)
        self._settings = Settings.of(
            Trust(
                ca=ca,
                verify=verify,
                credentials=credentials,
                server_name=server_name,
                allow_unverified_token=allow_unverified_token,
            ),
            transport=transport,
            method=method,
            protocols=protocols,
            limits=limits,
            deadlines=deadlines,
            keepalive=keepalive,
            user_agent=user_agent,
            tracer=tracer,
            bearer_subprotocol=bearer_subprotocol,
        )
        self._processes: weakref.WeakSet[Process] = weakref.WeakSet()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Kubelet {self.endpoint}>"

    def pod(self, name: str, namespace: str = "default", *, uid: str | None = None) -> Pod:
        """A pod on this node. Nothing is asked from the kubelet before a command is run in it.

        With ``uid`` the kubelet refuses a pod of the same name that has replaced it.
        """
        return Pod(self, name, namespace, uid)

    async def close(self) -> None:
        """Close every process that was started through this object and is still open; no new ones can be started."""
        self._closed = True
        for process in list(self._processes):
            await process.close()

    async def __aenter__(self) -> Kubelet:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _open(
        self,
        target: Target,
        plan: Plan,
        targets: Targets,
        args: Sequence[str],
        deadline: Deadline,
        capture_limit: int,
    ) -> Process:
        self._check_open()
        request = self._settings.request(target, plan)
        process = await open_process(request, plan, targets, args, deadline, capture_limit)
        try:
            self._check_open()
        except BaseException:
            await process.close()
            raise
        self._processes.add(process)
        return process

    def _check_open(self) -> None:
        if self._closed:
            raise errors.ProcessClosed("this Kubelet was closed", hint="make a new one")

    async def _default_container(self, namespace: str, name: str, uid: str | None, deadline: Deadline) -> str:
        try:
            async with asyncio.timeout(deadline.left(self._settings.deadlines.upgrade)):
                pods = await self._pods()
        except TimeoutError as error:
            if deadline.passed():
                raise deadline.error("the kubelet's list of pods") from None
            raise pods_error(self.endpoint, None, error) from error
        return choose_container(pods, self.endpoint, namespace, name, uid)

    async def _pods(self) -> Any:  # noqa: ANN401 - JSON
        import httpx  # a tenth of a second, and needed only when no container is named

        trust, endpoint = self._settings.trust, self.endpoint
        url, headers = await in_thread(lambda: pods_request(endpoint, trust, self._settings.agent))
        context: Any = await in_thread(trust.context) if endpoint.secure else False
        extensions = {"sni_hostname": trust.server_name} if trust.server_name else {}
        body = PodsBody(endpoint)
        try:
            async with (
                httpx.AsyncClient(verify=context, timeout=None, trust_env=False, follow_redirects=False) as client,
                client.stream("GET", url, headers=headers, extensions=extensions) as answer,
            ):
                if answer.status_code != 200:
                    raise pods_error(endpoint, answer.status_code, None)
                async for piece in answer.aiter_bytes():
                    body.add(piece)
        except httpx.HTTPError as error:
            raise pods_error(endpoint, None, error) from error
        return body.parse()


class Pod:
    """A pod on a node; made by ``Kubelet.pod``."""

    def __init__(self, kubelet: Kubelet, name: str, namespace: str, uid: str | None) -> None:
        self.name = name
        self.namespace = namespace
        self.uid = uid
        self._kubelet = kubelet
        self._container: str | None = None

    def __repr__(self) -> str:
        return f"<Pod {self.namespace}/{self.name} on {self._kubelet.endpoint}>"

    @overload
    async def run(
        self,
        args: Sequence[str],
        *,
        container: str | None = None,
        input: AsyncInput = None,
        stdin: AsyncInput = None,
        stdout: AsyncOutput | None = CAPTURE,
        stderr: AsyncOutput | None = CAPTURE,
        tty: bool = False,
        check: bool = False,
        timeout: float | None = None,
        text: Literal[False] = False,
        encoding: None = None,
        errors: None = None,
        capture_limit: int = CAPTURE_LIMIT,
    ) -> Completed[bytes]: ...

    @overload
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
        text: Literal[True],
        encoding: str | None = None,
        errors: str | None = None,
        capture_limit: int = CAPTURE_LIMIT,
    ) -> Completed[str]: ...

    @overload
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

        - ``args``: the words of the command. No shell is involved: for one give ``["sh", "-c", "..."]``.
        - ``container``: by default the pod's default container, which costs a request for the node's pods, once per Pod
          object.
        - ``input`` (or ``stdin``): bytes, a descriptor, a binary file, an iterable or asynchronous iterable of bytes,
          or anything with a coroutine ``read(n)``; None opens no stdin. Text with ``text=True``. Bytes that the
          command leaves unread are no error. Pipes and terminals are polled, regular files are read on the loop, other
          file objects in a thread.
        - ``stdout``, ``stderr``: CAPTURE (kept in memory, ``capture_limit`` bytes for both together), DEVNULL, a
          descriptor, a binary file, a function that is called with each piece (a memoryview that is valid only during
          the call), a coroutine function that is awaited with each piece, or None: not asked for. Regular files are
          written on the loop, others in a thread.
        - ``tty``: run on a terminal, which mixes stderr into stdout; stdin is never ended then.
        - ``check``: raise CommandFailed for another exit code than 0.
        - ``timeout``: seconds for all of it, from the dial to the exit status.
        - ``text``, ``encoding``, ``errors``: decode what is captured, as UTF-8 if no encoding is named.

        Raises ConnectError, UpgradeRefused and their kin when the command was not started; ConnectionLost when its end
        is unknown; RemoteError when the server reports a failure without an exit code; DeadlineExceeded;
        OutputLimitExceeded. Each carries what had been captured. What a function or an iterator of the caller's raises
        goes through.

        However it ends, cancelled too, the connection is closed, and nothing of it stays on the loop. The command
        itself may go on running: a kubelet does not kill it when the client leaves.
        """
        began = time.monotonic()
        deadline = Deadline.after(timeout)
        words = command_words(args)
        plan = plan_run(
            input=_to_plan(input),
            stdin=_to_plan(stdin),
            stdout=stdout,
            stderr=stderr,
            tty=tty,
            capture_limit=capture_limit,
            text=text,
            encoding=encoding,
            errors=errors,
        )
        given: Any = stdin if input is None else input
        process = await self._start(words, container, plan, Targets(given, stdout, stderr), deadline, capture_limit)
        try:
            returncode = await process.wait()
        finally:
            await process.close()
        done = Completed.of(
            words,
            returncode,
            plan.captured(),
            plan.decode,
            process.route,
            process.protocol,
            process.received,
            process.sent,
            time.monotonic() - began,
            process.transport,
            process.attempts,
        )
        if check:
            done.check_returncode()
        return done

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
        deadline = Deadline.after(timeout)
        words = command_words(args)
        plan = plan_process(
            stdin=_to_plan(stdin),
            stdout=stdout,
            stderr=stderr,
            tty=tty,
            capture_limit=capture_limit,
        )
        targets = Targets(stdin, stdout, stderr)
        return Opening(self._start(words, container, plan, targets, deadline, capture_limit))

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

        Parameters and answer as of ``popen``. ``tty`` must say what the container was started with: a kubelet goes by
        the container, whatever is asked for. Attach has no exit code: ``wait`` answers 0 once the server has said that
        the session ended, be it that the process ended or that stdin did. Ending stdin ends the session, and the
        process's own stdin where the container says ``stdinOnce``. Leaving does not touch the process.
        """
        deadline = Deadline.after(timeout)
        plan = plan_process(
            stdin=_to_plan(stdin),
            stdout=stdout,
            stderr=stderr,
            tty=tty,
            capture_limit=capture_limit,
        )
        targets = Targets(stdin, stdout, stderr)
        return Opening(self._start(None, container, plan, targets, deadline, capture_limit))

    async def _start(
        self,
        words: tuple[str, ...] | None,
        container: str | None,
        plan: Plan,
        targets: Targets,
        deadline: Deadline,
        capture_limit: int,
    ) -> Process:
        kubelet = self._kubelet
        name = container or self._container
        if name is None:
            name = self._container = await kubelet._default_container(self.namespace, self.name, self.uid, deadline)
        where = (kubelet.endpoint, self.namespace, self.name, name)
        if words is None:
            target = attach_target(*where, plan.streams, self.uid)
            words = (target.shown,)
        else:
            target = exec_target(*where, words, plan.streams, self.uid)
        return await kubelet._open(target, plan, targets, words, deadline, capture_limit)


def connect_exec(
    url: str,
    *,
    method: Literal["POST", "GET"] = "POST",
    streams: StreamSet | None = None,
    credentials: Credentials | None = None,
    ca: PathOrPEM | None = None,
    server_name: str | None = None,
    verify: bool = True,
    allow_unverified_token: bool = False,
    stdin: AsyncInput = None,
    stdout: AsyncOutput | None = PIPE,
    stderr: AsyncOutput | None = PIPE,
    timeout: float | None = None,
    deadlines: Deadlines | None = None,
    keepalive: Keepalive | None = Keepalive(),
    limits: Limits | None = None,
    transport: str = "auto",
    protocols: Sequence[Subprotocol] | None = None,
    bearer_subprotocol: bool = False,
    capture_limit: int = CAPTURE_LIMIT,
    user_agent: str | None = None,
    tracer: Tracer | None = None,
) -> Opening:
    """Open a streaming URL that says everything itself: a runtime's one-time URL, or one that the caller has built.

    ``https`` or plain ``http``. ``streams`` must be what the URL asks for, or the server waits for streams that do
    not come; None follows ``stdin``, ``stdout`` and ``stderr``. A stream in ``streams`` is a PIPE unless its
    parameter says otherwise. The URL is sent as it is, and only once, for a one-time URL serves one request:
    ``transport="auto"`` is SPDY here. Everything else as for ``Kubelet`` and ``Pod.popen``.
    """
    if streams is not None:
        stdin = PIPE if streams.stdin and stdin is None else stdin
    trust = Trust(
        ca=ca,
        verify=verify,
        credentials=credentials,
        server_name=server_name,
        allow_unverified_token=allow_unverified_token,
    )
    deadline = Deadline.after(timeout)
    plan = plan_process(
        stdin=_to_plan(stdin),
        stdout=stdout,
        stderr=stderr,
        tty=False,
        capture_limit=capture_limit,
        streams=streams,
    )
    settings = Settings.of(
        trust,
        transport=transport,
        method=method,
        protocols=protocols,
        limits=limits,
        deadlines=deadlines,
        keepalive=keepalive,
        user_agent=user_agent,
        tracer=tracer,
        bearer_subprotocol=bearer_subprotocol,
        once=True,
    )
    target = parse_target(url)
    request = settings.request(target, plan)
    targets = Targets(stdin, stdout, stderr)
    return Opening(open_process(request, plan, targets, (target.shown,), deadline, capture_limit))


def _to_plan(given: Any) -> Any:  # noqa: ANN401 - one type in, the same out
    """What the shared checks make of stdin: one that is awaited looks to them like one that ends at once."""
    return DEVNULL if is_async_input(given) else given

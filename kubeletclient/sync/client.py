"""The blocking client: a kubelet, the pods on it, and commands in their containers."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Literal, overload

from kubeletclient import errors
from kubeletclient._containers import PodsBody, choose_container, pods_error, pods_request
from kubeletclient._plan import Plan, command_words, plan_process, plan_run
from kubeletclient._policy import CAPTURE, CAPTURE_LIMIT, PIPE, Deadline, InputTarget, OutputTarget
from kubeletclient._settings import Settings
from kubeletclient._trust import Trust
from kubeletclient.credentials import Credentials
from kubeletclient.endpoints import KUBELET_PORT, Target, attach_target, exec_target, parse_endpoint, parse_target
from kubeletclient.results import Completed
from kubeletclient.sync.process import Process, open_process
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

    It is safe to share between threads: every command has a connection of its own, all share one TLS context.
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
        self._trust = Trust(
            ca=ca,
            verify=verify,
            credentials=credentials,
            server_name=server_name,
            allow_unverified_token=allow_unverified_token,
        )
        self._settings = Settings.of(
            self._trust,
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
        self._lock = threading.Lock()
        self._processes: weakref.WeakSet[Process] = weakref.WeakSet()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Kubelet {self.endpoint}>"

    def pod(self, name: str, namespace: str = "default", *, uid: str | None = None) -> Pod:
        """A pod on this node. Nothing is asked from the kubelet before a command is run in it.

        With ``uid`` the kubelet refuses a pod of the same name that has replaced it.
        """
        return Pod(self, name, namespace, uid)

    def close(self) -> None:
        """Close every process that was started through this object and is still open; no new ones can be started."""
        with self._lock:
            self._closed = True
            processes = list(self._processes)
        for process in processes:
            process.close()

    def __enter__(self) -> Kubelet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, target: Target, plan: Plan, args: Sequence[str], deadline: Deadline, capture_limit: int) -> Process:
        self._check_open()
        process = open_process(self._settings.request(target, plan), plan, args, deadline, capture_limit)
        try:
            with self._lock:
                self._check_open()
                self._processes.add(process)
        except BaseException:
            process.close()
            raise
        return process

    def _check_open(self) -> None:
        if self._closed:
            raise errors.ProcessClosed("this Kubelet was closed", hint="make a new one")

    def _default_container(self, namespace: str, name: str, uid: str | None, deadline: Deadline) -> str:
        import httpx  # a tenth of a second, and needed only when no container is named

        url, headers = pods_request(self.endpoint, self._trust, self._settings.agent)
        timeout = deadline.left(self._settings.deadlines.upgrade)
        context: Any = self._trust.context() if self.endpoint.secure else False
        extensions = {"sni_hostname": self._trust.server_name} if self._trust.server_name else {}
        body = PodsBody(self.endpoint)
        try:
            with (
                httpx.Client(verify=context, timeout=timeout, trust_env=False, follow_redirects=False) as client,
                client.stream("GET", url, headers=headers, extensions=extensions) as answer,
            ):
                if answer.status_code != 200:
                    raise pods_error(self.endpoint, answer.status_code, None)
                for piece in answer.iter_bytes():
                    body.add(piece)
                    if deadline.passed():
                        raise deadline.error("the kubelet's list of pods")
        except httpx.HTTPError as error:
            if deadline.passed():
                raise deadline.error("the kubelet's list of pods") from None
            raise pods_error(self.endpoint, None, error) from error
        return choose_container(body.parse(), self.endpoint, namespace, name, uid)


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
    def run(
        self,
        args: Sequence[str],
        *,
        container: str | None = None,
        input: InputTarget = None,
        stdin: InputTarget = None,
        stdout: OutputTarget | None = CAPTURE,
        stderr: OutputTarget | None = CAPTURE,
        tty: bool = False,
        check: bool = False,
        timeout: float | None = None,
        text: Literal[False] = False,
        encoding: None = None,
        errors: None = None,
        capture_limit: int = CAPTURE_LIMIT,
    ) -> Completed[bytes]: ...

    @overload
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
        text: Literal[True],
        encoding: str | None = None,
        errors: str | None = None,
        capture_limit: int = CAPTURE_LIMIT,
    ) -> Completed[str]: ...

    @overload
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
        began = time.monotonic()
        deadline = Deadline.after(timeout)
        words = command_words(args)
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
        with self._start(words, container, plan, deadline, capture_limit) as process:
            returncode = process.wait()
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
        deadline = Deadline.after(timeout)
        words = command_words(args)
        plan = plan_process(stdin=stdin, stdout=stdout, stderr=stderr, tty=tty, capture_limit=capture_limit)
        return self._start(words, container, plan, deadline, capture_limit)

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
        deadline = Deadline.after(timeout)
        plan = plan_process(stdin=stdin, stdout=stdout, stderr=stderr, tty=tty, capture_limit=capture_limit)
        return self._start(None, container, plan, deadline, capture_limit)

    def _start(
        self, words: tuple[str, ...] | None, container: str | None, plan: Plan, deadline: Deadline, capture_limit: int
    ) -> Process:
        kubelet = self._kubelet
        name = container or self._container
        if name is None:
            name = self._container = kubelet._default_container(self.namespace, self.name, self.uid, deadline)
        where = (kubelet.endpoint, self.namespace, self.name, name)
        if words is None:
            target = attach_target(*where, plan.streams, self.uid)
            words = (target.shown,)
        else:
            target = exec_target(*where, words, plan.streams, self.uid)
        return kubelet._open(target, plan, words, deadline, capture_limit)


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
    stdin: InputTarget = None,
    stdout: OutputTarget | None = PIPE,
    stderr: OutputTarget | None = PIPE,
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
) -> Process:
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
        stdin=stdin, stdout=stdout, stderr=stderr, tty=False, capture_limit=capture_limit, streams=streams
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
    return open_process(settings.request(target, plan), plan, (target.shown,), deadline, capture_limit)

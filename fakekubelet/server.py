"""The fake kubelet: a TLS server that real clients of a kubelet's exec cannot tell from the real one.

::

    with FakeKubelet() as kubelet:
        identity = kubelet.credentials("alice", ["system:masters"])
        ...                                     # kubelet.url, kubelet.ca, identity.cert_pem, identity.key_pem

The server runs its own loop in one thread of its own; the object is safe to use from any thread. ``close`` (and
leaving the context) ends every session, stops every command, and leaves neither thread nor file nor process behind.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import ipaddress
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any

from fakekubelet.auth import Authenticator, Authorizer, User, always_allow
from fakekubelet.connection import SCRATCH, Connection, Timeouts, make_factory
from fakekubelet.pki import CertificateAuthority, IssuedCertificate
from fakekubelet.pods import Pod, PodTable
from fakekubelet.processes import ProcessHost
from fakekubelet.routes import Node, Router
from fakekubelet.runtimes import Execution
from fakekubelet.servertls import ServerTLS
from fakekubelet.sessions import ExecSession
from fakekubelet.websockets import CRI_WEBSOCKET, checked_names
from spdyproto.channels.subprotocols import CRI_SPDY, Subprotocol
from spdyproto.limits import Deadlines, Limits
from spdyproto.tls import TLSPipe

BACKLOG = 1024
"""Connections that may wait to be accepted: a thousand sessions at once are started in one burst."""

MAX_CONNECTIONS = 4096
"""Connections at once; one more is closed without a word. Each costs about 90 KiB, 140 after traffic."""

EXECUTIONS_KEPT = 1000
"""How many past executions ``FakeKubelet.executions`` remembers."""

_CLOSE_SECONDS = 10.0  # for all commands together to end when the server closes


class FakeKubelet:
    """A kubelet in this process. Start it with ``with``, ``async with`` or ``start``.

    ``pods``: what it runs; by default pod ``default/demo`` with the scripted container ``main``. ``port`` 0 takes a
    free one. A ``host`` that is not loopback needs ``allow_remote=True``; real processes need
    ``allow_processes=True``.

    ``protocols`` is what exec negotiates over SPDY, ``CRI_SPDY`` by default; name fewer to force an old one, or none to
    refuse SPDY. ``websocket_protocols`` is the same over WebSocket, where "" stands for a client that asks for none:
    ``CRI_WEBSOCKET`` by default, as kubelets up to 1.35; ``ALL_WEBSOCKET`` has v5 too, as kubelets from 1.36 on.

    ``tokens`` maps bearer tokens to users; ``anonymous`` admits requests without any credential; ``authorize`` judges
    all others.
    ``ca`` shares an authority between servers. ``deadlines.streams`` bounds the wait for a client's streams (30 s).

    Raises ValueError for arguments that make no sense, PermissionError for what must be allowed by name.
    """

    def __init__(
        self,
        pods: Iterable[Pod] | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        allow_remote: bool = False,
        allow_processes: bool = False,
        node_name: str = "fake-node",
        protocols: Iterable[Subprotocol] = CRI_SPDY,
        websocket_protocols: Iterable[str] = CRI_WEBSOCKET,
        tokens: Mapping[str, User] | None = None,
        anonymous: bool = False,
        authorize: Authorizer = always_allow,
        ca: CertificateAuthority | None = None,
        limits: Limits | None = None,
        deadlines: Deadlines | None = None,
        timeouts: Timeouts | None = None,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self._host, self._port = _checked_host(host, allow_remote), port
        self.authority = ca or CertificateAuthority.create()
        """The authority that the server's certificate and all client certificates come from."""
        self._processes = ProcessHost() if allow_processes else None
        self.pods = PodTable(_DEFAULT_PODS if pods is None else pods, self._processes)
        """The declared pods; add and remove them while the server runs."""
        chosen = tuple(Subprotocol(protocol) for protocol in protocols)
        over_websocket = checked_names(websocket_protocols)
        if not chosen and not over_websocket:
            raise ValueError("protocols and websocket_protocols: name at least one protocol in either")
        self._node = Node(
            name=node_name,
            host_ip="127.0.0.1" if self._host in ("0.0.0.0", "::") else self._host,
            pods=self.pods,
            authenticator=Authenticator(self.authority, tokens=tokens, anonymous=anonymous),
            authorize=authorize,
            protocols=chosen,
            websocket_protocols=over_websocket,
        )
        self._settings = (limits or Limits(), deadlines or Deadlines(), timeouts or Timeouts(), max_connections)
        self._executions: deque[Execution] = deque(maxlen=EXECUTIONS_KEPT)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self._fault: BaseException | None = None

    # -- what a client needs -----------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """``https://HOST:PORT``. Raises RuntimeError before the server was started."""
        if self._thread is None:
            raise RuntimeError("the fake kubelet has no address yet: start it first")
        shown = f"[{self._node.host_ip}]" if ":" in self._node.host_ip else self._node.host_ip
        return f"https://{shown}:{self._port}"

    @property
    def port(self) -> int:
        """The port, known once the server was started."""
        return self._port

    @property
    def ca(self) -> bytes:
        """The certificate that clients must trust, PEM."""
        return self.authority.cert_pem

    def credentials(self, user: str = "kubewire", groups: Iterable[str] = ("system:masters",)) -> IssuedCertificate:
        """A new client certificate for a user, with ``cert_pem``, ``key_pem`` and ``write(directory)``."""
        return self.authority.issue_client(user, groups)

    @property
    def executions(self) -> list[Execution]:
        """The execs and attaches that got as far as a session, oldest first (the last thousand); running ones among
        them."""
        return list(self._executions)

    def main_process(self, pod: str, container: str = "main") -> Execution:
        """The record of a container's main process; ``pod`` is ``NAMESPACE/NAME``. Raises KeyError if there is none."""
        main = self.pods.main(pod, container)
        if main is None:
            raise KeyError(f"{pod}/{container}")
        return main.execution

    # -- starting and closing ----------------------------------------------------------------------------------------

    def start(self) -> FakeKubelet:
        """Listen, and return when clients can connect. Raises OSError if the address cannot be had."""
        try:
            self._launch().result()
        except BaseException:
            self._join()
            raise
        return self

    def close(self) -> None:
        """End sessions and commands, and wait until nothing is left. Closing twice is allowed.

        Raises TimeoutError if the server's thread does not end, and RuntimeError if the server itself failed at
        something while it ran: such a fault shall not hide in a log.
        """
        self._join()
        self._raise_fault()

    def _join(self) -> None:
        self._request_stop()
        if self._thread is not None:
            self._thread.join(2 * _CLOSE_SECONDS)
            if self._thread.is_alive():
                raise TimeoutError(f"the fake kubelet's thread still runs {2 * _CLOSE_SECONDS:g} s after close()")

    def _raise_fault(self) -> None:
        fault, self._fault = self._fault, None
        if fault is not None:
            raise RuntimeError("the fake kubelet failed while it ran") from fault

    def __enter__(self) -> FakeKubelet:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._join()
        if error is None:
            self._raise_fault()

    async def __aenter__(self) -> FakeKubelet:
        try:
            await asyncio.wrap_future(self._launch())
        except BaseException:
            await self._close_from_loop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close_from_loop()
        if error is None:
            self._raise_fault()

    async def _close_from_loop(self) -> None:
        self._request_stop()
        if self._thread is not None:
            await asyncio.wrap_future(self._over)
            self._thread.join()  # it ends right behind the future

    def _launch(self) -> concurrent.futures.Future[None]:
        if self._thread is not None or self._closed:
            raise RuntimeError("a fake kubelet is started once: make a new one")
        ready: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._over: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="fakekubelet", daemon=True)
        self._thread.start()
        return ready

    def _request_stop(self) -> None:
        self._closed = True
        loop, stop = self._loop, self._stop
        if loop is not None and stop is not None:
            try:
                loop.call_soon_threadsafe(stop.set)
            except RuntimeError:
                pass  # the loop has ended already

    def _run(self, ready: concurrent.futures.Future[None]) -> None:
        try:
            asyncio.run(self._serve(ready))
        except BaseException as error:
            if not ready.done():
                ready.set_exception(error)
            else:
                raise
        finally:
            self._over.set_result(None)

    async def _serve(self, ready: concurrent.futures.Future[None]) -> None:
        _keep_freed_memory()
        self._stop = asyncio.Event()
        self._loop = loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_fault)
        names = dict.fromkeys(("localhost", "127.0.0.1", "::1", self._node.name, self._node.host_ip))
        leaf = self.authority.issue_server(names, common_name=f"system:node:{self._node.name}")
        tls = ServerTLS(leaf, client_ca=self.authority.cert_pem)
        listening = _Listening(loop, self._node, tls.pipe, self._settings)
        listening.executions = self._executions
        server = await loop.create_server(make_factory(listening), self._host, self._port, backlog=BACKLOG)
        try:
            self._port = server.sockets[0].getsockname()[1]
            self.pods.start(loop)
            ready.set_result(None)
            if not self._closed:
                await self._stop.wait()
        finally:
            server.close()
            await listening.close()
            await self.pods.close(_CLOSE_SECONDS)
            if self._processes is not None:
                self._processes.close()

    def _on_fault(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Something that no other code handled; the first one is kept."""
        if self._fault is None:
            self._fault = context.get("exception") or RuntimeError(context["message"])


def _keep_freed_memory() -> None:
    """Let glibc keep a few MiB of freed memory instead of giving each batch of output back to the kernel.

    Its threshold for that (128 KiB) grows with the largest block that was ever freed. Without this every batch costs a
    system call and 64 page faults: 0.5 CPU seconds per GiB. Other allocators do not notice.
    """
    bytearray(4 << 20)


class _Listening:
    """What the connections share; see ``connection.Host``."""

    executions: deque[Execution]

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        node: Node,
        make_pipe: Callable[[], TLSPipe],
        settings: tuple[Limits, Deadlines, Timeouts, int],
    ) -> None:
        self.loop = loop
        self.router = Router(node)
        self.limits, self.deadlines, self.timeouts, self._max_connections = settings
        self.make_pipe = make_pipe
        self.ciphertext = memoryview(bytearray(SCRATCH))
        self.plaintext = memoryview(bytearray(SCRATCH))
        self._connections: set[Connection] = set()
        self._sessions: set[ExecSession] = set()
        self._closing = False

    def admit(self, connection: Connection) -> bool:
        """As ``Host.admit``."""
        if self._closing or len(self._connections) >= self._max_connections:
            return False
        self._connections.add(connection)
        return True

    def forget(self, connection: Connection) -> None:
        """As ``Host.forget``."""
        self._connections.discard(connection)

    def session_started(self, session: ExecSession) -> None:
        """As ``Host.session_started``."""
        self._sessions.add(session)
        self.executions.append(session.execution)

    def session_over(self, session: ExecSession) -> None:
        """As ``Host.session_over``."""
        self._sessions.discard(session)

    async def close(self) -> None:
        """Cut every connection and end every command."""
        self._closing = True
        sessions = list(self._sessions)
        for connection in list(self._connections):
            connection.abort()
        for _ in range(3):
            await asyncio.sleep(0)  # accepted sockets become connections, and transports tell theirs, in the next turns
        if sessions:
            closing = [asyncio.ensure_future(session.close()) for session in sessions]
            _, late = await asyncio.wait(closing, timeout=_CLOSE_SECONDS)
            for task in late:
                task.cancel()


_DEFAULT_PODS = (Pod("default/demo"),)


def _checked_host(host: str, allow_remote: bool) -> str:
    if host == "localhost":
        return "127.0.0.1"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(f"host: expected an IP address or localhost, not {host!r}") from None
    if not (address.is_loopback or allow_remote):
        raise PermissionError(
            f"host {host} can be reached from other machines, and a fake kubelet runs commands: allow it by name with "
            "allow_remote=True (--allow-remote on the command line)"
        )
    return host

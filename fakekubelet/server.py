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
import ipaddress
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from fakekubelet.auth import Authenticator, Authorizer, TokenCheck, User, always_allow
from fakekubelet.background import BackgroundServer
from fakekubelet.connection import Pipe, Timeouts
from fakekubelet.faults import Fault
from fakekubelet.forwarding import CONTAINERD_GRACE, Forwarded
from fakekubelet.injection import FaultyApplication
from fakekubelet.listening import BACKLOG, CLOSE_SECONDS, MAX_CONNECTIONS, Listening, Settings, stop_accepting
from fakekubelet.messages import Application
from fakekubelet.node import Machine, Node, Serving
from fakekubelet.pki import CertificateAuthority, IssuedCertificate
from fakekubelet.plaintext import PlainPipe
from fakekubelet.pods import Pod, PodTable
from fakekubelet.ports import DEMO_PORTS
from fakekubelet.processes import ProcessHost
from fakekubelet.profiles import DEFAULT, Profile
from fakekubelet.profiles import profile as find_profile
from fakekubelet.recording import recorded
from fakekubelet.routes import HealthRouter, Router
from fakekubelet.runtimes import Execution
from fakekubelet.servertls import ServerTLS
from fakekubelet.transcript import Transcript
from fakekubelet.websockets import checked_names
from spdyproto.channels.subprotocols import Subprotocol
from spdyproto.limits import Deadlines, Limits


class FakeKubelet(BackgroundServer):
    """A kubelet in this process. Start it with ``with``, ``async with`` or ``start``.

    ``pods``: what it runs; by default pod ``default/demo`` with the scripted container ``main``. ``port`` 0 takes a
    free one. A ``host`` that is not loopback needs ``allow_remote=True``; real processes need
    ``allow_processes=True``.

    ``profile`` is the version that it is like: see ``fakekubelet.profiles``. ``protocols`` is what exec negotiates over
    SPDY instead; name fewer to force an old one, or none to refuse SPDY. ``websocket_protocols`` is the same over
    WebSocket, where "" stands for a client that asks for none: ``CRI_WEBSOCKET``, as kubelets up to 1.35, or
    ``ALL_WEBSOCKET``, which has v5 too, as kubelets from 1.36 on.

    ``tokens`` maps bearer tokens to users; ``token_check`` judges all other tokens (``webhooks.TokenReview``, or a
    function); ``anonymous`` admits requests without any credential. ``authorize`` says what they may do:
    ``AccessRules``, ``webhooks.SubjectAccessReview``, a function. ``streams_need_create`` asks for ``create``
    where a WebSocket's GET opens a stream, which no kubelet does.

    Pods may forward to real ports of this host with ``allow_loopback_ports=True``. ``forward_grace`` is how many
    seconds a forwarded connection lives on when one of its directions has ended: containerd's one second, or None for
    a true half-close.

    ``transcript`` keeps what clients sent and got, as much of it as it was made for; ``Transcript(exchanges=0)`` keeps
    nothing. ``faults`` is what goes wrong with every session (``fakekubelet.faults``).

    ``serving`` disables endpoints and HTTP/2, and opens the ports without TLS (``node.Serving``). ``machine`` is what
    the node tells of itself: its size, its own logs, its configuration (``node.Machine``).

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
        allow_loopback_ports: bool = False,
        forward_grace: float | None = CONTAINERD_GRACE,
        node_name: str = "fake-node",
        profile: str | Profile = DEFAULT,
        protocols: Iterable[Subprotocol] | None = None,
        websocket_protocols: Iterable[str] | None = None,
        tokens: Mapping[str, User] | None = None,
        token_check: TokenCheck | None = None,
        anonymous: bool = False,
        authorize: Authorizer = always_allow,
        streams_need_create: bool = False,
        serving: Serving = Serving(),
        machine: Machine = Machine(),
        ca: CertificateAuthority | None = None,
        limits: Limits | None = None,
        deadlines: Deadlines | None = None,
        timeouts: Timeouts | None = None,
        max_connections: int = MAX_CONNECTIONS,
        transcript: Transcript | None = None,
        faults: Iterable[Fault] = (),
    ) -> None:
        super().__init__("the fake kubelet", "fakekubelet")
        self._host, self._port = checked_host(host, allow_remote), port
        self.authority = ca or CertificateAuthority.create()
        """The authority that the server's certificate and all client certificates come from."""
        self.faults: Sequence[Fault] = tuple(faults)
        """What goes wrong with the sessions that begin from now on; assign others at any time."""
        self.transcript = Transcript() if transcript is None else transcript
        """What clients sent and got."""
        self._processes = ProcessHost() if allow_processes else None
        self.pods = PodTable(
            _DEFAULT_PODS if pods is None else pods, self._processes, allow_loopback_ports=allow_loopback_ports
        )
        """The declared pods; add and remove them while the server runs."""
        version = find_profile(profile)
        self._node = Node(
            name=node_name,
            host_ip="127.0.0.1" if self._host in ("0.0.0.0", "::") else self._host,
            pods=self.pods,
            authenticator=Authenticator(self.authority, tokens=tokens, token_check=token_check, anonymous=anonymous),
            authorize=authorize,
            protocols=tuple(map(Subprotocol, version.spdy if protocols is None else protocols)),
            websocket_protocols=checked_names(
                version.websocket if websocket_protocols is None else websocket_protocols
            ),
            profile=version,
            serving=serving,
            machine=machine,
            streams_create=streams_need_create,
            forward_grace=forward_grace,
        )
        self._settings = Settings.of(limits, deadlines, timeouts, max_connections)

    # -- what a client needs -----------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """``https://HOST:PORT``. Raises RuntimeError before the server was started."""
        if not self.started:
            raise RuntimeError("the fake kubelet has no address yet: start it first")
        shown = f"[{self._node.host_ip}]" if ":" in self._node.host_ip else self._node.host_ip
        return f"https://{shown}:{self._port}"

    @property
    def port(self) -> int:
        """The port, known once the server was started."""
        return self._port

    @property
    def read_only_port(self) -> int | None:
        """The port without TLS and authentication, if there is one."""
        return self._node.ports.get("read_only")

    @property
    def healthz_port(self) -> int | None:
        """The port of ``/healthz`` alone, if there is one."""
        return self._node.ports.get("healthz")

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
        return list(self._node.executions)

    @property
    def forwards(self) -> list[Forwarded]:
        """The forwarded connections, oldest first (the last thousand); open ones among them."""
        return list(self._node.forwards)

    def main_process(self, pod: str, container: str = "main") -> Execution:
        """The record of a container's main process; ``pod`` is ``NAMESPACE/NAME``. Raises KeyError if there is none."""
        main = self.pods.main(pod, container)
        if main is None:
            raise KeyError(f"{pod}/{container}")
        return main.execution

    # -- its life, on the loop ---------------------------------------------------------------------------------------

    async def _serve(self, loop: asyncio.AbstractEventLoop, ready: Callable[[], Awaitable[object]]) -> None:
        names = dict.fromkeys(("localhost", "127.0.0.1", "::1", self._node.name, self._node.host_ip))
        leaf = self.authority.issue_server(names, common_name=f"system:node:{self._node.name}")
        serving = self._node.serving
        alpn = ("h2", "http/1.1") if serving.http2 else ("http/1.1",)
        tls = ServerTLS(leaf, client_ca=self.authority.cert_pem, alpn=alpn)
        router = Router(self._node)
        open_ports: list[tuple[asyncio.Server, Listening]] = []

        async def listen(application: Application, make_pipe: Callable[[], Pipe], host: str, port: int) -> int:
            listening = Listening(loop, application, make_pipe, self._settings, self.session_log)
            server = await loop.create_server(listening.connection, host, port, backlog=BACKLOG)
            open_ports.append((server, listening))
            bound: int = server.sockets[0].getsockname()[1]
            return bound

        try:
            application = recorded(FaultyApplication(router, lambda: self.faults), self.transcript)
            self._node.port = self._port = await listen(application, tls.pipe, self._host, self._port)
            read_only, healthz = serving.read_only_port, serving.healthz_port
            if read_only is not None:
                plain = Router(self._node, read_only=True, counts=router.counts)
                self._node.ports["read_only"] = await listen(plain, PlainPipe, self._host, read_only)
            if healthz is not None:
                health = HealthRouter(self._node)
                self._node.ports["healthz"] = await listen(health, PlainPipe, "127.0.0.1", healthz)
            self.pods.start(loop)
            await ready()
        finally:
            for server, _ in open_ports:
                await stop_accepting(loop, server)
            for _, listening in open_ports:
                await listening.close()
            await self.pods.close(CLOSE_SECONDS)
            if self._processes is not None:
                self._processes.close()


_DEFAULT_PODS = (Pod("default/demo", ports=DEMO_PORTS),)


def checked_host(host: str, allow_remote: bool) -> str:
    """The address to listen on. Raises ValueError for a name, PermissionError for an address that is not loopback,
    unless that was allowed."""
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

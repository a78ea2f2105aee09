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
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from fakekubelet.auth import Authenticator, Authorizer, User, always_allow
from fakekubelet.background import BackgroundServer
from fakekubelet.connection import Timeouts
from fakekubelet.faults import Fault
from fakekubelet.forwarding import CONTAINERD_GRACE, Forwarded
from fakekubelet.injection import FaultyApplication
from fakekubelet.listening import BACKLOG, CLOSE_SECONDS, MAX_CONNECTIONS, Listening, Settings
from fakekubelet.pki import CertificateAuthority, IssuedCertificate
from fakekubelet.pods import Pod, PodTable
from fakekubelet.ports import Port, discard, echo, http
from fakekubelet.processes import ProcessHost
from fakekubelet.profiles import DEFAULT, Profile
from fakekubelet.profiles import profile as find_profile
from fakekubelet.recording import recorded
from fakekubelet.routes import Node, Router
from fakekubelet.runtimes import Execution
from fakekubelet.servertls import ServerTLS
from fakekubelet.transcript import Transcript
from fakekubelet.websockets import checked_names
from spdyproto.channels.subprotocols import Subprotocol
from spdyproto.limits import Deadlines, Limits

EXECUTIONS_KEPT = 1000
"""How many past executions ``FakeKubelet.executions`` remembers."""


class FakeKubelet(BackgroundServer):
    """A kubelet in this process. Start it with ``with``, ``async with`` or ``start``.

    ``pods``: what it runs; by default pod ``default/demo`` with the scripted container ``main``. ``port`` 0 takes a
    free one. A ``host`` that is not loopback needs ``allow_remote=True``; real processes need
    ``allow_processes=True``.

    Pods may forward to real ports of this host with ``allow_loopback_ports=True``. ``forward_grace`` is how many
    seconds a forwarded connection lives on when one of its directions has ended: containerd's one second, or None for
    a true half-close.

    ``profile`` is the version of Kubernetes, ``"1.29"``, ``"1.31"``, ``"1.35"`` or ``"1.36"``, or ``"strict"``: what it
    speaks, serves and says (``fakekubelet.profiles``). ``protocols``, what exec negotiates over SPDY, and
    ``websocket_protocols``, the same over WebSocket ("" stands for a client that asks for none), replace what the
    profile has: name fewer to force an old one, or none to refuse the transport.

    ``transcript`` keeps what clients sent and got, as much of it as it was made for; ``Transcript(exchanges=0)`` keeps
    nothing. ``faults`` is what goes wrong with every session (``fakekubelet.faults``).

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
        allow_loopback_ports: bool = False,
        forward_grace: float | None = CONTAINERD_GRACE,
        node_name: str = "fake-node",
        profile: str | Profile = DEFAULT,
        protocols: Iterable[Subprotocol] | None = None,
        websocket_protocols: Iterable[str] | None = None,
        tokens: Mapping[str, User] | None = None,
        anonymous: bool = False,
        authorize: Authorizer = always_allow,
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
        """What goes wrong with the sessions that begin from now on (``fakekubelet.faults``); assign others at any
        time."""
        self.transcript = Transcript() if transcript is None else transcript
        """What clients sent and got."""
        self._processes = ProcessHost() if allow_processes else None
        self.pods = PodTable(
            _DEFAULT_PODS if pods is None else pods, self._processes, allow_loopback_ports=allow_loopback_ports
        )
        """The declared pods; add and remove them while the server runs."""
        version = find_profile(profile)
        chosen = version.spdy if protocols is None else tuple(Subprotocol(protocol) for protocol in protocols)
        over_websocket = checked_names(version.websocket if websocket_protocols is None else websocket_protocols)
        if not chosen and not over_websocket:
            raise ValueError("protocols and websocket_protocols: name at least one protocol in either")
        self._node = Node(
            name=node_name,
            profile=version,
            host_ip="127.0.0.1" if self._host in ("0.0.0.0", "::") else self._host,
            pods=self.pods,
            authenticator=Authenticator(self.authority, tokens=tokens, anonymous=anonymous),
            authorize=authorize,
            protocols=chosen,
            websocket_protocols=over_websocket,
            executions=deque(maxlen=EXECUTIONS_KEPT),
            forwards=deque(maxlen=EXECUTIONS_KEPT),
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
        tls = ServerTLS(leaf, client_ca=self.authority.cert_pem)
        application = recorded(FaultyApplication(Router(self._node), lambda: self.faults), self.transcript)
        listening = Listening(loop, application, tls.pipe, self._settings, self.session_log)
        server = await loop.create_server(listening.connection, self._host, self._port, backlog=BACKLOG)
        try:
            self._port = server.sockets[0].getsockname()[1]
            self.pods.start(loop)
            await ready()
        finally:
            server.close()
            await listening.close()
            await self.pods.close(CLOSE_SECONDS)
            if self._processes is not None:
                self._processes.close()


_DEFAULT_PODS = (Pod("default/demo", ports={7: echo, 9: discard, 80: Port(http, name="http")}),)


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

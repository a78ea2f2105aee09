"""The fake kube-apiserver: declared objects, and streams to the kubelets of declared nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence

from fakekubelet.apiserver.application import ApiserverApplication, Services
from fakekubelet.apiserver.forwarding import Forwarder
from fakekubelet.apiserver.gates import DEFAULT_PROFILE, gates_of
from fakekubelet.apiserver.locations import KubeletFinder
from fakekubelet.apiserver.rbac import AccessJudge, Rule, RuleTable
from fakekubelet.apiserver.resources import Object
from fakekubelet.apiserver.store import Store, namespace_document
from fakekubelet.apiserver.streams import StreamHandler
from fakekubelet.apiserver.translator import CLOSES_AT_ONCE
from fakekubelet.auth import Authenticator, User
from fakekubelet.background import BackgroundServer
from fakekubelet.connection import Timeouts
from fakekubelet.faults import Fault, parse_fault
from fakekubelet.injection import FaultyApplication
from fakekubelet.listening import BACKLOG, MAX_CONNECTIONS, Listening, Settings, stop_accepting
from fakekubelet.pki import CertificateAuthority, IssuedCertificate
from fakekubelet.recording import recorded
from fakekubelet.server import checked_host
from fakekubelet.servertls import ServerTLS
from fakekubelet.transcript import Transcript
from spdyproto.limits import Deadlines, Limits
from spdyproto.tls import client_context

KUBELET_CLIENT = "kube-apiserver-kubelet-client"
"""Who the apiserver is to a kubelet, as ``kubeadm`` names it."""

FAULTS = (CLOSES_AT_ONCE,)
"""Faults of real apiservers that this one has on request."""

_NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")


class FakeApiserver(BackgroundServer):
    """A kube-apiserver in this process; see ``FakeCluster`` for one with kubelets behind it.

    ``objects`` are manifests (as JSON has them) of what there is: nodes, pods, services ... ``store`` takes more at any
    time. Where a node's kubelet is stands in its status. Only kubelets at unicast addresses are dialled that are
    neither loopback nor link-local, and those among ``trusted_kubelets`` (address and port).

    Users are known by client certificates of ``ca`` and by ``tokens``; ``rules`` say what they may do (a list, or any
    function of ``Access``), besides the members of ``system:masters``, who may do everything. ``kubelet_ca`` (PEM) is
    what kubelets' certificates are verified with, the same ``ca`` by default; b"" verifies nothing, which is what a
    real apiserver does unless it is told otherwise. ``kubelet_identity`` is what it shows to them; by default ``ca``
    issues one.

    ``profile`` is the version of Kubernetes: see ``fakekubelet.apiserver.gates``. ``faults`` are those of
    ``FAULTS``, and any of ``fakekubelet.faults``; the attribute of that name takes others while it runs.

    Raises ValueError for arguments that make no sense, PermissionError for a ``host`` that is not loopback, without
    ``allow_remote=True``.
    """

    def __init__(
        self,
        objects: Iterable[Object] = (),
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        allow_remote: bool = False,
        profile: str = DEFAULT_PROFILE,
        tokens: Mapping[str, User] | None = None,
        anonymous: bool = False,
        rules: Iterable[Rule] | AccessJudge = (),
        faults: Iterable[Fault | str] = (),
        ca: CertificateAuthority | None = None,
        kubelet_ca: bytes | None = None,
        kubelet_identity: IssuedCertificate | None = None,
        trusted_kubelets: Collection[tuple[str, int]] = (),
        limits: Limits | None = None,
        deadlines: Deadlines | None = None,
        timeouts: Timeouts | None = None,
        max_connections: int = MAX_CONNECTIONS,
        transcript: Transcript | None = None,
    ) -> None:
        super().__init__("the fake apiserver", "fakeapiserver")
        self._host, self._port = checked_host(host, allow_remote), port
        own, self.faults = _apart(faults)
        self.transcript = Transcript() if transcript is None else transcript
        """What clients sent and got."""
        self.gates = gates_of(profile)
        """What the version of Kubernetes does."""
        self.authority = ca or CertificateAuthority.create()
        """The authority that the server's certificate and all client certificates come from."""
        self.store = Store()
        """The objects; ``put`` and ``delete`` change them from any thread."""
        for name in _NAMESPACES:
            self.store.put(namespace_document(name))
        self.store.put(_ca_document(self.authority.cert_pem))
        for each in objects:
            self.store.put(each)
        self.rules = RuleTable(() if callable(rules) else rules)
        """The rules in force, unless a function judges."""
        judge = rules if callable(rules) else self.rules.allows
        self.finder = KubeletFinder(trusted_kubelets)
        """How kubelets are found, and which are trusted."""
        verified = self.authority.cert_pem if kubelet_ca is None else kubelet_ca
        identity = kubelet_identity or self.authority.issue_client(KUBELET_CLIENT, ("kubeadm:cluster-admins",))
        context = client_context(
            ca=verified or None, certificate=identity.cert_pem, key=identity.key_pem, verify=bool(verified)
        )
        known = dict(tokens or {})
        self._services = Services(
            store=self.store,
            authenticator=Authenticator(self.authority, tokens=known, anonymous=anonymous),
            tokens=known,
            judge=judge,
            gates=self.gates,
            streams=StreamHandler(self.store, self.finder, context, judge, self.gates, own),
            forwarder=Forwarder(self.store, self.finder, context),
            metrics=self._metrics,
        )
        self._settings = Settings.of(limits, deadlines, timeouts, max_connections)

    def _metrics(self) -> bytes:
        return self.session_log.render()

    @property
    def url(self) -> str:
        """``https://HOST:PORT``. Raises RuntimeError before the server was started."""
        if not self.started:
            raise RuntimeError("the fake apiserver has no address yet: start it first")
        return f"https://{self._address}"

    @property
    def _address(self) -> str:
        host = "127.0.0.1" if self._host in ("0.0.0.0", "::") else self._host
        return f"[{host}]:{self._port}" if ":" in host else f"{host}:{self._port}"

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

    async def _serve(self, loop: asyncio.AbstractEventLoop, ready: Callable[[], Awaitable[object]]) -> None:
        names = ("localhost", "127.0.0.1", "::1", "kubernetes", "kubernetes.default.svc", self._host)
        leaf = self.authority.issue_server(dict.fromkeys(names), common_name="kube-apiserver")
        tls = ServerTLS(leaf, client_ca=self.authority.cert_pem, alpn=("h2", "http/1.1"))
        services = self._services
        application = recorded(FaultyApplication(ApiserverApplication(services), lambda: self.faults), self.transcript)
        listening = Listening(loop, application, tls.pipe, self._settings, self.session_log)
        services.streams.host = listening
        server = await loop.create_server(listening.connection, self._host, self._port, backlog=BACKLOG)
        try:
            self._port = server.sockets[0].getsockname()[1]
            services.address = self._address
            await ready()
        finally:
            await stop_accepting(loop, server)
            await listening.close()
            await services.forwarder.close()


def _apart(faults: Iterable[Fault | str]) -> tuple[frozenset[str], Sequence[Fault]]:
    """Those of the apiserver's own making, and those of any session (``FakeApiserver.faults``)."""
    own, common = set(), []
    for fault in faults:
        if not isinstance(fault, str):
            common.append(fault)
        elif fault in FAULTS:
            own.add(fault)
        else:
            try:
                common.append(parse_fault(fault))
            except ValueError as error:
                raise ValueError(f"{error}; or, of an apiserver alone, {', '.join(FAULTS)}") from None
    return frozenset(own), tuple(common)


def _ca_document(pem: bytes) -> Object:
    """What every namespace of a cluster publishes, here in the one where clients look for it."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "kube-root-ca.crt", "namespace": "default"},
        "data": {"ca.crt": pem.decode("ascii")},
    }

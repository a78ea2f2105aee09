"""A fake cluster: kubelets, and an apiserver in front of them that ``kubectl`` cannot tell from a real one.

::

    with FakeCluster(nodes=2) as cluster:
        subprocess.run(["kubectl", "--kubeconfig", cluster.kubeconfig, "exec", "demo", "--", "echo", "hello"])

Every server runs its loop in a thread of its own; the object is safe to use from any thread.
"""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from fakekubelet.access import node_access
from fakekubelet.apiserver.gates import DEFAULT_PROFILE, EXTEND_FEATURE
from fakekubelet.apiserver.locations import PODS
from fakekubelet.apiserver.nodes import node_document
from fakekubelet.apiserver.rbac import AccessJudge, Rule
from fakekubelet.apiserver.resources import Object
from fakekubelet.apiserver.server import KUBELET_CLIENT, FakeApiserver
from fakekubelet.apiserver.store import Store
from fakekubelet.auth import Attributes, User
from fakekubelet.faults import Fault
from fakekubelet.forwarding import CONTAINERD_GRACE
from fakekubelet.pki import CertificateAuthority, IssuedCertificate
from fakekubelet.pods import Pod
from fakekubelet.ports import DEMO_PORTS
from fakekubelet.server import FakeKubelet
from spdyproto.channels.subprotocols import Subprotocol

EXTENSION = "kubewire"
"""The name of the extension of a kubeconfig's cluster that says what only this project's client wants to know."""


class FakeCluster:
    """Start it with ``with``, ``async with`` or ``start``.

    ``nodes`` is how many kubelets there are (``node-1`` ...), or their names. ``pods`` are dealt to them in turn, or
    given as a mapping from the node's name; those of the name "" are on no node, as pods that wait to be scheduled.
    By default there is one pod, ``default/demo`` with the scripted container ``main``. ``objects`` are manifests of
    anything else: Services, Deployments, ConfigMaps ...

    ``rules`` and ``tokens`` are the apiserver's and the kubelets' alike: who may ``create nodes/proxy`` may go straight
    to a kubelet. ``profile`` is the version of Kubernetes; ``protocols`` and ``websocket_protocols`` are the kubelets',
    the latter by default what that version has. ``faults`` are the apiserver's: see ``fakekubelet.apiserver.server``;
    kubelets take theirs by assignment (``cluster.kubelets["node-1"].faults``). What else is given (``anonymous``,
    ``deadlines``, ``limits``, ``timeouts``) goes to every server, ``allow_processes``, ``allow_loopback_ports`` and
    ``forward_grace`` to the kubelets.

    Raises ValueError and PermissionError as ``FakeKubelet`` and ``FakeApiserver`` do.
    """

    def __init__(
        self,
        nodes: int | Sequence[str] = 1,
        pods: Iterable[Pod] | Mapping[str, Iterable[Pod]] | None = None,
        objects: Iterable[Object] = (),
        *,
        profile: str = DEFAULT_PROFILE,
        tokens: Mapping[str, User] | None = None,
        rules: Iterable[Rule] | AccessJudge = (),
        host: str = "127.0.0.1",
        port: int = 0,
        allow_remote: bool = False,
        allow_processes: bool = False,
        allow_loopback_ports: bool = False,
        forward_grace: float | None = CONTAINERD_GRACE,
        faults: Iterable[Fault | str] = (),
        protocols: Iterable[Subprotocol] | None = None,
        websocket_protocols: Iterable[str] | None = None,
        ca: CertificateAuthority | None = None,
        **settings: Any,  # noqa: ANN401 - each server checks its own
    ) -> None:
        names = [f"node-{number + 1}" for number in range(nodes)] if isinstance(nodes, int) else list(nodes)
        if not names or len(set(names)) != len(names):
            raise ValueError(f"nodes: expected one or more, with different names, got {nodes!r}")
        self.authority = ca or CertificateAuthority.create()
        """The authority of all certificates."""
        settings |= {"profile": profile, "tokens": tokens, "ca": self.authority}
        self.apiserver = FakeApiserver(
            objects,
            host=host,
            port=port,
            allow_remote=allow_remote,
            rules=rules,
            faults=faults,
            **settings,
        )
        """The server in front."""
        self._judge: AccessJudge = rules if callable(rules) else self.apiserver.rules.allows
        spoken = {"protocols": protocols, "websocket_protocols": websocket_protocols}
        common: dict[str, Any] = {key: value if value is None else tuple(value) for key, value in spoken.items()}
        placed = _placed(names, (Pod("default/demo", ports=DEMO_PORTS),) if pods is None else pods)
        self.kubelets = {
            name: FakeKubelet(
                placed.get(name, ()),
                node_name=name,
                authorize=self._allows,
                allow_processes=allow_processes,
                allow_loopback_ports=allow_loopback_ports,
                forward_grace=forward_grace,
                **common,
                **settings,
            )
            for name in names
        }
        """The kubelets by the names of their nodes."""
        self._waiting = list(placed.get("", ()))
        self._folder: Path | None = None
        self._stack = ExitStack()

    # -- what a client needs -----------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The apiserver's ``https://HOST:PORT``. Raises RuntimeError before the cluster was started."""
        return self.apiserver.url

    @property
    def ca(self) -> bytes:
        """The certificate that clients must trust, PEM: the apiserver's and the kubelets' are signed by it."""
        return self.authority.cert_pem

    @property
    def store(self) -> Store:
        """The objects; ``put`` and ``delete`` change them from any thread. Pods are changed at their kubelets."""
        return self.apiserver.store

    @property
    def kubeconfig(self) -> Path:
        """A file with which ``kubectl`` and every other client reach this cluster, as a member of ``system:masters``.
        It is removed with the cluster."""
        if self._folder is None:
            raise RuntimeError("the fake cluster has no address yet: start it first")
        path = self._folder / "kubeconfig"
        if not path.exists():
            self.write_kubeconfig(path)
        return path

    def credentials(self, user: str = "kubewire", groups: Iterable[str] = ("system:masters",)) -> IssuedCertificate:
        """A new client certificate for a user, for the apiserver and, if the rules allow it, for kubelets."""
        return self.authority.issue_client(user, groups)

    def write_kubeconfig(
        self,
        path: str | os.PathLike[str],
        user: str = "kubewire",
        groups: Iterable[str] = ("system:masters",),
        *,
        token: str | None = None,
        namespace: str = "default",
    ) -> Path:
        """Write a kubeconfig (mode 0600) for a user with a new certificate, or with ``token``; answer its path."""
        identity = None if token is not None else self.credentials(user, groups)
        document = kubeconfig_document(self.url, self.ca, identity, token=token, user=user, namespace=namespace)
        target = Path(path)
        target.unlink(missing_ok=True)
        with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            yaml.safe_dump(document, file, sort_keys=False)
        return target

    # -- starting and closing ----------------------------------------------------------------------------------------

    def start(self) -> FakeCluster:
        """Start the kubelets, then the apiserver. Raises OSError if an address cannot be had."""
        with ExitStack() as stack:
            self._folder = Path(tempfile.mkdtemp(prefix="kubewire-cluster-"))
            stack.callback(shutil.rmtree, self._folder, ignore_errors=True)
            for kubelet in self.kubelets.values():
                stack.enter_context(kubelet)
            self._register()
            stack.enter_context(self.apiserver)
            self._stack = stack.pop_all()
        return self

    def close(self) -> None:
        """End everything, the apiserver first. Closing twice is allowed. Raises as ``FakeKubelet.close`` does."""
        self._stack.close()

    def __enter__(self) -> FakeCluster:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    async def __aenter__(self) -> FakeCluster:
        return await asyncio.to_thread(self.start)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._stack.__exit__, kind, error, trace)

    # -- what the apiserver knows ------------------------------------------------------------------------------------

    def _register(self) -> None:
        """The kubelets listen: tell the apiserver of the nodes and their pods."""
        release = self.apiserver.gates.release
        features = (EXTEND_FEATURE,) if self.apiserver.gates.extend else ()
        for name, kubelet in self.kubelets.items():
            host = kubelet.url.removeprefix("https://").rpartition(":")[0].strip("[]")
            self.apiserver.finder.trusted.add((host, kubelet.port))
            self.store.put(node_document(name, host, kubelet.port, release=release, features=features))
            kubelet.pods.subscribe(partial(self._changed, name, host))
            for pod in kubelet.pods:
                self._changed(name, host, pod.name, pod)
        for pod in self._waiting:
            status = {"phase": "Pending", "qosClass": "BestEffort"}
            self.store.put({"kind": "Pod", "apiVersion": "v1", **pod.manifest_document(""), "status": status})

    def _changed(self, node: str, host: str, key: str, pod: Pod | None) -> None:
        state = self.kubelets[node].pods.state(key) if pod is not None else None
        if state is not None:
            self.store.put({"kind": "Pod", "apiVersion": "v1", **state.document(node, host)})
            return
        namespace, _, name = key.partition("/")
        known = self.store.get(PODS, namespace, name)
        if known is not None and known.get("spec", {}).get("nodeName") == node:
            self.store.delete(PODS, namespace, name)

    def _allows(self, attributes: Attributes) -> bool:
        """A kubelet asks who may what with it."""
        if attributes.user.name == KUBELET_CLIENT:
            return True
        return self._judge(node_access(attributes))


def _placed(nodes: Sequence[str], pods: Iterable[Pod] | Mapping[str, Iterable[Pod]]) -> dict[str, list[Pod]]:
    if isinstance(pods, Mapping):
        unknown = set(pods).difference(nodes, ("",))
        if unknown:
            raise ValueError(f"pods: on nodes that there are not: {sorted(unknown)}; the nodes are {list(nodes)}")
        return {name: list(each) for name, each in pods.items()}
    placed: dict[str, list[Pod]] = {name: [] for name in nodes}
    for number, pod in enumerate(pods):
        placed[nodes[number % len(nodes)]].append(pod)
    return placed


def kubeconfig_document(
    url: str,
    ca: bytes,
    identity: IssuedCertificate | None,
    *,
    token: str | None = None,
    user: str = "kubewire",
    namespace: str = "default",
) -> Object:
    """A kubeconfig with everything in it. Its cluster carries an extension that lets this project's client go straight
    to nodes on loopback, which it would refuse else."""
    extension = {"name": EXTENSION, "extension": {"allow-loopback-nodes": True}}
    cluster = {"server": url, "certificate-authority-data": _base64(ca), "extensions": [extension]}
    entry: Object = {"token": token} if token is not None else {}
    if identity is not None:
        entry |= {"client-certificate-data": _base64(identity.cert_pem), "client-key-data": _base64(identity.key_pem)}
    return {
        "kind": "Config",
        "apiVersion": "v1",
        "clusters": [{"name": "fake", "cluster": cluster}],
        "users": [{"name": user, "user": entry}],
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": user, "namespace": namespace}}],
        "current-context": "fake",
    }


def _base64(pem: bytes) -> str:
    return base64.b64encode(pem).decode("ascii")

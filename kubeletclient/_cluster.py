"""The door of a cluster: from a pod, or an object that has pods, to the node and the way there.

The apiserver is asked for the pod, which gives the node, the state and the containers; then for the node, which gives
addresses and port. What is tried, and when the apiserver is used instead, is decided in ``routes``; here it is put in
order. A document that cannot be had closes a way, and is no more than that: under ``via="auto"`` an identity that may
not read nodes is served through the apiserver, which needs no more than the right to the pod's own subresource.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypedDict
from urllib.parse import urlencode

from kubeletclient import errors
from kubeletclient._door import Ask, Command, Fetch, Load, Open, PodRef, Reach, Way
from kubeletclient._ladder import Memory
from kubeletclient._settings import Settings
from kubeletclient._trust import ProxyChoice, Trust
from kubeletclient.credentials import Credentials
from kubeletclient.endpoints import Endpoint, Target, object_path
from kubeletclient.known_nodes import KnownNodes, Pin
from kubeletclient.routes import (
    ADDRESS_TYPES,
    FORGET_AFTER,
    NODES_REMEMBERED,
    Node,
    NodeAddress,
    Remembered,
    RouteMemory,
    Via,
    node_endpoints,
    parse_node,
    reason_to_pass_by,
)
from kubeletclient.selection import PodFacts, best_pod, parse_pod, parse_pods, selector_of
from spdyproto.limits import Deadlines, Keepalive, Limits
from spdyproto.pem import PathOrPEM, pem_file
from spdyproto.text import printable
from spdyproto.types import Tracer

__all__ = ["PUBLISHED", "ClusterDoor", "ClusterOptions", "NodePolicy", "Surroundings"]

AUTO_DIAL: Final = 3.0
"""Seconds for the dial, and for TLS, to a node under ``via="auto"``: a firewall that drops packets must not cost more,
for there is another way. ``via="kubelet"`` waits as long as ``Deadlines`` says."""

PUBLISHED: Final = (
    (None, "kube-root-ca.crt", "ca.crt"),
    ("openshift-config-managed", "kubelet-serving-ca", "ca-bundle.crt"),
)
"""ConfigMaps with authorities that may have signed the kubelets' certificates: namespace (None: the pod's own), name,
key. The first stands in every namespace (``kubernetes: pkg/controller/certificates/rootcacertpublisher``) and holds the
cluster's CA, which signs kubelets' certificates where they ask for them (``serverTLSBootstrap``)."""


@dataclass(frozen=True, slots=True)
class NodePolicy:
    """How nodes are gone to. See ``Cluster`` for the meaning of each."""

    credentials: Credentials | None = None
    ca: PathOrPEM | None = None
    verify: bool = True
    allow_unverified_token: bool = False
    known_nodes: KnownNodes | None = None
    address_types: Sequence[str] = ADDRESS_TYPES
    allow_local: bool = False
    proxy: ProxyChoice = None


@dataclass(frozen=True, slots=True)
class _Goal:
    """A node, what is wanted of it, and in which namespace to look for who signed its certificate."""

    node: str
    host_ip: str
    namespace: str
    verb: str
    target: Callable[[Way], Target]


class ClusterOptions(TypedDict, total=False):
    """The keyword arguments of ``Cluster``, in either flavour."""

    via: Via
    namespace: str | None
    kubelet_credentials: Credentials | None
    kubelet_ca: PathOrPEM | None
    kubelet_verify: bool
    known_nodes: KnownNodes | None
    address_types: Sequence[str]
    allow_loopback_nodes: bool | None
    allow_unverified_token: bool
    deadlines: Deadlines | None
    keepalive: Keepalive | None
    limits: Limits | None
    transport: str
    bearer_subprotocol: bool
    user_agent: str | None
    tracer: Tracer | None


class _PassBy(Exception):
    """The straight way is closed. ``error`` is for those who want no other."""

    def __init__(self, reason: str, error: errors.ClientError) -> None:
        super().__init__(reason)
        self.reason = reason
        self.error = error


@dataclass(frozen=True, slots=True)
class Surroundings:
    """A pod, its node, the ways to it (or why there is none to an address), and the addresses that were left out."""

    pod: PodFacts
    node: Node
    ways: tuple[Way | str, ...]
    left: tuple[str, ...]


@dataclass(slots=True)
class _Known:
    """What was learned, shared by all pods of one cluster object. Threads may share it: each change is one operation
    on a dict, and two that learn the same thing at the same time do no harm.
    """

    memory: RouteMemory = field(default_factory=RouteMemory)
    nodes: dict[str, tuple[Node, float]] = field(default_factory=dict)
    ways: dict[tuple[Endpoint, bool], Way] = field(default_factory=dict)
    trusts: dict[bool, Trust] = field(default_factory=dict)
    published: bytes | None = None


class ClusterDoor:
    """See the module."""

    def __init__(self, endpoint: Endpoint, settings: Settings, via: Via, policy: NodePolicy) -> None:
        self.way = Way("apiserver", endpoint, settings)
        self.via = via
        self.policy = policy
        self._known = _Known()

    # -- the pod -----------------------------------------------------------------------------------------------------

    def reach(self, pod: PodRef, container: str | None, ask: Ask) -> Reach:
        """See ``Door``."""
        via = pod.via or self.via
        named = container or not ask.of_a_container
        reason = ""
        facts: PodFacts | None = None
        if via != "apiserver" or pod.selected is not None or not named:
            try:
                facts = yield from self.find(pod)
            except errors.Forbidden as error:
                if via != "auto" or pod.selected is not None or not named:
                    raise
                reason = f"this identity may not read the pod, so its node is not known: {error.cause}"
        name = container or ""
        if facts is not None:
            self._check(facts, ask)
            pod = replace(pod, name=facts.name)
            if ask.of_a_container:
                name = facts.choose(container, "apiserver")
        if facts is not None and via != "apiserver":
            try:
                where, wanted = pod, name
                goal = _Goal(
                    facts.node, facts.host_ip, pod.namespace, ask.verb, lambda way: ask.target(way, where, wanted)
                )
                return (yield from self._straight(goal, via))
            except _PassBy as closed:
                if via == "kubelet":
                    raise closed.error from closed.error.__cause__
                reason = closed.reason
        target = ask.target(self.way, pod, name)
        return (yield from self._through_apiserver(target, facts.node if facts is not None else None, reason))

    def reach_node(self, node: str, via: Via | None, verb: str, target: Callable[[Way], Target]) -> Reach:
        """A plain request to a node's kubelet: straight, or by the apiserver's proxy, which is no way for upgrades."""
        via = via or self.via
        reason = ""
        if via != "apiserver":
            try:
                return (yield from self._straight(_Goal(node, "", "default", verb, target), via))
            except _PassBy as closed:
                if via == "kubelet":
                    raise closed.error from closed.error.__cause__
                reason = closed.reason
        return (yield from self._through_apiserver(target(self.way), node, reason))

    def find(self, pod: PodRef) -> Generator[Command, Any, PodFacts]:
        """The pod that is meant. Raises NotFound."""
        if pod.selected is None:
            document = yield self._get(object_path("pods", pod.namespace, pod.name), f"pod {pod.namespace}/{pod.name}")
            facts = parse_pod(document)
            if pod.uid not in (None, facts.uid):
                raise errors.NotFound(
                    f"pod {pod.namespace}/{pod.name} has another uid than {printable(pod.uid or '', limit=100)!r}",
                    hint="it was replaced by another pod of the same name",
                    route="apiserver",
                )
            return facts
        pods = yield from self.pods_of(pod)
        best = best_pod([facts for facts in pods if not facts.over] or pods)
        if best is None:
            raise errors.NotFound(
                f"{pod.selected} in namespace {pod.namespace} has no pods", hint="check its status", route="apiserver"
            )
        return best

    def pods_of(self, pod: PodRef) -> Generator[Command, Any, list[PodFacts]]:
        """All pods of the object that is meant."""
        selected = pod.selected
        assert selected is not None
        kind = selected.kind
        if kind is None:
            return [(yield from self.find(replace(pod, selected=None)))]
        path = object_path(kind.resource, pod.namespace, selected.name, kind.group)
        document = yield self._get(path, f"{selected} in namespace {pod.namespace}")
        return (yield from self.list_pods(pod.namespace, selector_of(document, selected)))

    def list_pods(self, namespace: str | None, selector: str = "") -> Generator[Command, Any, list[PodFacts]]:
        """The pods of a namespace, or of all, that have these labels."""
        path = object_path("pods", namespace)
        if selector:
            path += "?" + urlencode({"labelSelector": selector})
        where = f"namespace {namespace}" if namespace is not None else "all namespaces"
        return parse_pods((yield self._get(path, f"the list of pods in {where}")))

    def _get(self, path: str, what: str) -> Fetch:
        return Fetch(self.way, path, what)

    def _check(self, facts: PodFacts, ask: Ask) -> None:
        where = f"pod {facts.namespace}/{facts.name}"
        if not facts.node:
            raise errors.PodUnavailable(
                f"{where} is on no node yet", hint="wait until it is scheduled", route="apiserver"
            )
        if facts.over and ask.while_running:
            raise errors.PodUnavailable(
                f"{where} has ended ({facts.phase}): nothing runs in it", hint="its logs can be read", route="apiserver"
            )

    def look_around(self, pod: PodRef) -> Generator[Command, Any, Surroundings]:
        """What a person wants to know of the ways to a pod; nothing is tried."""
        facts = yield from self.find(pod)
        goal = _Goal(facts.node, facts.host_ip, facts.namespace, "exec", lambda way: Target(way.endpoint, "/", "/", ""))
        if not facts.node:
            return Surroundings(facts, Node("", ()), (), ())
        node = yield from self._node(goal)
        endpoints, left = node_endpoints(node, prefer=self.policy.address_types, allow_local=self.policy.allow_local)
        ways: list[Way | str] = []
        for endpoint in endpoints:
            try:
                ways.append((yield from self._way(endpoint, facts.namespace, self.via)))
            except _PassBy as closed:
                ways.append(f"{endpoint.authority}: {closed.reason}")
        return Surroundings(facts, node, tuple(ways), tuple(left))

    # -- through the apiserver ---------------------------------------------------------------------------------------

    def _through_apiserver(self, target: Target, node: str | None, reason: str) -> Reach:
        try:
            return (yield Open(self.way, replace(target, reason=reason)))
        except errors.ClientError as error:
            error.route_reason = reason
            if node is not None:
                self._known.memory.forget(node)
            raise

    # -- straight to the kubelet -------------------------------------------------------------------------------------

    def _straight(self, goal: _Goal, via: Via) -> Reach:
        self._check_identity(via)
        memory = self._known.memory
        remembered = memory.recall(goal.node, goal.verb, time.monotonic()) if via == "auto" else None
        if remembered is not None and remembered.endpoint is None:
            error = errors.ConnectError(remembered.reason, route="kubelet")
            raise _PassBy(f"{remembered.reason} (decided before)", error)
        node = yield from self._node(goal)
        endpoints, left = node_endpoints(node, prefer=self.policy.address_types, allow_local=self.policy.allow_local)
        if remembered is not None and remembered.endpoint in endpoints:
            endpoints.remove(remembered.endpoint)
            endpoints.insert(0, remembered.endpoint)
        if not endpoints:
            raise self._no_address(node, left)
        try:
            return (yield from self._try(goal, node, endpoints, left, via))
        except _PassBy as closed:
            self._known.nodes.pop(node.name, None)
            memory.learn(node.name, goal.verb, Remembered(None, closed.reason), time.monotonic())
            raise
        except errors.ClientError:
            self._known.nodes.pop(node.name, None)
            memory.forget(node.name)
            raise

    def _try(self, goal: _Goal, node: Node, endpoints: list[Endpoint], left: Sequence[str], via: Via) -> Reach:
        """One address after the other, as long as nothing answers."""
        reasons: list[str] = []
        first: errors.ClientError | None = None
        for endpoint in endpoints:
            way = yield from self._way(endpoint, goal.namespace, via)
            reason = f"node {node.name} answers at {endpoint.authority}"
            try:
                session = yield Open(way, replace(goal.target(way), reason=reason))
            except errors.ClientError as error:
                error.route_reason = reason
                why = reason_to_pass_by(error)
                if why is None:
                    error.hint = _ways_out(error, endpoint) or error.hint
                    raise
                first = first or error
                reasons.append(why)
                if not isinstance(error, errors.ConnectError):
                    break
            else:
                self._known.memory.learn(node.name, goal.verb, Remembered(endpoint), time.monotonic())
                return session
        assert first is not None, "there is always an address"
        if node.ready is False:
            reasons.append(f"node {node.name} is not ready: {printable(node.condition, limit=200)}")
        reasons += left
        if reasons[1:]:
            first.cause = f"{first.cause} ({'; '.join(reasons[1:])})"
        raise _PassBy("; ".join(reasons), first)

    def _check_identity(self, via: Via) -> None:
        """Whether there is something to show to a node, and nothing that only the apiserver understands."""
        trust = self.way.settings.trust
        if trust.impersonate is not None:
            reason = "a kubelet knows nothing of impersonation"
            hint = "use the apiserver, or leave the impersonation out"
            raise _PassBy(reason, errors.CredentialsError(reason, hint=hint, route="kubelet"))
        if via == "auto" and self._credentials(via) is None:
            reason = (
                "there is no client certificate to show to the node"
                if trust.credentials is None
                else "the cluster's token is not shown to nodes"
            )
            hint = "give credentials for kubelets, or allow it with via='kubelet'"
            raise _PassBy(reason, errors.CredentialsError(reason, hint=hint, route="kubelet"))

    def _credentials(self, via: Via) -> Credentials | None:
        """What a node is shown: what was meant for kubelets, else the cluster's, without its token under ``auto``."""
        own = self.policy.credentials
        cluster = self.way.settings.trust.credentials
        if own is not None or cluster is None:
            return own
        return cluster if via == "kubelet" else cluster.certificate_only()

    def _no_address(self, node: Node, left: Sequence[str]) -> _PassBy:
        why = f"node {node.name} has no address to go to" + (f" ({'; '.join(left)})" if left else "")
        error = errors.ConnectError(
            printable(why, limit=500),
            hint="allow it with allow_loopback_nodes=True, or choose other types of addresses",
            route="kubelet",
        )
        return _PassBy(error.cause, error)

    # -- the node ----------------------------------------------------------------------------------------------------

    def _node(self, goal: _Goal) -> Generator[Command, Any, Node]:
        """The node, as it was seen lately. Where it cannot be read, the pod's own ``hostIP`` is an address of it."""
        known = self._known.nodes.get(goal.node)
        now = time.monotonic()
        if known is not None and now < known[1]:
            return known[0]
        try:
            node = parse_node((yield self._get(object_path("nodes", None, goal.node), f"node {goal.node}")))
        except (errors.Forbidden, errors.NotFound):
            if not goal.host_ip:
                raise
            node = Node(goal.node, (NodeAddress("InternalIP", goal.host_ip),))
        if len(self._known.nodes) >= NODES_REMEMBERED:
            self._known.nodes.clear()
        self._known.nodes[goal.node] = (node, now + FORGET_AFTER)
        return node

    def _way(self, endpoint: Endpoint, namespace: str, via: Via) -> Generator[Command, Any, Way]:
        """The way to this kubelet, with whom to trust there. Raises _PassBy where that is not known."""
        known, settings = self._known, self.way.settings
        pin: Pin | None = None
        if self.policy.known_nodes is not None and self.policy.ca is None and self.policy.verify:
            nodes = self.policy.known_nodes
            pin = yield Load(lambda: nodes.lookup(endpoint.host, endpoint.port))
        way = known.ways.get((endpoint, via == "auto"))
        if way is not None and way.settings.trust.pinned == (pin.pem if pin is not None else None):
            return way
        trust = self._pinned(pin, via) if pin is not None else (yield from self._trust(namespace, via))
        deadlines = settings.deadlines
        if via == "auto":
            dial, tls = (min(AUTO_DIAL, step or AUTO_DIAL) for step in (deadlines.dial, deadlines.tls))
            deadlines = replace(deadlines, dial=dial, tls=tls)
        settings = replace(
            settings, trust=trust, deadlines=deadlines, memory=Memory(), allow_local=self.policy.allow_local
        )
        way = Way("kubelet", endpoint, settings)
        if len(known.ways) >= NODES_REMEMBERED:
            known.ways.clear()
        known.ways[endpoint, via == "auto"] = way
        return way

    def _pinned(self, pin: Pin, via: Via) -> Trust:
        return Trust(pinned=pin.pem, credentials=self._credentials(via), proxy=self.policy.proxy)

    def _trust(self, namespace: str, via: Via) -> Generator[Command, Any, Trust]:
        """One for all nodes that are not pinned, so that they share a TLS context."""
        known, policy = self._known, self.policy
        trust = known.trusts.get(via == "auto")
        if trust is not None:
            return trust
        ca: PathOrPEM | None = policy.ca
        if ca is None and policy.verify:
            if known.published is None:
                known.published = yield from self._published(namespace)
            ca = known.published
            if not ca:
                reason = "it is not known who signs the kubelets' certificates"
                hint = "give kubelet_ca=, or pin the node with kubewire trust"
                raise _PassBy(reason, errors.CredentialsError(reason, hint=hint, route="kubelet"))
        known.trusts[via == "auto"] = trust = Trust(
            ca=ca,
            verify=policy.verify,
            credentials=self._credentials(via),
            allow_unverified_token=policy.allow_unverified_token,
            proxy=policy.proxy,
        )
        return trust

    def _published(self, namespace: str) -> Generator[Command, Any, bytes]:
        """The authorities that the cluster publishes, and its own."""
        found: list[bytes] = []
        own = self.way.settings.trust.ca
        if own is not None:
            found.append((yield Load(lambda: _read(own))))
        for where, name, key in PUBLISHED:
            path = object_path("configmaps", where or namespace, name)
            try:
                document = yield self._get(path, f"ConfigMap {name}")
            except errors.UpgradeRefused:
                continue
            data = document.get("data") if isinstance(document, dict) else None
            text = data.get(key) if isinstance(data, dict) else None
            if isinstance(text, str) and "-----BEGIN CERTIFICATE-----" in text:
                found.append(text.encode())
        return b"\n".join(found)


def _ways_out(error: errors.ClientError, endpoint: Endpoint) -> str:
    """What to do about a certificate that cannot be verified; empty for other errors."""
    pin = f"pin it with kubewire trust {endpoint.authority}"
    other = "go through the apiserver (via='apiserver', --via apiserver)"
    if isinstance(error, errors.UnknownAuthorityError):
        return f"{pin}, give who signed it (kubelet_ca=, --kubelet-certificate-authority), or {other}"
    if isinstance(error, errors.CertificateNameError):
        return f"choose another type of address (address_types=, --address-types), {pin}, or {other}"
    return ""


def _read(ca: PathOrPEM) -> bytes:
    if isinstance(ca, bytes):
        return ca
    with pem_file(ca) as path, open(path, "rb") as stream:
        return stream.read()

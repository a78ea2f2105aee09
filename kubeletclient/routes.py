"""Which way leads to a pod: straight to its node's kubelet, or through the apiserver. Decisions only, no I/O.

Going straight is quicker and costs the apiserver nothing, and it is no way around security: a kubelet asks the
apiserver whether the caller may. So ``via="auto"`` tries it first, under these rules:

- a secret that is meant for the apiserver (a token, a password) is never shown to a node. Only a client certificate is,
  which proves an identity without giving it away, or credentials that were given for kubelets. ``via="kubelet"`` says
  that the node may see them;
- a node that cannot be reached, or that does not serve this, is passed by: the apiserver may reach it;
- a node whose identity cannot be verified is an error, and never passed by: someone may be in between;
- a refusal (401, 403) is passed by under ``auto``, and reported with the result; under ``via="kubelet"`` it is final;
- anything that the kubelet says about the pod, the container or the command is final, on each way.

What an apiserver's proxy does is from ``kubernetes: pkg/kubelet/client/kubelet_client.go`` (address and port).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias, cast, get_args

from kubeletclient import errors
from kubeletclient.endpoints import KUBELET_PORT, Endpoint, local_address

__all__ = [
    "ADDRESS_TYPES",
    "FORGET_AFTER",
    "NODES_REMEMBERED",
    "REFUSED",
    "Node",
    "NodeAddress",
    "Remembered",
    "RouteMemory",
    "Via",
    "check_via",
    "node_endpoints",
    "parse_node",
    "reason_to_pass_by",
]

Via: TypeAlias = Literal["auto", "kubelet", "apiserver"]

ADDRESS_TYPES: Final = ("InternalIP", "ExternalIP", "Hostname", "InternalDNS", "ExternalDNS")
"""Which of a node's addresses to take, best first. The order of kubeadm's apiservers, and then the rest."""

FORGET_AFTER: Final = 600.0
"""Seconds after which a decision is made anew: nodes are moved, firewalls opened, rights given."""

NODES_REMEMBERED: Final = 4096
"""Nodes that decisions are kept for; of more the oldest are forgotten. The largest clusters have 5,000 nodes."""


def check_via(via: str) -> Via:
    """``via`` itself. Raises ValueError for anything that is not one of the three."""
    for known in get_args(Via):
        if via == known:
            return cast(Via, known)
    raise ValueError(f"via {via!r} is unknown: expected auto, kubelet or apiserver")


# -- a node ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """One entry of ``node.status.addresses``: its type, e.g. ``InternalIP``, and the address or name."""

    kind: str
    address: str


@dataclass(frozen=True, slots=True)
class Node:
    """What the cluster says of a node. ``ready`` is None where it does not say, ``condition`` the reason given."""

    name: str
    addresses: tuple[NodeAddress, ...]
    port: int = KUBELET_PORT
    ready: bool | None = None
    condition: str = ""
    version: str = ""


def parse_node(document: Any) -> Node:  # noqa: ANN401 - JSON
    """The node that this JSON object describes; parts of another shape than they should have count as missing."""
    metadata, status = _mapping(document, "metadata"), _mapping(document, "status")
    addresses = [
        NodeAddress(kind, address)
        for item in _list(status.get("addresses"))
        if isinstance(item, Mapping)
        and isinstance(kind := item.get("type"), str)
        and isinstance(address := item.get("address"), str)
        and address
    ]
    port = _mapping(_mapping(status, "daemonEndpoints"), "kubeletEndpoint").get("Port")
    ready, condition = None, ""
    for item in _list(status.get("conditions")):
        if isinstance(item, Mapping) and item.get("type") == "Ready":
            ready = item.get("status") == "True"
            condition = "" if ready else str(item.get("message") or item.get("reason") or "")
    version = _mapping(status, "nodeInfo").get("kubeletVersion")
    return Node(
        str(metadata.get("name") or ""),
        tuple(addresses),
        port if isinstance(port, int) and 0 < port < 65536 else KUBELET_PORT,
        ready,
        condition,
        version if isinstance(version, str) else "",
    )


def _mapping(value: Any, name: str) -> Mapping[str, Any]:  # noqa: ANN401 - JSON
    inner = value.get(name) if isinstance(value, Mapping) else None
    return inner if isinstance(inner, Mapping) else {}


def _list(value: Any) -> Sequence[Any]:  # noqa: ANN401 - JSON
    return value if isinstance(value, list) else []


def node_endpoints(
    node: Node, *, prefer: Sequence[str] = ADDRESS_TYPES, allow_local: bool = False
) -> tuple[list[Endpoint], list[str]]:
    """Where the node's kubelet may be, best first; and why each of the other addresses was left out.

    Types that ``prefer`` does not name are not used. An address that stands twice is tried once.
    """
    endpoints: dict[str, Endpoint] = {}
    left: list[str] = []
    for kind in prefer:
        for entry in node.addresses:
            if entry.kind != kind or entry.address in endpoints:
                continue
            why = None if allow_local else local_address(entry.address)
            if why is not None:
                left.append(f"{entry.kind} {entry.address}: {why}")
            else:
                endpoints[entry.address] = Endpoint(True, entry.address, node.port)
    left += [f"{entry.kind} {entry.address}: not asked for" for entry in node.addresses if entry.kind not in prefer]
    return list(endpoints.values()), left


# -- what a failure means ----------------------------------------------------------------------------------------------


REFUSED: Final = "the kubelet refused"
"""How the reason begins when the kubelet answered, and did not let the caller in. People are told of it."""


def reason_to_pass_by(error: errors.ClientError) -> str | None:
    """Why ``via="auto"`` goes on to the apiserver after the kubelet failed like this; None when it is final."""
    if isinstance(error, errors.CertificateVerifyError | errors.NotTLSError):
        return None  # someone else may be answering there
    if isinstance(error, errors.ClientCertificateRejected):
        return f"{REFUSED} this client certificate: {error.cause}"
    if isinstance(error, errors.ConnectError):
        return f"the node cannot be reached: {error.cause}"
    if isinstance(error, errors.Unauthorized):
        return f"{REFUSED} these credentials (HTTP 401{_said(error)})"
    if isinstance(error, errors.Forbidden):
        return f"{REFUSED} this identity (HTTP 403{_said(error)})"
    if isinstance(error, errors.ProtocolNotSupported | errors.UpgradeMissing):
        return f"the kubelet does not serve this: {error.cause}"
    if error.http_status == _DISABLED:
        return f"the kubelet does not serve this (HTTP 405{_said(error)})"
    return None


_DISABLED: Final = 405
"""A kubelet with ``enableDebuggingHandlers: false`` answers it to exec, attach, port-forward and logs."""


def _said(error: errors.ClientError) -> str:
    message = getattr(error, "message", "")
    return f": {message}" if message else ""


# -- what is remembered ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Remembered:
    """A decision: the kubelet's address that answered, or None and the reason why the apiserver is used."""

    endpoint: Endpoint | None
    reason: str = ""


@dataclass(slots=True)
class RouteMemory:
    """Decisions by node and verb (a kubelet may let an identity read logs and not run commands).

    Threads may share it: each call is one operation on a dict.
    """

    _known: dict[tuple[str, str], tuple[Remembered, float]] = field(default_factory=dict)

    def recall(self, node: str, verb: str, now: float) -> Remembered | None:
        """What was decided lately."""
        found = self._known.get((node, verb))
        return found[0] if found is not None and now < found[1] else None

    def learn(self, node: str, verb: str, decision: Remembered, now: float) -> None:
        """This worked, or is known not to."""
        if len(self._known) >= NODES_REMEMBERED:
            self._known.pop(next(iter(self._known)), None)
        self._known[node, verb] = (decision, now + FORGET_AFTER)

    def forget(self, node: str) -> None:
        """Something failed that had worked: decide anew, for each verb."""
        for key in [key for key in list(self._known) if key[0] == node]:
            self._known.pop(key, None)

"""Where a request on a pod or a node goes: the container, the node, its kubelet, and the URL there.

Sources: ``k/k: pkg/registry/core/pod/strategy.go`` (streamLocation, LogLocation, PortForwardLocation),
``pkg/kubelet/client/kubelet_client.go``, ``pkg/registry/core/node/strategy.go``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote, urlencode

from fakekubelet.apiserver.requests import Meaning
from fakekubelet.apiserver.resources import Object, Resource, find
from fakekubelet.apiserver.status import bad_request, internal_error, not_found
from fakekubelet.apiserver.store import Store
from fakekubelet.messages import Request

ADDRESS_TYPES = ("InternalIP", "ExternalIP", "Hostname")
"""Which address of a node is taken, as ``kubeadm`` sets ``--kubelet-preferred-address-types``."""

KUBELET_PORT = 10250

Query = list[tuple[str, str]]


def _resource(plural: str) -> Resource:
    found = find("", "v1", plural)
    assert found is not None, "in the table"
    return found


PODS = _resource("pods")
NODES = _resource("nodes")


@dataclass(frozen=True, slots=True)
class Location:
    """A URL at a node: ``path`` is percent-encoded and begins with a slash."""

    node: str
    host: str
    port: int
    path: str = "/"
    query: Query = field(default_factory=list)
    scheme: str = "https"
    kubelet: bool = True
    """Whether this is the kubelet, which the apiserver's certificate is for."""

    @property
    def target(self) -> str:
        """Path and query, as they stand in a request."""
        return f"{self.path}?{urlencode(self.query, errors='surrogateescape')}" if self.query else self.path

    @property
    def authority(self) -> str:
        """Host and port, as they stand in a request."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def segment(text: str) -> str:
    """A name as one segment of a path. Raises StatusError 400 for what would be more than that, or another one."""
    if text in (".", "..") or "/" in text or "%" in text:
        raise bad_request(f"invalid path segment {text!r}: it may not be '.' or '..', nor contain '/' or '%'")
    return quote(text, safe="", errors="surrogateescape")


# -- pods --------------------------------------------------------------------------------------------------------------


def pod_of(store: Store, namespace: str, name: str) -> Object:
    """The pod. Raises StatusError 404."""
    pod = store.get(PODS, namespace, name)
    if pod is None:
        raise not_found(PODS, name)
    return pod


def _names(pod: Object, field: str) -> list[str]:
    return [each["name"] for each in pod.get("spec", {}).get(field) or []]


def container_of(pod: Object, name: str) -> str:
    """The container that is meant by ``name``, which may be empty if there is one only. Raises StatusError 400."""
    containers, init = _names(pod, "containers"), _names(pod, "initContainers")
    shown = pod["metadata"]["name"]
    if name:
        if name not in (*containers, *init, *_names(pod, "ephemeralContainers")):
            raise bad_request(f"container {name} is not valid for pod {shown}")
        return name
    if len(containers) == 1:
        return containers[0]
    message = f"a container name must be specified for pod {shown}"
    if containers:
        message += f", choose one of: [{' '.join(containers)}]"
        if init:
            message += f" or one of the init containers: [{' '.join(init)}]"
    raise bad_request(message)


def stream_location(
    store: Store, pod: Object, kind: str, container: str, query: Query, finder: KubeletFinder
) -> Location:
    """Of exec and attach. Raises StatusError."""
    container = container_of(pod, container)
    where = _kubelet_of(store, pod, finder)
    return _at(where, (kind, *_full_name(pod), container), query)


def forward_location(store: Store, pod: Object, ports: Sequence[str], finder: KubeletFinder) -> Location:
    """Of port-forward; ``ports`` are of its old form over WebSocket. Raises StatusError."""
    where = _kubelet_of(store, pod, finder)
    query = [("port", ",".join(ports))] if ports else []
    return _at(where, ("portForward", *_full_name(pod)), query)


def log_location(store: Store, pod: Object, container: str, query: Query, finder: KubeletFinder) -> Location | None:
    """Of logs; None for a pod without a node, whose log is empty. Raises StatusError."""
    container = container_of(pod, container)
    if not pod.get("spec", {}).get("nodeName"):
        return None
    return _at(_kubelet_of(store, pod, finder), ("containerLogs", *_full_name(pod), container), query)


def _full_name(pod: Object) -> tuple[str, str]:
    return pod["metadata"]["namespace"], pod["metadata"]["name"]


def _kubelet_of(store: Store, pod: Object, finder: KubeletFinder) -> Location:
    node = pod.get("spec", {}).get("nodeName")
    if not node:
        raise bad_request(f"pod {pod['metadata']['name']} does not have a host assigned")
    return finder.kubelet(store, node)


def _at(where: Location, parts: Sequence[str], query: Query) -> Location:
    path = "/" + "/".join(segment(part) for part in parts)
    return Location(where.node, where.host, where.port, path, query)


# -- nodes -------------------------------------------------------------------------------------------------------------


class KubeletFinder:
    """From a node's name to its kubelet, and to other servers on it.

    A node says itself where it is, so a node that lies can turn the apiserver against anybody (CVE-2020-8562,
    CVE-2022-3294). Only addresses that are unicast and global (private networks are) are dialled, and a name is never
    resolved twice: here it is not resolved at all, nodes have addresses. ``trusted`` are pairs of address and port
    that are allowed all the same: the fake kubelets on loopback that this cluster was made with.
    """

    def __init__(
        self, trusted: Collection[tuple[str, int]] = (), *, address_types: Sequence[str] = ADDRESS_TYPES
    ) -> None:
        self.trusted = set(trusted)
        self._types = tuple(address_types)

    def kubelet(self, store: Store, name: str) -> Location:
        """The kubelet of a node. Raises StatusError: no such node, no address, a forbidden one."""
        node = store.get(NODES, "", name)
        if node is None:
            raise not_found(NODES, name)
        status = node.get("status") or {}
        port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port") or KUBELET_PORT
        host = self._address(name, status)
        self._check(host, port)
        return Location(name, host, port)

    def _address(self, name: str, status: Object) -> str:
        addresses = status.get("addresses") or []
        for wanted in self._types:
            for each in addresses:
                if each.get("type") == wanted and each.get("address"):
                    return str(each["address"])
        known = [each.get("address") for each in addresses]
        raise internal_error(f"no preferred addresses found; known addresses: {known}")

    def _check(self, host: str, port: int) -> None:
        if (host, port) in self.trusted:
            return
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            raise bad_request(f"the node's address {host!r} is a name, and this apiserver resolves none") from None
        if not is_proxyable(address):
            raise bad_request("address not allowed")

    def proxied(self, store: Store, name: str, path: str, query: Query) -> Location:
        """The target of ``nodes/NAME/proxy/PATH``; NAME may be ``SCHEME:NODE:PORT``, ``path`` is percent-encoded.
        Raises StatusError."""
        scheme, node, port_text = _split_name(name)
        where = self.kubelet(store, node)
        if port_text and port_text != str(where.port):
            port = _port(port_text)
            self._check(where.host, port)
            return Location(node, where.host, port, path, query, scheme or "http", kubelet=False)
        return Location(node, where.host, where.port, path, query)


def node_proxy(
    store: Store, finder: KubeletFinder, request: Request, meaning: Meaning, *, query: bool = True
) -> Location:
    """The target of a request through the node proxy. Its path is taken as it came, still encoded, so that what the
    kubelet decodes is what the client wrote. Raises StatusError."""
    raw, _, raw_query = request.target.partition("?")
    parts = raw.split("/")  # "", api, v1, nodes, NAME, proxy, ...
    rest = parts[6:]
    if len(parts) < 6 or parts[5] != "proxy":  # an encoded slash, or the absolute form of a request
        raise bad_request("the path of a proxied request must begin with /api/v1/nodes/NAME/proxy")
    if any(unquote(part) in (".", "..") or "/" in unquote(part) for part in rest):
        raise bad_request("the path of a proxied request may not contain '.', '..' or an encoded '/'")
    pairs = parse_qsl(raw_query, keep_blank_values=True, errors="surrogateescape") if query else []
    return finder.proxied(store, meaning.name, "/" + "/".join(rest), pairs)


def is_proxyable(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Go's ``IsGlobalUnicast`` and no more (``apimachinery: pkg/util/proxy``): private networks are, loopback and
    link-local are not."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    limited = address == ipaddress.IPv4Address("255.255.255.255")
    return not (
        address.is_unspecified or address.is_loopback or address.is_multicast or address.is_link_local or limited
    )


def _split_name(name: str) -> tuple[str, str, str]:
    """``NODE``, ``NODE:PORT``, ``SCHEME:NODE:`` or ``SCHEME:NODE:PORT``. Raises StatusError 400."""
    parts = name.split(":")
    scheme, node, port = "", name, ""
    if len(parts) == 2:
        node, port = parts
    elif len(parts) == 3:
        scheme, node, port = parts
    if len(parts) > 3 or scheme not in ("", "http", "https") or not node:
        raise bad_request(f'invalid node request "{name}"')
    return scheme, node, port


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text[:6]) < 65536):
        raise bad_request(f"invalid port {text!r}")
    return int(text)

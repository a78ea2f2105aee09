"""Where a request goes: checked URLs, request targets, and the form of a URL that may be shown.

Rules of the paths: ``kubernetes: pkg/kubelet/server/server.go`` (``/exec/{namespace}/{pod}/{container}``, and with
the pod's uid between pod and container) and ``cri-streaming: pkg/streaming/server.go`` (one-time URLs). Option
values are the exact string ``1``: to a kubelet ``true`` is false.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, quote, unquote, urlencode, urlsplit

from spdyproto.channels.events import StreamSet

__all__ = [
    "KUBELET_PORT",
    "Endpoint",
    "Target",
    "attach_target",
    "checked_path",
    "exec_target",
    "forward_target",
    "kubelet_target",
    "local_address",
    "object_path",
    "parse_endpoint",
    "parse_target",
    "pod_target",
    "segment",
]

KUBELET_PORT: Final = 10250
"""The kubelet's authenticated port; used when a kubelet's URL names none."""

_SCHEMES: Final = {"https": 443, "http": 80}
_ONE_TIME: Final = frozenset({"exec", "attach", "portforward"})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server: scheme, host (without brackets), port and the path that stands before everything."""

    secure: bool
    host: str
    port: int
    prefix: str = ""

    @property
    def authority(self) -> str:
        """``host:port`` as in a URL; the port is left out when it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _SCHEMES[self.scheme] else f"{host}:{self.port}"

    @property
    def scheme(self) -> str:
        """``"https"`` or ``"http"``."""
        return "https" if self.secure else "http"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.prefix}"


@dataclass(frozen=True, slots=True)
class Target:
    """One request: the server, the origin-form target, and what errors may show of it.

    ``route`` says how the server is reached (``"kubelet"``, ``"apiserver"``, ``"url"``), ``reason`` why that way was
    taken, where it was a choice.
    """

    endpoint: Endpoint
    path: str
    shown: str
    route: str
    reason: str = ""


def parse_endpoint(url: str, *, default_port: int | None = None) -> Endpoint:
    """The server that ``url`` names. Raises ValueError, without repeating any secret of it, for what is not one."""
    parts = _split(url)
    if parts.query or parts.fragment:
        raise ValueError("a server's URL has neither query nor fragment: expected https://HOST[:PORT][/PREFIX]")
    return _endpoint(parts, default_port, parts.path.rstrip("/"))


def parse_target(url: str) -> Target:
    """The request that a complete streaming URL names, e.g. a one-time URL from a container runtime."""
    parts = _split(url)
    endpoint = _endpoint(parts, None, "")
    path = parts.path or "/"
    shown = str(endpoint) + _without_token(path)
    return Target(endpoint, f"{path}?{parts.query}" if parts.query else path, shown, "url")


def exec_target(
    endpoint: Endpoint,
    namespace: str,
    pod: str,
    container: str,
    command: Sequence[str],
    streams: StreamSet,
    uid: str | None,
) -> Target:
    """A kubelet's exec request. The shown form leaves out the query: arguments may be long, and may be private."""
    options = [("command", word) for word in command]
    return _streaming_target("exec", endpoint, namespace, pod, container, options, streams, uid)


def attach_target(
    endpoint: Endpoint, namespace: str, pod: str, container: str, streams: StreamSet, uid: str | None
) -> Target:
    """A kubelet's attach request."""
    return _streaming_target("attach", endpoint, namespace, pod, container, [], streams, uid)


def pod_target(
    endpoint: Endpoint,
    namespace: str,
    pod: str,
    subresource: str,
    options: Sequence[tuple[str, str]] = (),
    *,
    streams: StreamSet | None = None,
) -> Target:
    """A request to a subresource of a pod, at an apiserver, which names the streams differently from a kubelet and
    takes ``true`` (``kubernetes: pkg/apis/core: PodExecOptions``).
    """
    path = endpoint.prefix + object_path("pods", namespace, pod) + f"/{subresource}"
    query = list(options)
    if streams is not None:
        flags = (
            ("stdin", streams.stdin),
            ("stdout", streams.stdout),
            ("stderr", streams.stderr),
            ("tty", streams.tty),
        )
        query += [(name, "true") for name, wanted in flags if wanted]
    shown = f"{endpoint.scheme}://{endpoint.authority}{path}"
    return Target(endpoint, f"{path}?{urlencode(query)}" if query else path, shown, "apiserver")


def kubelet_target(endpoint: Endpoint, path: str, options: Sequence[tuple[str, str]] = ()) -> Target:
    """A plain request to a kubelet; ``path`` is encoded already."""
    path = endpoint.prefix + path
    shown = f"{endpoint.scheme}://{endpoint.authority}{path}"
    return Target(endpoint, f"{path}?{urlencode(options)}" if options else path, shown, "kubelet")


def checked_path(path: str) -> None:
    """Raises ValueError for a path that is none, or that would climb out of where it belongs."""
    if not path.startswith("/") or not all("!" <= c <= "~" for c in path) or {"?", "#"} & set(path):
        raise ValueError(f"a path begins with '/' and is percent-encoded, without a query: got {path!r}")
    if {".", ".."} & set(unquote(path).split("/")):
        raise ValueError(f"a path has no '.' or '..' in it: got {path!r}")


def object_path(resource: str, namespace: str | None, name: str | None = None, group: str = "") -> str:
    """The path of an object, or of a list of them, at an apiserver. ``group`` is e.g. ``apps/v1``; none is the core's.

    Raises ValueError for a name that would lead elsewhere.
    """
    path = f"/apis/{group}" if group else "/api/v1"
    if namespace is not None:
        path += f"/namespaces/{segment(namespace)}"
    path += f"/{resource}"
    return path if name is None else f"{path}/{segment(name)}"


def segment(name: str) -> str:
    """``name`` as one segment of a path, percent-encoded. Raises ValueError for what would be none, or another."""
    return quote(_segment(name), safe="")


def forward_target(endpoint: Endpoint, namespace: str, pod: str, uid: str | None, port: int) -> Target:
    """A kubelet's port-forward request. ``port`` matters to the old WebSocket form only; SPDY names it in each stream.

    Source: ``kubernetes: pkg/kubelet/server/server.go`` (``/portForward/{podNamespace}/{podID}/{uid}``).
    """
    names = [namespace, pod] if uid is None else [namespace, pod, uid]
    path = f"{endpoint.prefix}/portForward/" + "/".join(quote(_segment(name), safe="") for name in names)
    shown = f"{endpoint.scheme}://{endpoint.authority}{path}"
    return Target(endpoint, f"{path}?port={port}" if port else path, shown, "kubelet")


def _streaming_target(
    kind: str,
    endpoint: Endpoint,
    namespace: str,
    pod: str,
    container: str,
    options: list[tuple[str, str]],
    streams: StreamSet,
    uid: str | None,
) -> Target:
    names = [namespace, pod, container] if uid is None else [namespace, pod, uid, container]
    path = f"{endpoint.prefix}/{kind}/" + "/".join(map(segment, names))
    flags = (("input", streams.stdin), ("output", streams.stdout), ("error", streams.stderr), ("tty", streams.tty))
    options += [(name, "1") for name, wanted in flags if wanted]
    shown = f"{endpoint.scheme}://{endpoint.authority}{path}"
    return Target(endpoint, f"{path}?{urlencode(options)}", shown, "kubelet")


def _segment(name: str) -> str:
    if not name or name in {".", ".."} or "/" in name:
        raise ValueError(f"namespaces, pods and containers have non-empty names without '/': got {name!r}")
    return name


def _split(url: str) -> SplitResult:
    if not all("!" <= c <= "~" for c in url):
        raise ValueError("a URL is visible ASCII only: percent-encode blanks and other characters")
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES or not parts.netloc:
        raise ValueError("expected a URL of the form https://HOST[:PORT]/... (or http://...)")
    if "@" in parts.netloc:
        raise ValueError("a URL must not carry a user name or password: give credentials= instead")
    return parts


def _endpoint(parts: SplitResult, default_port: int | None, prefix: str) -> Endpoint:
    try:
        port = parts.port
    except ValueError:
        raise ValueError("the port of a URL is a number from 1 to 65535") from None
    host = unquote(parts.hostname or "")
    if not host or port == 0:
        raise ValueError("expected a URL of the form https://HOST[:PORT]/... with a host and a port from 1 to 65535")
    return Endpoint(parts.scheme == "https", host, port or default_port or _SCHEMES[parts.scheme], prefix)


def _without_token(path: str) -> str:
    """``path`` without a runtime's one-time token, which opens a session for whoever comes first within a minute."""
    head, _, last = path.rpartition("/")
    return f"{head}/..." if last and head.rpartition("/")[2] in _ONE_TIME else path


def is_address(host: str) -> bool:
    """Whether ``host`` is a literal IP address, so that no name has to be resolved."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def local_address(host: str) -> str | None:
    """Why a node's address must not be gone to: it leads back to this machine, or to what only stands beside it (a
    link-local address is where clouds keep their metadata service). None for an ordinary one, and for names.
    """
    if host == "localhost" or host.endswith(".localhost"):
        return "it is this machine's own name"
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    for wrong, why in (
        (address.is_loopback, "it is a loopback address"),
        (address.is_link_local, "it is a link-local address"),
        (address.is_unspecified, "it is no address at all"),
        (address.is_multicast, "it is a multicast address"),
    ):
        if wrong:
            return why
    return None

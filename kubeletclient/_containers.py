"""Which container is meant when the caller names none: asked from the kubelet's own list of pods, once for each
pod.
"""

from __future__ import annotations

import json
import socket
import ssl
import time
from typing import Any, Final

from kubeletclient import _faults, errors
from kubeletclient._trust import Trust
from kubeletclient.endpoints import Endpoint, Target
from spdyproto.limits import MIB
from spdyproto.text import printable

__all__ = ["ANNOTATION", "PodsBody", "choose_container", "pods_error", "pods_request"]

ANNOTATION: Final = "kubectl.kubernetes.io/default-container"
"""Names the container that kubectl takes when none is named (``kubectl: pkg/cmd/util/podcmd/podcmd.go``)."""

LIMIT: Final = 64 * MIB
"""Bytes of the list. A pod takes about 10 KiB, and a node runs some hundreds of them at most."""

_HINT: Final = "give container="


def pods_request(endpoint: Endpoint, trust: Trust, user_agent: str) -> tuple[str, dict[str, str]]:
    """URL and headers of the request for the node's pods. May read a token file."""
    trust.check(endpoint)
    authorization = trust.authorization(time.monotonic())
    headers = {"User-Agent": user_agent, "Accept": "application/json"}
    if authorization is not None:
        headers["Authorization"] = authorization if isinstance(authorization, str) else authorization()
    return f"{endpoint}/pods", headers


class PodsBody:
    """Gathers the answer, bounded. ``add`` raises the error for one that is too large."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._body = bytearray()

    def add(self, piece: bytes) -> None:
        """One more piece of the body."""
        self._body += piece
        if len(self._body) > LIMIT:
            raise pods_error(self._endpoint, None, ValueError(f"it is larger than {LIMIT} bytes"))

    def parse(self) -> Any:  # noqa: ANN401 - JSON
        """The list. Raises the error for what is not JSON."""
        try:
            return json.loads(self._body)
        except (ValueError, RecursionError) as error:
            raise pods_error(self._endpoint, None, ValueError("it is not JSON")) from error


def pods_error(endpoint: Endpoint, status: int | None, fault: Exception | None) -> errors.ClientError:
    """The list could not be had: ``status`` is another one than 200, or ``fault`` is what httpx or the parser said.

    Faults of the dial and of TLS become the errors that the exec request itself would have met.
    """
    target = Target(endpoint, "/pods", f"{endpoint}/pods", "kubelet")
    beneath = _beneath(fault)
    if isinstance(beneath, ssl.SSLError):
        return _faults.tls_fault(target, beneath, endpoint.host)
    if isinstance(beneath, socket.gaierror):
        return _faults.resolve_fault(target, beneath)
    if isinstance(beneath, ConnectionRefusedError):
        return _faults.dial_fault(target, [(endpoint.host, beneath)])
    why = f"the kubelet answered HTTP {status}" if status is not None else str(fault) or type(fault).__name__
    kinds: dict[int, type[errors.ClientError]] = {401: errors.Unauthorized, 403: errors.Forbidden}
    kind: type[errors.ClientError] = errors.InvalidAnswer if isinstance(fault, ValueError) else errors.ConnectError
    if status is not None:
        kind = kinds.get(status, errors.ServerError)
    return kind(
        f"no container was named, and the kubelet's list of pods cannot be had: {printable(why, limit=200)}",
        hint=_HINT,
        route="kubelet",
        url=target.shown,
        http_status=status,
    )


def _beneath(fault: BaseException | None) -> BaseException | None:
    """The system's own error under those of the HTTP library, which keep it as their cause or context."""
    while fault is not None and not isinstance(fault, OSError):
        fault = fault.__cause__ or fault.__context__
    return fault


def choose_container(pods: Any, endpoint: Endpoint, namespace: str, name: str, uid: str | None) -> str:  # noqa: ANN401 - JSON
    """The container of that pod: the one its annotation names, else the first. Raises NotFound without such a pod."""
    for pod in _items(pods):
        metadata = _mapping(pod.get("metadata"))
        if (metadata.get("namespace"), metadata.get("name")) != (namespace, name):
            continue
        if uid is not None and metadata.get("uid") != uid:
            continue
        containers = [_mapping(c).get("name") for c in _list(_mapping(pod.get("spec")).get("containers"))]
        names = [c for c in containers if isinstance(c, str) and c]
        wanted = _mapping(metadata.get("annotations")).get(ANNOTATION)
        if isinstance(wanted, str) and wanted in names:
            return wanted
        if names:
            return names[0]
    raise errors.NotFound(
        f"no pod {name!r} with containers runs in namespace {namespace!r} on this node",
        hint="check namespace and pod name, and that the pod runs on this node",
        route="kubelet",
        url=f"{endpoint}/pods",
    )


def _items(pods: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - JSON
    return [_mapping(item) for item in _list(_mapping(pods).get("items"))]


def _mapping(value: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:  # noqa: ANN401 - JSON
    return value if isinstance(value, list) else []

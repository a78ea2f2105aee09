"""Which container is meant when the caller names none: asked from the kubelet's own list of pods, once for each
pod.
"""

from __future__ import annotations

import time
from typing import Any, Final

from kubeletclient import errors
from kubeletclient._trust import Trust
from kubeletclient.endpoints import Endpoint

__all__ = ["ANNOTATION", "choose_container", "pods_error", "pods_request"]

ANNOTATION: Final = "kubectl.kubernetes.io/default-container"
"""Names the container that kubectl takes when none is named (``kubectl: pkg/cmd/util/podcmd/podcmd.go``)."""

_HINT: Final = "give container="


def pods_request(endpoint: Endpoint, trust: Trust, user_agent: str) -> tuple[str, dict[str, str]]:
    """URL and headers of the request for the node's pods. May read a token file."""
    trust.check(endpoint)
    authorization = trust.authorization(time.monotonic())
    headers = {"User-Agent": user_agent, "Accept": "application/json"}
    if authorization is not None:
        headers["Authorization"] = authorization if isinstance(authorization, str) else authorization()
    return f"{endpoint}/pods", headers


def pods_error(endpoint: Endpoint, status: int | None, fault: Exception | None) -> errors.ClientError:
    """The list could not be had."""
    why = f"the kubelet answered HTTP {status}" if status is not None else f"{type(fault).__name__}: {fault}"
    kinds: dict[int, type[errors.ClientError]] = {401: errors.Unauthorized, 403: errors.Forbidden}
    kind = errors.ConnectError if status is None else kinds.get(status, errors.ServerError)
    return kind(
        f"no container was named, and the kubelet's list of pods cannot be had: {why}",
        hint=_HINT,
        route="kubelet",
        url=f"{endpoint}/pods",
        http_status=status,
    )


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

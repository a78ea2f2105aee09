"""Which container is meant when the caller names none: asked from the kubelet's own list of pods, once for each
pod.
"""

from __future__ import annotations

from typing import Any, Final

from kubeletclient import errors
from kubeletclient.endpoints import Endpoint

__all__ = ["ANNOTATION", "choose_container"]

ANNOTATION: Final = "kubectl.kubernetes.io/default-container"
"""Names the container that kubectl takes when none is named (``kubectl: pkg/cmd/util/podcmd/podcmd.go``)."""


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

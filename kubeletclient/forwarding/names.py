"""The way to a pod's ports, anew for each session: which pod is meant now, and what its ports are called.

A port may be a number, the name of a container's port, or, for a service, one of the service's ports; what it leads to
may change with the pod.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import replace
from typing import Any

from kubeletclient import errors
from kubeletclient._cluster import ClusterDoor
from kubeletclient._door import Ask, Command, Door, Fetch, KubeletDoor, PodRef, Way
from kubeletclient.endpoints import Target, object_path
from kubeletclient.forwarding.session import Dialled
from spdyproto.text import printable

__all__ = ["reach_forward", "resolver", "wants_names"]


def reach_forward(
    door: Door, ref: PodRef, port: int | str, ports: Iterable[int | str]
) -> Generator[Command, Any, Dialled]:
    """Find the pod anew, and what its ports are called where that matters; open a session to it, for ``port`` first.

    Raises as ``Door.reach``; ForwardFailed for a name that the pod does not have.
    """
    service = ref.selected if ref.selected is not None and ref.selected.kind is not None else None
    if service is not None and (service.kind is None or service.kind.resource != "services"):
        service = None
    pod, document, through = ref, None, None
    if service is not None or wants_names(ports):
        if isinstance(door, ClusterDoor):
            if service is not None:
                path = object_path("services", ref.namespace, service.name)
                through = yield Fetch(door.way, path, f"{service} in namespace {ref.namespace}")
            facts = yield from door.find(ref)
            pod = replace(ref, name=facts.name, selected=None)
            path = object_path("pods", pod.namespace, pod.name)
            document = yield Fetch(door.way, path, f"pod {pod.namespace}/{pod.name}")
        elif isinstance(door, KubeletDoor):
            why = "a port was given by name, and "
            listed = yield Fetch(door.way, "/pods", "the kubelet's list of pods", why, "give its number")
            document = _pod_in(listed, pod)
    resolve = resolver(document, f"{pod.namespace}/{pod.name}", through)
    number = _number_of(resolve, port)
    chosen = [pod]

    def target(way: Way, found: PodRef, _: str) -> Target:
        chosen[0] = found
        return way.forward_target(found, number)

    dialled: Dialled = yield from door.reach(pod, None, Ask("portforward", target, of_a_container=False))
    dialled.pod = f"{chosen[0].namespace}/{chosen[0].name}"
    dialled.resolve = resolve
    return dialled


def _pod_in(document: Any, pod: PodRef) -> Any:  # noqa: ANN401 - JSON
    """The pod's API object in a list of them; None if it is not there."""
    for item in _list(_mapping(document).get("items")):
        metadata = _mapping(_mapping(item).get("metadata"))
        if (metadata.get("namespace"), metadata.get("name")) == (pod.namespace, pod.name):
            return item
    return None


def wants_names(ports: Iterable[int | str]) -> bool:
    """Whether the pod's document is needed."""
    return any(isinstance(port, str) for port in ports)


def resolver(document: Any, pod: str, service: Any = None) -> Callable[[int | str], int]:  # noqa: ANN401 - JSON
    """From a port as the caller named it to its number in this pod, whose API object is given (None: numbers only).

    With a ``service`` ports are the service's, by number or name, and lead to their ``targetPort``.
    """
    named = _ports(document)
    behind = None if service is None else _service_ports(service)

    def resolve(port: int | str) -> int:
        if behind is not None:
            if port not in behind:
                raise LookupError(f"the service has no port {_shown(port)}; its ports: {_listed(behind)}")
            port = behind[port]
        if isinstance(port, int):
            return port
        if port not in named:
            raise LookupError(f"pod {pod} has no port named {_shown(port)}; its named ports: {_listed(named)}")
        return named[port]

    return resolve


def _shown(port: int | str) -> str:
    return str(port) if isinstance(port, int) else repr(printable(port, limit=40))


def _listed(ports: Mapping[Any, int | str]) -> str:
    return ", ".join(f"{printable(str(name), limit=40)} ({number})" for name, number in ports.items()) or "none"


def _number_of(resolve: Callable[[int | str], int], port: int | str) -> int:
    try:
        return resolve(port)
    except LookupError as error:
        raise errors.ForwardFailed(str(error.args[0]), hint="give the port's number") from None


def _ports(document: Any) -> dict[str, int]:  # noqa: ANN401 - JSON
    found: dict[str, int] = {}
    for container in _list(_mapping(_mapping(document).get("spec")).get("containers")):
        for port in map(_mapping, _list(_mapping(container).get("ports"))):
            name, number = port.get("name"), port.get("containerPort")
            if isinstance(name, str) and isinstance(number, int) and port.get("protocol", "TCP") == "TCP":
                found.setdefault(name, number)
    return found


def _service_ports(document: Any) -> dict[int | str, int | str]:  # noqa: ANN401 - JSON
    """By number, and by name, to what stands behind: a port of the pods, or its name."""
    found: dict[int | str, int | str] = {}
    for port in map(_mapping, _list(_mapping(_mapping(document).get("spec")).get("ports"))):
        number, name, behind = port.get("port"), port.get("name"), port.get("targetPort")
        if not isinstance(number, int) or port.get("protocol", "TCP") != "TCP":
            continue
        leads = behind if isinstance(behind, int | str) and behind else number
        found.setdefault(number, leads)
        if isinstance(name, str) and name:
            found.setdefault(name, leads)
    return found


def _mapping(value: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:  # noqa: ANN401 - JSON
    return value if isinstance(value, list) else []

"""How the verbs of a pod reach a server, decided once for both flavours.

A ``Door`` knows the way to a pod: the kubelet that was named, or whatever a cluster says. ``reach`` is a generator,
like the flows of ``_flows``: it yields what it wants done (``Fetch``, ``Load``, ``Open``), and a client of either
flavour does it and sends back what came of it, or throws in the ``ClientError``. So every decision stands in one place,
does no I/O, and can be tested as a table.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, TypeAlias

from kubeletclient import errors
from kubeletclient._settings import Settings
from kubeletclient.endpoints import (
    Endpoint,
    Target,
    attach_target,
    exec_target,
    forward_target,
    kubelet_target,
    object_path,
    pod_target,
    segment,
)
from kubeletclient.routes import Via
from kubeletclient.selection import PodFacts, Selected, parse_pods
from spdyproto.channels.events import StreamSet
from spdyproto.limits import MIB

__all__ = [
    "Ask",
    "Command",
    "Door",
    "Fetch",
    "KubeletDoor",
    "Load",
    "Open",
    "PodRef",
    "Reach",
    "Way",
    "attach_ask",
    "exec_ask",
]

_DOCUMENT_LIMIT: Final = 64 * MIB
"""Bytes of a document, of which lists of pods are the largest. A pod takes about 10 KiB, and a node runs some hundreds
of them at most; a selector that chooses thousands is a mistake."""


@dataclass(slots=True)
class PodRef:
    """Which pod is meant, or which object's pod (``selected``), and how to get there, if not as its client does.

    ``default_container`` is remembered once it was asked for.
    """

    namespace: str
    name: str
    uid: str | None = None
    selected: Selected | None = None
    via: Via | None = None
    default_container: str | None = None


@dataclass(frozen=True, slots=True)
class Way:
    """One server that can serve the pod: ``route`` names its kind, ``"kubelet"`` or ``"apiserver"``."""

    route: str
    endpoint: Endpoint
    settings: Settings

    def exec_target(self, pod: PodRef, container: str, words: Sequence[str], streams: StreamSet) -> Target:
        """The request to run a command."""
        if self.route == "apiserver":
            options = [("container", container), *(("command", word) for word in words)]
            return pod_target(self.endpoint, pod.namespace, pod.name, "exec", options, streams=streams)
        return exec_target(self.endpoint, pod.namespace, pod.name, container, words, streams, pod.uid)

    def attach_target(self, pod: PodRef, container: str, streams: StreamSet) -> Target:
        """The request to attach to the main process."""
        if self.route == "apiserver":
            options = [("container", container)]
            return pod_target(self.endpoint, pod.namespace, pod.name, "attach", options, streams=streams)
        return attach_target(self.endpoint, pod.namespace, pod.name, container, streams, pod.uid)

    def forward_target(self, pod: PodRef, port: int) -> Target:
        """The request to forward ports. ``port`` matters to the old WebSocket form only; 0 for none."""
        if self.route == "apiserver":
            options = [("ports", str(port))] if port else []
            return pod_target(self.endpoint, pod.namespace, pod.name, "portforward", options)
        return forward_target(self.endpoint, pod.namespace, pod.name, pod.uid, port)

    def logs_target(self, pod: PodRef, container: str, options: Sequence[tuple[str, str]]) -> Target:
        """The request for a container's log."""
        if self.route == "apiserver":
            return pod_target(self.endpoint, pod.namespace, pod.name, "log", [("container", container), *options])
        return kubelet_target(
            self.endpoint, "/containerLogs/" + "/".join(map(segment, (pod.namespace, pod.name, container))), options
        )

    def node_target(self, node: str, path: str, options: Sequence[tuple[str, str]] = ()) -> Target:
        """A request for ``path`` of a node's kubelet, straight or by the apiserver's proxy."""
        if self.route == "apiserver":
            path = f"{object_path('nodes', None, node)}/proxy{path}"
        return replace(kubelet_target(self.endpoint, path, options), route=self.route)


@dataclass(frozen=True, slots=True)
class Ask:
    """What is wanted from the pod.

    - ``verb``: ``"exec"``, ``"attach"``, ``"portforward"``, ``"logs"``: decisions are remembered for each;
    - ``target``: from the way, the pod and the container's name to the request; the name is empty where no container
      is wanted;
    - ``of_a_container``: whether there must be a container; ``while_running``: whether the pod must not be over.
    """

    verb: str
    target: Callable[[Way, PodRef, str], Target]
    of_a_container: bool = True
    while_running: bool = True


def exec_ask(words: Sequence[str], streams: StreamSet) -> Ask:
    """To run a command."""
    return Ask("exec", lambda way, pod, container: way.exec_target(pod, container, words, streams))


def attach_ask(streams: StreamSet) -> Ask:
    """To attach to the main process."""
    return Ask("attach", lambda way, pod, container: way.attach_target(pod, container, streams))


@dataclass(frozen=True, slots=True)
class Fetch:
    """GET a JSON document of at most ``limit`` bytes. Answer: the parsed document.

    ``what`` names the document, as in "the kubelet's list of pods"; ``why`` begins the sentence of an error, and
    ``hint`` is what to do instead.
    """

    way: Way
    path: str
    what: str
    why: str = ""
    hint: str = ""
    limit: int = _DOCUMENT_LIMIT


@dataclass(frozen=True, slots=True)
class Load:
    """Call ``function``, which reads small files, and answer what it returns."""

    function: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Open:
    """Open a session at ``target``. Answer: whatever the client makes of it."""

    way: Way
    target: Target


Command: TypeAlias = Fetch | Load | Open
Reach: TypeAlias = Generator[Command, Any, Any]


class Door(Protocol):
    """The way to pods."""

    def reach(self, pod: PodRef, container: str | None, ask: Ask) -> Reach:
        """Open a session with ``container``, or the pod's default one; the generator's result is ``Open``'s answer."""

    def find(self, pod: PodRef) -> Generator[Command, Any, PodFacts]:
        """The pod that is meant. Raises NotFound."""

    def reach_node(self, node: str, via: Via | None, verb: str, target: Callable[[Way], Target]) -> Reach:
        """Send a plain request to a node's kubelet."""


class KubeletDoor:
    """Straight to one kubelet, whatever happens."""

    def __init__(self, endpoint: Endpoint, settings: Settings) -> None:
        self.way = Way("kubelet", endpoint, settings)

    def reach(self, pod: PodRef, container: str | None, ask: Ask) -> Reach:
        """See ``Door``."""
        name = container or pod.default_container
        if name is None and ask.of_a_container:
            facts = yield from self.find(pod, "no container was named, and ", "give container=")
            name = pod.default_container = facts.choose(None, "kubelet", f"{self.way.endpoint}/pods")
        return (yield Open(self.way, ask.target(self.way, pod, name or "")))

    def reach_node(self, node: str, via: Via | None, verb: str, target: Callable[[Way], Target]) -> Reach:
        """See ``Door``."""
        return (yield Open(self.way, target(self.way)))

    def find(self, pod: PodRef, why: str = "", hint: str = "") -> Generator[Command, Any, PodFacts]:
        """See ``Door``; from the kubelet's own list."""
        document = yield Fetch(self.way, "/pods", "the kubelet's list of pods", why, hint)
        for facts in parse_pods(document):
            if (facts.namespace, facts.name) == (pod.namespace, pod.name) and pod.uid in (None, facts.uid):
                return facts
        raise errors.NotFound(
            f"no pod {pod.name!r} runs in namespace {pod.namespace!r} on this node",
            hint="check namespace and pod name, and that the pod runs on this node",
            route="kubelet",
            url=f"{self.way.endpoint}/pods",
        )

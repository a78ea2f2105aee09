"""How the verbs of a pod reach a server, decided once for both flavours.

A ``Door`` knows the way to a pod: the kubelet that was named, or whatever a cluster says. ``reach`` is a generator,
like the flows of ``_flows``: it yields what it wants done (``Fetch``, ``Open``), and a client of either flavour does it
and sends back what came of it, or throws in the ``ClientError``. So every decision stands in one place, does no I/O,
and can be tested as a table.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

from kubeletclient._containers import choose_container
from kubeletclient._settings import Settings
from kubeletclient.endpoints import Endpoint, Target, attach_target, exec_target
from spdyproto.channels.events import StreamSet
from spdyproto.limits import MIB

__all__ = ["Ask", "Door", "Fetch", "KubeletDoor", "Open", "PodRef", "Reach", "Way"]

_PODS_LIMIT: Final = 64 * MIB
"""Bytes of a node's list of pods. A pod takes about 10 KiB, and a node runs some hundreds of them at most."""


@dataclass(slots=True)
class PodRef:
    """Which pod is meant. ``default_container`` is remembered once it was asked for."""

    namespace: str
    name: str
    uid: str | None = None
    default_container: str | None = None


@dataclass(frozen=True, slots=True)
class Way:
    """One server that can serve the pod: ``route`` names its kind, ``"kubelet"``."""

    route: str
    endpoint: Endpoint
    settings: Settings

    def exec_target(self, pod: PodRef, container: str, words: Sequence[str], streams: StreamSet) -> Target:
        """The request to run a command."""
        return exec_target(self.endpoint, pod.namespace, pod.name, container, words, streams, pod.uid)

    def attach_target(self, pod: PodRef, container: str, streams: StreamSet) -> Target:
        """The request to attach to the main process."""
        return attach_target(self.endpoint, pod.namespace, pod.name, container, streams, pod.uid)


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
    limit: int = _PODS_LIMIT


@dataclass(frozen=True, slots=True)
class Open:
    """Open a session at ``target``. Answer: whatever the client makes of it."""

    way: Way
    target: Target


Reach: TypeAlias = Generator[Fetch | Open, Any, Any]
Ask: TypeAlias = Callable[[Way, str], Target]
"""From a way and the container's name to the request."""


class Door(Protocol):
    """The way to pods."""

    def reach(self, pod: PodRef, container: str | None, ask: Ask) -> Reach:
        """Open a session with ``container``, or the pod's default one; the generator's result is ``Open``'s answer."""


class KubeletDoor:
    """Straight to one kubelet, whatever happens."""

    def __init__(self, endpoint: Endpoint, settings: Settings) -> None:
        self.way = Way("kubelet", endpoint, settings)

    def reach(self, pod: PodRef, container: str | None, ask: Ask) -> Reach:
        """See ``Door``."""
        name = container or pod.default_container
        if name is None:
            pods = yield Fetch(
                self.way, "/pods", "the kubelet's list of pods", "no container was named, and ", "give container="
            )
            name = choose_container(pods, self.way.endpoint, pod.namespace, pod.name, pod.uid)
            pod.default_container = name
        return (yield Open(self.way, ask(self.way, name)))

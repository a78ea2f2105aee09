"""A pod behind an apiserver, for both flavours of the client, without anything of a cluster but its paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from kubeletclient._door import Ask, KubeletDoor, Open, PodRef, Reach, Way
from kubeletclient.endpoints import Target, parse_endpoint
from spdyproto.channels.events import StreamSet
from support.flavours import Flavour, Node
from support.gopeers import pod_url

__all__ = ["through_apiserver"]


class _ApiserverWay(Way):
    """The subresources of a pod, as kubectl asks for them."""

    def exec_target(self, pod: PodRef, container: str, words: Sequence[str], streams: StreamSet) -> Target:
        return self._target(pod, "exec", words, container, streams)

    def attach_target(self, pod: PodRef, container: str, streams: StreamSet) -> Target:
        return self._target(pod, "attach", (), container, streams)

    def _target(self, pod: PodRef, kind: Any, words: Sequence[str], container: str, streams: StreamSet) -> Target:
        flags = {"stdin": streams.stdin, "stdout": streams.stdout, "stderr": streams.stderr, "tty": streams.tty}
        url = pod_url(
            str(self.endpoint), kind, words, pod=f"{pod.namespace}/{pod.name}", container=container or None, **flags
        )
        path = url.removeprefix(str(self.endpoint))
        return Target(self.endpoint, path, url.partition("?")[0], "apiserver")


class _ApiserverDoor(KubeletDoor):
    def reach(self, pod: PodRef, container: str | None, ask: Ask) -> Reach:
        return (yield Open(self.way, ask(self.way, container or "")))


def through_apiserver(flavour: Flavour, url: str, **options: Any) -> Node:
    """A `Node` whose commands go through the apiserver at `url`."""
    node = flavour.node(url, **options)
    node.kubelet._door = _ApiserverDoor(parse_endpoint(url), node.kubelet._settings)
    way = node.kubelet._door.way
    node.kubelet._door.way = _ApiserverWay("apiserver", way.endpoint, replace(way.settings))
    return node

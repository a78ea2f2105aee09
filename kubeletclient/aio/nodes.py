"""The rest of a kubelet's API: plain requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kubeletclient._door import Way
from kubeletclient._policy import Deadline
from kubeletclient.aio.door import Client
from kubeletclient.endpoints import Target, checked_path
from kubeletclient.results import Reply
from kubeletclient.routes import Via
from spdyproto.limits import MIB

if TYPE_CHECKING:
    from kubeletclient.aio.answers import Answer

__all__ = ["Node"]


class Node:
    """A node's kubelet; made by ``Cluster.node``. ``Kubelet`` has the same ``request``."""

    def __init__(self, client: Client, name: str, via: Via | None = None) -> None:
        self.name = name
        self._client = client
        self._via = via

    def __repr__(self) -> str:
        return f"<Node {self.name} of {self._client!r}>"

    async def request(
        self,
        path: str,
        params: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        *,
        method: str = "GET",
        timeout: float | None = None,
        limit: int = 64 * MIB,
    ) -> Reply:
        """As ``kubeletclient.sync.nodes.Node.request``."""
        answer = await self._open(path, params, method, Deadline.after(timeout), quiet=60.0)
        target = answer.call.target
        body = await answer.read(limit)
        return Reply(body, answer.content_type, target.route, target.reason, target.shown)

    async def _open(
        self,
        path: str,
        params: Mapping[str, str] | Sequence[tuple[str, str]],
        method: str,
        deadline: Deadline,
        *,
        quiet: float | None,
    ) -> Answer:
        from kubeletclient._answers import Call  # httpx takes a tenth of a second
        from kubeletclient.aio.answers import open_answer

        checked_path(path)
        options = list(params.items()) if isinstance(params, Mapping) else list(params)

        def target(way: Way) -> Target:
            return way.node_target(self.name, path, options)

        async def opener(way: Way, target: Target) -> Answer:
            return await open_answer(Call(way, target, f"the kubelet's {path}", method, quiet=quiet), deadline)

        verb = "read" if method == "GET" else "change"
        steps = self._client._door.reach_node(self.name, self._via, verb, target)
        answer: Answer = await self._client._follow(steps, deadline, opener)
        return answer

"""The rest of a kubelet's API: plain requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kubeletclient._door import Way
from kubeletclient._policy import Deadline
from kubeletclient.endpoints import Target, checked_path
from kubeletclient.results import Reply
from kubeletclient.routes import Via
from kubeletclient.sync.door import Client
from spdyproto.limits import MIB

if TYPE_CHECKING:
    from kubeletclient.sync.answers import Answer

__all__ = ["Node"]


class Node:
    """A node's kubelet; made by ``Cluster.node``. ``Kubelet`` has the same ``request``."""

    def __init__(self, client: Client, name: str, via: Via | None = None) -> None:
        self.name = name
        self._client = client
        self._via = via

    def __repr__(self) -> str:
        return f"<Node {self.name} of {self._client!r}>"

    def request(
        self,
        path: str,
        params: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        *,
        method: str = "GET",
        timeout: float | None = None,
        limit: int = 64 * MIB,
    ) -> Reply:
        """Send a request to the kubelet and take its whole answer, of at most ``limit`` bytes.

        ``path`` begins with a slash and is sent as it is, ``params`` is the query. Raises Unauthorized, Forbidden,
        NotFound, ServerError... for every answer but 2xx, with the kubelet's words in ``message``; ConnectError and
        its kin; ConnectionLost for an answer that was cut off; InvalidAnswer for one that is too large;
        DeadlineExceeded.
        """
        answer = self._open(path, params, method, Deadline.after(timeout), quiet=60.0)
        target = answer.call.target
        body = answer.read(limit)
        return Reply(body, answer.content_type, target.route, target.reason, target.shown)

    def _open(
        self,
        path: str,
        params: Mapping[str, str] | Sequence[tuple[str, str]],
        method: str,
        deadline: Deadline,
        *,
        quiet: float | None,
    ) -> Answer:
        from kubeletclient._answers import Call  # httpx takes a tenth of a second
        from kubeletclient.sync.answers import open_answer

        checked_path(path)
        options = list(params.items()) if isinstance(params, Mapping) else list(params)

        def target(way: Way) -> Target:
            return way.node_target(self.name, path, options)

        def opener(way: Way, target: Target) -> Answer:
            return open_answer(Call(way, target, f"the kubelet's {path}", method, quiet=quiet), deadline)

        verb = "read" if method == "GET" else "change"
        steps = self._client._door.reach_node(self.name, self._via, verb, target)
        answer: Answer = self._client._follow(steps, deadline, opener)
        return answer

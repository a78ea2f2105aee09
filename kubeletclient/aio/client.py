"""The asyncio client: a kubelet, and streaming URLs that were made elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from kubeletclient._door import KubeletDoor, PodRef
from kubeletclient._plan import plan_process
from kubeletclient._policy import CAPTURE_LIMIT, PIPE, Deadline
from kubeletclient._settings import Settings
from kubeletclient._trust import ProxyChoice, Trust
from kubeletclient.aio.background import AsyncInput, AsyncOutput
from kubeletclient.aio.commands import to_plan
from kubeletclient.aio.door import Client
from kubeletclient.aio.nodes import Node
from kubeletclient.aio.pods import Pod
from kubeletclient.aio.process import Opening, Targets, open_process
from kubeletclient.credentials import Credentials
from kubeletclient.endpoints import KUBELET_PORT, parse_endpoint, parse_target
from kubeletclient.results import Reply
from spdyproto.channels.events import StreamSet
from spdyproto.channels.subprotocols import Subprotocol
from spdyproto.limits import MIB, Deadlines, Keepalive, Limits
from spdyproto.pem import PathOrPEM
from spdyproto.types import Tracer

__all__ = ["Kubelet", "connect_exec"]


class Kubelet(Client):
    """One node's kubelet, reached directly: no apiserver takes part. Parameters as of ``kubeletclient.Kubelet``.

    Any number of commands may run at once: each has a connection of its own, all share one TLS context. A process
    belongs to the loop that it was started on; the object itself to none.
    """

    def __init__(
        self,
        url: str,
        *,
        ca: PathOrPEM | None = None,
        credentials: Credentials | None = None,
        server_name: str | None = None,
        verify: bool = True,
        pinned: PathOrPEM | None = None,
        allow_unverified_token: bool = False,
        proxy: ProxyChoice = None,
        deadlines: Deadlines | None = None,
        keepalive: Keepalive | None = Keepalive(),
        limits: Limits | None = None,
        transport: str = "auto",
        protocols: Sequence[Subprotocol] | None = None,
        method: Literal["POST", "GET"] = "POST",
        bearer_subprotocol: bool = False,
        user_agent: str | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self.endpoint = parse_endpoint(url, default_port=KUBELET_PORT)
        self._settings = Settings.of(
            Trust(
                ca=ca,
                verify=verify,
                credentials=credentials,
                server_name=server_name,
                allow_unverified_token=allow_unverified_token,
                proxy=proxy,
                pinned=pinned,
            ),
            transport=transport,
            method=method,
            protocols=protocols,
            limits=limits,
            deadlines=deadlines,
            keepalive=keepalive,
            user_agent=user_agent,
            tracer=tracer,
            bearer_subprotocol=bearer_subprotocol,
        )
        super().__init__(KubeletDoor(self.endpoint, self._settings))

    def __repr__(self) -> str:
        return f"<Kubelet {self.endpoint}>"

    def pod(self, name: str, namespace: str = "default", *, uid: str | None = None) -> Pod:
        """A pod on this node. Nothing is asked from the kubelet before a command is run in it.

        With ``uid`` the kubelet refuses a pod of the same name that has replaced it.
        """
        return Pod(self, PodRef(namespace, name, uid))

    async def request(
        self,
        path: str,
        params: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        *,
        method: str = "GET",
        timeout: float | None = None,
        limit: int = 64 * MIB,
    ) -> Reply:
        """A plain request to this kubelet's API; see ``Node.request``."""
        return await Node(self, "").request(path, params, method=method, timeout=timeout, limit=limit)


def connect_exec(
    url: str,
    *,
    method: Literal["POST", "GET"] = "POST",
    streams: StreamSet | None = None,
    credentials: Credentials | None = None,
    ca: PathOrPEM | None = None,
    server_name: str | None = None,
    verify: bool = True,
    allow_unverified_token: bool = False,
    proxy: ProxyChoice = None,
    stdin: AsyncInput = None,
    stdout: AsyncOutput | None = PIPE,
    stderr: AsyncOutput | None = PIPE,
    timeout: float | None = None,
    deadlines: Deadlines | None = None,
    keepalive: Keepalive | None = Keepalive(),
    limits: Limits | None = None,
    transport: str = "auto",
    protocols: Sequence[Subprotocol] | None = None,
    bearer_subprotocol: bool = False,
    capture_limit: int = CAPTURE_LIMIT,
    user_agent: str | None = None,
    tracer: Tracer | None = None,
) -> Opening:
    """Open a streaming URL that says everything itself: a runtime's one-time URL, or one that the caller has built.

    Parameters and rules as of ``kubeletclient.connect_exec``; await or enter the answer as that of ``Pod.popen``.
    """
    if streams is not None and streams.stdin and stdin is None:
        stdin = PIPE
    trust = Trust(
        ca=ca,
        verify=verify,
        credentials=credentials,
        server_name=server_name,
        allow_unverified_token=allow_unverified_token,
        proxy=proxy,
    )
    deadline = Deadline.after(timeout)
    plan = plan_process(
        stdin=to_plan(stdin), stdout=stdout, stderr=stderr, tty=False, capture_limit=capture_limit, streams=streams
    )
    settings = Settings.of(
        trust,
        transport=transport,
        method=method,
        protocols=protocols,
        limits=limits,
        deadlines=deadlines,
        keepalive=keepalive,
        user_agent=user_agent,
        tracer=tracer,
        bearer_subprotocol=bearer_subprotocol,
        once=True,
    )
    target = parse_target(url)
    targets = Targets(stdin, stdout, stderr)
    return Opening(
        open_process(settings.request(target, plan), plan, targets, (target.shown,), deadline, capture_limit)
    )

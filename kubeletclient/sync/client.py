"""The blocking client: a kubelet, and streaming URLs that were made elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from kubeletclient._door import KubeletDoor, PodRef
from kubeletclient._plan import plan_process
from kubeletclient._policy import CAPTURE_LIMIT, PIPE, Deadline, InputTarget, OutputTarget
from kubeletclient._settings import Settings
from kubeletclient._trust import ProxyChoice, Trust
from kubeletclient.credentials import Credentials
from kubeletclient.endpoints import KUBELET_PORT, parse_endpoint, parse_target
from kubeletclient.results import Reply
from kubeletclient.sync.door import Client
from kubeletclient.sync.nodes import Node
from kubeletclient.sync.pods import Pod
from kubeletclient.sync.process import Process, open_process
from spdyproto.channels.events import StreamSet
from spdyproto.channels.subprotocols import Subprotocol
from spdyproto.limits import MIB, Deadlines, Keepalive, Limits
from spdyproto.pem import PathOrPEM
from spdyproto.types import Tracer

__all__ = ["Kubelet", "connect_exec"]


class Kubelet(Client):
    """One node's kubelet, reached directly: no apiserver takes part.

    - ``url``: ``https://HOST[:PORT]``; port 10250 if none is given. Making the object connects to nothing and reads
      nothing.
    - ``ca``: whom to trust, as a path or as PEM bytes; None trusts the system's authorities, which rarely know a
      kubelet.
    - ``credentials``: ``ClientCertificate``, ``BearerToken`` or None.
    - ``server_name``: the name to ask for and to verify, when it is not the host of the URL.
    - ``pinned``: the only certificate that it may present, whatever name it has and whoever signed it.
    - ``verify=False`` accepts any certificate: whoever answers can pretend to be the kubelet.
    - ``allow_unverified_token=True`` lets a bearer token go out even so, or over plain HTTP.
    - ``proxy``: ``http://[USER:PASSWORD@]HOST:PORT``, ``https://`` or ``socks5://`` (extra ``proxy``); None for what
      ``HTTPS_PROXY``, ``HTTP_PROXY`` and ``NO_PROXY`` say, False for none.
    - ``deadlines``, ``keepalive``, ``limits``: see ``spdyproto.limits``; ``keepalive=None`` sends no PINGs.
    - ``transport``: ``"auto"``: SPDY/3.1, and WebSocket where the server's answer means that SPDY does not pass (the
      other way round behind a proxy); ``"spdy"`` or ``"ws"``: that one; ``"spdy:NAME"`` or ``"ws:NAME"``: one
      subprotocol, e.g. ``"ws:v4.channel.k8s.io"``, or ``"ws:none"``. Before v5 WebSocket cannot end stdin: see
      ``StdinCannotEnd``.
    - ``method``: of a SPDY request, ``"POST"`` or ``"GET"``, which kubelets authorize as ``create`` and ``get`` on
      ``nodes/proxy``; ``protocols``: the subprotocols to offer over SPDY, best first, which leaves no WebSocket to
      fall back to.
    - ``bearer_subprotocol=True`` hides a bearer token among the subprotocols of a WebSocket request, for proxies that
      drop the header. Others may log it there.
    - ``tracer``: see ``spdyproto.types.Tracer``.

    It is safe to share between threads: every command has a connection of its own, all share one TLS context.
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

    def request(
        self,
        path: str,
        params: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        *,
        method: str = "GET",
        timeout: float | None = None,
        limit: int = 64 * MIB,
    ) -> Reply:
        """A plain request to this kubelet's API; see ``Node.request``."""
        return Node(self, "").request(path, params, method=method, timeout=timeout, limit=limit)


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
    stdin: InputTarget = None,
    stdout: OutputTarget | None = PIPE,
    stderr: OutputTarget | None = PIPE,
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
) -> Process:
    """Open a streaming URL that says everything itself: a runtime's one-time URL, or one that the caller has built.

    For exec and for attach; the end of an attachment is no exit code, and ``wait`` answers 0 then (see ``Pod.attach``).

    ``https`` or plain ``http``. ``streams`` must be what the URL asks for, or the server waits for streams that do
    not come; None follows ``stdin``, ``stdout`` and ``stderr``. A stream in ``streams`` is a PIPE unless its
    parameter says otherwise. The URL is sent as it is, and only once, for a one-time URL serves one request:
    ``transport="auto"`` is SPDY here. Everything else as for ``Kubelet`` and ``Pod.popen``.
    """
    if streams is not None:
        stdin = PIPE if streams.stdin and stdin is None else stdin
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
        stdin=stdin, stdout=stdout, stderr=stderr, tty=False, capture_limit=capture_limit, streams=streams
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
    return open_process(settings.request(target, plan), plan, (target.shown,), deadline, capture_limit)

"""The kubelet's HTTP API: which path answers what, in which order things are checked, and in which words.

The order of one request (``k/k: pkg/kubelet/server/server.go``):

1. Go's ServeMux: a path that is not clean is redirected; one under no registered prefix is 404 before any
authentication.
2. Authentication (401), then authorization (403).
3. go-restful: within a prefix, an unknown shape is 404, a known one with a wrong method 405.
4. The handler. For exec and attach: options (400), pod (404), container (500), then the proxy to the runtime: not an
   upgrade (500); then WebSocket or SPDY: subprotocol and upgrade headers (400, 403 or 405 in the words of the runtime),
   101.
"""

from __future__ import annotations

import html
import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from functools import partial
from urllib.parse import quote

from fakekubelet.accounting import SessionRecord
from fakekubelet.auth import (
    Authenticator,
    Authorizer,
    User,
    forbidden_text,
    request_attributes,
)
from fakekubelet.forwarding import CONTAINERD_GRACE, Forwarded
from fakekubelet.forwardroute import answer_port_forward
from fakekubelet.mains import Attachment
from fakekubelet.messages import TEXT, Answer, RawAnswer, Request, Response, Upgrade, clean_path, go_error, plain
from fakekubelet.pods import Pod, PodTable
from fakekubelet.profiles import Profile
from fakekubelet.runtimes import ExecRequest, Execution, Runtime
from fakekubelet.sessions import ExecSession
from fakekubelet.upgrades import Carrier, SessionHost
from fakekubelet.websockets import dialect
from spdyproto.channels.events import StreamSet
from spdyproto.channels.subprotocols import Subprotocol
from spdyproto.channels.upgrade import negotiate_upgrade
from spdyproto.websocket.handshake import negotiate_websocket, take_bearer_token, wants_websocket

Handler = Callable[[Request, User, dict[str, str]], Answer | Awaitable[Answer]]
"""What answers a request of a known shape: an ordinary function, or a coroutine function. It is given the caller and
the named parts of the path."""


@dataclass(frozen=True, slots=True)
class Route:
    """One shape of a path: literal parts and ``{names}``. A last part ``{name...}`` takes all that is left, or nothing.

    ``methods`` may be empty: then every method will do.
    """

    methods: tuple[str, ...]
    shape: tuple[str, ...]
    handler: Handler

    def match(self, parts: Sequence[str]) -> dict[str, str] | None:
        """The named parts, or None if the shape is another."""
        shape, found = self.shape, {}
        if shape and shape[-1].endswith("...}"):
            if len(parts) < len(shape) - 1:
                return None
            found[shape[-1][1:-4]] = "/".join(parts[len(shape) - 1 :])
            shape, parts = shape[:-1], parts[: len(shape) - 1]
        if len(parts) != len(shape):
            return None
        for part, expected in zip(parts, shape, strict=True):
            if expected.startswith("{"):
                found[expected[1:-1]] = part
            elif part != expected:
                return None
        return found


def route(methods: str, path: str, handler: Handler) -> Route:
    """``route("GET POST", "/exec/{namespace}/{pod}/{container}", handler)``."""
    return Route(tuple(methods.split()), tuple(path.strip("/").split("/")), handler)


@dataclass(frozen=True, slots=True)
class Found:
    """What a table knows of a path: the first route of that shape and method, else the methods that there are."""

    route: Route | None
    names: dict[str, str]
    allowed: tuple[str, ...] = ()

    async def answer(self, request: Request, user: User) -> Answer:
        """What the route's handler says."""
        assert self.route is not None
        answer = self.route.handler(request, user, self.names)
        return await answer if isinstance(answer, Awaitable) else answer


class RouteTable:
    """Routes in order: the first that fits is taken."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)

    def find(self, method: str, path: str) -> Found:
        """For a clean path."""
        parts = path.strip("/").split("/")
        allowed: list[str] = []
        for each in self.routes:
            names = each.match(parts)
            if names is None:
                continue
            if method in each.methods or not each.methods:
                return Found(each, names)
            allowed += each.methods
        return Found(None, {}, tuple(dict.fromkeys(allowed)))


@dataclass(frozen=True, slots=True)
class Node:
    """What the routes need to know of the server."""

    name: str
    profile: Profile
    host_ip: str
    pods: PodTable
    authenticator: Authenticator
    authorize: Authorizer
    protocols: tuple[Subprotocol, ...]
    websocket_protocols: tuple[str, ...]
    executions: deque[Execution] = field(default_factory=deque)
    """Filled with the record of every session."""
    forwards: deque[Forwarded] = field(default_factory=deque)
    """Filled with the record of every forwarded connection."""
    forward_grace: float | None = CONTAINERD_GRACE
    """See ``fakekubelet.forwarding``."""


class Router:
    """The ``Application`` that is a kubelet. Add a route here, and its prefix is served."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._exact: dict[str, Callable[[Request], Response]] = {
            "/healthz": _healthz,
            **{f"/healthz/{name}": _ok for name in _CHECKS},
        }
        self._table = RouteTable(
            [
                route("GET", "/pods", self._pods),
                route("GET POST", "/exec/{namespace}/{pod}/{container}", self._exec),
                route("GET POST", "/exec/{namespace}/{pod}/{uid}/{container}", self._exec),
                route("GET POST", "/attach/{namespace}/{pod}/{container}", self._attach),
                route("GET POST", "/attach/{namespace}/{pod}/{uid}/{container}", self._attach),
                route("GET POST", "/portForward/{namespace}/{pod}", self._port_forward),
                route("GET POST", "/portForward/{namespace}/{pod}/{uid}", self._port_forward),
            ]
        )
        self._prefixes = {each.shape[0] for each in self._table.routes}

    async def answer(self, request: Request) -> Answer:
        """What the kubelet makes of a request."""
        path = clean_path(request.path)
        if path != request.path and request.method != "CONNECT":
            return _redirect(request, path)
        exact = self._exact.get(path)
        if exact is None and path.split("/", 2)[1] not in self._prefixes:
            return go_error(404, "404 page not found")
        node = self._node
        offer = take_bearer_token(request.headers)
        user = node.authenticator.authenticate(request.certificates, request.values(b"authorization"), offer)
        if user is None:
            return plain(401, "Unauthorized")
        if offer.token is not None:
            request = replace(request, headers=offer.headers)
        attributes = request_attributes(user, request.method, path, node.name, node.profile)
        if not any(node.authorize(each) for each in attributes):
            return plain(403, forbidden_text(attributes, node.profile))
        if exact is not None:
            return exact(request)
        found = self._table.find(request.method, path)
        if found.route is not None:
            return await found.answer(request, user)
        if not found.allowed:
            return plain(404, "404: Page Not Found")
        return plain(405, "405: Method Not Allowed", [("Allow", ", ".join(found.allowed))])

    def _pods(self, request: Request, user: User, names: dict[str, str]) -> Response:
        accepted = [each.split(";")[0].strip() for value in request.values(b"accept") for each in value.split(",")]
        if accepted and not {"*/*", "application/*", "application/json"} & set(accepted):
            return plain(406, "406: Not Acceptable\n\nAvailable representations: application/json")
        document = self._node.pods.document(self._node.name, self._node.host_ip)
        body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        return Response(200, body, [("Content-Type", "application/json")])

    def _exec(self, request: Request, user: User, names: dict[str, str]) -> Answer:
        return self._stream(request, user, names, attach=False)

    def _attach(self, request: Request, user: User, names: dict[str, str]) -> Answer:
        return self._stream(request, user, names, attach=True)

    def _port_forward(self, request: Request, user: User, names: dict[str, str]) -> Answer:
        node = self._node
        return answer_port_forward(
            request,
            node.pods.get(f"{names['namespace']}/{names['pod']}"),
            names.get("uid"),
            tunnels=node.profile.tunnels or "v5.channel.k8s.io" in node.websocket_protocols,  # the same gate
            grace=node.forward_grace,
            record=node.forwards.append,
        )

    def _stream(self, request: Request, user: User, names: dict[str, str], *, attach: bool) -> Answer:
        tty, stdin, stdout, stderr = (request.first(key) == "1" for key in ("tty", "input", "output", "error"))
        stderr = stderr and not tty  # dropped without a word
        if not (stdin or stdout or stderr):
            return plain(400, "you must specify at least 1 of stdin, stdout, stderr")
        pod = self._node.pods.get(f"{names['namespace']}/{names['pod']}")
        if pod is None:
            return plain(404, "pod does not exist")
        name = names["container"]
        container, main = pod.container(name), self._node.pods.main(pod.name, name)
        runtime = self._node.pods.runtime(pod.name, name)
        if container is None or main is None or runtime is None:
            missing = f"container {name} not found in pod {_full_name(pod)}"
            return plain(500, missing if attach else f"container not found ({json.dumps(name, ensure_ascii=False)})")
        if attach:
            # The container's word, not the client's: a terminal is there from the start or never.
            tty = container.tty
            if names.get("uid", pod.uid) != pod.uid:  # exec does not compare: it finds the pod by its full name
                return plain(500, f"pod {_full_name(pod)} not found")
        if main.over:
            return plain(500, _rpc_error("Unknown", "container is in CONTAINER_EXITED state"))
        if tty and stderr:
            return plain(500, _rpc_error("InvalidArgument", "tty and stderr cannot both be true"))
        if not request.wants_upgrade:
            return go_error(500, "Upgrade request required")
        wanted = ExecRequest(
            namespace=pod.namespace,
            pod=pod.short_name,
            container=name,
            argv=() if attach else tuple(request.query.get("command", ())),
            streams=StreamSet(stdin=stdin, stdout=stdout, stderr=stderr, tty=tty),
            protocol=Subprotocol.V4,
            user=user,
            attach=attach,
        )
        return self._upgrade(request, wanted, partial(Attachment, main=main) if attach else runtime)

    def _upgrade(self, request: Request, wanted: ExecRequest, runtime: Runtime) -> Answer:
        """The runtime's streaming server: what asks for a WebSocket gets one, everything else is taken for SPDY."""
        if wants_websocket(request.headers):
            decision = negotiate_websocket(request.headers, self._node.websocket_protocols, method=request.method)
            if decision.protocol is None:
                return RawAnswer(decision.to_bytes())
            protocol, transport = dialect(decision.protocol)
            return self._accept(decision.headers, replace(wanted, protocol=protocol, transport=transport), runtime)
        decision = negotiate_upgrade(request.headers, self._node.protocols)
        if decision.protocol is None:
            dated = [*decision.headers, (b"Date", formatdate(usegmt=True).encode())]
            return RawAnswer(replace(decision, headers=dated).to_bytes())
        protocol = Subprotocol(decision.protocol)
        return self._accept(decision.headers, replace(wanted, protocol=protocol), runtime)

    def _accept(self, headers: list[tuple[bytes, bytes]], request: ExecRequest, runtime: Runtime) -> Upgrade:
        def open_session(carrier: Carrier, host: SessionHost) -> ExecSession:
            session = ExecSession(carrier, host, request, runtime, self._node.profile)
            self._node.executions.append(session.execution)  # before the 101, so that a client which has it finds it
            return session

        target = f"{request.namespace}/{request.pod}/{request.container}"
        kind = "attach" if request.attach else "exec"
        return Upgrade(headers, open_session, SessionRecord(kind, target, request.user.name))


_CHECKS = ("ping", "log", "syncloop")


def _healthz(request: Request) -> Response:
    excluded = set(request.query.get("exclude", ()))
    if "verbose" not in request.query:
        text = "ok"
    else:
        lines = [f"[+]{name} excluded: ok" if name in excluded else f"[+]{name} ok" for name in _CHECKS]
        unknown = sorted(excluded.difference(_CHECKS))
        if unknown:
            names = ",".join(json.dumps(name) for name in unknown)
            lines.append(f"warn: some health checks cannot be excluded: no matches for {names}")
        text = "\n".join([*lines, "healthz check passed", ""])
    return Response(200, text.encode(), [("Content-Type", TEXT), ("X-Content-Type-Options", "nosniff")])


def _full_name(pod: Pod) -> str:
    """As the kubelet names a pod among its own."""
    return f"{pod.short_name}_{pod.namespace}"


def _rpc_error(code: str, text: str) -> str:
    """What the runtime says to the kubelet, in the words of gRPC."""
    return f"rpc error: code = {code} desc = {text}"


def _ok(request: Request) -> Response:
    return plain(200, "ok")


def _redirect(request: Request, path: str) -> Response:
    target = quote(path, errors="surrogateescape")
    if request.method not in ("GET", "HEAD"):
        return Response(301, headers=[("Location", target)])
    body = f'<a href="{html.escape(target)}">Moved Permanently</a>.\n\n'
    return Response(301, body.encode(), [("Location", target), ("Content-Type", "text/html; charset=utf-8")])

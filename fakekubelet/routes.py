"""The kubelet's HTTP API: which path answers what, in which order things are checked, and in which words.

The order of one request (``k/k: pkg/kubelet/server/server.go``):

1. Go's ServeMux: a path that is not clean is redirected, and one that lacks the slash of a folder; one under no
   registered prefix is 404 before any authentication.
2. Authentication (401), then authorization (403, or 500 if it failed).
3. go-restful: within a prefix, an unknown shape is 404, a known one with a wrong method 405.
4. The handler: ``streamapi``, ``logapi``, ``nodeapi``, ``metrics``.

``Router(node)`` is the server of port 10250, ``Router(node, read_only=True)`` that of 10255, which knows neither
authentication nor anything that debugs, and ``HealthRouter`` that of 10248.
"""

from __future__ import annotations

import html
import time
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from urllib.parse import quote

from fakekubelet.auth import ANONYMOUS, User, refusal_of, request_attributes
from fakekubelet.logapi import LogAPI
from fakekubelet.messages import Answer, Request, Response, clean_path, go_error, plain
from fakekubelet.metrics import MetricsAPI, RequestCounts
from fakekubelet.node import Node
from fakekubelet.nodeapi import CHECKS, NodeAPI
from fakekubelet.routing import Handler, Route, RouteTable, route
from fakekubelet.streamapi import StreamAPI
from spdyproto.websocket.handshake import take_bearer_token

_CONTAINER = ("{namespace}/{pod}/{container}", "{namespace}/{pod}/{uid}/{container}")
_DEBUGGING = (
    "/run/",
    "/exec/",
    "/attach/",
    "/portForward/",
    "/containerLogs/",
    "/runningpods/",
    "/debug/pprof/",
    "/logs/",
)

__all__ = ["HealthRouter", "Router"]


@dataclass(frozen=True, slots=True)
class _Service:
    """What Go calls a handler of a prefix: routes of go-restful, or one function for all methods."""

    table: RouteTable | None = None
    handler: Handler | None = None

    async def answer(self, request: Request, user: User, path: str) -> Answer:
        if self.handler is not None:
            answer = self.handler(request, user, {})
            return await answer if isinstance(answer, Awaitable) else answer
        assert self.table is not None
        found = self.table.find(request.method, path)
        if found.route is not None:
            return await found.answer(request, user)
        if not found.allowed:
            return plain(404, "404: Page Not Found")
        return plain(405, "405: Method Not Allowed", [("Allow", ", ".join(found.allowed))])


class Mux:
    """Go's ServeMux: exact paths, and prefixes that end with a slash, of which the longest wins."""

    def __init__(self) -> None:
        self._patterns: dict[str, _Service] = {}

    def handle(self, pattern: str, handler: Handler) -> None:
        """Every method of that path, or below it if it ends with a slash."""
        self._patterns[pattern] = _Service(handler=handler)

    def add(self, root: str, *routes: Route) -> None:
        """A web service of go-restful. With a slash at the end of ``root``, the path without one is redirected."""
        service = _Service(RouteTable(routes))
        self._patterns[root] = service
        self._patterns[root.rstrip("/") + "/"] = service

    @property
    def paths(self) -> tuple[str, ...]:
        """What is registered."""
        return tuple(sorted(dict.fromkeys(pattern.rstrip("/") for pattern in self._patterns)))

    def find(self, path: str) -> _Service | str | None:
        """What serves a clean path; a text is where it redirects to."""
        found = self._patterns.get(path)
        if found is not None:
            return found
        if path + "/" in self._patterns:
            return path + "/"
        prefix = path
        while prefix:
            prefix = prefix[: prefix.rstrip("/").rfind("/") + 1]
            found = self._patterns.get(prefix)
            if found is not None or prefix == "/":
                return found
        return None


class Router:
    """The ``Application`` that is a kubelet."""

    def __init__(self, node: Node, *, read_only: bool = False, counts: RequestCounts | None = None) -> None:
        self._node = node
        self._read_only = read_only
        self._mux = mux = Mux()
        self._api = api = NodeAPI(node)
        buckets = "healthz pods stats metrics metrics/cadvisor metrics/probes metrics/resource run exec attach"
        buckets += " portForward containerLogs configz runningpods checkpoint debug pprof logs flagz statusz"
        self.counts = counts or RequestCounts(buckets.split())
        metrics = MetricsAPI(node, self.counts)
        mux.handle("/healthz", api.healthz)
        for name in CHECKS:
            mux.handle(f"/healthz/{name}", api.check)
        mux.add("/pods", route("GET", "/pods", api.pods))
        mux.add("/stats/", route("GET POST", "/stats/summary", api.summary))
        mux.handle("/metrics", metrics.kubelet)
        for name, handler in (
            ("cadvisor", metrics.cadvisor),
            ("resource", metrics.resource),
            ("probes", metrics.probes),
            ("slis", metrics.slis),
        ):
            mux.handle(f"/metrics/{name}", handler)
        if node.serving.debugging and not read_only:
            self._add_debugging()
        else:
            for prefix in _DEBUGGING:
                mux.handle(prefix, _disabled("Debug endpoints are disabled."))
        api.paths = tuple(path for path in mux.paths if path not in ("/statusz", "/flagz"))

    def _add_debugging(self) -> None:
        node, mux, api = self._node, self._mux, self._api
        streams, logs, serving = StreamAPI(node), LogAPI(node), node.serving
        for root, methods, stream in (
            ("/run", "POST", streams.run),
            ("/exec", "GET POST", streams.exec),
            ("/attach", "GET POST", streams.attach),
        ):
            mux.add(root, *(route(methods, f"{root}/{shape}", stream) for shape in _CONTAINER))
        shapes = ("{namespace}/{pod}", "{namespace}/{pod}/{uid}")
        mux.add("/portForward", *(route("GET POST", f"/portForward/{shape}", streams.port_forward) for shape in shapes))
        mux.add("/containerLogs", route("GET", f"/containerLogs/{_CONTAINER[0]}", logs.container_logs))
        mux.handle("/configz", api.configz)
        mux.add("/runningpods/", route("GET", "/runningpods", api.running_pods))
        if node.profile.serves("checkpoint"):
            mux.add("/checkpoint/", route("POST", f"/checkpoint/{_CONTAINER[0]}", api.checkpoint))
        if serving.system_logs:
            mux.add("/logs/", route("GET", "/logs/{path...}", logs.node_logs))
        else:
            mux.handle("/logs/", _disabled("logs endpoint is disabled."))
        if serving.profiling:
            mux.add("/debug/pprof/", route("GET", "/debug/pprof/{path...}", api.pprof))
        else:
            mux.handle("/debug/pprof/", _disabled("profiling endpoint is disabled."))
        flags = api.debug_flag if serving.debug_flags else _disabled("flags endpoint is disabled.")
        mux.handle("/debug/flags/v", flags)
        for name, handler in (("flagz", api.flagz), ("statusz", api.statusz)):
            if node.profile.serves(name):
                mux.handle(f"/{name}", handler)

    async def answer(self, request: Request) -> Answer:
        """What the kubelet makes of a request."""
        began = time.monotonic()
        labels = self.counts.begin(request.method, request.path, "readonly" if self._read_only else "readwrite")
        try:
            return await self._answer(request)
        finally:
            self.counts.end(labels, time.monotonic() - began)

    async def _answer(self, request: Request) -> Answer:
        path = clean_path(request.path)
        if path != request.path and request.method != "CONNECT":
            return _redirect(request, path)
        service = self._mux.find(path)
        if service is None:
            return go_error(404, "404 page not found")
        if isinstance(service, str):
            return _redirect(request, service)
        user = ANONYMOUS
        if not self._read_only:
            node = self._node
            offer = take_bearer_token(request.headers)
            caller = await node.authenticator.authenticate(
                request.certificates, request.values(b"authorization"), offer
            )
            if caller is None:
                return plain(401, "Unauthorized")
            if offer.token is not None:
                request = replace(request, headers=offer.headers)
            user = caller
            attributes = request_attributes(
                user,
                request.method,
                path,
                node.name,
                node.profile,
                streams_create=node.streams_create,
            )
            refused = await refusal_of(node.authorize, attributes, node.profile)
            if refused is not None:
                return plain(*refused)
        return await service.answer(request, user, path)


class HealthRouter:
    """The ``Application`` of port 10248: ``/healthz`` and its parts, for everybody."""

    def __init__(self, node: Node) -> None:
        self._mux = Mux()
        api = NodeAPI(node)
        self._mux.handle("/healthz", api.healthz)
        for name in CHECKS:
            self._mux.handle(f"/healthz/{name}", api.check)

    async def answer(self, request: Request) -> Answer:
        """As ``Application.answer``."""
        path = clean_path(request.path)
        if path != request.path and request.method != "CONNECT":
            return _redirect(request, path)
        service = self._mux.find(path)
        if not isinstance(service, _Service):
            return go_error(404, "404 page not found")
        return await service.answer(request, ANONYMOUS, path)


def _disabled(text: str) -> Handler:
    return lambda request, user, names: go_error(405, text)


def _redirect(request: Request, path: str) -> Response:
    target = quote(path, errors="surrogateescape")
    query = request.target.partition("?")[2]
    if query:
        target += "?" + quote(query, safe="%&=+/:?,;@!$'()*[]~")
    if request.method not in ("GET", "HEAD"):
        return Response(301, headers=[("Location", target)])
    body = f'<a href="{html.escape(target)}">Moved Permanently</a>.\n\n'
    return Response(301, body.encode(), [("Location", target), ("Content-Type", "text/html; charset=utf-8")])

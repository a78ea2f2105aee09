"""What the fake apiserver answers: who asks, whether they may, and what is at that path.

The order of one request is that of ``k8s.io/apiserver: pkg/server/config.go``: authentication (401), impersonation,
authorization (403), then the path (404), the method (405) and the request itself (400, 422).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from fakekubelet.apiserver import discovery, media, objects
from fakekubelet.apiserver.forwarding import Forwarder
from fakekubelet.apiserver.gates import Gates
from fakekubelet.apiserver.objects import json_response
from fakekubelet.apiserver.rbac import AccessJudge
from fakekubelet.apiserver.requests import Meaning, understand
from fakekubelet.apiserver.resources import Object, Resource, find
from fakekubelet.apiserver.reviews import impersonated, review
from fakekubelet.apiserver.status import (
    StatusError,
    forbidden,
    forbidden_path,
    method_not_supported,
    no_such_path,
    unauthorized,
)
from fakekubelet.apiserver.store import Store
from fakekubelet.apiserver.streams import StreamHandler
from fakekubelet.auth import Authenticator, User
from fakekubelet.messages import TEXT, Answer, Request, Response
from spdyproto.websocket.handshake import take_bearer_token

_PATHS = (
    "/api",
    "/api/v1",
    "/apis",
    "/healthz",
    "/livez",
    "/metrics",
    "/openapi/v2",
    "/openapi/v3",
    "/readyz",
    "/version",
)
_DROPPED = (b"authorization", b"impersonate-user", b"impersonate-group", b"impersonate-uid")


@dataclass(slots=True)
class Services:
    """What the application is made of."""

    store: Store
    authenticator: Authenticator
    tokens: Mapping[str, User]
    judge: AccessJudge
    gates: Gates
    streams: StreamHandler
    forwarder: Forwarder
    metrics: Callable[[], bytes]
    address: str = ""


class ApiserverApplication:
    """An ``Application`` of ``fakekubelet.messages``."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def answer(self, request: Request) -> Answer:
        """As ``Application.answer``; whatever is wrong with the request is a Status."""
        try:
            return await self._answer(request)
        except StatusError as error:
            response = json_response(error.document(), error.code)
            response.headers += error.headers
            # A body that nobody read, or an upgrade that did not come about: what follows on the connection is not
            # taken for another request.
            response.close = request.wants_upgrade
            return response

    async def _answer(self, request: Request) -> Answer:
        services = self._services
        offer = take_bearer_token(request.headers)
        sent = request.values(b"authorization")
        user = await services.authenticator.authenticate(request.certificates, sent, offer)
        if user is None:
            raise unauthorized()
        if offer.token is not None:
            request = replace(request, headers=offer.headers)
        meaning = understand(request)
        wanted = {name: request.values(name.encode()) for name in ("impersonate-user", "impersonate-group")}
        user = impersonated(user, wanted, services.judge)
        request = replace(request, headers=[line for line in request.headers if not _is_credential(line[0])])
        resource = find(meaning.group, meaning.version, meaning.resource) if meaning.resource else None
        access = meaning.access(user)
        if not services.judge(access):
            if not meaning.resource:
                raise forbidden_path(access.refusal())
            unknown = Resource(meaning.resource, "", meaning.group, meaning.version)
            raise forbidden(resource or unknown, meaning.name, access.refusal())
        if not meaning.resource:
            return self._plain(request)
        if resource is None or (meaning.namespace and not resource.namespaced and resource.plural != "namespaces"):
            raise no_such_path()
        if meaning.subresource:
            return await self._subresource(request, resource, meaning, user)
        return self._object(request, resource, meaning, user)

    # -- resources ---------------------------------------------------------------------------------------------------

    def _object(self, request: Request, resource: Resource, meaning: Meaning, user: User) -> Answer:
        services = self._services
        namespace = meaning.namespace if resource.namespaced else ""
        if "create" in resource.verbs and meaning.verb == "create":
            judge = services.judge
            document = review(resource, namespace, request, user, judge, services.tokens.get)
            return json_response(document, 201)
        if meaning.verb not in resource.verbs:
            raise method_not_supported(resource, meaning.verb)
        match meaning.verb:
            case "get":
                return objects.get(services.store, resource, namespace, meaning.name, request)
            case "watch":
                return objects.watch(services.store, resource, namespace, request)
            case _:
                return objects.list_(services.store, resource, namespace, request)

    async def _subresource(self, request: Request, resource: Resource, meaning: Meaning, user: User) -> Answer:
        known = {each.name: each for each in resource.subresources}.get(meaning.subresource)
        if known is None:
            raise no_such_path()
        if meaning.verb not in known.verbs:
            raise method_not_supported(resource, meaning.verb)
        match meaning.subresource:
            case "log":
                return await self._services.forwarder.log(request, meaning)
            case "proxy" if not request.wants_upgrade:
                return await self._services.forwarder.proxy(request, meaning)
            case _:
                return await self._services.streams.answer(request, meaning, user)

    # -- paths that are no resource ----------------------------------------------------------------------------------

    def _plain(self, request: Request) -> Answer:
        if request.method not in ("GET", "HEAD"):
            raise no_such_path()
        path = request.path.rstrip("/") or "/"
        release = self._services.gates.release
        if path in ("/healthz", "/livez", "/readyz", "/healthz/ping"):
            return Response(200, b"ok", [("Content-Type", TEXT), ("X-Content-Type-Options", "nosniff")])
        if path == "/metrics":
            return self._metrics()
        documents: dict[str, Callable[[], Object | None]] = {
            "/": lambda: {"paths": [*_PATHS, *(f"/apis/{g['name']}" for g in discovery.group_list()["groups"])]},
            "/version": lambda: discovery.version_document(release),
            "/openapi/v2": lambda: discovery.openapi_v2(release),
            "/openapi/v3": discovery.openapi_v3,
            "/api/v1": lambda: discovery.resource_list(""),
        }
        if path in documents:
            return json_response(documents[path]() or {})
        if path in ("/api", "/apis"):
            return self._groups(request, core=path == "/api")
        parts = path.split("/")
        if parts[1] == "apis" and len(parts) in (3, 4) and parts[3:] in ([], ["v1"]):
            found = discovery.group(parts[2])
            if found is not None and len(parts) == 4:
                found = discovery.resource_list(parts[2])
            if found is not None:
                return json_response(found)
        raise no_such_path()

    def _metrics(self) -> Response:
        try:
            body = self._services.metrics()
        except ImportError:
            raise StatusError(501, "", "metrics need prometheus_client: pip install 'kubewire[metrics]'") from None
        return Response(200, body, [("Content-Type", "text/plain; version=0.0.4; charset=utf-8")])

    def _groups(self, request: Request, *, core: bool) -> Response:
        kind = ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2")
        form = media.accepted(request.values(b"accept"), kinds=[kind])
        if form is not None and form.kind:
            return json_response(discovery.aggregated(core=core), media_type=discovery.AGGREGATED)
        return json_response(discovery.api_versions(self._services.address) if core else discovery.group_list())


def _is_credential(name: bytes) -> bool:
    """What the apiserver authenticates by, and so keeps to itself."""
    return name in _DROPPED or name.startswith((b"impersonate-extra-", b"x-remote-"))

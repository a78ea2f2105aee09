"""What a request means: the verb, and the resource or the path (``k8s.io/apiserver: pkg/endpoints/request``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fakekubelet.apiserver.objects import truth
from fakekubelet.apiserver.rbac import Access
from fakekubelet.apiserver.status import bad_request
from fakekubelet.auth import User
from fakekubelet.messages import Request

_VERBS: Mapping[str, str] = MappingProxyType(
    {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
)


@dataclass(frozen=True, slots=True)
class Meaning:
    """Of one request; ``resource`` is empty for a path that is none. ``rest`` is what follows the subresource."""

    verb: str
    path: str
    group: str = ""
    version: str = ""
    resource: str = ""
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    rest: tuple[str, ...] = ()

    def access(self, user: User, verb: str = "") -> Access:
        """The question to authorization, for this verb or another."""
        fields = (self.group, self.resource, self.subresource, self.namespace, self.name)
        return Access(user, verb or self.verb, *fields, path=self.path)


def understand(request: Request) -> Meaning:
    """What a request means. Raises StatusError 400 for a path that climbs: proxies on the way clean such paths, or do
    not, and then two servers see two requests."""
    parts = request.path.split("/")[1:]
    if any(part in (".", "..") for part in parts):
        raise bad_request("the path may not contain the segments '.' and '..'")
    plain = Meaning(request.method.lower(), request.path)
    if parts[0] == "api" and len(parts) > 2 and parts[2]:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) > 3 and parts[3]:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return plain
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 1 and rest[1]:
        namespace = rest[1]
        if len(rest) > 2 and rest[2] not in ("", "status", "finalize"):
            rest = rest[2:]
    resource, name, subresource = (*rest, "", "")[0], *(*rest[1:], "", "")[:2]
    verb = _VERBS.get(request.method, "")
    if not name:
        verb = {"get": "watch" if truth(request, "watch") else "list", "delete": "deletecollection"}.get(verb, verb)
        for part in request.first("fieldSelector").split(","):
            if part.startswith("metadata.name="):
                name = part.removeprefix("metadata.name=").removeprefix("=")
    return Meaning(verb, request.path, group, version, resource, namespace, name, subresource, tuple(rest[3:]))

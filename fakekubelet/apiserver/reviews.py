"""Questions to the apiserver: who is this token, may that user do this, who am I.

Kubelets ask the first two (``TokenReview``, ``SubjectAccessReview``: ``k/k: pkg/kubelet/server/auth.go``),
``kubectl auth can-i`` and ``kubectl auth whoami`` the others. An answer is the question with its ``status`` filled in.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from fakekubelet.apiserver.protobuf import MEDIA_TYPE, decode_review
from fakekubelet.apiserver.rbac import Access, AccessJudge
from fakekubelet.apiserver.resources import Object, Resource
from fakekubelet.apiserver.status import StatusError, bad_request, forbidden, invalid
from fakekubelet.auth import User
from fakekubelet.messages import Request

TokenLookup = Callable[[str], User | None]


def review(
    resource: Resource, namespace: str, request: Request, caller: User, judge: AccessJudge, lookup: TokenLookup
) -> Object:
    """The answer to the review that a request holds. Raises StatusError for one that makes no sense."""
    document = _read(request, resource)
    spec = document.get("spec")
    if not isinstance(spec, dict):
        spec = {}
    match resource.kind:
        case "TokenReview":
            status = _token_review(spec, lookup)
        case "SelfSubjectReview":
            status = {"userInfo": _user_info(caller)}
        case "SelfSubjectAccessReview":
            status = _access_review(resource, spec, caller, judge)
        case _:
            status = _subject_review(resource, namespace, spec, judge)
    return {**document, "metadata": document.get("metadata") or {"creationTimestamp": None}, "status": status}


def _read(request: Request, resource: Resource) -> Object:
    document: object
    if any(value.startswith(MEDIA_TYPE) for value in request.values(b"content-type")):
        document = decode_review(request.body)
    else:
        try:
            document = json.loads(request.body or b"null")
        except (ValueError, RecursionError):
            document = None
    if not isinstance(document, dict):
        raise bad_request("the body of the request is no JSON object")
    kind, version = (
        document.setdefault("kind", resource.kind),
        document.setdefault("apiVersion", resource.group_version),
    )
    if kind != resource.kind or version not in (resource.group_version, f"{resource.group}/v1beta1"):
        raise bad_request(f"{version}, Kind={kind} in the body is no {resource.kind} ({resource.group_version})")
    return document


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _token_review(spec: Object, lookup: TokenLookup) -> Object:
    token = _text(spec.get("token"))
    if not token:
        raise invalid("TokenReview.authentication.k8s.io", "", [("spec.token", "Required value")])
    user = lookup(token)
    if user is None:
        return {"user": {}, "error": "[invalid bearer token, unknown]"}
    return {"authenticated": True, "user": _user_info(user)}


def _user_info(user: User) -> Object:
    info: Object = {"username": user.name}
    if user.groups:
        info["groups"] = list(user.groups)
    return info


def _subject_review(resource: Resource, namespace: str, spec: Object, judge: AccessJudge) -> Object:
    name, groups = _text(spec.get("user")), spec.get("groups") or []
    if not isinstance(groups, list):
        groups = []
    if not name and not groups:
        raise invalid(resource.qualified, "", [("spec.user", "at least one of user or group must be specified")])
    if resource.namespaced:  # LocalSubjectAccessReview: of its own namespace only
        asked = spec.get("resourceAttributes")
        if not isinstance(asked, dict) or asked.get("namespace", "") != namespace:
            raise invalid(resource.qualified, "", [("spec.resourceAttributes.namespace", f"must match {namespace}")])
    return _access_review(resource, spec, User(name, tuple(_text(each) for each in groups)), judge)


def _access_review(resource: Resource, spec: Object, user: User, judge: AccessJudge) -> Object:
    asked, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if isinstance(asked, dict) == isinstance(path, dict):
        fault = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        raise invalid(resource.qualified, "", [("spec.resourceAttributes", fault)])
    if isinstance(asked, dict):
        fields = {
            key: _text(asked.get(key)) for key in ("verb", "group", "resource", "subresource", "namespace", "name")
        }
        allowed = judge(Access(user, **fields))
    else:
        assert isinstance(path, dict)
        allowed = judge(Access(user, _text(path.get("verb")), path=_text(path.get("path"))))
    return {"allowed": True, "reason": "a rule allows it"} if allowed else {"allowed": False}


def impersonated(caller: User, headers: dict[str, list[str]], judge: AccessJudge) -> User:
    """Whom a request acts for: the headers ``Impersonate-*`` name another user, and the caller needs the verb
    ``impersonate`` for each part. ``headers`` have names in lower case.

    Raises StatusError 403 where it is not allowed, and 400 for groups without a user.
    """
    names, groups = headers.get("impersonate-user", []), headers.get("impersonate-group", [])
    if not names or not names[0]:
        if groups:
            raise StatusError(
                500, "InternalError", f"requested {groups} without impersonating a user", details={"causes": []}
            )
        return caller
    for resource, values in ((_USERS, names[:1]), (_GROUPS, groups)):
        for value in values:
            access = Access(caller, "impersonate", resource=resource.plural, name=value)
            if not judge(access):
                raise forbidden(resource, value, access.refusal())
    return User(names[0], (*groups, "system:authenticated") if "system:authenticated" not in groups else tuple(groups))


_USERS = Resource("users", "User", namespaced=False)
_GROUPS = Resource("groups", "Group", namespaced=False)

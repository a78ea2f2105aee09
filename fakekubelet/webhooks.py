"""Authentication and authorization by another server: TokenReview and SubjectAccessReview, really called.

A kubelet asks the apiserver, whose answers it keeps for a while: who a token belongs to for 2 minutes, what is allowed
for 5 minutes and what is forbidden for 30 seconds. So a token or a right that was taken away works on for as long.

::

    apiserver = WebhookServer("https://127.0.0.1:6443", ca=Path("ca.crt"), token="the kubelet's own")
    FakeKubelet(token_check=TokenReview(apiserver), authorize=SubjectAccessReview(apiserver))

Sources: ``k8s.io/apiserver: plugin/pkg/authenticator/token/webhook``, ``plugin/pkg/authorizer/webhook``,
``pkg/authentication/token/cache``; ``k/k: pkg/kubelet/apis/config/v1beta1/defaults.go`` (the lifetimes).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import httpx

from fakekubelet.auth import Attributes, User
from spdyproto.pem import PathOrPEM
from spdyproto.tls import client_context

CACHE_ENTRIES = 4096
"""Answers that are remembered at once; the oldest one makes way. As a kubelet's caches: more would be a leak."""

_ANSWER_LIMIT = 1024 * 1024  # bytes of a review that are read

_Value = TypeVar("_Value")


class WebhookError(Exception):
    """A review that was not given: the server could not be reached, or its answer is none."""


class Cache(Generic[_Value]):
    """Values that live for a while, at most ``CACHE_ENTRIES`` of them. ``clock`` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: OrderedDict[bytes, tuple[float, _Value]] = OrderedDict()

    def get(self, key: bytes) -> tuple[_Value] | None:
        """The value, in a tuple since it may be None, if it lives still."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[0] <= self._clock():
            del self._entries[key]
            return None
        return (entry[1],)

    def put(self, key: bytes, value: _Value, seconds: float) -> None:
        """Keep it for that long; not at all if that is zero."""
        self._entries.pop(key, None)
        if seconds > 0:
            self._entries[key] = (self._clock() + seconds, value)
            if len(self._entries) > CACHE_ENTRIES:
                self._entries.popitem(last=False)

    def __len__(self) -> int:
        return len(self._entries)


class WebhookServer:
    """Where reviews are asked for, and as whom.

    ``url`` is the apiserver's, https and without a path. ``ca`` is what its certificate must come from (None: the
    system's store); ``certificate`` and ``key``, or ``token``, say who asks. ``backoff`` are the seconds before each
    further try after one that failed for a reason that may pass: no connection, 429, 5xx. ``timeout`` bounds each try.

    Safe to share between servers: a connection is made for each review. Redirects are not followed, and no proxy of
    the environment is used. Raises ValueError for an address that is not https: tokens are sent there.
    """

    def __init__(
        self,
        url: str,
        *,
        ca: PathOrPEM | None = None,
        certificate: PathOrPEM | None = None,
        key: PathOrPEM | None = None,
        token: str | None = None,
        timeout: float = 10.0,
        backoff: Sequence[float] = (0.5, 0.75, 1.125, 1.6875),
    ) -> None:
        if not url.startswith("https://"):
            raise ValueError(f"url: expected https://HOST[:PORT], not {url!r}: reviews carry tokens")
        self._url = url.rstrip("/")
        self._timeout = timeout
        self._backoff = tuple(backoff)
        self._headers = {"Accept": "application/json"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._context = client_context(ca=ca, certificate=certificate, key=key)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._url}>"

    async def review(self, group: str, resource: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
        """Post a review and give its ``status``. Raises WebhookError when there is none."""
        path = f"/apis/{group}/v1/{resource}"
        document = {"kind": kind, "apiVersion": f"{group}/v1", "metadata": {}, "spec": spec}
        for pause in (*self._backoff, None):
            try:
                async with httpx.AsyncClient(
                    verify=self._context, trust_env=False, timeout=self._timeout, headers=self._headers
                ) as client:
                    answer = await client.post(self._url + path, json=document)
                if answer.status_code != 429 and answer.status_code < 500:
                    return _status(answer, kind)
                fault = f"{answer.status_code} {answer.reason_phrase}"
            except httpx.HTTPError as error:
                fault = f"{type(error).__name__}: {error}"
            if pause is not None:
                await asyncio.sleep(pause)
        raise WebhookError(f"{kind} at {self._url}: {fault}")


def _status(answer: httpx.Response, kind: str) -> dict[str, Any]:
    if answer.status_code not in (200, 201):
        raise WebhookError(f"{kind}: {answer.status_code} {answer.reason_phrase}")
    try:
        document = answer.json() if len(answer.content) <= _ANSWER_LIMIT else None
    except ValueError:
        document = None
    status = document.get("status") if isinstance(document, dict) and document.get("kind") == kind else None
    if not isinstance(status, dict):
        raise WebhookError(f"{kind}: the answer is no {kind} with a status")
    return status


class TokenReview:
    """A ``TokenCheck``: whose token is it? ``cache`` is how many seconds an answer is kept, yes or no."""

    def __init__(
        self, server: WebhookServer, *, cache: float = 120.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._server = server
        self._seconds = cache
        self._cache: Cache[User | None] = Cache(clock)

    async def __call__(self, token: str) -> User | None:
        """Raises WebhookError when the server does not say."""
        key = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()  # no token lies about in memory
        known = self._cache.get(key)
        if known is not None:
            return known[0]
        status = await self._server.review("authentication.k8s.io", "tokenreviews", "TokenReview", {"token": token})
        if status.get("error") and not status.get("authenticated"):
            raise WebhookError("TokenReview: the server refused the token with an error")
        user = _user(status.get("user") or {}) if status.get("authenticated") else None
        self._cache.put(key, user, self._seconds)
        return user


def _user(document: dict[str, Any]) -> User:
    extra = document.get("extra") or {}
    return User(
        str(document.get("username", "")),
        tuple(map(str, document.get("groups") or ())),
        str(document.get("uid", "")),
        tuple(sorted((str(key), tuple(map(str, values))) for key, values in extra.items())),
    )


class SubjectAccessReview:
    """An ``Authorizer``: may this user do that? ``allowed`` and ``denied`` are how many seconds an answer is kept."""

    def __init__(
        self,
        server: WebhookServer,
        *,
        allowed: float = 300.0,
        denied: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server = server
        self._lifetimes = {True: allowed, False: denied}
        self._cache: Cache[bool] = Cache(clock)

    async def __call__(self, attributes: Attributes) -> bool:
        """Raises WebhookError when the server does not say."""
        user = attributes.user
        spec: dict[str, Any] = {
            "resourceAttributes": {
                "verb": attributes.verb,
                "version": "v1",
                "resource": "nodes",
                "subresource": attributes.subresource,
                "name": attributes.node,
            },
            "user": user.name,
        }
        spec |= {"groups": list(user.groups)} if user.groups else {}
        spec |= {"uid": user.uid} if user.uid else {}
        spec |= {"extra": {key: list(values) for key, values in user.extra}} if user.extra else {}
        key = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).digest()
        known = self._cache.get(key)
        if known is not None:
            return known[0]
        status = await self._server.review("authorization.k8s.io", "subjectaccessreviews", "SubjectAccessReview", spec)
        if status.get("allowed") and status.get("denied"):
            raise WebhookError("SubjectAccessReview: the server both allowed and denied")
        verdict = status.get("allowed") is True
        self._cache.put(key, verdict, self._lifetimes[verdict])
        return verdict

"""TokenReview and SubjectAccessReview: what is asked, what is made of the answer, how long it is kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from fakekubelet.auth import Attributes, User
from fakekubelet.messages import Answer, Request, Response
from fakekubelet.webhooks import (
    CACHE_ENTRIES,
    Cache,
    SubjectAccessReview,
    TokenReview,
    WebhookError,
    WebhookServer,
)
from support.apps import AppServer


class Reviewer:
    """An apiserver that answers as it is told, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any], list[str]]] = []
        self.answers: list[Answer] = []
        self.status: dict[str, Any] = {}

    async def __call__(self, request: Request) -> Answer:
        document = json.loads(request.body)
        self.asked.append((request.path, document, request.values(b"authorization")))
        if self.answers:
            return self.answers.pop(0)
        return Response(201, json.dumps(document | {"status": self.status}).encode())


@pytest.fixture
def reviewer() -> Reviewer:
    return Reviewer()


@pytest.fixture
def server(reviewer: Reviewer) -> Iterator[WebhookServer]:
    with AppServer(reviewer) as app:
        yield WebhookServer(app.url, ca=app.ca, token="own", backoff=(0.0, 0.0))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_token_is_reviewed_and_the_answer_kept_for_two_minutes(reviewer: Reviewer, server: WebhookServer) -> None:
    user = {"username": "alice", "uid": "7", "groups": ["a", "b"], "extra": {"k": ["v", "w"]}}
    reviewer.status = {"authenticated": True, "user": user}
    clock = Clock()
    review = TokenReview(server, clock=clock)
    expected = User("alice", ("a", "b"), "7", (("k", ("v", "w")),))
    assert asyncio.run(review("secret")) == expected
    (path, document, authorization) = reviewer.asked[0]
    assert path == "/apis/authentication.k8s.io/v1/tokenreviews"
    assert (document["kind"], document["apiVersion"]) == ("TokenReview", "authentication.k8s.io/v1")
    assert document["spec"] == {"token": "secret"}
    assert authorization == ["Bearer own"]
    reviewer.status = {"authenticated": False}
    clock.now = 119.9
    assert asyncio.run(review("secret")) == expected  # taken away, and good still
    clock.now = 120.0
    assert asyncio.run(review("secret")) is None
    assert asyncio.run(review("secret")) is None
    assert len(reviewer.asked) == 2
    assert "secret" not in repr(vars(review))


def test_an_error_is_not_kept(reviewer: Reviewer, server: WebhookServer) -> None:
    review = TokenReview(server)
    reviewer.status = {"authenticated": False, "error": "the moon"}
    with pytest.raises(WebhookError):
        asyncio.run(review("t"))
    reviewer.status = {"authenticated": True, "user": {"username": "x"}}
    assert asyncio.run(review("t")) == User("x")


ATTRIBUTES = Attributes(User("bob", ("g",), "9", (("k", ("v",)),)), "get", "proxy", "/exec/a/b/c", "n1")


def test_access_is_reviewed_and_the_answer_kept(reviewer: Reviewer, server: WebhookServer) -> None:
    clock = Clock()
    review = SubjectAccessReview(server, clock=clock)
    reviewer.status = {"allowed": True}
    assert asyncio.run(review(ATTRIBUTES))
    path, document, _ = reviewer.asked[0]
    assert path == "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    assert document["spec"] == {
        "resourceAttributes": {
            "verb": "get",
            "version": "v1",
            "resource": "nodes",
            "subresource": "proxy",
            "name": "n1",
        },
        "user": "bob",
        "groups": ["g"],
        "uid": "9",
        "extra": {"k": ["v"]},
    }
    reviewer.status = {"allowed": False, "reason": "no"}
    clock.now = 299.9
    assert asyncio.run(review(ATTRIBUTES))
    clock.now = 300.0
    assert not asyncio.run(review(ATTRIBUTES))
    reviewer.status = {"allowed": True}
    clock.now = 329.9
    assert not asyncio.run(review(ATTRIBUTES))
    clock.now = 330.0
    assert asyncio.run(review(ATTRIBUTES))
    assert len(reviewer.asked) == 3


@pytest.mark.parametrize("status", [{}, {"allowed": "yes"}, {"allowed": False}])
def test_what_is_not_allowed_is_denied(reviewer: Reviewer, server: WebhookServer, status: dict[str, Any]) -> None:
    reviewer.status = status
    assert not asyncio.run(SubjectAccessReview(server)(ATTRIBUTES))


def test_a_server_that_contradicts_itself_is_an_error(reviewer: Reviewer, server: WebhookServer) -> None:
    reviewer.status = {"allowed": True, "denied": True}
    with pytest.raises(WebhookError, match="both allowed and denied"):
        asyncio.run(SubjectAccessReview(server)(ATTRIBUTES))


@pytest.mark.parametrize("code", [429, 500, 503])
def test_what_may_pass_is_tried_again(reviewer: Reviewer, server: WebhookServer, code: int) -> None:
    reviewer.status = {"allowed": True}
    reviewer.answers = [Response(code), Response(code)]
    assert asyncio.run(SubjectAccessReview(server)(ATTRIBUTES))
    reviewer.answers = [Response(code)] * 3
    with pytest.raises(WebhookError, match=str(code)):
        asyncio.run(SubjectAccessReview(server, allowed=0, denied=0)(ATTRIBUTES))


@pytest.mark.parametrize(
    "answer",
    [
        Response(403),
        Response(301, headers=[("Location", "https://elsewhere.invalid/")]),
        Response(200, b"no JSON"),
        Response(200, b"[]"),
        Response(200, b'{"kind": "SubjectAccessReview"}'),
        Response(200, b'{"kind": "Status", "status": {"allowed": true}}'),
        Response(200, b" " * (2 << 20)),
    ],
)
def test_answers_that_are_none(reviewer: Reviewer, server: WebhookServer, answer: Response) -> None:
    reviewer.answers = [answer]
    with pytest.raises(WebhookError, match="SubjectAccessReview"):
        asyncio.run(SubjectAccessReview(server)(ATTRIBUTES))
    assert len(reviewer.asked) == 1  # neither tried again nor followed


def test_a_server_that_is_not_there(reviewer: Reviewer) -> None:
    with AppServer(reviewer) as app:
        url, ca = app.url, app.ca
    with pytest.raises(WebhookError, match="ConnectError"):
        asyncio.run(TokenReview(WebhookServer(url, ca=ca, backoff=()))("t"))


def test_a_server_of_somebody_else_is_not_told_the_token(reviewer: Reviewer) -> None:
    with AppServer(reviewer) as app, AppServer(reviewer) as other:
        review = TokenReview(WebhookServer(app.url, ca=other.ca, backoff=()))
        with pytest.raises(WebhookError, match="CERTIFICATE_VERIFY_FAILED"):
            asyncio.run(review("t"))
    assert reviewer.asked == []


def test_tokens_travel_in_tls_alone() -> None:
    with pytest.raises(ValueError, match="reviews carry tokens"):
        WebhookServer("http://127.0.0.1:1")


def test_a_cache_has_an_end() -> None:
    clock = Clock()
    cache: Cache[int] = Cache(clock)
    for index in range(CACHE_ENTRIES + 10):
        cache.put(str(index).encode(), index, 10)
    assert len(cache) == CACHE_ENTRIES
    assert cache.get(b"9") is None
    assert cache.get(b"10") == (10,)
    clock.now = 10
    assert cache.get(b"10") is None
    cache.put(b"x", 1, 0)
    assert cache.get(b"x") is None

"""One GET of a JSON document: its request, its bounded body, and its errors."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kubeletclient import (
    BearerToken,
    ConnectError,
    Forbidden,
    InvalidAnswer,
    NotFound,
    ServerError,
    Unauthorized,
    UpgradeRefused,
)
from kubeletclient._door import Fetch, Way
from kubeletclient._fetch import Body, fetch_error, request_of
from kubeletclient._settings import Settings
from kubeletclient._trust import Trust
from kubeletclient.endpoints import parse_endpoint


def fetch_of(trust: Trust) -> Fetch:
    settings = Settings.of(
        trust,
        transport="auto",
        method="POST",
        protocols=None,
        limits=None,
        deadlines=None,
        keepalive=None,
        user_agent="agent",
        tracer=None,
        bearer_subprotocol=False,
    )
    way = Way("kubelet", parse_endpoint("https://node:10250"), settings)
    return Fetch(way, "/pods", "the list", "no container was named, and ", "give container=")


PODS = fetch_of(Trust())


def test_the_request() -> None:
    url, headers = request_of(fetch_of(Trust(credentials=BearerToken("t"))))
    assert url == "https://node:10250/pods"
    assert headers == [("User-Agent", "agent"), ("Accept", "application/json"), ("Authorization", "Bearer t")]
    assert "Authorization" not in dict(request_of(PODS)[1])


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, Unauthorized),
        (403, Forbidden),
        (404, NotFound),
        (500, ServerError),
        (302, UpgradeRefused),
        (None, ConnectError),
    ],
)
def test_a_list_that_cannot_be_had_says_what_to_do(status: int | None, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=r"no container was named.*give container="):
        raise fetch_error(PODS, status, LookupError("boom") if status is None else None)


def test_a_fault_behind_the_dial() -> None:
    error = fetch_error(PODS, None, LookupError("reset"))
    assert type(error) is ConnectError
    assert "the list cannot be had: reset" in str(error)


def test_a_list_without_end() -> None:
    body = Body(replace(PODS, limit=100))
    body.add(bytes(100))
    with pytest.raises(InvalidAnswer, match="larger than 100 bytes"):
        body.add(b"x")


@pytest.mark.parametrize("text", [b"", b"<html>", b"[" * 100_000, b'{"items":'])
def test_a_list_that_is_not_json(text: bytes) -> None:
    body = Body(PODS)
    body.add(text)
    with pytest.raises(InvalidAnswer, match="it is not JSON"):
        body.parse()


def test_what_the_server_says_is_told() -> None:
    body = b'{"kind": "Status", "message": "pods \\"x\\" is forbidden: User \\u001b[31m"}'
    error = fetch_error(replace(PODS, hint="", why=""), 403, None, body)
    assert isinstance(error, Forbidden)
    assert str(error).startswith('the list cannot be had: the kubelet answered HTTP 403: pods "x" is forbidden')
    assert "\x1b" not in str(error)
    assert error.message.startswith("pods")

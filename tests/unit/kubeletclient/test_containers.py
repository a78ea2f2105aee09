"""The default container of a pod."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import pytest

from kubeletclient import (
    BearerToken,
    ConnectError,
    ConnectionRefused,
    Forbidden,
    InvalidAnswer,
    NameResolutionError,
    NotFound,
    ServerError,
    Unauthorized,
    UnknownAuthorityError,
)
from kubeletclient._containers import ANNOTATION, PodsBody, choose_container, pods_error, pods_request
from kubeletclient._trust import Trust
from kubeletclient.endpoints import parse_endpoint

NODE = parse_endpoint("https://node:10250")


def pod(name: str, *containers: str, uid: str = "u", annotation: str | None = None) -> dict[str, Any]:
    metadata: dict[str, Any] = {"namespace": "ns", "name": name, "uid": uid}
    if annotation is not None:
        metadata["annotations"] = {ANNOTATION: annotation}
    return {"metadata": metadata, "spec": {"containers": [{"name": container} for container in containers]}}


PODS = {"items": [pod("a", "one"), pod("b", "one", "two", annotation="two"), pod("c", "one", annotation="gone")]}


@pytest.mark.parametrize(("name", "container"), [("a", "one"), ("b", "two"), ("c", "one")])
def test_the_annotated_container_or_the_first(name: str, container: str) -> None:
    assert choose_container(PODS, NODE, "ns", name, None) == container


def test_the_uid_must_match() -> None:
    pods = {"items": [pod("a", "old", uid="1"), pod("a", "new", uid="2")]}
    assert choose_container(pods, NODE, "ns", "a", "2") == "new"
    with pytest.raises(NotFound):
        choose_container(pods, NODE, "ns", "a", "3")


@pytest.mark.parametrize(
    "pods", [None, [], {}, {"items": None}, {"items": ["x"]}, {"items": [{}]}, {"items": [pod("a")]}, PODS]
)
def test_no_such_pod_whatever_the_list_looks_like(pods: Any) -> None:
    with pytest.raises(NotFound, match="'z'"):
        choose_container(pods, NODE, "ns", "z", None)
    with pytest.raises(NotFound):
        choose_container({"items": [pod("a")]}, NODE, "ns", "a", None)


def test_the_request() -> None:
    url, headers = pods_request(NODE, Trust(credentials=BearerToken("t")), "agent")
    assert url == "https://node:10250/pods"
    assert headers == {"User-Agent": "agent", "Accept": "application/json", "Authorization": "Bearer t"}
    assert "Authorization" not in pods_request(NODE, Trust(), "agent")[1]


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, Unauthorized), (403, Forbidden), (500, ServerError), (302, ServerError), (None, ConnectError)],
)
def test_a_list_that_cannot_be_had_says_what_to_do(status: int | None, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=r"no container was named.*give container="):
        raise pods_error(NODE, status, LookupError("boom"))


def wrapped(beneath: OSError) -> Exception:
    """As httpx has it: its own error around the system's, two deep."""
    outer, inner = LookupError("outer"), LookupError("inner")
    outer.__cause__, inner.__context__ = inner, beneath
    return outer


def distrust() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = 20, "unable to get local issuer certificate"
    return error


@pytest.mark.parametrize(
    ("beneath", "kind"),
    [
        (distrust(), UnknownAuthorityError),
        (ConnectionRefusedError(111, "Connection refused"), ConnectionRefused),
        (socket.gaierror(-2, "Name or service not known"), NameResolutionError),
        (ConnectionResetError(104, "reset"), ConnectError),
    ],
)
def test_faults_of_the_dial_are_the_same_as_for_exec(beneath: OSError, kind: type[Exception]) -> None:
    assert type(pods_error(NODE, None, wrapped(beneath))) is kind


def test_a_list_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubeletclient._containers.LIMIT", 100)
    body = PodsBody(NODE)
    body.add(bytes(100))
    with pytest.raises(InvalidAnswer, match="larger than 100 bytes"):
        body.add(b"x")


@pytest.mark.parametrize("text", [b"", b"<html>", b"[" * 100_000, b'{"items":'])
def test_a_list_that_is_not_json(text: bytes) -> None:
    body = PodsBody(NODE)
    body.add(text)
    with pytest.raises(InvalidAnswer, match="it is not JSON"):
        body.parse()

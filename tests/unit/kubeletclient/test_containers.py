"""The default container of a pod."""

from __future__ import annotations

from typing import Any

import pytest

from kubeletclient import NotFound
from kubeletclient._containers import ANNOTATION, choose_container
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

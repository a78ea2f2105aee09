"""Names of pods and of objects that have pods, the pod that is taken of several, and the container."""

from __future__ import annotations

from typing import Any

import pytest

from kubeletclient import NotFound
from kubeletclient.selection import (
    ANNOTATION,
    PodFacts,
    best_pod,
    is_kind,
    parse_name,
    parse_pod,
    parse_pods,
    selector_of,
)


def pod(*containers: str, annotation: str | None = None, **spec: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"namespace": "ns", "name": "a", "uid": "u"}
    if annotation is not None:
        metadata["annotations"] = {ANNOTATION: annotation}
    return {"metadata": metadata, "spec": {"containers": [{"name": c} for c in containers], **spec}}


@pytest.mark.parametrize(
    ("text", "resource", "group", "name"),
    [
        ("web", None, None, "web"),
        ("pod/web", None, None, "web"),
        ("deploy/web", "deployments", "apps/v1", "web"),
        ("Deployment/web", "deployments", "apps/v1", "web"),
        ("deployments.apps/web", "deployments", "apps/v1", "web"),
        ("sts/db", "statefulsets", "apps/v1", "db"),
        ("ds/agent", "daemonsets", "apps/v1", "agent"),
        ("rs/web-1", "replicasets", "apps/v1", "web-1"),
        ("job/once", "jobs", "batch/v1", "once"),
        ("svc/web", "services", "", "web"),
        ("rc/old", "replicationcontrollers", "", "old"),
    ],
)
def test_names(text: str, resource: str | None, group: str | None, name: str) -> None:
    selected = parse_name(text)
    kind = selected.kind
    assert (kind and kind.resource, kind and kind.group, selected.name) == (resource, group, name)
    assert is_kind(text.partition("/")[0]) == ("/" in text)


@pytest.mark.parametrize("text", ["", ".", "..", "deploy/", "deploy/..", "node/n1", "deploy/a/b"])
def test_names_that_lead_elsewhere(text: str) -> None:
    with pytest.raises(ValueError, match=r"a name is not empty|no kind of object"):
        parse_name(text)


@pytest.mark.parametrize(
    ("name", "selector", "expected"),
    [
        ("deploy/web", {"matchLabels": {"app": "web", "tier": "x"}}, "app=web,tier=x"),
        (
            "sts/web",
            {
                "matchExpressions": [
                    {"key": "a", "operator": "In", "values": ["x", "y"]},
                    {"key": "b", "operator": "NotIn", "values": ["z"]},
                    {"key": "c", "operator": "Exists"},
                    {"key": "d", "operator": "DoesNotExist"},
                ]
            },
            "a in (x,y),b notin (z),c,!d",
        ),
        ("svc/web", {"app": "web"}, "app=web"),
    ],
)
def test_selectors(name: str, selector: dict[str, Any], expected: str) -> None:
    assert selector_of({"spec": {"selector": selector}}, parse_name(name)) == expected


@pytest.mark.parametrize("document", [None, {}, {"spec": {}}, {"spec": {"selector": None}}])
def test_an_object_without_a_selector(document: Any) -> None:
    with pytest.raises(NotFound, match="service/web selects no pods"):
        selector_of(document, parse_name("svc/web"))


@pytest.mark.parametrize(
    ("annotation", "chosen"), [(None, "one"), ("two", "two"), ("gone", "one"), ("setup", "setup"), ("debug", "debug")]
)
def test_the_annotated_container_or_the_first(annotation: str | None, chosen: str) -> None:
    more = {"initContainers": [{"name": "setup"}], "ephemeralContainers": [{"name": "debug"}]}
    facts = parse_pod(pod("one", "two", annotation=annotation, **more))
    assert facts.choose(None, "kubelet") == chosen
    assert facts.choose("debug", "kubelet") == "debug"
    assert facts.all_containers == ("setup", "one", "two", "debug")


def test_a_container_that_is_not_there_is_told_with_those_that_are() -> None:
    facts = parse_pod(pod("one", "two", initContainers=[{"name": "setup"}]))
    with pytest.raises(NotFound, match=r"ns/a has no container 'three'; choose from one, two; init: setup"):
        facts.choose("three", "apiserver")
    with pytest.raises(NotFound, match="has no containers"):
        parse_pod(pod()).choose(None, "kubelet")


@pytest.mark.parametrize(
    "document", [None, [], {}, {"items": None}, {"items": ["x"]}, {"items": [{"spec": 3, "metadata": []}]}]
)
def test_documents_of_any_shape(document: Any) -> None:
    assert all(facts.name == "" and facts.all_containers == () for facts in parse_pods(document))
    assert parse_pod(document) == PodFacts("", "", labels={})


def test_what_is_read_of_a_pod() -> None:
    document = pod("one", nodeName="n1")
    document["status"] = {
        "phase": "Running",
        "hostIP": "10.0.0.1",
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        "containerStatuses": [{"restartCount": 2}, {"restartCount": 1}],
    }
    facts = parse_pod(document)
    assert (facts.node, facts.host_ip, facts.phase, facts.ready, facts.restarts) == (
        "n1",
        "10.0.0.1",
        "Running",
        True,
        3,
    )
    assert not facts.over
    assert parse_pod({"status": {"phase": "Succeeded"}}).over


def facts(name: str, **more: Any) -> PodFacts:
    values: dict[str, Any] = {"node": "n", "phase": "Running", "ready": True, "ready_since": "2026-01-02T00:00:00Z"}
    return PodFacts("ns", name, **{**values, **more})


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (facts("z"), facts("a", leaving=True)),
        (facts("z"), facts("a", node="")),
        (facts("z"), facts("a", phase="Pending")),
        (facts("z", phase="Pending", ready=False), facts("a", phase="Failed", ready=False)),
        (facts("z"), facts("a", ready=False)),
        (facts("z", ready_since="2026-01-01T00:00:00Z"), facts("a")),
        (facts("z"), facts("a", restarts=1)),
        (facts("z", created="2025-01-01T00:00:00Z"), facts("a", created="2026-01-01T00:00:00Z")),
        (facts("a"), facts("z")),
    ],
)
def test_the_better_pod(better: PodFacts, worse: PodFacts) -> None:
    assert best_pod([worse, better]) is better
    assert best_pod([better, worse]) is better


def test_no_pod() -> None:
    assert best_pod([]) is None

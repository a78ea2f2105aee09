"""The declared objects: get, list, watch, selectors, Tables, discovery."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import pytest

from fakekubelet import FakeApiserver, FakeCluster, Pod
from fakekubelet.apiserver import store as stores
from support.apiservers import Api, pod_document

TABLE = [("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")]
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web", "namespace": "shop", "labels": {"tier": "front"}},
    "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 80, "nodePort": 30080}], "selector": {"app": "web"}},
}
WORKLOADS: list[dict[str, Any]] = [
    {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}},
        "status": {"readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1, "replicas": 2},
    }
    for kind in ("Deployment", "StatefulSet", "ReplicaSet")
]
JOB = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "once", "namespace": "shop"},
    "spec": {"completions": 1},
    "status": {
        "succeeded": 1,
        "startTime": "2024-01-01T00:00:00Z",
        "completionTime": "2024-01-01T00:01:30Z",
        "conditions": [{"type": "Complete", "status": "True"}],
    },
}
SLICE = {
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "metadata": {"name": "web-x", "namespace": "shop"},
    "addressType": "IPv4",
    "ports": [{"port": 8080}],
    "endpoints": [{"addresses": ["10.1.0.1"]}, {"addresses": ["10.1.0.2"]}],
}


@pytest.fixture(scope="module")
def server() -> Iterator[FakeApiserver]:
    labels = {"a": {"app": "web", "n": "3"}, "b": {"app": "db"}, "c": {}}
    pods = []
    for name, values in labels.items():
        document = pod_document(f"shop/{name}", "node-1" if name != "c" else "")
        document["metadata"]["labels"] = values
        pods.append(document)
    with FakeApiserver([SERVICE, *WORKLOADS, JOB, SLICE, *pods]) as server:
        yield server


@pytest.fixture(scope="module")
def api(server: FakeApiserver) -> Api:
    return Api(server)


def names(document: dict[str, Any]) -> list[str]:
    return [each["metadata"]["name"] for each in document["items"]]


PODS = "/api/v1/namespaces/shop/pods"


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("app=web", "a"),
        ("app==web", "a"),
        ("app!=web", "bc"),
        ("app", "ab"),
        ("!app", "c"),
        ("app in (web, db)", "ab"),
        ("app notin (web),app", "b"),
        ("n>2", "a"),
        ("n<3", ""),
        ("app=web,n=3", "a"),
        ("", "abc"),
    ],
)
def test_label_selectors(api: Api, selector: str, expected: str) -> None:
    assert names(api.get(f"{PODS}?labelSelector={quote(selector)}")) == list(expected)


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("metadata.name=a", "a"),
        ("spec.nodeName=node-1", "ab"),
        ("spec.nodeName!=node-1", "c"),
        ("spec.nodeName=", "c"),
        ("status.phase=Running,metadata.name!=a", "bc"),
        ("metadata.namespace=elsewhere", ""),
    ],
)
def test_field_selectors(api: Api, selector: str, expected: str) -> None:
    assert names(api.get(f"{PODS}?fieldSelector={quote(selector)}")) == list(expected)


@pytest.mark.parametrize(
    "query",
    ["labelSelector=a%20b", "labelSelector=in%20(", "fieldSelector=spec.image%3Dx", "fieldSelector=x", "limit=-1"],
)
def test_selectors_that_are_none(api: Api, query: str) -> None:
    assert api.refusal(f"{PODS}?{query}")[0] == 400


def test_lists_come_in_pages(api: Api) -> None:
    first = api.get(f"{PODS}?limit=2")
    assert (names(first), first["metadata"]["remainingItemCount"]) == (["a", "b"], 1)
    second = api.get(f"{PODS}?limit=2&continue={first['metadata']['continue']}")
    assert (names(second), second["metadata"].get("continue")) == (["c"], None)
    assert api.refusal(f"{PODS}?continue=%21")[0] == 400


def test_lists_of_one_namespace_and_of_all(api: Api) -> None:
    assert names(api.get("/api/v1/services")) == names(api.get("/api/v1/namespaces/shop/services")) == ["web"]
    assert names(api.get("/api/v1/namespaces/default/services")) == []
    assert "shop" in names(api.get("/api/v1/namespaces"))  # it exists because something is in it
    assert api.get("/api/v1/namespaces/shop")["kind"] == "Namespace"


@pytest.mark.parametrize(
    ("path", "cells"),
    [
        ("/api/v1/namespaces/shop/services", ["web", "ClusterIP", "10.0.0.1", "<none>", "80:30080/TCP"]),
        ("/apis/apps/v1/namespaces/shop/deployments", ["web", "1/2", 2, 1]),
        ("/apis/apps/v1/namespaces/shop/statefulsets", ["web", "1/2"]),
        ("/apis/apps/v1/namespaces/shop/replicasets", ["web", 2, 2, 1]),
        ("/apis/batch/v1/namespaces/shop/jobs", ["once", "Complete", "1/1", "90s"]),
        ("/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices", ["web-x", "IPv4", "8080", "10.1.0.1,10.1.0.2"]),
        ("/api/v1/namespaces/default/configmaps", ["kube-root-ca.crt", 1]),
        ("/api/v1/namespaces", ["default", "Active"]),
        (PODS, ["a", "0/1", "Running", "0"]),
    ],
)
def test_tables(api: Api, path: str, cells: list[Any]) -> None:
    table = api.get(path, TABLE)
    assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    row = table["rows"][0]
    assert row["cells"][: len(cells)] == cells
    assert len(row["cells"]) == len(table["columnDefinitions"])
    assert row["object"]["kind"] == "PartialObjectMetadata"


def test_metadata_alone(api: Api) -> None:
    accept = [("Accept", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io")]
    listed = api.get(PODS, accept)
    assert (listed["kind"], "spec" in listed["items"][0]) == ("PartialObjectMetadataList", False)
    one = api.get(f"{PODS}/a", [("Accept", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io")])
    assert one["kind"] == "PartialObjectMetadata"


def test_protobuf_alone_is_not_acceptable(api: Api) -> None:
    protobuf = "application/vnd.kubernetes.protobuf"
    assert api.refusal(PODS, headers=[("Accept", protobuf)])[0] == 406
    assert api.get(PODS, [("Accept", f"{protobuf},application/json")])["kind"] == "PodList"


@pytest.mark.parametrize(
    ("method", "target", "code"),
    [
        ("GET", "/api/v1/secrets", 404),
        ("GET", "/api/v2/pods", 404),
        ("GET", "/nowhere", 404),
        ("GET", f"{PODS}/nobody", 404),
        ("GET", f"{PODS}/a/status", 404),
        ("DELETE", f"{PODS}/a", 405),
        ("POST", PODS, 405),
        ("PATCH", f"{PODS}/a/log", 405),
    ],
)
def test_what_there_is_not(api: Api, method: str, target: str, code: int) -> None:
    assert api.refusal(target, method)[0] == code


def test_discovery_in_both_forms(api: Api) -> None:
    groups = {each["name"] for each in api.get("/apis")["groups"]}
    assert {"apps", "batch", "discovery.k8s.io", "authorization.k8s.io"} <= groups
    accept = [("Accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json")]
    for path, core in (("/api", True), ("/apis", False)):
        document = api.get(path, accept)
        assert document["kind"] == "APIGroupDiscoveryList"
        for item in document["items"]:
            name = item["metadata"].get("name", "")
            assert (name == "") is core
            old = api.get("/api/v1" if core else f"/apis/{name}/v1")
            plain = {each["name"] for each in old["resources"] if "/" not in each["name"]}
            assert plain == {each["resource"] for each in item["versions"][0]["resources"]}
    assert api.get("/openapi/v2")["swagger"] == "2.0"
    assert api.get("/openapi/v3") == {"paths": {}}
    assert "/version" in api.get("/")["paths"]
    assert api.request("GET", "/readyz").body == b"ok"


# -- watch -------------------------------------------------------------------------------------------------------------


class Watch:
    """Events as they come."""

    def __init__(self, api: Api, target: str, accept: str = "application/json") -> None:
        self._sock = api.connect()
        self._file = self._sock.makefile("rb")
        head = f"GET {target} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n"
        self._sock.sendall(head.encode())
        assert b" 200 " in self._file.readline()
        while self._file.readline() != b"\r\n":
            pass
        self._lines = b""

    def next(self) -> tuple[str, dict[str, Any]]:
        while b"\n" not in self._lines:
            size = int(self._file.readline(), 16)
            if size == 0:
                raise EOFError
            self._lines += self._file.read(size)
            self._file.readline()
        line, _, self._lines = self._lines.partition(b"\n")
        event = json.loads(line)
        return event["type"], event["object"]

    def close(self) -> None:
        self._file.close()
        self._sock.close()


@contextmanager
def watching(api: Api, target: str, accept: str = "application/json") -> Iterator[Watch]:
    watch = Watch(api, target, accept)
    try:
        yield watch
    finally:
        watch.close()


def test_watch_tells_what_pods_do_at_their_kubelets() -> None:
    with FakeCluster(nodes=2) as cluster:
        api = Api(cluster)
        version = api.get("/api/v1/pods")["metadata"]["resourceVersion"]
        with watching(api, f"/api/v1/pods?watch=true&resourceVersion={version}") as watch:
            cluster.kubelets["node-2"].pods.add(Pod("shop/new", labels={"app": "web"}))
            kind, pod = watch.next()
            assert (kind, pod["metadata"]["name"], pod["spec"]["nodeName"]) == ("ADDED", "new", "node-2")
            cluster.kubelets["node-2"].pods.add(Pod("shop/new", labels={"app": "db"}))
            while pod["metadata"]["labels"] != {"app": "db"} or pod["status"]["phase"] != "Running":
                kind, pod = watch.next()
                assert (kind, pod["metadata"]["name"]) == ("MODIFIED", "new")
            cluster.kubelets["node-2"].pods.remove("shop/new")
            while kind == "MODIFIED":
                kind, pod = watch.next()
            assert (kind, pod["metadata"]["name"]) == ("DELETED", "new")
            assert int(pod["metadata"]["resourceVersion"]) > int(version)
        assert api.refusal("/api/v1/namespaces/shop/pods/new")[0] == 404


def test_watch_begins_with_what_there_is_and_follows_selectors() -> None:
    with FakeApiserver([pod_document("default/a", "n")]) as server:
        api = Api(server)
        target = "/api/v1/namespaces/default/pods?watch=1&labelSelector=app%3Dweb"
        document = pod_document("default/b", "n")
        document["metadata"]["labels"] = {"app": "web"}
        server.store.put(document)
        with watching(api, target) as watch:
            assert watch.next()[1]["metadata"]["name"] == "b"
            server.store.put(pod_document("other/c", "n"))
            server.store.put(pod_document("default/b", "n"))  # no label any more: it leaves the selection
            kind, gone = watch.next()
            assert (kind, gone["metadata"]["name"]) == ("DELETED", "b")
            server.store.put(document)
            assert watch.next()[0] == "ADDED"
            server.store.put(document)
            assert watch.next()[0] == "MODIFIED"


def test_watch_as_a_list_ends_its_beginning_with_a_bookmark() -> None:
    with FakeApiserver([pod_document("default/a", "n")]) as server:
        query = "watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan"
        with watching(Api(server), f"/api/v1/pods?{query}") as watch:
            assert watch.next()[0] == "ADDED"
            kind, mark = watch.next()
            assert (kind, mark["metadata"]["annotations"]) == ("BOOKMARK", {"k8s.io/initial-events-end": "true"})


def test_watch_as_tables() -> None:
    server = FakeApiserver([pod_document("default/a", "n")])
    with server, watching(Api(server), "/api/v1/pods?watch=1", TABLE[0][1]) as watch:
        _, first = watch.next()
        assert (first["kind"], first["rows"][0]["cells"][0]) == ("Table", "a")
        assert first["columnDefinitions"]
        server.store.put(pod_document("default/b", "n"))
        assert watch.next()[1]["columnDefinitions"] is None  # told once


def test_watch_ends_when_its_time_is_over() -> None:
    server = FakeApiserver()
    with server, watching(Api(server), "/api/v1/pods?watch=1&timeoutSeconds=1") as watch, pytest.raises(EOFError):
        watch.next()


def test_a_watch_from_too_long_ago_is_told_to_list_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "HISTORY", 8)
    with FakeApiserver() as server:
        for _ in range(20):
            server.store.put(pod_document("default/a", "n"))
        with watching(Api(server), "/api/v1/pods?watch=1&resourceVersion=1001") as watch:
            kind, status = watch.next()
            assert (kind, status["code"], status["reason"]) == ("ERROR", 410, "Expired")


def test_objects_without_a_name_or_of_no_kind_are_refused() -> None:
    with pytest.raises(ValueError, match=r"metadata\.name"):
        FakeApiserver([{"apiVersion": "v1", "kind": "Service", "metadata": {}}])
    with pytest.raises(ValueError, match="no such kind"):
        FakeApiserver([{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}}])

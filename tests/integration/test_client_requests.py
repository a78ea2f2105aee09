"""Plain requests to a kubelet's API, in both flavours: direct, and by the apiserver's node proxy."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from fakekubelet import FakeCluster
from kubeletclient import ClientCertificate, InvalidAnswer, NotFound, UpgradeRefused
from kubeletclient.kubeconfig import load
from support.flavours import Flavour, flavour_fixture

flavour = flavour_fixture()


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster(nodes=2) as running:
        yield running


@pytest.fixture(params=["kubelet", "apiserver"])
def node(request: pytest.FixtureRequest, flavour: Flavour, cluster: FakeCluster) -> Any:
    return flavour.client.Cluster(load(cluster.kubeconfig), via=request.param).node("node-1")


def ask(flavour: Flavour, node: Any, *arguments: Any, **options: Any) -> Any:
    return flavour.do(partial(node.request, *arguments, **options))


def test_answers(flavour: Flavour, node: Any) -> None:
    reply = ask(flavour, node, "/healthz")
    assert (reply.content, reply.text) == (b"ok", "ok")
    assert reply.route == node._client.via
    summary = ask(flavour, node, "/stats/summary", {"only_cpu_and_memory": "true"}).json()
    assert summary["node"]["nodeName"] == "node-1"
    reply = ask(flavour, node, "/run/default/demo/main", [("cmd", "echo a b")], method="POST")
    assert reply.content == b"a b\n"
    with pytest.raises(InvalidAnswer, match="not JSON"):
        reply.json()


def test_refusals(flavour: Flavour, node: Any) -> None:
    with pytest.raises(NotFound, match="the kubelet's /none cannot be had"):
        ask(flavour, node, "/none")
    with pytest.raises(UpgradeRefused, match="405"):
        ask(flavour, node, "/run/default/demo/main")
    with pytest.raises(InvalidAnswer, match="larger than 10 bytes"):
        ask(flavour, node, "/pods", limit=10)
    for path in ("pods", "/a/../b", "/%2e%2e/x", "/a b", "/a?b"):
        with pytest.raises(ValueError, match="a path"):
            ask(flavour, node, path)


def test_a_node_that_is_not_there(flavour: Flavour, cluster: FakeCluster) -> None:
    for via in ("auto", "kubelet"):
        client = flavour.client.Cluster(load(cluster.kubeconfig), via=via)
        with pytest.raises(NotFound, match="node none cannot be had"):
            ask(flavour, client.node("none"), "/healthz")


def test_what_a_kubelet_alone_answers(flavour: Flavour, cluster: FakeCluster) -> None:
    kubelet = cluster.kubelets["node-1"]
    pair = kubelet.credentials()
    credentials = ClientCertificate(pair.cert_pem, pair.key_pem)
    client = flavour.client.Kubelet(kubelet.url, ca=kubelet.ca, credentials=credentials)
    assert ask(flavour, client, "/healthz").text == "ok"
    facts = flavour.do(client.pod("demo").facts)
    assert (facts.name, facts.containers, facts.node) == ("demo", ("main",), "node-1")

"""Pods of a cluster, straight at their kubelets and through the apiserver, in both flavours."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fakekubelet import Container, FakeCluster, Pod
from fakekubelet.apiserver.rbac import Rule
from fakekubelet.auth import User
from kubeletclient import (
    PIPE,
    BearerToken,
    CertificateVerifyError,
    ConnectionRefused,
    Forbidden,
    KnownNodes,
    NotFound,
    PinnedCertificateChanged,
    PodUnavailable,
    UnverifiedTokenError,
    aio,
)
from kubeletclient.kubeconfig import load
from support.flavours import Flavour, Node, flavour_fixture

flavour = flavour_fixture()

DEPLOYMENT = {
    "kind": "Deployment",
    "apiVersion": "apps/v1",
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}}}},
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeCluster]:
    pods = [
        Pod("default/demo", [Container("main"), Container("side")]),
        Pod("default/web-1", labels={"app": "web"}),
        Pod("default/web-2", labels={"app": "web"}),
    ]
    with FakeCluster(nodes=2, pods=pods, objects=[DEPLOYMENT]) as running:
        yield running


def at(flavour: Flavour, cluster: FakeCluster, **options: Any) -> Node:
    return Node(flavour, flavour.client.Cluster(load(cluster.kubeconfig), **options))


@pytest.mark.parametrize(("via", "route"), [("auto", "kubelet"), ("kubelet", "kubelet"), ("apiserver", "apiserver")])
def test_a_command(flavour: Flavour, cluster: FakeCluster, via: str, route: str) -> None:
    node = at(flavour, cluster, via=via)
    done = node.run("cat", input=b"hello", container=None)
    assert (done.returncode, done.stdout, done.route) == (0, b"hello", route)
    assert ("node node-1 answers at 127.0.0.1:" in done.route_reason) == (route == "kubelet")
    assert node.run("exit", "7", container="side").returncode == 7
    with node.popen("cat", stdin=PIPE, container="main") as running:
        assert running.process.route == route
    with pytest.raises(NotFound, match="no container 'other'; choose from main, side"):
        at(flavour, cluster).run("ls", container="other")
    node.close()


def test_the_pods_of_objects_and_of_selectors(flavour: Flavour, cluster: FakeCluster) -> None:
    node = at(flavour, cluster)
    done = node.run("echo", "x", pod={"pod": "deploy/web"}, container=None)
    assert done.stdout == b"x\n"
    for selector in ("deploy/web", "app=web"):
        found = flavour.do(partial(node.kubelet.pods, selector))
        assert [pod.name for pod in found] == ["web-1", "web-2"]
        assert flavour.do(partial(found[1].run, ["echo", "y"])).stdout == b"y\n"
    assert {pod.name for pod in flavour.do(node.kubelet.pods)} == {"demo", "web-1", "web-2"}
    with pytest.raises(NotFound, match="deployment/none"):
        node.run("ls", pod={"pod": "deploy/none"})
    with pytest.raises(NotFound, match=r"pod default/none cannot be had: the apiserver answered HTTP 404: pods"):
        node.run("ls", pod={"pod": "none"})


def test_loopback_nodes_are_refused_unless_that_is_said(flavour: Flavour, cluster: FakeCluster) -> None:
    done = at(flavour, cluster, allow_loopback_nodes=False).run("echo", "x")
    assert done.route == "apiserver"
    assert "it is a loopback address" in done.route_reason


def test_a_node_that_is_gone(flavour: Flavour) -> None:
    with FakeCluster() as cluster:
        node = at(flavour, cluster)
        assert node.run("echo", "x").route == "kubelet"
        cluster.kubelets["node-1"].close()
        with pytest.raises(
            Exception, match=r"dialing backend.*through the apiserver, because the node cannot be reached"
        ):
            node.run("echo", "x")
        with pytest.raises(ConnectionRefused):
            at(flavour, cluster, via="kubelet").run("echo", "x")


def test_an_identity_that_nodes_do_not_let_in(flavour: Flavour, tmp_path: Path) -> None:
    rules = [
        Rule(users=("jane",), verbs=("get", "create"), resources=("pods", "pods/exec")),
        Rule(users=("jane",), verbs=("get",), resources=("nodes",)),
    ]
    with FakeCluster(rules=rules) as cluster:
        path = cluster.write_kubeconfig(tmp_path / "jane", "jane", [])
        access = load(path)
        node = Node(flavour, flavour.client.Cluster(access))
        done = node.run("echo", "x")
        assert done.route == "apiserver"
        assert "HTTP 403: Forbidden (user=jane, verb=create, resource=nodes" in done.route_reason
        with pytest.raises(Forbidden, match="nodes/proxy"):
            Node(flavour, flavour.client.Cluster(access, via="kubelet")).run("echo", "x")


def test_tokens_are_shown_to_nodes_by_name_only(flavour: Flavour, tmp_path: Path) -> None:
    with FakeCluster(tokens={"t0ken": User("jane", ("system:masters",))}) as cluster:
        access = load(cluster.write_kubeconfig(tmp_path / "jane", token="t0ken"))
        done = Node(flavour, flavour.client.Cluster(access)).run("echo", "x")
        assert (done.route, done.route_reason) == ("apiserver", "the cluster's token is not shown to nodes")
        done = Node(flavour, flavour.client.Cluster(access, via="kubelet")).run("echo", "x")
        assert done.route == "kubelet"
        unverified = flavour.client.Cluster(access, via="kubelet", kubelet_verify=False)
        with pytest.raises(UnverifiedTokenError):
            Node(flavour, unverified).run("echo", "x")
        given = flavour.client.Cluster(access, kubelet_credentials=BearerToken("t0ken"))
        assert Node(flavour, given).run("echo", "x").route == "kubelet"


def test_who_is_trusted_at_a_node(flavour: Flavour, cluster: FakeCluster, tmp_path: Path) -> None:
    with FakeCluster() as other:
        stranger = other.ca
    ways_out = (
        r"not signed by an authority trusted here.*kubewire trust 127\.0\.0\.1:\d+, .*or go through the apiserver"
    )
    with pytest.raises(CertificateVerifyError, match=ways_out):
        at(flavour, cluster, kubelet_ca=stranger).run("echo", "x")
    assert at(flavour, cluster, kubelet_ca=cluster.ca, via="kubelet").run("echo", "x").route == "kubelet"
    assert at(flavour, cluster, kubelet_verify=False, via="kubelet").run("echo", "x").route == "kubelet"


def test_the_authority_that_the_cluster_publishes(flavour: Flavour, cluster: FakeCluster) -> None:
    """The kubeconfig may trust the apiserver by another CA, e.g. its own certificate."""
    port = int(cluster.url.rpartition(":")[2])
    own = ssl.get_server_certificate(("127.0.0.1", port)).encode()
    access = replace(load(cluster.kubeconfig), ca=own)
    assert Node(flavour, flavour.client.Cluster(access, via="kubelet")).run("echo", "x").route == "kubelet"


def test_pinned_nodes(flavour: Flavour, cluster: FakeCluster, tmp_path: Path) -> None:
    kubelet = cluster.kubelets["node-1"]
    host, port = "127.0.0.1", kubelet.port
    der = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((host, port)))
    known = KnownNodes(tmp_path / "known")
    known.add(host, port, der)
    assert at(flavour, cluster, known_nodes=known, via="kubelet").run("echo", "x").route == "kubelet"
    with FakeCluster() as other:
        theirs = ssl.get_server_certificate((host, other.kubelets["node-1"].port))
        known.add(host, port, ssl.PEM_cert_to_DER_cert(theirs))
    for via in ("kubelet", "auto"):
        with pytest.raises(PinnedCertificateChanged, match="HAS CHANGED"):
            at(flavour, cluster, known_nodes=known, via=via).run("echo", "x")


def test_a_pod_on_no_node(flavour: Flavour) -> None:
    with (
        FakeCluster(pods={"": [Pod("default/demo")]}) as cluster,
        pytest.raises(PodUnavailable, match="on no node yet"),
    ):
        at(flavour, cluster).run("echo", "x")


def test_closing_the_cluster_closes_what_was_opened() -> None:
    async def main(kubeconfig: Path) -> None:
        async with aio.Cluster.from_kubeconfig(kubeconfig=kubeconfig) as cluster:
            process = await cluster.pod("demo").popen(["sleep", "60"])
        with pytest.raises(ValueError, match="closed"):
            await process.wait()

    with FakeCluster() as running:
        asyncio.run(main(running.kubeconfig))

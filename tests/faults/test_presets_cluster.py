"""Faults before and behind an apiserver: what it hands on, and what it translates, is touched like any session."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fakekubelet import FakeCluster
from fakekubelet import faults as presets
from kubeletclient import ClientCertificate, ClientError, ConnectionLost, RemoteError
from spdyproto.channels.events import StreamSet
from support.flavours import Flavour, flavour_fixture
from support.gopeers import random_bytes
from support.lines import ERR, OUT, PATIENT, judge_beginning

flavour = flavour_fixture()

WIRES = ("spdy", "ws:v4.channel.k8s.io", "ws:v5.channel.k8s.io")
BIG = random_bytes(300_000, "cluster")


@pytest.fixture(scope="module", params=["1.35", "1.36"])
def cluster(request: pytest.FixtureRequest) -> Iterator[FakeCluster]:
    """Of the first the apiserver translates v5 itself, of the second it hands it on."""
    with FakeCluster(profile=request.param) as cluster:
        yield cluster


def attempt(flavour: Flavour, cluster: FakeCluster, wire: str, *command: str) -> Any:
    words = "&".join(f"command={word}" for word in command)
    query = f"container=main&stdout=true&stderr=true&{words}"
    identity = cluster.credentials()
    try:
        with flavour.connect_exec(
            f"{cluster.url}/api/v1/namespaces/default/pods/demo/exec?{query}",
            streams=StreamSet(),
            credentials=ClientCertificate(identity.cert_pem, identity.key_pem),
            ca=cluster.ca,
            transport=wire,
            deadlines=PATIENT,
        ) as process:
            output = process.communicate(timeout=50)
            return process.wait(), *output
    except ClientError as error:
        return error


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("where", ["apiserver", "kubelets"])
def test_harmless_faults_change_nothing(flavour: Flavour, cluster: FakeCluster, wire: str, where: str) -> None:
    with faults_at(cluster, where, presets.SplitWrites(1000), presets.EarlyStatus(), presets.FragmentedMessages(700)):
        assert attempt(flavour, cluster, wire, "both", "3") == (0, OUT, ERR)
        assert attempt(flavour, cluster, wire, "random", str(len(BIG)), "cluster") == (0, BIG, b"")


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("fault", [presets.LostStatus(), presets.CutOutput(20, "fin"), presets.EarlyGoaway()], ids=str)
@pytest.mark.parametrize("where", ["apiserver", "kubelets"])
def test_a_loss_is_a_loss(flavour: Flavour, cluster: FakeCluster, wire: str, where: str, fault: presets.Fault) -> None:
    with faults_at(cluster, where, fault):
        result = attempt(flavour, cluster, wire, "both", "3")
    # An apiserver that translates learns of the kubelet's loss, and says so by a status that is no success.
    assert isinstance(result, ConnectionLost | RemoteError), result
    assert where == "kubelets" or isinstance(result, ConnectionLost)
    judge_beginning(result, OUT, ERR)


class faults_at:
    """Set for a while."""

    def __init__(self, cluster: FakeCluster, where: str, *faults: presets.Fault) -> None:
        self._servers = [cluster.apiserver] if where == "apiserver" else list(cluster.kubelets.values())
        self._faults = faults

    def __enter__(self) -> None:
        for server in self._servers:
            server.faults = self._faults

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.faults = ()

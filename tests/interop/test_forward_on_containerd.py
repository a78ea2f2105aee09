"""Forwarded ports through containerd's own streaming server, whose habits cri-streaming alone does not have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from kubeletclient import ForwardEvent, NotFound
from support.containerd import Containerd
from support.flavours import Flavour, flavour_fixture
from support.forwarded import Forwarded, read_exactly, until
from support.goforward import echo, exchange, listening

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

flavour = flavour_fixture()

TRANSPORTS = pytest.mark.parametrize("transport", ["spdy", "ws:v4.channel.k8s.io", "ws:v4.base64.channel.k8s.io"])


@contextmanager
def forwarding(
    flavour: Flavour, containerd: Containerd, pod: str, *ports: int, transport: str = "spdy", **options: Any
) -> Iterator[Forwarded]:
    node = flavour.client.Kubelet(containerd.url, transport=transport, **containerd.options())
    events: list[ForwardEvent] = []
    options = {"address": "127.0.0.1", "on_event": events.append} | options
    forward = flavour.do(lambda: node.pod(pod).forward([f":{port}" for port in ports], **options))
    try:
        yield Forwarded(flavour, forward, events)
    finally:
        flavour.do(forward.close)
        flavour.do(node.close)


@TRANSPORTS
def test_data_both_ways(flavour: Flavour, containerd: Containerd, transport: str) -> None:
    assert containerd.demo is not None
    with (
        listening(echo) as port,
        forwarding(flavour, containerd, "demo", port, transport=transport) as forwarded,
    ):
        for _ in range(3):
            with forwarded.connect() as sock:
                sock.sendall(b"hello" * 1000)
                assert read_exactly(sock, 5000) == b"hello" * 1000


def test_many_connections_and_a_refusal_among_them(flavour: Flavour, containerd: Containerd) -> None:
    assert containerd.demo is not None
    # A port that was free a moment ago might be the next one to be listened on; this one nobody has.
    with listening(echo) as port, forwarding(flavour, containerd, "demo", port, 1) as forwarded:
        for _ in range(5):
            with pytest.raises(ConnectionResetError):
                exchange(forwarded.local[1], b"x")
            assert exchange(forwarded.local[0], b"hello") == b"hello"
        assert forwarded.ended(10)[-1].ended in ("finished", "failed")
        failed = [each for each in forwarded.forward.connections if each.ended == "failed"]
        assert len(failed) == 5
        assert "connection refused" in failed[0].error
        # A worker of its server may stand still behind a refusal; whoever waits for it is moved to another session.
        assert len(forwarded.told("connected")) <= 4


def test_a_pod_that_goes_is_noticed_by_the_next_connection(flavour: Flavour, containerd: Containerd) -> None:
    with listening(echo) as port:
        pod = containerd.pod()
        pod.container()
        with forwarding(flavour, containerd, pod.name, port) as forwarded:
            assert exchange(forwarded.local[0], b"hello") == b"hello"
            pod.remove()
            with pytest.raises(ConnectionResetError):
                exchange(forwarded.local[0], b"hello")
            until(lambda: bool(forwarded.told("lost")))
            until(lambda: bool(forwarded.told("retry")))
            assert "pod does not exist" in forwarded.told("retry")[0].text


def test_a_pod_that_is_not_there(flavour: Flavour, containerd: Containerd) -> None:
    with pytest.raises(NotFound, match="pod does not exist"), forwarding(flavour, containerd, "nobody", 80):
        pass

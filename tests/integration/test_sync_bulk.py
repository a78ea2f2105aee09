"""Bulk data through the blocking flavour, with keepalive off: a stall is not hidden by a PING that wakes everybody."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from fakekubelet import FakeKubelet
from kubeletclient import ClientCertificate, Kubelet

SIZE = 64 << 20


@pytest.fixture(scope="module")
def kubelet() -> Iterator[Kubelet]:
    with FakeKubelet() as server:
        identity = server.credentials("alice", ["system:masters"])
        credentials = ClientCertificate(identity.cert_pem, identity.key_pem)
        with Kubelet(server.url, ca=server.ca, credentials=credentials, keepalive=None) as client:
            yield client


@pytest.mark.parametrize("piece", [1000, 65536, 262112])
def test_stdin_flows_on_after_the_socket_was_full(kubelet: Kubelet, piece: int) -> None:
    pieces = (b"x" * piece for _ in range(SIZE // piece))
    done = kubelet.pod("demo").run(["discard"], container="main", input=pieces, timeout=20)
    assert done.stdout == b"%d\n" % (SIZE // piece * piece)


def test_a_reader_that_has_left_is_the_callers_own_error(kubelet: Kubelet) -> None:
    receiver, sender = os.pipe()
    os.close(receiver)
    try:
        with pytest.raises(BrokenPipeError) as caught:
            kubelet.pod("demo").run(["source", "1000000"], container="main", stdout=sender, timeout=20)
    finally:
        os.close(sender)
    assert type(caught.value) is BrokenPipeError

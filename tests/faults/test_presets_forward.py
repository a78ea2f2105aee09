"""Faults of forwarded ports: what is lost is a reset of the local connection, never an end of file."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from fakekubelet import FakeKubelet
from fakekubelet import faults as presets
from fakekubelet.ports import echo, source
from kubeletclient import Keepalive
from support.flavours import Flavour, flavour_fixture
from support.forwarded import forwarding, kubelet_of, read_all

flavour = flavour_fixture()

SIZE = 300_000
SPDY, TUNNEL, OLD = "spdy", "ws", "ws:v4.channel.k8s.io"
EVERY = pytest.mark.parametrize("transport", [SPDY, TUNNEL, OLD])


@pytest.fixture(scope="module")
def kubelet() -> Iterator[FakeKubelet]:
    with kubelet_of({7: echo, 85: source(SIZE)}) as kubelet:
        yield kubelet


@EVERY
@pytest.mark.parametrize(
    "fault",
    [
        presets.SplitWrites(1000),
        presets.SlowLink(2_000_000),
        presets.SlowReader(2_000_000),
        presets.FragmentedMessages(700),
        presets.EarlyStatus(),
    ],
    ids=str,
)
def test_harmless_faults_change_nothing(
    flavour: Flavour, kubelet: FakeKubelet, transport: str, fault: presets.Fault
) -> None:
    kubelet.faults = [fault]
    data = bytes(range(256)) * 1000
    with forwarding(flavour, kubelet, [":7", ":85"], client={"transport": transport}) as forwarded:
        with forwarded.connect(0) as sock:
            sender = threading.Thread(target=sock.sendall, args=(data,))
            sender.start()
            got = b""
            while len(got) < len(data) and (piece := sock.recv(1 << 16)):
                got += piece
            sender.join()
            assert got == data
        if transport != OLD:  # which has no end of one direction
            with forwarded.connect(1) as sock:
                assert len(read_all(sock)) == SIZE


@EVERY
@pytest.mark.parametrize(
    "fault",
    [
        *(presets.CutOutput(after, how) for after in (20, 200_000) for how in ("fin", "rst", "close_notify")),
        presets.EarlyGoaway(200_000),
        presets.Silence(200_000),
    ],
    ids=str,
)
def test_a_loss_is_no_end_of_file(flavour: Flavour, kubelet: FakeKubelet, transport: str, fault: presets.Fault) -> None:
    kubelet.faults = [fault]
    client = {"transport": transport, "keepalive": Keepalive(period=0.2, deadline=1.0)}
    with forwarding(flavour, kubelet, [":85"], client=client, wait=5.0) as forwarded:
        if transport == OLD and isinstance(fault, presets.EarlyGoaway):
            return  # Close 1000 is all that an end of file is there: the protocol cannot tell
        with pytest.raises(ConnectionResetError), forwarded.connect() as sock:
            read_all(sock)
        assert forwarded.ended()[0].ended in ("lost", "reset", "failed", "refused"), forwarded.ended()

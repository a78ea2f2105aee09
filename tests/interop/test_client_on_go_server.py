"""The client, in both flavours, against the code that real container runtimes serve exec with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.contract import GIB, ExecContract, HashSink, hashed_blocks
from support.flavours import Flavour, flavour_fixture
from support.peers import GoPeer
from support.pki import Pki

pytestmark = [pytest.mark.interop, pytest.mark.usefixtures("go_peers")]

flavour = flavour_fixture()


@pytest.fixture(scope="module")
def peer(go_peers: Path, pki: Pki) -> Iterator[GoPeer]:
    with GoPeer.serve(pki) as peer:
        yield peer


class TestExec(ExecContract):
    """All of it."""


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_download_of_a_gibibyte(flavour: Flavour, peer: GoPeer, gibibyte: str) -> None:
    sink = HashSink()
    done = flavour.node(peer.url, **peer.options()).run("random", str(GIB), "gibibyte", stdout=sink)
    assert (done.returncode, sink.seen) == (0, (GIB, gibibyte))


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_upload_of_a_gibibyte(flavour: Flavour, peer: GoPeer) -> None:
    sent = HashSink()
    done = flavour.node(peer.url, **peer.options()).run("sink", input=hashed_blocks(GIB, "gibibyte", sent))
    assert done.stdout.decode() == "{} {}\n".format(*sent.seen)
    assert sent.size == GIB


@pytest.fixture(scope="module")
def gibibyte() -> str:
    """The digest of a GiB of random bytes."""
    sink = HashSink()
    for _ in hashed_blocks(GIB, "gibibyte", sink):
        pass
    return sink.seen[1]

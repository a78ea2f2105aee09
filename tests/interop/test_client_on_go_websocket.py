"""The client over WebSocket, in both flavours, against the code that real container runtimes and kubelets serve it
with: `x/net/websocket` for v4 and older, the translator for v5."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.flavours import flavour_fixture
from support.peers import GoPeer
from support.pki import Pki
from support.wscontract import WebSocketContract

pytestmark = [pytest.mark.interop, pytest.mark.usefixtures("go_peers")]

flavour = flavour_fixture()


@pytest.fixture(scope="module")
def peer(go_peers: Path, pki: Pki) -> Iterator[GoPeer]:
    with GoPeer.serve(pki) as peer:
        yield peer


@pytest.fixture(scope="module")
def modern(go_peers: Path, pki: Pki) -> Iterator[GoPeer]:
    with GoPeer.serve(pki, translate=True) as peer:
        yield peer


class TestWebSocket(WebSocketContract):
    """All of it."""

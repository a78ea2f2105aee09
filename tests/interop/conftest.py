"""What the tests against real peers share: the peers themselves, and certificates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.containerd import Containerd, require_containerd
from support.gopeers import require_peers
from support.pki import Pki, make_pki


@pytest.fixture(scope="session")
def go_peers() -> Path:
    """The folder of the Go programs; asking for it skips, or fails, a test where they cannot be built."""
    return require_peers()


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """Certificates that live as long as the test run."""
    return make_pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="session")
def containerd(pki: Pki) -> Iterator[Containerd]:
    """Real containers; see ``support/containerd.py``."""
    require_containerd()
    with Containerd(pki=pki) as containerd:
        yield containerd

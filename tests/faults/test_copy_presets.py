"""Copies from and to a kubelet that loses things: the whole tree, or an error and nothing in place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from fakekubelet import Container, FakeKubelet
from fakekubelet import Pod as FakePod
from fakekubelet.faults import CutInput, CutOutput, EarlyStatus, Fault, LoseTail, LostStatus, SplitWrites
from kubeletclient import ClientCertificate, ClientError, Kubelet
from support.trees import describe, every_kind

PRESETS: dict[str, Sequence[Fault]] = {
    "loses a byte": [LoseTail(1)],
    "loses a block": [LoseTail(600)],
    "loses what there is": [LoseTail(1 << 20)],
    "loses every status": [LostStatus()],
    "cut on the way out": [CutOutput(after=5000)],
    "cut on the way in": [CutInput(after=5000)],
    "status first": [EarlyStatus()],
    "pieces": [SplitWrites(701)],
}
WHOLE = {"status first", "pieces"}
"""What loses nothing, and has to succeed."""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("presets") / "src"
    every_kind(root)
    return root


@pytest.fixture(scope="module")
def kubelet() -> Iterator[FakeKubelet]:
    with FakeKubelet([FakePod("default/host", [Container("main", processes=True)])], allow_processes=True) as kubelet:
        yield kubelet


@pytest.mark.parametrize("direction", ["in", "out"])
@pytest.mark.parametrize("preset", PRESETS)
def test_never_a_part(
    kubelet: FakeKubelet,
    tree: Path,
    tmp_path: Path,
    preset: str,
    direction: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kubeletclient.copy.common.FIRST_PAUSE", 0.001)
    identity = kubelet.credentials()
    credentials = ClientCertificate(identity.cert_pem, identity.key_pem)
    kubelet.faults = list(PRESETS[preset])
    target = tmp_path / "target"
    try:
        with Kubelet(kubelet.url, ca=kubelet.ca, credentials=credentials) as node:
            pod = node.pod("host")
            copy = pod.copy_in if direction == "in" else pod.copy_out
            copy(tree, target, container="main", retries=1)
    except ClientError:
        assert preset not in WHOLE
        assert not target.exists()
    else:
        assert describe(target) == describe(tree)
    finally:
        kubelet.faults = []

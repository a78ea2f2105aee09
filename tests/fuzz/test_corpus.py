"""Every saved input, of every target, in every run: what was once found, or thought of, stays mended."""

from __future__ import annotations

import pytest

from . import driver

TARGETS = {name: driver.load(name) for name in driver.discover()}
CASES = [
    pytest.param(target, data, id=f"{target.name}-{file}")
    for target in TARGETS.values()
    for file, data in target.corpus.items()
]


@pytest.mark.parametrize(("target", "data"), CASES)
def test_saved_input(target: driver.Target, data: bytes) -> None:
    target.one_input(data)


@pytest.mark.parametrize("name", TARGETS)
def test_a_short_search_finds_nothing(name: str) -> None:
    """The same few hundred inputs each time; searching for more is what ``python -m tests.fuzz`` is for."""
    finding = driver.fuzz(TARGETS[name], seed=20260707, runs=300).finding
    assert finding is None, f"{finding.error} for {finding.data!r}"


@pytest.mark.parametrize("name", TARGETS)
def test_targets_state_their_invariant_and_have_a_corpus(name: str) -> None:
    assert TARGETS[name].one_input.__doc__
    assert TARGETS[name].corpus


def test_every_corpus_has_its_target() -> None:
    assert {path.name for path in driver.CORPORA.iterdir()} <= set(TARGETS)

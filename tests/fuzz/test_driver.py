"""The fuzz driver finds what is there to be found."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from . import driver
from .__main__ import main


def make(one_input: Callable[[bytes], None], *corpus: bytes, max_size: int = 4096) -> driver.Target:
    entries = {str(number): data for number, data in enumerate(corpus)}
    return driver.Target("made", one_input, (b"TOKEN",), max_size, entries)


def dislikes_token(data: bytes) -> None:
    if b"TOKEN" in data:
        raise ValueError("there it is")


def test_a_broken_invariant_is_found_and_shrunk() -> None:
    report = driver.fuzz(make(dislikes_token, b"some text that is mutated"), seed=1, runs=1000)
    assert report.finding == driver.Finding(b"TOKEN", "ValueError: there it is")
    assert report.runs < 1000


def test_same_seed_same_inputs() -> None:
    def inputs(seed: int) -> list[bytes]:
        seen: list[bytes] = []
        driver.fuzz(make(seen.append, b"abc", b"xyz"), seed=seed, runs=50)
        return seen

    assert inputs(1) == inputs(1)
    assert inputs(1) != inputs(2)


def test_run_ends_after_its_time() -> None:
    assert driver.fuzz(make(lambda _: None, b"abc"), seed=1, seconds=0.05).runs > 0


def test_an_empty_corpus_is_a_start_too() -> None:
    assert driver.fuzz(make(lambda _: None), seed=1, runs=50).runs == 50


def test_inputs_stay_within_the_size() -> None:
    source = random.Random(1)
    target = make(lambda _: None, b"x" * 60, max_size=64)
    assert max(len(driver.mutate(source, b"x" * 60, [b"y" * 60], target)) for _ in range(500)) == 64


def test_slow_input_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "SLOW", -1.0)
    error, _ = driver.check(make(lambda _: None), b"")
    assert error is not None
    assert "s of CPU" in error


def test_shrinking_keeps_the_kind_of_error() -> None:
    def two_ways(data: bytes) -> None:
        if len(data) > 10:
            raise ValueError("long")
        if len(data) > 5:
            raise KeyError("short")

    data, error = driver.shrink(make(two_ways), b"x" * 100, "ValueError: long")
    assert (len(data), error) == (11, "ValueError: long")


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["status", "--runs", "5", "--seed", "1", "--no-atheris", "--output", str(tmp_path)]
    assert main(arguments) == 0
    assert "status: 5 inputs, seed 1" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []

    def load(_: str) -> driver.Target:
        return make(dislikes_token, b"TOKEN" * 50)

    monkeypatch.setattr(driver, "load", load)
    assert main(arguments) == 1
    assert "BROKE with 5 bytes" in capsys.readouterr().out
    assert [path.read_bytes() for path in tmp_path.rglob("crash-*")] == [b"TOKEN"]


def test_unknown_target_is_wrong_usage() -> None:
    with pytest.raises(SystemExit) as caught:
        main(["nothing-of-the-kind"])
    assert caught.value.code == 2

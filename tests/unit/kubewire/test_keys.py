"""Detach keys among what is typed."""

from __future__ import annotations

import itertools

import pytest

from kubewire.keys import KeyWatch, parse_keys


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("ctrl-a", b"\x01"),
        ("a,b", b"ab"),
        ("ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\x00\x1b\x1c\x1d\x1e\x1f"),
        ("~,ctrl-z", b"~\x1a"),
    ],
)
def test_spellings(text: str, keys: bytes) -> None:
    assert parse_keys(text) == keys


@pytest.mark.parametrize("text", ["", "ctrl-", "ctrl-P", "ctrl-pq", "ab", "ctrl-p,,a", "é", "ctrl-1"])
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(ValueError, match="expected a character or ctrl-LETTER"):
        parse_keys(text)


@pytest.mark.parametrize(
    ("typed", "passed", "seen"),
    [
        (b"ls\n", b"ls\n", False),
        (b"ls\x10", b"ls", False),
        (b"\x10x", b"\x10x", False),
        (b"\x10\x10\x11", b"\x10", True),
        (b"a\x10\x11b", b"a", True),
        (b"\x11\x10", b"\x11", False),
    ],
)
def test_watching(typed: bytes, passed: bytes, seen: bool) -> None:
    for size in range(1, len(typed) + 1):
        watch = KeyWatch(b"\x10\x11")
        pieces = [typed[start : start + size] for start in range(0, len(typed), size)]
        assert b"".join(map(watch.feed, pieces)) == passed
        assert watch.seen is seen


def test_every_text_of_a_few_keys() -> None:
    """What is passed on and what is held back together are what was typed, up to the keys."""
    for keys in (b"ab", b"aab", b"aba", b"aa"):
        for typed in map(bytes, itertools.product(b"ab", repeat=7)):
            watch = KeyWatch(keys)
            passed = watch.feed(typed)
            end = typed.find(keys)
            assert watch.seen is (end >= 0)
            if watch.seen:
                assert passed == typed[:end]
            else:
                assert typed.startswith(passed)
                assert keys.startswith(typed[len(passed) :])


def test_no_keys() -> None:
    with pytest.raises(ValueError, match="at least one key"):
        KeyWatch(b"")

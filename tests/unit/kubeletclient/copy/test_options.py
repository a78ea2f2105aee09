from __future__ import annotations

from typing import Any

import pytest

from kubeletclient.copy.entries import Preserve
from kubeletclient.copy.options import CopyOptions, Filter


@pytest.mark.parametrize(
    ("choices", "part"),
    [
        ({"verify": "crc"}, "verify: expected auto, none, cksum"),
        ({"strategy": "rsync"}, "strategy: expected one of auto, tar, files"),
        ({"compression": "lz4"}, "compression: expected None, gzip or zstd"),
        ({"parallel": 0}, "parallel: expected 1 to 32"),
        ({"parallel": 33}, "parallel: expected 1 to 32"),
        ({"retries": -1}, "retries: expected"),
    ],
)
def test_choices_that_are_none(choices: dict[str, Any], part: str) -> None:
    with pytest.raises(ValueError, match=part):
        CopyOptions(**choices)


def test_links_are_one_of_four() -> None:
    with pytest.raises(ValueError, match="links: expected keep, safe, skip or follow, not 'all'"):
        Preserve(links="all")


@pytest.mark.parametrize(
    ("exclude", "include", "path", "directory", "wanted"),
    [
        ((), (), b"a", False, True),
        (("*.log",), (), b"var/x.log", False, False),
        (("*.log",), (), b"var/x.txt", False, True),
        (("node_modules",), (), b"a/node_modules/b/c", False, False),
        (("node_modules/",), (), b"a/node_modules", True, False),
        (("var/*.log",), (), b"var/x.log", False, False),
        (("var/*.log",), (), b"old/var/x.log", False, True),
        (("/var",), (), b"var/x", False, False),
        (("*.log",), ("keep.log",), b"keep.log", False, True),
        (("*",), ("*.py",), b"deep", True, True),  # something below it could be included
        (("*",), ("*.py",), b"deep/x.py", False, True),
        (("*",), ("*.py",), b"deep/x.c", False, False),
        (("\udcff*",), (), b"\xffx", False, False),
    ],
)
def test_filter(exclude: tuple[str, ...], include: tuple[str, ...], path: bytes, directory: bool, wanted: bool) -> None:
    assert Filter(exclude, include)(path, directory) is wanted


def test_a_lone_pattern_is_a_mistake() -> None:
    with pytest.raises(TypeError, match="lists of patterns"):
        Filter("*.log")

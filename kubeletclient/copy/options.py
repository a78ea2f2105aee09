"""What a caller can choose about a copy, checked in one place for both flavours and the command line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from re import Pattern, compile
from typing import Final, TypedDict

from kubeletclient.copy.checksums import ALGORITHMS
from kubeletclient.copy.entries import Preserve, TreeLimits

__all__ = ["CopyChoices", "CopyOptions", "Filter"]

_STRATEGIES: Final = ("auto", "tar", "files", "compat")
_MAX_PARALLEL: Final = 32
"""Connections of one copy. Each is a process in the container; more than a few do not help anywhere."""


@dataclass(frozen=True, slots=True)
class CopyOptions:
    """What a copy may be told.

    - ``verify``: ``"auto"``: the cheapest digest that the container can compute, ``"cksum"`` first; a digest by name
      (``"sha256"``, ...), which is then required; or ``"none"``.
    - ``preserve``: what is kept of modes, times, owners and links.
    - ``exclude``, ``include``: patterns as of ``fnmatch``; see ``Filter``.
    - ``strategy``: ``"auto"``, ``"tar"``, ``"files"``: one command for each file, with no tar, or ``"compat"``: what
      kubectl cp runs (``tar -xmf -``, ``tar cf - SOURCE``), which needs no shell, verifies nothing, and in a
      container writes straight to the final names.
    - ``resume``: use what an interrupted copy of the same source to the same target left.
    - ``retries``: further attempts after a lost connection or a difference; never after a refusal.
    - ``parallel``: connections at once, for large files and for many files.
    - ``compression``: ``"gzip"`` or ``"zstd"``, where both sides have it; for slow networks.
    - ``dry_run``: look, report what would be copied, and change nothing.
    - ``helper``: a static busybox on this machine that may be lent to the container for the time of the copy.
    - ``timeout``: seconds for each command of the copy.
    - ``limits``: what is accepted from a container.
    """

    verify: str = "auto"
    preserve: Preserve = Preserve()
    exclude: Sequence[str] = ()
    include: Sequence[str] = ()
    strategy: str = "auto"
    resume: bool = False
    retries: int = 3
    parallel: int = 2
    compression: str | None = None
    dry_run: bool = False
    helper: str | bytes | os.PathLike[str] | None = None
    timeout: float | None = None
    limits: TreeLimits = TreeLimits()
    filter: Filter = field(init=False)

    def __post_init__(self) -> None:
        if self.verify not in ("auto", "none", *ALGORITHMS):
            raise ValueError(f"verify: expected auto, none, {', '.join(ALGORITHMS)}, not {self.verify!r}")
        if self.strategy not in _STRATEGIES:
            raise ValueError(f"strategy: expected one of {', '.join(_STRATEGIES)}, not {self.strategy!r}")
        if self.compression not in (None, "gzip", "zstd"):
            raise ValueError(f"compression: expected None, gzip or zstd, not {self.compression!r}")
        if not 1 <= self.parallel <= _MAX_PARALLEL:
            raise ValueError(f"parallel: expected 1 to {_MAX_PARALLEL} connections, not {self.parallel!r}")
        if self.retries < 0:
            raise ValueError(f"retries: expected a number of at least 0, not {self.retries!r}")
        object.__setattr__(self, "filter", Filter(self.exclude, self.include))


class CopyChoices(TypedDict, total=False):
    """The keyword arguments that the copying verbs of ``Pod`` have in common: the fields of ``CopyOptions``."""

    verify: str
    preserve: Preserve
    exclude: Sequence[str]
    include: Sequence[str]
    strategy: str
    resume: bool
    retries: int
    parallel: int
    compression: str | None
    dry_run: bool
    helper: str | bytes | os.PathLike[str] | None
    timeout: float | None
    limits: TreeLimits


class Filter:
    """Which paths of a tree are wanted. A pattern with a slash is matched with the whole path below the source, one
    without with every part; ``include`` wins over ``exclude``.
    """

    def __init__(self, exclude: Sequence[str] = (), include: Sequence[str] = ()) -> None:
        for patterns in (exclude, include):
            if isinstance(patterns, str):
                raise TypeError("exclude and include are lists of patterns")
        self._exclude = [_pattern(each) for each in exclude]
        self._include = [_pattern(each) for each in include]

    def __bool__(self) -> bool:
        return bool(self._exclude)

    def __call__(self, path: bytes, directory: bool = False) -> bool:
        """Whether ``path``, below the source, is wanted. What lies below an unwanted directory is not asked for, unless
        something could be included there.
        """
        if not self._exclude or not _matches(self._exclude, path):
            return True
        return bool(self._include) and (directory or _matches(self._include, path))


def _pattern(text: str) -> tuple[bool, Pattern[bytes]]:
    text = text.rstrip("/")
    whole = "/" in text
    return whole, compile(translate(text.lstrip("/")).encode("utf-8", "surrogateescape"))


def _matches(patterns: list[tuple[bool, Pattern[bytes]]], path: bytes) -> bool:
    parts = path.split(b"/")
    prefixes = [b"/".join(parts[: count + 1]) for count in range(len(parts))]
    return any(any(pattern.match(each) for each in (prefixes if whole else parts)) for whole, pattern in patterns)

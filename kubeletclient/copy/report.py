"""What a copy did, and how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

__all__ = ["CopyReport", "Progress", "ProgressFunction", "Tracker"]

_SKIPPED_KEPT: Final = 1000
"""Names of what was left out that a report holds; all of them are counted."""

_PERIOD: Final = 0.1
"""Seconds between two calls of a progress function: ten a second look smooth and cost nothing."""


@dataclass(slots=True)
class Progress:
    """How far a copy is. A total is None while it is not known."""

    phase: str
    """``scan``, ``transfer``, ``verify``, ``place``, or ``retry``: attempt number ``files`` follows, for ``reason``."""

    bytes: int = 0
    """Of content, of the phase."""

    total_bytes: int | None = None
    files: int = 0
    total_files: int | None = None
    reason: str = ""


ProgressFunction = Callable[[Progress], object]


@dataclass(slots=True)
class CopyReport:
    """A finished copy, or what was done of one that failed (``CopyError.report``).

    Bytes are those of file content. ``verification`` names the digest that both sides agreed on, ``"sizes"`` where only
    sizes could be compared and ``"none"`` where nothing could be (or was not wanted); ``unverified`` counts the files
    that have no digest. ``transfer_seconds`` and ``verify_seconds`` do not overlap.
    """

    direction: str
    sources: list[str]
    target: str
    bytes: int = 0
    files: int = 0
    directories: int = 0
    links: int = 0
    strategy: str = ""
    compression: str | None = None
    verification: str = "none"
    unverified: int = 0
    route: str = ""
    transport: str = ""
    connections: int = 0
    resumed_bytes: int = 0
    """Content that an earlier attempt had brought and that was verified instead of sent again."""

    retries: int = 0
    transfer_seconds: float = 0.0
    verify_seconds: float = 0.0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    """Names that were left out, and why; at most a thousand of them."""

    skipped_count: int = 0
    leftover: str | None = None
    """Where an unfinished copy keeps what it has, for a resume."""

    dry_run: bool = False

    @property
    def rate(self) -> float:
        """Bytes per second of the transfer alone."""
        return (self.bytes - self.resumed_bytes) / self.transfer_seconds if self.transfer_seconds else 0.0

    def skip(self, name: str, reason: str) -> None:
        """Note what is left out."""
        self.skipped_count += 1
        if len(self.skipped) < _SKIPPED_KEPT:
            self.skipped.append((name, reason))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "rate": self.rate}


class Tracker:
    """Counts, and calls the caller's function now and then, and at each change of phase."""

    def __init__(self, function: ProgressFunction | None) -> None:
        self._function = function
        self._due = 0.0
        self._now = Progress("scan")

    def phase(self, name: str, total_bytes: int | None = None, total_files: int | None = None) -> None:
        """A new phase begins at zero."""
        self.flush()
        self._now = Progress(name, 0, total_bytes, 0, total_files)
        self.flush()

    def add_bytes(self, count: int) -> None:
        """Content was moved."""
        self._now.bytes += count
        self._look()

    def add_files(self, count: int = 1) -> None:
        """Files are complete."""
        self._now.files += count
        self._look()

    def retry(self, error: Exception, number: int) -> None:
        """Another attempt follows."""
        if self._function is not None:
            self._function(Progress("retry", files=number, reason=str(error)))

    def _look(self) -> None:
        if self._function is not None and time.monotonic() >= self._due:
            self.flush()

    def flush(self) -> None:
        """Tell how far it is now."""
        if self._function is not None:
            self._due = time.monotonic() + _PERIOD
            now = self._now
            self._function(Progress(now.phase, now.bytes, now.total_bytes, now.files, now.total_files))

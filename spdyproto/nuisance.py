"""A limit on frames that move nothing: the floods that cost a peer little and us work.

Pings, settings, resets of streams on which nothing was sent, streams that are refused, empty frames: a healthy peer
sends a few of them, an attacker millions (CVE-2019-9512, 9514, 9515, 9518 and CVE-2023-44487 are HTTP/2's names for
it). They are counted in a bucket that holds ``Limits.nuisances`` and gives a tenth of that back each second.
"""

from __future__ import annotations

from spdyproto.errors import LimitExceeded


class Nuisances:
    """One connection's bucket."""

    __slots__ = ("_last", "_left", "_limit")

    def __init__(self, limit: int, now: float) -> None:
        self._limit = limit
        self._left = float(limit)
        self._last = now

    def add(self, now: float) -> None:
        """One more. Raises LimitExceeded when it is one too many."""
        if now > self._last:
            self._left = min(float(self._limit), self._left + (now - self._last) * self._limit / 10)
            self._last = now
        self._left -= 1
        if self._left < 0:
            raise LimitExceeded(
                f"more than {self._limit} frames that move nothing (pings, settings, resets, empty frames) in a burst"
            )

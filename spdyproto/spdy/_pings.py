"""The PINGs on their way, and what their answers tell of an application that does not read.

Kubernetes' servers answer no PING that stands behind data which their application leaves unread. spdystream hands
frames to five workers, PINGs to each in turn; the worker of an unread stream stands still, so that one PING in five
gets stuck with it while the others are answered, until 50 frames wait for that worker and nothing is read any more
(``moby/spdystream: connection.go``). All of it may lie in buffers by then, so that our output is not even blocked. A
peer like that lives, and must not be taken for dead: a command may leave its stdin unread for as long as it likes.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from spdyproto.keepalive import UNREAD

MOST: Final = 64
"""Unanswered PINGs after which no more are sent: ten times what a deadline of 30 s needs."""


class _Ping(NamedTuple):
    time: float
    serial: int
    data: int


class PingLedger:
    """The unanswered PINGs of one connection, oldest first."""

    __slots__ = ("_data", "_newest", "_serial", "_waiting")

    def __init__(self) -> None:
        self._waiting: dict[int, _Ping] = {}
        self._serial = 0
        self._newest = 0
        self._data = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def sent(self, ping_id: int, now: float, data: int) -> None:
        """A PING was queued; ``data`` is how much payload was queued before it."""
        self._serial += 1
        self._waiting[ping_id] = _Ping(now, self._serial, data)

    def answered(self, ping_id: int) -> float | None:
        """When that PING was sent; None if nobody waits for its answer."""
        ping = self._waiting.pop(ping_id, None)
        if ping is None:
            return None
        if ping.serial > self._newest:
            self._newest, self._data = ping.serial, ping.data
        return ping.time

    def peer_may_be_stalled(self, data: int) -> bool:
        """Whether unread data explains that the peer is silent; ``data`` is how much payload was queued so far.

        It does when much was sent since the last PING that was answered, or when a PING was passed over: its worker
        stands still.
        """
        if data - self._data >= UNREAD:
            return True
        oldest = next(iter(self._waiting.values()), None)
        return oldest is not None and oldest.serial < self._newest

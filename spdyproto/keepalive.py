"""When to send a PING, and when a silent peer is taken for dead. Shared by every engine that has PINGs."""

from __future__ import annotations

import enum
from typing import Final

from spdyproto.limits import Keepalive

UNREAD: Final = 4096
"""Bytes sent behind the last ping that was answered, from which on silence may mean that they are not read: more than
anybody types within a keepalive's deadline, less than any buffer that a server would put in front of a command."""


class Verdict(enum.Enum):
    """What ``KeepaliveTimer.check`` asks the engine to do."""

    NOTHING = "nothing"
    PING = "send a PING"
    DEAD = "the peer is gone"


class KeepaliveTimer:
    """One connection's clock. ``heard`` is set by the engine for every buffer that comes: any byte is a sign of
    life."""

    __slots__ = ("_policy", "deadline", "heard")

    def __init__(self, policy: Keepalive | None) -> None:
        self._policy = policy
        self.deadline: float | None = None
        """When ``check`` is next due."""
        self.heard = 0.0

    def start(self, now: float) -> None:
        """The clock runs from here. Without a policy it never does; a second start changes nothing."""
        self.heard = now
        if self._policy is not None and self.deadline is None:
            self.deadline = now + self._policy.period

    def check(self, now: float, *, waiting: bool, silence_proves_nothing: bool, again: bool = False) -> Verdict:
        """``waiting``: a PING of ours is unanswered. ``silence_proves_nothing``: the transport is blocked in a way that
        keeps the answer away from us though the peer lives, so the deadline starts anew. ``again``: another PING may
        go out each period though one is unanswered."""
        policy = self._policy
        if policy is None or self.deadline is None or now < self.deadline:
            return Verdict.NOTHING
        if not waiting:
            self.heard = now
            self.deadline = now + min(policy.period, policy.deadline)
            return Verdict.PING
        if silence_proves_nothing:
            self.heard = now
        # One sum, compared and handed out: a difference of floats could stay short of the deadline at the deadline.
        end = self.heard + policy.deadline
        if now >= end:
            self.deadline = None
            return Verdict.DEAD
        self.deadline = min(now + policy.period, end)
        return Verdict.PING if again else Verdict.NOTHING

    def obituary(self, now: float) -> str:
        """Why the peer was taken for dead, in words."""
        deadline = self._policy.deadline if self._policy is not None else 0.0
        return (
            f"no answer to a PING and no other byte for {now - self.heard:.1f} s (deadline {deadline:g} s): "
            "the peer or the network between is gone"
        )

"""The streams of one connection: live ones, and a bounded memory of how the others ended."""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, field

from spdyproto.spdy.states import Half


class ClosedBy(enum.Enum):
    """How a stream ended: a late frame after a reset is forgivable, one after an end is not."""

    BOTH_ENDED = "both ended"
    OUR_RESET = "our RST_STREAM"
    THEIR_RESET = "their RST_STREAM"


@dataclass(slots=True)
class Stream:
    """One live stream. ``received`` and ``sent`` count payload bytes."""

    stream_id: int
    ours: Half
    theirs: Half
    opened_by_us: bool
    priority: int = 0
    received: int = 0
    sent: int = 0
    discarding: bool = False
    """Strict policy: the frame being received was refused; the rest of it is dropped."""
    blocked: deque[tuple[memoryview, bool]] | None = None
    """Windowed only: (payload, fin) waiting for the window."""

    @property
    def replied(self) -> bool:
        return self.ours is not Half.AWAITING_REPLY and self.theirs is not Half.AWAITING_REPLY

    @property
    def over(self) -> bool:
        return self.ours is Half.ENDED and self.theirs is Half.ENDED and not self.blocked


@dataclass(slots=True)
class StreamTable:
    """Live streams by id, ids handed out so far, and the last ``memory`` closed ones."""

    memory: int
    live: dict[int, Stream] = field(default_factory=dict)
    closed: dict[int, ClosedBy] = field(default_factory=dict)
    highest_received: int = 0

    def add(self, stream: Stream) -> None:
        self.live[stream.stream_id] = stream

    def remove(self, stream_id: int, how: ClosedBy) -> None:
        del self.live[stream_id]
        if len(self.closed) >= self.memory:
            self.closed.pop(next(iter(self.closed)))
        self.closed[stream_id] = how


@dataclass(frozen=True, slots=True)
class StreamView:
    """What a stream looks like from outside: read-only, a snapshot. ``closed_by`` is None while it lives."""

    stream_id: int
    ours: Half
    theirs: Half
    opened_by_us: bool
    priority: int
    received: int
    sent: int

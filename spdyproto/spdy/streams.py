"""The streams of one connection: live ones, and a bounded memory of how the others ended."""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, field

from spdyproto.spdy.states import Half


class ClosedBy(enum.Enum):
    """How a stream ended: a late frame after a reset is forgivable, one after an end is not."""

    BOTH_ENDED = "both ended"
    OUR_END = "our FIN, on a unidirectional stream of ours"
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
    unidirectional: bool = False
    received: int = 0
    sent: int = 0
    blocked: deque[tuple[memoryview, bool]] | None = None
    """Windowed only: (payload, fin) waiting for the window."""

    @property
    def over(self) -> bool:
        """Whether neither end has anything left to say."""
        return self.ours is Half.ENDED and self.theirs is Half.ENDED and not self.blocked


@dataclass(slots=True)
class StreamTable:
    """Live streams by id, ids handed out so far, and the last ``memory`` closed ones."""

    memory: int
    live: dict[int, Stream] = field(default_factory=dict)
    closed: dict[int, ClosedBy] = field(default_factory=dict)
    highest_received: int = 0

    def add(self, stream: Stream) -> None:
        """A stream begins."""
        self.live[stream.stream_id] = stream

    def remove(self, stream_id: int, how: ClosedBy) -> None:
        """A stream ended; the oldest memory goes when there are too many."""
        del self.live[stream_id]
        self.remember(stream_id, how)

    def remember(self, stream_id: int, how: ClosedBy) -> None:
        """For a stream that never came to life too: what arrives late for it is no new fault."""
        self.closed.pop(stream_id, None)
        self.closed[stream_id] = how
        if len(self.closed) > self.memory:
            del self.closed[next(iter(self.closed))]

    def was_reset(self, stream_id: int) -> bool:
        """Whether a reset ended it: what comes then may have been on its way."""
        return self.closed.get(stream_id) in (ClosedBy.OUR_RESET, ClosedBy.THEIR_RESET)


@dataclass(frozen=True, slots=True)
class StreamView:
    """What a stream looks like from outside: read-only, a snapshot."""

    stream_id: int
    ours: Half
    theirs: Half
    opened_by_us: bool
    priority: int
    received: int
    sent: int

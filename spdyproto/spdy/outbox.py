"""What waits to be sent: segments in order, and, with windows, the data that may not leave yet.

A queue of unjoined segments with its size at hand, so that asking for back-pressure costs nothing. Payload stays a view
of the caller's buffer. Data that a window holds back waits in its stream and moves here, by priority, as credit comes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from spdyproto.errors import OutputLimitExceeded
from spdyproto.limits import Limits
from spdyproto.spdy.flow import FlowPolicy
from spdyproto.spdy.frames import pack_data_header
from spdyproto.spdy.streams import Stream
from spdyproto.types import Buffer, Tracer

_SMALL = 1024
"""Up to this size a payload is copied behind its header: one segment is cheaper than two."""


class Outbox:
    """The output of one connection."""

    __slots__ = ("_chores", "_flow", "_held", "_limits", "_queued", "_segments", "_tracer")

    def __init__(self, limits: Limits, flow: FlowPolicy, tracer: Tracer | None) -> None:
        self._limits = limits
        self._flow = flow
        self._tracer = tracer
        self._segments: list[Buffer] = []
        self._queued = 0
        self._held = 0
        self._chores = 0

    @property
    def pending_bytes(self) -> int:
        """Bytes accepted and not yet taken, those that wait for a window included."""
        return self._queued + self._held

    def take(self) -> list[Buffer]:
        """Everything that may leave now."""
        segments, self._segments = self._segments, []
        self._queued = 0
        self._chores = 0
        return segments

    def require_room(self, size: int) -> None:
        """Raises ``OutputLimitExceeded`` if ``size`` more bytes would pass the limit."""
        if self._queued + self._held + size > self._limits.queued_bytes:
            raise OutputLimitExceeded(
                f"{self.pending_bytes} bytes are queued and {size} more would pass the limit of "
                f"{self._limits.queued_bytes}: send what is queued first"
            )

    def control(self, frame: bytes) -> None:
        """Queues a whole control frame as one segment."""
        self._segments.append(frame)
        self._queued += len(frame)

    def chore(self, frame: bytes) -> bool:
        """Queues an answer that the peer caused. False, and nothing queued, when it caused too many without reading."""
        if self._chores >= self._limits.queued_chores:
            return False
        self._chores += 1
        self.control(frame)
        return True

    def data(self, stream_id: int, view: memoryview, fin: bool) -> None:
        """Queues payload as one or more DATA frames."""
        if self._tracer is not None:
            self._tracer("out", ("DATA", stream_id, len(view), fin))
        size = len(view)
        if size <= _SMALL:
            self.control(pack_data_header(stream_id, fin << 24 | size) + bytes(view))
            return
        largest = self._limits.data_frame_out
        segments = self._segments
        start = 0
        while size - start > largest:
            segments.append(pack_data_header(stream_id, largest))
            segments.append(view[start : start + largest])
            start += largest
            self._queued += 8
        segments.append(pack_data_header(stream_id, fin << 24 | size - start))
        segments.append(view[start:] if start else view)
        self._queued += 8 + size

    # -- windows -----------------------------------------------------------------------------------------------------

    def hold(self, stream: Stream, view: memoryview, fin: bool) -> None:
        """Queues payload behind the stream's window."""
        if stream.blocked is None:
            stream.blocked = deque()
        stream.blocked.append((view, fin))
        self._held += len(view)
        self.release(stream)

    def release(self, stream: Stream) -> None:
        """Moves what the windows allow from the stream's waiting data to the output."""
        waiting = stream.blocked
        while waiting:
            view, fin = waiting[0]
            size = min(len(view), self._flow.sendable(stream.stream_id))
            if size < len(view):
                if size:
                    waiting[0] = (view[size:], fin)
                    self._let_go(stream, view[:size], False)
                return
            waiting.popleft()
            self._let_go(stream, view, fin)

    def release_all(self, streams: Iterable[Stream]) -> None:
        """As ``release``, the highest priority (the lowest number) first."""
        for stream in sorted(streams, key=lambda s: (s.priority, s.stream_id)):
            self.release(stream)

    def discard(self, stream: Stream) -> None:
        """Forgets what waits for the window of a stream that is over."""
        if stream.blocked:
            self._held -= sum(len(view) for view, _ in stream.blocked)
        stream.blocked = None

    def _let_go(self, stream: Stream, view: memoryview, fin: bool) -> None:
        self._flow.sent(stream.stream_id, len(view))
        self._held -= len(view)
        self.data(stream.stream_id, view, fin)

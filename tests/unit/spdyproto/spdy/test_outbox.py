"""What waits to be sent: order, sizes, and what the windows hold back."""

from __future__ import annotations

import pytest

from spdyproto.errors import OutputLimitExceeded
from spdyproto.limits import Limits
from spdyproto.spdy.flow import Unmetered, Windowed
from spdyproto.spdy.outbox import Outbox
from spdyproto.spdy.states import Half
from spdyproto.spdy.streams import Stream
from support import wire
from support.wire import RawPeer


def outbox(**limits: int) -> Outbox:
    return Outbox(Limits(**limits), Unmetered(), None)


def test_segments_leave_in_order_and_once() -> None:
    out = outbox()
    out.control(b"one")
    out.data(1, memoryview(b"x" * 2000), False)
    out.control(b"two")
    header = wire.data(1, b"x" * 2000)[:8]
    assert out.pending_bytes == 3 + 8 + 2000 + 3
    assert out.take() == [b"one", header, b"x" * 2000, b"two"]
    assert out.pending_bytes == 0
    assert out.take() == []


@pytest.mark.parametrize("size", [0, 1, 1023, 1024])
def test_a_small_payload_shares_the_segment_of_its_header(size: int) -> None:
    out = outbox()
    out.data(1, memoryview(bytes(size)), True)
    assert out.pending_bytes == 8 + size
    assert out.take() == [wire.data(1, bytes(size), fin=True)]


def test_a_large_payload_is_not_copied() -> None:
    out, payload = outbox(), bytearray(3000)
    out.data(1, memoryview(payload), False)
    payload[0] = 7
    segment = out.take()[1]
    assert isinstance(segment, memoryview)
    assert segment[0] == 7


@pytest.mark.parametrize("size", [1025, 4095, 4096, 4097, 8192, 10_000])
@pytest.mark.parametrize("fin", [False, True])
def test_a_long_payload_is_cut_into_frames_and_ends_once(size: int, fin: bool) -> None:
    out, payload = outbox(data_frame_out=4096), bytes(index % 251 for index in range(size))
    out.data(1, memoryview(payload), fin)
    pending = out.pending_bytes
    segments = out.take()
    frames = RawPeer().read(segments)
    assert pending == sum(len(segment) for segment in segments)
    assert b"".join(frame[2] for frame in frames) == payload
    assert all(len(frame[2]) == 4096 for frame in frames[:-1])
    assert 0 < len(frames[-1][2]) <= 4096
    assert [frame[3] for frame in frames] == [0] * (len(frames) - 1) + [int(fin)]


def test_the_limit_of_the_queue() -> None:
    out = outbox(queued_bytes=100)
    out.control(b"x" * 60)
    out.require_room(40)
    with pytest.raises(OutputLimitExceeded, match="60 bytes are queued and 41 more"):
        out.require_room(41)
    assert out.pending_bytes == 60


def test_chores_are_counted_until_they_leave() -> None:
    out = outbox(queued_chores=2)
    assert [out.chore(b"x") for _ in range(3)] == [True, True, False]
    assert out.pending_bytes == 2
    out.take()
    assert out.chore(b"x")


# -- windows -------------------------------------------------------------------------------------------------------


class Metered:
    def __init__(self, *stream_ids: int, priorities: tuple[int, ...] = ()) -> None:
        self.flow = Windowed()
        self.out = Outbox(Limits(), self.flow, None)
        self.streams = {}
        for index, stream_id in enumerate(stream_ids):
            priority = priorities[index] if priorities else 0
            self.streams[stream_id] = Stream(stream_id, Half.OPEN, Half.OPEN, opened_by_us=True, priority=priority)
            self.flow.open(stream_id)

    def hold(self, stream_id: int, payload: bytes, fin: bool = False) -> None:
        self.out.hold(self.streams[stream_id], memoryview(payload), fin)

    def sent(self) -> list[tuple[int, int, int]]:
        return [(frame[1], len(frame[2]), frame[3]) for frame in RawPeer().read(self.out.take())]


def test_what_fits_leaves_and_the_rest_waits() -> None:
    metered = Metered(1)
    metered.hold(1, bytes(70_000), fin=True)
    assert metered.out.pending_bytes == 70_000 + 16, "65536 bytes as two frames, the rest held"
    assert sum(size for _, size, _ in metered.sent()) == 65_536
    assert metered.out.pending_bytes == 70_000 - 65_536
    metered.flow.credit(1, 1)
    metered.out.release(metered.streams[1])
    assert metered.sent() == [], "the session has nothing left"
    metered.flow.credit(0, 100_000)
    metered.out.release(metered.streams[1])
    assert metered.sent() == [(1, 1, 0)]
    metered.flow.credit(1, 100_000)
    metered.out.release(metered.streams[1])
    assert metered.sent() == [(1, 70_000 - 65_537, 1)]
    assert metered.out.pending_bytes == 0


def test_an_end_without_data_needs_no_window() -> None:
    metered = Metered(1, 3)
    metered.hold(1, bytes(65_536))
    metered.hold(3, b"", fin=True)
    metered.hold(1, b"", fin=True)
    assert metered.sent()[-2:] == [(3, 0, 1), (1, 0, 1)]


def test_an_end_waits_behind_its_data() -> None:
    metered = Metered(1)
    metered.hold(1, bytes(65_537))
    metered.hold(1, b"", fin=True)
    assert [fin for _, _, fin in metered.sent()] == [0, 0]
    metered.flow.credit(0, 1)
    metered.flow.credit(1, 1)
    metered.out.release(metered.streams[1])
    assert metered.sent() == [(1, 1, 0), (1, 0, 1)]


def test_waiting_data_leaves_by_priority_then_by_id() -> None:
    metered = Metered(1, 3, 5, 7, priorities=(7, 0, 3, 3))
    metered.hold(7, bytes(65_536))
    for stream_id in (1, 3, 5, 7):
        metered.hold(stream_id, b"x")
    metered.sent()
    metered.flow.credit(7, 1)
    metered.flow.credit(0, 100)
    metered.out.release_all(metered.streams.values())
    assert [stream_id for stream_id, _, _ in metered.sent()] == [3, 5, 7, 1]


def test_discarded_data_is_no_longer_pending() -> None:
    metered = Metered(1)
    metered.hold(1, bytes(65_536 + 10))
    metered.sent()
    metered.out.discard(metered.streams[1])
    assert metered.out.pending_bytes == 0
    metered.out.discard(metered.streams[1])
    assert metered.out.pending_bytes == 0

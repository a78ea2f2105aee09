"""The table of streams: live ones, and a bounded memory of the others."""

from __future__ import annotations

import pytest

from spdyproto.spdy.states import Half
from spdyproto.spdy.streams import ClosedBy, Stream, StreamTable


def stream(stream_id: int, ours: Half = Half.OPEN, theirs: Half = Half.OPEN) -> Stream:
    return Stream(stream_id, ours, theirs, opened_by_us=True)


def test_a_removed_stream_is_remembered_with_the_way_it_ended() -> None:
    table = StreamTable(memory=8)
    table.add(stream(1))
    table.remove(1, ClosedBy.THEIR_RESET)
    assert table.live == {}
    assert table.closed == {1: ClosedBy.THEIR_RESET}
    assert table.was_reset(1)


def test_an_orderly_end_is_no_reset() -> None:
    table = StreamTable(memory=8)
    table.remember(1, ClosedBy.BOTH_ENDED)
    assert not table.was_reset(1)
    assert not table.was_reset(3)


@pytest.mark.parametrize("memory", [0, 1, 3])
def test_the_memory_keeps_the_newest(memory: int) -> None:
    table = StreamTable(memory=memory)
    for stream_id in range(1, 21, 2):
        table.add(stream(stream_id))
        table.remove(stream_id, ClosedBy.BOTH_ENDED)
    assert list(table.closed) == [15, 17, 19][3 - memory :]


def test_remembering_again_makes_it_the_newest() -> None:
    table = StreamTable(memory=2)
    for stream_id in (1, 3, 1, 5):
        table.remember(stream_id, ClosedBy.OUR_RESET)
    assert list(table.closed) == [1, 5]


def test_a_stream_is_over_when_both_have_ended_and_nothing_waits() -> None:
    one = stream(1, Half.ENDED, Half.OPEN)
    assert not one.over
    one.theirs = Half.ENDED
    assert one.over

"""Window arithmetic, alone."""

from __future__ import annotations

import pytest

from spdyproto.errors import FlowControlError
from spdyproto.spdy.constants import DEFAULT_WINDOW, MAX_WINDOW
from spdyproto.spdy.flow import Unmetered, Windowed


def test_without_windows_there_is_nothing_to_account_for() -> None:
    flow = Unmetered()
    assert not flow.metered
    assert flow.greeting() == (None, 0)
    flow.open(1)
    flow.sent(1, 1 << 40)
    flow.received(1, 1 << 40)
    flow.credit(1, MAX_WINDOW)
    flow.initial_window(0)
    assert flow.acknowledge(1, 1 << 40) == []
    flow.close(1)
    assert flow.sendable(1) == flow.receivable(1) == MAX_WINDOW


@pytest.mark.parametrize(("stream", "session"), [(0, 65536), (MAX_WINDOW + 1, 65536), (1, 65535), (1, MAX_WINDOW + 1)])
def test_impossible_windows(stream: int, session: int) -> None:
    with pytest.raises(ValueError, match="windows are"):
        Windowed(stream_window=stream, session_window=session)


def test_greeting_announces_what_is_not_the_default() -> None:
    assert Windowed().greeting() == (None, 0)
    assert Windowed(stream_window=1 << 20, session_window=1 << 22).greeting() == (1 << 20, (1 << 22) - DEFAULT_WINDOW)


def test_sending_uses_up_the_stream_and_the_session() -> None:
    flow = Windowed()
    flow.open(1)
    flow.open(3)
    flow.sent(1, 60_000)
    assert flow.sendable(1) == flow.sendable(3) == DEFAULT_WINDOW - 60_000, "the session binds both"
    flow.credit(0, 100_000)
    assert flow.sendable(1) == DEFAULT_WINDOW - 60_000
    assert flow.sendable(3) == DEFAULT_WINDOW
    flow.credit(1, 1)
    assert flow.sendable(1) == DEFAULT_WINDOW - 60_000 + 1
    assert flow.sendable(5) == 0, "not open"


def test_credit_for_an_unknown_stream_is_ignored() -> None:
    flow = Windowed()
    flow.credit(99, 1)
    assert flow.sendable(99) == 0


@pytest.mark.parametrize("stream_id", [0, 1])
def test_a_window_has_31_bits(stream_id: int) -> None:
    flow = Windowed()
    flow.open(1)
    flow.credit(stream_id, MAX_WINDOW - DEFAULT_WINDOW)
    with pytest.raises(FlowControlError, match="beyond 2\\^31 - 1") as caught:
        flow.credit(stream_id, 1)
    assert caught.value.stream_id == (stream_id or None)


def test_initial_window_moves_open_streams_also_below_zero() -> None:
    flow = Windowed()
    flow.open(1)
    flow.sent(1, 50_000)
    flow.initial_window(10_000)
    assert flow.sendable(1) == 0
    flow.open(3)
    assert flow.sendable(3) == 10_000
    flow.credit(1, 40_000)
    assert flow.sendable(1) == 0, "still at its own debt: 10000 - 50000 + 40000"
    flow.credit(1, 7)
    assert flow.sendable(1) == 7
    flow.initial_window(DEFAULT_WINDOW)
    assert flow.sendable(1) == DEFAULT_WINDOW - 50_000, "the session is the narrower one again"


def test_initial_window_has_31_bits_too() -> None:
    flow = Windowed()
    with pytest.raises(FlowControlError, match="at most"):
        flow.initial_window(MAX_WINDOW + 1)
    flow.open(1)
    flow.credit(1, 1000)
    with pytest.raises(FlowControlError, match="stream 1"):
        flow.initial_window(MAX_WINDOW)


def test_receiving_beyond_the_stream() -> None:
    flow = Windowed(session_window=1 << 20)
    flow.open(1)
    flow.received(1, DEFAULT_WINDOW)
    assert flow.receivable(1) == 0
    with pytest.raises(FlowControlError, match="window of stream 1") as caught:
        flow.received(1, 1)
    assert caught.value.stream_id == 1


def test_receiving_beyond_the_session() -> None:
    flow = Windowed(stream_window=1 << 20)
    flow.open(1)
    assert flow.receivable(1) == DEFAULT_WINDOW
    flow.received(1, DEFAULT_WINDOW)
    with pytest.raises(FlowControlError, match="session window") as caught:
        flow.received(1, 1)
    assert caught.value.stream_id is None


def test_updates_are_due_at_half_a_window() -> None:
    flow = Windowed(session_window=DEFAULT_WINDOW * 2)
    flow.open(1)
    flow.received(1, DEFAULT_WINDOW)
    assert flow.acknowledge(1, DEFAULT_WINDOW // 2 - 1) == []
    assert flow.acknowledge(1, 1) == [(1, DEFAULT_WINDOW // 2)]
    assert flow.receivable(1) == DEFAULT_WINDOW // 2
    assert flow.acknowledge(1, DEFAULT_WINDOW // 2) == [(1, DEFAULT_WINDOW // 2), (0, DEFAULT_WINDOW)]
    assert flow.receivable(1) == DEFAULT_WINDOW


def test_a_closed_stream_still_counts_for_the_session() -> None:
    flow = Windowed()
    flow.open(1)
    flow.received(1, DEFAULT_WINDOW)
    flow.close(1)
    assert flow.acknowledge(1, DEFAULT_WINDOW) == [(0, DEFAULT_WINDOW)]
    flow.received(1, 10)  # late data of the stream that is gone
    flow.close(1)

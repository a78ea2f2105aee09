"""Pipes, held callbacks and the bell, without a connection."""

from __future__ import annotations

import select

import pytest

from kubeletclient import OutputLimitExceeded
from kubeletclient._policy import HIGH_WATER, Budget, CallSink, Capture
from kubeletclient.sync.pipes import Outputs, PipeSink, Waker
from spdyproto.channels.events import StreamKind

OUT, ERR = StreamKind.STDOUT, StreamKind.STDERR


def ready(waker: Waker) -> bool:
    poller = select.poll()
    poller.register(waker, select.POLLIN)
    return bool(poller.poll(0))


@pytest.mark.parametrize("eventfd", [True, False])
def test_a_bell(eventfd: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not eventfd:
        monkeypatch.delattr("os.eventfd", raising=False)
    waker = Waker()
    try:
        assert not ready(waker)
        waker.quiet()
        for _ in range(10_000):  # more pokes than a pipe holds
            waker.poke()
        assert ready(waker)
        while ready(waker):
            waker.quiet()
        waker.poke()
        assert ready(waker)
    finally:
        waker.close()


def test_a_waiting_read_gets_the_bytes_themselves_and_the_pipe_the_rest() -> None:
    pipe = PipeSink()
    room = bytearray(4)
    pipe.into = memoryview(room)
    pipe.feed(memoryview(b"ab"))
    pipe.feed(memoryview(b"cdef"))
    assert room == b"abcd"
    assert (list(pipe.chunks), pipe.size, len(pipe.into)) == ([b"ef"], 2, 0)


def test_a_pipe_is_full_at_the_high_water_mark_unless_it_gathers() -> None:
    pipe = PipeSink()
    outputs = Outputs({OUT: pipe, ERR: PipeSink()})
    pipe.feed(memoryview(bytes(HIGH_WATER - 1)))
    assert not outputs.full()
    pipe.feed(memoryview(b"x"))
    assert outputs.full()
    assert outputs.full_names() == ["stdout"]
    pipe.limit = HIGH_WATER + 10
    assert not outputs.full()
    with pytest.raises(OutputLimitExceeded):
        pipe.feed(memoryview(bytes(11)))


def test_a_closed_pipe_takes_and_forgets() -> None:
    pipe = PipeSink()
    pipe.discarding = True
    pipe.feed(memoryview(b"x"))
    assert pipe.size == 0


def test_callbacks_get_held_pieces_once_and_in_order() -> None:
    seen: list[bytes] = []
    captured = Capture(Budget(100))
    outputs = Outputs({OUT: CallSink(lambda view: seen.append(bytes(view))), ERR: captured})
    for piece in (b"a", b"b"):
        outputs.sinks[OUT].feed(memoryview(piece))
        outputs.sinks[ERR].feed(memoryview(piece))
    assert (seen, outputs.due, outputs.partial(OUT), outputs.partial(ERR)) == ([], False, None, b"ab")
    outputs.release()
    assert outputs.due
    outputs.hand_out()
    outputs.sinks[OUT].feed(memoryview(b"c"))
    outputs.hand_out()
    assert (seen, outputs.due) == ([b"a", b"b", b"c"], False)


def test_what_was_held_is_gone_when_a_callback_raises() -> None:
    def fail(view: memoryview) -> None:
        raise LookupError(bytes(view))

    outputs = Outputs({OUT: CallSink(fail)})
    outputs.sinks[OUT].feed(memoryview(b"a"))
    outputs.sinks[OUT].feed(memoryview(b"b"))
    outputs.release()
    with pytest.raises(LookupError):
        outputs.hand_out()
    assert not outputs.due


def test_outputs_that_are_not_there() -> None:
    outputs = Outputs({OUT: PipeSink()})
    assert outputs.partial(ERR) is None
    outputs.end(OUT)
    pipe = outputs.sinks[OUT]
    assert isinstance(pipe, PipeSink)
    assert pipe.ended

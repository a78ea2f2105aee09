"""Deadlines, sinks and sources, without a connection."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from kubeletclient import CAPTURE, DEVNULL, PIPE, DeadlineExceeded, OutputLimitExceeded
from kubeletclient._policy import (
    BATCH,
    FRAME,
    NEVER,
    SLACK,
    STDOUT,
    Budget,
    Deadline,
    FileSink,
    SizedPieces,
    known_size,
    make_sink,
    make_source,
)
from spdyproto.limits import Limits
from spdyproto.types import Buffer

ROOM = memoryview(bytearray(8))


def sink(target: Any, budget: int = 1 << 20) -> Any:
    return make_sink("stdout", target, Budget(budget))


def drain(stdin: Any, room: memoryview = ROOM) -> list[bytes]:
    """All batches of a source, the empty one at the end left out."""
    source = make_source(stdin)
    assert source is not None
    batches = []
    while batch := source.next_batch(room):
        batches.append(bytes(batch))
    return batches


def test_a_batch_is_whole_frames_of_whole_records() -> None:
    assert Limits().data_frame_out == FRAME
    assert BATCH % FRAME == 0
    assert (FRAME + 8) % 16384 == 0


def test_deadlines(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 10.0
    monkeypatch.setattr("kubeletclient._policy.time.monotonic", lambda: now)
    deadline = Deadline.after(5)
    assert deadline.left() == 5
    assert deadline.left(2) == 2
    assert NEVER.left() is None
    assert NEVER.left(3) == 3
    assert deadline.sooner(NEVER) is deadline
    assert NEVER.sooner(deadline) is deadline
    assert deadline.sooner(Deadline.after(1)).left() == 1
    assert not deadline.passed()
    now += 5
    assert deadline.passed()
    assert deadline.left() == 0
    assert not NEVER.passed()
    error = deadline.error("a bus")
    assert isinstance(error, DeadlineExceeded)
    assert error.timeout == 5
    assert "5 s passed while waiting for a bus" in str(error)


@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_no_time_before_now(seconds: float) -> None:
    with pytest.raises(ValueError, match="at least 0"):
        Deadline.after(seconds)


def test_capture_keeps_a_copy() -> None:
    captured = sink(CAPTURE)
    buffer = bytearray(b"abc")
    captured.feed(memoryview(buffer))
    buffer[:] = b"xyz"
    captured.feed(memoryview(buffer))
    assert captured.partial() == b"abcxyz"


def test_capture_shares_its_cap_and_keeps_what_fits() -> None:
    budget = Budget(10)
    out, err = make_sink("stdout", CAPTURE, budget), make_sink("stderr", CAPTURE, budget)
    assert out is not None
    assert err is not None
    out.feed(memoryview(b"123456"))
    err.feed(memoryview(b"1234"))
    with pytest.raises(OutputLimitExceeded, match="the limit of 10 bytes; raise capture_limit="):
        out.feed(memoryview(b"7"))
    assert out.partial() == b"123456"


def test_a_single_piece_beyond_the_cap_is_kept_up_to_it() -> None:
    captured = sink(CAPTURE, 4)
    with pytest.raises(OutputLimitExceeded):
        captured.feed(memoryview(b"abcdef"))
    assert captured.partial() == b"abcd"


@pytest.mark.parametrize("target", [PIPE, DEVNULL])
def test_special_targets(target: int) -> None:
    made = sink(target)
    assert (made is None) == (target == PIPE)
    if made is not None:
        made.feed(memoryview(b"x"))
        assert made.partial() is None


def test_functions_get_each_piece() -> None:
    pieces: list[bytes] = []
    made = sink(lambda view: pieces.append(bytes(view)))
    made.feed(memoryview(b"a"))
    made.feed(memoryview(b"b"))
    assert pieces == [b"a", b"b"]
    assert made.partial() is None


def test_files(tmp_path: Path) -> None:
    with open(tmp_path / "out", "wb") as file:
        made = sink(file)
        made.feed(memoryview(b"hello"))
        made.flush()
        assert (tmp_path / "out").read_bytes() == b"hello"
        assert made.partial() is None


def test_a_raw_file_that_takes_little_or_nothing_gets_everything() -> None:
    receiver, sender = os.pipe()
    os.set_blocking(sender, False)
    data = os.urandom(1 << 20)
    got = bytearray()

    def read() -> None:
        while piece := os.read(receiver, 65536):
            got.extend(piece)

    thread = threading.Thread(target=read)
    with open(sender, "wb", buffering=0) as file:
        thread.start()
        FileSink(file).feed(memoryview(data))
    thread.join()
    os.close(receiver)
    assert got == data


def test_a_descriptor_gets_everything_and_stays_open() -> None:
    receiver, sender = os.pipe()
    os.set_blocking(sender, False)
    data = os.urandom(1 << 20)
    got = bytearray()

    def read() -> None:
        while piece := os.read(receiver, 65536):
            got.extend(piece)

    thread = threading.Thread(target=read)
    thread.start()
    made = sink(sender)
    made.feed(memoryview(data))
    assert made.partial() is None
    os.close(sender)
    thread.join()
    os.close(receiver)
    assert got == data


@pytest.mark.parametrize(
    ("target", "kind", "text"),
    [
        (STDOUT, ValueError, "their order is lost"),
        (-77, ValueError, "not a file descriptor"),
        (True, TypeError, "not a bool"),
        (io.StringIO(), TypeError, "binary file"),
        ("out.txt", TypeError, "stdout= takes PIPE"),
    ],
)
def test_what_is_no_target(target: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        sink(target)


def test_a_negative_cap() -> None:
    with pytest.raises(ValueError, match="capture_limit"):
        Budget(-1)


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
def test_bytes_leave_in_batches_and_the_last_one_takes_the_little_that_is_left(make: Callable[[bytes], Any]) -> None:
    data = os.urandom(2 * SLACK)
    room = memoryview(bytearray(100))
    batches = drain(make(data), room)
    assert b"".join(batches) == data
    assert [len(batch) for batch in batches] == [100] * 40 + [2 * SLACK - 4000]


@pytest.mark.parametrize("size", [256 * 1024, 1 << 20])
def test_pieces_of_the_usual_sizes_leave_no_crumbs(size: int) -> None:
    batches = drain(bytes(size), memoryview(bytearray(BATCH)))
    assert len(batches) == round(size / BATCH)


def test_bytes_are_not_copied() -> None:
    data = bytearray(b"0123456789")
    source = make_source(data)
    assert source is not None
    batch = source.next_batch(ROOM)
    data[0:1] = b"X"
    assert batch is not None
    assert bytes(batch) == b"X123456789"


def test_no_source() -> None:
    assert make_source(None) is None
    assert make_source(PIPE) is None
    assert drain(DEVNULL) == []


def test_iterables_of_any_piece_size() -> None:
    assert drain([b"", b"ab", b"", bytearray(b"0123456789"), memoryview(b"z")]) == [b"ab", b"0123456789", b"z"]
    pieces = [bytes(10), bytes(10 + SLACK), bytes(8)]
    assert list(map(len, drain(pieces))) == [10, 8, 2 + SLACK, 8]


def test_regular_files_are_read_without_polling(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"0123456789")
    with open(tmp_path / "in", "rb") as file:
        source = make_source(file)
        assert source is not None
        assert source.descriptor is None
        assert drain(file) == [b"01234567", b"89"]
    with open(tmp_path / "in", "rb") as file:
        assert drain(file.fileno()) == [b"01234567", b"89"]
    assert drain(io.BytesIO(b"abc")) == [b"abc"]


def test_an_object_with_read_alone() -> None:
    class Reader:
        left = b"0123456789"

        def read(self, size: int) -> bytes:
            data, self.left = self.left[:size], self.left[size:]
            return data

    assert drain(Reader()) == [b"01234567", b"89"]


def test_a_text_reader_is_refused_when_it_answers_text() -> None:
    class Reader:
        def read(self, size: int) -> str:
            return "x"

    source = make_source(Reader())  # type: ignore[arg-type]  # the mistake that is tested
    assert source is not None
    with pytest.raises(TypeError, match="binary file"):
        source.next_batch(ROOM)


@pytest.mark.parametrize("buffering", [0, -1])
def test_pipes_are_polled_and_give_what_there_is(buffering: int) -> None:
    receiver, sender = os.pipe()
    with open(receiver, "rb", buffering=buffering) as file:
        source = make_source(file)
        assert source is not None
        assert source.descriptor == receiver
        os.write(sender, b"abc")
        batch = source.next_batch(ROOM)
        assert batch is not None
        assert bytes(batch) == b"abc"
        os.set_blocking(receiver, False)
        assert source.next_batch(ROOM) is None
        os.close(sender)
        batch = source.next_batch(ROOM)
        assert batch is not None
        assert not len(batch)


def test_what_a_buffered_file_holds_already_is_not_lost() -> None:
    receiver, sender = os.pipe()
    with open(receiver, "rb") as file:
        os.write(sender, b"first\nrest")
        os.close(sender)
        assert file.readline() == b"first\n"
        assert drain(file, memoryview(bytearray(100))) == [b"rest"]


@pytest.mark.parametrize("stdin", ["text", io.StringIO("x"), True, 3.5, -77])
def test_what_is_no_source(stdin: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="stdin"):
        make_source(stdin)


def refilled(pieces: Sequence[bytes]) -> Iterator[memoryview]:
    """Each piece in the same buffer."""
    buffer = bytearray(max(map(len, pieces)))
    for piece in pieces:
        buffer[: len(piece)] = piece
        yield memoryview(buffer)[: len(piece)]


def test_a_buffer_that_is_filled_again_and_again_is_sent_as_it_was() -> None:
    pieces = [bytes([number]) * size for number, size in enumerate((100, 70_000, 1, 300_000, 5))]
    source = make_source(refilled(pieces))
    assert source is not None
    sent = bytearray()
    room = memoryview(bytearray(BATCH))
    while True:
        batches: list[Buffer] = []  # what a driver puts together before it sends
        used = 0
        while used < BATCH:
            batch = source.next_batch(room[used:])
            assert batch is not None
            if not len(batch):
                break
            batches.append(batch)
            used += len(batch)
        for batch in batches:
            sent += batch
        if used < BATCH:
            break
    assert bytes(sent) == b"".join(pieces)


def test_pieces_whose_sum_is_known() -> None:
    pieces = SizedPieces(iter([b"ab", b"cd"]), 4)
    assert known_size(pieces) == 4
    assert drain(pieces) == [b"ab", b"cd"]
    assert known_size(iter([b"ab"])) == 0

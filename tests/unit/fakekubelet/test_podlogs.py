"""Container logs without a server: how output becomes lines, how lines are read, what is rotated away."""

from __future__ import annotations

import asyncio
import datetime
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakekubelet.podlogs import (
    LINE,
    ContainerLog,
    LogLine,
    LogOptions,
    Stream,
    entry_of,
    format_time,
    parse_log,
    parse_time,
)

ALL = LogOptions()


def read(log: ContainerLog, options: LogOptions = ALL) -> bytes:
    async def collect() -> bytes:
        return b"".join([bytes(piece) async for piece in log.read(options)])

    return asyncio.run(collect())


def written(*pieces: bytes | tuple[Stream, bytes], closed: bool = True, limit: int = 1 << 20) -> ContainerLog:
    log = ContainerLog(limit)
    for piece in pieces:
        log.write(*(piece if isinstance(piece, tuple) else ("stdout", piece)))
    if closed:
        log.close()
    return log


def test_lines_come_out_as_they_were_written() -> None:
    assert read(written(b"one\ntw", b"o\n", b"\n", b"three\n")) == b"one\ntwo\n\nthree\n"


def test_a_line_without_an_end_is_a_line_once_the_process_is_over() -> None:
    assert read(written(b"one\ntwo", closed=False)) == b"one\n"
    assert read(written(b"one\ntwo")) == b"one\ntwo"  # a fragment, which nothing ends


def test_streams_do_not_mix_within_a_line() -> None:
    log = written(("stdout", b"a"), ("stderr", b"X\n"), ("stdout", b"b\n"))
    assert read(log) == b"X\nab\n"
    assert read(log, LogOptions(streams=frozenset(("stderr",)))) == b"X\n"


@given(st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.binary(max_size=100)), max_size=20))
def test_each_stream_is_the_same_however_it_was_cut(pieces: list[tuple[Stream, bytes]]) -> None:
    log = written(*pieces)
    streams: tuple[Stream, ...] = ("stdout", "stderr")
    for stream in streams:
        whole = b"".join(data for name, data in pieces if name == stream)
        assert read(log, LogOptions(streams=frozenset((stream,)))) == whole


@given(st.lists(st.text("ab", max_size=5), min_size=1, max_size=10), st.integers(1, 50))
def test_timestamps_stand_before_each_line(lines: list[str], size: int) -> None:
    text = "".join(f"{line}\n" for line in lines).encode()
    shown = read(written(*(text[at : at + size] for at in range(0, len(text), size))), LogOptions(timestamps=True))
    stamp = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z (.*)")
    matches = [stamp.fullmatch(line) for line in shown.splitlines()]
    assert [match and match[1].decode() for match in matches] == lines


@pytest.mark.parametrize("size", [LINE - 1, LINE, LINE + 1, 2 * LINE, 2 * LINE + 1, 5 * LINE])
def test_long_lines_are_entries_of_their_own_for_the_tail(size: int) -> None:
    log = written(b"x" * size + b"\nend\n")
    assert read(log) == b"x" * size + b"\nend\n"
    rest = size % LINE or LINE
    assert read(log, LogOptions(tail=2)) == b"x" * rest + b"\nend\n"
    entries = -(-size // LINE)
    assert read(log, LogOptions(tail=entries + 1)) == b"x" * size + b"\nend\n"
    assert read(log, LogOptions(timestamps=True)).count(b"Z ") == 2


@given(
    st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.text("ab\n", max_size=40)), max_size=20),
    st.integers(1, 4),
)
def test_lines_that_are_not_told_apart_are_the_same_lines(pieces: list[tuple[Stream, str]], scale: int) -> None:
    log = written(*((stream, text.encode() * scale) for stream, text in pieces))
    whole = read(log)
    assert whole == read(log, LogOptions(tail=100_000))
    for limit in (1, 7, len(whole)):
        assert read(log, LogOptions(limit=max(limit, 1))) == whole[: max(limit, 1)]


def test_a_buffer_that_may_change_is_copied() -> None:
    log = ContainerLog()
    buffer = bytearray(b"one\n")
    log.write("stdout", memoryview(buffer))
    buffer[:3] = b"two"
    assert read(log) == b"one\n"


def test_a_log_is_rotated_and_only_the_last_part_is_read() -> None:
    lines = [b"%04d\n" % index for index in range(100)]
    log = written(*lines, limit=100)
    assert read(log) == b"".join(lines[80:])
    assert read(written(bytes(1000) + b"\n", b"small\n", limit=100), LogOptions(tail=1)) == b"small\n"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (LogOptions(tail=0), b""),
        (LogOptions(tail=9), b"abcdef\nghi\n"),
        (LogOptions(tail=2), b"def\nghi\n"),  # a fragment counts
        (LogOptions(limit=5), b"abcde"),
        (LogOptions(limit=100), b"abcdef\nghi\n"),
        (LogOptions(timestamps=True, limit=30), b"2024-01-01T00:00:01.000000000Z"),
        (LogOptions(timestamps=True, tail=1), b"2024-01-01T00:00:03.100000000Z ghi\n"),
        (LogOptions(since=parse_time("2024-01-01T00:00:02Z")[0]), b"def\nghi\n"),
        (LogOptions(since=parse_time("2024-01-01T00:00:03.1Z")[0]), b"ghi\n"),
        (LogOptions(since=parse_time("2024-01-01T00:00:03.100000001Z")[0]), b""),
        (LogOptions(since=parse_time("2024-01-01T00:00:02Z")[0], timestamps=True, tail=2), None),
        (LogOptions(streams=frozenset(("stderr",))), b"def\n"),
        (LogOptions(streams=frozenset(("stderr",)), limit=2), b"de"),  # others are not charged for
    ],
)
def test_options(options: LogOptions, expected: bytes | None) -> None:
    log = ContainerLog()
    for entry in parse_log(
        "2024-01-01T00:00:01Z stdout P abc\n2024-01-01T00:00:02Z stderr F def\n2024-01-01T00:00:03.1Z stdout F ghi\n"
    ):
        log.add(entry)
    if expected is None:  # the line begins before the first fragment that is shown
        expected = b"2024-01-01T00:00:02.000000000Z def\n2024-01-01T00:00:03.100000000Z ghi\n"
    assert read(log, options) == expected


# following


async def follow(log: ContainerLog, got: list[bytes], options: LogOptions | None = None) -> None:
    async for piece in log.read(options or LogOptions(follow=True)):
        got.append(bytes(piece))  # noqa: PERF401 - each as it comes


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_following_goes_on_until_the_container_ends() -> None:
    async def main() -> None:
        log = written(b"one\n", closed=False)
        got: list[bytes] = []
        task = asyncio.create_task(follow(log, got))
        await settle()
        assert got == [b"one\n"]
        log.write("stdout", b"two\nthr")
        await settle()
        assert got == [b"one\n", b"two\n"]
        log.write("stderr", b"err\n")
        log.write("stdout", b"ee\n")
        await settle()
        assert b"".join(got) == b"one\ntwo\nerr\nthree\n"
        assert not task.done()
        log.write("stdout", b"last")
        log.close()
        await task
        assert b"".join(got) == b"one\ntwo\nerr\nthree\nlast"

    asyncio.run(main())


def test_following_from_the_tail_and_up_to_a_limit() -> None:
    async def main() -> None:
        log = written(b"a\nb\nc\n", closed=False)
        got: list[bytes] = []
        task = asyncio.create_task(follow(log, got, LogOptions(follow=True, tail=1, limit=4)))
        await settle()
        assert got == [b"c\n"]
        log.write("stdout", b"def\n")
        await task
        assert b"".join(got) == b"c\nde"

    asyncio.run(main())


def test_following_survives_a_rotation_and_misses_what_it_was_too_slow_for() -> None:
    async def main() -> None:
        log = ContainerLog(20)
        got: list[bytes] = []
        task = asyncio.create_task(follow(log, got))
        await settle()
        for index in range(10):
            log.write("stdout", b"%04d\n" % index)
            await settle()
        assert b"".join(got) == b"".join(b"%04d\n" % index for index in range(10))
        for index in range(10, 30):
            log.write("stdout", b"%04d\n" % index)
        log.close()
        await task
        assert b"".join(got).endswith(b"0029\n")
        assert b"0015\n" not in b"".join(got)

    asyncio.run(main())


def test_who_stops_following_leaves_nothing_behind() -> None:
    async def main() -> None:
        log = ContainerLog()
        task = asyncio.create_task(follow(log, []))
        await settle()
        assert log._waiting
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not log._waiting

    asyncio.run(main())


def test_a_failure_stands_behind_what_was_read() -> None:
    log = written(b"one\n")
    log.failure = "failed to read the rest"
    assert read(log) == b"one\nfailed to read the rest"


# the text of log files


def test_docker_s_format_is_read_if_the_first_line_is_of_it() -> None:
    text = (
        '{"log":"one\\n","stream":"stdout","time":"2024-01-01T00:00:00.123Z"}\n'
        "2024-01-01T00:00:00Z stdout F not of this format\n"
        '{"log":"part","stream":"stderr","time":"2024-01-01T00:00:01Z"}\n'
        '{"log":"ial\\n","stream":"stderr","time":"2024-01-01T00:00:01Z"}\n'
    )
    log = ContainerLog()
    for entry in parse_log(text):
        log.add(entry)
    assert read(log) == b"one\npartial\n"
    assert read(log, LogOptions(timestamps=True, tail=4)).startswith(b"2024-01-01T00:00:00.123000000Z one\n")


def test_a_line_that_cannot_be_read_counts_and_is_not_shown_unless_it_is_the_first() -> None:
    log = ContainerLog()
    for entry in parse_log("2024-01-01T00:00:00Z stdout F one\nbroken\n2024-01-01T00:00:00Z stdout F two\n"):
        log.add(entry)
    assert read(log) == read(log, LogOptions(tail=3)) == b"one\ntwo\n"
    assert read(log, LogOptions(tail=2)) == (b'failed to get parse function: unsupported log format: "broken\\n"')


@pytest.mark.parametrize("text", ["no log\n", "2024-01-01 stdout F x\n", '{"log":"x"}\n', "[1]\n"])
def test_text_of_another_kind_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="neither a line of a CRI log nor of a Docker one"):
        parse_log(text)


def test_no_text_is_an_empty_log() -> None:
    assert parse_log("") == []


@pytest.mark.parametrize(
    ("text", "nanoseconds", "stamp"),
    [
        ("1970-01-01T00:00:01Z", 1_000_000_000, "1970-01-01T00:00:01.000000000Z"),
        ("1970-01-01T00:00:00.000000001Z", 1, "1970-01-01T00:00:00.000000001Z"),
        ("1970-01-01T01:00:00.5+01:00", 500_000_000, "1970-01-01T01:00:00.500000000+01:00"),
        ("1969-12-31T23:59:59.5-00:30", 1799_500_000_000, "1969-12-31T23:59:59.500000000-00:30"),
    ],
)
def test_times(text: str, nanoseconds: int, stamp: str) -> None:
    assert parse_time(text) == (nanoseconds, stamp)


def test_times_are_written_with_nine_digits() -> None:
    assert format_time(1_500_000_001) == "1970-01-01T00:00:01.500000001Z"


@pytest.mark.parametrize(
    "text", ["", "1970-01-01", "1970-01-01T00:00:00", "1970-01-01 00:00:00Z", "1970-13-01T00:00:00Z"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"time|month"):
        parse_time(text)


def test_scripted_lines() -> None:
    moment = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    entry = entry_of(LogLine("x", "stderr", moment, partial=True))
    assert (entry.stream, entry.data, format_time(entry.time)) == ("stderr", b"x", "2024-01-01T00:00:00.000000000Z")
    assert entry_of("x").data == b"x\n"

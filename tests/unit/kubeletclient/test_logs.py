"""What is asked for of a log, and what is made of what comes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from kubeletclient import errors
from kubeletclient._logs import LINE_LIMIT, Backoff, Lines, LogOptions, worth_waiting_for

FOLLOW = LogOptions(follow=True)


@pytest.mark.parametrize(
    ("options", "query"),
    [
        (LogOptions(), []),
        (LogOptions(previous=True, tail=0), [("previous", "true"), ("tailLines", "0")]),
        (LogOptions(since=1.5, limit_bytes=9), [("sinceSeconds", "2"), ("limitBytes", "9")]),
        (LogOptions(timestamps=True), [("timestamps", "true")]),
        (FOLLOW, [("follow", "true"), ("timestamps", "true")]),
        (LogOptions(follow=True, limit_bytes=9), [("follow", "true"), ("limitBytes", "9")]),
        (
            LogOptions(since=datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))),
            [("sinceTime", "2026-01-01T00:00:00.000000Z")],
        ),
    ],
)
def test_queries(options: LogOptions, query: list[tuple[str, str]]) -> None:
    assert options.query() == query


NO_ZONE = datetime(2026, 1, 1)
WRONG = ({"since": 0}, {"since": -1.0}, {"since": float("nan")}, {"since": NO_ZONE}, {"tail": -1}, {"limit_bytes": 0})


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_options(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="="):
        LogOptions(**wrong)


def test_a_log_that_is_not_followed_is_left_as_it_is() -> None:
    lines = Lines(LogOptions())
    assert lines.feed(b"a\r\n\nb\x85c\nd") == [b"a\r\n", b"\n", b"b\x85c\n"]
    assert lines.end() == [b"d"]
    assert not lines.can_resume


def test_what_the_kubelet_adds_itself_is_passed_on() -> None:
    lines = Lines(FOLLOW)
    assert lines.feed(b"2026-01-01T00:00:00.000000001Z a\nunable to read the rest\n") == [
        b"a\n",
        b"unable to read the rest\n",
    ]


def test_since_is_meant_from_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("kubeletclient._logs.time.monotonic", lambda: now)
    lines = Lines(LogOptions(follow=True, since=5, tail=3))
    now = 107.5
    lines.broken()
    assert ("sinceSeconds", "13") in lines.resume_query
    assert ("tailLines", "3") in lines.resume_query
    lines.feed(b"2026-01-01T00:00:00.000000001+02:00 a\n")
    assert lines.resume_query[2:] == [("sinceTime", "2025-12-31T23:59:59+02:00")]


FIRST = b"2026-01-01T00:00:00.000000001Z a\n"


def test_another_log_after_the_break_is_an_error_and_no_gap() -> None:
    for body in (b"2026-01-01T00:00:09.000000001Z b\n", b""):
        lines = Lines(FOLLOW)
        lines.feed(FIRST)
        lines.broken()
        with pytest.raises(errors.ConnectionLost, match=r"lines since 2025-12-31T23:59:59\+00:00 may be missing"):
            lines.feed(body) or lines.end()


def test_a_line_without_end_is_bounded() -> None:
    lines = Lines(FOLLOW)
    assert lines.feed(FIRST[:-1]) == []
    came = lines.feed(bytes(LINE_LIMIT))
    assert len(came[0]) == LINE_LIMIT + 1
    assert not lines.can_resume


@pytest.mark.parametrize(
    ("error", "worth"),
    [
        (errors.ConnectionRefused("x"), True),
        (errors.DialTimeout("x"), True),
        (errors.ConnectionLost("x"), True),
        (errors.ServerError("x"), True),
        (errors.TooManyRequests("x"), True),
        (errors.NotFound("x"), False),
        (errors.Forbidden("x"), False),
        (errors.UnknownAuthorityError("x"), False),
        (errors.DeadlineExceeded("x"), False),
    ],
)
def test_what_a_hiccup_is(error: errors.ClientError, worth: bool) -> None:
    assert worth_waiting_for(error) == worth


def test_tries_come_quickly_at_first_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("kubeletclient._logs.time.monotonic", lambda: now)
    backoff, pauses = Backoff(12.0), []
    while (pause := backoff.wait()) is not None:
        pauses.append(pause)
        now += pause
    assert pauses == [0.25, 0.5, 1.0, 2.0, 4.0, 4.25]


def test_times_have_a_zone() -> None:
    assert LogOptions(since=datetime(2026, 1, 1, tzinfo=UTC)).query()[0][1].endswith("Z")

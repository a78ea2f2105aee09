"""A log that is followed, broken off at any byte any number of times: every line comes, and comes once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kubeletclient._logs import Lines, LogOptions

Entry = tuple[int, int, bytes]  # second, nanosecond, text


def line(entry: Entry) -> bytes:
    second, fraction, text = entry
    return b"2026-01-01T00:%02d:%02d.%09dZ %s\n" % (second // 60, second % 60, fraction, text)


def served(log: list[Entry], query: list[tuple[str, str]]) -> bytes:
    """As a kubelet does it, when an apiserver has cut the time to whole seconds: by line, in the order of the file."""
    since = dict(query).get("sinceTime", "")
    return b"".join(line(entry) for entry in log if line(entry)[:19] >= since[:19].encode())


# Times go up, and back a little now and then: two streams are written by two threads.
LOGS = st.lists(
    st.tuples(st.integers(-1, 2), st.integers(0, 999_999_999), st.binary(max_size=20).filter(lambda t: b"\n" not in t)),
    max_size=30,
)
CUTS = st.lists(st.tuples(st.integers(0, 400), st.integers(1, 60)), max_size=5)


@given(steps=LOGS, cuts=CUTS, timestamps=st.booleans())
def test_every_line_once(steps: list[Entry], cuts: list[tuple[int, int]], timestamps: bool) -> None:
    newest, log = 10, []
    for step, fraction, text in steps:
        log.append((newest + step, fraction, text))
        newest = max(newest, newest + step)
    options = LogOptions(follow=True, timestamps=timestamps)
    lines = Lines(options)
    came: list[bytes] = []
    query = options.query()
    for keep, size in [*cuts, (1 << 30, 7)]:
        body = served(log, query)
        last = keep >= len(body)
        for at in range(0, min(keep, len(body)), size):
            came += lines.feed(body[at : min(at + size, keep)])
        if last:
            break
        lines.broken()
        query = lines.resume_query
    came += lines.end()
    assert came == [line(entry) if timestamps else entry[2] + b"\n" for entry in log]

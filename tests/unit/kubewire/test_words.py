"""Small readings of what is typed, and of what servers print."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click
import pytest

from kubewire.connection import split_pod
from kubewire.logs import duration
from kubewire.metrics import links, samples
from kubewire.reports import age, columns, size
from kubewire.trust import _address, normalized


@pytest.mark.parametrize(
    ("text", "namespace", "expected"),
    [
        ("web", None, (None, "web")),
        ("web", "ns", ("ns", "web")),
        ("ns/web", None, ("ns", "web")),
        ("ns/web", "ns", ("ns", "web")),
        ("deploy/web", None, (None, "deploy/web")),
        ("deploy/web", "ns", ("ns", "deploy/web")),
        ("ns/deploy/web", None, ("ns", "deploy/web")),
        ("ns/deploy/web", "ns", ("ns", "deploy/web")),
        ("a/b/c", None, ("a/b", "c")),  # no namespace has such a name, and no path is made of it
    ],
)
def test_pods(text: str, namespace: str | None, expected: tuple[str | None, str]) -> None:
    assert split_pod(text, namespace) == expected


@pytest.mark.parametrize("text", ["a/web", "a/deploy/web"])
def test_two_namespaces(text: str) -> None:
    with pytest.raises(click.UsageError, match="two namespaces"):
        split_pod(text, "b")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("5m", 300), ("1h30m", 5400), ("1.5h", 5400), ("2h45m0.5s", 9900.5), ("500ms", 0.5)],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "m", "1h30", "-5m", "1 h", "1d"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="no duration"):
        duration(text)


def test_metrics() -> None:
    text = """# HELP x what it is
# TYPE x counter
x 1
y{a="b",c="d \\"e\\" \\\\ \\n"} 2.5e3 1700000000000
z{le="+Inf"} +Inf
n NaN
not a sample
"""
    assert list(samples(text)) == [
        {"name": "x", "labels": {}, "value": 1.0},
        {"name": "y", "labels": {"a": "b", "c": 'd "e" \\ \n'}, "value": 2500.0, "timestamp": 1700000000000},
        {"name": "z", "labels": {"le": "+Inf"}, "value": "+Inf"},
        {"name": "n", "labels": {}, "value": "NaN"},
    ]


def test_listings() -> None:
    page = '<pre>\n<a href="a%20b.log">a b.log</a>\n<a href="x&amp;y/">x&amp;y/</a>\n</pre>\n'
    assert links(page) == ["a b.log", "x&y/"]


def test_columns() -> None:
    assert columns(("A", "LONG"), [("one", 2), ("", "x")]) == "A     LONG\none   2\n      x"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(5, "5s"), (119, "119s"), (120, "2m"), (7200, "2h"), (200_000, "2d"), (-5, "0s")],
)
def test_ages(seconds: int, text: str) -> None:
    assert age((datetime.now(UTC) - timedelta(seconds=seconds + 0.1)).isoformat()) == text


def test_no_age() -> None:
    assert age("") == "<unknown>"


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1 << 20, "1.0 MiB"), (1 << 40, "1.0 TiB")]
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1", ("10.0.0.1", 10250)),
        ("n1:10251", ("n1", 10251)),
        ("fd00::1", ("fd00::1", 10250)),
        ("[fd00::1]:1", ("fd00::1", 1)),
        ("https://10.0.0.1:10250", ("10.0.0.1", 10250)),
    ],
)
def test_servers(text: str, expected: tuple[str, int]) -> None:
    assert _address(text) == expected


@pytest.mark.parametrize(
    "text", ["sha256:AB01", "ab01", "AB:01", "SHA256 Fingerprint=AB:01", "sha256 Fingerprint=AB:01", "SHA256:ab01"]
)
def test_fingerprints(text: str) -> None:
    assert normalized(text) == "sha256:ab01"

"""Two small formats of a kubelet: metrics in Prometheus' text format, and Go's listing of a folder."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import unquote

__all__ = ["links", "samples"]

_SAMPLE: Final = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+(-?\d+))?\s*")
_LABEL: Final = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
_ESCAPED: Final = re.compile(r"\\[\\\"n]")
_ESCAPES: Final = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


def samples(text: str) -> Iterator[dict[str, Any]]:
    """Each sample: its name, labels, value (a number, or ``NaN``, ``+Inf``, ``-Inf`` as text, which JSON has none of),
    and the time in milliseconds where there is one.
    """
    for line in text.splitlines():
        match = None if line.startswith("#") else _SAMPLE.fullmatch(line)
        if match is None:
            continue
        name, labels, value, when = match.groups()
        found = {key: _ESCAPED.sub(lambda m: _ESCAPES[m[0]], text) for key, text in _LABEL.findall(labels or "")}
        number = value if value in ("NaN", "+Inf", "-Inf") else float(value)
        sample: dict[str, Any] = {"name": name, "labels": found, "value": number}
        if when is not None:
            sample["timestamp"] = int(when)
        yield sample


def links(page: str) -> list[str]:
    """The names in a listing as ``net/http``'s file server writes it; folders end with a slash."""
    return [unquote(html.unescape(target)) for target in re.findall(r'<a href="([^"]*)">', page)]

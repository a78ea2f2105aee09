"""JSON as Go's encoder writes it, for clients that compare bytes."""

from __future__ import annotations

import json
from typing import Any

_ESCAPES = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029", "\x7f": "\x7f"}
)


def go_json(value: Any, *, indent: int | None = None) -> bytes:  # noqa: ANN401 - whatever json takes
    """``json.Marshal``, or ``json.MarshalIndent`` with that many spaces: UTF-8, and nothing that HTML would mistake.

    Characters that stand for bytes which are not UTF-8 (surrogates) become U+FFFD, as in Go.
    """
    separators = (",", ":") if indent is None else (",", ": ")
    text = json.dumps(value, ensure_ascii=False, separators=separators, indent=indent)
    return text.translate(_ESCAPES).encode("utf-8", "surrogatepass").decode("utf-8", "replace").encode()


def quoted(text: str) -> str:
    """``%q`` of Go, for the names that stand in messages."""
    return json.dumps(text, ensure_ascii=False)

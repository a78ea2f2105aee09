"""Hypothesis strategies for SPDY: frames of a peer, good and bad, and where to cut bytes."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from support import wire
from support.wire import RawPeer

NAMES = st.sampled_from(["streamtype", "port", "requestid", "x", "a-b", "\xe9"])
VALUES = st.one_of(
    st.sampled_from(["error", "stdin", "stdout", "stderr", "resize", ""]),
    st.text(st.characters(max_codepoint=0xFF, exclude_characters="\0"), max_size=20),
)
HEADERS = st.dictionaries(NAMES, VALUES, max_size=4)
BAD_HEADERS = st.dictionaries(st.sampled_from(["Streamtype", "host", "connection", ""]), VALUES, min_size=1, max_size=2)
IDS = st.one_of(st.integers(1, 12), st.sampled_from([0, 99, 0x7FFFFFFF]))
LIVE_IDS = st.integers(1, 8)
PAYLOADS = st.one_of(st.binary(max_size=40), st.integers(0, 3000).map(bytes))
CUTS = st.lists(st.integers(0, 4000), max_size=12)

Said = tuple[str, tuple[Any, ...], dict[str, Any]]
"""One thing that a raw peer says: what, and with what arguments. Rendered late: header blocks depend on each other."""


def _say(name: str, *arguments: st.SearchStrategy[Any], **options: st.SearchStrategy[Any]) -> st.SearchStrategy[Said]:
    return st.tuples(st.just(name), st.tuples(*arguments), st.fixed_dictionaries(options))


def said(ids: st.SearchStrategy[int] = IDS) -> st.SearchStrategy[Said]:
    """Any well-formed frame, sensible or not."""
    flags = st.sampled_from([0, 0, 1, 2, 3])
    return st.one_of(
        _say("data", ids, PAYLOADS, fin=st.booleans()),
        _say("data", ids, PAYLOADS, fin=st.just(False)),
        _say("syn_stream", ids, HEADERS, flags=flags, priority=st.integers(0, 7)),
        _say("syn_reply", ids, HEADERS, flags=st.integers(0, 1)),
        _say("headers", ids, HEADERS, flags=st.integers(0, 1)),
        _say("rst", ids, st.integers(1, 11)),
        _say("ping", st.integers(1, 9)),
        _say("window_update", ids, st.integers(0, 100_000)),
        _say(
            "settings", st.lists(st.tuples(st.integers(1, 8), st.integers(0, 100_000), st.integers(0, 2)), max_size=3)
        ),
    )


def bad() -> st.SearchStrategy[Said]:
    """Frames that end a connection, most of them at least."""
    return st.one_of(
        _say("syn_stream", IDS, BAD_HEADERS),
        _say("data", st.just(0), PAYLOADS),
        _say("ping", st.just(0)),
        _say("rst", IDS, st.just(0)),
        _say("goaway", st.integers(0, 9), st.integers(0, 2)),
        _say("control", st.integers(0, 11), st.binary(max_size=30), flags=st.integers(0, 3)),
        _say("control", st.integers(0, 11), st.binary(max_size=30), version=st.integers(0, 4)),
        _say("raw", st.binary(max_size=30)),
    )


def render(sayings: list[Said], peer: RawPeer) -> list[bytes]:
    """The frames as bytes, in order."""
    frames = []
    for name, arguments, options in sayings:
        if name == "raw":
            frames.append(arguments[0])
        elif name in ("syn_stream", "syn_reply", "headers"):
            frames.append(getattr(peer, name)(*arguments, **options))
        else:
            frames.append(getattr(wire, name)(*arguments, **options))
    return frames


def conversations(*, hostile: bool, ids: st.SearchStrategy[int] = IDS) -> st.SearchStrategy[list[Said]]:
    """What a peer says in one go; a hostile one ends it badly now and then."""
    good = st.lists(said(ids), max_size=25)
    if not hostile:
        return good
    return st.tuples(good, st.lists(bad(), max_size=2), good).map(lambda parts: parts[0] + parts[1] + parts[2])

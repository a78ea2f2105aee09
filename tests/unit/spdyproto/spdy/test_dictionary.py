"""The preset dictionary, pinned by the numbers of the specification."""

from __future__ import annotations

import hashlib
import zlib

import pytest

from spdyproto.spdy.dictionary import DICTIONARY
from support.vectors import SPEC


def test_the_dictionary_is_the_one_of_the_specification() -> None:
    pinned = SPEC["dictionary"]
    assert len(DICTIONARY) == pinned["length"] == 1423
    assert f"{zlib.adler32(DICTIONARY):08x}" == pinned["adler32"]
    assert hashlib.sha256(DICTIONARY).hexdigest() == pinned["sha256"]


@pytest.mark.parametrize("entry", SPEC["first_bytes"], ids=lambda entry: f"level-{entry['level']}")
def test_a_stream_announces_the_dictionary_whatever_its_level(entry: dict[str, object]) -> None:
    level = entry["level"]
    assert isinstance(level, int)
    block = zlib.compressobj(level, zlib.DEFLATED, 15, 9, zlib.Z_DEFAULT_STRATEGY, DICTIONARY).compress(b"x")
    assert block[:6].hex() == f"{entry['hex']}{SPEC['dictionary']['adler32']}"

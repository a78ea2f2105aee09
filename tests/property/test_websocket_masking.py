"""All strategies of the mask are the same function, whatever the data, the key, the alignment and the pieces."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spdyproto.websocket import masking
from spdyproto.websocket.masking import apply_mask, load_masker
from support.wsframes import xor

STRATEGIES = ["plain", "numpy", "websockets.speedups"]
KEYS = st.binary(min_size=4, max_size=4)
BASE = bytes(index * 31 % 256 for index in range(300_000))


@given(st.integers(0, 9), st.one_of(st.integers(0, 5000), st.integers(0, 200_000)), KEYS)
def test_strategies_agree_on_all_sizes_and_alignments(start: int, size: int, key: bytes) -> None:
    view = memoryview(BASE)[start : start + size]
    results = {name: bytes(load_masker(name)(view, key)) for name in STRATEGIES}
    assert results["plain"] == results["numpy"] == results["websockets.speedups"]
    number = int.from_bytes((key * (size // 4 + 1))[:size], "big")  # another way than any of theirs
    assert results["plain"] == (int.from_bytes(view, "big") ^ number).to_bytes(size, "big")


@pytest.mark.parametrize("name", STRATEGIES)
@given(data=st.binary(max_size=600), key=KEYS, start=st.integers(0, 7))
def test_each_is_the_definition(name: str, data: bytes, key: bytes, start: int) -> None:
    view = memoryview(bytes(start) + data)[start:]
    assert bytes(load_masker(name)(view, key)) == xor(data, key)


@given(data=st.binary(max_size=9000), key=KEYS, cuts=st.lists(st.integers(0, 9000), max_size=5))
def test_pieces_are_the_whole(data: bytes, key: bytes, cuts: list[int]) -> None:
    borders = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    parts = [bytes(apply_mask(data[a:b], key, a)) for a, b in pairwise(borders)]
    assert b"".join(parts) == xor(data, key)


@given(data=st.binary(max_size=3000), key=KEYS, offset=st.integers(0, 1 << 40))
def test_offsets_count_modulo_four(data: bytes, key: bytes, offset: int) -> None:
    assert bytes(apply_mask(data, key, offset)) == bytes(apply_mask(data, key, offset % 4))


def test_sizes_around_every_border_of_a_strategy() -> None:
    borders = [masking._SHORT, masking.LARGE, masking._WRITTEN_OUT, 2 * masking._WRITTEN_OUT]
    for size in (border + step for border in borders for step in range(-5, 6)):
        view = memoryview(BASE)[3 : 3 + size]
        expected = xor(bytes(view), b"\x01\x80\x7f\xfe")
        for name in STRATEGIES:
            assert bytes(load_masker(name)(view, b"\x01\x80\x7f\xfe")) == expected

"""The resize stream: JSON objects back to back, cut anywhere."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spdyproto.channels.resize import ResizeDecoder, encode_resize
from support.wire import cut_at, pieces

SIZES = st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))


def decode(parts: list[bytes], limit: int = 4096) -> tuple[list[tuple[int, int]], bool]:
    decoder = ResizeDecoder(limit)
    sizes = [size for part in parts for size in decoder.feed(part)]
    return sizes, decoder.dead


def test_bytes_as_gos_encoder_writes_them() -> None:
    assert encode_resize(80, 24) == b'{"Width":80,"Height":24}\n'


@pytest.mark.parametrize(("width", "height"), [(-1, 0), (0, -1), (65536, 0), (0, 65536)])
def test_sizes_that_a_server_could_not_decode(width: int, height: int) -> None:
    with pytest.raises(ValueError, match="0 to 65535"):
        encode_resize(width, height)


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        (b"", []),
        (b" \t\r\n", []),
        (b'{"Width":80,"Height":24}', [(80, 24)]),
        (b'{"Width":80,"Height":24}{"width":132,"HEIGHT":43}', [(80, 24), (132, 43)]),
        (b'\n{ "Width" : 80 ,\n"Height":24 }\n\n', [(80, 24)]),
        (b"{}", [(0, 0)]),
        (b'{"Width":0,"Height":65535}', [(0, 65535)]),
        (b'{"Width":7}{"Height":8}', [(7, 0), (0, 8)]),
        (b'{"Width":null,"Height":8}', [(0, 8)]),
        (b'{"x":"}","y":{"z":[{}]},"Width":7,"q":"\\"}{\\\\","Height":8}', [(7, 8)]),
        (b'{"x":"\xc3\xa9\xff","Width":7}', [(7, 0)]),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_what_can_be_decoded_however_it_is_cut(text: bytes, sizes: list[tuple[int, int]], size: int) -> None:
    assert decode(pieces(text, size)) == (sizes, False)


@pytest.mark.parametrize(
    "text",
    [
        b'{"Width":65536}',
        b'{"Width":70000,"Height":24}',
        b'{"Width":-1}',
        b'{"Width":80.0}',
        b'{"Width":"80"}',
        b'{"Width":true}',
        b'{"Width":[80]}',
        b'{"Width":' + b"9" * 4000 + b"}",
        b"[]",
        b"80",
        b"null",
        b"}",
        b"x",
        b'{"Width":80,}',
        b"{]}",
        b'{"a"}',
        b'{"a":' + b"{" * 2000 + b"}" * 2001,
    ],
)
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_an_error_ends_resizing_for_good_however_it_is_cut(text: bytes, size: int) -> None:
    good = b'{"Width":1,"Height":2}'
    assert decode(pieces(good + text + good, size)) == ([(1, 2)], True)


@pytest.mark.parametrize("size", [1, 100_000])
def test_deep_nesting_is_an_answer_or_an_error_and_no_exception(size: int) -> None:
    sizes, dead = decode(pieces(b'{"a":' + b"[" * 2000 + b"]" * 2000 + b',"Width":7}', size))
    assert (sizes, dead) in (([(7, 0)], False), ([], True)), "how deep json goes depends on the version"


@pytest.mark.parametrize("size", [1, 100, 1 << 20])
@pytest.mark.parametrize("text", [b'{"a":"' + b"x" * 5000, b'{"a":"' + b"x" * 5000 + b'"}', b"{" * 5000])
def test_what_has_no_end_is_given_up(text: bytes, size: int) -> None:
    decoder = ResizeDecoder(4096)
    for part in pieces(text, size):
        decoder.feed(part)
    assert decoder.dead
    assert decoder._object == ""
    assert decoder.feed(b'{"Width":1,"Height":2}') == []


def test_cutting_a_long_object_finely_costs_no_more_than_its_length() -> None:
    """Looking at the whole of what came so far at each piece would take minutes for these."""
    text = (b'{"a":"' + b"x" * 4000 + b'"}') * 50
    start = time.process_time()
    assert decode(pieces(text, 1)) == ([(0, 0)] * 50, False)
    assert time.process_time() - start < 10


@given(st.lists(SIZES, max_size=10), st.lists(st.integers(0, 300)), st.lists(st.sampled_from(["", " ", "\n", "\t\r"])))
def test_round_trip_in_any_pieces(sizes: list[tuple[int, int]], cuts: list[int], gaps: list[str]) -> None:
    text = b"".join(
        encode_resize(*size) + (gaps[index].encode() if index < len(gaps) else b"") for index, size in enumerate(sizes)
    )
    assert decode(cut_at(text, cuts)) == (sizes, False)


@given(st.binary(max_size=200), st.lists(st.integers(0, 200)))
def test_any_bytes_in_any_pieces_give_the_same(text: bytes, cuts: list[int]) -> None:
    assert decode(cut_at(text, cuts)) == decode([text])


@given(st.text(alphabet='{}":,\\ Widthegt0123456789[]n', max_size=60), st.lists(st.integers(0, 60)))
def test_almost_json_in_any_pieces_gives_the_same(text: str, cuts: list[int]) -> None:
    assert decode(cut_at(text.encode(), cuts)) == decode([text.encode()])

"""Header blocks: pairs, compression shared by all frames of a direction, and what must not be in them."""

from __future__ import annotations

import zlib

import pytest

from spdyproto.errors import HeaderBlockError, LimitExceeded, LocalProtocolError, RemoteProtocolError
from spdyproto.limits import Limits
from spdyproto.spdy.dictionary import DICTIONARY
from spdyproto.spdy.headers import (
    FORBIDDEN_IN_REPLY,
    FORBIDDEN_IN_REQUEST,
    HeaderCodec,
    HeaderCompressor,
    HeaderDecompressor,
    decode_pairs,
    encode_pairs,
)
from spdyproto.types import HeaderList, Policy
from support.vectors import SPEC, pairs
from support.wire import RawPeer, plain_block, u32

NONE: frozenset[str] = frozenset()


def decode(block: bytes, *, strict: bool = False, limits: Limits | None = None) -> list[tuple[str, str]]:
    return decode_pairs(block, limits or Limits(), FORBIDDEN_IN_REQUEST, strict=strict)


# -- pairs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "block"),
    [
        ([], u32(0)),
        ([("a", "b")], u32(1, 1) + b"a" + u32(1) + b"b"),
        ([("Streamtype", "stdin")], u32(1, 10) + b"streamtype" + u32(5) + b"stdin"),
        ([("a", "")], u32(1, 1) + b"a" + u32(0)),
        ([("a", "x"), ("A", "y")], u32(1, 1) + b"a" + u32(3) + b"x\0y"),
        ([("a", "\xe9")], u32(1, 1) + b"a" + u32(1) + b"\xe9"),
    ],
)
def test_pairs_as_they_stand_on_the_wire(headers: HeaderList, block: bytes) -> None:
    assert encode_pairs(headers, NONE) == block


@pytest.mark.parametrize(
    "headers",
    [
        [("", "value")],
        [("host", "h")],
        [("Host", "h")],
        [("a", "b\0c")],
        [("a", "\u2264")],
        [("\u0130", "dotted capital i has no lower case in one character")],
    ],
)
def test_what_cannot_be_sent(headers: HeaderList) -> None:
    with pytest.raises(LocalProtocolError):
        encode_pairs(headers, FORBIDDEN_IN_REQUEST)


def test_strict_senders_refuse_what_strict_receivers_refuse() -> None:
    headers = [("a", ""), ("a", "b")]
    assert encode_pairs(headers, NONE) == u32(1, 1) + b"a" + u32(2) + b"\0b"
    with pytest.raises(LocalProtocolError, match="empty value"):
        encode_pairs(headers, NONE, strict=True)
    with pytest.raises(HeaderBlockError, match="empty value"):
        decode(encode_pairs(headers, NONE), strict=True)


def test_several_values_are_several_pairs() -> None:
    assert decode(plain_block([("a", "x\0\0y"), ("b", "")])) == [("a", "x"), ("a", ""), ("a", "y"), ("b", "")]


@pytest.mark.parametrize(
    ("block", "complaint"),
    [
        (b"", "no pair count"),
        (u32(0)[:3], "no pair count"),
        (u32(1), "within a length"),
        (u32(1, 1), "within a string"),
        (u32(1, 1) + b"a", "within a length"),
        (u32(1, 1) + b"a" + u32(2) + b"b", "within a string: 2 bytes announced, 1 left"),
        (u32(1, 0xFFFFFFFF), "within a string"),
        (u32(2) + plain_block([("a", "b")])[4:], "within a length"),
        (plain_block([("a", "b")]) + b"!", "1 bytes follow"),
        (plain_block([("Streamtype", "stdin")]), "not lower case"),
        (plain_block([("host", "h")]), "must not occur"),
        (plain_block([("connection", "upgrade")]), "must not occur"),
    ],
)
def test_blocks_that_are_none(block: bytes, complaint: str) -> None:
    with pytest.raises(HeaderBlockError, match=complaint):
        decode(block)


@pytest.mark.parametrize(
    ("block", "complaint"),
    [
        (plain_block([("", "v")]), "empty name"),
        (plain_block([("a", "x"), ("a", "y")]), "twice"),
        (plain_block([("a", "x\0")]), "empty value"),
    ],
)
def test_what_only_the_text_refuses(block: bytes, complaint: str) -> None:
    assert decode(block)
    with pytest.raises(HeaderBlockError, match=complaint):
        decode(block, strict=True)


def test_host_may_stand_in_a_reply() -> None:
    assert "host" not in FORBIDDEN_IN_REPLY
    assert decode_pairs(plain_block([("host", "h")]), Limits(), FORBIDDEN_IN_REPLY, strict=False) == [("host", "h")]


def test_count_is_judged_before_anything_is_read() -> None:
    with pytest.raises(LimitExceeded, match="announces 4294967295 pairs"):
        decode(u32(0xFFFFFFFF))


def test_values_count_as_pairs_too() -> None:
    limits = Limits(header_pairs=3)
    assert len(decode(plain_block([("a", "\0\0")]), limits=limits)) == 3
    with pytest.raises(LimitExceeded, match="more than 3 values"):
        decode(plain_block([("a", "\0\0\0")]), limits=limits)


# -- compression ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", SPEC["header_blocks"], ids=lambda entry: str(entry["name"]))
def test_blocks_of_the_specification(entry: dict[str, list[dict[str, object]]]) -> None:
    codec = HeaderCodec(Limits(), Policy.STRICT)
    for block in entry["blocks"]:
        headers = block["headers"]
        assert isinstance(headers, list)
        assert codec.decode(bytes.fromhex(str(block["hex"])), reply=False) == pairs(headers)


@pytest.mark.parametrize("level", [0, 1, 6, 9])
def test_any_level_can_be_read(level: int) -> None:
    peer, codec = RawPeer(level), HeaderCodec(Limits(), Policy.KUBERNETES)
    for kind in ("error", "stdin", "stdout"):
        assert codec.decode(peer.block({"streamtype": kind}), reply=False) == [("streamtype", kind)]


def test_a_stream_without_the_dictionary_can_be_read() -> None:
    peer, codec = RawPeer(dictionary=None), HeaderCodec(Limits(), Policy.KUBERNETES)
    block = peer.block({"streamtype": "error"})
    assert not block[1] & 0x20, "no FDICT bit"
    assert codec.decode(block, reply=False) == [("streamtype", "error")]
    assert codec.decode(peer.block({"streamtype": "stdin"}), reply=False) == [("streamtype", "stdin")]


def test_another_dictionary_is_an_error() -> None:
    peer = RawPeer(dictionary=b"another dictionary")
    with pytest.raises(HeaderBlockError, match="does not inflate"):
        HeaderDecompressor(Limits()).inflate(peer.block({"streamtype": "error"}))


def test_blocks_share_one_compression() -> None:
    compressor, first, second = HeaderCompressor(), HeaderDecompressor(Limits()), HeaderDecompressor(Limits())
    blocks = [compressor.compress(plain_block({"streamtype": kind})) for kind in ("error", "stdin", "stdout")]
    assert [first.inflate(block)[-5:] for block in blocks] == [b"error", b"stdin", b"tdout"]
    with pytest.raises(HeaderBlockError):
        second.inflate(blocks[1])


def test_what_was_sent_before_is_not_sent_again() -> None:
    compressor, block = HeaderCompressor(), plain_block({"x": "a value that is in no dictionary 0123456789"})
    first, second = compressor.compress(block), compressor.compress(block)
    assert len(second) * 3 < len(first)


def test_our_blocks_can_be_read_by_any_inflater() -> None:
    compressor, peer = HeaderCompressor(), RawPeer()
    for number in range(300):  # far beyond the compressor's window
        headers = [("streamtype", "data"), ("requestid", str(number)), ("port", str(number * 7919 % 65536))]
        block = compressor.compress(plain_block(headers))
        assert block.endswith(b"\x00\x00\xff\xff")
        assert peer._pairs(block) == headers


def test_the_first_block_announces_the_dictionary() -> None:
    block = HeaderCompressor().compress(u32(0))
    assert block[2:6].hex() == "e3c6a7c2"
    assert block[1] & 0x20
    assert int.from_bytes(block[:2], "big") % 31 == 0


def test_the_end_of_the_shared_stream_is_an_error() -> None:
    whole = zlib.compressobj(9, zlib.DEFLATED, 15, 9, zlib.Z_DEFAULT_STRATEGY, DICTIONARY)
    with pytest.raises(HeaderBlockError, match="ends the shared zlib stream"):
        HeaderDecompressor(Limits()).inflate(whole.compress(u32(0)) + whole.flush())


@pytest.mark.parametrize("rubbish", [b"\x00", b"GET / HTTP/1.1\r\n", b"\x78\xf9\xe3\xc6\xa7\xc3", bytes(range(256))])
def test_rubbish_does_not_inflate(rubbish: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        HeaderCodec(Limits(), Policy.KUBERNETES).decode(rubbish, reply=False)


@pytest.mark.parametrize("over", [0, 1])
def test_inflated_size_at_its_limit(over: int) -> None:
    block = plain_block({"a": "x" * (1000 - 13)})
    assert len(block) == 1000
    decompressor = HeaderDecompressor(Limits(header_block=1000 - over))
    if over:
        with pytest.raises(LimitExceeded, match="more than 999 bytes"):
            decompressor.inflate(RawPeer().compress(block))
    else:
        peer = RawPeer()
        assert decompressor.inflate(peer.compress(block)) == block
        assert decompressor.inflate(peer.compress(u32(0))) == u32(0), "the trailer was consumed with the block"


# -- the codec -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "headers"),
    [
        (Limits(header_block=32), [("a", "x" * 32)]),
        (Limits(header_pairs=1), [("a", "x"), ("b", "y")]),
        (Limits(), [("", "")]),
    ],
)
def test_a_refused_block_leaves_the_compression_as_it_was(limits: Limits, headers: HeaderList) -> None:
    codec, peer = HeaderCodec(limits, Policy.KUBERNETES), RawPeer()
    with pytest.raises(LocalProtocolError):
        codec.encode(headers, reply=True)
    assert peer._pairs(codec.encode([("a", "b")], reply=True)) == [("a", "b")]


def test_a_reply_may_have_what_a_request_may_not() -> None:
    codec = HeaderCodec(Limits(), Policy.KUBERNETES)
    assert codec.encode([("host", "h")], reply=True)
    with pytest.raises(LocalProtocolError, match="'host' must not be sent"):
        codec.encode([("host", "h")], reply=False)


@pytest.mark.parametrize("blocks", [1, 5, 400])
def test_a_decompressor_at_rest_reads_the_next_block_as_if_it_had_not_rested(blocks: int) -> None:
    # The encoder is zlib itself, as a peer would use it: one stream for the whole connection.
    peer = zlib.compressobj(9, zlib.DEFLATED, 15, 9, 0, DICTIONARY)
    decompressor = HeaderDecompressor(Limits())
    for number in range(blocks):
        plain = b"block %d" % number * 3
        assert decompressor.inflate(peer.compress(plain) + peer.flush(zlib.Z_SYNC_FLUSH)) == plain
        decompressor.rest()
    with pytest.raises(HeaderBlockError):
        decompressor.inflate(b"\xff\xff\xff")

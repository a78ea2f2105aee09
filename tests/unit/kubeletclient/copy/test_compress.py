from __future__ import annotations

import base64
import os

import pytest

from kubeletclient.copy.compress import Inflater, base64_reader, compressed, inflater
from kubeletclient.copy.errors import ArchiveError

DATA = os.urandom(3000) + bytes(200_000)


def _reader(way: str, plain: bytearray) -> tuple[Inflater, bytes]:
    if way == "base64":
        return base64_reader(plain.extend), base64.encodebytes(DATA)
    return inflater(plain.extend, way), b"".join(bytes(piece) for piece in compressed([DATA], way))


@pytest.mark.parametrize("way", ["gzip", "zstd", "base64"])
@pytest.mark.parametrize("step", [1, 100, 1 << 20])
def test_a_stream_that_ended_is_inflated(way: str, step: int) -> None:
    plain = bytearray()
    reader, stream = _reader(way, plain)
    for _ in range(1 if way == "base64" else 2):  # members may follow one another
        for at in range(0, len(stream), step):
            reader(memoryview(stream)[at : at + step])
    reader.close()
    assert plain == (DATA if way == "base64" else DATA * 2)


@pytest.mark.parametrize("way", ["gzip", "zstd"])
@pytest.mark.parametrize("kept", [0, 1, 5, 9, 1000, -9, -4, -1])
def test_a_stream_that_was_cut_off_is_an_error(way: str, kept: int) -> None:
    reader, stream = _reader(way, bytearray())
    reader(memoryview(stream[:kept]))
    with pytest.raises(ArchiveError, match=f"{way} came without its end"):
        reader.close()


def test_base64_that_was_cut_off_is_an_error() -> None:
    reader, stream = _reader("base64", bytearray())
    reader(memoryview(stream.rstrip()[:-1]))
    with pytest.raises(ArchiveError, match="base64 came without its end"):
        reader.close()


@pytest.mark.parametrize("way", ["gzip", "zstd", "base64"])
def test_what_is_no_such_stream_is_an_error(way: str) -> None:
    reader, _ = _reader(way, bytearray())
    with pytest.raises(ArchiveError, match=f"sent no {way}"):
        reader(memoryview(b"a===" if way == "base64" else b"nothing of that kind" * 9))

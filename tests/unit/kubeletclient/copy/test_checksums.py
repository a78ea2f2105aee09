from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeletclient.copy.checksums import ALGORITHMS, add_zeros, new_checksum


@pytest.mark.parametrize("size", [0, 1, 255, 256, 65535, 65536, 1 << 20])
def test_cksum_is_what_the_tool_says(tmp_path: Path, size: int) -> None:
    data = bytes(index * 7 % 251 for index in range(size))
    (tmp_path / "file").write_bytes(data)
    checksum = new_checksum("cksum")
    checksum.update(data)
    said = subprocess.run(["cksum", tmp_path / "file"], capture_output=True, check=True, text=True).stdout.split()
    assert [checksum.hexdigest(), str(size)] == said[:2]


def test_cksum_of_known_bytes() -> None:
    # POSIX.1-2017, "cksum": the CRC of an empty file is all ones.
    assert new_checksum("cksum").hexdigest() == "4294967295"


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_pieces_do_not_matter(pieces: list[bytes]) -> None:
    whole, parts = new_checksum("cksum"), new_checksum("cksum")
    whole.update(b"".join(pieces))
    for piece in pieces:
        parts.update(memoryview(piece))
    assert parts.hexdigest() == whole.hexdigest()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_hole_counts_as_its_zeros(algorithm: str) -> None:
    hole, zeros = new_checksum(algorithm), new_checksum(algorithm)
    add_zeros(hole, (1 << 20) + 5)
    zeros.update(bytes((1 << 20) + 5))
    assert hole.hexdigest() == zeros.hexdigest()


def test_others_are_those_of_hashlib() -> None:
    checksum = new_checksum("sha256")
    checksum.update(b"abc")
    assert checksum.hexdigest() == hashlib.sha256(b"abc").hexdigest()


def test_an_unknown_digest_is_named() -> None:
    with pytest.raises(ValueError, match=r"expected one of cksum, .* not 'crc'"):
        new_checksum("crc")

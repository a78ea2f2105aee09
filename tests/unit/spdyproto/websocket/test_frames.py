"""Frame headers (RFC 6455 section 5.2): every rule of the format, and the examples of section 5.7."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from spdyproto.errors import FramingError
from spdyproto.websocket.constants import MAX_CONTROL, CloseCode, Opcode, valid_close_code
from spdyproto.websocket.frames import MAX_HEADER, FrameHeader, pack_header, unpack_header
from support import wsframes

VECTORS = json.loads((Path(__file__).parents[3] / "vectors" / "websocket.json").read_text())["vectors"]
KEY = wsframes.KEY


def unpack(data: bytes) -> tuple[FrameHeader, int] | None:
    return unpack_header(memoryview(data), 0, len(data))


class TestOpcodes:
    """Section 11.8."""

    def test_there_are_six(self) -> None:
        assert {opcode.name: int(opcode) for opcode in Opcode} == {
            "CONTINUATION": 0, "TEXT": 1, "BINARY": 2, "CLOSE": 8, "PING": 9, "PONG": 10,
        }  # fmt: skip

    @pytest.mark.parametrize("opcode", [*range(3, 8), *range(11, 16)])
    def test_reserved_ones_are_an_error(self, opcode: int) -> None:
        with pytest.raises(FramingError, match=f"opcode {opcode} is reserved"):
            unpack(wsframes.frame(opcode))


class TestCloseCodes:
    """Section 7.4, with 1012 to 1014 as registered since."""

    @pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999])
    def test_those_that_may_be_sent(self, code: int) -> None:
        assert valid_close_code(code)

    @pytest.mark.parametrize(
        "code", [-1, 0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535, 65536]
    )
    def test_those_that_may_not(self, code: int) -> None:
        assert not valid_close_code(code)

    def test_three_never_stand_on_the_wire(self) -> None:
        named = {code for code in CloseCode if not valid_close_code(code)}
        assert named == {CloseCode.NO_STATUS, CloseCode.ABNORMAL, CloseCode.TLS_HANDSHAKE}


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
class TestExamples:
    """Section 5.7."""

    def parts(self, vector: dict[str, Any]) -> list[tuple[bytes, dict[str, Any], bytes]]:
        """Each frame of the vector: its header, its description, its payload as it lies on the wire."""
        wire = bytes.fromhex(vector["hex"]) + bytes(vector.get("then_zeros", 0))
        parts, at = [], 0
        for number, described in enumerate(vector["frames"]):
            payload = bytes.fromhex(described["payload"]) if "payload" in described else bytes(described["zeros"])
            end = len(wire)
            if number < len(vector["frames"]) - 1:
                end = wire.index(payload, at) + len(payload)
            parts.append((wire[at : end - len(payload)], described, wire[end - len(payload) : end]))
            at = end
        assert at == len(wire)
        return parts

    def test_they_are_read(self, vector: dict[str, Any]) -> None:
        for head, described, payload in self.parts(vector):
            key = bytes.fromhex(described["key"]) if "key" in described else None
            expected = FrameHeader(described["opcode"], described["fin"], len(payload), key)
            assert unpack(head) == (expected, len(head))
            assert unpack(head + payload + b"\xff") == (expected, len(head))

    def test_they_are_written(self, vector: dict[str, Any]) -> None:
        for head, described, payload in self.parts(vector):
            key = bytes.fromhex(described["key"]) if "key" in described else None
            assert pack_header(described["opcode"], len(payload), fin=described["fin"], key=key) == head

    def test_they_are_incomplete_until_their_last_byte(self, vector: dict[str, Any]) -> None:
        for head, _, _ in self.parts(vector):
            assert [unpack(head[:size]) for size in range(len(head))] == [None] * len(head)


class TestLengths:
    """Section 5.2: three forms, the shortest is required, the top bit of the longest is zero."""

    @pytest.mark.parametrize(
        ("length", "size"),
        [(0, 2), (125, 2), (126, 4), (127, 4), (65535, 4), (65536, 10), (1 << 31, 10), ((1 << 63) - 1, 10)],
    )
    def test_the_form_at_each_border(self, length: int, size: int) -> None:
        head = pack_header(Opcode.BINARY, length)
        assert len(head) == size
        assert head == wsframes.header(2, length)
        assert unpack(head) == (FrameHeader(Opcode.BINARY, True, length, None), size)
        masked = pack_header(Opcode.BINARY, length, key=KEY)
        assert unpack(masked) == (FrameHeader(Opcode.BINARY, True, length, KEY), size + 4)
        assert len(masked) <= MAX_HEADER

    @pytest.mark.parametrize(("length", "form"), [(0, 16), (125, 16), (0, 64), (125, 64), (126, 64), (65535, 64)])
    def test_a_longer_form_than_needed_is_an_error(self, length: int, form: int) -> None:
        with pytest.raises(FramingError, match=f"a length of {length} in {form // 8} bytes; the shortest form"):
            unpack(wsframes.header(2, length, form=form))

    @pytest.mark.parametrize("length", [1 << 63, (1 << 64) - 1])
    def test_64_bits_are_an_error(self, length: int) -> None:
        with pytest.raises(FramingError, match="top bit"):
            unpack(wsframes.header(2, length))

    def test_a_length_that_no_header_can_hold_is_not_written(self) -> None:
        with pytest.raises(Exception, match=r"format|int too large"):
            pack_header(Opcode.BINARY, 1 << 64)


class TestReservedBits:
    """Section 5.2: nonzero without an extension fails the connection."""

    @pytest.mark.parametrize("rsv", range(1, 8))
    @pytest.mark.parametrize("opcode", Opcode)
    def test_they_are_an_error(self, rsv: int, opcode: Opcode) -> None:
        with pytest.raises(FramingError, match="reserved bit"):
            unpack(wsframes.frame(opcode, rsv=rsv))


class TestControlFrames:
    """Section 5.5."""

    @pytest.mark.parametrize("opcode", [Opcode.CLOSE, Opcode.PING, Opcode.PONG])
    def test_125_bytes_are_the_most(self, opcode: Opcode) -> None:
        assert unpack(wsframes.header(opcode, MAX_CONTROL)) is not None
        for head in (wsframes.header(opcode, 126), wsframes.header(opcode, 65536)):
            with pytest.raises(FramingError, match="control frame of more than 125 bytes"):
                unpack(head)

    @pytest.mark.parametrize("opcode", [Opcode.CLOSE, Opcode.PING, Opcode.PONG])
    def test_fragments_are_an_error(self, opcode: Opcode) -> None:
        with pytest.raises(FramingError, match="control frame in fragments"):
            unpack(wsframes.frame(opcode, fin=False))

    @pytest.mark.parametrize("opcode", [Opcode.CONTINUATION, Opcode.TEXT, Opcode.BINARY])
    def test_data_frames_may_be_both(self, opcode: Opcode) -> None:
        assert unpack(wsframes.header(opcode, 126, fin=False)) == (FrameHeader(opcode, False, 126, None), 4)


class TestEarliestByte:
    """A fault is found at the first byte that has it: a peer that stops sending there is not waited for."""

    @pytest.mark.parametrize(
        ("data", "enough"),
        [
            (wsframes.frame(3), 1),
            (wsframes.frame(2, rsv=4), 1),
            (wsframes.frame(8, fin=False), 2),
            (wsframes.header(9, 126), 2),
            (wsframes.header(2, 125, form=16, masked=True) + KEY, 4),
            (wsframes.header(2, 1 << 63, masked=True) + KEY, 10),
        ],
    )
    def test_it_is_enough(self, data: bytes, enough: int) -> None:
        for size in range(enough):
            assert unpack(data[:size]) is None
        for size in range(enough, len(data) + 1):
            with pytest.raises(FramingError):
                unpack(data[:size])

    def test_a_header_in_the_middle_of_a_buffer(self) -> None:
        data = b"\xff\xff" + wsframes.frame(2, b"abc") + b"\xff"
        assert unpack_header(bytearray(data), 2, len(data)) == (FrameHeader(2, True, 3, None), 4)
        assert unpack_header(bytearray(data), 2, 3) is None
        assert unpack_header(bytearray(data), 2, 2) is None

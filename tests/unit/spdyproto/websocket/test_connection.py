"""The engine beside a raw peer: each rule of RFC 6455 that it keeps, or holds its peer to, in either role."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from spdyproto.errors import (
    EncodingError,
    EngineTerminated,
    FramingError,
    LimitExceeded,
    LocalProtocolError,
    OutputLimitExceeded,
    PeerClosed,
)
from spdyproto.limits import Limits
from spdyproto.types import Buffer, Role
from spdyproto.websocket import masking
from spdyproto.websocket.connection import WebSocketConnection
from spdyproto.websocket.constants import Opcode
from spdyproto.websocket.events import (
    CloseReceived,
    ConnectionTerminated,
    Event,
    MessageChunk,
    PingReceived,
    PongReceived,
)
from support import wsframes
from support.wsframes import BINARY, CLOSE, CONT, KEY, PING, PONG, TEXT, Told

VECTORS = json.loads((Path(__file__).parents[3] / "vectors" / "websocket.json").read_text())["vectors"]
ROLES = [Role.CLIENT, Role.SERVER]


class Link:
    """An engine, and its peer's side of the wire; the peer masks where it must."""

    def __init__(self, role: Role, **options: Any) -> None:
        self.role = role
        if role is Role.CLIENT:
            options.setdefault("mask_source", lambda: KEY)
        self.engine = WebSocketConnection(role, **options)
        self.key = KEY if role is Role.SERVER else None

    def frame(self, opcode: int, payload: bytes = b"", **more: Any) -> bytes:
        return wsframes.frame(opcode, payload, key=self.key, **more)

    def feed(self, *wires: bytes) -> list[Told]:
        """What the engine reports of these bytes, at once."""
        return wsframes.tell(self.engine.receive_data(b"".join(wires), 0.0))

    def receive(self, opcode: int, payload: bytes = b"", **more: Any) -> list[Told]:
        return self.feed(self.frame(opcode, payload, **more))

    def sent(self) -> list[tuple[int, bytes]]:
        return wsframes.sent(self.engine.data_to_send())


@pytest.fixture(params=ROLES, ids=lambda role: role.value)
def link(request: pytest.FixtureRequest) -> Link:
    return Link(request.param)


def chunk(
    payload: bytes, opcode: int = BINARY, *, first: bool = True, last: bool = True, frame_start: bool = True
) -> Told:
    return ("MessageChunk", opcode, payload, first, last, frame_start)


def failed(events: Iterable[Told], kind: type[Exception], text: str) -> None:
    """The last event, and the only one of its kind, is the end with such an error."""
    ends = [event for event in events if event[0] == "ConnectionTerminated"]
    assert len(ends) == 1
    assert list(events)[-1] == ends[0]
    assert ends[0][1] == kind.__name__
    assert text in ends[0][2]


class TestExamples:
    """Section 5.7, read by the engine whose peer would send them, and written by the other."""

    @pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
    @pytest.mark.parametrize("size", [0, 1, 3])
    def test_they_are_read(self, vector: dict[str, Any], size: int) -> None:
        engine = WebSocketConnection(Role.CLIENT if vector["sender"] == "server" else Role.SERVER)
        wire = bytes.fromhex(vector["hex"]) + bytes(vector.get("then_zeros", 0))
        seen: list[Told] = []
        for at in range(0, len(wire), size or len(wire)):
            seen += wsframes.tell(engine.receive_data(wire[at : at + (size or len(wire))], 0.0))
        whole = wsframes.merged(seen)
        for described, event in zip(vector["frames"], whole, strict=False):
            payload = bytes.fromhex(described["payload"]) if "payload" in described else bytes(described["zeros"])
            if described["opcode"] == CLOSE:
                assert event == ("CloseReceived", 1000 if payload else 1005, "")
            elif described["opcode"] in (PING, PONG):
                assert event[1] == payload
            else:
                assert event[2] == payload
                assert event[4] is described["fin"]
                assert event[5] is True

    def test_masked_text_is_written(self) -> None:
        link = Link(Role.CLIENT)
        link.engine.send_message(b"Hel", b"lo", opcode=Opcode.TEXT)
        assert b"".join(link.engine.data_to_send()).hex() == "818537fa213d7f9f4d5158"

    def test_unmasked_text_is_written(self) -> None:
        link = Link(Role.SERVER)
        link.engine.send_message(b"", b"Hello", opcode=Opcode.TEXT)
        assert b"".join(link.engine.data_to_send()).hex() == "810548656c6c6f"

    def test_ping_and_its_masked_pong(self) -> None:
        server, client = Link(Role.SERVER), Link(Role.CLIENT)
        server.engine.ping(b"Hello", now=0.0)
        (ping,) = server.engine.data_to_send()
        assert bytes(ping).hex() == "890548656c6c6f"
        client.feed(bytes(ping))
        assert b"".join(client.engine.data_to_send()).hex() == "8a8537fa213d7f9f4d5158"

    @pytest.mark.parametrize(("size", "head"), [(256, "827e0100"), (65536, "827f0000000000010000")])
    def test_binary_of_both_long_forms_is_written(self, size: int, head: str) -> None:
        server = Link(Role.SERVER)
        server.engine.send_message(b"", bytes(size))
        assert b"".join(server.engine.data_to_send()) == bytes.fromhex(head) + bytes(size)


class TestMaskingByRole:
    """Section 5.1: a client masks every frame, a server none; either end fails when the other does not."""

    @pytest.mark.parametrize("opcode", [TEXT, BINARY, CLOSE, PING, PONG])
    def test_server_fails_on_an_unmasked_frame(self, opcode: int) -> None:
        link = Link(Role.SERVER)
        failed(link.feed(wsframes.frame(opcode, b"")), FramingError, "the client must mask")
        assert link.sent() == [(CLOSE, b"\x03\xea")]

    @pytest.mark.parametrize("opcode", [TEXT, BINARY, CLOSE, PING, PONG])
    def test_client_fails_on_a_masked_frame(self, opcode: int) -> None:
        link = Link(Role.CLIENT)
        failed(link.feed(wsframes.frame(opcode, b"", key=KEY)), FramingError, "the server must not mask")
        assert link.sent() == [(CLOSE, b"\x03\xea")]

    def test_client_masks_every_frame_with_a_key_of_its_own(self) -> None:
        keys = iter([b"aaaa", b"bbbb", b"cccc", b"dddd"])
        engine = WebSocketConnection(Role.CLIENT, mask_source=lambda: next(keys))
        engine.send_message(b"\0", b"x" * 300)
        engine.ping(b"p", now=0.0)
        engine.receive_data(wsframes.frame(PING, b"q"), 0.0)
        engine.close()
        frames = wsframes.read(engine.data_to_send())
        assert [(opcode, payload, key) for opcode, _, payload, key in frames] == [
            (BINARY, b"\0" + b"x" * 300, b"aaaa"),
            (PING, b"p", b"bbbb"),
            (PONG, b"q", b"cccc"),
            (CLOSE, b"\x03\xe8", b"dddd"),
        ]

    def test_keys_are_random_unless_told_otherwise(self) -> None:
        """Section 5.3: chosen afresh, and not predictable."""
        engine = WebSocketConnection(Role.CLIENT)
        for _ in range(50):
            engine.send_message(b"x")
        keys = {key for _, _, _, key in wsframes.read(engine.data_to_send())}
        assert len(keys) == 50
        assert all(key is not None and len(key) == 4 for key in keys)

    def test_server_masks_nothing(self) -> None:
        link = Link(Role.SERVER, mask_source=lambda: KEY)
        link.engine.send_message(b"\1", b"x")
        link.engine.ping(b"", now=0.0)
        link.engine.close()
        assert [key for _, _, _, key in wsframes.read(link.engine.data_to_send())] == [None] * 3

    @pytest.mark.parametrize("size", [0, 1, 5, 125, 126, 3000, 70_000])
    @pytest.mark.parametrize("prefix", [b"", b"\0", b"abcde"])
    def test_prefix_and_data_are_one_masked_payload(self, size: int, prefix: bytes) -> None:
        link = Link(Role.CLIENT)
        data = bytes(i & 0xFF for i in range(size))
        link.engine.send_message(prefix, data)
        assert link.sent() == [(BINARY, prefix + data)]

    @pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 1000, 2049])
    def test_server_unmasks_across_reads(self, size: int) -> None:
        link = Link(Role.SERVER)
        data = bytes(i % 251 for i in range(5000))
        wire = link.frame(BINARY, data)
        seen: list[Told] = []
        for at in range(0, len(wire), size):
            seen += link.feed(wire[at : at + size])
        assert wsframes.merged(seen) == [chunk(data)]

    def test_server_leaves_the_buffer_as_it_came(self) -> None:
        link = Link(Role.SERVER)
        wire = bytearray(link.frame(BINARY, b"abc"))
        before = bytes(wire)
        link.engine.receive_data(wire, 0.0)
        assert wire == before


class TestFraming:
    """Section 5.2, as the engine reports it. The rules one by one are in ``test_frames.py``."""

    @pytest.mark.parametrize(
        ("opcode", "more", "text"),
        [
            (BINARY, {"rsv": 4}, "reserved bit"),
            (PING, {"rsv": 1}, "reserved bit"),
            (3, {}, "opcode 3 is reserved"),
            (11, {}, "opcode 11 is reserved"),
            (BINARY, {"form": 16}, "shortest form"),
            (BINARY, {"form": 64}, "shortest form"),
            (BINARY, {"length": 1 << 63}, "top bit"),
            (PING, {"fin": False}, "in fragments"),
            (CLOSE, {"length": 126}, "more than 125"),
        ],
    )
    def test_violations_end_with_1002_after_the_good_events(
        self, link: Link, opcode: int, more: dict[str, Any], text: str
    ) -> None:
        events = link.feed(link.frame(BINARY, b"good"), link.frame(opcode, b"bad", **more), link.frame(BINARY, b"late"))
        assert events[:-1] == [chunk(b"good")]
        failed(events, FramingError, text)
        assert link.sent() == [(CLOSE, b"\x03\xea")]
        assert link.engine.terminated
        assert link.receive(BINARY, b"late") == []

    def test_an_empty_message(self, link: Link) -> None:
        assert link.receive(BINARY) == [chunk(b"")]
        assert link.receive(TEXT) == [chunk(b"", TEXT)]

    @pytest.mark.parametrize("size", [1, 125, 126, 127, 65535, 65536, 65537])
    def test_messages_around_the_borders_of_the_forms(self, link: Link, size: int) -> None:
        payload = bytes(i % 253 for i in range(size))
        assert link.receive(BINARY, payload) == [chunk(payload)]
        assert link.feed(link.frame(BINARY, payload), link.frame(TEXT, b"x" * size)) == [
            chunk(payload),
            chunk(b"x" * size, TEXT),
        ]

    def test_payload_is_a_view_of_what_was_given_to_a_client(self) -> None:
        wire = bytearray(wsframes.frame(BINARY, b"abc") + wsframes.frame(BINARY, b"de", fin=False))
        whole, part = WebSocketConnection(Role.CLIENT).receive_data(wire, 0.0)
        assert isinstance(whole, MessageChunk)
        assert isinstance(part, MessageChunk)
        assert whole.data.obj is part.data.obj is wire

    def test_payload_is_delivered_as_it_arrives(self, link: Link) -> None:
        wire = link.frame(BINARY, b"abcdef")
        start = len(wire) - 6
        assert link.feed(wire[:start]) == []
        assert link.feed(wire[start : start + 2]) == [chunk(b"ab", last=False)]
        assert link.feed(wire[start + 2 : -1]) == [chunk(b"cde", first=False, last=False, frame_start=False)]
        assert link.feed(wire[-1:]) == [chunk(b"f", first=False, frame_start=False)]
        assert not link.engine.within_frame

    def test_nothing_is_held_of_a_frame_that_is_announced(self, link: Link) -> None:
        """63-bit lengths are legal; what one costs is what came of it."""
        limits = Limits(ws_frame=1 << 62, ws_message=1 << 63)
        huge = Link(link.role, limits=limits)
        assert huge.feed(huge.frame(BINARY, b"ab", length=1 << 62)) == [chunk(b"ab", last=False)]
        assert huge.engine.within_frame

    def test_a_length_that_looks_like_the_start_of_a_message(self, link: Link) -> None:
        """A read may begin within a header, with any byte."""
        wire = link.frame(BINARY, bytes(0x0182)) + link.frame(BINARY, bytes(0x8282))
        for cut in (1, 2, 3):
            fresh = Link(link.role)
            seen = fresh.feed(wire[:cut]) + fresh.feed(wire[cut:])
            assert wsframes.messages(seen) == [(BINARY, bytes(0x0182)), (BINARY, bytes(0x8282))]

    def test_reading_nothing_changes_nothing(self, link: Link) -> None:
        assert link.feed(b"") == []
        assert link.feed(link.frame(BINARY, b"abc")[:-1], b"")[0][0] == "MessageChunk"
        assert link.feed(b"") == []

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_any_buffer_is_read(self, link: Link, kind: Callable[[bytes], Buffer]) -> None:
        events = link.engine.receive_data(kind(link.frame(BINARY, b"abc")), 0.0)
        assert wsframes.tell(events) == [chunk(b"abc")]


class TestFragmentation:
    """Section 5.4."""

    def test_fragments_are_one_message(self, link: Link) -> None:
        events = link.feed(
            link.frame(BINARY, b"ab", fin=False), link.frame(CONT, b"cd", fin=False), link.frame(CONT, b"ef")
        )
        assert events == [
            chunk(b"ab", last=False),
            chunk(b"cd", first=False, last=False),
            chunk(b"ef", first=False),
        ]
        assert link.receive(TEXT, b"next") == [chunk(b"next", TEXT)]

    def test_continuations_carry_the_opcode_of_their_message(self, link: Link) -> None:
        events = link.feed(link.frame(TEXT, b"a", fin=False), link.frame(CONT, b"b"))
        assert [event[1] for event in events] == [TEXT, TEXT]

    def test_fragments_may_be_empty(self, link: Link) -> None:
        events = link.feed(link.frame(BINARY, fin=False), link.frame(CONT, b"x", fin=False), link.frame(CONT))
        assert events == [
            chunk(b"", last=False),
            chunk(b"x", first=False, last=False),
            chunk(b"", first=False),
        ]

    @pytest.mark.parametrize(("opcode", "payload"), [(PING, b"p"), (PONG, b""), (PING, b"x" * 125)])
    def test_control_frames_may_stand_between_fragments(self, link: Link, opcode: int, payload: bytes) -> None:
        events = link.feed(
            link.frame(TEXT, b"\xe2\x82", fin=False), link.frame(opcode, payload), link.frame(CONT, b"\xac")
        )
        assert [event[0] for event in events] == [
            "MessageChunk",
            "PingReceived" if opcode == PING else "PongReceived",
            "MessageChunk",
        ]
        assert wsframes.messages(events) == [(TEXT, "\u20ac".encode())]

    def test_but_not_within_one(self, link: Link) -> None:
        """A control frame that comes before a frame's payload is complete is payload."""
        wire = link.frame(BINARY, b"abcdef")
        events = link.feed(wire[:-3], link.frame(PING)[:3])
        assert [event[0] for event in events] == ["MessageChunk"]

    @pytest.mark.parametrize("fin", [True, False])
    def test_a_continuation_of_nothing_is_an_error(self, link: Link, fin: bool) -> None:
        failed(link.receive(CONT, b"x", fin=fin), FramingError, "no message is under way")

    def test_a_continuation_after_the_last_fragment_is_an_error(self, link: Link) -> None:
        events = link.feed(link.frame(BINARY, b"a", fin=False), link.frame(CONT, b"b"), link.frame(CONT, b"c"))
        failed(events, FramingError, "no message is under way")

    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    @pytest.mark.parametrize("payload", [b"", b"b", b"x" * 200])
    def test_messages_do_not_interleave(self, link: Link, opcode: int, payload: bytes) -> None:
        events = link.feed(link.frame(BINARY, b"a", fin=False), link.frame(opcode, payload))
        assert events[0] == chunk(b"a", last=False)
        failed(events, FramingError, "a new message begins within a fragmented one")

    def test_nothing_is_ever_sent_in_fragments(self, link: Link) -> None:
        """Go's server takes every frame for a message."""
        link.engine.send_message(b"\0", bytes(1 << 20))
        assert [(opcode, len(payload)) for opcode, payload in link.sent()] == [(BINARY, (1 << 20) + 1)]


CHARACTERS = [
    "",
    "a",
    "\x00",
    "\x7f",
    "\x80",
    "\u07ff",
    "\u0800",
    "\ud7ff",
    "\ue000",
    "\uffff",
    "\U00010000",
    "\U0010ffff",
]
NOT_UTF8 = {
    "continuation without a start": b"\x80",
    "start without its continuation": b"\xc3a",
    "overlong, two bytes": b"\xc0\xaf",
    "overlong, three bytes": b"\xe0\x80\xaf",
    "overlong, four bytes": b"\xf0\x80\x80\xaf",
    "surrogate, low": b"\xed\xb0\x80",
    "surrogate, high": b"\xed\xa0\x80",
    "surrogate pair": b"\xed\xa0\x80\xed\xb0\x80",
    "beyond U+10FFFF": b"\xf4\x90\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80",
    "0xFE": b"\xfe",
    "0xFF": b"\xff",
}


class TestText:
    """Section 8.1."""

    @pytest.mark.parametrize("text", CHARACTERS)
    def test_every_kind_of_character_cut_anywhere(self, link: Link, text: str) -> None:
        encoded = f"<{text}>".encode()
        for cut in range(len(encoded) + 1):
            fragments = link.frame(TEXT, encoded[:cut], fin=False) + link.frame(CONT, encoded[cut:])
            assert wsframes.messages(link.feed(fragments)) == [(TEXT, encoded)]
            wire = link.frame(TEXT, encoded)
            within = len(wire) - len(encoded) + cut
            seen = link.feed(wire[:within]) + link.feed(wire[within:])
            assert wsframes.messages(seen) == [(TEXT, encoded)]

    @pytest.mark.parametrize("name", NOT_UTF8)
    @pytest.mark.parametrize("after", [b"", b"tail"])
    def test_what_is_not_utf8_ends_with_1007(self, link: Link, name: str, after: bytes) -> None:
        events = link.receive(TEXT, "gööd".encode() + NOT_UTF8[name] + after)
        assert events[:-1] == [chunk("gööd".encode(), TEXT, last=False)]
        failed(events, EncodingError, "a text message is not UTF-8")
        assert link.sent() == [(CLOSE, b"\x03\xef")]

    @pytest.mark.parametrize("name", NOT_UTF8)
    def test_the_same_cut_anywhere(self, name: str) -> None:
        data = b"a" + NOT_UTF8[name]
        for cut in range(len(data) + 1):
            link = Link(Role.SERVER)
            events = link.feed(link.frame(TEXT, data[:cut], fin=False), link.frame(CONT, data[cut:]))
            failed(events, EncodingError, "not UTF-8")

    @pytest.mark.parametrize("text", ["é", "€", "🙂"])
    def test_a_message_that_ends_within_a_character(self, link: Link, text: str) -> None:
        cut = text.encode()[:-1]
        failed(link.receive(TEXT, b"ok" + cut), EncodingError, "unexpected end of data")

    def test_a_message_whose_last_fragment_is_empty_and_ends_within_a_character(self, link: Link) -> None:
        events = link.feed(link.frame(TEXT, b"\xe2\x82", fin=False), link.frame(CONT))
        failed(events, EncodingError, "unexpected end of data")

    def test_the_fault_is_found_in_the_piece_that_has_it(self, link: Link) -> None:
        """Not at the end of a message that may never end."""
        wire = link.frame(TEXT, b"\xff" + b"a" * 100)
        failed(link.feed(wire[: len(wire) - 100]), EncodingError, "not UTF-8")

    def test_what_was_good_in_that_piece_is_delivered(self, link: Link) -> None:
        events = link.feed(link.frame(TEXT, b"\xe2\x82", fin=False), link.frame(CONT, b"\xacgood\xffbad"))
        assert events[1] == chunk(b"\xacgood", TEXT, first=False, last=False)
        failed(events, EncodingError, "not UTF-8")

    def test_one_message_does_not_disturb_the_next(self, link: Link) -> None:
        assert wsframes.messages(link.feed(link.frame(TEXT, "é".encode()), link.frame(TEXT, "ü".encode()))) == [
            (TEXT, "é".encode()),
            (TEXT, "ü".encode()),
        ]

    def test_binary_is_any_bytes(self, link: Link) -> None:
        assert link.receive(BINARY, b"\xff\xfe\xed\xa0\x80") == [chunk(b"\xff\xfe\xed\xa0\x80")]


class TestPings:
    """Sections 5.5.2 and 5.5.3."""

    @pytest.mark.parametrize("payload", [b"", b"Hello", bytes(125)])
    def test_a_ping_is_answered_with_its_payload(self, link: Link, payload: bytes) -> None:
        assert link.receive(PING, payload) == [("PingReceived", payload)]
        assert link.sent() == [(PONG, payload)]

    def test_pongs_leave_in_the_order_of_their_pings_and_behind_what_is_queued(self, link: Link) -> None:
        link.engine.send_message(b"queued")
        link.feed(link.frame(PING, b"1"), link.frame(PING, b"2"))
        assert link.sent() == [(BINARY, b"queued"), (PONG, b"1"), (PONG, b"2")]

    def test_a_ping_that_comes_in_pieces(self, link: Link) -> None:
        wire = link.frame(PING, b"abc")
        seen = [event for at in range(len(wire)) for event in link.feed(wire[at : at + 1])]
        assert seen == [("PingReceived", b"abc")]

    def test_a_pong_tells_the_round_trip(self, link: Link) -> None:
        link.engine.ping(b"abc", now=1.0)
        assert link.sent() == [(PING, b"abc")]
        assert link.engine.receive_data(link.frame(PONG, b"abc"), 1.25) == [PongReceived(b"abc", 0.25)]

    def test_without_a_time_a_ping_takes_the_last_one_told(self, link: Link) -> None:
        link.engine.start(10.0)
        link.engine.ping(b"abc")
        assert link.engine.receive_data(link.frame(PONG, b"abc"), 12.0) == [PongReceived(b"abc", 2.0)]

    @pytest.mark.parametrize("payload", [b"", b"unasked"])
    def test_a_pong_that_nobody_asked_for_is_no_fault(self, link: Link, payload: bytes) -> None:
        assert link.receive(PONG, payload) == [("PongReceived", payload, None)]
        assert link.sent() == []

    def test_a_second_pong_answers_nothing(self, link: Link) -> None:
        link.engine.ping(b"a", now=0.0)
        assert [event[2] for event in link.feed(link.frame(PONG, b"a"), link.frame(PONG, b"a"))] == [0.0, None]

    def test_only_the_last_ping_counts(self, link: Link) -> None:
        """A peer may answer the most recent of several pings alone."""
        link.engine.ping(b"a", now=0.0)
        link.engine.ping(b"b", now=1.0)
        events = link.engine.receive_data(link.frame(PONG, b"a") + link.frame(PONG, b"b"), 3.0)
        assert events == [PongReceived(b"a", None), PongReceived(b"b", 2.0)]

    def test_payloads_of_our_own_differ(self, link: Link) -> None:
        link.engine.ping(now=0.0)
        link.engine.ping(now=0.0)
        (_, first), (_, second) = link.sent()
        assert first != second

    def test_125_bytes_are_the_most(self, link: Link) -> None:
        link.engine.ping(bytes(125), now=0.0)
        with pytest.raises(LocalProtocolError, match="125 bytes at most; got 126"):
            link.engine.ping(bytes(126), now=0.0)
        assert link.sent() == [(PING, bytes(125))]

    def test_every_control_frame_is_one_segment(self, link: Link) -> None:
        link.engine.ping(b"x", now=0.0)
        link.receive(PING, b"y")
        link.engine.close(1000, "z")
        assert len(link.engine.data_to_send()) == 3


class TestClosing:
    """Sections 5.5.1 and 7."""

    @pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 4999])
    def test_the_peers_close_is_answered_with_its_code_and_ends_the_connection(self, link: Link, code: int) -> None:
        events = link.receive(CLOSE, code.to_bytes(2, "big") + "wegen Überfüllung".encode())
        assert events == [("CloseReceived", code, "wegen Überfüllung"), ("ConnectionTerminated", "NoneType", "None")]
        assert link.sent() == [(CLOSE, code.to_bytes(2, "big"))]
        assert link.engine.terminated

    def test_a_close_without_a_code(self, link: Link) -> None:
        assert link.receive(CLOSE)[0] == ("CloseReceived", 1005, "")
        assert link.sent() == [(CLOSE, b"")]

    def test_a_close_with_half_a_code(self, link: Link) -> None:
        failed(link.receive(CLOSE, b"\x03"), FramingError, "one byte")
        assert link.sent() == [(CLOSE, b"\x03\xea")]

    @pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535])
    def test_a_close_with_a_code_that_may_not_be_sent(self, link: Link, code: int) -> None:
        failed(link.receive(CLOSE, code.to_bytes(2, "big")), FramingError, f"code {code}")
        assert link.sent() == [(CLOSE, b"\x03\xea")]

    @pytest.mark.parametrize("reason", [b"\xff", b"\xed\xa0\x80", b"ab\xe2\x82"])
    def test_a_reason_that_is_not_utf8(self, link: Link, reason: bytes) -> None:
        failed(link.receive(CLOSE, b"\x03\xe8" + reason), EncodingError, "reason")
        assert link.sent() == [(CLOSE, b"\x03\xef")]

    def test_a_reason_of_123_bytes_is_the_longest(self, link: Link) -> None:
        assert link.receive(CLOSE, b"\x03\xe8" + b"r" * 123)[0] == ("CloseReceived", 1000, "r" * 123)

    def test_what_follows_a_close_does_not_exist(self, link: Link) -> None:
        events = link.feed(link.frame(CLOSE), link.frame(BINARY, b"late"), b"\xff\xff")
        assert [event[0] for event in events] == ["CloseReceived", "ConnectionTerminated"]
        assert link.receive(BINARY, b"later") == []

    def test_a_close_between_fragments_cuts_their_message(self, link: Link) -> None:
        events = link.feed(link.frame(BINARY, b"half", fin=False), link.frame(CLOSE, b"\x03\xe8"))
        assert [event[0] for event in events] == ["MessageChunk", "CloseReceived", "ConnectionTerminated"]
        failed(events, PeerClosed, "within a message")
        assert link.sent() == [(CLOSE, b"\x03\xe8")]

    def test_our_close_waits_for_the_peers_and_delivers_what_comes_before(self, link: Link) -> None:
        link.engine.close(1000, "bye")
        assert link.engine.closing
        assert not link.engine.terminated
        assert link.sent() == [(CLOSE, b"\x03\xe8bye")]
        assert link.receive(BINARY, b"output on its way") == [chunk(b"output on its way")]
        assert link.receive(CLOSE, b"\x03\xe8") == [
            ("CloseReceived", 1000, ""),
            ("ConnectionTerminated", "NoneType", "None"),
        ]
        assert link.sent() == [], "a Close is sent once"

    def test_a_message_that_our_close_cut_is_no_fault_of_the_peer(self, link: Link) -> None:
        link.engine.close()
        events = link.feed(link.frame(BINARY, b"half", fin=False), link.frame(CLOSE, b"\x03\xe8"))
        assert events[-1] == ("ConnectionTerminated", "NoneType", "None")

    def test_nothing_follows_our_close(self, link: Link) -> None:
        link.engine.close()
        with pytest.raises(EngineTerminated):
            link.engine.send_message(b"x")
        with pytest.raises(EngineTerminated):
            link.engine.ping(now=0.0)
        with pytest.raises(EngineTerminated):
            link.engine.require_room(0)
        link.engine.close(1001)
        assert link.receive(PING, b"p") == [("PingReceived", b"p")]
        assert link.sent() == [(CLOSE, b"\x03\xe8")]

    def test_nothing_follows_the_peers_close(self, link: Link) -> None:
        link.receive(CLOSE)
        link.engine.data_to_send()
        with pytest.raises(EngineTerminated):
            link.engine.send_message(b"x")
        link.engine.close()
        assert link.sent() == []

    def test_a_violation_after_our_close_is_not_told_twice(self, link: Link) -> None:
        link.engine.close()
        failed(link.receive(3), FramingError, "reserved")
        assert link.sent() == [(CLOSE, b"\x03\xe8")]

    def test_what_was_queued_leaves_before_the_close(self, link: Link) -> None:
        link.engine.send_message(b"a", b"b")
        link.engine.close()
        assert link.sent() == [(BINARY, b"ab"), (CLOSE, b"\x03\xe8")]

    @pytest.mark.parametrize("code", [0, 1005, 1006, 1015, 2000, 5000, -1, 1 << 20])
    def test_codes_that_may_not_be_sent(self, link: Link, code: int) -> None:
        with pytest.raises(LocalProtocolError, match=f"close code {code} may not be sent"):
            link.engine.close(code)
        assert not link.engine.closing
        assert link.sent() == []

    def test_reasons_that_cannot_be_sent(self, link: Link) -> None:
        with pytest.raises(LocalProtocolError, match="got 126"):
            link.engine.close(1000, "é" * 62)
        with pytest.raises(LocalProtocolError, match="surrogate"):
            link.engine.close(1000, "\ud800")
        assert not link.engine.closing
        link.engine.close(1000, "é" * 61 + "!")
        assert link.sent() == [(CLOSE, b"\x03\xe8" + "é".encode() * 61 + b"!")]


class TestEndOfTransport:
    """Section 7.1.5: an end without a Close frame is abnormal, however orderly the transport ended."""

    @pytest.mark.parametrize("clean", [True, False])
    def test_without_a_close(self, link: Link, clean: bool) -> None:
        events = wsframes.tell(link.engine.receive_eof(0.0, clean=clean))
        failed(events, PeerClosed, "without a Close frame" if clean else "was cut")

    @pytest.mark.parametrize("clean", [True, False])
    def test_every_cut_of_a_conversation_is_noticed(self, link: Link, clean: bool) -> None:
        wire = b"".join(
            [
                link.frame(BINARY, b"\1out"),
                link.frame(PING, b"p"),
                link.frame(TEXT, "é".encode(), fin=False),
                link.frame(CONT, b"", fin=False),
                link.frame(CONT, b"!"),
                link.frame(BINARY, bytes(200)),
                link.frame(CLOSE, b"\x03\xe8ok"),
            ]
        )
        for cut in range(len(wire)):
            fresh = Link(link.role)
            fresh.feed(wire[:cut])
            failed(wsframes.tell(fresh.engine.receive_eof(0.0, clean=clean)), PeerClosed, "connection")
        fresh = Link(link.role)
        assert fresh.feed(wire)[-1] == ("ConnectionTerminated", "NoneType", "None")
        assert fresh.engine.receive_eof(0.0, clean=clean) == []

    @pytest.mark.parametrize(
        "make",
        [
            lambda link: link.frame(BINARY, b"x")[:1],
            lambda link: link.frame(BINARY, b"xyz")[:-1],
            lambda link: link.frame(BINARY, b"x", fin=False),
            lambda link: link.frame(BINARY, b"x", fin=False) + link.frame(PING),
        ],
        ids=["header", "payload", "fragments", "between fragments"],
    )
    def test_within_a_message(self, link: Link, make: Callable[[Link], bytes]) -> None:
        link.feed(make(link))
        assert link.engine.within_frame
        failed(wsframes.tell(link.engine.receive_eof(0.0)), PeerClosed, "within a message")

    def test_data_after_it_is_misuse(self, link: Link) -> None:
        link.engine.receive_eof(0.0)
        with pytest.raises(EngineTerminated):
            link.feed(b"")
        assert link.engine.receive_eof(0.0) == []

    def test_while_our_close_waits(self, link: Link) -> None:
        link.engine.close()
        failed(wsframes.tell(link.engine.receive_eof(0.0)), PeerClosed, "without a Close frame")


class TestSending:
    def test_data_is_not_copied_in_the_servers_role(self) -> None:
        engine = WebSocketConnection(Role.SERVER)
        data = bytearray(b"x" * 1000)
        engine.send_message(b"\1", data)
        head, body = engine.data_to_send()
        assert bytes(head) == b"\x82\x7e\x03\xe9\x01"
        assert isinstance(body, memoryview)
        assert body.obj is data

    def test_data_may_change_at_once_in_the_clients_role(self) -> None:
        link = Link(Role.CLIENT)
        data = bytearray(b"x" * 5000)
        link.engine.send_message(b"\0", data)
        data[:] = bytes(5000)
        data.clear()
        assert link.sent() == [(BINARY, b"\0" + b"x" * 5000)]

    def test_pending_bytes_are_those_of_the_wire(self, link: Link) -> None:
        for size in (0, 5, 200, 70_000):
            link.engine.send_message(b"\0", bytes(size))
        link.engine.ping(b"x", now=0.0)
        pending = link.engine.pending_bytes
        assert pending == sum(map(len, link.engine.data_to_send()))
        assert link.engine.pending_bytes == 0
        assert link.engine.data_to_send() == []

    @pytest.mark.parametrize("opcode", [Opcode.CONTINUATION, Opcode.CLOSE, Opcode.PING, Opcode.PONG])
    def test_only_text_and_binary_are_messages(self, link: Link, opcode: Opcode) -> None:
        with pytest.raises(LocalProtocolError, match="TEXT or BINARY"):
            link.engine.send_message(b"x", opcode=opcode)
        assert link.engine.pending_bytes == 0

    def test_the_limit_of_what_is_queued_is_checked_before_anything_changes(self, link: Link) -> None:
        small = Link(link.role, limits=Limits(queued_bytes=1000))
        small.engine.send_message(b"\0", bytes(899))
        pending = small.engine.pending_bytes
        with pytest.raises(OutputLimitExceeded, match="200 more would pass the limit of 1000: send what is queued"):
            small.engine.send_message(b"\0", bytes(199))
        with pytest.raises(OutputLimitExceeded):
            small.engine.require_room(200)
        small.engine.require_room(50)
        assert small.engine.pending_bytes == pending
        small.engine.data_to_send()
        small.engine.send_message(b"\0", bytes(199))

    def test_what_can_never_fit_is_told_so(self, link: Link) -> None:
        small = Link(link.role, limits=Limits(queued_bytes=1000))
        with pytest.raises(OutputLimitExceeded, match="send it in pieces"):
            small.engine.send_message(b"\0", bytes(1000))

    def test_chores_leave_though_the_queue_is_full(self, link: Link) -> None:
        small = Link(link.role, limits=Limits(queued_bytes=100))
        small.engine.send_message(b"\0", bytes(95))
        small.receive(PING, bytes(100))
        small.engine.close()
        assert [opcode for opcode, _ in small.sent()] == [BINARY, PONG, CLOSE]


class TestLimits:
    def test_a_frame_beyond_the_limit_ends_with_1009_before_any_of_it(self, link: Link) -> None:
        small = Link(link.role, limits=Limits(ws_frame=1000))
        assert small.receive(BINARY, bytes(1000)) == [chunk(bytes(1000))]
        events = small.receive(BINARY, bytes(1001))
        assert len(events) == 1
        failed(events, LimitExceeded, "a frame of 1001 bytes; the limit is 1000")
        assert small.sent() == [(CLOSE, b"\x03\xf1")]

    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    def test_a_message_beyond_the_limit_ends_with_1009(self, link: Link, opcode: int) -> None:
        small = Link(link.role, limits=Limits(ws_message=1000))
        parts = small.frame(opcode, b"x" * 600, fin=False) + small.frame(CONT, b"x" * 400, fin=False)
        assert len(small.feed(parts, small.frame(CONT))) == 3
        failed(small.feed(parts, small.frame(CONT, b"x")), LimitExceeded, "a message of more than 1000 bytes")
        assert small.sent() == [(CLOSE, b"\x03\xf1")]

    @pytest.mark.parametrize("limits", [Limits(ws_frame=100), Limits(ws_message=100)])
    @pytest.mark.parametrize("size", [100, 101, 130, 70_000])
    def test_a_whole_message_is_held_to_both(self, link: Link, limits: Limits, size: int) -> None:
        events = Link(link.role, limits=limits).receive(BINARY, bytes(size))
        assert events[-1][0] == ("MessageChunk" if size == 100 else "ConnectionTerminated")

    def test_the_size_of_one_message_does_not_count_for_the_next(self, link: Link) -> None:
        small = Link(link.role, limits=Limits(ws_message=100))
        for _ in range(10):
            small.feed(small.frame(BINARY, bytes(60), fin=False), small.frame(CONT, bytes(40)))
        assert not small.engine.terminated

    def test_the_default_is_that_of_gos_server(self, link: Link) -> None:
        assert link.feed(wsframes.header(BINARY, 32 << 20, masked=link.key is not None) + (link.key or b"")) == []
        over = Link(link.role)
        failed(
            over.feed(wsframes.header(BINARY, (32 << 20) + 1, masked=over.key is not None) + (over.key or b"")),
            LimitExceeded,
            "the limit is 33554432",
        )

    def test_a_flood_of_pings_without_a_reader_ends_with_1008(self, link: Link) -> None:
        small = Link(link.role, limits=Limits(queued_chores=10))
        flood = [small.frame(PING, bytes([number])) for number in range(11)]
        events = small.feed(*flood)
        assert [event[0] for event in events[:-1]] == ["PingReceived"] * 10
        failed(events, LimitExceeded, "more than 10 pings without reading the pongs")
        sent = small.sent()
        assert [opcode for opcode, _ in sent] == [PONG] * 10 + [CLOSE]
        assert sent[-1] == (CLOSE, b"\x03\xf0")

    def test_pings_that_are_answered_in_time_are_no_flood(self, link: Link) -> None:
        small = Link(link.role, limits=Limits(queued_chores=10))
        for _ in range(10):
            small.feed(*[small.frame(PING)] * 10)
            assert len(small.sent()) == 10
        assert not small.engine.terminated


class TestTracer:
    def test_it_sees_every_frame_and_no_payload(self, link: Link) -> None:
        seen: list[tuple[str, tuple[object, ...]]] = []
        traced = Link(link.role, tracer=lambda direction, frame: seen.append((direction, frame)))
        traced.engine.send_message(b"\0", b"secret")
        traced.feed(
            traced.frame(BINARY, b"secret", fin=False),
            traced.frame(PING, b"secret"),
            traced.frame(CONT, b"!"),
            traced.frame(CLOSE),
        )
        assert seen == [
            ("out", ("BINARY", 7, True)),
            ("in", ("BINARY", 6, False)),
            ("in", ("PING", 6, True)),
            ("out", ("PONG", 6, True)),
            ("in", ("CONTINUATION", 1, True)),
            ("in", ("CLOSE", 0, True)),
            ("out", ("CLOSE", 0, True)),
        ]

    def test_events_are_the_same_with_it(self, link: Link) -> None:
        """It takes the long way through the parser where the other takes the short one."""
        wire = b"".join(link.frame(BINARY, bytes(size)) for size in (0, 1, 125, 126, 65535, 65536))
        traced = Link(link.role, tracer=lambda direction, frame: None)
        assert traced.feed(wire) == link.feed(wire)


class TestEvents:
    def test_they_are_compared_by_value(self) -> None:
        assert MessageChunk(2, memoryview(b"a"), True, True) == MessageChunk(2, memoryview(b"a"), True, True)
        assert PingReceived(b"") != PingReceived(b"x")
        assert ConnectionTerminated() == ConnectionTerminated(None)

    @pytest.mark.parametrize(
        "event",
        [MessageChunk(2, memoryview(b""), True, True), PingReceived(b""), PongReceived(b"", None),
         CloseReceived(1000, ""), ConnectionTerminated()],
    )  # fmt: skip
    def test_they_take_no_other_attributes(self, event: Event) -> None:
        with pytest.raises(AttributeError):
            event.other = 1  # type: ignore[union-attr]  # that it has none is the point


@pytest.mark.parametrize("name", ["plain", "numpy", "websockets.speedups"])
def test_the_strategy_of_the_mask_does_not_show(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "_CHOICE", [])
    masking.use_masker(name)
    client, server = Link(Role.CLIENT), Link(Role.SERVER)
    data = bytes(i * 5 % 256 for i in range(100_000))
    client.engine.send_message(b"\0", memoryview(data)[1:])
    wire = b"".join(client.engine.data_to_send())
    assert wire == wsframes.frame(BINARY, b"\0" + data[1:], key=KEY)
    assert wsframes.merged(server.feed(wire[:50_001]) + server.feed(wire[50_001:])) == [chunk(b"\0" + data[1:])]

"""What holds for every conversation: any frames, in any pieces, for either role, and two engines back to back.

The model is a reader of a whole list of frames that is as simple as the RFC's text; the engine, which sees bytes in
pieces, must report the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spdyproto.errors import OutputLimitExceeded
from spdyproto.limits import Limits
from spdyproto.types import Role
from spdyproto.websocket.connection import WebSocketConnection
from spdyproto.websocket.constants import Opcode, valid_close_code
from support import wsframes
from support.wsframes import BINARY, CLOSE, CONT, PING, PONG, TEXT, Told

LIMITS = Limits(ws_frame=600, ws_message=1000, queued_chores=5)


@dataclass(frozen=True)
class Frame:
    """One frame as a peer may send it, legal or not."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0
    form: int | None = None
    masks: bool = True
    """As its role must; False is the opposite."""

    def wire(self, role: Role, key: bytes) -> bytes:
        """To an engine of this role."""
        masked = (role is Role.SERVER) is self.masks
        return wsframes.frame(
            self.opcode, self.payload, fin=self.fin, rsv=self.rsv, form=self.form, key=key if masked else None
        )


def model(frames: list[Frame]) -> tuple[list[Told], int | None, bool]:
    """The events that these frames give, the close code that the engine answers with (None: no Close), and whether
    that ended the connection. Payload of a text with a fault is cut before the character that has it."""
    events: list[Told] = []
    message, size, text = 0, 0, b""
    first = False
    pings = 0
    for frame in frames:
        longest = 7 if len(frame.payload) < 126 else 16
        control = frame.opcode >= CLOSE
        if (
            frame.rsv
            or frame.opcode not in set(Opcode)
            or (control and (not frame.fin or len(frame.payload) > 125))
            or (frame.form or longest) != longest
            or not frame.masks
        ):
            return events, 1002, True
        if control:
            if frame.opcode == CLOSE:
                return _model_close(events, frame.payload, bool(message))
            if frame.opcode == PING:
                pings += 1
                if pings > LIMITS.queued_chores:
                    return events, 1008, True
                events.append(("PingReceived", frame.payload))
            else:
                events.append(("PongReceived", frame.payload, None))
            continue
        if (frame.opcode == CONT) is not bool(message):
            return events, 1002, True
        if frame.opcode != CONT:
            message, size, text, first = frame.opcode, 0, b"", True
        size += len(frame.payload)
        if len(frame.payload) > LIMITS.ws_frame or size > LIMITS.ws_message:
            return events, 1009, True
        payload, last = frame.payload, frame.fin
        if message == TEXT:
            text += payload
            good = _valid(text, frame.fin)
            if good is not None:
                payload = payload[: max(0, len(payload) - (len(text) - good))]
                if payload:
                    events.append(("MessageChunk", message, payload, first, False, True))
                return events, 1007, True
        events.append(("MessageChunk", message, payload, first, last, True))
        first = False
        if last:
            message = 0
    return events, None, False


def _model_close(events: list[Told], payload: bytes, cut: bool) -> tuple[list[Told], int | None, bool]:
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or (payload and not valid_close_code(code)):
        return events, 1002, True
    try:
        reason = payload[2:].decode()
    except UnicodeDecodeError:
        return events, 1007, True
    return [*events, ("CloseReceived", code if payload else 1005, reason)], code if payload else 1005, True


def _valid(text: bytes, final: bool) -> int | None:
    """None for UTF-8 (or a beginning of it, unless ``final``), else where its fault begins."""
    for size in range(len(text) + 1):  # the longest prefix of whole characters, found the slow way
        try:
            text[: len(text) - size].decode()
        except UnicodeDecodeError:
            continue
        rest = text[len(text) - size :]
        if not rest or (not final and _begins_character(rest)):
            return None
        return len(text) - size
    raise AssertionError


def _begins_character(rest: bytes) -> bool:
    if len(rest) > 3:
        return False
    for tail in (
        b"\x80",
        b"\xbf",
        b"\x80\x80",
        b"\xbf\xbf",
        b"\x80\x80\x80",
        b"\x90\x80",
        b"\x90\x80\x80",
        b"\xa0\x80",
    ):
        try:
            (rest + tail).decode()
        except UnicodeDecodeError:
            continue
        return True
    return False


TEXTS = st.one_of(st.text(max_size=40).map(str.encode), st.binary(max_size=20), st.just(b"\xed\xa0\x80"))
CLOSES = st.one_of(
    st.just(b""),
    st.binary(max_size=3),
    st.builds(
        lambda code, reason: code.to_bytes(2, "big") + reason,
        st.sampled_from([1000, 1001, 1005, 1011, 3000, 999, 5000]),
        TEXTS.map(lambda data: data[:123]),
    ),
)
LEGAL = st.one_of(
    st.builds(Frame, st.just(BINARY), st.binary(max_size=300), st.booleans()),
    st.builds(Frame, st.just(CONT), TEXTS, st.booleans()),
    st.builds(Frame, st.just(TEXT), st.text(max_size=30).map(str.encode), st.booleans()),
    st.builds(Frame, st.sampled_from([PING, PONG]), st.binary(max_size=125)),
)
ANY = st.one_of(
    LEGAL,
    LEGAL,
    LEGAL,
    st.builds(Frame, st.just(TEXT), TEXTS, st.booleans()),
    st.builds(Frame, st.just(CLOSE), CLOSES),
    st.builds(Frame, st.just(BINARY), st.integers(590, 610).map(bytes), st.booleans()),
    st.builds(
        Frame,
        st.integers(0, 15),
        st.binary(max_size=130),
        st.booleans(),
        st.sampled_from([0, 0, 0, 1, 2, 4]),
        st.sampled_from([None, None, 16, 64]),
        st.sampled_from([True, True, False]),
    ),
)
ROLES = st.sampled_from([Role.CLIENT, Role.SERVER])
KEYS = st.binary(min_size=4, max_size=4)
CUTS = st.lists(st.integers(0, 5000), max_size=20)


def pieces(wire: bytes, cuts: list[int]) -> list[bytes]:
    borders = [0, *sorted(cut % (len(wire) + 1) for cut in cuts), len(wire)]
    return [wire[start:end] for start, end in pairwise(borders)]


def run(role: Role, parts: list[bytes]) -> tuple[list[Told], list[tuple[int, bytes]]]:
    """What an engine reports of these pieces, and what it sends."""
    engine = WebSocketConnection(role, limits=LIMITS)
    told: list[Told] = []
    for part in parts:
        buffer = bytearray(part)
        told += wsframes.tell(engine.receive_data(buffer, 0.0))
        buffer[:] = bytes(len(buffer))  # views live until the next call, and not longer
    return told, wsframes.sent(engine.data_to_send())


def stable(events: list[Told]) -> list[Told]:
    """Events without what depends on the pieces: of a character that proves wrong, its first bytes may have been
    delivered before that was known."""
    whole = wsframes.merged(events)
    if not whole or whole[-1][0] != "ConnectionTerminated" or whole[-1][1] != "EncodingError":
        return whole
    end = whole.pop()
    while whole and whole[-1][:2] == ("MessageChunk", TEXT):
        _, _, data, *flags = whole.pop()
        if text := data.decode(errors="ignore"):
            whole.append(("MessageChunk", TEXT, text, *flags))
            break
    return [*whole, end]


@given(st.lists(ANY, max_size=12), ROLES, KEYS)
def test_any_frames_give_the_events_of_the_model(frames: list[Frame], role: Role, key: bytes) -> None:
    told, sent = run(role, [b"".join(frame.wire(role, key) for frame in frames)])
    events, code, over = model(frames)
    if not over:
        assert told == events
        assert CLOSE not in [opcode for opcode, _ in sent]
        return
    assert told[:-1] == events
    assert told[-1][0] == "ConnectionTerminated"
    assert sent[-1] == (CLOSE, b"" if code == 1005 else (code or 0).to_bytes(2, "big"))
    clean = events and events[-1][0] == "CloseReceived"
    names = {1002: "FramingError", 1007: "EncodingError", 1008: "LimitExceeded", 1009: "LimitExceeded"}
    if not clean:
        assert told[-1][1] == names[code or 0]
    else:
        assert told[-1][1] in ("NoneType", "PeerClosed")


@given(st.lists(ANY, max_size=12), ROLES, KEYS, CUTS)
def test_pieces_do_not_change_the_events(frames: list[Frame], role: Role, key: bytes, cuts: list[int]) -> None:
    wire = b"".join(frame.wire(role, key) for frame in frames)
    whole, sent = run(role, [wire])
    told, also_sent = run(role, pieces(wire, cuts))
    assert stable(told) == stable(whole)
    assert also_sent == sent


@given(st.lists(ANY, max_size=5), ROLES, KEYS)
def test_nor_does_one_byte_at_a_time(frames: list[Frame], role: Role, key: bytes) -> None:
    wire = b"".join(frame.wire(role, key) for frame in frames)
    whole, sent = run(role, [wire])
    told, also_sent = run(role, [wire[at : at + 1] for at in range(len(wire))])
    assert stable(told) == stable(whole)
    assert also_sent == sent


@given(st.binary(max_size=300), ROLES, CUTS)
def test_any_bytes_give_events_and_no_exception(wire: bytes, role: Role, cuts: list[int]) -> None:
    told, _ = run(role, pieces(wire, cuts))
    ends = [event for event in told if event[0] == "ConnectionTerminated"]
    assert len(ends) <= 1
    assert not ends or told[-1] == ends[0]
    assert all(str(end[2]).isprintable() for end in ends)


@given(st.lists(LEGAL, max_size=8), ROLES, KEYS, st.integers(0, 5000), st.booleans())
def test_a_conversation_cut_anywhere_is_never_a_clean_end(
    frames: list[Frame], role: Role, key: bytes, cut: int, clean: bool
) -> None:
    wire = b"".join(frame.wire(role, key) for frame in frames)
    engine = WebSocketConnection(role)
    told = wsframes.tell(engine.receive_data(wire[: cut % (len(wire) + 1)], 0.0))
    told += wsframes.tell(engine.receive_eof(0.0, clean=clean))
    assert told[-1][0] == "ConnectionTerminated"
    assert told[-1][1] in ("PeerClosed", "FramingError", "EncodingError")


MESSAGES = st.lists(
    st.tuples(
        st.sampled_from([Role.CLIENT, Role.SERVER]),
        st.sampled_from(["binary", "text", "ping", "flush"]),
        st.binary(max_size=5),
        st.builds(wsframes.Blob, st.one_of(st.integers(0, 300), st.integers(0, 70_000)), st.integers(1, 255)),
    ),
    max_size=20,
)


@given(MESSAGES, st.lists(st.integers(1, 5000), min_size=1, max_size=8), ROLES)
def test_two_engines_back_to_back(
    steps: list[tuple[Role, str, bytes, wsframes.Blob]], sizes: list[int], closer: Role
) -> None:
    """Whatever either end sends arrives whole, in order, whatever the pieces; a close from either end ends both."""
    engines = {role: WebSocketConnection(role, limits=Limits(queued_bytes=100_000)) for role in Role}
    expected: dict[Role, list[tuple[int, bytes]]] = {role: [] for role in Role}
    told: dict[Role, list[Told]] = {role: [] for role in Role}
    other = {Role.CLIENT: Role.SERVER, Role.SERVER: Role.CLIENT}

    def flush() -> None:
        for _ in range(3):  # the second round carries pongs and the answer to a Close
            for role, engine in engines.items():
                wire, at, turn = b"".join(engine.data_to_send()), 0, 0
                while at < len(wire):
                    size = sizes[turn % len(sizes)]
                    told[other[role]] += wsframes.tell(engines[other[role]].receive_data(wire[at : at + size], 1.0))
                    at, turn = at + size, turn + 1

    for role, what, prefix, blob in steps:
        engine, data = engines[role], bytes(blob)
        try:
            if what == "binary":
                engine.send_message(prefix, data)
                expected[other[role]].append((BINARY, prefix + data))
            elif what == "text":
                text = data[:20_000].hex().encode()
                engine.send_message(b"", text, opcode=Opcode.TEXT)
                expected[other[role]].append((TEXT, text))
            elif what == "ping":
                engine.ping(prefix, now=0.5)
            else:
                flush()
        except OutputLimitExceeded:
            assert engine.pending_bytes + 2 * len(data) > 30_000
            flush()
    flush()
    for role in Role:
        assert wsframes.messages(told[role]) == expected[role]
        assert not any(event[0] == "ConnectionTerminated" for event in told[role])
    engines[closer].close(1001, "leaving")
    flush()
    assert told[other[closer]][-2:] == [
        ("CloseReceived", 1001, "leaving"),
        ("ConnectionTerminated", "NoneType", "None"),
    ]
    assert told[closer][-2:] == [("CloseReceived", 1001, ""), ("ConnectionTerminated", "NoneType", "None")]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 13, 14, 15])
@pytest.mark.parametrize("role", [Role.CLIENT, Role.SERVER])
def test_every_form_of_header_in_pieces_of_every_size(role: Role, size: int) -> None:
    key = wsframes.KEY if role is Role.SERVER else None
    payloads = [bytes(length) for length in (0, 1, 125, 126, 127, 65535, 65536)]
    wire = b"".join(wsframes.frame(BINARY, payload, key=key) for payload in payloads)
    engine = WebSocketConnection(role)
    told: list[Told] = []
    at = 0
    while at < len(wire):
        told += wsframes.tell(engine.receive_data(wire[at : at + size], 0.0))
        at += size
        if engine._left > 3000:  # the middle of a long payload teaches nothing
            skip = engine._left - 2000
            told += wsframes.tell(engine.receive_data(wire[at : at + skip], 0.0))
            at += skip
    assert wsframes.messages(told) == [(BINARY, payload) for payload in payloads]

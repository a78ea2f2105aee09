"""Our WebSocket engine, in both roles, against the libraries that most of the world speaks WebSocket with: gorilla
(Go), ws (Node) and tungstenite (Rust)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import pytest

from spdyproto.limits import Limits
from spdyproto.types import Role
from spdyproto.websocket.constants import Opcode
from support.contract import MIB
from support.gopeers import random_bytes
from support.wsframes import BINARY, CLOSE, CONT, KEY, PING, TEXT, frame
from support.wsjudges import JUDGES, Link, judge_command, linked

pytestmark = [pytest.mark.interop, pytest.mark.timeout(60)]

Connect = Callable[..., AbstractContextManager[Link]]


@pytest.fixture(scope="module", params=JUDGES)
def judge(request: pytest.FixtureRequest) -> Any:
    judge_command(request.param)  # built before the clock of a test runs
    return request.param


@pytest.fixture(params=[Role.CLIENT, Role.SERVER], ids=["our-client", "our-server"])
def connect(request: pytest.FixtureRequest, judge: str) -> Connect:
    return partial(linked, judge, request.param)


@pytest.fixture
def link(connect: Connect) -> Iterator[Link]:
    with connect() as link:
        yield link


def test_binary_and_text_of_every_form_of_length(link: Link) -> None:
    for size in (0, 1, 125, 126, 127, 65535, 65536, MIB + 1):
        data = random_bytes(size, size)
        link.send(data)
        assert link.message() == (Opcode.BINARY, data)
    for text in ("", "plain", "naïve 漢字 🙂", "é" * 40_000):
        link.send(text)
        assert link.message() == (Opcode.TEXT, text.encode())


def test_a_large_message_by_digest(link: Link) -> None:
    data = random_bytes(16 * MIB, "large")
    link.send(data)
    opcode, echo = link.message()
    assert opcode == Opcode.BINARY
    assert hashlib.sha256(echo).digest() == hashlib.sha256(data).digest()


def test_many_messages_keep_their_borders_and_order(link: Link) -> None:
    messages = [random_bytes(i * 37 % 3000, i) for i in range(500)]
    for message in messages:
        link.send(message)
    assert [link.message() for _ in messages] == [(Opcode.BINARY, message) for message in messages]


@pytest.mark.parametrize(("length", "size"), [(1, 1000), (1001, 1000), (100_000, 1000), (70_001, 7)])
def test_fragments_are_one_message(link: Link, length: int, size: int) -> None:
    link.send(f"!fragments {length} {size}")
    assert link.message() == (Opcode.BINARY, bytes(i % 251 for i in range(length)))
    assert (link.frames > 1) == (length > 1000), "it was sent in fragments"
    link.send(b"after")
    assert link.message() == (Opcode.BINARY, b"after")


def test_our_ping_is_answered(link: Link) -> None:
    for payload in (b"", b"payload", bytes(range(125))):
        link.engine.ping(payload)
        pong = link.pong()
        assert pong.payload == payload
        assert pong.round_trip is not None


def test_their_ping_is_answered(link: Link) -> None:
    link.send("!ping hello")
    assert link.message() == (Opcode.TEXT, b"pong hello")


@pytest.mark.parametrize(
    ("code", "reason"), [(1000, ""), (1000, "done"), (1001, "é" * 61), (3000, ""), (4999, "private")]
)
def test_our_close(link: Link, code: int, reason: str) -> None:
    link.engine.close(code, reason)
    assert link.finish().error is None
    report = link.report()
    assert (report["code"], report["reason"]) == (code, reason)
    assert link.close is not None
    assert link.close.code == code


@pytest.mark.parametrize(
    ("code", "reason"), [(1000, "done"), (1001, ""), (1008, "no"), (1011, ""), (3000, ""), (4999, "é")]
)
def test_their_close(link: Link, code: int, reason: str) -> None:
    link.send(f"!close {code} {reason}")
    assert link.finish().error is None
    assert link.close is not None
    assert (link.close.code, link.close.reason) == (code, reason)
    assert link.report()["code"] == code, "ours answers theirs"


BAD: dict[str, tuple[Callable[[bytes | None], bytes], int]] = {
    "reserved bit": (lambda key: frame(BINARY, b"x", rsv=4, key=key), 1002),
    "reserved opcode": (lambda key: frame(3, b"x", key=key), 1002),
    "reserved control opcode": (lambda key: frame(11, b"x", key=key), 1002),
    "fragmented ping": (lambda key: frame(PING, b"x", fin=False, key=key), 1002),
    "long ping": (lambda key: frame(PING, bytes(126), key=key), 1002),
    "continuation of nothing": (lambda key: frame(CONT, b"x", key=key), 1002),
    "message within a message": (
        lambda key: frame(BINARY, b"x", fin=False, key=key) + frame(BINARY, b"y", key=key),
        1002,
    ),
    "length in a longer form than needed": (lambda key: frame(BINARY, b"x", form=16, key=key), 1002),
    "text that is not UTF-8": (lambda key: frame(TEXT, b"\xff\xfe", key=key), 1007),
    "text that ends within a character": (lambda key: frame(TEXT, "é".encode()[:1], key=key), 1007),
    "close code that may not be sent": (lambda key: frame(CLOSE, b"\x03\xed", key=key), 1002),
    "half a close code": (lambda key: frame(CLOSE, b"\x03", key=key), 1002),
    "reason that is not UTF-8": (lambda key: frame(CLOSE, b"\x03\xe8\xff", key=key), 1007),
    "more than the limit": (lambda key: frame(BINARY, bytes(3000), key=key), 1009),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_frame_ends_the_connection_with_its_code(connect: Connect, fault: str) -> None:
    """The judge sends it, and hears from us what was wrong with it."""
    wire, code = BAD[fault]
    with connect(Limits(ws_frame=2000)) as link:
        link.send("!raw " + wire(KEY if link.engine.role is Role.SERVER else None).hex())
        assert link.finish().error is not None
        assert link.report()["code"] == code


@pytest.mark.parametrize("role", [Role.CLIENT, Role.SERVER], ids=["our-client", "our-server"])
def test_the_wrong_side_of_the_mask_ends_the_connection(judge: str, role: Role) -> None:
    with linked(judge, role) as link:
        link.send("!raw " + frame(BINARY, b"x", key=KEY if role is Role.CLIENT else None).hex())
        assert link.finish().error is not None
        assert link.report()["code"] == 1002

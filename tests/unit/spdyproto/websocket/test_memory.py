"""What a peer can make the engine hold, measured: it never depends on what the peer announces or repeats."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import pytest

from spdyproto.limits import Limits
from spdyproto.types import Role
from spdyproto.websocket.connection import WebSocketConnection
from spdyproto.websocket.events import ConnectionTerminated
from support import wsframes
from support.wsframes import BINARY, CONT, KEY, PING, PONG, TEXT

KIB = 1024
READ = 64 * KIB


@pytest.fixture(params=[Role.CLIENT, Role.SERVER], ids=lambda role: role.value)
def role(request: pytest.FixtureRequest) -> Role:
    assert isinstance(request.param, Role)
    return request.param


def held(role: Role, wires: Iterator[bytes], *, limits: Limits | None = None, read: bool = True) -> tuple[int, bool]:
    """The most that the engine held between reads of these bytes, and whether the connection ended. ``read``: the peer
    takes what we answer."""
    engine = WebSocketConnection(role, limits=limits)
    wires = iter(list(wires))
    for opcode in (BINARY, TEXT, PING):  # what is made once
        engine.receive_data(wsframes.frame(opcode, b"x" * 5000 if opcode != PING else b"", key=key_of(role)), 0.0)
    engine.data_to_send()
    tracemalloc.start()
    try:
        base = tracemalloc.get_traced_memory()[0]
        most = 0
        for wire in wires:
            ended = any(isinstance(event, ConnectionTerminated) for event in engine.receive_data(wire, 0.0))
            if read:
                engine.data_to_send()
            most = max(most, tracemalloc.get_traced_memory()[0] - base)
            if ended:
                return most, True
        return most, False
    finally:
        tracemalloc.stop()


def key_of(role: Role) -> bytes | None:
    return KEY if role is Role.SERVER else None


def test_a_frame_of_32_mib(role: Role) -> None:
    head = wsframes.header(BINARY, 32 << 20, masked=role is Role.SERVER) + (key_of(role) or b"")
    most, ended = held(role, iter([head, *[bytes(READ)] * 512]))
    assert not ended
    assert most < 4 * KIB


def test_a_text_of_32_mib(role: Role) -> None:
    head = wsframes.header(TEXT, 32 << 20, masked=role is Role.SERVER) + (b"\0\0\0\0" if role is Role.SERVER else b"")
    most, ended = held(role, iter([head, *[b"x" * READ] * 512]))
    assert not ended
    assert most < 4 * KIB


def test_a_frame_that_announces_2_to_the_63(role: Role) -> None:
    head = wsframes.header(BINARY, (1 << 63) - 1, masked=role is Role.SERVER) + (key_of(role) or b"")
    most, ended = held(role, iter([head, bytes(READ)]))
    assert ended
    assert most < 8 * KIB


def test_fragments_without_end(role: Role) -> None:
    first = wsframes.frame(BINARY, b"x", fin=False, key=key_of(role))
    more = wsframes.frame(CONT, b"y", fin=False, key=key_of(role))
    most, ended = held(role, iter([first, *[more * 500] * 200]))
    assert not ended
    assert most < 4 * KIB


def test_a_header_that_never_ends(role: Role) -> None:
    head = wsframes.header(BINARY, 1 << 20, masked=True)
    most, _ = held(role, (bytes([byte]) for byte in head[:-1]))
    assert most < 4 * KIB


def test_control_frames_between_fragments(role: Role) -> None:
    first = wsframes.frame(BINARY, b"x", fin=False, key=key_of(role))
    noise = wsframes.frame(PONG, bytes(125), key=key_of(role)) + wsframes.frame(PING, bytes(125), key=key_of(role))
    most, ended = held(role, iter([first, *[noise * 50] * 200]), limits=Limits(nuisances=1 << 40))
    assert not ended
    assert most < 4 * KIB


def test_pings_whose_pongs_are_never_read(role: Role) -> None:
    ping = wsframes.frame(PING, bytes(125), key=key_of(role))
    limits = Limits()
    most, ended = held(role, iter([ping * 10] * 1000), limits=limits, read=False)
    assert ended
    assert most < limits.queued_chores * 300, "1024 pongs of 131 bytes, and what Python adds to each"


def test_nothing_is_held_after_the_end(role: Role) -> None:
    wires = [wsframes.frame(3), *[bytes(READ)] * 50]
    engine = WebSocketConnection(role)
    tracemalloc.start()
    try:
        base = tracemalloc.get_traced_memory()[0]
        for wire in wires:
            engine.receive_data(wire, 0.0)
        assert tracemalloc.get_traced_memory()[0] - base < 8 * KIB
    finally:
        tracemalloc.stop()


def test_an_idle_connection() -> None:
    """Thousands of them are no burden: the engine's part of one."""
    tracemalloc.start()
    try:
        base = tracemalloc.get_traced_memory()[0]
        engines = [WebSocketConnection(Role.CLIENT) for _ in range(100)]
        each = (tracemalloc.get_traced_memory()[0] - base) / len(engines)
        assert each < 4 * KIB
    finally:
        tracemalloc.stop()

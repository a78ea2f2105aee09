"""Scripted commands against an outlet that only records: back-pressure, and the exact data."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest

from fakekubelet.auth import User
from fakekubelet.behaviours import UNIT, keystream, scripted, zeros
from fakekubelet.runtimes import STDIN_HIGH_WATER, Command, ExecRequest
from spdyproto.channels.events import StreamKind, StreamSet
from spdyproto.channels.status import ExitStatus
from spdyproto.channels.subprotocols import Subprotocol
from spdyproto.types import Buffer


class Recorder:
    """An outlet that takes `room` writes before it says that it is full."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.loop: Any = None
        self.room = room
        self.written: list[tuple[StreamKind, bytes]] = []
        self.status: ExitStatus | None = None
        self.pauses: list[bool] = []

    def write(self, kind: StreamKind, data: Buffer) -> bool:
        assert self.status is None, "written after the exit"
        self.written.append((kind, bytes(data)))
        self.room -= 1
        return self.room > 0

    def end(self, kind: StreamKind) -> None:
        raise AssertionError("no scripted command closes an output by itself")

    def exit(self, status: ExitStatus) -> None:
        assert self.status is None, "two exits"
        self.status = status

    def pause_stdin(self) -> None:
        self.pauses.append(True)

    def resume_stdin(self) -> None:
        self.pauses.append(False)


def launch(argv: list[str], outlet: Recorder) -> Command:
    request = ExecRequest("default", "demo", "main", tuple(argv), StreamSet(stdin=True), Subprotocol.V4, User("tester"))
    command = scripted()(request)
    command.outlet = outlet
    command.start()
    return command


def test_the_keystream_is_that_of_the_go_peers() -> None:
    """The digest is what `kwclient -stdin random:10000000:a` (Go) reported."""
    digest = hashlib.sha256()
    for chunk in keystream(10_000_000, "a"):
        digest.update(chunk)
    assert digest.hexdigest() == "3f39122b37364ebdce592fbb4cf5038c72aebbb2a4c3ea505c37761336064882"


@pytest.mark.parametrize("size", [0, 1, UNIT - 1, UNIT, UNIT + 1, 3 * UNIT])
def test_sources_make_the_size_they_are_asked_for(size: int) -> None:
    assert b"".join(keystream(size, "s")) == b"".join(keystream(4 * UNIT, "s"))[:size]
    assert b"".join(zeros(size)) == bytes(size)


def test_zeros_are_views_of_one_buffer() -> None:
    assert len({id(view.obj) for view in zeros(5 * UNIT)}) == 1


def test_a_unit_fills_tls_records_exactly() -> None:
    assert UNIT == 4 * 65528
    assert (65528 + 8) % 16384 == 0


def test_a_source_waits_for_room() -> None:
    outlet = Recorder(room=1)
    command = launch(["source", str(3 * UNIT)], outlet)
    for count in (1, 2, 3):
        assert (len(outlet.written), outlet.status) == (count, None)
        outlet.room = 1
        command.writable()
    assert outlet.status == ExitStatus.success()


def test_a_source_ends_when_nobody_reads() -> None:
    outlet = Recorder(room=1)
    launch(["source", str(100 * UNIT)], outlet).gone()
    assert len(outlet.written) == 1
    assert outlet.status is not None


def test_cat_stops_reading_while_nobody_takes_what_comes_back() -> None:
    outlet = Recorder(room=2)
    command = launch(["cat"], outlet)
    command.stdin(memoryview(b"a"))
    assert outlet.pauses == []
    command.stdin(memoryview(b"b"))
    assert outlet.pauses == [True]
    command.writable()
    assert outlet.pauses == [True, False]
    command.stdin_ended()
    assert (outlet.written, outlet.status) == (
        [(StreamKind.STDOUT, b"a"), (StreamKind.STDOUT, b"b")],
        ExitStatus.success(),
    )


def test_cat_keeps_no_view_of_what_it_was_given() -> None:
    outlet = Recorder()
    kept: list[Buffer] = []

    class Keeper(Recorder):
        def write(self, kind: StreamKind, data: Buffer) -> bool:
            kept.append(data)
            return True

    buffer = bytearray(b"abc")
    outlet = Keeper()
    launch(["cat"], outlet).stdin(memoryview(buffer))
    buffer[:] = b"xyz"
    assert kept == [b"abc"]


def test_ignore_stdin_leaves_it_in_the_buffers_and_then_in_the_network() -> None:
    async def main() -> None:
        outlet = Recorder()
        outlet.loop = asyncio.get_running_loop()
        command = launch(["ignore-stdin", "1000"], outlet)
        piece = memoryview(bytes(STDIN_HIGH_WATER // 2))
        command.stdin(piece)
        assert outlet.pauses == []
        command.stdin(piece)
        assert outlet.pauses == [True]
        await command.close()

    asyncio.run(main())

"""A main process without a server: what is kept of its output, and that it cannot hog the loop."""

from __future__ import annotations

import asyncio

import pytest

from fakekubelet.mains import MAX_BACKLOG, MainProcess, main_request
from fakekubelet.pods import Container
from fakekubelet.runtimes import Command, ExecRequest
from spdyproto.channels.events import StreamKind, StreamSet

STDOUT, STDERR = StreamKind.STDOUT, StreamKind.STDERR


class Writer(Command):
    """Writes whatever it is told, and counts how often it is asked for more."""

    asked = 0

    def writable(self) -> None:
        self.asked += 1


def started(loop: asyncio.AbstractEventLoop, backlog: int = 0, *, tty: bool = False) -> tuple[MainProcess, Writer]:
    made: list[Writer] = []

    def runtime(request: ExecRequest) -> Command:
        made.append(Writer(request))
        return made[0]

    streams = StreamSet(stdout=True, stderr=not tty, tty=tty)
    main = MainProcess(main_request("ns", "pod", "c", (), streams), runtime, backlog=backlog)
    main.start(loop)
    return main, made[0]


def replay(main: MainProcess) -> list[tuple[StreamKind, bytes]]:
    """What a new attacher hears first, neighbours joined."""
    joined: list[tuple[StreamKind, bytes]] = []
    for kind, piece in main._backlog:
        if joined and joined[-1][0] is kind:
            joined[-1] = (kind, joined[-1][1] + bytes(piece))
        else:
            joined.append((kind, bytes(piece)))
    return joined


@pytest.mark.parametrize("sizes", [[1] * 50, [7] * 9, [4096, 1, 4096], [5000, 5000, 3], [100_000]])
@pytest.mark.parametrize("backlog", [1, 10, 5000])
def test_the_backlog_is_the_end_of_what_was_written(sizes: list[int], backlog: int) -> None:
    async def scenario() -> None:
        main, _ = started(asyncio.get_running_loop(), backlog)
        written = b""
        for index, size in enumerate(sizes):
            piece = bytes([index]) * size
            main.write(STDOUT, memoryview(piece))
            written += piece
        assert b"".join(piece for _, piece in replay(main)) == written[-backlog:]

    asyncio.run(scenario())


def test_the_backlog_keeps_the_order_of_both_outputs_and_few_pieces() -> None:
    async def scenario() -> None:
        main, _ = started(asyncio.get_running_loop(), MAX_BACKLOG)
        for index in range(20_000):
            main.write(STDERR if index % 2 else STDOUT, b"%d" % (index % 10))
        kept = replay(main)
        assert len(kept) == 4096
        assert kept[-2:] == [(STDOUT, b"8"), (STDERR, b"9")]

    asyncio.run(scenario())


def test_no_backlog_keeps_nothing() -> None:
    async def scenario() -> None:
        main, _ = started(asyncio.get_running_loop())
        main.write(STDOUT, b"gone")
        assert replay(main) == []
        assert main.execution.sent == {STDOUT: 4}

    asyncio.run(scenario())


def test_a_terminal_has_one_output() -> None:
    async def scenario() -> None:
        main, _ = started(asyncio.get_running_loop(), 10, tty=True)
        main.write(STDERR, b"a")
        main.end(STDERR)
        main.write(STDOUT, b"b")
        assert replay(main) == [(STDOUT, b"ab")]

    asyncio.run(scenario())


def test_a_process_without_readers_yields_to_the_loop() -> None:
    async def scenario() -> None:
        main, writer = started(asyncio.get_running_loop())
        count = 0
        while main.write(STDOUT, bytes(1024)):
            count += 1
            assert count < 1000
        assert writer.asked == 0
        await asyncio.sleep(0)
        assert writer.asked == 1
        assert main.write(STDOUT, b"x")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"main": "sleep 5"}, "a list of arguments"),
        ({"main": []}, "a list of arguments"),
        ({"stdin_once": True}, "stdin_once needs stdin"),
        ({"backlog": -1}, "backlog of 0 to"),
        ({"backlog": MAX_BACKLOG + 1}, "backlog of 0 to"),
    ],
)
def test_containers_that_make_no_sense(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Container("main", **options)  # type: ignore[arg-type]  # that is the point of it

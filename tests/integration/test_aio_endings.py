"""How sessions end on the asyncio client: proofs, losses, cuts; scripted frame by frame."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from typing import Any

import pytest

from kubeletclient.aio import (
    PIPE,
    ConnectionLost,
    DeadlineExceeded,
    Deadlines,
    Keepalive,
    PeerNotResponding,
    RemoteError,
    StdinClosed,
    StreamSet,
    connect_exec,
)
from support.loops import cancelled, descriptors, on_a_loop, until, write_for_ever
from support.scripted import SUCCESS, Peer, ScriptedServer, exit_status
from support.wire import data, goaway, rst

OUTPUTS = StreamSet(stdin=False, stdout=True, stderr=True)
ALL = StreamSet(stdin=True, stdout=True, stderr=True)


def reset_connection(peer: Peer) -> None:
    """Close so that the other end sees a TCP reset."""
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.sock.close()


async def outcome(url: str, **options: Any) -> tuple[bytes, int]:
    async with connect_exec(url, streams=OUTPUTS, **options) as process:
        assert process.stdout is not None
        return await process.stdout.read(), await process.wait()


# -- proofs -----------------------------------------------------------------------------------------------------------


@on_a_loop
async def test_the_way_a_go_server_ends() -> None:
    """No FIN on the error stream: resets of what is open, GOAWAY, all in one segment."""

    def script(peer: Peer) -> None:
        peer.open_streams(3)
        peer.send(
            data(peer.stdout, b"out"), data(peer.stdout, fin=True), data(peer.stderr, fin=True),
            data(peer.error, exit_status(3)), rst(peer.error), goaway(),
        )  # fmt: skip

    with ScriptedServer(script) as server:
        assert await outcome(server.url) == (b"out", 3)


@on_a_loop
async def test_status_before_the_last_output() -> None:
    def script(peer: Peer) -> None:
        peer.open_streams(3)
        peer.send(data(peer.error, SUCCESS, fin=True), data(peer.stdout, b"early"))
        peer.send(data(peer.stdout, b" late", fin=True), data(peer.stderr, fin=True))
        peer.read_to_the_end()

    with ScriptedServer(script) as server:
        assert await outcome(server.url) == (b"early late", 0)


@on_a_loop
async def test_a_status_that_came_is_read_though_writing_has_failed() -> None:
    """The command ends while stdin flows: the server closes with unread stdin in its socket, which makes TCP reset the
    connection. What came before the reset still lies here, and counts."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    def script(peer: Peer) -> None:
        peer.open_streams(4)
        peer.read_until(lambda frame: frame[0] == "DATA")
        peer.send(data(peer.stdout, b"all of it", fin=True), data(peer.stderr, fin=True), data(peer.error, SUCCESS))
        peer.send(rst(peer.error), rst(peer.stdin), goaway())
        reset_connection(peer)
        loop.call_soon_threadsafe(ended.set)

    with ScriptedServer(script) as server:
        async with connect_exec(server.url, streams=ALL) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            wire = process._exchange._wire
            wire.pause()  # as if the loop had been busy elsewhere
            await process.stdin.write(b"x" * 100)
            await ended.wait()
            for _ in range(100):
                if wire.broken:
                    break
                await process.stdin.write(bytes(1000))
                await asyncio.sleep(0.001)
            assert wire.broken
            with pytest.raises(StdinClosed):
                await process.stdin.write(b"x")
            wire.resume()
            assert await process.stdout.read() == b"all of it"
            assert await process.wait() == 0


# -- losses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["fin", "reset", "goaway", "close"])
@on_a_loop
async def test_an_error_stream_that_ends_empty_is_no_success(how: str) -> None:
    def script(peer: Peer) -> None:
        peer.open_streams(3)
        peer.send(data(peer.stdout, b"part", fin=True), data(peer.stderr, b"err", fin=True))
        if how == "fin":
            peer.send(data(peer.error, fin=True))
            peer.read_to_the_end()
        elif how == "reset":
            peer.send(rst(peer.error))
            peer.read_to_the_end()
        elif how == "goaway":
            peer.send(goaway())

    with ScriptedServer(script) as server:
        async with connect_exec(server.url, streams=OUTPUTS, stdout=-101, stderr=-101) as process:
            with pytest.raises(ConnectionLost) as caught:
                await process.wait()
    assert caught.value.stdout == b"part"
    assert caught.value.stderr == b"err"
    assert "the exit status" in caught.value.owed
    assert caught.value.received["stdout"] == 4


@pytest.mark.parametrize("how", ["close", "reset"])
@on_a_loop
async def test_a_cut_is_told_behind_all_that_came(how: str) -> None:
    def script(peer: Peer) -> None:
        peer.open_streams(3)
        peer.send(data(peer.stdout, b"what came"))
        peer.read_until(lambda frame: frame[0] == "PING")  # it was read, so a reset cannot destroy it
        if how == "reset":
            reset_connection(peer)

    with ScriptedServer(script) as server:
        async with connect_exec(server.url, streams=OUTPUTS, keepalive=Keepalive(period=0.05)) as process:
            assert process.stdout is not None
            assert await process.stdout.read(4) == b"what"
            for read in (process.stdout.read, process.stdout.readline):
                with pytest.raises(ConnectionLost, match="session was lost") as caught:
                    await read()  # what came is neither all of the output nor a whole line
            assert await process.stdout.read(100) == b" came"
            for _ in range(2):
                with pytest.raises(ConnectionLost):
                    await process.stdout.read1()
            assert "the end of stdout" in caught.value.owed
            with pytest.raises(ConnectionLost):
                await process.wait()
            with pytest.raises(ConnectionLost):
                process.poll()


@on_a_loop
async def test_a_stream_that_is_refused() -> None:
    def script(peer: Peer) -> None:
        peer.read_head()
        peer.switch()
        peer.read_streams(3)
        peer.send(rst(peer.stdout, 3))
        peer.read_to_the_end()

    with ScriptedServer(script) as server, pytest.raises(ConnectionLost, match="refused the stdout stream"):
        await connect_exec(server.url, streams=OUTPUTS)


@on_a_loop
async def test_failures_without_an_exit_code() -> None:
    def script(peer: Peer) -> None:
        peer.open_streams(3, "v2.channel.k8s.io")
        peer.send(
            data(peer.stdout, fin=True), data(peer.stderr, fin=True), data(peer.error, b"no \x1b[2J luck", fin=True)
        )
        peer.read_to_the_end()

    with ScriptedServer(script) as server, pytest.raises(RemoteError, match=r"no .*luck") as caught:
        await outcome(server.url)
    assert "\x1b" not in str(caught.value)


# -- time -------------------------------------------------------------------------------------------------------------


@on_a_loop
async def test_a_peer_that_answers_no_ping() -> None:
    def script(peer: Peer) -> None:
        peer.open_streams(3)
        peer.read_to_the_end()

    with ScriptedServer(script) as server, pytest.raises(PeerNotResponding, match="no answer to a PING") as caught:
        await outcome(server.url, keepalive=Keepalive(period=0.02, deadline=0.1))
    assert isinstance(caught.value, TimeoutError)


@on_a_loop
async def test_a_status_that_never_comes() -> None:
    def script(peer: Peer) -> None:
        peer.open_streams(3)
        peer.send(data(peer.stdout, fin=True), data(peer.stderr, fin=True))
        peer.read_to_the_end()

    with ScriptedServer(script) as server, pytest.raises(PeerNotResponding, match=r"no status came within 0\.1 s"):
        await outcome(server.url, deadlines=Deadlines(status=0.1))


@on_a_loop
async def test_a_reader_that_is_slow_makes_no_peer_late() -> None:
    """While nothing is read, neither a missing pong nor a missing status proves anything."""

    def script(peer: Peer) -> None:
        peer.open_streams(3)
        for _ in range(48):
            peer.send(data(peer.stdout, bytes(65536)))
        peer.send(data(peer.stdout, fin=True), data(peer.stderr, fin=True), data(peer.error, SUCCESS, fin=True))
        peer.read_to_the_end()

    with ScriptedServer(script) as server:
        patience = Keepalive(period=0.02, deadline=0.05)
        async with connect_exec(server.url, streams=OUTPUTS, keepalive=patience) as process:
            assert process.stdout is not None
            await until(lambda: process._exchange._wire.paused)
            with pytest.raises(DeadlineExceeded):
                await process.wait(0.3)
            assert len(await process.stdout.read()) == 48 * 65536
            assert await process.wait() == 0


@on_a_loop
async def test_a_loop_that_is_busy_elsewhere_makes_no_peer_late() -> None:
    """The status comes in time, while the program blocks its loop beyond the deadline."""
    busy, sent = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.open_streams(3)
        peer.send(data(peer.stdout, fin=True), data(peer.stderr, fin=True))
        busy.wait(10)
        peer.send(data(peer.error, SUCCESS, fin=True))
        sent.set()
        peer.read_to_the_end()

    with ScriptedServer(script) as server:
        async with connect_exec(server.url, streams=OUTPUTS, deadlines=Deadlines(status=0.2)) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert await process.stdout.read() + await process.stderr.read() == b""
            busy.set()
            sent.wait(10)
            time.sleep(0.4)  # noqa: ASYNC251 - as above
            process._exchange._on_timer()  # some loops look at their clock before they look at their sockets
            assert await process.wait() == 0


# -- leaving ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["cancel", "timeout", "kill", "exit"])
@on_a_loop
async def test_the_server_is_told_that_we_leave(how: str) -> None:
    left: list[Any] = []

    def script(peer: Peer) -> None:
        peer.open_streams(4)
        left.extend(peer.read_to_the_end())

    before = descriptors()
    with ScriptedServer(script) as server:
        opening = connect_exec(server.url, streams=ALL, timeout=0.1 if how == "timeout" else None)
        async with opening as process:
            waiting = asyncio.ensure_future(process.wait())
            await asyncio.sleep(0)
            if how == "cancel":
                await cancelled(waiting)
                assert process.poll() is None, "a cancelled wait leaves everything running"
            elif how == "kill":
                process.kill()
            elif how == "timeout":
                with pytest.raises(DeadlineExceeded):
                    await waiting
        await asyncio.wait([waiting])
    assert left[-1] == ("GOAWAY", 0, 0)
    assert {frame[0] for frame in left[:-1]} == {"RST_STREAM"}
    assert descriptors() == before


STEPS = ("connect", "handshake", "upgrade", "streams", "run")


@pytest.mark.parametrize("step", STEPS)
@on_a_loop
async def test_cancelled_at_each_step(step: str) -> None:
    """Nothing is left behind, wherever it happens."""
    reached = asyncio.Event()
    loop = asyncio.get_running_loop()

    def script(peer: Peer) -> None:
        if step == "upgrade":
            peer.read_head()
        elif step == "streams":
            peer.read_head()
            peer.switch()
            peer.read_streams(3)
        elif step == "run":
            peer.open_streams(3)
        else:
            peer.sock.recv(1)
        loop.call_soon_threadsafe(reached.set)
        while peer.sock.recv(65536):
            pass

    before = descriptors()
    with ScriptedServer(script) as server:
        url = server.url.replace("http:", "https:") if step in ("connect", "handshake") else server.url
        process: list[Any] = []

        async def run() -> None:
            async with connect_exec(url, streams=OUTPUTS, verify=False) as started:
                process.append(started)
                await started.wait()

        task = asyncio.ensure_future(run())
        if step == "connect":
            await asyncio.sleep(0)
            await cancelled(task)
            with socket.create_connection(("127.0.0.1", server.port)) as sock:
                sock.sendall(b"x")  # the script wants its client
        else:
            await reached.wait()
            await until(lambda: process or step != "run")
            await cancelled(task)
    assert descriptors() == before


@on_a_loop
async def test_an_outer_timeout_is_the_callers_own() -> None:
    def script(peer: Peer) -> None:
        peer.open_streams(3)
        peer.read_to_the_end()

    with ScriptedServer(script) as server, pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.1):
            await outcome(server.url)
    assert not isinstance(caught.value, DeadlineExceeded)


@on_a_loop
async def test_stdin_that_waits_is_let_go_when_the_session_ends() -> None:
    def script(peer: Peer) -> None:
        peer.open_streams(4)
        peer.read_until(lambda frame: frame[0] == "DATA")
        peer.send(rst(peer.stdin))
        peer.read_until(lambda frame: frame[0] == "PING")
        peer.send(data(peer.stdout, fin=True), data(peer.stderr, fin=True), data(peer.error, SUCCESS, fin=True))
        peer.read_to_the_end()

    with ScriptedServer(script) as server:
        async with connect_exec(server.url, streams=ALL, stdin=PIPE, keepalive=Keepalive(period=0.05)) as process:
            assert process.stdin is not None
            with pytest.raises(StdinClosed):
                await write_for_ever(process, bytes(1 << 20))
            assert await process.wait() == 0

"""One connection on a loop: what it hands up, what it keeps, and how it ends."""

from __future__ import annotations

import asyncio
import os
import socket
import struct

import pytest

from kubeletclient._wire import Scratch, Wire
from spdyproto.tls import TLSPipe
from support.loops import on_a_loop, until
from support.tlslink import drain, joined

MIB = 1 << 20


class Above:
    """What stands above the wire, and writes down what it is told."""

    def __init__(self) -> None:
        self.wire: Wire | None = None
        self.data = bytearray()
        self.batches = 0
        self.ends: list[bool] = []
        self.writable = 0

    def on_data(self, data: memoryview) -> None:
        self.data += data

    def on_batch(self) -> None:
        self.batches += 1

    def on_end(self, *, clean: bool) -> None:
        self.ends.append(clean)

    def on_writable(self) -> None:
        self.writable += 1


class Ends:
    """A wire, and the raw other end of its socket."""

    def __init__(self, tls: TLSPipe | None = None) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        ours = socket.create_connection(listener.getsockname())
        self.peer, _ = listener.accept()
        listener.close()
        ours.setblocking(False)
        self.peer.settimeout(10)
        self.above = Above()
        self.wire = Wire(asyncio.get_running_loop(), ours, tls, self.above)

    def __enter__(self) -> Ends:
        return self

    def __exit__(self, *_: object) -> None:
        self.wire.close()
        self.peer.close()

    def fill(self) -> int:
        """Send until the socket takes no more; how many bytes that were."""
        sent = 0
        while not self.wire.blocked:
            self.wire.send([bytes(MIB)])
            sent += MIB
        return sent

    def reset(self) -> None:
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.peer.close()


@pytest.fixture
def pipes() -> tuple[TLSPipe, TLSPipe]:
    return joined()


@on_a_loop
async def test_plain() -> None:
    with Ends() as ends:
        ends.peer.sendall(b"before anybody reads")
        assert ends.wire.paused
        ends.wire.resume()
        ends.wire.resume()
        await until(lambda: ends.above.data == b"before anybody reads")
        ends.wire.send([b"one ", memoryview(b"two "), bytearray(b"three")])
        assert await asyncio.to_thread(ends.peer.recv, 100) == b"one two three"
        ends.peer.shutdown(socket.SHUT_WR)
        await until(lambda: ends.above.ends)
        assert ends.above.ends == [True]


@on_a_loop
async def test_while_paused_everything_stays_in_the_kernel() -> None:
    with Ends() as ends:
        ends.wire.resume()
        ends.wire.pause()
        ends.wire.pause()
        ends.peer.sendall(b"later")
        await asyncio.sleep(0.02)
        assert not ends.above.data
        ends.wire.resume()
        await until(lambda: ends.above.data == b"later")


@on_a_loop
async def test_a_full_socket_keeps_one_batch_and_tells_when_it_has_left() -> None:
    with Ends() as ends:
        sent = ends.fill()
        assert ends.above.writable == 0
        came = 0
        while came < sent:
            came += len(await asyncio.to_thread(ends.peer.recv, MIB))
        await until(lambda: ends.above.writable)
        assert (ends.above.writable, ends.wire.blocked) == (1, False)


@on_a_loop
async def test_tls(pipes: tuple[TLSPipe, TLSPipe]) -> None:
    client, server = pipes
    with Ends(client) as ends:
        ends.wire.resume()
        data = os.urandom(3 * MIB)
        server.send([data])
        await asyncio.to_thread(ends.peer.sendall, server.take())
        await until(lambda: len(ends.above.data) == len(data))
        assert ends.above.data == data
        ends.wire.send([b"up"])
        assert drain(server, await asyncio.to_thread(ends.peer.recv, 1000)) == b"up"
        server.close_notify()
        ends.peer.sendall(server.take())
        await until(lambda: ends.above.ends)
        assert ends.above.ends == [True], "no need to wait for the end of TCP"


@on_a_loop
async def test_tls_that_is_cut_is_no_clean_end(pipes: tuple[TLSPipe, TLSPipe]) -> None:
    client, server = pipes
    with Ends(client) as ends:
        ends.wire.resume()
        server.send([b"good"])
        ends.peer.sendall(server.take())
        ends.peer.shutdown(socket.SHUT_WR)
        await until(lambda: ends.above.ends)
        assert ends.above.data == b"good"
        assert ends.above.ends == [False]


@on_a_loop
async def test_what_was_good_comes_before_what_was_forged(pipes: tuple[TLSPipe, TLSPipe]) -> None:
    client, server = pipes
    with Ends(client) as ends:
        ends.wire.resume()
        server.send([b"good"])
        ends.peer.sendall(server.take() + b"\x17\x03\x03\x00\x20" + bytes(32))
        await until(lambda: ends.above.ends)
        assert ends.above.data == b"good"
        assert ends.above.ends == [False]
        assert ends.wire.paused


@on_a_loop
async def test_a_write_that_fails_ends_writing_only() -> None:
    """What the peer sent before is still to be read: for asyncio's own transports it would be gone."""
    with Ends() as ends:
        ends.peer.sendall(b"last words")
        ends.wire.send([b"never read, so that closing resets the connection"])
        ends.reset()
        async with asyncio.timeout(10):
            while not ends.wire.broken:
                ends.wire.send([b"x"])
                await asyncio.sleep(0)
        assert not ends.wire.blocked
        ends.wire.send([b"dropped"])
        ends.wire.resume()
        await until(lambda: ends.above.ends)
        assert ends.above.data == b"last words"


@on_a_loop
async def test_a_write_that_fails_while_it_waits_lets_go() -> None:
    with Ends() as ends:
        ends.fill()
        ends.reset()
        await until(lambda: ends.wire.broken)
        assert not ends.wire.blocked
        assert ends.above.writable == 1, "so that whoever waits looks again"


@on_a_loop
async def test_last_words(pipes: tuple[TLSPipe, TLSPipe]) -> None:
    client, server = pipes
    with Ends(client) as ends:
        ends.wire.close([b"good", b"bye"])
        ends.wire.close([b"not twice"])
        ends.wire.send([b"nor this"])
        ends.wire.resume()
        came = b""
        while piece := await asyncio.to_thread(ends.peer.recv, 1000):
            came += piece
        assert drain(server, came) == b"goodbye"
        assert server.closed_by_peer


@on_a_loop
async def test_closing_waits_for_nothing() -> None:
    with Ends() as ends:
        ends.fill()
        ends.wire.close([b"no room for this"])
        assert ends.wire.closed
        assert not ends.wire.blocked


@on_a_loop
async def test_each_loop_has_its_own_buffers() -> None:
    mine = Scratch.of(asyncio.get_running_loop())
    assert Scratch.of(asyncio.get_running_loop()) is mine
    other = asyncio.new_event_loop()
    assert Scratch.of(other) is not mine
    other.close()


@on_a_loop
async def test_behind_a_bulk_transfer_a_few_bytes_are_handed_up_all_the_same() -> None:
    with Ends() as ends:
        ends.wire.resume()
        for _ in range(3):  # gathered, then not, then gathered again
            ends.above.data.clear()
            await asyncio.to_thread(ends.peer.sendall, bytes(4 * MIB))
            await until(lambda: len(ends.above.data) == 4 * MIB)
            ends.peer.sendall(b"few")
            await until(lambda: ends.above.data[-3:] == b"few")
        assert ends.above.ends == []


@on_a_loop
async def test_what_came_while_paused_behind_a_bulk_transfer_is_handed_up() -> None:
    with Ends() as ends:
        ends.wire.resume()
        await asyncio.to_thread(ends.peer.sendall, bytes(4 * MIB))
        await until(lambda: len(ends.above.data) == 4 * MIB)
        ends.wire.pause()
        ends.peer.sendall(b"few")
        ends.wire.resume()
        await until(lambda: ends.above.data[-3:] == b"few")

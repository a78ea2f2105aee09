"""Strategies of the WebSocket mask: each by itself, and a client's whole upload with each, beside a loop without it.

::

    python -m benchmarks.micro.masking [--rounds N] [--windows N] [--no-upload]

The first table is GB/s of masking alone, from memory to memory, the best of the rounds; ``odd`` begins one byte behind
an aligned address, as three of four messages do that were cut out of a larger buffer. What cannot be imported is left
out. The strategies that the engine does not use stand here to show why.

The second table is CPU seconds per GiB of engine, TLS and socket together, for messages that fill 64 KiB with their
header, four to a write. The limit is ``SSLSocket.sendall`` of 256 KiB of ready bytes. Each write is measured alone,
into a socket that its peer has emptied, the variants in turn, and the least of many counts: so short a time is often
undisturbed, also on a machine that has other work. Linux only, which tells when a socket is empty.
"""

from __future__ import annotations

import argparse
import fcntl
import importlib
import multiprocessing
import os
import socket
import ssl
import sys
import termios
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from statistics import median
from typing import Any, Final

from benchmarks.micro.tls_pump import Setup, handshake
from spdyproto.tls import TLSPipe, client_context
from spdyproto.types import Buffer, Role
from spdyproto.websocket import masking
from spdyproto.websocket.connection import WebSocketConnection

SIZES: Final = (64, 1024, 4096, 16384, 32769, 65527, 262144)
PAYLOAD: Final = 65527
BATCH: Final = 4  # messages of 64 KiB in one write, as the drivers flush

WRITE: Final = BATCH * 65536

Strategy = Callable[[memoryview, bytes], object]


def big_integer(data: memoryview, key: bytes) -> object:
    """What websocket-client and the Python fallback of websockets do."""
    size = len(data)
    repeated = int.from_bytes((key * (size // 4 + 1))[:size], "little")
    return (int.from_bytes(data, "little") ^ repeated).to_bytes(size, "little")


def big_integers(piece: int) -> Strategy:
    """Big integers of pieces that stay in the processor's cache."""
    repeat = int.from_bytes(b"\x01\x00\x00\x00" * (piece // 4), "little")

    def mask(data: memoryview, key: bytes) -> object:
        number = int.from_bytes(key, "little") * repeat
        size = len(data)
        whole = size - size % piece
        parts = [
            (int.from_bytes(data[start : start + piece], "little") ^ number).to_bytes(piece, "little")
            for start in range(0, whole, piece)
        ]
        if whole < size:
            number &= (1 << 8 * (size - whole)) - 1
            parts.append((int.from_bytes(data[whole:], "little") ^ number).to_bytes(size - whole, "little"))
        return b"".join(parts)

    return mask


def lanes_in_pieces(piece: int) -> Strategy:
    """The plain strategy, piece by piece."""

    def mask(data: memoryview, key: bytes) -> object:
        return b"".join(masking.mask_plain(data[at : at + piece], key) for at in range(0, len(data), piece))

    return mask


def numpy_words(numpy: Any) -> Strategy:  # noqa: ANN401 - the module, which may be missing
    """Four bytes at a time, into memory that nobody cleared."""

    def mask(data: memoryview, key: bytes) -> object:
        size = len(data)
        whole = size & ~3
        result = numpy.empty(size, numpy.uint8)
        word = numpy.frombuffer(key, numpy.uint32)[0]
        numpy.bitwise_xor(numpy.frombuffer(data[:whole], numpy.uint32), word, out=result[:whole].view(numpy.uint32))
        for index in range(whole, size):
            result[index] = data[index] ^ key[index & 3]
        return memoryview(result)

    return mask


def aiohttp_in_place() -> Strategy:
    """aiohttp's, which is not public."""
    in_place: Any = importlib.import_module("aiohttp._websocket.mask")._websocket_mask_cython

    def mask(data: memoryview, key: bytes) -> object:
        result = bytearray(data)
        in_place(key, result)
        return result

    return mask


def strategies() -> dict[str, Strategy]:
    """All that can be imported; a star marks those that the engine may use."""
    found: dict[str, Strategy] = {"big integer": big_integer}
    found |= {f"big integers of {piece // 1024} KiB": big_integers(piece) for piece in (1024, 4096, 8192, 16384, 32768)}
    found["plain: four lanes *"] = masking.mask_plain
    found |= {f"four lanes of {piece // 1024} KiB": lanes_in_pieces(piece) for piece in (8192, 32768)}
    optional: dict[str, Callable[[], Strategy]] = {
        "numpy, words": lambda: numpy_words(importlib.import_module("numpy")),
        "numpy, bytes *": lambda: masking.load_masker("numpy"),
        "websockets.speedups *": lambda: masking.load_masker("websockets.speedups"),
        "aiohttp": aiohttp_in_place,
    }
    for name, load in optional.items():
        try:
            found[name] = load()
        except (ImportError, AttributeError):
            print(f"{name}: not installed")
    found["bytes copy, for scale"] = lambda data, key: bytes(data)
    return found


def speed(strategy: Strategy, data: memoryview, rounds: int) -> float:
    """Bytes per nanosecond, the best of many short runs: what is left when nothing disturbs."""
    repeats = max(1, 65536 // len(data))
    best = float("inf")
    for _ in range(20 * rounds):
        start = time.perf_counter()
        for _ in range(repeats):
            strategy(data, b"\x12\xfe\x00\x77")
        best = min(best, time.perf_counter() - start)
    return len(data) * repeats / best / 1e9


def check(name: str, strategy: Strategy) -> None:
    """All strategies give the same bytes."""
    key = b"\x12\xfe\x00\x77"
    data = memoryview(os.urandom(70_001))
    for size in (0, 1, 3, 64, 65, 4099, 70_000):
        expected = bytes(byte ^ key[index & 3] for index, byte in enumerate(data[1 : 1 + size]))
        result = strategy(data[1 : 1 + size], key)
        assert isinstance(result, bytes | bytearray | memoryview)
        if "copy" not in name and bytes(result) != expected:
            raise ValueError(f"{name} computes wrong at {size} bytes")


def table(rounds: int) -> None:
    """GB/s of each strategy at each size."""
    data = memoryview(os.urandom(max(SIZES) + 1))
    print(f"\nmasking, GB/s\n{'':24}" + "".join(f"{size:>8}" for size in SIZES) + f"{'odd 65527':>11}")
    for name, strategy in strategies().items():
        check(name, strategy)
        columns = "".join(f"{speed(strategy, data[:size], rounds):8.2f}" for size in SIZES)
        print(f"{name:24}{columns}{speed(strategy, data[1:65528], rounds):11.2f}")


# The whole upload


def sink(answer: Connection) -> None:
    """Finish TLS handshakes, then read and drop ciphertext, one connection after another."""
    setup = Setup()
    scratch = memoryview(bytearray(1 << 20))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answer.send(listener.getsockname())
        while True:
            sock, _ = listener.accept()
            with sock:
                handshake(sock, TLSPipe.server(setup.server_context))
                while sock.recv_into(scratch):
                    pass


class Uploader:
    """One variant: a connection, and how it sends 256 KiB."""

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext, variant: str) -> None:
        self.times: list[float] = []
        self._sock = socket.create_connection(address)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 * WRITE)
        self._source = memoryview(os.urandom(2 * WRITE))
        self._masker = variant.removeprefix("client, ") if variant.startswith("client") else None
        if variant == LIMIT:
            tls = context.wrap_socket(self._sock)
            self._sock = tls
            self.write: Callable[[], object] = lambda: tls.sendall(self._source[:WRITE])
            return
        self._pipe = handshake(self._sock, TLSPipe.client(context, None))
        self._engine = WebSocketConnection(Role.SERVER if self._masker is None else Role.CLIENT)
        # With its header and channel a message is four records in either role.
        self._payload = PAYLOAD + 4 if self._masker is None else PAYLOAD
        self.write = self._ready if variant == READY else self._messages

    def _ready(self) -> None:
        self._send([self._source[start : start + 65536] for start in range(0, WRITE, 65536)])

    def _messages(self) -> None:
        for index in range(BATCH):
            self._engine.send_message(b"\0", self._source[index * self._payload : (index + 1) * self._payload])
        self._send(self._engine.data_to_send())

    def _send(self, segments: list[Buffer]) -> None:
        self._pipe.send(segments)
        self._sock.sendmsg(self._pipe.take_segments())

    def once(self) -> None:
        """One write, timed, when the peer has read the one before."""
        left = bytearray(4)
        while True:
            fcntl.ioctl(self._sock, termios.TIOCOUTQ, left)
            if not any(left):
                break
            time.sleep(0.0002)
        if self._masker is not None:
            masking.use_masker(self._masker)
        start = time.thread_time()
        self.write()
        self.times.append(time.thread_time() - start)

    def close(self) -> None:
        self._sock.close()


LIMIT: Final = "SSLSocket.sendall (limit)"
READY: Final = "TLS pump, ready bytes"
NO_MASK: Final = "no mask (server's role)"


def uploads(windows: int) -> None:
    """The second table."""
    here, there = multiprocessing.Pipe()
    peer = multiprocessing.get_context("spawn").Process(target=sink, args=(there,), daemon=True)
    peer.start()
    address = here.recv()
    context = client_context(verify=False)
    names = [LIMIT, READY, NO_MASK]
    for name in ("websockets.speedups", "numpy", "plain"):
        try:
            masking.load_masker(name)
        except ImportError:
            continue
        names.append(f"client, {name}")
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(8):  # the peer serves one connection after another
        for name in names:
            uploader = Uploader(address, context, name)
            for turn in range(windows // 8 + 3):
                uploader.once()
                if turn == 2:
                    uploader.times.clear()  # warm now
            uploader.close()
            times[name] += uploader.times
    peer.kill()
    peer.join()
    limit = min(times[LIMIT])
    print(f"\nupload, CPU s/GiB\n{'':28}{'least':>8}{'median':>8}  ratio of the limit to the least")
    for name, values in times.items():
        per_gib = (1 << 30) / WRITE
        print(f"{name:28}{min(values) * per_gib:8.3f}{median(values) * per_gib:8.3f}  {limit / min(values):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="of each strategy by itself")
    parser.add_argument("--windows", type=int, default=800, help="writes of each upload")
    parser.add_argument("--no-upload", action="store_true", help="only the strategies by themselves")
    options = parser.parse_args()
    print(f"Python {sys.version.split()[0]}, {ssl.OPENSSL_VERSION}")
    table(options.rounds)
    if not options.no_upload:
        uploads(options.windows)


if __name__ == "__main__":
    main()

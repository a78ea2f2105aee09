"""Strategies of the WebSocket mask: each by itself, and a client's whole upload with each, beside a loop without it.

::

    python -m benchmarks.micro.masking [--rounds N] [--mib N] [--no-upload]

The first table is GB/s of masking alone, from memory to memory, the best of the rounds; ``odd`` begins one byte behind
an aligned address, as three of four messages do that were cut out of a larger buffer. The second is CPU seconds per GiB
of engine, TLS and socket together, as in ``tls_pump``: the limit is ``SSLSocket.sendall`` of ready bytes. What cannot
be imported is left out. The strategies that the engine does not use stand here to show why.
"""

from __future__ import annotations

import argparse
import importlib
import os
import socket
import ssl
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from benchmarks.micro.tls_pump import MIB, Bench, Measure, Setup, handshake, pump_send, socket_send, write
from spdyproto.tls import TLSPipe
from spdyproto.types import Buffer, Role
from spdyproto.websocket import masking
from spdyproto.websocket.connection import WebSocketConnection

SIZES: Final = (64, 1024, 4096, 16384, 32769, 65527, 262144)
PAYLOAD: Final = 65527
BATCH: Final = 4  # messages of 64 KiB in one write, as the drivers flush

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
    """Bytes per nanosecond of CPU, the best of the rounds."""
    repeats = max(3, MIB // len(data))
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        for _ in range(repeats):
            strategy(data, b"\x12\xfe\x00\x77")
        best = min(best, time.process_time() - start)
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


def upload(name: str | None) -> Measure:
    """Send messages of 64 KiB on the wire, as the session does; None: in the server's role, which masks nothing."""

    def measure(sock: socket.socket, setup: Setup, total: int) -> int:
        if name is not None:
            masking.use_masker(name)
        pipe = handshake(sock, TLSPipe.client(setup.client_context, "localhost"))
        engine = WebSocketConnection(Role.SERVER if name is None else Role.CLIENT)
        payload = PAYLOAD if name is not None else PAYLOAD + 4  # with its header and channel four records either way
        source = memoryview(bytes(setup.payload) * 2)
        sent = 0
        while sent < total:
            for index in range(BATCH):
                engine.send_message(b"\0", source[index * payload : (index + 1) * payload])
            segments: list[Buffer] = engine.data_to_send()
            pipe.send(segments)
            write(sock, pipe.take_segments())
            sent += BATCH * payload
        return sent

    return measure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--mib", type=int, default=256, help="bytes of one upload")
    parser.add_argument("--no-upload", action="store_true", help="only the strategies by themselves")
    options = parser.parse_args()
    print(f"Python {sys.version.split()[0]}, {ssl.OPENSSL_VERSION}")
    table(options.rounds)
    if options.no_upload:
        return
    uploads: dict[str, Measure] = {"SSLSocket.sendall 256 KiB (limit)": socket_send}
    uploads |= {"TLS pump, ready bytes": pump_send, "no mask (server's role)": upload(None)}
    for name in ("websockets.speedups", "numpy", "plain"):
        try:
            masking.load_masker(name)
        except ImportError:
            continue
        uploads[f"client, {name}"] = upload(name)
    bench = Bench()
    try:
        bench.table("upload, messages of 64 KiB", uploads, None, options.rounds, options.mib * MIB)
    finally:
        bench.close()


if __name__ == "__main__":
    main()

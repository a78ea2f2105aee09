"""Clients that mean harm: each attack is one connection's behaviour, to be run by many at once.

An attack answers when the server has cut it off, or raises `NotCut` once it has sent more than `Attack.most`, or for
longer than `Attack.seconds`, without that.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import select
import socket
import ssl
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from spdyproto.spdy.dictionary import DICTIONARY
from support import wire, wsframes
from support.rawclient import websocket_headers
from support.victim import MIB, Victim
from support.wire import RawPeer

CUT = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
KEY = b"\x01\x02\x03\x04"


class NotCut(AssertionError):
    """The server put up with it."""


@dataclass(frozen=True)
class Attack:
    """`most`: bytes that the attacker may get rid of, what lies in the buffers of both kernels included."""

    name: str
    behave: Callable[[ssl.SSLSocket, Attack], int]
    most: int = 16 * MIB
    seconds: float = 30.0
    alpn: str = "http/1.1"

    def __str__(self) -> str:
        return self.name


Behaviour = Callable[[ssl.SSLSocket, Attack], int]


def connect(victim: Victim, alpn: str) -> ssl.SSLSocket:
    context = ssl.create_default_context(cadata=victim.ca.decode())
    context.set_alpn_protocols([alpn])
    plain = socket.create_connection(("127.0.0.1", victim.port), 30)
    try:
        return context.wrap_socket(plain, server_hostname="127.0.0.1")
    except BaseException:
        plain.close()
        raise


def run(victim: Victim, attack: Attack, connections: int) -> list[int]:
    """The bytes that each of so many attackers, all at once, could send before it was cut off."""

    def one(_: int) -> int:
        with connect(victim, attack.alpn) as sock:
            return attack.behave(sock, attack)

    with ThreadPoolExecutor(connections) as pool:
        return list(pool.map(one, range(connections)))


def flood(sock: ssl.SSLSocket, attack: Attack, pieces: Iterator[bytes], *, read: bool = True, pace: float = 0) -> int:
    """Send `pieces` until the server ends the connection; `read` its answers, or leave them."""
    sent = 0
    deadline = time.monotonic() + attack.seconds
    sock.setblocking(False)
    left = b""
    while time.monotonic() < deadline and sent <= attack.most:
        left = left or next(pieces, b"")
        try:
            if read and not _drained(sock):
                return sent
            if left:
                size = sock.send(left)
                sent, left = sent + size, left[size:]
            if not read and _reset(sock):
                return sent
            if pace or not left:
                time.sleep(pace or 0.01)
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError, BlockingIOError):
            select.select([sock] if read else [], [sock] if left else [], [], 0.05)
        except CUT:
            return sent
    raise NotCut(f"{attack.name}: {sent} bytes sent, and the connection is still there")


def _drained(sock: ssl.SSLSocket) -> bool:
    """Read what there is; False at the end."""
    try:
        while True:
            if not sock.recv(65536):
                return False
    except (ssl.SSLWantReadError, BlockingIOError):
        return True


def _reset(sock: ssl.SSLSocket) -> bool:
    poller = select.poll()
    poller.register(sock, select.POLLRDHUP)
    return bool(poller.poll(0))  # POLLERR and POLLHUP come unasked


# -- the attacks -------------------------------------------------------------------------------------------------------


def forever(piece: bytes) -> Iterator[bytes]:
    while True:
        yield piece


def slow_loris(sock: ssl.SSLSocket, attack: Attack) -> int:
    def head() -> Iterator[bytes]:
        yield b"GET /pods HTTP/1.1\r\n"
        yield from forever(b"x")

    return flood(sock, attack, head(), pace=0.1)


def huge_header(sock: ssl.SSLSocket, attack: Attack) -> int:
    def head() -> Iterator[bytes]:
        yield b"GET /pods HTTP/1.1\r\nx: "
        yield from forever(b"y" * 65536)

    return flood(sock, attack, head())


def many_headers(sock: ssl.SSLSocket, attack: Attack) -> int:
    def head() -> Iterator[bytes]:
        yield b"GET /pods HTTP/1.1\r\n"
        yield from forever(b"x: y\r\n" * 4096)

    return flood(sock, attack, head())


def oversized_body(sock: ssl.SSLSocket, attack: Attack) -> int:
    def body() -> Iterator[bytes]:
        yield b"POST /run/default/demo/main?cmd=true HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        yield from forever(b"10000\r\n" + b"z" * 65536 + b"\r\n")

    return flood(sock, attack, body())


def upgraded(sock: ssl.SSLSocket, headers: list[tuple[str, str]], method: str) -> None:
    lines = [f"{method} /exec/default/demo/main?command=cat&input=1&output=1 HTTP/1.1", "Host: x"]
    lines += [f"{name}: {value}" for name, value in headers]
    sock.sendall("\r\n".join([*lines, "", ""]).encode())
    head = b""
    while b"\r\n\r\n" not in head:
        head += sock.recv(1)
    assert head.startswith(b"HTTP/1.1 101 "), head


def spdy(pieces: Callable[[RawPeer], Iterator[bytes]], *, read: bool = True) -> Behaviour:
    def behave(sock: ssl.SSLSocket, attack: Attack) -> int:
        headers = [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"), ("Content-Length", "0")]
        upgraded(sock, [*headers, ("X-Stream-Protocol-Version", "v4.channel.k8s.io")], "POST")
        with _RECORDING:  # once, and not by every attacker
            recorded = _recorded(pieces)
        return flood(sock, attack, iter(recorded), read=read)

    return behave


_RECORDING = threading.Lock()


@functools.cache
def _recorded(pieces: Callable[[RawPeer], Iterator[bytes]]) -> list[bytes]:
    """More than any server should take, made once: every connection begins with the same state of compression."""
    return list(itertools.islice(pieces(RawPeer()), 130))


def over_websocket(
    pieces: Callable[[], Iterator[bytes]], *, read: bool = True
) -> Callable[[ssl.SSLSocket, Attack], int]:
    def behave(sock: ssl.SSLSocket, attack: Attack) -> int:
        upgraded(sock, websocket_headers(["v5.channel.k8s.io"]), "GET")
        return flood(sock, attack, pieces(), read=read)

    return behave


def zlib_bomb(peer: RawPeer) -> Iterator[bytes]:
    """60 KiB that inflate to 60 MiB."""
    bomb = zlib.compressobj(9, zlib.DEFLATED, 15, 9, 0, DICTIONARY)
    block = bomb.compress(wire.u32(1, 1) + b"x" + wire.u32(60 * MIB) + bytes(60 * MIB)) + bomb.flush(zlib.Z_SYNC_FLUSH)
    yield wire.control(1, wire.u32(1, 0) + b"\0\0" + block)


def lying_counts(peer: RawPeer) -> Iterator[bytes]:
    """CVE-2026-35469: a count of 2^32 - 1 in a few bytes, three times."""
    yield peer.syn_stream(1, {"streamtype": "error"})
    yield wire.control(
        1, wire.u32(3, 0) + b"\0\0" + peer.compress(wire.u32(0xFFFFFFFF, 1) + b"x" + wire.u32(0xFFFFFFF0))
    )
    yield wire.settings([], count=0xFFFFFFFF)


def huge_control_frame(peer: RawPeer) -> Iterator[bytes]:
    yield struct.pack(">II", 0x80030001, 0xFFFFFF)
    yield from forever(bytes(65536))


def stream_flood(peer: RawPeer) -> Iterator[bytes]:
    number = 1
    while True:
        yield b"".join(peer.syn_stream(number + 2 * each, {"streamtype": "x"}) for each in range(100))
        number += 200


def rapid_reset(peer: RawPeer) -> Iterator[bytes]:
    number = 1
    while True:
        ids = range(number, number + 200, 2)
        yield b"".join(peer.syn_stream(each, {"streamtype": "x"}) + wire.rst(each) for each in ids)
        number += 200


def spdy_pings(peer: RawPeer) -> Iterator[bytes]:
    number = 1
    while True:
        yield b"".join(wire.ping(number + 2 * each) for each in range(1000))
        number += 2000


def settings_flood(peer: RawPeer) -> Iterator[bytes]:
    return forever(wire.settings([(4, 100, 0)]) * 1000)


def websocket_pings() -> Iterator[bytes]:
    return forever(wsframes.frame(9, bytes(125), key=KEY) * 500)


def empty_fragments() -> Iterator[bytes]:
    yield wsframes.frame(2, b"\x00x", fin=False, key=KEY)
    yield from forever(wsframes.frame(0, b"", fin=False, key=KEY) * 1000)


def endless_frame() -> Iterator[bytes]:
    yield wsframes.header(2, (1 << 62), masked=True) + KEY
    yield from forever(bytes(65536))


_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04\x00" + bytes(4)
_PODS = b"\x82\x87\x84\x41\x01x"  # GET https / x, in HPACK


def _h2(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def http2(pieces: Callable[[], Iterator[bytes]], *, read: bool = True) -> Behaviour:
    def behave(sock: ssl.SSLSocket, attack: Attack) -> int:
        assert sock.selected_alpn_protocol() == "h2"
        sock.sendall(_PREFACE)
        return flood(sock, attack, pieces(), read=read)

    return behave


def http2_rapid_reset() -> Iterator[bytes]:
    """CVE-2023-44487."""
    number = 1
    while True:
        ids = range(number, number + 200, 2)
        yield b"".join(_h2(1, 5, each, _PODS) + _h2(3, 0, each, struct.pack(">I", 8)) for each in ids)
        number += 200


def http2_pings() -> Iterator[bytes]:
    """CVE-2019-9512."""
    return forever(_h2(6, 0, 0, bytes(8)) * 1000)


def http2_settings() -> Iterator[bytes]:
    """CVE-2019-9515."""
    return forever(_h2(4, 0, 0) * 1000)


def http2_continuations() -> Iterator[bytes]:
    """CVE-2024-27316: headers that never end."""
    yield _h2(1, 1, 1, _PODS)
    yield from forever(_h2(9, 0, 1, b"\x00\x01a\x01b" * 1000))


ATTACKS = [
    Attack("slow heads", slow_loris, most=2000, seconds=40),
    Attack("a header without end", huge_header),
    Attack("headers without end", many_headers),
    Attack("a body without end", oversized_body),
    Attack("a zlib bomb", spdy(zlib_bomb)),
    Attack("lying counts", spdy(lying_counts)),
    Attack("a control frame of 16 MiB", spdy(huge_control_frame)),
    Attack("streams without end", spdy(stream_flood)),
    Attack("rapid resets", spdy(rapid_reset)),
    Attack("pings", spdy(spdy_pings)),
    Attack("pings whose answers stay unread", spdy(spdy_pings, read=False)),
    Attack("settings", spdy(settings_flood)),
    Attack("WebSocket pings", over_websocket(websocket_pings)),
    # What comes while the server waits for the end of the connection (`Timeouts.linger`) is read and dropped.
    Attack("WebSocket pings whose answers stay unread", over_websocket(websocket_pings, read=False), most=512 * MIB),
    Attack("empty fragments", over_websocket(empty_fragments)),
    Attack("a frame of 2^62 bytes", over_websocket(endless_frame)),
    Attack("HTTP/2 rapid resets", http2(http2_rapid_reset), alpn="h2"),
    Attack("HTTP/2 pings", http2(http2_pings), alpn="h2"),
    Attack("HTTP/2 pings whose answers stay unread", http2(http2_pings, read=False), alpn="h2"),
    Attack("HTTP/2 settings", http2(http2_settings), alpn="h2"),
    Attack("HTTP/2 headers without end", http2(http2_continuations), alpn="h2"),
]


def broken_connections(victim: Victim, count: int) -> None:
    """Connections that come to nothing: closed at once, garbage in place of TLS, a handshake begun, 401s and 404s."""
    garbage = (b"", b"GET / HTTP/1.1\r\n\r\n", bytes(100), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50))

    def one(number: int) -> None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", victim.port), 30) as sock:
            sock.settimeout(30)
            sock.sendall(garbage[number % len(garbage)])
            if number % 3 == 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if number % 10 == 0:
            with contextlib.suppress(*CUT), connect(victim, "http/1.1") as tls:
                tls.sendall(b"GET /exec/no/such/pod HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer wrong\r\n\r\n")
                tls.recv(100)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(one, range(count)))

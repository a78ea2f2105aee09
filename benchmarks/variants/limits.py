"""The limits: what the standard library's own TLS socket costs for the same bytes, from and to the same peer.

Dial, upgrade and the opening of the streams are those of any client, so that the peer cannot tell. Then nothing is
looked at any more: a download is ``recv_into`` until the end, an upload is ``sendall`` of frames that were made before.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
import ssl
import struct
import time
from typing import Any
from urllib.parse import urlencode, urlsplit

from benchmarks.variants.meter import UNIT, Consumer, Meter, command
from spdyproto.channels.events import Exited, Lost, Output, StreamKind, StreamSet, Transport
from spdyproto.channels.session import ClientSession
from spdyproto.channels.subprotocols import Subprotocol
from spdyproto.spdy.constants import FLAG_FIN

Target = dict[str, str]
_READ = 64 * 1024
_FRAME = 65528
_MESSAGE = 65527


def context_for(target: Target) -> ssl.SSLContext:
    """A plain context: TLS of the standard library with nothing done to it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(target["ca"])
    context.load_cert_chain(target["cert"], target["key"])
    return context


def _request(target: Target, argv: list[str], *, stdin: bool, websocket: bool = False) -> bytes:
    query = urlencode([*(("command", word) for word in argv), ("output", "1"), *([("input", "1")] if stdin else [])])
    lines = [
        f"{'GET' if websocket else 'POST'} /exec/default/demo/main?{query} HTTP/1.1",
        f"Host: {urlsplit(target['url']).netloc}",
        "Connection: Upgrade",
    ]
    if websocket:
        lines += ["Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Protocol: {Subprotocol.V4}"]
        lines += [f"Sec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}"]
    else:
        lines += ["Upgrade: SPDY/3.1", f"X-Stream-Protocol-Version: {Subprotocol.V4}"]
    return "\r\n".join([*lines, "", ""]).encode()


def _streams(*, stdin: bool) -> StreamSet:
    return StreamSet(stdin=stdin, stdout=True, stderr=False)


class RawSession:
    """An opened exec whose frames, of SPDY or WebSocket, are the caller's to read and write."""

    def __init__(
        self,
        target: Target,
        context: ssl.SSLContext,
        argv: list[str],
        *,
        stdin: bool = False,
        websocket: bool = False,
    ) -> None:
        where = urlsplit(target["url"])
        plain = socket.create_connection((where.hostname or "", where.port or 443))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = context.wrap_socket(plain, server_hostname=where.hostname)
        self.sock.sendall(_request(target, argv, stdin=stdin, websocket=websocket))
        head = b""
        while b"\r\n\r\n" not in head:
            head += self._more()
        transport = Transport.WEBSOCKET if websocket else Transport.SPDY
        self.session = ClientSession(Subprotocol.V4, _streams(stdin=stdin), transport=transport)
        self.session.start(time.monotonic())
        self.sock.sendall(b"".join(self.session.data_to_send()))
        data = head.partition(b"\r\n\r\n")[2]
        self.surplus = len(data)
        if self.session.ready:
            self.session.receive_data(data, time.monotonic())
        while not self.session.ready:
            self.session.receive_data(data, time.monotonic())
            data = b"" if self.session.ready else self._more()
            self.surplus += len(data)

    def _more(self) -> bytes:
        data = self.sock.recv(_READ)
        if not data:
            raise ConnectionError("the peer closed the connection before the streams were open")
        return data

    def stdin_id(self) -> int:
        """The stream id of stdin: the header of a frame that is made for it and never sent tells."""
        self.session.write_stdin(b"x")
        (first, *_) = self.session.data_to_send()
        return int(struct.unpack_from(">I", first)[0])

    def finish(self) -> bytes:
        """Read to the end; what came on stdout. Raises ConnectionError unless the command exited with 0."""
        output = b""
        while True:
            for event in self.session.receive_data(self._more(), time.monotonic()):
                if isinstance(event, Output) and event.kind is StreamKind.STDOUT:
                    output += bytes(event.data)
                elif isinstance(event, Exited | Lost):
                    if isinstance(event, Lost) or event.status.code:
                        raise ConnectionError(f"the session ended with {event}")
                    self.sock.close()
                    return output


def download(
    target: Target, argv: list[str], size: int, warm: int = 0, pause: float = 0.0, connections: int = 1,
    dial: str = "first", websocket: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """``recv_into(64 KiB)`` until the connection ends.

    Several connections are read one after another, each to its end. With ``dial="first"`` all are open before the
    clock starts, and then all are told to send; with ``"each"`` one is dialled when the one before is done.
    """
    context = context_for(target)
    if warm:
        _read_to_end(RawSession(target, context, command(argv, warm), websocket=websocket), warm, 0.0)
    share = size // connections
    words = command(argv, share)
    before = connections if connections > 1 and dial == "first" else 0
    ready = [RawSession(target, context, [*words, "wait"], stdin=True) for _ in range(before)]
    with Meter() as meter:
        for session in ready:
            session.sock.sendall(struct.pack(">II", session.stdin_id(), 1) + b"!")
        for number in range(connections):
            session = ready[number] if ready else RawSession(target, context, words, websocket=websocket)
            _read_to_end(session, share, pause)
    return meter.answer(share * connections)


def _read_to_end(raw: RawSession, size: int, pause: float) -> None:
    buffer = bytearray(_READ)
    receive = raw.sock.recv_into
    consumer = Consumer(pause=pause)
    view = memoryview(buffer)
    total = raw.surplus
    while count := receive(buffer):
        total += count
        if pause:
            consumer.take(view[:count])
    raw.sock.close()
    if total < size:
        raise ValueError(f"{total} raw bytes came, less than the {size} bytes of payload")


def upload(target: Target, argv: list[str], size: int, warm: int = 0, websocket: bool = False) -> dict[str, Any]:
    """``sendall(256 KiB)`` of ready-made frames, each of which fills its TLS records exactly.

    Over WebSocket the command is told how much comes, as ``{size}``: stdin has no end there.
    """
    context = context_for(target)
    frames = UNIT // 65536
    batch_payload = frames * (_MESSAGE if websocket else _FRAME)

    def send(wanted: int) -> int:
        rounds = -(-wanted // batch_payload)
        words = command(argv, rounds * batch_payload)
        raw = RawSession(target, context, words, stdin=True, websocket=websocket)
        if websocket:
            head = struct.pack(">BBHI", 0x82, 0x80 | 126, _MESSAGE + 1, 0x5A17C3E9)
            return _send(raw, (head + bytes(_MESSAGE + 1)) * frames, rounds, batch_payload, b"")
        stream = raw.stdin_id()
        batch = (struct.pack(">II", stream, _FRAME) + bytes(_FRAME)) * frames
        return _send(raw, batch, rounds, batch_payload, struct.pack(">II", stream, FLAG_FIN << 24))

    if warm:
        send(warm)
    with Meter() as meter:
        sent = send(size)
    return meter.answer(sent)


def _send(raw: RawSession, batch: bytes, rounds: int, payload: int, end: bytes) -> int:
    send = raw.sock.sendall
    for _ in range(rounds):
        send(batch)
    if end:
        send(end)
    counted = int(raw.finish())
    if counted != rounds * payload:
        raise ValueError(f"the peer counted {counted} bytes of {rounds * payload}")
    return counted


def echo(target: Target, count: int, size: int = 64) -> dict[str, Any]:
    """Round trips of one small frame over a blocking TLS socket, both frames ready-made."""
    raw = RawSession(target, context_for(target), ["echo"], stdin=True)
    frame = struct.pack(">II", raw.stdin_id(), size) + bytes(size)
    times = []
    for _ in range(count):
        start = time.perf_counter()
        raw.sock.sendall(frame)
        missing = len(frame)
        while missing:
            missing -= len(raw.sock.recv(missing))
        times.append(time.perf_counter() - start)
    raw.sock.close()
    return echo_answer(times, size)


def echo_answer(times: list[float], size: int) -> dict[str, Any]:
    """The answer of every echo variant: times in microseconds, the first tenth left out."""
    kept = sorted(times[len(times) // 10 :])
    p50, p99 = kept[len(kept) // 2], kept[len(kept) * 99 // 100]
    meter = {"bytes": size * len(times), "wall": sum(times), "user": 0.0, "system": 0.0}
    return {**meter, "p50_us": p50 * 1e6, "p99_us": p99 * 1e6}


def echo_streams(target: Target, count: int, size: int = 64) -> dict[str, Any]:
    """The same round trips over asyncio's own streams."""
    return asyncio.run(_echo_streams(target, count, size))


async def _echo_streams(target: Target, count: int, size: int) -> dict[str, Any]:
    where = urlsplit(target["url"])
    reader, writer = await asyncio.open_connection(where.hostname, where.port, ssl=context_for(target))
    writer.write(_request(target, ["echo"], stdin=True))
    await reader.readuntil(b"\r\n\r\n")
    session = ClientSession(Subprotocol.V4, _streams(stdin=True))
    session.start(time.monotonic())
    writer.write(b"".join(session.data_to_send()))
    while not session.ready:
        session.receive_data(await reader.read(_READ), time.monotonic())
    session.write_stdin(b"x")
    (first, *_) = session.data_to_send()
    frame = struct.pack(">II", struct.unpack_from(">I", first)[0], size) + bytes(size)
    times = []
    for _ in range(count):
        start = time.perf_counter()
        writer.write(frame)
        await writer.drain()
        await reader.readexactly(len(frame))
        times.append(time.perf_counter() - start)
    writer.transport.abort()
    return echo_answer(times, size)


def digest_of_source(target: Target, argv: list[str], size: int) -> dict[str, Any]:
    """The SHA-256 of stdout, computed by the session engine over the plain TLS socket; for checking the peer itself."""
    raw = RawSession(target, context_for(target), command(argv, size))
    return {"sha256": hashlib.sha256(raw.finish()).hexdigest()}

"""A peer that is not the brake: it writes ready-made frames as fast as TLS allows, and reads without looking.

``python -m benchmarks.peers.wire CERTIFICATE KEY`` listens on a free port of 127.0.0.1 and prints one JSON line with
its ``url``. The line ``cpu`` on stdin is answered by one JSON line with its processor seconds; it ends with its stdin.

Theory of operation. One thread serves every connection from one selector: threads would fight for the interpreter. HTTP
and the opening of a session, over SPDY or WebSocket, go through the real server engine (``ServerSession``), so that any
client can run through it. Then a
download leaves the engine: the frames of one batch are made once, cut once into the records of a ``Pattern``, and then
encrypted again and again; one ``send`` carries a whole batch, or, with the flush ``record``, one record, as Go does.
Its TLS pump is its own and not ``spdyproto.tls``: a peer that shares the code under test would get faster with it.

Commands: ``dump PATTERN BYTES batch|record [wait]`` (exactly BYTES of stdout, with ``wait`` from the first byte of
stdin on), ``sink`` (counts stdin, prints the count), ``take BYTES`` (over WebSocket, where stdin has no end: prints the
count when so many bytes have come; their mask stays on),
``echo`` (stdin to stdout), ``burst N`` (N bytes of stdout for each ``?`` that comes alone; ends with stdin).
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import selectors
import socket
import ssl
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from benchmarks.peers.patterns import PATTERNS, Pattern, cut_into_records
from spdyproto.channels.events import Lost, Ready, Stdin, StdinEnded, StreamKind, StreamSet, Transport
from spdyproto.channels.session import ServerSession
from spdyproto.channels.status import ExitStatus
from spdyproto.channels.subprotocols import Subprotocol
from spdyproto.channels.upgrade import upgrade_response
from spdyproto.limits import MIB, Deadlines, Limits
from spdyproto.websocket.handshake import negotiate_websocket, wants_websocket

_READ: Final = memoryview(bytearray(MIB))
_PLAIN: Final = memoryview(bytearray(MIB))
_RECORD: Final = 16384
_TURN: Final = 2 * MIB
"""Bytes that one connection may send before the others get their turn."""

BLOCK: Final = random.Random(2).randbytes(MIB)
"""What is sent, over and over: incompressible, and any piece of it that is lost or displaced changes the digest."""


def expected_digest(pattern: Pattern, size: int) -> str:
    """The SHA-256, in hex, of what ``dump`` sends."""
    digest, unit = hashlib.sha256(), _payload(pattern)
    while size > 0:
        digest.update(unit[:size])
        size -= len(unit)
    return digest.hexdigest()


def _payload(pattern: Pattern) -> memoryview:
    return memoryview(BLOCK)[: pattern.payload * pattern.frames_per_batch]


class Connection:
    """One client: TLS, then HTTP, then SPDY, then whatever its command does."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self.sock = sock
        self.closed = False
        self.wants_write = False
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._shaken = False
        self._head = b""
        self._session: ServerSession | None = None
        self._argv: list[str] = []
        self._unsent: memoryview = memoryview(b"")
        self._source: Iterator[list[memoryview]] | None = None
        self._count = 0
        self._skimmer: Skimmer | None = None
        self._over = False

    # -- from the client ---------------------------------------------------------------------------------------------

    def readable(self) -> None:
        """Take in what has come."""
        try:
            size = self.sock.recv_into(_READ)
        except BlockingIOError:
            return
        if not size:
            self.closed = True
            return
        self._incoming.write(_READ[:size])
        if not self._shaken:
            try:
                self._tls.do_handshake()
                self._shaken = True
            except ssl.SSLWantReadError:
                pass
        if self._shaken:
            self._decrypt()
        self.writable()

    def _decrypt(self) -> None:
        read: Any = self._tls.read  # typeshed says bytes; into a buffer it is a count
        filled, room = 0, len(_PLAIN) - _RECORD
        while True:
            try:
                count = read(_RECORD, _PLAIN[filled:])
            except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                break
            if not count:
                break
            filled += count
            if filled > room:
                self._take(_PLAIN[:filled])
                filled = 0
        if filled:
            self._take(_PLAIN[:filled])

    def _take(self, data: memoryview) -> None:
        if self._session is None:
            self._head += bytes(data)
            head, end, rest = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            self._upgrade(head)
            data = memoryview(rest)
        session = self._session
        assert session is not None
        if self._skimmer is not None:
            if self._skimmer.feed(data) and not self._over:
                session.write(StreamKind.STDOUT, b"%d\n" % self._skimmer.count)
                self._finish(session)
            return
        for event in session.receive_data(data, time.monotonic()):
            if isinstance(event, Stdin):
                self._stdin(session, event.data)
            elif isinstance(event, Ready):
                self._start(session)
            elif isinstance(event, StdinEnded):
                self._stdin_ended(session)
            elif isinstance(event, Lost):
                self._source = None
        self._encrypt(session.data_to_send())

    def _upgrade(self, head: bytes) -> None:
        target = head.split(b" ", 2)[1].decode()
        query = parse_qs(urlsplit(target).query)
        self._argv = query["command"]
        wanted = {name: query.get(key) == ["1"] for name, key in _FLAGS.items()}
        streams = StreamSet(**wanted)
        version = Subprotocol.V4
        limits = Limits(queued_bytes=64 * MIB)
        if self._argv[0] == "dump":
            limits = Limits(queued_bytes=64 * MIB, data_frame_out=PATTERNS[self._argv[1]].payload)
        headers = [(name, value.strip()) for name, _, value in (line.partition(b":") for line in head.splitlines()[1:])]
        websocket = wants_websocket(headers)
        transport = Transport.WEBSOCKET if websocket else Transport.SPDY
        self._session = ServerSession(version, streams, transport=transport, limits=limits, deadlines=Deadlines())
        opening = self._session.start(time.monotonic())
        self._encrypt([negotiate_websocket(headers, [version]).to_bytes() if websocket else upgrade_response(version)])
        if self._argv[0] == "take":
            self._skimmer = Skimmer(int(self._argv[1]))
        if any(isinstance(event, Ready) for event in opening):
            self._start(self._session)
            self._encrypt(self._session.data_to_send())

    # -- the commands ------------------------------------------------------------------------------------------------

    def _start(self, session: ServerSession) -> None:
        if self._argv[0] == "dump" and "wait" not in self._argv:
            self._start_dump(session)

    def _start_dump(self, session: ServerSession) -> None:
        self._encrypt(session.data_to_send())  # the replies to the streams come first
        name, size, flush = self._argv[1:4]
        self._source = self._dump(session, PATTERNS[name], int(size), by_record=flush == "record")

    def _dump(
        self, session: ServerSession, pattern: Pattern, size: int, *, by_record: bool
    ) -> Iterator[list[memoryview]]:
        payload = _payload(pattern)
        whole, rest = divmod(size, len(payload))
        pieces = cut_into_records(_frames(session, payload), pattern.records)
        turn = [[piece] for piece in pieces] if by_record else [pieces]
        for _ in range(whole):
            yield from turn
        if rest:
            yield cut_into_records(_frames(session, payload[:rest]), pattern.records)
        self._finish(session)

    def _stdin(self, session: ServerSession, data: memoryview) -> None:
        self._count += len(data)
        if self._argv[0] == "echo":
            session.write(StreamKind.STDOUT, bytes(data))
        elif self._argv[0] == "dump" and self._source is None and not self._over:
            self._start_dump(session)
        elif self._argv[0] == "burst" and bytes(data) == b"?":
            session.write(StreamKind.STDOUT, memoryview(BLOCK)[: int(self._argv[1])])

    def _stdin_ended(self, session: ServerSession) -> None:
        if self._argv[0] == "sink":
            session.write(StreamKind.STDOUT, b"%d\n" % self._count)
        if self._argv[0] != "dump" and not self._over:
            self._finish(session)

    def _finish(self, session: ServerSession) -> None:
        for kind in (StreamKind.STDOUT, StreamKind.STDERR):
            session.end_output(kind)
        session.finish(ExitStatus.success())
        self._encrypt(session.data_to_send())
        self._over = True

    # -- to the client -----------------------------------------------------------------------------------------------

    def _encrypt(self, segments: Iterable[bytes | bytearray | memoryview]) -> None:
        data = b"".join(segments)
        if data:
            self._tls.write(data) if len(data) <= _RECORD else self._encrypt_long(memoryview(data))

    def _encrypt_long(self, data: memoryview) -> None:
        while data:
            data = data[self._tls.write(data) :]

    def writable(self) -> None:
        """Send what there is, and make more while the socket takes it."""
        write, turn = self._tls.write, 0
        while turn < _TURN:
            if not self._flush():
                return
            if self._source is None:
                break
            pieces = next(self._source, None)
            if pieces is None:
                self._source = None
                continue
            for piece in pieces:
                turn += write(piece)
        self.wants_write = self._source is not None or bool(self._outgoing.pending)
        if self._over and not self.wants_write and self._source is None:
            self._say_goodbye()

    def _flush(self) -> bool:
        """True when everything that was encrypted has left."""
        if not self._unsent:
            if not self._outgoing.pending:
                return True
            self._unsent = memoryview(self._outgoing.read())
        try:
            self._unsent = self._unsent[self.sock.send(self._unsent) :]
        except BlockingIOError:
            pass
        self.wants_write = bool(self._unsent) or bool(self._outgoing.pending)
        return not self.wants_write

    def _say_goodbye(self) -> None:
        self._over = False
        try:
            self._tls.unwrap()
        except ssl.SSLError:  # it wants the client's answer, which nobody waits for
            pass
        self._flush()
        self.sock.shutdown(socket.SHUT_WR)


class Skimmer:
    """Counts the payload of a client's WebSocket messages by their headers alone."""

    def __init__(self, wanted: int) -> None:
        self.count = 0
        self._wanted = wanted
        self._head = b""
        self._left = 0

    def feed(self, data: memoryview) -> bool:
        """True when all has come."""
        position = 0
        while position < len(data):
            if self._left:
                step = min(self._left, len(data) - position)
                self._left -= step
                position += step
                continue
            head = self._head + bytes(data[position : position + 14 - len(self._head)])
            size = _HEADER_SIZES.get(head[1] & 0x7F, 6) if len(head) > 1 else 14
            if len(head) < size:
                self._head = head
                break
            position += size - len(self._head)
            self._head = b""
            length = int.from_bytes(head[2 : size - 4], "big") if size > 6 else head[1] & 0x7F
            self._left = length
            if head[0] & 0x0F < 8 and length:
                self.count += length - 1  # the first byte names the channel
        return self.count >= self._wanted and not self._left


_HEADER_SIZES: Final = {126: 8, 127: 14}
"""By the length's first form; others have 6 bytes, the key of the mask included."""

_FLAGS: Final = {"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"}


def _frames(session: ServerSession, payload: memoryview) -> bytes:
    """The DATA frames of ``payload`` on stdout, as the engine itself makes them."""
    session.write(StreamKind.STDOUT, payload)
    return b"".join(session.data_to_send())


class Server:
    """The selector loop."""

    def __init__(self, certificate: str, key: str) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._context.num_tickets = 0
        self._context.set_alpn_protocols(["http/1.1"])
        self._context.load_cert_chain(certificate, key)
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self._listener.setblocking(False)
        self._running = True

    def run(self) -> None:
        """Serve until stdin ends."""
        address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        say({"url": f"https://{address}", "addr": address, "pid": os.getpid()})
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ, None)
        while self._running:
            for key, mask in self._selector.select():
                if isinstance(key.data, Connection):
                    self._serve(key.data, key.events, mask)
                elif key.fileobj is self._listener:
                    self._accept()
                else:
                    self._running = answer_line()

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector.register(sock, selectors.EVENT_READ, Connection(sock, self._context))

    def _serve(self, connection: Connection, registered: int, mask: int) -> None:
        try:
            if mask & selectors.EVENT_READ:
                connection.readable()
            if mask & selectors.EVENT_WRITE and not connection.closed:
                connection.writable()
        except OSError:  # the connection is gone, or its TLS is broken
            connection.closed = True
        if connection.closed:
            self._selector.unregister(connection.sock)
            connection.sock.close()
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.wants_write else 0)
        if wanted != registered:
            self._selector.modify(connection.sock, wanted, connection)


def say(message: dict[str, object]) -> None:
    """One JSON line for the process that started this one."""
    print(json.dumps(message), flush=True)


def answer_line() -> bool:
    """Answer one line of stdin; False at its end."""
    line = sys.stdin.readline()
    if not line:
        return False
    if line.strip() != "cpu":
        raise ValueError(f"stdin: expected the line cpu, got {line!r}")
    used = resource.getrusage(resource.RUSAGE_SELF)
    say({"user": used.ru_utime, "system": used.ru_stime, "max_rss_kib": used.ru_maxrss})
    return True


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    Server(*sys.argv[1:]).run()

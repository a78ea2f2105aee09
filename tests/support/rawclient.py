"""A client of a kubelet for tests of servers: standard ssl, h11 and the client's engine, blocking, nothing clever.

It shares no code with ``kubeletclient``, so a fault there cannot hide one in a server.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import socket
import ssl
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol
from urllib.parse import quote, urlsplit

import h11

from spdyproto.channels.events import Exited, Lost, Output, SessionEvent, StreamKind, StreamSet, Transport
from spdyproto.channels.session import ClientSession
from spdyproto.channels.subprotocols import CRI_SPDY, Subprotocol

TIMEOUT = 30.0
"""Of every socket call: a server that hangs fails the test, and does not hang it."""


class Identity(Protocol):
    """A client certificate with its key, PEM."""

    @property
    def cert_pem(self) -> bytes: ...

    @property
    def key_pem(self) -> bytes: ...


@dataclass
class Answer:
    """An HTTP answer as it came."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes
    surplus: bytes = b""
    closed: bool = False  # the server closed the connection behind it

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]


@dataclass
class Result:
    """What an exec gave."""

    outcome: Exited | Lost
    stdout: bytes = b""
    stderr: bytes = b""
    order: list[StreamKind] = field(default_factory=list)

    @property
    def code(self) -> int | None:
        assert isinstance(self.outcome, Exited), self.outcome
        return self.outcome.status.code

    @property
    def message(self) -> str:
        assert isinstance(self.outcome, Exited), self.outcome
        return self.outcome.status.message


def connect(
    url: str, ca: bytes, identity: Identity | None = None, *, receive_buffer: int = 0, **options: str
) -> ssl.SSLSocket:
    """A verified TLS connection; `options` may hold `server_hostname`. `receive_buffer` is what its socket may hold."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    context = ssl.create_default_context(cadata=ca.decode())
    if identity is not None:
        with tempfile.TemporaryDirectory() as folder:
            pair = Path(folder, "pair.pem")
            pair.write_bytes(identity.cert_pem + identity.key_pem)
            context.load_cert_chain(pair)
    plain = socket.socket(socket.AF_INET6 if ":" in parts.hostname else socket.AF_INET)
    plain.settimeout(TIMEOUT)
    try:
        if receive_buffer:  # before the handshake of TCP, which tells it to the server
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        plain.connect((parts.hostname, parts.port or 443))
        return context.wrap_socket(plain, server_hostname=options.get("server_hostname", parts.hostname))
    except BaseException:
        plain.close()
        raise


class HttpClient:
    """Requests on one connection."""

    def __init__(self, sock: ssl.SSLSocket, host: str = "kubelet.test") -> None:
        self.sock = sock
        self._host = host
        self._http = h11.Connection(h11.CLIENT)

    def __enter__(self) -> HttpClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sock.close()

    def request(
        self, method: str, target: str, headers: Iterable[tuple[str, str]] = (), body: bytes = b"", early: bytes = b""
    ) -> Answer:
        """Send a request (and `early` bytes right behind it) and read its whole answer."""
        lines = [("Host", self._host), *headers]
        if body or method == "POST":
            lines.append(("Content-Length", str(len(body))))
        output = self._http.send(h11.Request(method=method, target=target, headers=lines)) or b""
        if body:
            output += self._http.send(h11.Data(data=body)) or b""
        output += self._http.send(h11.EndOfMessage()) or b""
        self.sock.sendall(output + early)
        return self._read()

    def _read(self) -> Answer:
        answer = Answer(0, "", [], b"")
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                try:
                    self._http.receive_data(self.sock.recv(65536))
                except (ConnectionError, ssl.SSLEOFError):
                    self._http.receive_data(b"")
            elif isinstance(event, h11.InformationalResponse | h11.Response):
                answer.status, answer.reason = event.status_code, event.reason.decode()
                answer.headers = [(key.decode(), value.decode()) for key, value in event.headers.raw_items()]
                if event.status_code == 101:
                    answer.surplus = self._http.trailing_data[0]
                    return answer
            elif isinstance(event, h11.Data):
                answer.body += event.data
            elif isinstance(event, h11.EndOfMessage):
                answer.closed = self._http.our_state is h11.MUST_CLOSE
                if not answer.closed and self._http.their_state is h11.DONE:
                    self._http.start_next_cycle()
                return answer
            else:
                raise AssertionError(f"unexpected in an answer: {event}")


def exec_target(
    argv: Sequence[str] | None,
    *,
    path: str = "default/demo/main",
    streams: StreamSet | None = None,
    flags: str | None = None,
) -> str:
    """The address of an exec, or of an attach if there is no command; `flags` replaces what `streams` would say."""
    streams = streams or StreamSet()
    query = [f"command={quote(argument, safe='')}" for argument in argv or ()]
    if flags is not None:
        query.append(flags)
    else:
        names = {"input": streams.stdin, "output": streams.stdout, "error": streams.stderr, "tty": streams.tty}
        query += [f"{name}=1" for name, wanted in names.items() if wanted]
    return f"/{'attach' if argv is None else 'exec'}/{path}?{'&'.join(query)}"


def upgrade_headers(protocols: Iterable[str] = CRI_SPDY) -> list[tuple[str, str]]:
    """What makes a request an upgrade to SPDY/3.1."""
    return [
        ("Connection", "Upgrade"),
        ("Upgrade", "SPDY/3.1"),
        *(("X-Stream-Protocol-Version", str(protocol)) for protocol in protocols),
    ]


KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # of RFC 6455 section 1.3, and what answers it
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def websocket_headers(
    protocols: Sequence[str] = (), *, key: str | None = KEY, version: str | None = "13", extra: Sequence[str] = ()
) -> list[tuple[str, str]]:
    """What makes a request a WebSocket handshake; `extra` goes into the list of subprotocols too."""
    headers = [("Connection", "Upgrade"), ("Upgrade", "websocket")]
    if key is not None:
        headers.append(("Sec-WebSocket-Key", key))
    if version is not None:
        headers.append(("Sec-WebSocket-Version", version))
    offered = [*protocols, *extra]
    if offered:
        headers.append(("Sec-WebSocket-Protocol", ", ".join(offered)))
    return headers


DIALECTS = {
    "": (Subprotocol.V1, Transport.WEBSOCKET),
    "channel.k8s.io": (Subprotocol.V1, Transport.WEBSOCKET),
    "base64.channel.k8s.io": (Subprotocol.V1, Transport.WEBSOCKET_BASE64),
    "v4.channel.k8s.io": (Subprotocol.V4, Transport.WEBSOCKET),
    "v4.base64.channel.k8s.io": (Subprotocol.V4, Transport.WEBSOCKET_BASE64),
    "v5.channel.k8s.io": (Subprotocol.V5, Transport.WEBSOCKET),
}


class ExecClient:
    """One exec or attach, driven step by step."""

    def __init__(self, sock: ssl.SSLSocket, session: ClientSession) -> None:
        self.sock = sock
        self.session = session
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.order: list[StreamKind] = []
        self.outcome: Exited | Lost | None = None
        self.keep = True  # False: count outputs, do not keep them

    def __enter__(self) -> ExecClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sock.close()

    @classmethod
    def open(
        cls,
        sock: ssl.SSLSocket,
        argv: Sequence[str] | None,
        *,
        streams: StreamSet | None = None,
        path: str = "default/demo/main",
        protocols: Iterable[str] = CRI_SPDY,
        method: str = "POST",
        websocket: str | None = None,
        tty: bool | None = None,
        target: str | None = None,
    ) -> ExecClient:
        """Upgrade, open the streams, and wait until every one was replied to. Without `argv` it is an attach.

        `target` is the address at another server than a kubelet.
        `websocket` names the only subprotocol that is asked for, "" for none. `tty` opens the streams of a terminal,
        or not, whatever the request says.
        """
        streams = streams or StreamSet()
        http = HttpClient(sock)
        target = target or exec_target(argv, path=path, streams=streams)
        if tty is not None:
            streams = StreamSet(streams.stdin, streams.stdout, streams.stderr and not tty, tty)
        if websocket is None:
            answer = http.request(method, target, upgrade_headers(protocols))
            assert answer.status == 101, answer
            (protocol,) = answer.values("X-Stream-Protocol-Version")
            version, transport = Subprotocol(protocol), Transport.SPDY
        else:
            key = base64.b64encode(secrets.token_bytes(16)).decode()
            offered = [websocket] if websocket else []
            answer = http.request("GET", target, websocket_headers(offered, key=key))
            assert answer.status == 101, answer
            (accept,) = answer.values("Sec-WebSocket-Accept")
            digest = hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False)
            assert base64.b64decode(accept) == digest.digest()
            assert answer.values("Sec-WebSocket-Protocol") == [websocket]
            version, transport = DIALECTS[websocket]
        client = cls(sock, ClientSession(version, streams, transport=transport, keepalive=None))
        client._note(client.session.start(time.monotonic()))
        client.flush()
        if answer.surplus:
            client._take(answer.surplus)
        client.pump_until(lambda: client.session.ready or client.outcome is not None)
        return client

    def flush(self) -> None:
        """Send what is queued."""
        segments = self.session.data_to_send()
        if segments:
            self.sock.sendall(b"".join(segments))

    def _take(self, data: bytes) -> None:
        self._note(self.session.receive_data(data, time.monotonic()))

    def _note(self, events: Iterable[SessionEvent]) -> None:
        for event in events:
            if isinstance(event, Output):
                self.order.append(event.kind)
                if self.keep:
                    (self.stdout if event.kind is StreamKind.STDOUT else self.stderr).extend(event.data)
            elif isinstance(event, Exited | Lost):
                self.outcome = event

    def pump_until(self, done: Callable[[], bool]) -> None:
        """Read, and answer, until `done`."""
        while not done():
            self.flush()
            data = self.sock.recv(262144)
            if data:
                self._take(data)
            else:
                self._note(self.session.receive_eof(time.monotonic(), clean=True))
                return

    def send(self, data: bytes, *, eof: bool = False) -> None:
        """Write stdin, and end it if `eof`."""
        for start in range(0, len(data), 1 << 20):
            self.session.write_stdin(data[start : start + (1 << 20)])
            self.flush()
        if eof:
            self.session.close_stdin()
            self.flush()

    def finish(self) -> Result:
        """Read to the end of the session."""
        self.pump_until(lambda: self.outcome is not None)
        assert self.outcome is not None, "the connection ended, and the session did not"
        return Result(self.outcome, bytes(self.stdout), bytes(self.stderr), self.order)


def run(
    sock: ssl.SSLSocket,
    argv: Sequence[str],
    *,
    stdin: bytes | None = None,
    tty: bool = False,
    path: str = "default/demo/main",
    protocols: Iterable[str] = CRI_SPDY,
    method: str = "POST",
    websocket: str | None = None,
) -> Result:
    """A whole exec: write all of stdin, end it if the protocol can, then read all of the outputs."""
    streams = StreamSet(stdin=stdin is not None, stderr=not tty, tty=tty)
    with ExecClient.open(
        sock, argv, streams=streams, path=path, protocols=protocols, method=method, websocket=websocket
    ) as client:
        if stdin is not None:
            client.send(stdin, eof=client.session.can_close_stdin)
        return client.finish()

"""One client of a server of this package: TCP below, TLS in the middle, HTTP and then perhaps a session above.

Nothing here knows a kubelet: what answers the requests is the host's ``Application``, and what an upgraded connection
speaks is the ``Session`` that an ``Upgrade`` opens.

Theory of operation. The transport is plain TCP and TLS is pumped here (``spdyproto.tls``), with two scratch buffers
that all connections of the loop share: ciphertext is read into one, plaintext decrypted into the other and handed on
as a view, so that a connection costs little while it is idle and nothing is copied that a command does not keep.
Output is collected by the engine and leaves once per turn of the loop, up to 256 KiB in one write.

A connection goes through phases, each with a deadline: handshake and first head, requests, session, and the end. The
end is slow on purpose: what is queued is flushed, close_notify and FIN are sent, and what the client still sends is
read and dropped until it closes too. Closing a socket with unread data makes TCP reset the connection, and a reset can
destroy output on its way, the exit status with it.

Back-pressure. When the transport's buffer is full nothing is taken from the engine, whose queue then fills and tells
the command to wait; in the HTTP phase no request is taken up, and no piece of a body asked for. A command that does not
take its stdin stops the reading, of everything: that is what a kubelet does too.
"""

from __future__ import annotations

import asyncio
import enum
import os
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Protocol

from fakekubelet.accounting import SessionLog, SessionRecord
from fakekubelet.http1 import Http1Server, HttpServer
from fakekubelet.http2 import Http2Server
from fakekubelet.messages import Application, Request, Upgrade
from fakekubelet.upgrades import How, Session, SessionHost
from spdyproto.types import Buffer

SCRATCH = 256 * 1024
"""Bytes read at once. Larger reads were not faster; smaller ones cost system calls."""

_IOV_MAX = 512  # pieces of one system call; Linux and macOS take 1024
_TLS_ANSWERS = 64 * 1024  # ciphertext that may wait for a client which takes nothing: key updates, no data
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST
_HTTP_STARTS = (b"GET /", b"HEAD ", b"POST ", b"PUT /", b"OPTIO")
_NOT_TLS = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a client may take, in seconds."""

    head: float = 30.0
    """From the connection to the end of the first request, TLS included. A client that sends one byte a second holds a
    connection no longer than this."""

    idle: float = 90.0
    """From an answer to the end of the next request: the kubelet's ``IdleTimeout``."""

    stream_idle: float = 4 * 3600.0
    """Of a session without any byte in either direction (``StreamIdleTimeout`` of the streaming server), and of an
    answer that the client does not take or the server does not give (a kubelet's ``WriteTimeout``)."""

    linger: float = 5.0
    """For the client to close its end after our last byte was taken."""


class Phase(enum.Enum):
    """What the bytes of a client mean."""

    HANDSHAKE = enum.auto()
    HTTP = enum.auto()
    SESSION = enum.auto()
    END = enum.auto()  # nothing any more


class Pipe(Protocol):
    """What turns the transport's bytes into plaintext and back: ``spdyproto.tls.TLSPipe``, or nothing at all."""

    def do_handshake(self, ciphertext: Buffer = b"") -> bool:
        """Go on with the handshake; True when it is complete."""

    def receive(self, ciphertext: Buffer, plain: memoryview) -> Iterator[memoryview]:
        """Plaintext of ``ciphertext``; views that are valid until the iterator goes on."""

    def receive_eof(self) -> bool:
        """The transport has ended; whether the peer had said so."""

    def send(self, segments: Iterable[Buffer]) -> None:
        """Queue plaintext."""

    def take(self) -> bytes:
        """What is queued for the transport."""

    def take_segments(self) -> list[bytes]:
        """The same in pieces."""

    def close_notify(self) -> None:
        """Tell the peer that nothing follows."""

    @property
    def pending(self) -> int:
        """Bytes that wait for ``take``."""

    @property
    def closed_by_peer(self) -> bool:
        """The peer has said that nothing follows."""

    @property
    def peer_chain_der(self) -> list[bytes]:
        """The peer's certificates, its own first."""

    @property
    def alpn(self) -> str | None:
        """The protocol agreed on in the handshake."""


class Host(SessionHost, Protocol):
    """A server, as its connections see it."""

    application: Application
    timeouts: Timeouts
    sessions: SessionLog
    body_limit: int
    """Bytes of a request's body; more are answered by 413."""
    ciphertext: memoryview
    plaintext: memoryview
    """Scratch space of all connections."""

    def make_pipe(self) -> Pipe:
        """The server's end of a new connection."""

    def admit(self, connection: Connection) -> bool:
        """Whether one more connection may be served; if so it is remembered."""

    def forget(self, connection: Connection) -> None:
        """A connection has ended."""

    def session_started(self, session: Session) -> None:
        """Remember a session until ``session_over``."""


class Connection(asyncio.BufferedProtocol):
    """See the module's theory of operation. Everything runs on the server's loop."""

    def __init__(self, host: Host) -> None:
        self.loop = host.loop
        self._host = host
        self._pipe = host.make_pipe()
        self._phase = Phase.HANDSHAKE
        self._http: HttpServer | None = None
        self._session: Session | None = None
        self._record: SessionRecord | None = None
        self._transport: asyncio.Transport
        self._first = b""
        self._certificates: list[bytes] = []
        self.write_paused = False
        self._read_paused = False
        self._waiters: list[asyncio.Future[None]] = []  # for room
        self._peer_ended = False
        self._batching = False  # somebody will flush when the work in hand is done
        self._flush_due = False
        self._ending = False
        self._patient = True  # a client may take its output as slowly as it likes, but not after it broke the rules
        self._active = 0.0
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None

    # -- the transport -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102 - as asyncio.BaseProtocol
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if not self._host.admit(self):
            transport.abort()
            return
        _watch_for_dead_peers(transport.get_extra_info("socket"))
        self._arm(self._host.timeouts.head)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: D102 - as asyncio.BufferedProtocol
        return self._host.ciphertext

    def buffer_updated(self, nbytes: int) -> None:  # noqa: D102 - as asyncio.BufferedProtocol
        if self._phase is Phase.END:
            return
        now = self.loop.time()
        record = self._record
        began = 0.0 if record is None else time.thread_time()
        if record is None:
            self._active = now
        self._batching = True
        try:
            self._receive(self._host.ciphertext[:nbytes], now)
        except ssl.SSLError:
            self._fail()
        finally:
            self._batching = False
        self._flush()
        if record is not None:
            record.cpu_received += time.thread_time() - began

    def eof_received(self) -> bool:  # noqa: D102 - as asyncio.BaseProtocol
        return self._on_peer_end(self._pipe.receive_eof() if self._phase is not Phase.END else True)
        # False: the transport flushes what it has and closes itself

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102 - as asyncio.BaseProtocol
        if self._timer is not None:
            self._timer.cancel()
        http, self._http = self._http, None
        if http is not None:
            http.close()
        self._on_peer_end(False)
        self._host.forget(self)
        if self._record is not None:
            self._host.sessions.ended(self._record)

    def pause_writing(self) -> None:  # noqa: D102 - as asyncio.BaseProtocol
        self.write_paused = True

    def resume_writing(self) -> None:  # noqa: D102 - as asyncio.BaseProtocol
        self.write_paused = False
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._flush()

    def abort(self) -> None:
        """The server closes."""
        self._transport.abort()

    # -- incoming ----------------------------------------------------------------------------------------------------

    def _receive(self, ciphertext: memoryview, now: float) -> None:
        pipe = self._pipe
        if self._phase is Phase.HANDSHAKE:
            if len(self._first) < 5:
                self._first += bytes(ciphertext[:5])
            if not pipe.do_handshake(ciphertext):
                return
            self._certificates = pipe.peer_chain_der
            self._phase = Phase.HTTP
            host = self._host
            make = Http2Server if pipe.alpn == "h2" else Http1Server
            self._http = make(self, host.application, host.limits, host.body_limit)
            ciphertext = ciphertext[:0]
        for plain in pipe.receive(ciphertext, self._host.plaintext):
            if self._phase is Phase.SESSION:
                assert self._session is not None
                assert self._record is not None
                self._record.received += len(plain)
                if self._session.receive(plain, now):
                    self._active = now
            elif self._phase is Phase.HTTP and self._http is not None:
                self._http.receive(bytes(plain))
        if pipe.closed_by_peer and not self._on_peer_end(True):
            self._close()

    def _on_peer_end(self, clean: bool) -> bool:
        """Nothing more comes from the client. True: an answer is under way to it still."""
        if self._phase is Phase.HTTP and self._http is not None:
            self._peer_ended = True
            if self._http.receive_eof():
                return True
        phase, self._phase = self._phase, Phase.END
        if phase is Phase.SESSION and self._session is not None:
            self._session.receive_eof(self.loop.time(), clean=clean)
        return False

    # -- the Wire of an HTTP server ----------------------------------------------------------------------------------

    def write(self, plain: bytes) -> None:
        """As ``Wire.write``."""
        if plain and not self._transport.is_closing():
            self._pipe.send([plain])
            self._transport.write(self._pipe.take())

    async def drained(self) -> None:
        """As ``Wire.drained``."""
        while self.write_paused and not self._transport.is_closing():
            waiter = self.loop.create_future()
            self._waiters.append(waiter)
            await waiter
        if self._transport.is_closing():
            raise ConnectionAbortedError("the client has left")

    def complete(self, request: Request) -> Request:
        """As ``Wire.complete``."""
        address = self._transport.get_extra_info("peername") or ("",)
        return replace(request, certificates=self._certificates, peer=address[0])

    def switch(self, upgrade: Upgrade, head: Callable[[], bytes], surplus: bytes) -> None:
        """As ``Wire.switch``."""
        host = self._host
        session = upgrade.open(self, host)
        host.session_started(session)
        self._http = None
        self._session = session
        self._record = upgrade.record
        host.sessions.began(upgrade.record)
        self._phase = Phase.SESSION
        self._active = now = self.loop.time()
        self.write(head())
        self._batching = True
        try:
            session.start(now)
            self._arm_session()
            if surplus:
                upgrade.record.received += len(surplus)
                session.receive(surplus, now)
        finally:
            self._batching = False
        if self._peer_ended:
            self._on_peer_end(True)
        self._flush()

    def at_work(self) -> None:
        """As ``Wire.at_work``."""
        self._arm(self._host.timeouts.stream_idle)

    def at_rest(self) -> None:
        """As ``Wire.at_rest``."""
        self._arm(self._host.timeouts.idle)

    def shut_down(self) -> None:
        """As ``Wire.shut_down``."""
        self._http = None
        self._shut_down()

    def cut(self, error: Exception | None = None) -> None:
        """As ``Wire.cut``."""
        if error is not None:
            self.loop.call_exception_handler({"message": "a request was not answered", "exception": error})
        sock: socket.socket | None = self._transport.get_extra_info("socket")
        if sock is not None and sock.fileno() >= 0:  # a reset, and what the client has not taken is lost
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()

    # -- outgoing ----------------------------------------------------------------------------------------------------

    def want_flush(self) -> None:
        """As ``Carrier.want_flush``."""
        if not (self._batching or self._flush_due):
            self._flush_due = True
            self.loop.call_soon(self._flush_now)

    @property
    def full(self) -> bool:
        """As ``Carrier.full``."""
        return self.write_paused

    def transmit(self, segments: Sequence[Buffer]) -> None:
        """As ``Carrier.transmit``."""
        if self._phase is Phase.SESSION and not self._transport.is_closing():
            self._active = self.loop.time()
            if self._record is not None:
                self._record.sent += sum(map(len, segments))
            self._pipe.send(segments)
            write_now(self._transport, self._pipe.take_segments())

    def _flush_now(self) -> None:
        self._flush_due = False
        with self._sending():
            self._flush()

    def _sending(self) -> AbstractContextManager[None]:
        """Count what the block costs as the session's output."""
        return nullcontext() if self._record is None else self._record.sending()

    def _flush(self) -> None:
        """Write what is queued in one piece, then let the command make more in the next turn of the loop."""
        if self._transport.is_closing():
            return
        self._hand_over()
        if self.write_paused:
            return
        if self._ending:
            self._shut_down()
        elif self._session is not None and self._session.starved:
            self.loop.call_soon(self._offer_room)

    def _hand_over(self) -> None:
        session, pipe, transport = self._session, self._pipe, self._transport
        if self.write_paused:
            if pipe.pending > _TLS_ANSWERS:  # the client makes TLS answer, and does not take the answers
                transport.abort()
            return
        if session is not None and session.engine.pending_bytes:
            if session.wrote():
                self._active = self.loop.time()
            if self._record is not None:
                self._record.sent += session.engine.pending_bytes
            pipe.send(session.engine.data_to_send())
        if pipe.pending:
            transport.write(pipe.take())

    def _offer_room(self) -> None:
        if self._session is not None and not self.write_paused:
            with self._sending():
                self._batching = True
                try:
                    self._session.room()
                finally:
                    self._batching = False
                self._flush()

    # -- reading on demand -------------------------------------------------------------------------------------------

    def pause_reading(self) -> None:
        """As ``Carrier.pause_reading``."""
        if not self._read_paused:
            self._read_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """As ``Carrier.resume_reading``."""
        if self._read_paused:
            self._read_paused = False
            self._transport.resume_reading()

    # -- the end -----------------------------------------------------------------------------------------------------

    def end(self, *, lost: bool) -> None:
        """As ``Carrier.end``: nothing the client sends matters any more."""
        self._phase = Phase.END
        self._ending = True
        if lost:
            self._patient = False
            self._arm(self._host.timeouts.linger)
        self.resume_reading()
        self.want_flush()

    def _shut_down(self) -> None:
        """Everything is with the transport: say so, and wait for the client to close."""
        self._phase = Phase.END
        self._ending = False
        self._session = None
        if self._transport.is_closing():
            return
        self._pipe.close_notify()
        if self._pipe.pending:
            self._transport.write(self._pipe.take())
        self._half_close()

    def _half_close(self) -> None:
        """FIN behind everything that is with the transport; then the client has a while to do the same."""
        if self._peer_ended:
            self._transport.close()
            return
        try:
            self._transport.write_eof()
        except OSError:
            self._transport.abort()  # the client has cut the connection, and the transport does not know yet
            return
        self._arm(self._host.timeouts.linger)

    def break_off(self, how: How) -> None:
        """As ``Carrier.break_off``."""
        if how == "close_notify":
            self._shut_down()
            return
        self._phase = Phase.END
        self._session = None
        if self._transport.is_closing():
            return
        if how == "rst":
            self.cut()
        else:
            self.resume_reading()
            self._half_close()

    def _fail(self) -> None:
        """TLS is broken: send the alert if there is one, and close."""
        if self._phase is Phase.HANDSHAKE and self._first.startswith(_HTTP_STARTS):
            self._transport.write(_NOT_TLS)
        elif self._pipe.pending:
            self._transport.write(self._pipe.take())
        self._on_peer_end(False)
        self._close()

    def _close(self) -> None:
        self._session = None
        self._transport.close()

    # -- deadlines ---------------------------------------------------------------------------------------------------

    def _arm(self, seconds: float) -> None:
        self._arm_at(self.loop.time() + seconds)

    def _arm_at(self, deadline: float) -> None:
        """One timer at most; a deadline that moves back leaves it where it is, and it looks again when it fires."""
        self._deadline = deadline
        if self._timer is None or self._timer.when() > deadline:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self.loop.call_at(deadline, self._on_timer)

    def _arm_session(self) -> None:
        idle = self._active + self._host.timeouts.stream_idle
        due = self._session.engine.next_deadline() if self._session is not None else None
        self._arm_at(idle if due is None else min(idle, due))

    def _on_timer(self) -> None:
        self._timer = None
        now = self.loop.time()
        patience = self._active + self._host.timeouts.stream_idle
        if now < self._deadline:
            self._arm_at(self._deadline)
        elif self._phase is Phase.SESSION and self._session is not None and now < patience:
            self._session.handle_timeout(now)
            self._arm_session()
        elif self._phase is Phase.END and self._patient and self._transport.get_write_buffer_size() and now < patience:
            self._arm(self._host.timeouts.linger)
        elif self._phase is Phase.SESSION and self._session is not None:
            self._session.hang_up()
        else:
            self._on_peer_end(False)
            self._transport.abort()


def write_now(transport: asyncio.Transport, segments: Sequence[bytes]) -> None:
    """Write ``segments`` past the transport if nothing waits in it, so that they need not be joined first: a tenth of
    what a proxied byte costs. The transport gets what the socket does not take."""
    if transport.get_write_buffer_size() == 0 and not transport.is_closing():
        sock: socket.socket = transport.get_extra_info("socket")
        try:
            sent = os.writev(sock.fileno(), segments[:_IOV_MAX])
        except OSError:
            sent = 0  # full, or broken: the transport finds out
        index = 0
        while index < len(segments) and sent >= len(segments[index]):
            sent -= len(segments[index])
            index += 1
        if index == len(segments):
            return
        segments = [segments[index][sent:], *segments[index + 1 :]]
    transport.write(b"".join(segments))


def _watch_for_dead_peers(sock: socket.socket) -> None:
    """TCP keepalive as Go's listeners set it, so that a client that vanished is noticed at all."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, 15)

"""One client of the fake kubelet: TCP below, TLS in the middle, HTTP/1.1 and then an exec session above.

Theory of operation. The transport is plain TCP and TLS is pumped here (``spdyproto.tls``), with two scratch buffers
that all connections of the loop share: ciphertext is read into one, plaintext decrypted into the other and handed on
as a view, so that a connection costs little while it is idle and nothing is copied that a command does not keep.
Output is collected by the engine and leaves once per turn of the loop, up to 256 KiB in one write.

A connection goes through phases, each with a deadline: handshake and first head, requests, exec, and the end. The end
is slow on purpose: what is queued is flushed, close_notify and FIN are sent, and what the client still sends is read
and dropped until it closes too. Closing a socket with unread data makes TCP reset the connection, and a reset can
destroy output on its way, the exit status with it.

Back-pressure. When the transport's buffer is full nothing is taken from the engine, whose queue then fills and tells
the command to wait; in the HTTP phase no more requests are read. A command that does not take its stdin stops the
reading, of everything: that is what a kubelet does too.
"""

from __future__ import annotations

import asyncio
import enum
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from fakekubelet.http import HttpConnection, RawAnswer, Response
from fakekubelet.routes import ExecAccepted, Router
from fakekubelet.sessions import ExecSession
from spdyproto.limits import Deadlines, Limits
from spdyproto.tls import TLSPipe

SCRATCH = 256 * 1024
"""Bytes read at once. Larger reads were not faster; smaller ones cost system calls."""

_TLS_ANSWERS = 64 * 1024  # ciphertext that may wait for a client which takes nothing: key updates, no data
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
    """Of an exec without any byte in either direction: ``StreamIdleTimeout`` of the streaming server."""

    linger: float = 5.0
    """For the client to close its end after our last byte was taken."""


class Phase(enum.Enum):
    """What the bytes of a client mean."""

    HANDSHAKE = enum.auto()
    HTTP = enum.auto()
    EXEC = enum.auto()
    END = enum.auto()  # nothing any more


class Host(Protocol):
    """The server, as its connections see it."""

    loop: asyncio.AbstractEventLoop
    router: Router
    limits: Limits
    deadlines: Deadlines
    timeouts: Timeouts
    ciphertext: memoryview
    plaintext: memoryview

    def make_pipe(self) -> TLSPipe:
        """The server's end of a new TLS connection."""

    def admit(self, connection: Connection) -> bool:
        """Whether one more connection may be served; if so it is remembered."""

    def forget(self, connection: Connection) -> None:
        """A connection has ended."""

    def session_started(self, session: ExecSession) -> None:
        """Remember a session until ``session_over``."""

    def session_over(self, session: ExecSession) -> None:
        """Its command has ended."""


class Connection(asyncio.BufferedProtocol):
    """See the module's theory of operation. Everything runs on the server's loop."""

    def __init__(self, host: Host) -> None:
        self.loop = host.loop
        self._host = host
        self._pipe = host.make_pipe()
        self._phase = Phase.HANDSHAKE
        self._http = HttpConnection(host.limits)
        self._exec: ExecSession | None = None
        self._transport: asyncio.Transport
        self._first = b""
        self._certificates: list[bytes] = []
        self._write_paused = False
        self._read_paused = False
        self._requests_paused = False
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
        if self._phase is not Phase.EXEC:
            self._active = now
        self._batching = True
        try:
            self._receive(self._host.ciphertext[:nbytes], now)
        except ssl.SSLError:
            self._fail()
        finally:
            self._batching = False
        self._flush()

    def eof_received(self) -> None:  # noqa: D102 - as asyncio.BaseProtocol
        self._on_peer_end(self._pipe.receive_eof() if self._phase is not Phase.END else True)
        # None: the transport flushes what it has and closes itself

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102 - as asyncio.BaseProtocol
        if self._timer is not None:
            self._timer.cancel()
        self._on_peer_end(False)
        self._host.forget(self)

    def pause_writing(self) -> None:  # noqa: D102 - as asyncio.BaseProtocol
        self._write_paused = True
        if self._phase is Phase.HTTP:
            self._requests_paused = True
            self._transport.pause_reading()

    def resume_writing(self) -> None:  # noqa: D102 - as asyncio.BaseProtocol
        self._write_paused = False
        if self._requests_paused:
            self._requests_paused = False
            self._transport.resume_reading()
            self._serve_requests()
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
            ciphertext = ciphertext[:0]
        for plain in pipe.receive(ciphertext, self._host.plaintext):
            if self._phase is Phase.EXEC:
                assert self._exec is not None
                if self._exec.receive(plain, now):
                    self._active = now
            elif self._phase is Phase.HTTP:
                self._http.feed(bytes(plain))
                self._serve_requests()
        if pipe.closed_by_peer:
            self._on_peer_end(True)
            self._close()

    def _serve_requests(self) -> None:
        while self._phase is Phase.HTTP and not self._write_paused and not self._transport.is_closing():
            item = self._http.next()
            if item is None:
                if self._http.waiting_for_100:
                    self._write(self._http.go_on())
                return
            if isinstance(item, Response):
                self._write(self._http.answer(None, item)[0])
                self._shut_down()
                return
            answer = self._host.router.answer(item, self._certificates)
            if isinstance(answer, ExecAccepted):
                self._switch(answer)
                return
            if isinstance(answer, RawAnswer):
                self._write(answer.data)
                self._shut_down()
                return
            output, last = self._http.answer(item, answer)
            self._write(output)
            if last or answer.close:
                self._shut_down()
            else:
                self._arm(self._host.timeouts.idle)

    def _switch(self, accepted: ExecAccepted) -> None:
        host = self._host
        head = self._http.switch(accepted.headers)
        surplus = self._http.surplus
        session = ExecSession(self, accepted, host.limits, host.deadlines, host.session_over)
        self._exec = session
        self._phase = Phase.EXEC
        host.session_started(session)  # first, so that a client which has the 101 finds it among the executions
        self._write(head)
        session.start(self._active)
        self._arm_exec()
        if surplus:
            session.receive(surplus, self._active)

    def _on_peer_end(self, clean: bool) -> None:
        """Nothing more comes from the client."""
        phase, self._phase = self._phase, Phase.END
        if phase is Phase.EXEC and self._exec is not None:
            self._exec.receive_eof(self.loop.time(), clean=clean)

    # -- outgoing ----------------------------------------------------------------------------------------------------

    def want_flush(self) -> None:
        """As ``Carrier.want_flush``."""
        if not (self._batching or self._flush_due):
            self._flush_due = True
            self.loop.call_soon(self._flush_now)

    def _flush_now(self) -> None:
        self._flush_due = False
        self._flush()

    def _flush(self) -> None:
        """Write what is queued in one piece, then let the command make more in the next turn of the loop."""
        if self._transport.is_closing():
            return
        self._hand_over()
        if self._write_paused:
            return
        if self._ending:
            self._shut_down()
        elif self._exec is not None and self._exec.starved:
            self.loop.call_soon(self._offer_room)

    def _hand_over(self) -> None:
        session, pipe, transport = self._exec, self._pipe, self._transport
        if self._write_paused:
            if pipe.pending > _TLS_ANSWERS:  # the client makes TLS answer, and does not take the answers
                transport.abort()
            return
        if session is not None and session.engine.pending_bytes:
            if session.wrote():
                self._active = self.loop.time()
            pipe.send(session.engine.data_to_send())
        if pipe.pending:
            transport.write(pipe.take())

    def _offer_room(self) -> None:
        if self._exec is not None and not self._write_paused:
            self._batching = True
            try:
                self._exec.room()
            finally:
                self._batching = False
            self._flush()

    def _write(self, plain: bytes) -> None:
        if plain:
            self._pipe.send([plain])
            self._transport.write(self._pipe.take())

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
        self._exec = None
        if self._transport.is_closing():
            return
        self._pipe.close_notify()
        if self._pipe.pending:
            self._transport.write(self._pipe.take())
        try:
            self._transport.write_eof()
        except OSError:
            self._transport.abort()  # the client has cut the connection, and the transport does not know yet
            return
        self._arm(self._host.timeouts.linger)

    def _fail(self) -> None:
        """TLS is broken: send the alert if there is one, and close."""
        if self._phase is Phase.HANDSHAKE and self._first.startswith(_HTTP_STARTS):
            self._transport.write(_NOT_TLS)
        elif self._pipe.pending:
            self._transport.write(self._pipe.take())
        self._on_peer_end(False)
        self._close()

    def _close(self) -> None:
        self._exec = None
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

    def _arm_exec(self) -> None:
        idle = self._active + self._host.timeouts.stream_idle
        due = self._exec.engine.next_deadline() if self._exec is not None else None
        self._arm_at(idle if due is None else min(idle, due))

    def _on_timer(self) -> None:
        self._timer = None
        now = self.loop.time()
        patience = self._active + self._host.timeouts.stream_idle
        if now < self._deadline:
            self._arm_at(self._deadline)
        elif self._phase is Phase.EXEC and self._exec is not None and now < patience:
            self._exec.handle_timeout(now)
            self._arm_exec()
        elif self._phase is Phase.END and self._patient and self._transport.get_write_buffer_size() and now < patience:
            self._arm(self._host.timeouts.linger)
        elif self._phase is Phase.EXEC and self._exec is not None:
            self._exec.hang_up()
        else:
            self._on_peer_end(False)
            self._transport.abort()


def _watch_for_dead_peers(sock: socket.socket) -> None:
    """TCP keepalive as Go's listeners set it, so that a client that vanished is noticed at all."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, 15)


def make_factory(host: Host) -> Callable[[], Connection]:
    """What ``loop.create_server`` calls for each client."""
    return lambda: Connection(host)

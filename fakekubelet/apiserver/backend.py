"""The apiserver's end of an upgraded connection to a kubelet: TCP, TLS, one request, and then bytes.

Theory of operation. The connection is dialled for one request and is never used for another: whatever is answered but
101 ends it, so that nothing which a client sends after a refusal can reach the kubelet with the apiserver's identity
(CVE-2018-1002105). A redirect is a refusal like any other, and is not followed. After 101 the connection belongs to a
``Receiver``: plaintext is handed to it as views of a buffer that all connections of the loop share, valid during the
call only, and what it sends is encrypted in the call, so that a byte on its way through is never copied in between.

The certificate is shown to the kubelet, and the kubelet's own is verified if there is a CA to do it with; a real
apiserver without ``--kubelet-certificate-authority`` verifies nothing, and so does this one then.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import h11

from fakekubelet.accounting import SessionRecord
from fakekubelet.apiserver.locations import Location
from fakekubelet.connection import write_now
from spdyproto.tls import TLSPipe
from spdyproto.types import Buffer

RawHeaders = list[tuple[bytes, bytes]]

DIAL_SECONDS = 30.0
"""For TCP and TLS together: Go's dialer has 30 s for TCP."""

ANSWER_SECONDS = 30.0
"""For the head of the answer, and then for the body of a refusal: a kubelet has nothing to wait for."""

_HEAD = 1 << 20  # as Go's reader has it (``streamtunnel.go``: 1 MiB)
_REFUSAL = 1 << 20  # bytes of a refusal's body; real ones have some hundred


class DialError(Exception):
    """The kubelet was not reached, or it did not speak HTTP."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Any answer but 101, whole."""

    status: int
    headers: RawHeaders = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Switched:
    """101: the headers as they came, and what already came behind them."""

    headers: RawHeaders
    surplus: bytes = field(repr=False)


class Receiver(Protocol):
    """Who the connection belongs to once it was upgraded."""

    def backend_data(self, plain: memoryview) -> None:
        """Plaintext of the kubelet, valid during the call."""

    def backend_batch(self) -> None:
        """All that was read at once has been handed on."""

    def backend_room(self) -> None:
        """``Link.full`` was true and is not any more."""

    def backend_ended(self, *, clean: bool) -> None:
        """The connection is over; ``clean`` if the kubelet said so. Called once, also when ``Link.close`` ended it."""


class Scratch(Protocol):
    """The buffers that all connections of a loop share (``fakekubelet.listening``)."""

    loop: asyncio.AbstractEventLoop
    ciphertext: memoryview
    plaintext: memoryview


class Link(asyncio.BufferedProtocol):
    """One connection to a kubelet. Made by ``dial``; everything runs on the server's loop."""

    def __init__(self, host: Scratch, pipe: TLSPipe, request: h11.Request) -> None:
        self._host = host
        self._pipe = pipe
        self._request = request
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD)
        self._transport: asyncio.Transport
        self._outcome: asyncio.Future[Refused | Switched] = host.loop.create_future()
        self._response: h11.Response | None = None
        self._body = bytearray()
        self._receiver: Receiver | None = None
        self._early = bytearray()  # what came before there was a receiver
        self._ended: bool | None = None  # clean or not
        self._told = False
        self._connected = False
        self._switched = False
        self._closing = False
        self._paused = False
        self.record: SessionRecord | None = None
        """Where the cost of what comes from the kubelet is counted, once there is a session."""
        self.full = False
        """The transport takes no more for now: stop sending until ``Receiver.backend_room``."""

    # -- set-up ------------------------------------------------------------------------------------------------------

    async def outcome(self) -> Refused | Switched:
        """The answer. Raises DialError; cancelling closes the connection."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                outcome = await self._outcome
        except TimeoutError:
            self._transport.abort()
            raise DialError(f"no answer within {ANSWER_SECONDS:g} s") from None
        except BaseException:  # cancelled it may be when the answer is there already
            self._transport.abort()
            raise
        if isinstance(outcome, Refused):
            self._transport.abort()
        return outcome

    def attach(self, receiver: Receiver) -> None:
        """Hand the upgraded connection over; what came in the meantime is delivered at once."""
        self._receiver = receiver
        early, self._early = self._early, bytearray()
        if early:
            receiver.backend_data(memoryview(early))
            receiver.backend_batch()
        if self._paused is False:
            self._transport.resume_reading()
        self._tell_end()

    # -- the transport -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102 - as asyncio.BaseProtocol
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        sock: socket.socket = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._guarded(memoryview(b""))

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: D102 - as asyncio.BufferedProtocol
        return self._host.ciphertext

    def buffer_updated(self, nbytes: int) -> None:  # noqa: D102 - as asyncio.BufferedProtocol
        if self.record is None:
            self._guarded(self._host.ciphertext[:nbytes])
            return
        began = time.thread_time()
        self._guarded(self._host.ciphertext[:nbytes])
        self.record.cpu_sent += time.thread_time() - began

    def eof_received(self) -> None:  # noqa: D102 - as asyncio.BaseProtocol
        self._end(clean=self._pipe.closed_by_peer)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102 - as asyncio.BaseProtocol
        self._end(clean=False)

    def pause_writing(self) -> None:  # noqa: D102 - as asyncio.BaseProtocol
        self.full = True

    def resume_writing(self) -> None:  # noqa: D102 - as asyncio.BaseProtocol
        self.full = False
        if self._receiver is not None and not self._told:
            self._receiver.backend_room()

    # -- receiving ---------------------------------------------------------------------------------------------------

    def _guarded(self, ciphertext: memoryview) -> None:
        if self._ended is not None:
            return
        try:
            self._receive(ciphertext)
        except ssl.SSLError as error:
            self._fail(f"tls: {getattr(error, 'verify_message', '') or error.reason or error}")
        except h11.RemoteProtocolError as error:
            self._fail(f"malformed HTTP response: {error}")
        else:
            self._flush()
            if self._pipe.closed_by_peer:
                self._end(clean=True)

    def _receive(self, ciphertext: memoryview) -> None:
        pipe = self._pipe
        if not self._connected:
            if not pipe.do_handshake(ciphertext):
                return
            self._connected = True
            head = (self._http.send(self._request) or b"") + (self._http.send(h11.EndOfMessage()) or b"")
            pipe.send([head])
            ciphertext = ciphertext[:0]
        receiver = self._receiver
        for plain in pipe.receive(ciphertext, self._host.plaintext):
            if receiver is not None:
                receiver.backend_data(plain)
            elif self._switched:
                self._early += plain
            else:
                self._read_answer(bytes(plain))
        if receiver is not None:
            receiver.backend_batch()

    def _read_answer(self, data: bytes) -> None:
        http = self._http
        http.receive_data(data)
        while True:
            event = http.next_event()
            if isinstance(event, h11.InformationalResponse):
                if event.status_code == 101:
                    self._switch(event)
                    return
            elif isinstance(event, h11.Response):
                self._response = event
            elif isinstance(event, h11.Data):
                self._body += event.data
                if len(self._body) > _REFUSAL:
                    self._refuse()
                    return
            elif isinstance(event, h11.EndOfMessage):
                self._refuse()
                return
            else:
                return

    def _switch(self, event: h11.InformationalResponse) -> None:
        self._switched = True
        self._transport.pause_reading()  # until somebody takes it
        if not self._outcome.done():
            self._outcome.set_result(Switched(list(event.headers.raw_items()), b""))
        self._early += self._http.trailing_data[0]

    def _refuse(self) -> None:
        if self._response is not None and not self._outcome.done():
            headers = list(self._response.headers.raw_items())
            self._outcome.set_result(Refused(self._response.status_code, headers, bytes(self._body)))
        self._ended = False
        self._transport.abort()

    # -- the end -----------------------------------------------------------------------------------------------------

    def _fail(self, why: str) -> None:
        self._give_up(why)
        self._flush()
        self._end(clean=False)
        self._transport.abort()

    def _end(self, *, clean: bool) -> None:
        if self._ended is not None:
            return
        if not self._switched and self._response is not None:
            self._refuse()  # the body may end with the connection; what came of it says why, whole or not
        self._ended = clean
        self._give_up("EOF")
        self._tell_end()

    def _give_up(self, why: str) -> None:
        if not self._outcome.done():
            self._outcome.set_exception(DialError(why))
            self._outcome.exception()  # seen: nobody waits for it if the request was given up meanwhile

    def _tell_end(self) -> None:
        if self._ended is not None and self._receiver is not None and not self._told:
            self._told = True
            self._receiver.backend_ended(clean=self._ended)

    def close(self) -> None:
        """Everything sent so far is delivered, then the connection ends; what the kubelet sends is not read."""
        if self._closing or self._transport.is_closing():
            return
        self._closing = True
        self._told = True  # who closes knows
        self._pipe.close_notify()
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """End the connection at once."""
        self._closing = self._told = True
        self._transport.abort()

    # -- sending -----------------------------------------------------------------------------------------------------

    def send(self, segments: Sequence[Buffer]) -> None:
        """Encrypt and write; the buffers are free again on return. After the end: nothing happens."""
        if self._ended is None and not self._closing:
            self._pipe.send(segments)
            self._flush()

    def _flush(self) -> None:
        if self._pipe.pending and not self._transport.is_closing():
            write_now(self._transport, self._pipe.take_segments())

    # -- reading on demand -------------------------------------------------------------------------------------------

    def pause_reading(self) -> None:
        """Leave what the kubelet sends in the network. Twice is allowed."""
        if not self._paused:
            self._paused = True
            if self._receiver is not None:
                self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if self._paused:
            self._paused = False
            if self._receiver is not None:
                self._transport.resume_reading()


async def dial(host: Scratch, context: ssl.SSLContext, where: Location, request: h11.Request) -> Link:
    """Connect to a kubelet and send one request; then ask the link for its ``outcome``.

    Raises DialError when it is not reached in time; cancelling leaves nothing behind.
    """
    name = where.host if context.check_hostname else None
    link = Link(host, TLSPipe.client(context, name), request)
    try:
        async with asyncio.timeout(DIAL_SECONDS):
            await host.loop.create_connection(lambda: link, where.host, where.port)
    except TimeoutError:
        raise DialError(f"dial tcp {where.authority}: i/o timeout") from None
    except OSError as error:
        why = os.strerror(error.errno).lower() if error.errno else str(error)
        raise DialError(f"dial tcp {where.authority}: connect: {why}") from error
    return link

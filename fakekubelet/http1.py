"""HTTP/1.1 as a kubelet (Go's ``net/http``) speaks it. h11 parses and writes every head.

``HttpConnection`` is the codec, without I/O: bytes in by ``feed``, bytes out of ``answer``, ``begin``, ``switch``.
``Http1Server`` runs it on a connection: one request at a time, each in the task of its connection, so that an answer
may be awaited or made piece by piece.

What a client can make the server hold is bounded: the head by ``Limits.http_head``, the body by ``body_limit``,
pipelined requests by ``_PIPELINE`` and one read of the network, after which the connection is not read.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Protocol

import h11

from fakekubelet.messages import (
    Application,
    Cut,
    RawAnswer,
    RawHeaders,
    Request,
    Response,
    Streaming,
    Upgrade,
    parse_target,
    refusal,
)
from spdyproto.limits import Limits
from spdyproto.types import Buffer

BODY_LIMIT = 256 * 1024
"""What Go reads of an unread body before it gives the connection up; a kubelet's own requests are far smaller."""

LEAVING = 1.0
"""Seconds for an answer to somebody who sends nothing more, and may have left."""

_PIPELINE = 64 * 1024  # bytes behind a request that is being answered


class HttpConnection:
    """The server's end of one HTTP/1.1 connection, until it is closed or switched to another protocol."""

    def __init__(self, limits: Limits, body_limit: int = BODY_LIMIT) -> None:
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.http_head)
        self._limit = limits.http_head
        self._body_limit = body_limit
        self._request: h11.Request | None = None
        self._body = bytearray()
        self._unread = 0  # bytes that h11 holds, before the next event

    def feed(self, data: bytes) -> None:
        """Bytes from the client; then call ``next`` until it gives None."""
        self._unread += len(data)
        self._http.receive_data(data)

    @property
    def unread(self) -> int:
        """Bytes that wait for ``next``."""
        return self._unread

    @property
    def surplus(self) -> bytes:
        """What came behind the request that was switched."""
        return self._http.trailing_data[0]

    @property
    def waiting_for_100(self) -> bool:
        """Whether the client holds its body back until it is told to go on."""
        return self._http.they_are_waiting_for_100_continue

    def next(self) -> Request | Response | None:
        """The next request; or the answer to bytes that are none (the connection ends after it); or None: feed more."""
        try:
            return self._next()
        except h11.RemoteProtocolError as error:
            if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
                return Response(400, close=True)
            return refusal(error.error_status_hint or 400)

    def _next(self) -> Request | Response | None:
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                self._request, self._body = event, bytearray()
                # h11 bounds a head that is not complete; one that came in one piece is held to the same limit here.
                before, self._unread = self._unread, len(self._http.trailing_data[0])
                if before - self._unread > self._limit:
                    return refusal(431)
            elif isinstance(event, h11.Data):
                self._body += event.data
                if len(self._body) > self._body_limit:
                    return refusal(413)
            elif isinstance(event, h11.EndOfMessage):
                assert self._request is not None
                head, self._request = self._request, None
                body, self._body = bytes(self._body), bytearray()
                self._unread = len(self._http.trailing_data[0])
                return _parse(head, body)
            else:  # NEED_DATA, PAUSED behind a request, or ConnectionClosed
                return None

    def answer(self, request: Request | None, response: Response) -> tuple[bytes, bool]:
        """The bytes of an answer, and whether the connection must be closed behind it."""
        http = self._http
        if http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return b"", True
        output = self._head(response.status, response.headers, response.close, len(response.body))
        if response.body and not (request is not None and request.method == "HEAD"):
            output += http.send(h11.Data(data=response.body)) or b""
        output += http.send(h11.EndOfMessage()) or b""
        return output, not self._renew()

    def begin(self, answer: Streaming) -> bytes:
        """The head of an answer whose body comes in pieces."""
        return self._head(answer.status, answer.headers, False, None)

    def piece(self, data: Buffer) -> bytes:
        """One chunk of it; nothing for no bytes."""
        return self._http.send(h11.Data(data=bytes(data))) or b""

    def finish(self) -> tuple[bytes, bool]:
        """The end of it, and whether the connection must be closed behind it."""
        return self._http.send(h11.EndOfMessage()) or b"", not self._renew()

    def _head(self, code: int, headers: list[tuple[str, str]], close: bool, length: int | None) -> bytes:
        lines = [*headers, ("Date", formatdate(usegmt=True))]
        if length is not None:
            lines.append(("Content-Length", str(length)))
        if close:
            lines.append(("Connection", "close"))
        event = h11.Response(status_code=code, headers=lines, reason=HTTPStatus(code).phrase.encode())
        return self._http.send(event) or b""

    def _renew(self) -> bool:
        """Get ready for another request, if both ends keep the connection."""
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            return True
        return False

    def switch(self, headers: RawHeaders) -> bytes:
        """The bytes of a 101; HTTP is over on this connection, see ``surplus``."""
        event = h11.InformationalResponse(status_code=101, headers=headers, reason=b"Switching Protocols")
        return self._http.send(event) or b""

    def go_on(self) -> bytes:
        """The bytes that let the client send its body."""
        return self._http.send(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")) or b""


def _parse(head: h11.Request, body: bytes) -> Request | Response:
    try:
        target = head.target.decode("ascii")
        path, query = parse_target(target)
    except ValueError:
        return refusal(400)
    headers = [(bytes(key), bytes(value)) for key, value in head.headers]
    version = head.http_version.decode("ascii")
    return Request(head.method.decode("ascii"), path, query, headers, body, target, version=version)


class Wire(Protocol):
    """What an HTTP server needs of its connection."""

    loop: asyncio.AbstractEventLoop
    write_paused: bool
    """The transport has enough: see ``drained``."""

    def write(self, plain: bytes) -> None:
        """Hand bytes to the transport. Ignored once the connection is closing."""

    async def drained(self) -> None:
        """Wait until the transport takes more. Raises ConnectionError when it never will."""

    def complete(self, request: Request) -> Request:
        """The request with what the connection knows of its client."""

    def switch(self, upgrade: Upgrade, head: Callable[[], bytes], surplus: bytes) -> None:
        """Make the session, write the head, and hand the connection over."""

    def at_work(self) -> None:
        """A request is being answered, or more of its answer has left: the client is not the one who waits."""

    def at_rest(self) -> None:
        """The client's turn: an idle connection is closed after a while."""

    def pause_reading(self) -> None:
        """As ``Carrier.pause_reading``."""

    def resume_reading(self) -> None:
        """As ``Carrier.resume_reading``."""

    def shut_down(self) -> None:
        """End the connection behind what was written."""

    def cut(self, error: Exception | None = None) -> None:
        """End it at once; ``error`` is a fault of the server."""


class HttpServer(Protocol):
    """A version of HTTP on one connection."""

    def receive(self, data: bytes) -> None:
        """Plaintext from the client."""

    def receive_eof(self) -> bool:
        """The client sends nothing more. True: an answer is under way still, and ``Wire.shut_down`` follows it."""

    def close(self) -> None:
        """The connection is lost: cancel what is under way."""


class Http1Server:
    """Requests of one connection, one after the other."""

    def __init__(self, wire: Wire, application: Application, limits: Limits, body_limit: int) -> None:
        self._wire = wire
        self._application = application
        self._codec = HttpConnection(limits, body_limit)
        self._task: asyncio.Task[None] | None = None
        self._handling = False  # an answer is awaited
        self._streaming = False
        self._ended = False  # the client sends nothing more

    def receive(self, data: bytes) -> None:
        """As ``HttpServer.receive``."""
        self._codec.feed(data)
        if self._task is not None:
            if self._codec.unread > _PIPELINE:
                self._wire.pause_reading()
            return
        item = self._next()
        if item is not None:
            self._task = self._wire.loop.create_task(self._run(item))

    def receive_eof(self) -> bool:
        """As ``HttpServer.receive_eof``. A body that comes in pieces ends here. Any other answer is still given if it
        comes soon, since some clients close their side behind the request; who awaits something longer is cancelled
        (Go cancels the request's context at once, which most handlers do not look at)."""
        self._ended = True
        if self._task is None:
            return False
        if self._streaming:
            self._task.cancel()
            return False
        self._wire.loop.call_later(LEAVING, self._leave)
        return True

    def _leave(self) -> None:
        """Enough waited for a handler; an answer that there is goes out, however slowly it is read."""
        if self._task is not None and self._handling:
            self._task.cancel()

    def close(self) -> None:
        """As ``HttpServer.close``."""
        if self._task is not None:
            self._task.cancel()

    def _next(self) -> Request | Response | None:
        item = self._codec.next()
        if item is None and self._codec.waiting_for_100:
            self._wire.write(self._codec.go_on())
        return item

    async def _run(self, item: Request | Response | None) -> None:
        wire = self._wire
        try:
            while item is not None:
                if isinstance(item, Response):
                    wire.write(self._codec.answer(None, item)[0])
                    wire.shut_down()
                    return
                if not await self._serve(wire.complete(item)):
                    return
                await wire.drained()
                wire.at_rest()
                wire.resume_reading()
                item = self._next()
            if self._ended:
                wire.shut_down()
        except (ConnectionError, asyncio.CancelledError):
            wire.cut()
        except Exception as error:
            wire.cut(error)
        finally:
            self._task = None

    async def _serve(self, request: Request) -> bool:
        """Answer one request; False if it was the last."""
        wire, codec = self._wire, self._codec
        wire.at_work()
        self._handling = True
        try:
            answer = await self._application.answer(request)
        finally:
            self._handling = False
        if isinstance(answer, Upgrade):
            wire.switch(answer, lambda: codec.switch(answer.headers), codec.surplus)
            return False
        if isinstance(answer, Cut):
            wire.cut()
            return False
        if isinstance(answer, RawAnswer):
            wire.write(answer.data)
            wire.shut_down()
            return False
        if isinstance(answer, Streaming):
            output, last = await self._stream(request, answer)
        else:
            output, last = codec.answer(request, answer)
            last = last or answer.close
        wire.write(output)
        if last:
            wire.shut_down()
        return not last

    async def _stream(self, request: Request, answer: Streaming) -> tuple[bytes, bool]:
        wire, codec = self._wire, self._codec
        self._streaming = True
        try:
            async with closing_body(answer) as body:
                wire.write(codec.begin(answer))
                if request.method != "HEAD":
                    if self._ended:
                        raise ConnectionAbortedError("the client has left")
                    async for piece in body:
                        wire.write(codec.piece(piece))
                        wire.at_work()
                        await asyncio.sleep(0)  # the iterator may never wait, and the transport may never be full
                        await wire.drained()
            return codec.finish()
        finally:
            self._streaming = False


@contextlib.asynccontextmanager
async def closing_body(answer: Streaming) -> AsyncIterator[AsyncIterator[Buffer]]:
    """The pieces of a body; an asynchronous generator is closed behind them, whatever happened."""
    pieces = aiter(answer.body)
    try:
        yield pieces
    finally:
        close = getattr(pieces, "aclose", None)
        if close is not None:
            await close()

"""HTTP/2 as a kubelet serves it beside HTTP/1.1, chosen by ALPN. h2 keeps the protocol; this keeps the order.

Every request runs in a task of its own. What an answer may send is the least of three rooms: the client's windows for
the stream and for the connection, and the transport's buffer. While that buffer is full nothing is read either, so a
client that makes the server answer and takes no answers (PING, SETTINGS) costs no memory.

Nothing can be upgraded here: an exec has no ``Connection`` header, so the kubelet finds that an upgrade is required.

What a client can make the server hold is bounded: the heads by ``Limits.http_head`` each and ``STREAMS`` of them, the
bodies by ``body_limit`` each and ``_BODIES`` of that together. Streams that are opened and reset at once ("rapid
reset", CVE-2023-44487) end the connection after ``_RESETS`` of them, and so does a flood of frames that move nothing
(``FrameMeter``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from email.utils import formatdate

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from fakekubelet.http1 import Wire, closing_body
from fakekubelet.messages import (
    Application,
    Cut,
    Request,
    Response,
    Streaming,
    go_error,
    parse_target,
    plain,
    refusal,
)
from spdyproto.errors import LimitExceeded
from spdyproto.limits import Limits
from spdyproto.nuisance import Nuisances
from spdyproto.types import Buffer

STREAMS = 100
"""Requests at once on one connection."""

_BODIES = 4  # times body_limit: request bodies of one connection that are not complete
_RESETS = 200  # streams that the client gave up, beyond those that it let end
_BATCH = 64 * 1024  # bytes that are written at once
_SLICE = 16 * 1024  # bytes that are read in one turn of the loop
_NUISANCES = 250  # frames in a burst that move nothing; a tenth comes back each second
_PREFACE = 24  # bytes before the first frame
_NOISE = frozenset({2, 3, 4, 6, 9})  # PRIORITY, RST_STREAM, SETTINGS, PING, CONTINUATION
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "upgrade", "proxy-connection"})


class _Stream:
    """One request, from its head to the end of its answer."""

    __slots__ = ("body", "headers", "task", "too_long")

    def __init__(self, headers: list[tuple[bytes, bytes]]) -> None:
        self.headers = headers
        self.body = bytearray()
        self.too_long = False
        self.task: asyncio.Task[None] | None = None


class FrameMeter:
    """Counts, before h2 reads them, the frames of a client that are cheap to send, dear to read, and move nothing:
    PING, SETTINGS, RST_STREAM, PRIORITY, CONTINUATION and empty DATA. h2 takes 100 microseconds for one."""

    def __init__(self, now: float) -> None:
        self._bucket = Nuisances(_NUISANCES, now)
        self._skip = _PREFACE
        self._head = b""

    def count(self, data: bytes, now: float) -> None:
        """The next bytes. Raises LimitExceeded for a flood."""
        position = 0
        while position < len(data):
            if self._skip:
                step = min(self._skip, len(data) - position)
                self._skip -= step
                position += step
                continue
            need = 9 - len(self._head)
            self._head += data[position : position + need]
            position += need
            if len(self._head) < 9:
                return
            self._skip, kind = int.from_bytes(self._head[:3], "big"), self._head[3]
            self._head = b""
            if kind in _NOISE or (kind == 0 and not self._skip):
                self._bucket.add(now)


class Http2Server:
    """An ``http1.HttpServer``: the server's end of one HTTP/2 connection."""

    def __init__(self, wire: Wire, application: Application, limits: Limits, body_limit: int) -> None:
        self._wire = wire
        self._application = application
        self._body_limit = body_limit
        self._streams: dict[int, _Stream] = {}
        self._unread = b""
        self._meter = FrameMeter(wire.loop.time())
        self._bodies = 0
        self._resets = 0
        self._working = 0
        self._leaving = False  # the client opens no more streams
        self._over = False
        self._reader: asyncio.Task[None] | None = None
        self._room: set[asyncio.Future[None]] = set()
        self._http = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding=None, validate_outbound_headers=False)
        )
        codes = h2.settings.SettingCodes
        self._http.local_settings = h2.settings.Settings(
            client=False,
            initial_values={
                codes.MAX_CONCURRENT_STREAMS: STREAMS,
                codes.MAX_HEADER_LIST_SIZE: limits.http_head,
                codes.ENABLE_CONNECT_PROTOCOL: 0,
            },
        )
        self._http.decoder.max_header_list_size = limits.http_head  # from now on, and not only once it is acknowledged
        # h2 takes a client's GOAWAY for the end of everything; what was opened before goes on (RFC 9113, 6.8).
        inputs, states = h2.connection.ConnectionInputs, h2.connection.ConnectionState
        machine = self._http.state_machine
        open_still = {(states.SERVER_OPEN, inputs.RECV_GOAWAY): (None, states.SERVER_OPEN)}
        machine._transitions = {**machine._transitions, **open_still}
        self._http.initiate_connection()
        self._flush()

    # -- from the connection -----------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """As ``HttpServer.receive``."""
        if self._over:
            return
        waiting = bool(self._unread)
        self._unread += data
        if not waiting:
            self._digest()

    def _digest(self) -> None:
        """Read a slice, and leave the rest for the next turn of the loop: a batch of tiny frames takes a second."""
        if self._over:
            return
        data, self._unread = self._unread[:_SLICE], self._unread[_SLICE:]
        try:
            self._meter.count(data, self._wire.loop.time())
        except LimitExceeded:
            self._http.close_connection(h2.errors.ErrorCodes.ENHANCE_YOUR_CALM)
            self._end()
            return
        self._feed(data)
        if self._unread:
            self._wire.pause_reading()
            self._wire.loop.call_soon(self._digest)
        elif self._reader is None and not self._over:
            self._wire.resume_reading()

    def _feed(self, data: bytes) -> None:
        try:
            events = self._http.receive_data(data)
        except h2.exceptions.ProtocolError:
            self._end()  # h2 has queued a GOAWAY that says why
            return
        for event in events:
            if not self._over:
                self._take(event)
        if not self._over:
            self._flush()
        if self._wire.write_paused and self._reader is None:
            self._wire.pause_reading()
            self._reader = self._wire.loop.create_task(self._read_again())

    async def _read_again(self) -> None:
        try:
            await self._wire.drained()
        except ConnectionError:
            return
        finally:
            self._reader = None
        if not self._unread:
            self._wire.resume_reading()

    def receive_eof(self) -> bool:
        """As ``HttpServer.receive_eof``: no client of HTTP/2 closes one side."""
        self.close()
        return False

    def close(self) -> None:
        """As ``HttpServer.close``."""
        self._over = True
        self._unread = b""
        if self._reader is not None:
            self._reader.cancel()
        for stream in self._streams.values():
            if stream.task is not None:
                stream.task.cancel()

    def _end(self) -> None:
        """Say what h2 has to say, and close."""
        self._flush()
        self.close()
        self._wire.shut_down()

    def _flush(self) -> None:
        output = self._http.data_to_send()
        if output:
            self._wire.write(output)

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            self._open(event)
        elif isinstance(event, h2.events.DataReceived):
            self._collect(event)
        elif isinstance(event, h2.events.StreamEnded):
            self._begin(event.stream_id or 0)
        elif isinstance(event, h2.events.StreamReset):
            self._give_up(event.stream_id or 0)
        elif isinstance(event, h2.events.WindowUpdated | h2.events.RemoteSettingsChanged):
            room, self._room = self._room, set()
            for waiter in room:
                if not waiter.done():
                    waiter.set_result(None)
        elif isinstance(event, h2.events.ConnectionTerminated):
            self._leaving = True
            if not self._working:
                self._end()

    # -- requests ----------------------------------------------------------------------------------------------------

    def _open(self, event: h2.events.RequestReceived) -> None:
        stream_id = event.stream_id or 0
        headers = [(bytes(name), bytes(value)) for name, value in event.headers or ()]
        self._streams[stream_id] = _Stream(headers)
        if any(name == b"expect" and value.lower() == b"100-continue" for name, value in headers):
            self._http.send_headers(stream_id, [(b":status", b"100")])

    def _collect(self, event: h2.events.DataReceived) -> None:
        stream = self._streams.get(event.stream_id or 0)
        data = event.data or b""
        self._http.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
        if stream is None or stream.too_long:
            return
        stream.body += data
        self._bodies += len(data)
        if len(stream.body) > self._body_limit or self._bodies > _BODIES * self._body_limit:
            stream.too_long = True
            self._bodies -= len(stream.body)
            stream.body.clear()
            self._begin(event.stream_id or 0)

    def _begin(self, stream_id: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is None or stream.task is not None:
            return
        self._bodies -= len(stream.body)
        self._working += 1
        self._wire.at_work()
        stream.task = self._wire.loop.create_task(self._run(stream_id, stream))

    def _give_up(self, stream_id: int) -> None:
        self._resets += 1
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            if stream.task is not None:
                stream.task.cancel()
            else:
                self._bodies -= len(stream.body)
        if self._resets > _RESETS:
            self._http.close_connection(h2.errors.ErrorCodes.ENHANCE_YOUR_CALM)
            self._end()

    async def _run(self, stream_id: int, stream: _Stream) -> None:
        try:
            await self._serve(stream_id, stream)
            self._resets = max(0, self._resets - 1)
        except asyncio.CancelledError:
            pass
        except (ConnectionError, h2.exceptions.StreamClosedError, h2.exceptions.NoSuchStreamError):
            self._reset(stream_id)
        except Exception as error:
            self._reset(stream_id)
            self._wire.loop.call_exception_handler({"message": "a request was not answered", "exception": error})
        finally:
            self._streams.pop(stream_id, None)
            self._working -= 1
            if not self._over:
                self._flush()
                if not self._working:
                    self._wire.at_rest()
                    if self._leaving:
                        self._end()

    def _reset(self, stream_id: int) -> None:
        try:
            self._http.reset_stream(stream_id, h2.errors.ErrorCodes.INTERNAL_ERROR)
        except (h2.exceptions.ProtocolError, h2.exceptions.StreamClosedError):
            pass  # it is closed already

    async def _serve(self, stream_id: int, stream: _Stream) -> None:
        request = self._request(stream)
        answer = request if isinstance(request, Response) else await self._application.answer(request)
        method = request.method if isinstance(request, Request) else "GET"
        if isinstance(answer, Cut):
            raise ConnectionAbortedError
        if isinstance(answer, Streaming):
            async with closing_body(answer) as body:
                self._head(stream_id, answer.status, answer.headers, end=method == "HEAD")
                if method == "HEAD":
                    return
                async for piece in body:
                    await self._send(stream_id, piece)
                    self._wire.at_work()
                    await asyncio.sleep(0)
            self._http.end_stream(stream_id)
            return
        if not isinstance(answer, Response):  # the application did not look at the version
            answer = go_error(500, "unable to upgrade: unable to hijack response")
        length = ("Content-Length", str(len(answer.body)))
        empty = method == "HEAD" or not answer.body
        self._head(stream_id, answer.status, [*answer.headers, length], end=empty)
        if not empty:
            await self._send(stream_id, answer.body)
            self._http.end_stream(stream_id)
        if stream.too_long:
            self._flush()
            self._http.reset_stream(stream_id, h2.errors.ErrorCodes.NO_ERROR)

    def _request(self, stream: _Stream) -> Request | Response:
        if stream.too_long:
            return refusal(413)
        pseudo = {name: value for name, value in stream.headers if name.startswith(b":")}
        headers = [(name, value) for name, value in stream.headers if not name.startswith(b":")]
        if b":authority" in pseudo and not any(name == b"host" for name, _ in headers):
            headers.insert(0, (b"host", pseudo[b":authority"]))
        cookies = [value for name, value in headers if name == b"cookie"]
        if len(cookies) > 1:  # RFC 9113, 8.2.3
            headers = [(name, value) for name, value in headers if name != b"cookie"]
            headers.append((b"cookie", b"; ".join(cookies)))
        try:
            method = pseudo[b":method"].decode("ascii")
            target = pseudo.get(b":path", b"").decode("ascii")
            path, query = parse_target(target)
        except ValueError:
            return plain(400, "400 Bad Request")
        request = Request(method, path, query, headers, bytes(stream.body), target, version="2")
        stream.body.clear()
        return self._wire.complete(request)

    # -- answers -----------------------------------------------------------------------------------------------------

    def _head(self, stream_id: int, status: int, headers: Iterable[tuple[str, str]], *, end: bool) -> None:
        lines = [(b":status", str(status).encode())]
        for name, value in (*headers, ("Date", formatdate(usegmt=True))):
            if name.lower() not in _HOP_BY_HOP:
                lines.append((name.lower().encode("latin-1"), value.encode("latin-1")))
        self._http.send_headers(stream_id, lines, end_stream=end)
        self._flush()

    async def _send(self, stream_id: int, data: Buffer) -> None:
        """All of it, as the client opens its windows."""
        view = memoryview(data).cast("B")
        batch = 0
        while view:
            room = min(self._http.local_flow_control_window(stream_id), self._http.max_outbound_frame_size, len(view))
            if room > 0:
                self._http.send_data(stream_id, bytes(view[:room]))
                view = view[room:]
                batch += room
            if room <= 0 or batch >= _BATCH or not view:
                self._flush()
                batch = 0
                await self._wire.drained()
            if room <= 0:
                await self._wait_for_room()

    async def _wait_for_room(self) -> None:
        waiter = self._wire.loop.create_future()
        self._room.add(waiter)
        try:
            await waiter
        finally:
            self._room.discard(waiter)

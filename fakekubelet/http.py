"""HTTP/1.1 as a kubelet (Go's ``net/http``) speaks it: requests in, answers out. h11 parses and writes every head.

No I/O: bytes in by ``receive``, bytes out of ``answer`` and ``switch``. What a client can make the server hold is
bounded: the head by ``Limits.http_head``, the body (which nothing here reads) by ``_BODY_LIMIT``, pipelined requests
by the caller, who takes them one at a time.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote, urlsplit

import h11

from spdyproto.limits import Limits

RawHeaders = list[tuple[bytes, bytes]]

TEXT = "text/plain; charset=utf-8"

_BODY_LIMIT = 256 * 1024  # what Go reads of an unread body before it gives the connection up
_QUERY_FIELDS = 4096  # of one request: more arguments than any head of 64 KiB can hold


@dataclass(frozen=True, slots=True)
class Request:
    """A request whose body has been read and dropped."""

    method: str
    path: str
    """Decoded, as routes see it; bytes that are not UTF-8 are lone surrogates, as in file names."""
    query: dict[str, list[str]]
    headers: RawHeaders = field(repr=False)
    """Names in lower case. Not shown: tokens stand in them."""

    def values(self, name: bytes) -> list[str]:
        """All values of a header, in order."""
        return [value.decode("latin-1") for key, value in self.headers if key == name]

    def first(self, key: str) -> str:
        """The first value of a query parameter, empty if there is none: what Go's ``FormValue`` gives."""
        return self.query.get(key, [""])[0]

    @property
    def wants_upgrade(self) -> bool:
        """Whether any ``Connection`` line says so, which is all that a kubelet looks at first."""
        return any("upgrade" in value.lower() for value in self.values(b"connection"))


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """An answer as a server writes it that has taken the connection over: bytes, and the connection ends behind them.

    Go's WebSocket handshake refuses in this way, without a length.
    """

    data: bytes


@dataclass(slots=True)
class Response:
    """An answer with its whole body. ``close`` ends the connection behind it."""

    status: int
    body: bytes = b""
    headers: list[tuple[str, str]] = field(default_factory=list)
    close: bool = False


def plain(status: int, text: str, headers: list[tuple[str, str]] | None = None) -> Response:
    """Text as go-restful and the kubelet's own handlers write it: nothing added."""
    return Response(status, text.encode("utf-8", "surrogateescape"), [*(headers or []), ("Content-Type", TEXT)])


def go_error(status: int, text: str, headers: list[tuple[str, str]] | None = None) -> Response:
    """Text as Go's ``http.Error`` writes it: with a line feed, and a header against guessing its type."""
    extra = [("Content-Type", TEXT), ("X-Content-Type-Options", "nosniff")]
    return Response(status, f"{text}\n".encode("utf-8", "surrogateescape"), [*(headers or []), *extra])


class HttpConnection:
    """The server's end of one HTTP/1.1 connection, until it is closed or switched to another protocol."""

    def __init__(self, limits: Limits) -> None:
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.http_head)
        self._limit = limits.http_head
        self._request: h11.Request | None = None
        self._body = 0
        self._unread = 0  # bytes that h11 holds, before the next event

    def feed(self, data: bytes) -> None:
        """Bytes from the client; then call ``next`` until it gives None."""
        self._unread += len(data)
        self._http.receive_data(data)

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
            return _refusal(error.error_status_hint or 400)

    def _next(self) -> Request | Response | None:
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                self._request, self._body = event, 0
                # h11 bounds a head that is not complete; one that came in one piece is held to the same limit here.
                before, self._unread = self._unread, len(self._http.trailing_data[0])
                if before - self._unread > self._limit:
                    return _refusal(431)
            elif isinstance(event, h11.Data):
                self._body += len(event.data)
                if self._body > _BODY_LIMIT:
                    return _refusal(413)
            elif isinstance(event, h11.EndOfMessage):
                assert self._request is not None
                head, self._request = self._request, None
                self._unread = len(self._http.trailing_data[0])
                return _parse(head)
            else:  # NEED_DATA, PAUSED behind a request, or ConnectionClosed
                return None

    def answer(self, request: Request | None, response: Response) -> tuple[bytes, bool]:
        """The bytes of an answer, and whether the connection must be closed behind it."""
        http = self._http
        if http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return b"", True
        headers = [
            *response.headers,
            ("Date", formatdate(usegmt=True)),
            ("Content-Length", str(len(response.body))),
        ]
        if response.close:
            headers.append(("Connection", "close"))
        status = HTTPStatus(response.status)
        event = h11.Response(status_code=status, headers=headers, reason=status.phrase.encode())
        output = http.send(event) or b""
        if response.body and not (request is not None and request.method == "HEAD"):
            output += http.send(h11.Data(data=response.body)) or b""
        output += http.send(h11.EndOfMessage()) or b""
        return output, not self._renew()

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


def _parse(head: h11.Request) -> Request | Response:
    try:
        target = head.target.decode("ascii")
        if target.startswith("/"):
            path, _, query = target.partition("?")
        else:
            parts = urlsplit(target)  # absolute form: GET https://host/path
            path, query = parts.path or "/", parts.query
            if not parts.scheme:
                raise ValueError("neither a path nor an address")
        fields: dict[str, list[str]] = {}
        pairs = parse_qsl(query, keep_blank_values=True, errors="surrogateescape", max_num_fields=_QUERY_FIELDS)
        for key, value in pairs:
            fields.setdefault(key, []).append(value)
        path = unquote(path, errors="surrogateescape")
    except ValueError:
        return _refusal(400)
    return Request(head.method.decode("ascii"), path, fields, [(bytes(k), bytes(v)) for k, v in head.headers])


def _refusal(code: int) -> Response:
    status = HTTPStatus(code)
    return Response(status, f"{code} {status.phrase}".encode(), [("Content-Type", TEXT)], close=True)


def clean_path(path: str) -> str:
    """The path without empty, ``.`` and ``..`` parts: Go's ServeMux redirects every other spelling to it."""
    cleaned = posixpath.normpath("/" + path.lstrip("/"))
    return cleaned + "/" if path.endswith("/") and cleaned != "/" else cleaned

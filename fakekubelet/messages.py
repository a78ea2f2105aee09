"""What passes between the HTTP servers of this package and the code that answers: requests, and the kinds of answers.

An ``Application`` is all that differs between a kubelet and an apiserver: it makes an ``Answer`` of each ``Request``,
and may await something for it. Whether the request came over HTTP/1.1 or HTTP/2 is no concern of it. Five answers:

- ``Response``: a whole body.
- ``Streaming``: a body that is made while the client reads, such as a log that is followed.
- ``Upgrade``: 101, and from then on the connection belongs to a ``Session``.
- ``RawAnswer``: bytes of a server that took the connection over and refused.
- ``Cut``: no answer at all; the connection ends.
"""

from __future__ import annotations

import posixpath
from collections.abc import AsyncIterable, Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

from fakekubelet.accounting import SessionRecord
from fakekubelet.upgrades import Carrier, Session, SessionHost
from spdyproto.types import Buffer

RawHeaders = list[tuple[bytes, bytes]]

TEXT = "text/plain; charset=utf-8"

QUERY_FIELDS = 4096
"""Query parameters of one request: more arguments than any head of 64 KiB can hold."""

_FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Request:
    """A request with its whole body."""

    method: str
    path: str
    """Decoded, as routes see it; bytes that are not UTF-8 are lone surrogates, as in file names."""
    query: dict[str, list[str]]
    headers: RawHeaders = field(repr=False)
    """Names in lower case. Not shown: tokens stand in them."""
    body: bytes = field(default=b"", repr=False)
    """Up to ``Host.body_limit`` bytes; a longer one has been answered by 413."""
    target: str = ""
    """Path and query as they came, for whoever hands the request on."""
    certificates: Sequence[bytes] = field(default=(), repr=False)
    """What the client showed in the TLS handshake, DER, its own first; nobody has judged it yet."""
    peer: str = ""
    """The client's IP address."""
    version: str = "1.1"
    """Of HTTP: ``1.0``, ``1.1`` or ``2``. Only HTTP/1.1 can be upgraded."""

    def values(self, name: bytes) -> list[str]:
        """All values of a header, in order."""
        return [value.decode("latin-1") for key, value in self.headers if key == name]

    def first(self, key: str) -> str:
        """The first value of a query parameter, empty if there is none."""
        return self.query.get(key, [""])[0]

    def form_values(self, key: str) -> list[str]:
        """The values of a form: those of the body, then those of the query, as Go's ``Request.Form`` has them."""
        sent = next(iter(self.values(b"content-type")), "").partition(";")[0].strip().lower()
        posted: list[str] = []
        if self.method in ("POST", "PUT", "PATCH") and sent == _FORM:
            posted = parse_query(self.body.decode("utf-8", "surrogateescape")).get(key, [])
        return [*posted, *self.query.get(key, [])]

    @property
    def wants_upgrade(self) -> bool:
        """Whether any ``Connection`` line says so, which is all that a kubelet looks at first."""
        return any("upgrade" in value.lower() for value in self.values(b"connection"))


@dataclass(slots=True)
class Response:
    """An answer with its whole body. ``close`` ends the connection behind it (HTTP/1.1)."""

    status: int
    body: bytes = b""
    headers: list[tuple[str, str]] = field(default_factory=list)
    close: bool = False


@dataclass(slots=True)
class Streaming:
    """An answer whose body comes in pieces: chunked over HTTP/1.1, DATA frames over HTTP/2.

    The head leaves at once, before the first piece was asked for, and each piece leaves when it was yielded. The next
    one is not asked for before there is room: a client that reads nothing stops the iterator.

    ``body`` runs in the task of its request. When the client leaves, that task is cancelled: the iterator sees
    CancelledError where it waits, or GeneratorExit where it yielded. It may raise ConnectionError to cut the answer
    off, so that the client can tell it from a whole one; any other exception does the same and counts as a fault of
    the server, which its ``close`` raises. An asynchronous generator is closed in any case.
    """

    body: AsyncIterable[Buffer]
    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """An answer as a server writes it that has taken the connection over: bytes, and the connection ends behind them.

    Go's WebSocket handshake refuses in this way, without a length. Only for requests of HTTP/1.1.
    """

    data: bytes


@dataclass(frozen=True, slots=True)
class Cut:
    """No answer: the connection (over HTTP/2 the stream) is reset, as by a handler that panicked."""


@dataclass(frozen=True, slots=True)
class Upgrade:
    """101 with these headers; then ``open`` makes the session that the connection belongs to, of whatever kind.

    ``open`` is called on the server's loop, before the 101 is written; the session's ``start`` after that. Only for
    requests of HTTP/1.1: see ``Request.version``.
    """

    headers: RawHeaders
    open: Callable[[Carrier, SessionHost], Session]
    record: SessionRecord = field(default_factory=SessionRecord)
    """What the session is, and where its bytes, its time and its cost are counted."""


Answer = Response | Streaming | RawAnswer | Cut | Upgrade


class Application(Protocol):
    """What answers the requests of a server."""

    async def answer(self, request: Request) -> Answer:
        """Called on the server's loop, in a task that is cancelled when the client's connection is lost.

        Raises ConnectionError to cut the connection; any other exception does so too and is a fault of the server.
        """


def plain(status: int, text: str, headers: list[tuple[str, str]] | None = None) -> Response:
    """Text as go-restful and the kubelet's own handlers write it: nothing added."""
    return Response(status, text.encode("utf-8", "surrogateescape"), [*(headers or []), ("Content-Type", TEXT)])


def go_error(status: int, text: str, headers: list[tuple[str, str]] | None = None) -> Response:
    """Text as Go's ``http.Error`` writes it: with a line feed, and a header against guessing its type."""
    extra = [("Content-Type", TEXT), ("X-Content-Type-Options", "nosniff")]
    return Response(status, f"{text}\n".encode("utf-8", "surrogateescape"), [*(headers or []), *extra])


def refusal(code: int) -> Response:
    """What Go's server itself says to something that is no request, or too much of one; the connection ends."""
    return Response(code, f"{code} {HTTPStatus(code).phrase}".encode(), [("Content-Type", TEXT)], close=True)


def parse_query(text: str) -> dict[str, list[str]]:
    """The fields of a query or a form by name, in order. Raises ValueError for more than ``QUERY_FIELDS``."""
    fields: dict[str, list[str]] = {}
    pairs = parse_qsl(text, keep_blank_values=True, errors="surrogateescape", max_num_fields=QUERY_FIELDS)
    for key, value in pairs:
        fields.setdefault(key, []).append(value)
    return fields


def parse_target(target: str) -> tuple[str, dict[str, list[str]]]:
    """Path, decoded, and query of a request target. Raises ValueError for what is neither a path nor an address."""
    if target.startswith("/"):
        path, _, query = target.partition("?")
    else:
        parts = urlsplit(target)  # absolute form: GET https://host/path
        path, query = parts.path or "/", parts.query
        if not parts.scheme:
            raise ValueError("neither a path nor an address")
    return unquote(path, errors="surrogateescape"), parse_query(query)


def clean_path(path: str) -> str:
    """The path without empty, ``.`` and ``..`` parts: Go's ServeMux redirects every other spelling to it."""
    cleaned = posixpath.normpath("/" + path.lstrip("/"))
    return cleaned + "/" if path.endswith("/") and cleaned != "/" else cleaned

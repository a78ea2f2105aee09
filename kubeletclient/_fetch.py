"""One GET of a JSON document, as far as both flavours share it: the request, the bounded body, and the errors."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

from kubeletclient import errors
from kubeletclient._door import Fetch
from kubeletclient.endpoints import Target
from spdyproto.http import read_message
from spdyproto.text import printable

if TYPE_CHECKING:
    from kubeletclient._plainhttp import Route

__all__ = ["REFUSAL_LIMIT", "Body", "complain", "fetch_error", "request_of", "route_of"]

REFUSAL_LIMIT: Final = 16 * 1024
"""Bytes that are read of a refusal's body: it holds a sentence, or a page of HTML that says nothing."""

_TEXT: Final = 200
"""Characters of a fault's text in an error."""


def request_of(fetch: Fetch, timeout: float | None = None) -> tuple[str, list[tuple[str, str]]]:
    """URL and headers. May read a token file, or run a credential plugin. Raises CredentialsError."""
    way = fetch.way
    trust = way.settings.trust
    trust.check(way.endpoint)
    identity = trust.headers(way.endpoint, time.monotonic())
    if callable(identity):
        identity = identity(timeout)
    return (
        f"{way.endpoint}{fetch.path}",
        [("User-Agent", way.settings.agent), ("Accept", "application/json"), *identity],
    )


def route_of(fetch: Fetch) -> Route:
    """The way of that request, for ``plain_client``."""
    from kubeletclient._plainhttp import Route  # imports httpx, which takes a tenth of a second

    settings = fetch.way.settings
    return Route(_target(fetch), settings.trust, settings.deadlines, settings.agent, settings.allow_local, fetch.what)


def _target(fetch: Fetch) -> Target:
    shown = f"{fetch.way.endpoint}{fetch.path.partition('?')[0]}"
    return Target(fetch.way.endpoint, fetch.path, shown, fetch.way.route)


class Body:
    """Gathers the answer, bounded. ``add`` raises the error for one that is too large."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._body = bytearray()

    def add(self, piece: bytes) -> None:
        """One more piece of the body."""
        self._body += piece
        if len(self._body) > self._fetch.limit:
            raise fetch_error(self._fetch, None, ValueError(f"it is larger than {self._fetch.limit} bytes"))

    def __len__(self) -> int:
        return len(self._body)

    def parse(self, status: int = 200) -> Any:  # noqa: ANN401 - JSON
        """The document. Raises the error for another status, and for what is not JSON."""
        if status != 200:
            raise fetch_error(self._fetch, status, None, bytes(self._body[:REFUSAL_LIMIT]))
        try:
            return json.loads(self._body)
        except (ValueError, RecursionError) as error:
            raise fetch_error(self._fetch, None, ValueError("it is not JSON")) from error


def fetch_error(fetch: Fetch, status: int | None, fault: Exception | None, body: bytes = b"") -> errors.ClientError:
    """The document could not be had: ``status`` is another one than 200, ``body`` the beginning of what came with it;
    or ``fault`` is what httpx or the parser said.

    Faults of the dial and of TLS never come here: they are errors of ours already.
    """
    way = fetch.way
    kind: type[errors.ClientError]
    if fault is not None:
        kind = errors.InvalidAnswer if isinstance(fault, ValueError) else errors.ConnectError
        why, hint = str(fault) or type(fault).__name__, fetch.hint
    else:
        assert status is not None
        kind = _KINDS.get(status, errors.ServerError if status >= 500 else errors.UpgradeRefused)
        said = printable(read_message(body).strip(), limit=_TEXT)
        why = f"the {way.route} answered HTTP {status}" + (f": {said}" if said else "")
        hint = fetch.hint or _HINTS.get(status, "")
    error = kind(
        f"{fetch.why}{fetch.what} cannot be had: {printable(why, limit=2 * _TEXT)}",
        hint=hint,
        route=way.route,
        url=_target(fetch).shown,
        http_status=status,
    )
    if isinstance(error, errors.UpgradeRefused):
        error.message = printable(read_message(body).strip(), limit=_TEXT)
    return error


def complain(fetch: Fetch, error: errors.Unauthorized) -> None:
    """Say why the server may be right, where it can be seen from here. May read a file."""
    complaint = fetch.way.settings.trust.complaint()
    if complaint:
        error.hint = f"{complaint}: get a new one"


_KINDS: Final[dict[int, type[errors.UpgradeRefused]]] = {
    400: errors.BadRequest,
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    429: errors.TooManyRequests,
}
_HINTS: Final = {
    401: "check the credentials, or log in again",
    403: "ask for the right to read it",
    404: "check the name and the namespace",
}

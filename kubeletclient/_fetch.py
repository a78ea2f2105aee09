"""One GET of a JSON document, as far as both flavours share it: the request, the bounded body, and the errors."""

from __future__ import annotations

import json
import socket
import ssl
import time
from typing import Any, Final

from kubeletclient import _faults, errors
from kubeletclient._door import Fetch, Way
from kubeletclient._trust import Trust
from kubeletclient.endpoints import Target
from spdyproto.http import read_message
from spdyproto.text import printable

__all__ = ["REFUSAL_LIMIT", "Body", "client_options", "complain", "fetch_error", "request_of", "transport_fault"]

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


def client_options(way: Way, timeout: float | None = None) -> dict[str, Any]:
    """How an ``httpx`` client reaches that server: as ``_flows`` does, with the same context and by the same proxy. May
    read files, or run a credential plugin. Raises CredentialsError, ProxyError.
    """
    import httpx

    endpoint, trust = way.endpoint, way.settings.trust
    options: dict[str, Any] = {
        "verify": trust.context(timeout) if endpoint.secure else False,
        "trust_env": False,
        "follow_redirects": False,
    }
    proxy = trust.proxy(endpoint)
    if proxy is not None:
        options["proxy"] = httpx.Proxy(
            str(proxy),
            ssl_context=trust.proxy_context() if proxy.scheme == "https" else None,
            auth=None if proxy.user is None else (proxy.user, proxy.password or ""),
        )
    return options


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

    Faults of the dial and of TLS become the errors that a streaming request itself would have met.
    """
    way = fetch.way
    url = f"{way.endpoint}{fetch.path.partition('?')[0]}"
    kind: type[errors.ClientError]
    if fault is not None:
        known = transport_fault(Target(way.endpoint, fetch.path, url, way.route), way.settings.trust, fault)
        if known is not None:
            return known
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
        url=url,
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


def transport_fault(target: Target, trust: Trust, fault: BaseException) -> errors.ClientError | None:
    """The error for a fault of the dial or of TLS under what httpx raised; None for other faults."""
    beneath = _beneath(fault)
    if isinstance(beneath, ssl.SSLError):
        server_name = trust.server_name or target.endpoint.host
        return _faults.tls_fault(target, beneath, server_name, pinned=trust.pinned is not None)
    if isinstance(beneath, socket.gaierror):
        return _faults.resolve_fault(target, beneath)
    if isinstance(beneath, ConnectionRefusedError):
        return _faults.dial_fault(target, [(target.endpoint.host, beneath)])
    if type(fault).__name__ == "ConnectTimeout":  # of httpx, which is imported where it is used only
        return _faults.dial_fault(target, [(target.endpoint.host, TimeoutError())])
    if beneath is not None and beneath.errno in _faults.UNREACHABLE:
        return _faults.dial_fault(target, [(target.endpoint.host, beneath)])
    return None


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


def _beneath(fault: BaseException | None) -> OSError | None:
    """The system's own error under those of the HTTP library, which keep it as their cause or context."""
    while fault is not None and not isinstance(fault, OSError):
        fault = fault.__cause__ or fault.__context__
    return fault

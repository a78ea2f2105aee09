"""One GET of a JSON document, as far as both flavours share it: the request, the bounded body, and the errors."""

from __future__ import annotations

import json
import socket
import ssl
import time
from typing import Any, Final

from kubeletclient import _faults, errors
from kubeletclient._door import Fetch
from kubeletclient.endpoints import Target
from spdyproto.text import printable

__all__ = ["Body", "client_options", "fetch_error", "request_of"]

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


def client_options(fetch: Fetch, timeout: float | None = None) -> dict[str, Any]:
    """How an ``httpx`` client reaches that server: as ``_flows`` does, with the same context and by the same proxy. May
    read files, or run a credential plugin. Raises CredentialsError, ProxyError.
    """
    import httpx

    endpoint, trust = fetch.way.endpoint, fetch.way.settings.trust
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

    def parse(self) -> Any:  # noqa: ANN401 - JSON
        """The document. Raises the error for what is not JSON."""
        try:
            return json.loads(self._body)
        except (ValueError, RecursionError) as error:
            raise fetch_error(self._fetch, None, ValueError("it is not JSON")) from error


def fetch_error(fetch: Fetch, status: int | None, fault: Exception | None) -> errors.ClientError:
    """The document could not be had: ``status`` is another one than 200, or ``fault`` is what httpx or the parser said.

    Faults of the dial and of TLS become the errors that a streaming request itself would have met.
    """
    way = fetch.way
    url = f"{way.endpoint}{fetch.path}"
    target = Target(way.endpoint, fetch.path, url, way.route)
    beneath = _beneath(fault)
    if isinstance(beneath, ssl.SSLError):
        return _faults.tls_fault(target, beneath, way.settings.trust.server_name or way.endpoint.host)
    if isinstance(beneath, socket.gaierror):
        return _faults.resolve_fault(target, beneath)
    if isinstance(beneath, ConnectionRefusedError):
        return _faults.dial_fault(target, [(way.endpoint.host, beneath)])
    why = f"the {way.route} answered HTTP {status}" if status is not None else str(fault) or type(fault).__name__
    kinds: dict[int, type[errors.ClientError]] = {
        401: errors.Unauthorized,
        403: errors.Forbidden,
        404: errors.NotFound,
    }
    kind: type[errors.ClientError] = errors.InvalidAnswer if isinstance(fault, ValueError) else errors.ConnectError
    if status is not None:
        kind = kinds.get(status, errors.ServerError)
    return kind(
        f"{fetch.why}{fetch.what} cannot be had: {printable(why, limit=_TEXT)}",
        hint=fetch.hint,
        route=way.route,
        url=url,
        http_status=status,
    )


def _beneath(fault: BaseException | None) -> BaseException | None:
    """The system's own error under those of the HTTP library, which keep it as their cause or context."""
    while fault is not None and not isinstance(fault, OSError):
        fault = fault.__cause__ or fault.__context__
    return fault

"""Ordinary requests that a kubelet answers: pod logs, and everything through the node proxy that is no upgrade.

The body of an answer comes piece by piece and goes on as it comes, so a log that is followed is followed through here,
and a client that leaves ends the request at the kubelet. Redirects are never followed: of the node proxy they are
passed on if they stay on the node, anything else is an error.
"""

from __future__ import annotations

import datetime
import ssl
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fakekubelet.apiserver import locations
from fakekubelet.apiserver.locations import KubeletFinder, Location, Query
from fakekubelet.apiserver.objects import truth
from fakekubelet.apiserver.requests import Meaning
from fakekubelet.apiserver.status import StatusError, bad_request, internal_error, invalid
from fakekubelet.apiserver.store import Store
from fakekubelet.messages import Answer, Request, Response, Streaming

if TYPE_CHECKING:
    import httpx

_DIAL_SECONDS = 30.0
_ERROR_BODY = 10_000  # bytes of a kubelet's error that make it into the Status, as in Go
_HOP = ("connection", "content-length", "date", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade")


class Forwarder:
    """Sends requests to kubelets. ``close`` it on the loop that used it."""

    def __init__(self, store: Store, finder: KubeletFinder, context: ssl.SSLContext) -> None:
        self._store = store
        self._finder = finder
        self._context = context
        self._client: httpx.AsyncClient | None = None

    async def close(self) -> None:
        """End every connection."""
        if self._client is not None:
            await self._client.aclose()

    async def _send(self, request: Request, where: Location, headers: list[tuple[str, str]]) -> httpx.Response:
        import httpx  # 100 ms that servers do not need which never proxy

        if self._client is None:
            timeout = httpx.Timeout(None, connect=_DIAL_SECONDS)
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
            self._client = httpx.AsyncClient(verify=self._context, timeout=timeout, limits=limits, trust_env=False)
            self._client.headers.clear()  # a client's own words alone go through
        client = self._client
        url = httpx.URL(
            scheme=where.scheme, host=where.host, port=where.port, raw_path=where.target.encode("ascii", "replace")
        )
        sent = client.build_request(request.method, url, headers=headers, content=request.body or None)
        try:
            return await client.send(sent, stream=True)
        except httpx.TransportError as error:
            text = str(error) or type(error).__name__
            raise StatusError(500, "", f"error dialing backend: dial tcp {where.authority}: {text}") from error

    # -- logs --------------------------------------------------------------------------------------------------------

    async def log(self, request: Request, meaning: Meaning) -> Answer:
        """``pods/NAME/log``. Raises StatusError."""
        query = log_query(request)
        pod = locations.pod_of(self._store, meaning.namespace, meaning.name)
        where = locations.log_location(self._store, pod, request.first("container"), query, self._finder)
        text = [("Content-Type", "text/plain")]
        if where is None:
            return Response(200, b"", text)
        accepts = [("Accept", "text/plain, */*"), ("User-Agent", "kube-apiserver")]
        response = await self._send(Request("GET", "", {}, []), where, accepts)
        if not 200 <= response.status_code <= 206:
            raise await _log_error(response, meaning.name)
        return Streaming(_body(response), 200, text)

    # -- the node proxy ----------------------------------------------------------------------------------------------

    async def proxy(self, request: Request, meaning: Meaning) -> Answer:
        """``nodes/NAME/proxy/...`` without an upgrade. Raises StatusError."""
        where = locations.node_proxy(self._store, self._finder, request, meaning)
        dropped = {"host", "expect", "x-forwarded-for", *_HOP}
        lines = [(key.decode("latin-1"), value.decode("latin-1")) for key, value in request.headers]
        headers = [(key, value) for key, value in lines if key not in dropped]
        headers.append(("x-forwarded-for", ", ".join([*request.values(b"x-forwarded-for"), request.peer])))
        response = await self._send(request, where, headers)
        kept = [(key, value) for key, value in response.headers.multi_items() if key not in _HOP]
        if "location" in response.headers:
            base = f"/api/v1/nodes/{locations.segment(meaning.name)}/proxy"
            try:
                kept = [(key, _moved(value, base, where) if key == "location" else value) for key, value in kept]
            except StatusError:
                await response.aclose()
                raise
        return Streaming(_body(response), response.status_code, kept)


def _moved(location: str, base: str, where: Location) -> str:
    """A redirect within the node, seen from outside. Raises StatusError 502 for one that leads elsewhere."""
    parts = urlsplit(location)
    if parts.netloc and (parts.scheme, parts.netloc) != (where.scheme, where.authority):
        raise StatusError(502, "", "the node answers with a redirect to another server, which is not passed on")
    if not parts.path.startswith("/"):
        return location
    return base + parts.path + (f"?{parts.query}" if parts.query else "")


async def _body(response: httpx.Response) -> AsyncIterator[bytes]:
    import httpx

    try:
        async for piece in response.aiter_raw():
            yield piece
    except httpx.TransportError as error:
        raise ConnectionAbortedError(f"the kubelet's answer broke off: {error}") from error
    finally:
        await response.aclose()


async def _log_error(response: httpx.Response, name: str) -> StatusError:
    body = b""
    try:
        async for piece in response.aiter_raw():
            body += piece
            if len(body) >= _ERROR_BODY:
                break
    finally:
        await response.aclose()
    text = body[:_ERROR_BODY].decode("utf-8", "replace")
    match response.status_code:
        case 400:
            return bad_request(text)
        case 500:
            return internal_error(text)
        case 404:
            message = f"the server could not find the requested resource ( pods {name})"
            return StatusError(404, "NotFound", message, details={"name": name, "kind": "pods"})
        case code:
            return StatusError(code, "", f"unknown (pods {name}): {text}")


def log_query(request: Request) -> Query:
    """What the kubelet is asked, of the query of a log request. Raises StatusError: 400 for what cannot be read, 422
    for what makes no sense (``k/k: pkg/apis/core/validation``, ValidatePodLogOptions)."""
    query: Query = [(flag, "true") for flag in ("follow", "previous", "timestamps") if truth(request, flag)]
    numbers = {name: _integer(request, name) for name in ("sinceSeconds", "tailLines", "limitBytes")}
    since = request.first("sinceTime")
    if since:
        try:
            datetime.datetime.fromisoformat(since.replace("Z", "+00:00"))
        except ValueError:
            fault = f'parsing time "{since}" as "2006-01-02T15:04:05Z07:00": cannot parse "{since}" as "2006"'
            raise bad_request(fault) from None
    causes = []
    for name, least, words in (
        ("tailLines", 0, "must be greater than or equal to 0"),
        ("limitBytes", 1, "must be greater than 0"),
        ("sinceSeconds", 1, "must be greater than 0"),
    ):
        value = numbers[name]
        if value is not None and value < least:
            causes.append((name, f"Invalid value: {value}: {words}"))
    if since and numbers["sinceSeconds"] is not None:
        causes.append(("", "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified"))
    if causes:
        raise invalid("PodLogOptions", "", causes)
    query += [(name, str(value)) for name, value in numbers.items() if value is not None]
    if since:
        query.append(("sinceTime", since))
    stream = request.first("stream")
    return query + ([("stream", stream)] if stream and stream != "All" else [])


def _integer(request: Request, name: str) -> int | None:
    text = request.first(name)
    if not text:
        return None
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 19):
        raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    return int(text)

"""Plain requests, on a loop: httpx on the sockets of ``driver``; see ``_plainhttp``."""

from __future__ import annotations

import asyncio
import select
import ssl
from collections.abc import AsyncIterator, Iterable
from typing import Any

import httpcore
import httpx

from kubeletclient._commands import Receive, Send, StartTLS
from kubeletclient._plainhttp import Route, core_request, transport_faults
from kubeletclient._policy import NEVER, Deadline
from kubeletclient._worker import in_thread
from kubeletclient.aio.driver import Connection, establish

__all__ = ["plain_client"]


async def plain_client(route: Route, deadline: Deadline = NEVER, *, timeout: float | None = None) -> httpx.AsyncClient:
    """A client for requests to the server of ``route``, and no other.

    ``deadline`` ends dialling, reading credentials included; ``timeout`` bounds each wait for an answer. Making it may
    read files or run a credential plugin, in a thread. Raises CredentialsError; requests raise our errors for
    everything up to TLS, and those of httpx beyond.
    """
    context = None
    if route.target.endpoint.secure:
        left = deadline.left()
        context = await in_thread(lambda: route.trust.context(left))
    pool = httpcore.AsyncConnectionPool(
        ssl_context=context or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), network_backend=_Backend(route, deadline)
    )
    return httpx.AsyncClient(transport=_Transport(pool), timeout=timeout, trust_env=False, follow_redirects=False)


class _Backend(httpcore.AsyncNetworkBackend):
    def __init__(self, route: Route, deadline: Deadline) -> None:
        self._route = route
        self._deadline = deadline

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Dials as the route says; the host is that of the route."""
        connection, _ = await establish(self._route.dial(), self._deadline)
        return _Stream(connection, self._route)

    async def sleep(self, seconds: float) -> None:
        """Between tries, of which there are none."""
        await asyncio.sleep(seconds)


class _Stream(httpcore.AsyncNetworkStream):
    def __init__(self, connection: Connection, route: Route) -> None:
        self._connection = connection
        self._route = route

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Some bytes; more than ``max_bytes`` now and then, which httpcore takes as well."""
        with self._route.stream_faults():
            data = await self._connection.perform(Receive(timeout), timeout)
            assert isinstance(data, bytes)
            if not data and self._connection.tls is not None and not self._connection.tls.closed_by_peer:
                raise ConnectionError("the connection was cut: TLS did not end")
            return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """All of ``buffer``."""
        with self._route.stream_faults():
            await self._connection.perform(Send(buffer, timeout), timeout)

    async def aclose(self) -> None:
        """At once: a request that was answered owes nobody anything."""
        self._connection.close()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        """On this connection, which stays the same object."""
        name = server_hostname or self._route.server_name
        limit = self._route.deadlines.tls
        try:
            with self._route.tls_faults():
                await self._connection.perform(StartTLS(ssl_context, name, limit), limit)
        except BaseException:
            self._connection.close()
            raise
        return self

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - as declared by httpcore
        """``is_readable``: something came, or the end, though nothing was asked for."""
        if info != "is_readable" or self._connection.sock is None:
            return None
        poller = select.poll()
        poller.register(self._connection.sock, select.POLLIN)
        return bool(poller.poll(0))


class _Transport(httpx.AsyncBaseTransport):
    def __init__(self, pool: httpcore.AsyncConnectionPool) -> None:
        self._pool = pool

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        with transport_faults():
            answer = await self._pool.handle_async_request(core_request(request))
        return httpx.Response(
            answer.status,
            headers=answer.headers,
            stream=_Body(answer),
            extensions=answer.extensions,
        )

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Body(httpx.AsyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with transport_faults():
            async for piece in self._answer.aiter_stream():
                yield piece

    async def aclose(self) -> None:
        with transport_faults():
            await self._answer.aclose()

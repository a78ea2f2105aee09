"""Plain requests, blocking: httpx on the sockets of ``driver``; see ``_plainhttp``."""

from __future__ import annotations

import select
import ssl
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import httpcore
import httpx

from kubeletclient._commands import Command, Receive, Send, StartTLS
from kubeletclient._plainhttp import Route, core_request, transport_faults
from kubeletclient._policy import NEVER, Deadline
from kubeletclient.sync.driver import Transport, establish

__all__ = ["plain_client"]


def plain_client(route: Route, deadline: Deadline = NEVER, *, timeout: float | None = None) -> httpx.Client:
    """A client for requests to the server of ``route``, and no other.

    ``deadline`` ends dialling, reading credentials included; ``timeout`` bounds each wait for an answer. Making it may
    read files or run a credential plugin. Raises CredentialsError; requests raise our errors for everything up to TLS,
    and those of httpx beyond.
    """
    context = route.trust.context(deadline.left()) if route.target.endpoint.secure else None
    pool = httpcore.ConnectionPool(
        ssl_context=context or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), network_backend=_Backend(route, deadline)
    )
    return httpx.Client(transport=_Transport(pool), timeout=timeout, trust_env=False, follow_redirects=False)


class _Backend(httpcore.NetworkBackend):
    def __init__(self, route: Route, deadline: Deadline) -> None:
        self._route = route
        self._deadline = deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Dials as the route says; the host is that of the route."""
        transport, _ = establish(self._route.dial(), self._deadline)
        return _Stream(transport, self._route, self._deadline)


class _Stream(httpcore.NetworkStream):
    def __init__(self, transport: Transport, route: Route, deadline: Deadline) -> None:
        self._transport = transport
        self._route = route
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Some bytes; more than ``max_bytes`` now and then, which httpcore takes as well."""
        with self._route.stream_faults():
            data = self._perform(Receive(timeout))
            assert isinstance(data, bytes)
            if not data and self._transport.tls is not None and not self._transport.tls.closed_by_peer:
                raise ConnectionError("the connection was cut: TLS did not end")
            return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """All of ``buffer``."""
        with self._route.stream_faults():
            self._perform(Send(buffer, timeout))

    def close(self) -> None:
        """Says goodbye, as far as that needs no waiting."""
        self._transport.say_goodbye()
        self._transport.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """On this connection, which stays the same object."""
        name = server_hostname or self._route.server_name
        try:
            with self._route.tls_faults():
                self._perform(StartTLS(ssl_context, name, self._route.deadlines.tls))
        except BaseException:
            self._transport.close()
            raise
        return self

    def _perform(self, command: Command) -> object:
        try:
            return self._transport.perform(command, self._deadline)
        except TimeoutError:
            if self._deadline.passed():
                what = self._route.what or f"an answer of {self._route.target.shown}"
                raise self._deadline.error(what) from None
            raise

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - as declared by httpcore
        """``is_readable``: something came, or the end, though nothing was asked for."""
        if info != "is_readable" or self._transport.fileno() < 0:
            return None
        poller = select.poll()
        poller.register(self._transport.fileno(), select.POLLIN)
        return bool(poller.poll(0))


class _Transport(httpx.BaseTransport):
    def __init__(self, pool: httpcore.ConnectionPool) -> None:
        self._pool = pool

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        with transport_faults():
            answer = self._pool.handle_request(core_request(request))
        assert not isinstance(answer.stream, Sequence)
        return httpx.Response(
            answer.status,
            headers=answer.headers,
            stream=_Body(answer),
            extensions=answer.extensions,
        )

    def close(self) -> None:
        self._pool.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        with transport_faults():
            yield from self._answer.iter_stream()

    def close(self) -> None:
        with transport_faults():
            self._answer.close()

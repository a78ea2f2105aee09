"""What listens in a fake pod: a service for each port, declared with the pod.

::

    Pod("default/web", ports={80: Port(http, name="http"), 7: echo, 8080: slow(http, 3.0), 5432: Loopback(15432)})

A service is a coroutine function ``service(reader, writer)`` with asyncio's streams, one call for each connection, on
the server's loop: ``reader`` ends when the client has half-closed, ``writer.write_eof()`` half-closes to the client,
and returning closes the connection. Raising ConnectionError resets it; any other exception resets it too and counts as
a fault of the server. A blocking function, or anything else that is not a coroutine function, is called with a socket
in a thread of its own. ``Loopback`` forwards to a real port of this host, which the server must allow by name. Where
nothing is declared nothing listens, and a connection is refused.
"""

from __future__ import annotations

import asyncio
import inspect
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

AsyncService: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[object]]
BlockingService: TypeAlias = Callable[[socket.socket], object]

_CHUNK: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Loopback:
    """A real port of this host. The server refuses it unless it was made with ``allow_loopback_ports=True``."""

    port: int
    host: str = "127.0.0.1"

    def __post_init__(self) -> None:
        if not 0 < self.port < 65536:
            raise ValueError(f"port {self.port}; 1 to 65535 expected")
        if self.host not in ("127.0.0.1", "::1"):
            raise ValueError(f"host {self.host!r}: only 127.0.0.1 and ::1 are loopback")


Service: TypeAlias = AsyncService | BlockingService | Loopback


@dataclass(frozen=True, slots=True)
class Port:
    """A service with the name that its port has in the pod's specification."""

    service: Service
    name: str = ""


def is_async(service: Service) -> bool:
    """Whether the service runs on the loop, with asyncio's streams."""
    return inspect.iscoroutinefunction(service) or inspect.iscoroutinefunction(getattr(service, "__call__", None))  # noqa: B004 - an object whose call is a coroutine


# -- services ----------------------------------------------------------------------------------------------------------


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends back what comes, and ends when the client does."""
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()


async def discard(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reads to the end, and says nothing."""
    while await reader.read(_CHUNK):
        pass


async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An HTTP/1.1 server that answers every request with its own first line and the body that came."""
    while True:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return
        lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        answer = lines[0].encode("latin-1") + b"\n" + body
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer
        )
        await writer.drain()
        if headers.get("connection", "").lower() == "close":
            return


def source(size: int) -> AsyncService:
    """Sends ``size`` zero bytes and ends, whatever the client sends."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        block = bytes(_CHUNK)
        for start in range(0, size, _CHUNK):
            writer.write(block[: size - start])
            await writer.drain()

    return serve


def slow(service: AsyncService, seconds: float) -> AsyncService:
    """``service``, which begins after this long: the client waits, and what it sends is not read until then."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(seconds)
        await service(reader, writer)

    return serve


async def half_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says ``bye``, ends its own direction at once, and reads to the end of the other."""
    writer.write(b"bye\n")
    writer.write_eof()
    await discard(reader, writer)


async def answer_at_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers how many bytes came, once the client has half-closed: what a request that ends by EOF needs."""
    size = 0
    while data := await reader.read(_CHUNK):
        size += len(data)
    writer.write(b"%d\n" % size)
    await writer.drain()


async def unread(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Never reads, and never ends before the client."""
    await asyncio.Event().wait()


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes a few bytes, answers ``part``, and resets the connection."""
    await reader.read(_CHUNK)
    writer.write(b"part")
    await writer.drain()
    raise ConnectionResetError("connection reset by peer")


def refuse(sock: socket.socket) -> None:
    """Nothing listens there: as a port that was not declared."""
    raise AssertionError("never called")


DEMO_PORTS: Final[Mapping[int, Service | Port]] = {7: echo, 9: discard, 80: Port(http, name="http")}
"""What listens in pod ``default/demo``, where no pods were declared."""

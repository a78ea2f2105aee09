"""Other Python WebSocket libraries, used as well as their documentation tells: no compression, no limit of size.

Uploads send messages of a channel byte and 32 KiB, and end when the command has read them all.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode, urlsplit

from benchmarks.variants.limits import context_for
from benchmarks.variants.meter import Meter, command

Target = dict[str, str]
_PROTOCOL = "v4.channel.k8s.io"
_MESSAGE = 32768
_STDIN, _STDOUT = 0, 1


def _url(target: Target, argv: list[str], *, stdin: bool) -> str:
    query = urlencode([*(("command", word) for word in argv), ("output", "1"), *([("input", "1")] if stdin else [])])
    return f"wss://{urlsplit(target['url']).netloc}/exec/default/demo/main?{query}"


def _messages(size: int) -> Iterator[bytes]:
    zeros = bytes(_MESSAGE)
    while size > 0:
        yield bytes((_STDIN,)) + zeros[: min(size, _MESSAGE)]
        size -= _MESSAGE


def download(target: Target, argv: list[str], size: int, warm: int, library: str) -> dict[str, Any]:
    """stdout, counted message by message."""
    _DOWNLOADS[library](target, _url(target, command(argv, warm), stdin=False))
    url = _url(target, command(argv, size), stdin=False)
    with Meter() as meter:
        received = _DOWNLOADS[library](target, url)
    if received != size:
        raise ValueError(f"{received} bytes came instead of {size}")
    return meter.answer(size)


def upload(target: Target, argv: list[str], size: int, warm: int, library: str) -> dict[str, Any]:
    """stdin, whose count the peer prints at the end."""
    _UPLOADS[library](target, _url(target, command(argv, warm), stdin=True), warm)
    url = _url(target, command(argv, size), stdin=True)
    with Meter() as meter:
        answer = _UPLOADS[library](target, url, size)
    if int(answer) != size:
        raise ValueError(f"the peer counted {answer!r} bytes of {size}")
    return meter.answer(size)


def _websocket_client(target: Target, url: str) -> Any:  # noqa: ANN401 - as below
    return _library("websocket").create_connection(
        url, sslopt={"context": context_for(target)}, subprotocols=[_PROTOCOL]
    )


def _websocket_client_down(target: Target, url: str) -> int:
    connection, received = _websocket_client(target, url), 0
    while True:
        opcode, data = connection.recv_data()
        if opcode == 8:
            return received
        if data[0] == _STDOUT:
            received += len(data) - 1


def _websocket_client_up(target: Target, url: str, size: int) -> bytes:
    connection = _websocket_client(target, url)
    for message in _messages(size):
        connection.send_binary(message)
    while True:
        _, data = connection.recv_data()
        if data[0] == _STDOUT and len(data) > 1:
            return bytes(data[1:])


def _websockets(target: Target, url: str) -> Any:  # noqa: ANN401 - as below
    connect = _library("websockets.sync.client").connect
    return connect(url, ssl=context_for(target), subprotocols=[_PROTOCOL], compression=None, max_size=None)


def _library(name: str) -> Any:  # noqa: ANN401 - it comes with an extra, and is not always there
    return importlib.import_module(name)


def _websockets_down(target: Target, url: str) -> int:
    received = 0
    with _websockets(target, url) as connection:
        for data in connection:
            if data[0] == _STDOUT:
                received += len(data) - 1
    return received


def _websockets_up(target: Target, url: str, size: int) -> bytes:
    with _websockets(target, url) as connection:
        for message in _messages(size):
            connection.send(message)
        for data in connection:
            if data[0] == _STDOUT and len(data) > 1:
                return bytes(data[1:])
    return b"0"


def _aiohttp_down(target: Target, url: str) -> int:
    return asyncio.run(_aiohttp(target, url, 0))[0]


def _aiohttp_up(target: Target, url: str, size: int) -> bytes:
    return asyncio.run(_aiohttp(target, url, size))[1]


async def _aiohttp(target: Target, url: str, size: int) -> tuple[int, bytes]:
    received, answer = 0, b"0"
    async with (
        _library("aiohttp").ClientSession() as session,
        session.ws_connect(url, ssl=context_for(target), protocols=[_PROTOCOL], compress=0, max_msg_size=0) as socket,
    ):
        for message in _messages(size):
            await socket.send_bytes(message)
        async for item in socket:
            data = item.data
            if data[0] == _STDOUT:
                received += len(data) - 1
                answer = bytes(data[1:]) if size and len(data) > 1 else answer
    return received, answer


_DOWNLOADS = {
    "websocket-client": _websocket_client_down,
    "websockets": _websockets_down,
    "aiohttp": _aiohttp_down,
}
_UPLOADS = {
    "websocket-client": _websocket_client_up,
    "websockets": _websockets_up,
    "aiohttp": _aiohttp_up,
}

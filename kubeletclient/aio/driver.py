"""The runner of the flows that set up a connection, on an event loop.

Every step is one of the loop's ``sock_*`` calls on a raw, non-blocking socket; TLS happens in memory
(``spdyproto.tls``). Cancelling a step closes the flow and the socket, and leaves no callback on the loop.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Generator
from functools import partial
from typing import Any, Final, TypeVar

from kubeletclient._commands import Address, Command, Connect, Disconnect, Load, Receive, Resolve, StartTLS
from kubeletclient._policy import Deadline
from kubeletclient._sockets import tls_pipe, tune
from kubeletclient._wire import Scratch
from kubeletclient._worker import in_thread
from kubeletclient.endpoints import is_address
from spdyproto.tls import TLSPipe

__all__ = ["Connection", "establish"]

Answer = TypeVar("Answer")

_READ: Final = 16 * 1024
"""Bytes asked for at once while the connection is set up: a whole handshake flight, or a whole refusal, in one read."""


class Connection:
    """A socket that is being set up, with TLS over it once ``StartTLS`` was done."""

    __slots__ = ("_fault", "_left", "_loop", "sock", "tls")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._left = b""  # plaintext that came together with the end of the handshake
        self._fault: ssl.SSLError | None = None  # what came behind good data, which is handed out first
        self.sock: socket.socket | None = None
        self.tls: TLSPipe | None = None

    async def perform(self, command: Command, timeout: float | None) -> object:
        """Do what a flow asks for. Raises OSError, which includes TimeoutError and ssl.SSLError."""
        async with asyncio.timeout(timeout):
            if isinstance(command, Load):
                return await in_thread(partial(command.function, timeout))
            if isinstance(command, Disconnect):
                self._start_over()
                return None
            if isinstance(command, Resolve):
                return await self._resolve(command)
            if isinstance(command, Receive):
                return await self._receive()
            if isinstance(command, Connect):
                await self._connect(command.address)
            elif isinstance(command, StartTLS):
                await self._start_tls(command)
            else:
                await self._send(command.data)
            return None

    def close(self) -> None:
        """Close the socket, if there is one. No call of the loop may be waiting for it."""
        if self.sock is not None:
            self.sock.close()
            self.sock = None

    def _start_over(self) -> None:
        self.close()
        self.tls = self._fault = None
        self._left = b""

    async def _resolve(self, command: Resolve) -> object:
        def look_up() -> list[Address]:
            return [*socket.getaddrinfo(command.host, command.port, type=socket.SOCK_STREAM)]

        if is_address(command.host):  # it cannot wait, so it needs no thread
            return look_up()
        return await in_thread(look_up)

    async def _connect(self, address: Address) -> None:
        family, kind, protocol, _, where = address
        self.sock = sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            tune(sock)
            await self._loop.sock_connect(sock, where)
        except OSError as error:
            self.close()
            if error.errno:  # the loop's text repeats the address, and leaves out what happened
                raise OSError(error.errno, os.strerror(error.errno)) from error
            raise
        except BaseException:
            self.close()
            raise

    async def _start_tls(self, command: StartTLS) -> None:
        assert self.sock is not None
        self.tls = tls = tls_pipe(self.tls, command)
        data = b""
        while True:
            try:
                done = tls.do_handshake(data)
            except ssl.SSLError:
                self._send_alert(tls)
                raise
            if done:
                break  # our last flight leaves with the request behind it: one packet, one wake-up of the server
            if tls.pending:
                await self._loop.sock_sendall(self.sock, tls.take())
            data = await self._loop.sock_recv(self.sock, _READ)
            if not data:
                tls.receive_eof()
        self._left = self._decrypted(tls, b"")

    def _send_alert(self, tls: TLSPipe) -> None:
        """Tell the peer why, if that needs no waiting."""
        assert self.sock is not None
        try:
            self.sock.send(tls.take())
        except OSError:
            pass

    def _decrypted(self, tls: TLSPipe, data: bytes) -> bytes:
        if self._fault is not None:
            raise self._fault
        good = []
        try:
            for view in tls.receive(data, Scratch.of(self._loop).plain):
                good.append(bytes(view))  # noqa: PERF401 - what came before a fault must be kept
        except ssl.SSLError as fault:
            if not good:
                raise
            self._fault = fault
        return b"".join(good)

    async def _send(self, data: bytes) -> None:
        assert self.sock is not None
        if self.tls is not None:
            self.tls.send([data])
            data = self.tls.take()
        await self._loop.sock_sendall(self.sock, data)

    async def _receive(self) -> bytes:
        assert self.sock is not None
        data, self._left = self._left, b""
        while not data:
            if self.tls is not None and self.tls.closed_by_peer:  # it came together with the last bytes
                return b""
            raw = await self._loop.sock_recv(self.sock, _READ)
            if self.tls is None or not raw:
                return raw
            data = self._decrypted(self.tls, raw)
        return data

    @property
    def end(self) -> bool | None:
        """Whether the connection ended in good order behind what was received so far; None if it goes on."""
        if self._fault is not None:
            return False
        return True if self.tls is not None and self.tls.closed_by_peer else None


async def establish(flow: Generator[Command, Any, Answer], deadline: Deadline) -> tuple[Connection, Answer]:
    """Run ``flow`` to its end. Raises what the flow raises, or DeadlineExceeded; nothing stays open then, nor when this
    is cancelled."""
    connection = Connection(asyncio.get_running_loop())
    try:
        command = next(flow)
        while True:
            try:
                answer = await connection.perform(command, deadline.left(_timeout(command)))
            except OSError as error:
                if isinstance(error, TimeoutError) and deadline.passed():
                    raise deadline.error(f"the connection to be set up ({type(command).__name__})") from None
                command = flow.throw(error)
            else:
                command = flow.send(answer)
    except StopIteration as done:
        answered: Answer = done.value
        return connection, answered
    except BaseException:
        flow.close()
        connection.close()
        raise


def _timeout(command: Command) -> float | None:
    return None if isinstance(command, Load | Disconnect) else command.timeout

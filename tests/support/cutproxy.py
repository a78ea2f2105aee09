"""A TCP proxy that ends connections where it is told to: after so many bytes of either direction, in one of four ways.

It passes raw bytes on, or terminates TLS on both sides and counts plaintext; then it can also end TLS in good order,
which is as much as a dying server, or a proxy in front of it, can do to make a loss look like an end.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self, TypeAlias

__all__ = ["Cut", "CutProxy", "Passage"]

How: TypeAlias = Literal["fin", "rst", "close_notify", "freeze"]
Direction: TypeAlias = Literal["down", "up"]

_SECONDS = 10.0  # for each step of a connection: nothing here waits for ever
_CHUNK = 65536
_LINGER_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Cut:
    """End the connection once `after` bytes have gone `down` (to the client) or `up`.

    `fin`: the orderly end of TCP, under TLS if there is any. `rst`: TCP's reset. `close_notify`: that of TLS, in good
    order.
    `freeze`: nothing is passed on any more, and nobody is told.
    """

    after: int
    how: How = "fin"
    direction: Direction = "down"


@dataclass
class Passage:
    """What one connection carried."""

    down: bytearray = field(default_factory=bytearray)
    up: bytearray = field(default_factory=bytearray)
    cut: bool = False
    over: threading.Event = field(default_factory=threading.Event)

    def carried(self, direction: Direction) -> bytearray:
        return self.down if direction == "down" else self.up


class CutProxy:
    """The proxy, as a context manager. `plan` holds for the connections that come from then on; None cuts nothing."""

    def __init__(
        self, upstream: tuple[str, int], *, serve: ssl.SSLContext | None = None, dial: ssl.SSLContext | None = None
    ) -> None:
        self.plan: Cut | None = None
        self.passages: list[Passage] = []
        self._upstream = upstream
        self._serve, self._dial = serve, dial
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._listener.settimeout(0.1)
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(_SECONDS)
        self._listener.close()

    def last(self) -> Passage:
        """The last connection, over."""
        passage = self.passages[-1]
        assert passage.over.wait(_SECONDS)
        return passage

    def _start(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, name="cutproxy", daemon=True)  # type: ignore[arg-type] # our own methods
        thread.start()
        self._threads.append(thread)

    def _accept(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                client, _ = self._listener.accept()
                passage = Passage()
                self.passages.append(passage)
                self._start(self._carry, client, passage, self.plan)

    def _carry(self, client: socket.socket, passage: Passage, plan: Cut | None) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(passage.over.set)
            stack.callback(lambda: client.close())
            # A peer that ends a connection in the middle of things is what this is for.
            stack.enter_context(contextlib.suppress(OSError))
            client.settimeout(_SECONDS)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            server = stack.enter_context(socket.create_connection(self._upstream, _SECONDS))
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._dial is not None:
                server = stack.enter_context(self._dial.wrap_socket(server, server_hostname=self._upstream[0]))
            if self._serve is not None:
                client = self._serve.wrap_socket(client, server_side=True)
            if self._pass_on(client, server, passage, plan):
                assert plan is not None
                passage.cut = True
                if plan.how != "freeze":
                    server.close()
                self._end(client, plan.how)

    def _pass_on(self, client: socket.socket, server: socket.socket, passage: Passage, plan: Cut | None) -> bool:
        """Carry bytes until either side ends (False) or the plan says so (True)."""
        while plan is None or len(passage.carried(plan.direction)) < plan.after:
            readable = list(_readable(client, server))
            if not readable and self._stopping.is_set():
                return False
            for source in readable:
                direction: Direction = "down" if source is server else "up"
                room = _CHUNK
                if plan is not None and direction == plan.direction:
                    room = min(room, plan.after - len(passage.carried(direction)))
                if room == 0:
                    continue
                data = _read(source, room)
                if data is None:
                    continue
                if not data:
                    self._half_end(client if source is server else server)
                    return False
                passage.carried(direction).extend(data)
                (client if source is server else server).sendall(data)
        return True

    def _half_end(self, other: socket.socket) -> None:
        """One side has ended in good order: so does the other. What it still says is dropped."""
        self._end(other, "close_notify" if isinstance(other, ssl.SSLSocket) else "fin")

    def _end(self, client: socket.socket, how: How) -> None:
        if how == "freeze":
            poller = select.poll()
            poller.register(client, select.POLLRDHUP)
            while not self._stopping.is_set() and not poller.poll(100):
                pass
        elif how == "rst":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
        elif how == "close_notify":
            assert isinstance(client, ssl.SSLSocket)
            client.unwrap()
        else:
            client.shutdown(socket.SHUT_WR)  # of a TLS socket, too: the rest of this connection is raw
            while client.recv(_CHUNK):  # closing with unread bytes would be a reset
                pass


def _read(source: socket.socket, room: int) -> bytes | None:
    """What there is; None if it was nothing but TLS's own business."""
    source.settimeout(0)
    try:
        return source.recv(room)
    except (BlockingIOError, ssl.SSLWantReadError):
        return None
    finally:
        source.settimeout(_SECONDS)


def _readable(client: socket.socket, server: socket.socket) -> Iterator[socket.socket]:
    """Those that can be read, those with decrypted bytes in memory among them; none after a moment of silence."""
    pending = [s for s in (client, server) if isinstance(s, ssl.SSLSocket) and s.pending()]
    if pending:
        yield from pending
        return
    poller = select.poll()
    sockets = {sock.fileno(): sock for sock in (server, client)}
    for sock in sockets.values():
        poller.register(sock, select.POLLIN)
    for descriptor, _ in poller.poll(100):
        yield sockets[descriptor]

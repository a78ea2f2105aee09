"""Forwarded ports for blocking callers: what ``Pod.forward`` and ``Pod.connect`` do.

A listener must be served while the caller does other things, so here, and only here, the blocking client has a thread
of its own: one for all forwarding of the process, with an event loop in it, that ends when nothing is forwarded any
more. Setting up a session is the blocking driver's work, in a thread for that time.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TypeVar

from kubeletclient._door import PodRef, Way
from kubeletclient._policy import NEVER, Deadline
from kubeletclient._worker import in_thread
from kubeletclient.endpoints import Target
from kubeletclient.forwarding.background import call, thread
from kubeletclient.forwarding.forwarder import Forwarder, ForwardOptions
from kubeletclient.forwarding.listeners import bind, checked_addresses
from kubeletclient.forwarding.locals import LocalEnd
from kubeletclient.forwarding.names import reach_forward
from kubeletclient.forwarding.plan import Mapped, forward_flow, forward_request
from kubeletclient.forwarding.records import ForwardedConnection, Listener, OnEvent, Totals
from kubeletclient.forwarding.session import Dialled
from kubeletclient.sync.door import Client
from kubeletclient.sync.driver import establish
from spdyproto.types import Buffer

__all__ = ["Connector", "Forward", "ForwardedSocket", "forward"]

Result = TypeVar("Result")


class Forward:
    """Ports that are being forwarded; made by ``Pod.forward``. Safe to use from any thread.

    ``listeners`` are the local addresses with the ports behind them. Leaving the ``with`` block, or ``close``, stops
    listening and resets every connection.
    """

    def __init__(self, forwarder: Forwarder, listeners: Sequence[Listener], port: int | None) -> None:
        self._forwarder = forwarder
        self.listeners = list(listeners)
        self.local_port = port
        """The local port of the first mapping; None for a Unix socket."""
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def __repr__(self) -> str:
        return f"<Forward {', '.join(f'{each.address} -> {each.port}' for each in self.listeners)}>"

    @property
    def connections(self) -> list[ForwardedConnection]:
        """The connections: the last thousand that ended, then those that live."""
        forwarder = self._forwarder
        return [*list(forwarder.ended), *(local.record for local in list(forwarder.live.values()))]

    @property
    def totals(self) -> Totals:
        """The count of all connections that have ended, and their bytes."""
        return self._forwarder.totals

    @property
    def connected(self) -> bool:
        """Whether there is a session to the pod now."""
        return any(not session.over for session in list(self._forwarder.sessions))

    def close(self) -> None:
        """Stop listening, and reset every connection. Safe to call again."""
        with self._lock:
            if self._closed.is_set():
                return
            self._closed.set()
        try:
            call(self._forwarder.loop, self._forwarder.close(), Deadline.after(10.0))
        finally:
            thread.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Until ``close`` was called, by whomever; False if ``timeout`` seconds have passed before."""
        return self._closed.wait(timeout)

    def __enter__(self) -> Forward:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class ForwardedSocket(socket.socket):
    """One end of a connection to a port of a pod: a real TCP socket, whose other end this process forwards.

    It can be given to whatever takes a socket. ``recv`` and its kin raise ForwardFailed, a ConnectionResetError with
    the server's words, where the pod's side failed; an end of file is the pod's own.
    """

    _local: LocalEnd
    _forwarder: Forwarder

    @property
    def connection(self) -> ForwardedConnection:
        """Its record: bytes, time, and how it ended."""
        return self._local.record

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """As ``socket.recv``."""
        return self._told(lambda: super(ForwardedSocket, self).recv(bufsize, flags))

    def recv_into(self, buffer: bytearray | memoryview, nbytes: int = 0, flags: int = 0) -> int:  # type: ignore[override] # typeshed's buffer is wider than any that is used
        """As ``socket.recv_into``."""
        return self._told(lambda: super(ForwardedSocket, self).recv_into(buffer, nbytes, flags))

    def send(self, data: Buffer, flags: int = 0, /) -> int:  # type: ignore[override] # as above
        """As ``socket.send``."""
        return self._told(lambda: super(ForwardedSocket, self).send(data, flags))

    def sendall(self, data: Buffer, flags: int = 0, /) -> None:  # type: ignore[override] # as above
        """As ``socket.sendall``."""
        self._told(lambda: super(ForwardedSocket, self).sendall(data, flags))

    def _told(self, step: Callable[[], Result]) -> Result:
        try:
            return step()
        except (ConnectionResetError, BrokenPipeError) as error:
            raise self._forwarder.failed(self._local.record) from error


class _Handover:
    """A session on its way from the thread that made it to whoever waits for it, if anybody still does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._dialled: Dialled | None = None
        self._wanted = True

    def give(self, dialled: Dialled) -> Dialled:
        """The session is there."""
        with self._lock:
            self._dialled = dialled
            if not self._wanted:
                dialled.close()
        return dialled

    def give_up(self) -> None:
        """Nobody waits any more."""
        with self._lock:
            self._wanted = False
            if self._dialled is not None:
                self._dialled.close()


class _Dialler:
    """Makes sessions to one pod, or to whatever pod an object has at that time."""

    def __init__(self, client: Client, pod: PodRef, ports: Sequence[int | str]) -> None:
        self._client = client
        self._pod = pod
        self._ports = ports

    async def __call__(self, port: int | str) -> Dialled:
        handover = _Handover()
        try:
            return await in_thread(lambda: handover.give(self._dial(port)))
        except BaseException:  # cancelled, most often: the thread goes on, and nobody waits for what it makes
            handover.give_up()
            raise

    def _dial(self, port: int | str) -> Dialled:
        client = self._client
        dialled: Dialled = client._follow(
            reach_forward(client._door, self._pod, port, self._ports), NEVER, _open_session
        )
        return dialled


def _open_session(way: Way, target: Target) -> Dialled:
    transport, established = establish(forward_flow(forward_request(way.settings, target)), NEVER)
    sock, tls, ended = transport.detach()
    return Dialled(sock, tls, established, ended=ended)


def forward(
    client: Client,
    pod: PodRef,
    mapped: Sequence[Mapped],
    addresses: str | Sequence[str],
    options: ForwardOptions,
    on_event: OnEvent | None,
    deadline: Deadline,
) -> Forward:
    """Listen, and dial the first session."""
    client._check_open()
    bound = bind(mapped, checked_addresses(addresses))
    loop = thread.acquire()
    dial = _Dialler(client, pod, [each.remote for each in mapped])
    forwarder = Forwarder(loop, dial, options, on_event)
    try:
        call(loop, forwarder.start(bound), deadline)
    except BaseException:
        call(loop, forwarder.close(), Deadline.after(10.0))
        for each in bound:  # it may not have come as far as taking them over
            each.close()
        thread.release()
        raise
    return client._keep(Forward(forwarder, [each.listener for each in bound], bound[0].port))


class Connector:
    """The sessions behind ``Pod.connect``: shared by the connections of one Pod object."""

    def __init__(self, client: Client, pod: PodRef) -> None:
        self._client = client
        self._pod = pod
        self._lock = threading.Lock()
        self._forwards: dict[bool, Forward] = {}

    def connect(self, port: int | str, deadline: Deadline) -> ForwardedSocket:
        """One connection, without a listener."""
        forwarder = self._forwarder(isinstance(port, str), port)
        sock, local = call(forwarder.loop, forwarder.connect(port), deadline)
        forwarded = ForwardedSocket(sock.family, sock.type, sock.proto, fileno=sock.detach())
        forwarded._local, forwarded._forwarder = local, forwarder
        return forwarded

    def _forwarder(self, named: bool, port: int | str) -> Forwarder:
        with self._lock:
            forward = self._forwards.get(named)
            if forward is None or forward._closed.is_set():
                self._client._check_open()
                dial = _Dialler(self._client, self._pod, [port])
                options = ForwardOptions(supervised=False, keep=False)
                forward = Forward(Forwarder(thread.acquire(), dial, options), (), None)
                self._forwards[named] = self._client._keep(forward)
            return forward._forwarder

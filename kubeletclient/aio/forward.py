"""Forwarded ports, awaited: what ``Pod.forward`` and ``Pod.connect`` do."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator, Sequence
from types import TracebackType
from typing import Any, TypeVar

from kubeletclient._door import PodRef, Way
from kubeletclient._policy import NEVER, Deadline
from kubeletclient.aio.door import Client
from kubeletclient.aio.driver import establish
from kubeletclient.endpoints import Target
from kubeletclient.forwarding.forwarder import Forwarder, ForwardOptions
from kubeletclient.forwarding.listeners import bind, checked_addresses
from kubeletclient.forwarding.names import reach_forward
from kubeletclient.forwarding.plan import Mapped, forward_flow, forward_request
from kubeletclient.forwarding.records import ForwardedConnection, Listener, OnEvent, Totals
from kubeletclient.forwarding.session import Dialled

__all__ = ["Connector", "Forward", "ForwardOpening", "forward"]

Result = TypeVar("Result")


class Forward:
    """Ports that are being forwarded; made by ``Pod.forward``. It belongs to the loop that it was made on.

    ``listeners`` are the local addresses with the ports behind them. Leaving the ``async with`` block, or ``close``,
    stops listening and resets every connection.
    """

    def __init__(self, forwarder: Forwarder, listeners: Sequence[Listener], port: int | None) -> None:
        self._forwarder = forwarder
        self.listeners = list(listeners)
        self.local_port = port
        """The local port of the first mapping; None for a Unix socket."""

    def __repr__(self) -> str:
        return f"<Forward {', '.join(f'{each.address} -> {each.port}' for each in self.listeners)}>"

    @property
    def connections(self) -> list[ForwardedConnection]:
        """The connections: the last thousand that ended, then those that live."""
        return [*self._forwarder.ended, *(local.record for local in self._forwarder.live.values())]

    @property
    def totals(self) -> Totals:
        """The count of all connections that have ended, and their bytes."""
        return self._forwarder.totals

    @property
    def connected(self) -> bool:
        """Whether there is a session to the pod now."""
        return any(not session.over for session in self._forwarder.sessions)

    async def close(self) -> None:
        """Stop listening, and reset every connection. Safe to call again."""
        if not self._forwarder.closed:
            await self._forwarder.close()

    async def wait_closed(self) -> None:
        """Until ``close`` was called, by whomever. Cancelling changes nothing."""
        await self._forwarder.wait_closed()

    async def __aenter__(self) -> Forward:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


class ForwardOpening:
    """Ports that are about to be forwarded: ``await`` it, or enter it with ``async with``, which closes it at the
    end."""

    __slots__ = ("_forward", "_opening")

    def __init__(self, opening: Coroutine[Any, Any, Forward]) -> None:
        self._opening = opening
        self._forward: Forward | None = None

    def __await__(self) -> Generator[Any, Any, Forward]:
        return self._opening.__await__()

    async def __aenter__(self) -> Forward:
        self._forward = await self._opening
        return self._forward

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._forward is not None:
            await self._forward.close()


class _Dialler:
    """Makes sessions to one pod, or to whatever pod an object has at that time."""

    def __init__(self, client: Client, pod: PodRef, ports: Sequence[int | str]) -> None:
        self._client = client
        self._pod = pod
        self._ports = ports

    async def __call__(self, port: int | str) -> Dialled:
        async def open_session(way: Way, target: Target) -> Dialled:
            connection, established = await establish(forward_flow(forward_request(way.settings, target)), NEVER)
            sock, connection.sock = connection.sock, None
            assert sock is not None
            return Dialled(sock, connection.tls, established, ended=connection.end)

        client = self._client
        dialled: Dialled = await client._follow(
            reach_forward(client._door, self._pod, port, self._ports), NEVER, open_session
        )
        return dialled


async def forward(
    client: Client,
    pod: PodRef,
    mapped: Sequence[Mapped],
    addresses: str | Sequence[str],
    options: ForwardOptions,
    on_event: OnEvent | None,
    deadline: Deadline,
) -> Forward:
    """Listen, and dial the first session."""
    bound = bind(mapped, checked_addresses(addresses))
    dial = _Dialler(client, pod, [each.remote for each in mapped])
    forwarder = Forwarder(asyncio.get_running_loop(), dial, options, on_event)
    await _within(deadline, forwarder.start(bound))
    forward = Forward(forwarder, [each.listener for each in bound], bound[0].port)
    client._sessions.add(forward)
    return forward


class Connector:
    """The sessions behind ``Pod.connect``: shared by the connections of one Pod object on one loop."""

    def __init__(self, client: Client, pod: PodRef) -> None:
        self._client = client
        self._pod = pod
        self._forwards: dict[bool, Forward] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    async def connect(self, port: int | str, deadline: Deadline) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """One connection, without a listener."""
        forwarder = self._forwarder(isinstance(port, str), port)
        sock, _ = await _within(deadline, forwarder.connect(port))
        try:
            return await asyncio.open_connection(sock=sock)
        except BaseException:
            sock.close()
            raise

    def _forwarder(self, named: bool, port: int | str) -> Forwarder:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._forwards = loop, {}
        forward = self._forwards.get(named)
        if forward is None or forward._forwarder.closed:
            self._client._check_open()
            dial = _Dialler(self._client, self._pod, [port])
            forward = Forward(Forwarder(loop, dial, ForwardOptions(supervised=False, keep=False)), (), None)
            self._forwards[named] = forward
            self._client._sessions.add(forward)
        return forward._forwarder


async def _within(deadline: Deadline, work: Coroutine[Any, Any, Result]) -> Result:
    try:
        async with asyncio.timeout(deadline.left()) as scope:
            return await work
    except TimeoutError:
        if not scope.expired():
            raise
        raise deadline.error("the session to the pod") from None

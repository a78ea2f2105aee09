"""Port-forward in the fake kubelet: a port-forward engine on one side, the services of a pod on the other.

Every forwarded connection ends in a socket: one end of a pair whose other end an in-process service holds, or a real
connection to a loopback port. So a service lives behind the same kernel buffers as a real one, and half-close, slow
readers and resets come about as in a pod.

``grace`` is what containerd does when one direction has ended: it tells neither side, waits that long for the other
direction (one second), and closes both. With ``grace=None`` half-close is carried through, in both directions.

A service that does not read stops, once its buffers are full, the reading of the whole session: SPDY as Kubernetes
speaks it has no windows, and a real server stands still in the same way.

Sources of the words: ``cri-streaming: pkg/streaming/portforward``, ``containerd:
internal/cri/server/sandbox_portforward_linux.go``.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from fakekubelet.ports import Loopback, Service, is_async, refuse
from fakekubelet.upgrades import Carrier, SessionHost
from spdyproto.channels.forwarding import (
    Failed,
    ForwardEvent,
    ForwardTransport,
    Received,
    RemoteEnded,
    Requested,
    SessionOver,
)
from spdyproto.channels.portserver import ForwardServer
from spdyproto.channels.portsocket import ForwardSocketServer
from spdyproto.errors import LocalProtocolError, OutputLimitExceeded
from spdyproto.types import Buffer

HIGH_WATER = 256 * 1024
"""Queued output at which services are told to wait."""

POD_HIGH_WATER = 256 * 1024
"""Bytes that wait for a service before the session is not read any more."""

CONTAINERD_GRACE = 1.0
"""Seconds that containerd waits for the second direction once the first has ended."""


@dataclass(frozen=True, slots=True)
class ForwardRequest:
    """What was asked for: a pod, what listens in it, and over what."""

    pod: str
    uid: str
    service: Callable[[int], Service | None]
    """What listens at a port."""
    transport: ForwardTransport
    ports: tuple[int, ...] = ()
    grace: float | None = CONTAINERD_GRACE
    watch: Callable[[Callable[[], None]], Callable[[], None]] = lambda gone: lambda: None
    """Has its argument called when the pod goes; the answer takes that back."""


@dataclass(slots=True)
class Forwarded:
    """The record of one forwarded connection: ``received`` and ``sent`` count bytes from and to the client."""

    pod: str
    port: int
    received: int = 0
    sent: int = 0
    ended: str = ""
    """``""`` while it lives, then ``finished``, ``reset by the client``, or the text of its failure."""


def sandbox_id(uid: str) -> str:
    """The name that the runtime has for a pod."""
    return hashlib.sha256(uid.encode()).hexdigest()


class ForwardSession:
    """A ``Session`` of ``fakekubelet.upgrades``."""

    def __init__(
        self, carrier: Carrier, host: SessionHost, request: ForwardRequest, record: Callable[[Forwarded], None]
    ) -> None:
        self.engine: ForwardServer | ForwardSocketServer
        if request.transport.multiplexed:
            self.engine = ForwardServer(transport=request.transport, limits=host.limits, deadlines=host.deadlines)
        else:
            self.engine = ForwardSocketServer(
                request.ports, transport=request.transport, limits=host.limits, deadlines=host.deadlines
            )
        self.request = request
        self.loop = carrier.loop
        self.starved = False
        self._host = host
        self._carrier: Carrier | None = carrier
        self._record = record
        self._ends: dict[int, PodEnd] = {}
        self._full: set[int] = set()
        self._gone = False
        self._unwatch = request.watch(self._on_pod_gone)

    # -- from the connection -----------------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """The 101 is sent."""
        self._dispatch(self.engine.start(now))

    def receive(self, plain: Buffer, now: float) -> bool:
        """Plaintext from the client. Every frame puts the idle timeout off."""
        self._dispatch(self.engine.receive_data(plain, now))
        return True

    def receive_eof(self, now: float, *, clean: bool) -> None:
        """The client's side has ended."""
        self._dispatch(self.engine.receive_eof(now, clean=clean))

    def handle_timeout(self, now: float) -> None:
        """Do what is due."""
        self._dispatch(self.engine.handle_timeout(now))
        self.want_flush()

    def wrote(self) -> bool:
        """Everything that leaves puts the idle timeout off."""
        return True

    def hang_up(self) -> None:
        """Nothing came or went for too long."""
        self.engine.close()
        self._leave(lost=False)

    def room(self) -> None:
        """Output was sent, and more can be."""
        self.starved = False
        for end in list(self._ends.values()):
            end.resume()

    async def close(self) -> None:
        """The server closes: the connection is gone already."""
        ends = list(self._ends.values())
        self._leave(lost=True)
        for end in ends:
            await end.stopped()

    def _dispatch(self, events: list[ForwardEvent]) -> None:
        for event in events:
            if type(event) is Received:
                end = self._ends.get(event.connection)
                if end is not None:
                    end.write(event.data)
            elif isinstance(event, Requested):
                self._open(event)
            elif isinstance(event, RemoteEnded):
                end = self._ends.get(event.connection)
                if end is not None:
                    end.client_ended()
            elif isinstance(event, Failed):
                end = self._ends.get(event.connection)
                if end is not None:
                    end.give_up("reset by the client")
            elif isinstance(event, SessionOver):
                self._leave(lost=event.error is not None)

    def _open(self, event: Requested) -> None:
        record = Forwarded(self.request.pod, event.port)
        self._record(record)
        service = self.request.service(event.port)
        if self._gone or service is None or service is refuse:
            text = self.refusal(event.port)
            if self._gone:
                sandbox = sandbox_id(self.request.uid)
                text = self.failure(event.port, f'failed to find sandbox "{sandbox}" in store: not found')
            record.ended = text
            self.fail(event.connection, text)
            return
        end = PodEnd(self, event.connection, record, service)
        self._ends[event.connection] = end
        end.open()

    def _on_pod_gone(self) -> None:
        """Its processes die, and their connections with them. The session stays, as with a real kubelet."""
        self._gone = True
        for end in list(self._ends.values()):
            end.reset("connection reset by peer")
        self.want_flush()

    def refusal(self, port: int) -> str:
        """What containerd says when nothing listens."""
        space = f"/var/run/netns/cni-{self.request.uid}"
        return self.failure(
            port,
            f'failed to execute portforward in network namespace "{space}": failed to connect to localhost:{port} '
            f'inside namespace "{sandbox_id(self.request.uid)}", IPv4: dial tcp4 127.0.0.1:{port}: connect: connection '
            f"refused IPv6 dial tcp6: address localhost: no suitable address found ",
        )

    def failure(self, port: int, cause: str) -> str:
        """What the streaming server makes of it. The pod is the runtime's sandbox, and has no uid there."""
        return f"error forwarding port {port} to pod {sandbox_id(self.request.uid)}, uid : {cause}"

    # -- from the ends -----------------------------------------------------------------------------------------------

    def send(self, number: int, data: bytes) -> bool:
        """Queues what a service sent. False: no more for now."""
        if self.engine.may_send(number):
            try:
                self.engine.send(number, data)
            except OutputLimitExceeded:  # one read of many services at once
                self._ends[number].give_up("the client takes nothing")
                self.fail(number, self.failure(0, "too much is queued"))
            self.want_flush()
        if self.engine.pending_bytes < HIGH_WATER:
            return True
        self.starved = True
        return False

    def end(self, number: int) -> None:
        """A service has half-closed."""
        self.engine.end(number)
        self.want_flush()

    def finish(self, number: int) -> None:
        """A connection has ended in order."""
        self._forget(number)
        self.engine.finish(number)
        self._after_end()

    def fail(self, number: int, text: str) -> None:
        """A connection has failed."""
        self._forget(number)
        try:
            self.engine.fail(number, text)
        except LocalProtocolError:
            pass  # nothing can be said any more
        self._after_end()

    def full(self, number: int, full: bool) -> None:
        """A service does not read what it has got, or reads again."""
        if full:
            self._full.add(number)
        else:
            self._full.discard(number)
        if self._carrier is not None:
            if self._full:
                self._carrier.pause_reading()
            else:
                self._carrier.resume_reading()

    def _forget(self, number: int) -> None:
        self._ends.pop(number, None)
        if number in self._full:
            self.full(number, False)

    def _after_end(self) -> None:
        self.want_flush()
        if self.engine.over:
            self._leave(lost=False)

    def want_flush(self) -> None:
        """Sends what is queued, soon."""
        if self._carrier is not None:
            self._carrier.want_flush()

    def _leave(self, *, lost: bool) -> None:
        carrier, self._carrier = self._carrier, None
        self._unwatch()
        for end in list(self._ends.values()):
            end.give_up("the session ended")
        if carrier is not None:
            carrier.end(lost=lost)
            self._host.session_over(self)


@dataclass(slots=True)
class PodEnd(asyncio.Protocol):
    """The pod's end of one connection: a socket, with a service or a loopback port behind it."""

    session: ForwardSession
    number: int
    record: Forwarded
    service: Service
    _transport: asyncio.Transport | None = None
    _early: list[bytes] = field(default_factory=list)
    _client_ended: bool = False
    _pod_ended: bool = False
    _over: bool = False
    _paused: bool = False
    _task: asyncio.Task[None] | None = None
    _grace: asyncio.TimerHandle | None = None
    _doom: str = ""
    """The service has reset the connection: so does this, behind what it had sent."""

    __hash__ = object.__hash__

    def open(self) -> None:
        """Connects, in a task."""
        self._task = self.session.loop.create_task(self._run())

    async def _run(self) -> None:
        loop, service = self.session.loop, self.service
        try:
            if isinstance(service, Loopback):
                await loop.create_connection(lambda: self, service.host, service.port)
                return
        except OSError:
            self._fail(self.session.refusal(self.record.port))
            return
        ours, theirs = socket.socketpair()
        try:
            await loop.create_connection(lambda: self, sock=ours)
        except BaseException:
            theirs.close()
            raise
        if is_async(service):
            await self._serve(theirs)
        else:
            _in_thread(service, theirs, self)

    async def _serve(self, sock: socket.socket) -> None:
        """Runs an asynchronous service to its end."""
        reader, writer = await asyncio.open_connection(sock=sock)
        try:
            await self.service(reader, writer)  # type: ignore[arg-type,call-arg,misc,operator] # ``is_async`` has told which it is
            await writer.drain()
        except ConnectionError as error:
            self.doom(str(error))
        except asyncio.CancelledError:
            pass  # the client or the server has left
        except asyncio.IncompleteReadError:
            pass  # the client has left within a message
        except Exception as error:
            self.doom(f"{type(error).__name__}: {error}")
            self.session.loop.call_exception_handler({"message": "a service failed", "exception": error})
        finally:
            writer.close()

    def doom(self, why: str) -> None:
        """Behind what the service has sent, the connection is reset. From any thread, before the socket is closed."""
        self._doom = why or "connection reset by peer"

    # -- the pod's data ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As asyncio.Protocol."""
        assert isinstance(transport, asyncio.Transport)
        if self._over:
            transport.abort()
            return
        self._transport = transport
        transport.set_write_buffer_limits(high=POD_HIGH_WATER)
        self.session.full(self.number, False)
        early, self._early = self._early, []
        for data in early:
            transport.write(data)
        if self._client_ended:
            self._client_ended = False
            self.client_ended()

    def data_received(self, data: bytes) -> None:
        """As asyncio.Protocol."""
        self.record.sent += len(data)
        if not self.session.send(self.number, data) and self._transport is not None and not self._over:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """There is room again."""
        if self._paused and self._transport is not None and not self._over:
            self._paused = False
            self._transport.resume_reading()

    def eof_received(self) -> bool:
        """As asyncio.Protocol. True: the other direction goes on."""
        self._pod_ended = True
        if self._doom:
            self.reset(self._doom)
        else:
            self._direction_ended()
        return not self._over

    def connection_lost(self, exc: Exception | None) -> None:
        """As asyncio.Protocol."""
        if self._over:
            return
        if exc is not None:
            self.reset(str(exc))
        else:
            self._finish()

    def pause_writing(self) -> None:
        """As asyncio.Protocol."""
        self.session.full(self.number, True)

    def resume_writing(self) -> None:
        """As asyncio.Protocol."""
        self.session.full(self.number, False)

    # -- the client's data -------------------------------------------------------------------------------------------

    def write(self, data: memoryview) -> None:
        """Bytes of the client."""
        self.record.received += len(data)
        if self._transport is None:
            self._early.append(bytes(data))
            if sum(map(len, self._early)) > POD_HIGH_WATER:
                self.session.full(self.number, True)
        else:
            self._transport.write(data)

    def client_ended(self) -> None:
        """The client has half-closed."""
        if self._client_ended:
            return
        self._client_ended = True
        if self._transport is None:
            return
        if self.session.request.grace is None and not self._over:
            self._transport.write_eof()
        self._direction_ended()

    def _direction_ended(self) -> None:
        grace = self.session.request.grace
        if self._client_ended and self._pod_ended:
            self._finish()
        elif grace is None:
            if self._pod_ended:
                self.session.end(self.number)
        elif self._grace is None:
            self._grace = self.session.loop.call_later(grace, self._finish)

    # -- the end -----------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        if self._end("finished"):
            self.session.finish(self.number)

    def reset(self, cause: str) -> None:
        """The pod's end has failed."""
        port = self.record.port
        told = f"read tcp4 127.0.0.1:{49152 + self.number % 16384}->127.0.0.1:{port}: read: {cause}"
        self._fail(self.session.failure(port, told))

    def _fail(self, text: str) -> None:
        if self._end(text, abort=True):
            self.session.fail(self.number, text)

    def give_up(self, why: str) -> None:
        """The client has left: the pod's end is reset."""
        if self._end(why, abort=True):
            self.session._forget(self.number)

    def _end(self, how: str, *, abort: bool = False) -> bool:
        """Whether it was not over before."""
        if self._over:
            return False
        self._over = True
        self.record.ended = how
        if self._grace is not None:
            self._grace.cancel()
        if self._transport is not None:
            if abort:
                self._transport.abort()
            else:
                self._transport.close()
        if abort and self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
        return True

    async def stopped(self) -> None:
        """Until the service has ended."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=5)


def _in_thread(service: Service, sock: socket.socket, end: PodEnd) -> None:
    """Runs a blocking service to its end. Its socket ends when the client leaves, which is how it learns of that."""

    def run() -> None:
        sock.setblocking(True)
        try:
            service(sock)  # type: ignore[arg-type,call-arg,operator] # ``is_async`` has told which it is
        except OSError as error:
            end.doom(str(error))
        finally:
            sock.close()

    threading.Thread(target=run, name="fakekubelet-service", daemon=True).start()

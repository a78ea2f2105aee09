"""The sessions that lead to one target, the connections that want one, and what happens when a session is lost.

Connections share one session as far as they can. One more is dialled when the others are congested (see ``session``) or
full, up to ``SESSIONS``; with ``isolate``, or where a server speaks the old WebSocket form only, each connection has a
session of its own.

When a session ends by itself, the connections in it are reset, and the listeners stay. The target is resolved and
dialled again at once, then after pauses that double up to ``LONGEST_PAUSE``; whoever connects in the meantime waits for
``wait`` seconds and is reset then.
"""

from __future__ import annotations

import asyncio
import random
import re
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from kubeletclient import errors
from kubeletclient._policy import FORWARD_BUFFER, FORWARD_STALL
from kubeletclient.forwarding.listeners import Bound
from kubeletclient.forwarding.locals import LocalEnd, loopback_pair
from kubeletclient.forwarding.records import KEPT, ForwardedConnection, ForwardEvent, OnEvent, Totals
from kubeletclient.forwarding.session import Dialled, Session
from spdyproto.errors import PeerClosed, ProtocolError
from spdyproto.text import printable

__all__ = ["SESSIONS", "ForwardOptions", "Forwarder"]

SESSIONS: Final = 8
"""Sessions at once, while connections share them."""

FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 10.0

IDLE: Final = 10.0
"""Seconds without a connection after which a session that nobody needs is closed."""

_ACCEPTED: Final = 64
"""Connections that are accepted in one turn of the loop."""


_POD_GONE: Final = re.compile(
    r"find sandbox|(sandbox|pod)\b.*\b(not found|not running|not ready|is closed)", re.IGNORECASE
)
"""What runtimes say when the pod behind a session is not there any more. The session itself lives on, and would refuse
every connection for ever (``containerd: internal/cri/server/sandbox_portforward_linux.go``)."""


@dataclass(frozen=True, slots=True)
class ForwardOptions:
    """See ``Pod.forward``."""

    buffer_limit: int = FORWARD_BUFFER
    stall: float = FORWARD_STALL
    wait: float = 30.0
    isolate: bool = False
    hold: bool = False
    """Do not half-close to the pod before it has ended: containerd closes both directions a second later."""
    supervised: bool = True
    keep: bool = True
    """Hold a session though nobody is connected."""


class Forwarder:
    """See the module. Everything runs on one loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        dial: Callable[[int | str], Awaitable[Dialled]],
        options: ForwardOptions,
        on_event: OnEvent | None = None,
    ) -> None:
        self.loop = loop
        self.options = options
        self.sessions: list[Session] = []
        self.totals = Totals()
        self.ended: deque[ForwardedConnection] = deque(maxlen=KEPT)
        self.live: dict[int, LocalEnd] = {}
        self.closed = False
        self.failure: errors.ClientError | None = None
        """Why the last attempt to dial failed."""
        self._dial = dial
        self._on_event = on_event
        self._bound: list[Bound] = []
        self._pending: deque[LocalEnd] = deque()
        self._spares: dict[int | str, Session] = {}
        self._single = options.isolate
        self._dialling: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: set[asyncio.TimerHandle] = set()
        self._some_port: int | str = 0
        self._reaping = False
        self._over = asyncio.Event()

    # -- beginning and end -------------------------------------------------------------------------------------------

    async def start(self, bound: list[Bound]) -> None:
        """Dial the first session, then serve the listeners, which belong to this object from now on. Raises what the
        dial raises; then everything is closed."""
        self._bound = bound
        try:
            await self.ready(bound[0].remote)
        except BaseException:
            await self.close()
            raise
        for each in bound:
            self.tell("listening", f"forwarding {each.listener.address} to port {each.remote}", {
                "address": each.listener.address, "port": each.remote,
            })  # fmt: skip
            self.loop.add_reader(each.sock.fileno(), self._on_connection, each)

    async def ready(self, port: int | str) -> None:
        """Until there is a session. Raises what the dial raises."""
        self._some_port = port
        if self.closed or any(session.can_open for session in self.sessions) or self._spares:
            return
        session = await self._connect(port)
        if session.multiplexed and not self.options.isolate:
            self._take_in(session)
        else:
            self._single = True
            self._spares[port] = session

    async def close(self) -> None:
        """Stop listening, and reset every connection."""
        self.closed = True
        bound, self._bound = self._bound, []
        for each in bound:
            self.loop.remove_reader(each.sock.fileno())
            each.close()
        for timer in self._timers:
            timer.cancel()
        tasks = [task for task in (self._dialling, *self._tasks) if task is not None]
        for task in tasks:
            task.cancel()
        for local in list(self._pending):
            local.abort("closed")
        self._pending.clear()
        for session in [*self.sessions, *self._spares.values()]:
            session.close()
        self.sessions.clear()
        self._spares.clear()
        if tasks:
            await asyncio.wait(tasks)
        self._over.set()

    async def wait_closed(self) -> None:
        """Until ``close`` was called."""
        await self._over.wait()

    def tell(self, kind: str, text: str, fields: dict[str, object] | None = None) -> None:
        """An event, for whoever listens."""
        if self._on_event is not None:
            self._on_event(ForwardEvent(kind, text, fields or {}))

    # -- connections -------------------------------------------------------------------------------------------------

    def _on_connection(self, bound: Bound) -> None:
        for _ in range(_ACCEPTED):
            try:
                sock, address = bound.sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptors left, most often: give those that live time to end
                self.tell("refused", f"cannot accept connections now: {error}")
                self.loop.remove_reader(bound.sock.fileno())
                self._later(0.2, self._listen_again, bound)
                return
            shown = f"{address[0]}:{address[1]}" if isinstance(address, tuple) else bound.listener.address
            self.attach(sock, bound.remote, shown)

    def _listen_again(self, bound: Bound) -> None:
        if not self.closed:
            self.loop.add_reader(bound.sock.fileno(), self._on_connection, bound)

    def attach(self, sock: socket.socket, port: int | str, shown: str) -> LocalEnd:
        """A connection that wants to go to ``port``: takes the socket over."""
        record = ForwardedConnection(shown, port if isinstance(port, int) else 0)
        local = LocalEnd(self.loop, sock, port, record)
        self.live[id(local)] = local
        local.on_end = lambda record: self._ended(local)
        if self.closed:
            local.abort("closed")
        elif self._single:
            self._task(self._serve_alone(local))
        else:
            session = self._pick()
            if session is not None:
                session.open(local)
            else:
                self._wait(local)
        return local

    async def connect(self, port: int | str, shown: str = "connect") -> tuple[socket.socket, LocalEnd]:
        """The caller's end of a connection to ``port``, once the server has accepted its streams. Raises ClientError;
        nothing stays open then, nor when this is cancelled."""
        await self.ready(port)
        ours, theirs = loopback_pair()
        local = self.attach(theirs, port, shown)
        try:
            if local.record.ended:
                raise self.failed(local.record)
            local.opened = self.loop.create_future()
            await local.opened
        except BaseException as error:
            local.opened = None
            ours.close()
            local.abort("closed")
            if type(error) is ConnectionResetError:
                raise self.failed(local.record) from error
            raise
        return ours, local

    def failed(self, record: ForwardedConnection) -> errors.ForwardFailed:
        """The error that the end of a connection means."""
        error = errors.ForwardFailed(
            record.error or f"the connection to port {record.port} was {record.ended or 'reset'}",
            hint="what was received before may be part of more",
            received={"port": record.received},
            sent={"port": record.sent},
        )
        error.message = printable(record.error, limit=2000)
        return error

    def connection_opened(self, local: LocalEnd) -> None:
        """As ``Owner.connection_opened``."""
        record = local.record
        self.tell("opened", f"connection from {record.local} to port {record.port}", record.document())

    def reroute(self, local: LocalEnd) -> None:
        """As ``Owner.reroute``."""
        if local.closed or self.closed:
            return
        session = self._pick()
        if session is not None:
            session.open(local)
        else:
            self._wait(local)

    def _ended(self, local: LocalEnd) -> None:
        if self.live.pop(id(local), None) is None:
            return
        record = local.record
        self.totals.add(record)
        self.ended.append(record)
        if local.home is not None and local.home in self.sessions and _POD_GONE.search(record.error):
            self.loop.call_soon(self._abandon, local.home)
        why = f": {record.error}" if record.error else ""
        self.tell(
            "ended", f"connection from {record.local} to port {record.port} {record.ended}{why}", record.document()
        )
        if self._single:
            for session in [each for each in self.sessions if not each.locals]:
                self.sessions.remove(session)
                session.close()
        elif len(self.sessions) > (1 if self.options.keep else 0) and not self._reaping:
            self._reaping = True
            self._later(IDLE, self._reap)

    def _reap(self) -> None:
        """Close sessions that nobody needs."""
        self._reaping = False
        spare = list(self.sessions)[1 if self.options.keep else 0 :]
        for session in spare:
            if not session.locals and self.loop.time() - session.idle_since >= IDLE:
                self.sessions.remove(session)
                session.close()
        if any(not session.locals and session in self.sessions for session in spare):
            self._reaping = True
            self._later(IDLE, self._reap)

    # -- sessions ----------------------------------------------------------------------------------------------------

    def _pick(self) -> Session | None:
        """The session for one more connection; None to dial one."""
        usable = [session for session in self.sessions if session.can_open]
        good = [session for session in usable if not session.congested]
        if good:
            return good[0] if len(good) == 1 else min(good, key=lambda session: len(session.locals))
        if len(self.sessions) < SESSIONS or not usable:
            return None
        return min(usable, key=lambda session: len(session.locals))

    def _wait(self, local: LocalEnd) -> None:
        """Until there is a session for it, or for so long."""
        self._pending.append(local)
        self._later(self.options.wait, self._give_up, local)
        if self._dialling is None:
            self._dialling = self.loop.create_task(self._keep_dialling())

    def _give_up(self, local: LocalEnd) -> None:
        if local in self._pending:
            self._pending.remove(local)
            why = f": {self.failure.cause}" if self.failure is not None else ""
            local.fail("failed", f"no session to the pod for {self.options.wait:g} s{why}")

    async def _keep_dialling(self) -> None:
        pause = FIRST_PAUSE
        try:
            while True:
                try:
                    session = await self._connect(self._some_port)
                    break
                except errors.ClientError as error:
                    if not self.options.supervised:
                        self._fail_pending(error)
                        return
                    self.tell("retry", f"no session yet, next attempt in {pause:.1f} s: {error}", {
                        "seconds": pause, "error": str(error),
                    })  # fmt: skip
                await asyncio.sleep(pause * random.uniform(0.8, 1.2))
                pause = min(2 * pause, LONGEST_PAUSE)
        finally:
            self._dialling = None
        self._take_in(session)

    def _fail_pending(self, error: errors.ClientError) -> None:
        pending, self._pending = self._pending, deque()
        for local in pending:
            local.fail("failed", str(error))

    async def _connect(self, port: int | str) -> Session:
        try:
            dialled = await self._dial(port)
        except errors.ClientError as error:
            self.failure = error
            raise
        try:
            session = Session(
                self.loop, dialled, self, limit=self.options.buffer_limit, stall=self.options.stall,
                hold=self.options.hold,
            )  # fmt: skip
        except BaseException:
            dialled.close()
            raise
        established = session.established
        self.tell("connected", f"connected to pod {session.pod} by the {established.target.route}, "
                  f"{established.protocol} over {established.transport}", {
                      "pod": session.pod, "route": established.target.route, "protocol": established.protocol,
                      "transport": established.transport,
                  })  # fmt: skip
        return session

    def _take_in(self, session: Session) -> None:
        self.sessions.append(session)
        session.start()
        pending, self._pending = self._pending, deque()
        for local in pending:
            if local.closed:
                continue
            if session.can_open:
                session.open(local)
            else:
                self._pending.append(local)
        if self._pending and self._dialling is None and not self.closed:
            self._dialling = self.loop.create_task(self._keep_dialling())

    async def _serve_alone(self, local: LocalEnd) -> None:
        """A session for one connection."""
        session = self._spares.pop(local.port, None)
        try:
            if session is None or session.over:
                session = await self._connect(local.port)
        except errors.ClientError as error:
            local.fail("failed", str(error))
            return
        if local.closed:
            session.close()
            return
        self.sessions.append(session)
        session.open(local)  # first: over the old WebSocket form it is there with the first bytes
        session.start()

    def session_over(self, session: Session, error: ProtocolError | None) -> None:
        """As ``Owner.session_over``."""
        if session not in self.sessions:
            return
        self.sessions.remove(session)
        if self.closed or self._single:
            return
        why = str(error) if error is not None else "the server ended it"
        self.tell("lost", f"the session to pod {session.pod} was lost: {why}", {"pod": session.pod, "error": why})
        wanted = self._pending or (self.options.supervised and self.options.keep and not self.sessions)
        if wanted and self._dialling is None:
            self._dialling = self.loop.create_task(self._keep_dialling())

    def _abandon(self, session: Session) -> None:
        """The pod has gone, and the server has not ended the session."""
        if session in self.sessions and not session.over:
            session.lose("the pod is not there any more")
            self.session_over(session, PeerClosed("the pod is not there any more"))

    # -- time --------------------------------------------------------------------------------------------------------

    def _task(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _later(self, seconds: float, what: Callable[..., None], *args: object) -> None:
        handle: asyncio.TimerHandle

        def call() -> None:
            self._timers.discard(handle)
            what(*args)

        handle = self.loop.call_later(seconds, call)
        self._timers.add(handle)

"""One port-forward session: a wire to the server, an engine, and the local ends of the connections in it.

Theory of operation
===================

Everything runs in callbacks of one loop. Bytes of the pod go to their local end while they still lie in the loop's
shared buffer; what a client does not take at once waits in front of it. Bytes of a client are read into another shared
buffer, framed, encrypted and sent in the same callback, so nothing of it waits here: while the wire is full, no client
is read.

The hard part is a client that does not read, because SPDY as Kubernetes speaks it has no windows: the only brake is not
to read the session at all, and that holds every connection in it. So:

1. A connection that is alone in its session brakes it at ``SINGLE`` bytes: exact back-pressure, up to the pod, for as
   long as the client likes.
2. With others in the session, what waits may grow to ``limit`` bytes over all of them. Until then nobody is held up.
3. Then the session is not read. If the one with most waiting takes nothing at all for ``STALL`` seconds, while the
   others are held up because of it, it is reset, with words that say so. A client that reads, however slowly, is never
   reset: it slows the others down. So memory is bounded, and no two connections can wait for each other for ever.
4. A session that is held up is *congested*: new connections go to another one (see ``forwarder``).

In the other direction, a pod that does not read fills the server: Go's stands still after 50 frames. Nothing can be
done about the session then, for the reset of the one connection stands behind its data; it is congested, so new
connections go to another session, and the ones in it wait. ``isolate`` gives every connection its own session.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final, Protocol

from kubeletclient._policy import BATCH
from kubeletclient._wire import Scratch, Wire
from kubeletclient.forwarding.locals import LocalEnd
from kubeletclient.forwarding.plan import Engine, ForwardEstablished
from spdyproto.channels.forwarding import (
    Failed,
    Finished,
    ForwardEvent,
    Opened,
    Received,
    RemoteEnded,
    SessionOver,
)
from spdyproto.channels.portforward import ForwardClient
from spdyproto.errors import LocalProtocolError, PeerClosed, ProtocolError
from spdyproto.limits import KIB
from spdyproto.tls import TLSPipe

__all__ = ["Dialled", "Session"]

SINGLE: Final = 256 * KIB
"""Bytes that wait for the only client of a session before the session is not read."""

_OUTPUT: Final = BATCH
"""Queued output at which no client is read."""

_SLOW_OUTPUT: Final = 1.0
"""Seconds for which the wire takes nothing, after which the session counts as congested."""

_SLOW_OPENING: Final = 3.0
"""The same for the server's reply to a new connection."""

_BUSY: Final = 0.05
"""Seconds. A timer this late tells that the loop was busy elsewhere, and that we have not listened."""


class Dialled:
    """A connection whose server has switched protocols, with nothing read since."""

    def __init__(
        self,
        sock: socket.socket,
        tls: TLSPipe | None,
        established: ForwardEstablished,
        *,
        ended: bool | None,
    ) -> None:
        self.sock: socket.socket | None = sock
        self.pod = ""
        """Which pod it leads to, as NAMESPACE/NAME."""
        self.resolve: Callable[[int | str], int] = lambda port: int(port)
        """From a port as the caller named it to that of this pod. Raises LookupError with a text."""
        self.tls = tls
        self.established = established
        self.ended = ended
        """Whether, and how, the connection has ended behind the 101: see ``aio.driver.Connection.end``."""

    def close(self) -> None:
        """Close it, unless a session has it."""
        sock, self.sock = self.sock, None
        if sock is not None:
            sock.close()


class Owner(Protocol):
    """What a session tells."""

    def session_over(self, session: Session, error: ProtocolError | None) -> None:
        """It is over, and every connection in it."""

    def connection_opened(self, local: LocalEnd) -> None:
        """The server has accepted the streams."""

    def reroute(self, local: LocalEnd) -> None:
        """The server does not answer for this one: try elsewhere."""


class Session:
    """See the module. It owns the socket."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, dialled: Dialled, owner: Owner, *, limit: int, stall: float, hold: bool
    ) -> None:
        assert dialled.sock is not None
        self._loop = loop
        self._owner = owner
        self.established = dialled.established
        self.engine: Engine = dialled.established.engine
        self._behind = dialled.established.surplus, dialled.ended
        self._wire = Wire(loop, dialled.sock, dialled.tls, self)
        dialled.sock = None
        self.room = Scratch.of(loop).stdin
        """Where clients' bytes are read into; what lies there leaves before anything else is read."""
        self.locals: dict[int, LocalEnd] = {}
        self.buffered = 0
        self.over = False
        self.idle_since = loop.time()
        self.pod = dialled.pod
        self._resolve = dialled.resolve
        self._hold = hold
        self._limit = limit
        self._stall = stall
        self._waiting: list[LocalEnd] = []
        self._opening: dict[int, float] = {}
        self._blocked_since: float | None = None
        self._flushing_soon = False
        self._timer: asyncio.TimerHandle | None = None
        self._excused = False
        self._suspect = False
        self._stall_timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to move bytes."""
        self._deliver(self.engine.start(self._loop.time()))
        self._wire.resume()
        surplus, ended = self._behind
        if surplus:
            self.on_data(memoryview(surplus))
        self.on_batch()
        if ended is not None and not self.over:
            self._wire.pause()
            self.on_end(clean=ended)

    # -- what it is like ---------------------------------------------------------------------------------------------

    @property
    def multiplexed(self) -> bool:
        """Whether connections can be opened at any time."""
        return isinstance(self.engine, ForwardClient)

    @property
    def can_open(self) -> bool:
        """Whether one more connection can be opened now."""
        return not self.over and self.engine.can_open

    @property
    def congested(self) -> bool:
        """Whether a new connection would wait for others."""
        now = self._loop.time()
        if self._wire.paused or self._suspect:
            return True
        if self._blocked_since is not None and now - self._blocked_since > _SLOW_OUTPUT:
            return True
        oldest = next(iter(self._opening.values()), now)
        return now - oldest > _SLOW_OPENING

    @property
    def output_full(self) -> bool:
        """Whether no client should be read now."""
        return self._wire.blocked or self.engine.pending_bytes > _OUTPUT

    # -- connections -------------------------------------------------------------------------------------------------

    def open(self, local: LocalEnd) -> None:
        """Open a connection for ``local``; in the old WebSocket form, give it the only one there is."""
        now = self._loop.time()
        try:
            local.record.port = port = self._resolve(local.port)
            number = self.engine.open(port, now) if self.multiplexed else 0
        except (LookupError, LocalProtocolError) as error:
            local.fail("failed", str(error.args[0]))
            return
        local.record.pod = self.pod
        self.locals[number] = local
        local.session, local.home, local.number = self, self, number
        self._opening[number] = now
        if self.multiplexed:
            if not local.rerouted:
                self._loop.call_later(_SLOW_OPENING, self._reroute, local, number)
            self.flush_soon()
            self._set_timer()
            self._brake()

    def _reroute(self, local: LocalEnd, number: int) -> None:
        """The server owes a reply for too long: a worker of Go's may stand still for good, and with it every fifth
        stream. Nothing of the client was read yet, so another session may have it."""
        if self.over or number not in self._opening or self.locals.get(number) is not local:
            return
        self._suspect = local.rerouted = True
        del self.locals[number]
        self._forget(local)
        self.engine.reset(number)
        self._owner.reroute(local)

    def send(self, local: LocalEnd, data: memoryview) -> None:
        """Bytes of a client, in ``room``: they are on their way, or encrypted, when this returns."""
        if self.engine.may_send(local.number):
            self.engine.send(local.number, data)
            self.flush()

    def client_ended(self, local: LocalEnd) -> None:
        """A client has half-closed. Where the protocol has no word for it, the pod is not told: it would lose what it
        still has to say."""
        if self.engine.half_close and not self._hold and self.engine.may_send(local.number):
            self._deliver(self.engine.end(local.number))
            self.flush_soon()

    def wait_for_room(self, local: LocalEnd) -> None:
        """Read this client again when output has left."""
        local.pause()
        self._waiting.append(local)
        self.flush_soon()

    def drop(self, local: LocalEnd) -> None:
        """A client has gone: so must the pod's end."""
        if self.locals.pop(local.number, None) is not None:
            self._forget(local)
            self.engine.reset(local.number)
            if self.engine.over and not self.over:
                self.close()
            else:
                self.flush_soon()

    def _forget(self, local: LocalEnd) -> None:
        self.buffered -= local.buffered
        local.session = None
        self._opening.pop(local.number, None)
        if not self.locals:
            self.idle_since = self._loop.time()
        self.on_drained()

    # -- receiving ---------------------------------------------------------------------------------------------------

    def on_data(self, data: memoryview) -> None:
        """The wire: plaintext has come."""
        if not self.over:
            self._deliver(self.engine.receive_data(data, self._loop.time()))

    def on_batch(self) -> None:
        """The wire: that was all for now."""
        if self.over:
            return
        self._brake()
        if self.engine.pending_bytes:
            self.flush()
        self._set_timer()

    def on_end(self, *, clean: bool) -> None:
        """The wire: nothing more comes."""
        if not self.over:
            self._deliver(self.engine.receive_eof(self._loop.time(), clean=clean))
            if not self.over:
                self._conclude(PeerClosed("the connection ended"))

    def _deliver(self, events: list[ForwardEvent]) -> None:
        """Hand on what has come: the data of one read goes to each client in one piece."""
        gathered: dict[int, list[memoryview]] = {}
        for event in events:
            if type(event) is Received:
                views = gathered.get(event.connection)
                if views is None:
                    gathered[event.connection] = [event.data]
                else:
                    views.append(event.data)
                continue
            if gathered:
                self._hand_out(gathered)
                gathered = {}
            if isinstance(event, SessionOver):
                self._conclude(event.error)
            else:
                self._on_event(event)
        if gathered:
            self._hand_out(gathered)

    def _hand_out(self, gathered: dict[int, list[memoryview]]) -> None:
        for number, views in gathered.items():
            local = self.locals.get(number)
            if local is not None:
                local.write(views)

    def _on_event(self, event: ForwardEvent) -> None:
        assert not isinstance(event, SessionOver)
        local = self.locals.get(event.connection)
        if local is None:
            return
        if isinstance(event, Opened):
            self._opening.pop(event.connection, None)
            local.resume()
            if local.opened is not None and not local.opened.done():
                local.opened.set_result(None)
            self._owner.connection_opened(local)
        elif isinstance(event, RemoteEnded):
            local.remote_ended()
            if self._hold and local.eof and self.engine.may_send(local.number):
                self._deliver(self.engine.end(local.number))  # now there is nothing left that it could cut off
        elif isinstance(event, Finished):
            del self.locals[event.connection]
            self._forget(local)
            local.finished()
        elif isinstance(event, Failed):
            del self.locals[event.connection]
            self._forget(local)
            lost = self.engine.over and not event.error.text
            local.fail("lost" if lost else "failed", str(event.error))

    # -- sending -----------------------------------------------------------------------------------------------------

    def flush_soon(self) -> None:
        """``flush`` once the callbacks that are due now have run."""
        if not self._flushing_soon:
            self._flushing_soon = True
            self._loop.call_soon(self._flush_now)

    def _flush_now(self) -> None:
        self._flushing_soon = False
        self.flush()
        if self._waiting and not self.output_full:
            self._resume_clients()

    def flush(self) -> None:
        """Send what is queued, if the wire takes it."""
        wire = self._wire
        if wire.blocked or wire.closed or self.over:
            return
        if self.engine.pending_bytes:
            wire.send(self.engine.data_to_send())
            self._note_blocked()

    def _note_blocked(self) -> None:
        if self._wire.blocked:
            self._blocked_since = self._loop.time()

    def on_writable(self) -> None:
        """The wire: what was sent has left."""
        self._blocked_since = None
        self.flush()
        if not self._wire.blocked:
            self._resume_clients()

    def _resume_clients(self) -> None:
        waiting, self._waiting = self._waiting, []
        for local in waiting:
            local.resume()

    # -- the brake ---------------------------------------------------------------------------------------------------

    def _most(self) -> int:
        alone = len(self.locals) <= 1
        return min(SINGLE, self._limit) if alone else self._limit

    def _brake(self) -> None:
        """Read the session, or do not."""
        wire = self._wire
        if self.buffered >= self._most():
            if not wire.paused:
                wire.pause()
            if len(self.locals) > 1 and self._stall_timer is None:
                self._watch()
        elif wire.paused and not self.over:
            self._release()

    def on_drained(self) -> None:
        """A client has taken something."""
        if self._wire.paused and not self.over and self.buffered <= self._most() // 2:
            self._release()

    def _release(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None
        self._wire.resume()

    def _watch(self) -> None:
        behind = max(self.locals.values(), key=lambda local: local.buffered)
        self._stall_timer = self._loop.call_later(self._stall, self._on_stall, behind, behind.taken)

    def _on_stall(self, behind: LocalEnd, taken: int) -> None:
        self._stall_timer = None
        if self.over or not self._wire.paused:
            return
        if behind.number in self.locals and behind.taken == taken and len(self.locals) > 1:
            del self.locals[behind.number]
            self.engine.reset(behind.number)
            self.flush_soon()
            why = f"the client took nothing for {self._stall:g} s, and {len(self.locals)} other connections waited"
            self._forget(behind)
            behind.abort("failed", why)
        if self._wire.paused:
            self._brake()

    # -- time --------------------------------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        """Lazily: a timer that fires too early sets itself again."""
        due, timer = self.engine.next_deadline(), self._timer
        if due is None or (timer is not None and timer.when() <= due):
            return
        if timer is not None:
            timer.cancel()
        self._timer = self._loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        timer, self._timer = self._timer, None
        if self.over or timer is None:
            return
        now = self._loop.time()
        late = now - timer.when()
        if late > _BUSY and not self._excused:
            self._excused = True
            self._timer = self._loop.call_at(now + late, self._on_timer)
            return
        self._excused = False
        wire = self._wire
        self._deliver(self.engine.handle_timeout(now, output_blocked=wire.blocked, input_paused=wire.paused))
        if not self.over:
            self.flush()
            self._set_timer()

    # -- the end -----------------------------------------------------------------------------------------------------

    def _conclude(self, error: ProtocolError | None) -> None:
        self._finish()
        self._owner.session_over(self, error)

    def close(self) -> None:
        """Leave: connections that are open are reset, on both sides."""
        if self.over:
            return
        for local in list(self.locals.values()):
            local.abort("closed")
        self._finish()

    def lose(self, why: str) -> None:
        """Leave a session that leads nowhere any more: connections that are open are lost."""
        for number, local in list(self.locals.items()):
            del self.locals[number]
            self._forget(local)
            self.engine.reset(number)
            local.fail("lost", why)
        self._finish()

    def _finish(self) -> None:
        if self.over:
            return
        self.over = True
        for timer in (self._timer, self._stall_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._stall_timer = None
        try:
            self.engine.close()
        except LocalProtocolError:
            pass
        self._wire.close(self.engine.data_to_send())
        for local in list(self.locals.values()):
            del self.locals[local.number]
            self._forget(local)
            local.fail("lost", "the session ended")
        self._waiting.clear()

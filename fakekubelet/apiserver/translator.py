"""WebSocket v5 of a client, SPDY v4 of a kubelet, and the session between them: Go's ``StreamTranslatorHandler``.

Theory of operation. Two engines meet here: the server's end of a remote command over WebSocket and the client's end of
one over SPDY. Bytes of one are handed to the other in the same call and encrypted at once, so payload is not copied.

The client has its 101 before the kubelet is even dialled. So nothing that goes wrong behind it can be an HTTP status
any more: it arrives as a Status of 500 on the error channel, and never makes a client fall back to SPDY. What the
client sends in the meantime waits, up to a limit at which it is not read.

The end. The status is the last thing, behind every byte of output, then Close 1000. The connection is closed when the
client has taken all of it. Apiservers up to about 1.36 close at once, and a client that reads slowly loses the end of
its output and the status: the fault ``translator-closes-at-once``.

Source: ``k8s.io/apiserver: pkg/util/proxy/{streamtranslator,websocket}.go``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fakekubelet.apiserver.backend import DialError, Link, Refused, Switched
from fakekubelet.apiserver.status import StatusError, internal_error
from fakekubelet.runtimes import STDIN_HIGH_WATER
from fakekubelet.upgrades import Carrier, SessionHost
from spdyproto.channels.events import (
    Exited,
    Lost,
    Output,
    Ready,
    Resized,
    SessionEvent,
    Stdin,
    StdinEnded,
    StreamSet,
    Transport,
)
from spdyproto.channels.session import ClientSession, ServerSession
from spdyproto.channels.status import ExitStatus, encode_status
from spdyproto.channels.subprotocols import Subprotocol
from spdyproto.limits import Keepalive
from spdyproto.types import Buffer

CLOSES_AT_ONCE = "translator-closes-at-once"
"""The fault of older versions, by name."""

Reach = Callable[[], Awaitable[tuple[Link, Refused | Switched]]]
"""Connects to the kubelet. Raises DialError."""


class Translation:
    """A ``Session`` of the client's connection and the ``Receiver`` of the kubelet's."""

    def __init__(
        self, carrier: Carrier, host: SessionHost, streams: StreamSet, reach: Reach, *, closes_at_once: bool
    ) -> None:
        self.engine = ServerSession(
            Subprotocol.V5, streams, transport=Transport.WEBSOCKET, limits=host.limits, deadlines=host.deadlines
        )
        self.starved = False
        """The client takes no more for now, and the kubelet is not read."""
        self._carrier = carrier
        self._host = host
        self._loop = host.loop
        self._streams = streams
        self._reach = reach
        self._closes_at_once = closes_at_once
        self._task: asyncio.Task[None] | None = None
        self._link: Link | None = None
        self._client: ClientSession | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: list[SessionEvent] = []  # from the client, for a kubelet that is not there yet
        self._waiting_size = 0
        self._over = False

    # -- from the client ---------------------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """As ``Session.start``: the kubelet is dialled now, and not before."""
        self.engine.start(now)
        self._task = self._loop.create_task(self._dial())

    def receive(self, plain: Buffer, now: float) -> bool:
        """As ``Session.receive``; a ping does not put the idle timeout off."""
        events = self.engine.receive_data(plain, now)
        for event in events:
            self._from_client(event)
        self._send_up()
        return bool(events)

    def _from_client(self, event: SessionEvent) -> None:
        client = self._client
        if isinstance(event, Lost):
            self._leave()
            self._carrier.end(lost=True)
        elif self._over:
            return
        elif client is None or not client.ready:
            self._keep(event)
        elif isinstance(event, Stdin):
            if client.stdin_open:  # else the command reads no more of it
                client.write_stdin(event.data)
                self._send_up()  # the view lives no longer than this call
        elif isinstance(event, StdinEnded):
            if client.stdin_open:
                client.close_stdin()
        elif isinstance(event, Resized) and self._streams.tty:
            client.resize(event.width, event.height)

    def _keep(self, event: SessionEvent) -> None:
        if isinstance(event, Stdin):
            event = Stdin(memoryview(bytes(event.data)))
            self._waiting_size += len(event.data)
            if self._waiting_size > STDIN_HIGH_WATER:
                self._carrier.pause_reading()
        self._waiting.append(event)

    def receive_eof(self, now: float, *, clean: bool) -> None:
        """As ``Session.receive_eof``."""
        self.engine.receive_eof(now, clean=clean)
        self._leave()

    def handle_timeout(self, now: float) -> None:
        """As ``Session.handle_timeout``."""
        for event in self.engine.handle_timeout(now):
            self._from_client(event)

    def wrote(self) -> bool:
        """As ``Session.wrote``."""
        return True

    def hang_up(self) -> None:
        """As ``Session.hang_up``."""
        self.engine.finish(b"")
        self._leave()
        self._carrier.end(lost=True)

    def room(self) -> None:
        """As ``Session.room``."""
        self.starved = False
        if self._link is not None:
            self._link.resume_reading()

    async def close(self) -> None:
        """As ``Session.close``."""
        self._leave()

    # -- to the kubelet ----------------------------------------------------------------------------------------------

    async def _dial(self) -> None:
        try:
            link, outcome = await self._reach()
        except (DialError, StatusError) as error:
            self._finish_with(internal_error(str(error)))
            return
        if isinstance(outcome, Refused):
            text = outcome.body.decode("utf-8", "replace").strip() or "empty server response"
            self._finish_with(internal_error(f"unable to upgrade connection: {text}"))
            return
        chosen = [
            value.decode("latin-1") for name, value in outcome.headers if name.lower() == b"x-stream-protocol-version"
        ]
        try:
            version = Subprotocol(chosen[0] if chosen else Subprotocol.V1)
        except ValueError:
            link.abort()
            self._finish_with(internal_error(f"unable to upgrade connection: protocol {chosen[0]!r} was not offered"))
            return
        self._link = link
        keepalive = Keepalive()
        self._client = ClientSession(
            version, self._streams, limits=self._host.limits, deadlines=self._host.deadlines, keepalive=keepalive
        )
        self._to_client(self._client.start(self._loop.time()))
        link.attach(self)
        self._send_up()

    def _send_up(self) -> None:
        if self._client is None or self._link is None:
            return
        if self._client.pending_bytes:
            self._link.send(self._client.data_to_send())
            if self._link.full:
                self._carrier.pause_reading()
        self._arm()

    def _arm(self) -> None:
        assert self._client is not None
        due = None if self._over else self._client.next_deadline()
        if self._timer is not None and (due is None or self._timer.when() > due):
            self._timer.cancel()
            self._timer = None
        if due is not None and self._timer is None:
            self._timer = self._loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._client is not None and self._link is not None and not self._over:
            blocked = self._link.full
            now = self._loop.time()
            self._to_client(self._client.handle_timeout(now, output_blocked=blocked, input_paused=self.starved))
            self._send_up()

    # -- from the kubelet --------------------------------------------------------------------------------------------

    def backend_data(self, plain: memoryview) -> None:
        """As ``Receiver.backend_data``."""
        if self._client is not None:
            self._to_client(self._client.receive_data(plain, self._loop.time()))

    def backend_batch(self) -> None:
        """As ``Receiver.backend_batch``."""
        self._send_up()
        if self._carrier.full and not self._over and self._link is not None:
            self.starved = True
            self._link.pause_reading()

    def backend_room(self) -> None:
        """As ``Receiver.backend_room``."""
        self._carrier.resume_reading()

    def backend_ended(self, *, clean: bool) -> None:
        """As ``Receiver.backend_ended``."""
        if self._client is not None:
            self._to_client(self._client.receive_eof(self._loop.time(), clean=clean))

    def _to_client(self, events: list[SessionEvent]) -> None:
        engine = self.engine
        for event in events:
            if isinstance(event, Output):
                engine.write(event.kind, event.data)
            elif isinstance(event, Ready):
                waiting, self._waiting = self._waiting, []
                for early in waiting:
                    self._from_client(early)
                self._carrier.resume_reading()
            elif isinstance(event, Exited):
                self._finish(event.status)
            elif isinstance(event, Lost):
                self._finish_with(internal_error(str(event.error)))
        if engine.pending_bytes:
            self._carrier.transmit(engine.data_to_send())  # now: what was read lives no longer than this call

    # -- the end -----------------------------------------------------------------------------------------------------

    def _finish_with(self, error: StatusError) -> None:
        self._finish(ExitStatus.failure(str(error)))

    def _finish(self, status: ExitStatus) -> None:
        if self._over:
            return
        if status.code:
            status = ExitStatus.exited(
                status.code,
                f"command terminated with non-zero exit code: command terminated with exit code {status.code}",
            )
        self.engine.finish(encode_status(Subprotocol.V5, status, metadata=True))
        self._carrier.transmit(self.engine.data_to_send())
        self._leave()
        if self._closes_at_once:
            self._carrier.cut()
        else:
            self._carrier.end(lost=False)

    def _leave(self) -> None:
        """The session is over: let go of the kubelet."""
        if self._over:
            return
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        if self._client is not None and self._link is not None:
            self._client.close()
            self._link.send(self._client.data_to_send())
            self._link.close()
        self._host.session_over(self)

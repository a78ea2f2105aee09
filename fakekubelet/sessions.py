"""One exec: the remote-command engine on one side, the command on the other.

The connection feeds plaintext in and asks for output; the command writes through the ``Outlet`` that this is. Nothing
here awaits: a buffer of stdin is one call, and a batch of output another.

When the client leaves, the session is over but the command is not: runtimes let it run. It then writes to nowhere,
and this object lives until it ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fakekubelet.profiles import DEFAULT, Profile
from fakekubelet.runtimes import STDIN_HIGH_WATER, Command, ExecRequest, Execution, Runtime, internal_failure
from fakekubelet.upgrades import Carrier, SessionHost
from spdyproto.channels.events import Lost, Ready, Resized, SessionEvent, Stdin, StdinEnded, StreamKind, Transport
from spdyproto.channels.session import ServerSession
from spdyproto.channels.status import ExitStatus, encode_status
from spdyproto.channels.subprotocols import Subprotocol
from spdyproto.errors import OutputLimitExceeded
from spdyproto.types import Buffer, Policy

HIGH_WATER = 256 * 1024
"""Queued output at which a command is told to wait: one batch for TLS and the transport."""

_OUTPUTS = (StreamKind.STDOUT, StreamKind.STDERR)


class ExecSession:
    """A ``Session`` of ``fakekubelet.upgrades``: connects a ``ServerSession``, a ``Command`` and the connection, and is
    the command's ``Outlet``."""

    def __init__(
        self,
        carrier: Carrier,
        host: SessionHost,
        request: ExecRequest,
        runtime: Runtime,
        profile: Profile = DEFAULT,
    ) -> None:
        self.engine = ServerSession(
            request.protocol,
            request.streams,
            transport=request.transport,
            limits=host.limits,
            deadlines=host.deadlines,
            policy=Policy.STRICT if profile.strict else Policy.KUBERNETES,
        )
        # What the kubelet translates itself is a whole metav1.Status in every version.
        self._metadata = profile.metadata or request.protocol is Subprotocol.V5
        self.execution = Execution(request)
        self.execution.sent = self.engine.sent
        self._carrier: Carrier | None = carrier
        self._loop = carrier.loop
        self._runtime = runtime
        self._on_over = host.session_over
        self._command: Command | None = None
        self._over = False
        self._stdin_ended = not request.streams.stdin
        self._early: list[SessionEvent] = []
        self._early_size = 0
        self._wrote = True
        self._owed: ExitStatus | None = None
        self.starved = False
        """The command waits for room, or its end does."""

    # -- from the connection -----------------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """The 101 is sent. Over WebSocket the command starts with this."""
        self._dispatch(self.engine.start(now))

    def receive(self, plain: Buffer, now: float) -> bool:
        """Plaintext from the client. Answers whether it puts the idle timeout off: over SPDY every frame does, over
        WebSocket a message, and a ping does not."""
        events = self.engine.receive_data(plain, now)
        self._dispatch(events)
        return bool(events) or self.engine.transport is Transport.SPDY

    def receive_eof(self, now: float, *, clean: bool) -> None:
        """The client's side has ended."""
        self._dispatch(self.engine.receive_eof(now, clean=clean))

    def handle_timeout(self, now: float) -> None:
        """Do what is due."""
        self._dispatch(self.engine.handle_timeout(now))

    def wrote(self) -> bool:
        """Whether what leaves now puts the idle timeout off. Forgets it."""
        wrote, self._wrote = self._wrote, self.engine.transport is Transport.SPDY
        return wrote

    def hang_up(self) -> None:
        """Nothing came or went for too long: the client is told as at every other end, and counts as gone."""
        if self.engine.transport is not Transport.SPDY:
            self.engine.finish(b"")  # nothing but Close 1000
        self._lose()

    def room(self) -> None:
        """Output was sent, and more can be."""
        if self._owed is not None:
            self.starved = False
            self._finish(self._owed)
        elif self.starved and self._command is not None:
            self.starved = False
            self._guarded(self._command.writable)

    def _dispatch(self, events: list[SessionEvent]) -> None:
        for event in events:
            kind = type(event)
            if kind is Ready:
                self._launch()
            elif kind is Lost:
                self._lose()
            elif not self._over:
                if self._command is None:
                    self._keep(event)
                    continue
                try:
                    self._deliver(self._command, event)
                except Exception as error:
                    self.exit(internal_failure(f"{type(error).__name__}: {error}"))

    def _deliver(self, command: Command, event: SessionEvent) -> None:
        if isinstance(event, Stdin):
            self.execution.received += len(event.data)
            command.stdin(event.data)
        elif isinstance(event, StdinEnded):
            if not self._stdin_ended:
                self._stdin_ended = True
                command.stdin_ended()
        elif isinstance(event, Resized):
            command.resized(event.width, event.height)

    def _keep(self, event: SessionEvent) -> None:
        """A hasty client: its stdin comes before all of its streams are open, and waits here for the command."""
        if isinstance(event, Stdin):
            event = Stdin(memoryview(bytes(event.data)))
            self._early_size += len(event.data)
            if self._early_size > STDIN_HIGH_WATER and self._carrier is not None:
                self._carrier.pause_reading()  # the other streams will not come either: a deadline ends this
        self._early.append(event)

    def _launch(self) -> None:
        try:
            command = self._runtime(self.execution.request)
            command.outlet = self
            self._command = command
            command.start()
        except Exception as error:
            self.exit(internal_failure(str(error) or type(error).__name__))
            return
        if self._stdin_ended and not self._over:
            self._guarded(command.stdin_ended)
        early, self._early = self._early, []
        self._dispatch(early)

    def _lose(self) -> None:
        carrier, self._carrier = self._carrier, None
        self.starved = False
        if not self._over:
            self.execution.mark_left()
            if self._command is None:
                self._conclude(None)
            else:
                self._guarded(self._command.gone)
        if carrier is not None:
            carrier.end(lost=True)

    def _guarded(self, function: Callable[[], None]) -> None:
        """A fault of a command is the command's failure, not the server's."""
        try:
            function()
        except Exception as error:
            self.exit(internal_failure(f"{type(error).__name__}: {error}"))

    # -- the Outlet --------------------------------------------------------------------------------------------------

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The server's loop."""
        return self._loop

    def write(self, kind: StreamKind, data: Buffer) -> bool:
        """As ``Outlet.write``. Raises OutputLimitExceeded for a command that goes on though it was told to wait."""
        carrier = self._carrier
        if carrier is None or self._over:
            return True
        if kind is StreamKind.STDERR and self.engine.streams.tty:
            kind = StreamKind.STDOUT
        self.engine.write(kind, data)
        self._wrote = True
        carrier.want_flush()
        if self.engine.pending_bytes < HIGH_WATER:
            return True
        self.starved = True
        return False

    def end(self, kind: StreamKind) -> None:
        """As ``Outlet.end``."""
        if self._carrier is not None and not self._over:
            self.engine.end_output(kind)
            self._carrier.want_flush()

    def exit(self, status: ExitStatus) -> None:
        """As ``Outlet.exit``."""
        if self._over:
            return
        self._conclude(status)
        self._finish(status)

    def _finish(self, status: ExitStatus) -> None:
        """Queue the end, or as soon as there is room for it: some commands write more than they may."""
        self._owed = None
        if self._carrier is None:
            return
        try:
            for kind in _OUTPUTS:
                self.engine.end_output(kind)
            self.engine.finish(encode_status(self.engine.version, status, metadata=self._metadata))
        except OutputLimitExceeded:
            self._owed = status
            self.starved = True
            self._carrier.want_flush()
            return
        self._wrote = True
        self._carrier.end(lost=False)

    def pause_stdin(self) -> None:
        """As ``Outlet.pause_stdin``."""
        if self._carrier is not None and not self._over:
            self._carrier.pause_reading()

    def resume_stdin(self) -> None:
        """As ``Outlet.resume_stdin``."""
        if self._carrier is not None and not self._over:
            self._carrier.resume_reading()

    # -- the end -----------------------------------------------------------------------------------------------------

    def _conclude(self, status: ExitStatus | None) -> None:
        self._over = True
        self.starved = False
        self.execution.mark_over(status)
        self._on_over(self)

    async def close(self) -> None:
        """The server closes: the connection is gone already. Ends the command and waits for that."""
        if self._command is not None and not self._over:
            await self._command.close()
        if not self._over:
            self._conclude(None)

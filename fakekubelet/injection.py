"""Where faults take hold of a session: between it and its connection.

Theory of operation. An upgraded connection belongs to a ``Session`` (``fakekubelet.upgrades``), which gives its output
to the connection and gets the client's bytes from it. With faults a ``FaultySession`` stands between the two: to the
connection it is the session, to the session it is the connection. What the session sends is cut into frames, which
pass through one ``Injection`` after another, and then as bytes through all of them once more; what the client sends
passes as bytes. Without faults nothing of this exists: the session is the one that was there before.

Back-pressure stays what it is. Output that an injection holds back counts, and beyond ``HELD`` bytes nothing more is
taken from the session, which then tells its command to wait.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from fakekubelet.messages import Answer, Application, Request, Upgrade
from fakekubelet.upgrades import Carrier, How, Session, SessionHost
from fakekubelet.wires import Frame, SpdyWire, WebSocketWire, Wire
from spdyproto.types import Buffer

if TYPE_CHECKING:
    from fakekubelet.faults.base import Fault

HELD: Final = 1024 * 1024
"""Bytes of held output at which a session is taken no more from."""


class Injection:
    """A fault at work on one session. This one changes nothing; each method is a place where one can."""

    def __init__(self, line: FaultySession, fault: Fault) -> None:
        self.line = line

    def start(self) -> None:
        """The 101 was written."""

    def frame(self, frame: Frame) -> Iterable[Frame]:
        """What becomes of a frame of the server: itself, others, or nothing (yet: see ``FaultySession.release``)."""
        return (frame,)

    def outgoing(self, data: bytes) -> bytes:
        """What becomes of bytes about to leave."""
        return data

    def incoming(self, data: Buffer) -> Buffer:
        """What becomes of the client's bytes; ``data`` is valid during the call."""
        return data

    def over(self) -> None:
        """The session has ended, or the client has left: release what is held."""


class FaultySession:
    """A ``Session`` to the connection, a ``Carrier`` to the session behind it; and the hands of the injections."""

    def __init__(
        self, upgrade: Upgrade, outside: Carrier, host: SessionHost, wire: Wire, faults: Sequence[Fault]
    ) -> None:
        self.loop = outside.loop
        self.wire = wire
        self._outside = outside
        self._host = host
        self._out: deque[bytes] = deque()
        self._size = 0
        self._held = 0
        self._timers: set[asyncio.TimerHandle] = set()
        self._ending: bool | None = None  # lost or not, once the session has asked for the end
        self._cut: How | None = None  # once everything queued has left
        self._dead = False  # nothing passes any more, in either direction
        self._client_left = False
        self._paused = [False, False]  # by the session, by a fault
        self.piece = 0
        """Bytes that leave at once; 0 for as many as there are."""
        self.pace = 0.0
        """Seconds between two pieces."""
        self._next_piece: asyncio.TimerHandle | None = None
        self._injections = [fault.injection(self, fault) for fault in faults]
        self._session = upgrade.open(self, _Host(self, host))

    # -- the Session that the connection sees ------------------------------------------------------------------------

    @property
    def engine(self) -> FaultySession:
        """Itself: output passes through here."""
        return self

    @property
    def pending_bytes(self) -> int:
        """As ``Engine.pending_bytes``."""
        if self._next_piece is not None:
            return 0
        return self._size + (0 if self._blocked else self._session.engine.pending_bytes)

    @property
    def _blocked(self) -> bool:
        return self._dead or self._cut is not None or self._held >= HELD

    def data_to_send(self) -> list[Buffer]:
        """As ``Engine.data_to_send``."""
        self._pull()
        if not self.piece:
            taken = list(self._out)
            self._out.clear()
            self._size = 0
        else:
            taken = self._take_piece()
        if not self._size and not self._held:
            self.loop.call_soon(self._conclude)
        return list(taken)

    def _pull(self) -> None:
        if not self._blocked and self._session.engine.pending_bytes:
            data = b"".join(self._session.engine.data_to_send())
            self._pass(self.wire.outgoing(data), 0)

    def _take_piece(self) -> list[bytes]:
        if not self._out:
            return []
        first = self._out.popleft()
        if len(first) > self.piece:
            self._out.appendleft(first[self.piece :])
            first = first[: self.piece]
        self._size -= len(first)
        if self._out:
            self._next_piece = self.loop.call_later(self.pace, self._go_on)
        return [first]

    def _go_on(self) -> None:
        self._next_piece = None
        self._outside.want_flush()

    def next_deadline(self) -> float | None:
        """As ``Engine.next_deadline``."""
        return self._session.engine.next_deadline()

    @property
    def starved(self) -> bool:
        """As ``Session.starved``."""
        return self._session.starved and not self._blocked and not self._size

    def start(self, now: float) -> None:
        """As ``Session.start``."""
        for injection in self._injections:
            injection.start()
        self._session.start(now)

    def receive(self, plain: Buffer, now: float) -> bool:
        """As ``Session.receive``."""
        if self._dead or self._ending is not None:
            return False
        self.wire.incoming(plain)
        for injection in self._injections:
            plain = injection.incoming(plain)
        return self._session.receive(plain, now) if plain else True

    def receive_eof(self, now: float, *, clean: bool) -> None:
        """As ``Session.receive_eof``."""
        self._client_left = True
        self._stop()
        if self._ending is None:
            self._session.receive_eof(now, clean=clean)

    def handle_timeout(self, now: float) -> None:
        """As ``Session.handle_timeout``."""
        if self._ending is None:
            self._session.handle_timeout(now)

    def wrote(self) -> bool:
        """As ``Session.wrote``."""
        return self._session.wrote()

    def hang_up(self) -> None:
        """As ``Session.hang_up``: this is the server's own patience, so no fault holds it up."""
        self._dead = False
        self._release_all()
        if self._ending is None:
            self._session.hang_up()
        else:
            self._outside.end(lost=True)

    def room(self) -> None:
        """As ``Session.room``."""
        self._session.room()

    async def close(self) -> None:
        """As ``Session.close``."""
        self._stop()
        await self._session.close()

    # -- the Carrier that the session sees ---------------------------------------------------------------------------

    def want_flush(self) -> None:
        """As ``Carrier.want_flush``."""
        self._outside.want_flush()

    @property
    def full(self) -> bool:
        """As ``Carrier.full``."""
        return self._blocked or self._size > HELD or self._outside.full

    def transmit(self, segments: Sequence[Buffer]) -> None:
        """As ``Carrier.transmit``."""
        if not self._dead and self._cut is None:
            self._pass(self.wire.outgoing(b"".join(segments)), 0)
            self._outside.want_flush()

    def pause_reading(self) -> None:
        """As ``Carrier.pause_reading``."""
        self._pause(0, True)

    def resume_reading(self) -> None:
        """As ``Carrier.resume_reading``."""
        self._pause(0, False)

    def end(self, *, lost: bool) -> None:
        """As ``Carrier.end``: once what is held has left."""
        if self._ending is None:
            self._ending = lost
            self._pull()
            if not self._size and not self._held:
                self._conclude()
            else:
                self._outside.want_flush()

    def cut(self) -> None:
        """As ``Carrier.cut``."""
        self._stop()
        self._outside.cut()

    def break_off(self, how: How) -> None:
        """As ``Carrier.break_off``."""
        self.sever(how)

    # -- what injections do ------------------------------------------------------------------------------------------

    def release(self, behind: Injection, frames: Iterable[Frame]) -> None:
        """Let frames go on that ``behind`` held, or made."""
        if not self._dead:
            self._pass(frames, self._injections.index(behind) + 1)
            self._outside.want_flush()

    def hold(self, frame: Frame) -> None:
        """Count a frame that an injection keeps."""
        self._held += len(frame.data)

    def unhold(self, frames: Iterable[Frame]) -> None:
        """Count them no more: they are released, or thrown away."""
        self._held -= sum(len(frame.data) for frame in frames)

    def later(self, seconds: float, function: Callable[[], None]) -> asyncio.TimerHandle:
        """Call ``function`` then, unless the session is over by then."""

        def call() -> None:
            self._timers.discard(handle)
            function()

        handle = self.loop.call_later(seconds, call)
        self._timers.add(handle)
        return handle

    def pause(self, paused: bool) -> None:
        """Leave what the client sends in the network, or read it again."""
        self._pause(1, paused)

    def silence(self) -> None:
        """Nothing passes any more, in either direction, and nobody is told."""
        self._dead = True

    def sever(self, how: How) -> None:
        """End the connection once everything queued has left; take nothing more from the session."""
        if self._cut is None:
            self._cut = how
            self._release_all()
            if self._size:
                self._outside.want_flush()
            else:
                self.loop.call_soon(self._conclude)

    # -- its own business --------------------------------------------------------------------------------------------

    def _pass(self, frames: Iterable[Frame], index: int) -> None:
        for frame in frames:
            if index < len(self._injections):
                self._pass(self._injections[index].frame(frame), index + 1)
            else:
                self._queue(frame.data)
            if self._dead:
                return

    def _queue(self, data: bytes) -> None:
        for injection in self._injections:
            if self._cut is not None or self._dead:
                return
            data = injection.outgoing(data)
        if data:
            self._out.append(data)
            self._size += len(data)

    def _release_all(self) -> None:
        """Nothing is waited for any more."""
        self._held = 0

    def _conclude(self) -> None:
        if self._size or self._held or self._client_left:
            return
        if self._cut is not None and not self._dead:
            how = self._cut
            self._stop()
            if self._ending is None:
                self._session.receive_eof(self.loop.time(), clean=False)
            self._outside.break_off(how)
        elif self._ending is not None and not self._dead:
            self._stop()
            self._outside.end(lost=self._ending)

    def _stop(self) -> None:
        self._dead = True
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        if self._next_piece is not None:
            self._next_piece.cancel()
            self._next_piece = None
        for injection in self._injections:
            injection.over()
        self._out.clear()
        self._size = self._held = 0

    def _pause(self, who: int, paused: bool) -> None:
        self._paused[who] = paused
        if any(self._paused):
            self._outside.pause_reading()
        else:
            self._outside.resume_reading()


class _Host:
    """The server, as the session behind sees it: what ends is the session that the server knows."""

    def __init__(self, session: FaultySession, host: SessionHost) -> None:
        self.loop, self.limits, self.deadlines = host.loop, host.limits, host.deadlines
        self._session, self._host = session, host

    def session_over(self, session: Session) -> None:
        """As ``SessionHost.session_over``."""
        self._host.session_over(self._session)


class FaultyApplication:
    """An application whose upgraded connections have the faults that ``faults`` names at that moment."""

    def __init__(self, application: Application, faults: Callable[[], Sequence[Fault]]) -> None:
        self._application = application
        self._faults = faults

    async def answer(self, request: Request) -> Answer:
        """As ``Application.answer``."""
        faults = self._faults()
        if not faults or not request.wants_upgrade:
            return await self._application.answer(request)
        answer: Answer | None = None
        for fault in faults:
            answer = await fault.before(request)
            if answer is not None:
                return answer
        answer = await self._application.answer(request)
        if isinstance(answer, Upgrade):
            return self._faulty(request, answer, faults)
        return answer

    def _faulty(self, request: Request, upgrade: Upgrade, faults: Sequence[Fault]) -> Upgrade:
        wire = wire_of(request, upgrade)
        here = [fault for fault in faults if wire.name in fault.wires]

        def open_it(outside: Carrier, host: SessionHost) -> Session:
            return FaultySession(upgrade, outside, host, wire, here)

        answer = replace(upgrade, open=open_it)
        for fault in here:
            answer = fault.answer(answer)
        return answer


def wire_of(request: Request, upgrade: Upgrade) -> Wire:
    """What the connection will speak, as the 101 says."""
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in upgrade.headers}
    if headers.get("upgrade", "").lower() != "websocket":
        return SpdyWire()
    forwarding = "portforward" in request.path.lower()
    return WebSocketWire(headers.get("sec-websocket-protocol", ""), forwarding=forwarding)

"""What a connection needs of the session that it was upgraded to, and the session of its connection.

A session is anything that speaks over a connection after 101: a remote command, forwarded ports, another server's
bytes handed on. The connection feeds it plaintext and asks for output; nothing here awaits, so that a buffer is one
call and a batch of output another. All of it runs on the server's loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal, Protocol

from spdyproto.limits import Deadlines, Limits
from spdyproto.types import Buffer

How = Literal["fin", "rst", "close_notify"]
"""How a connection is broken off: by TCP's FIN without the end of TLS, by TCP's reset, or by the end of TLS in good
order."""


class Carrier(Protocol):
    """What a session needs of its connection."""

    loop: asyncio.AbstractEventLoop

    def want_flush(self) -> None:
        """Send what the session has queued, soon: within this turn of the loop if it is asked for while ``receive``,
        ``room`` or ``handle_timeout`` runs, else in the next."""

    @property
    def full(self) -> bool:
        """The transport takes no more for now. A session that waits for it says so by ``Session.starved``."""

    def transmit(self, segments: Sequence[Buffer]) -> None:
        """Send at once, past the engine, whose output must be empty; the buffers are free again on return. More than
        the transport takes is kept there: stop while ``full``. Nothing happens once the client is gone."""

    def pause_reading(self) -> None:
        """Leave what the client sends in the network. At most one read's worth (256 KiB) still comes."""

    def resume_reading(self) -> None:
        """Read again."""

    def cut(self) -> None:
        """Reset the connection. What the client has not taken is lost: this is how a server that does not wait for its
        client loses the end of what it sent."""

    def end(self, *, lost: bool) -> None:
        """Close behind everything that is queued; without much patience if the session was ``lost``. Nothing that the
        client sends is handed on any more."""

    def break_off(self, how: How) -> None:
        """End as an accident would, behind what was sent; nothing is handed on any more, and nobody asked again."""


class SessionHost(Protocol):
    """What a session needs of its server."""

    loop: asyncio.AbstractEventLoop
    limits: Limits
    deadlines: Deadlines

    def session_over(self, session: Session) -> None:
        """The session's work has ended: it need not be closed with the server. Called by the session, once."""


class Engine(Protocol):
    """Where the connection fetches output. ``spdyproto``'s sessions are such, and a session can be its own."""

    @property
    def pending_bytes(self) -> int:
        """Bytes that wait for ``data_to_send``. Asked often."""

    def data_to_send(self) -> list[Buffer]:
        """Take all of them, as segments in order. Asked only when the transport has room."""

    def next_deadline(self) -> float | None:
        """When ``Session.handle_timeout`` is due, in the loop's time."""


class Session(Protocol):
    """See the module's text. ``Upgrade.open`` makes one."""

    @property
    def engine(self) -> Engine:
        """Its output."""

    @property
    def starved(self) -> bool:
        """It could queue more as soon as there is room: then ``room`` is called."""

    def start(self, now: float) -> None:
        """The 101 is sent."""

    def receive(self, plain: Buffer, now: float) -> bool:
        """Plaintext from the client, valid during the call only. Answers whether it puts the idle timeout off."""

    def receive_eof(self, now: float, *, clean: bool) -> None:
        """The client's side has ended; ``clean`` if TLS said so. Never called twice, nor after ``Carrier.end``."""

    def handle_timeout(self, now: float) -> None:
        """Do what is due by ``Engine.next_deadline``."""

    def wrote(self) -> bool:
        """Called whenever output leaves: whether it puts the idle timeout off."""

    def hang_up(self) -> None:
        """Nothing came or went for too long (``Timeouts.stream_idle``): tell the client, and ``Carrier.end``."""

    def room(self) -> None:
        """All output is with the transport, which takes more."""

    async def close(self) -> None:
        """The server closes, and the connection is gone already: release everything. Called for all sessions that were
        not over when the closing began, even if the loss of their connection has ended them since."""

"""What the connections of one server share, whatever it serves.

A server is an ``Application`` (``fakekubelet.messages``), a way to make the server's end of a connection, and
``Settings``::

    listening = Listening(loop, application, ServerTLS(certificate, client_ca=ca).pipe, Settings())
    server = await loop.create_server(listening.connection, host, port, backlog=BACKLOG)
    ...
    server.close()
    await listening.close()
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from fakekubelet.accounting import SessionLog
from fakekubelet.connection import SCRATCH, Connection, Pipe, Timeouts
from fakekubelet.http1 import BODY_LIMIT
from fakekubelet.messages import Application
from fakekubelet.upgrades import Session
from spdyproto.limits import Deadlines, Limits

BACKLOG = 1024
"""Connections that may wait to be accepted: a thousand sessions at once are started in one burst."""

MAX_CONNECTIONS = 4096
"""Connections at once; one more is closed without a word. Each costs about 90 KiB, 140 after traffic."""

CLOSE_SECONDS = 10.0
"""For all sessions together to end when the server closes."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a client may take of a server."""

    limits: Limits = Limits()
    deadlines: Deadlines = Deadlines()
    timeouts: Timeouts = field(default_factory=Timeouts)
    max_connections: int = MAX_CONNECTIONS
    body_limit: int = BODY_LIMIT
    """Bytes of a request's body."""

    @classmethod
    def of(
        cls, limits: Limits | None, deadlines: Deadlines | None, timeouts: Timeouts | None, max_connections: int
    ) -> Settings:
        """What was given, and the defaults."""
        return cls(limits or Limits(), deadlines or Deadlines(), timeouts or Timeouts(), max_connections)


class Listening:
    """What the connections of one server share: its ``connection.Host``. Made and used on the server's loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        application: Application,
        make_pipe: Callable[[], Pipe],
        settings: Settings,
        sessions: SessionLog | None = None,
    ) -> None:
        self.loop = loop
        self.application = application
        self.limits, self.deadlines, self.timeouts = settings.limits, settings.deadlines, settings.timeouts
        self.body_limit, self._max_connections = settings.body_limit, settings.max_connections
        self.make_pipe = make_pipe
        self.ciphertext = memoryview(bytearray(SCRATCH))
        self.plaintext = memoryview(bytearray(SCRATCH))
        self.sessions = SessionLog() if sessions is None else sessions
        self._connections: set[Connection] = set()
        self._sessions: set[Session] = set()
        self._closing = False

    def connection(self) -> Connection:
        """The protocol factory that ``loop.create_server`` is given."""
        return Connection(self)

    def admit(self, connection: Connection) -> bool:
        """As ``Host.admit``."""
        if self._closing or len(self._connections) >= self._max_connections:
            return False
        self._connections.add(connection)
        return True

    def forget(self, connection: Connection) -> None:
        """As ``Host.forget``."""
        self._connections.discard(connection)

    def session_started(self, session: Session) -> None:
        """As ``Host.session_started``."""
        self._sessions.add(session)

    def session_over(self, session: Session) -> None:
        """As ``Host.session_over``."""
        self._sessions.discard(session)

    async def close(self) -> None:
        """Cut every connection and end every command."""
        self._closing = True
        sessions = list(self._sessions)
        for connection in list(self._connections):
            connection.abort()
        for _ in range(8):
            await asyncio.sleep(0)  # accepted sockets become connections, and transports tell theirs, in the next turns
        if sessions:
            closing = [asyncio.ensure_future(session.close()) for session in sessions]
            _, late = await asyncio.wait(closing, timeout=CLOSE_SECONDS)
            for task in late:
                task.cancel()


async def stop_accepting(loop: asyncio.AbstractEventLoop, server: asyncio.Server) -> None:
    """``server.close()``, without the socket that asyncio forgets: one that was accepted in the turn before, and of
    which a closed server cannot make a transport (``Server._attach`` in Python 3.11)."""
    for sock in server.sockets:
        loop.remove_reader(sock.fileno())
    for _ in range(4):
        await asyncio.sleep(0)
    server.close()


def keep_freed_memory() -> None:
    """Let glibc keep a few MiB of freed memory instead of giving each batch of output back to the kernel.

    Its threshold for that (128 KiB) grows with the largest block that was ever freed. Without this every batch costs a
    system call and 64 page faults: 0.5 CPU seconds per GiB. Other allocators do not notice.
    """
    bytearray(4 << 20)

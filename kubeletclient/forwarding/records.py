"""What forwarding tells: a record of each connection, and an event for each change."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

__all__ = ["ForwardEvent", "ForwardedConnection", "Listener", "OnEvent", "Totals"]

KEPT: Final = 1000
"""Records of connections that have ended, kept for ``connections``; the totals count all."""


@dataclass(slots=True)
class ForwardedConnection:
    """One connection: ``sent`` and ``received`` are bytes to and from the pod.

    ``local`` is who connected (``127.0.0.1:40312``, or ``connect``), ``port`` the pod's. ``ended`` is empty while it
    lives, then:

    - ``"finished"``: both directions ended in order;
    - ``"reset by the client"``: whoever had connected reset it, or left with data unread;
    - ``"failed"``: the pod's side failed, or refused it: ``error`` has the server's words;
    - ``"lost"``: the session ended under it;
    - ``"closed"``: this program stopped forwarding.
    """

    local: str
    port: int
    sent: int = 0
    received: int = 0
    ended: str = ""
    error: str = ""
    pod: str = ""
    began: float = field(default_factory=time.monotonic, repr=False)
    seconds: float = 0.0

    def end(self, how: str, error: str = "") -> None:
        """It is over; the first word counts."""
        if not self.ended:
            self.ended, self.error = how, error
            self.seconds = time.monotonic() - self.began

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "local": self.local,
            "port": self.port,
            "pod": self.pod,
            "sent": self.sent,
            "received": self.received,
            "seconds": round(self.seconds or time.monotonic() - self.began, 6),
            "ended": self.ended or "open",
            "error": self.error,
        }


@dataclass(slots=True)
class Totals:
    """All connections that have ended, by how they did, with their bytes."""

    connections: int = 0
    sent: int = 0
    received: int = 0
    ended: dict[str, int] = field(default_factory=dict)

    def add(self, connection: ForwardedConnection) -> None:
        """One more."""
        self.connections += 1
        self.sent += connection.sent
        self.received += connection.received
        self.ended[connection.ended] = self.ended.get(connection.ended, 0) + 1


@dataclass(frozen=True, slots=True)
class Listener:
    """A local address that is listened on: ``127.0.0.1:8080``, ``[::1]:8080`` or a path, for ``port`` of the pod,
    a number or a name."""

    address: str
    port: int | str


@dataclass(frozen=True, slots=True)
class ForwardEvent:
    """Something has changed. ``kind`` is one of:

    ``listening``, ``connected`` (a session is up), ``lost`` (one ended by itself), ``retry`` (the next attempt, and
    why the last one failed), ``opened`` and ``ended`` (a connection), ``refused`` (a local connection that could not
    be served). ``text`` says it in one line; ``fields`` to programs.
    """

    kind: str
    text: str
    fields: dict[str, Any] = field(default_factory=dict)


OnEvent: TypeAlias = Callable[[ForwardEvent], None]

"""What every fault is, and where it can take hold."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Final, get_args

from fakekubelet.injection import Injection
from fakekubelet.messages import Answer, Request, Upgrade
from fakekubelet.upgrades import How
from fakekubelet.wires import SPDY, WEBSOCKET

KUBERNETES: Final = "https://github.com/kubernetes/kubernetes"
KUBECTL: Final = "https://github.com/kubernetes/kubectl"
BOTH: Final = frozenset({SPDY, WEBSOCKET})


class Fault:
    """One thing that goes wrong. A subclass overrides what it needs; this one does nothing."""

    name: ClassVar[str] = ""
    """As ``--fault`` takes it."""
    incident: ClassVar[str] = ""
    """Where it was met: an address, or several."""
    wires: ClassVar[frozenset[str]] = BOTH
    """The transports that can have it; sessions over another are left alone."""
    injection: ClassVar[type[Injection]] = Injection
    """What it is at work: made with the session and the fault."""

    @property
    def harmless(self) -> bool:
        """Whether nothing is lost, so that a correct client succeeds."""
        return False

    async def before(self, request: Request) -> Answer | None:
        """An answer to an upgrade request in place of the server's own; None for none."""
        return None

    def answer(self, upgrade: Upgrade) -> Upgrade:
        """What becomes of the server's 101."""
        return upgrade

    def __str__(self) -> str:
        values = [str(getattr(self, each.name)) for each in dataclasses.fields(self)]  # type: ignore[arg-type] # all are
        return ":".join([self.name, *values])


def check_how(how: str) -> None:
    """Raises ValueError for what is no way to cut a connection."""
    if how not in get_args(How):
        raise ValueError(f"how a connection is cut is one of {', '.join(get_args(How))}, not {how!r}")


def check_positive(**values: float) -> None:
    """Raises ValueError, with its name, for a value that is not more than 0."""
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} is more than 0, not {value!r}")


def check_bytes(after: int) -> None:
    """Raises ValueError for a number of bytes below 0."""
    if after < 0:
        raise ValueError(f"a number of bytes is at least 0, not {after}")

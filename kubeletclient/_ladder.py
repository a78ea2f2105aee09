"""Which transport to try, in which order, and what is a reason to try the next one.

A kubelet's streaming endpoints speak SPDY/3.1 and WebSocket, and which of them pass depends on the server's age and on
what stands between. SPDY comes first: it can end stdin in every version, and needs no mask. WebSocket v5 can end stdin,
too, but a kubelet takes it only from 1.36 on; v4 is what runtimes speak, and has no end of stdin; base64 is for peers
that let nothing but text pass.

The next one is tried only when the answer means *not this transport*. An answer about the caller (401, 403 of
authorization), about the pod or its container, about load (429), a connection that was not made, and anything behind a
101 are final: trying again would hide the cause, or run the command twice. kubectl goes further, and falls back on
every answer that is not a 101 (``client-go: tools/remotecommand/fallback.go``).

Nothing here does I/O. Sources of the answers: ``k8s.io/streaming: pkg/httpstream``, ``golang.org/x/net: websocket``,
``kubernetes: pkg/kubelet/server``.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from kubeletclient.errors import StdinCannotEnd
from spdyproto.channels.events import Transport
from spdyproto.channels.subprotocols import CLIENT_OFFER, Subprotocol

__all__ = [
    "AUTO",
    "Attempt",
    "Choice",
    "HalfClose",
    "Memory",
    "Step",
    "Wire",
    "dialect",
    "parse_transport",
    "reason_to_go_on",
    "steps_for",
]


class Wire(enum.StrEnum):
    """What carries a session."""

    SPDY = "spdy"
    WEBSOCKET = "ws"


class HalfClose(enum.Enum):
    """Whether a session will want to end stdin while its outputs go on."""

    NEVER = enum.auto()
    """No stdin, or a terminal, whose stdin stays open."""
    POSSIBLE = enum.auto()
    """The caller holds the pipe, and may close it."""
    CERTAIN = enum.auto()
    """stdin comes from something that ends."""


@dataclass(frozen=True, slots=True)
class Step:
    """One request: the transport, and what is offered over it, best first."""

    wire: Wire
    protocols: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of one step.

    - ``transport``: ``"spdy"`` or ``"ws"``; ``offered``: the subprotocols of the request;
    - ``accepted``: the one that the server chose, None if it chose none;
    - ``reason``: why it was not used, empty if it was;
    - ``skipped``: it was not even tried, because the server refused it a short while ago.
    """

    transport: str
    offered: tuple[str, ...]
    accepted: str | None = None
    reason: str = ""
    skipped: bool = False

    def __str__(self) -> str:
        if self.accepted is not None:
            return f"{self.transport}: {self.accepted}"
        return f"{self.transport}: {'not tried again, ' if self.skipped else ''}{self.reason}"


@dataclass(frozen=True, slots=True)
class Choice:
    """A ``transport`` as the caller gave it; None is free."""

    wire: Wire | None = None
    protocol: str | None = None


AUTO: Final = Choice()

_WEBSOCKET: Final = {
    "v5.channel.k8s.io": (Subprotocol.V5, Transport.WEBSOCKET),
    "v4.channel.k8s.io": (Subprotocol.V4, Transport.WEBSOCKET),
    "v4.base64.channel.k8s.io": (Subprotocol.V4, Transport.WEBSOCKET_BASE64),
    "channel.k8s.io": (Subprotocol.V1, Transport.WEBSOCKET),
    "base64.channel.k8s.io": (Subprotocol.V1, Transport.WEBSOCKET_BASE64),
}
_WEBSOCKET_OFFER: Final = ("v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io")
"""The older two cannot tell success from a loss, so they are used only when asked for by name."""


def parse_transport(text: str) -> Choice:
    """``auto``, ``spdy``, ``ws``, or one subprotocol: ``spdy:NAME``, ``ws:NAME``.

    A bare NAME means SPDY where it exists there, and WebSocket otherwise. Raises ValueError for anything else.
    """
    if text == "auto":
        return AUTO
    head, colon, name = text.partition(":")
    if not colon:
        if head in (Wire.SPDY, Wire.WEBSOCKET):
            return Choice(Wire(head))
        wire = Wire.WEBSOCKET if head in _WEBSOCKET and not _over_spdy(head) else Wire.SPDY
        name = head
    elif head in (Wire.SPDY, Wire.WEBSOCKET):
        wire = Wire(head)
    else:
        raise _unknown(text)
    if not (name in _WEBSOCKET if wire is Wire.WEBSOCKET else _over_spdy(name)):
        raise _unknown(text)
    return Choice(wire, name)


def _over_spdy(name: str) -> bool:
    return name in CLIENT_OFFER and name != Subprotocol.V5  # v5 adds nothing but a signal of WebSocket


def _unknown(text: str) -> ValueError:
    spdy = ", ".join(name for name in CLIENT_OFFER if _over_spdy(name))
    return ValueError(
        f"transport {text!r} is unknown: expected auto, spdy, ws, spdy:NAME with NAME one of {spdy}, "
        f"or ws:NAME with NAME one of {', '.join(_WEBSOCKET)}"
    )


def dialect(wire: Wire, protocol: str) -> tuple[Subprotocol, Transport]:
    """What a subprotocol's name means on this transport."""
    return _WEBSOCKET[protocol] if wire is Wire.WEBSOCKET else (Subprotocol(protocol), Transport.SPDY)


def steps_for(choice: Choice, half_close: HalfClose, spdy_protocols: Sequence[str] = CLIENT_OFFER) -> tuple[Step, ...]:
    """The steps that can serve the call, in order.

    Raises StdinCannotEnd when stdin is certain to end and the chosen protocol has no word for that.
    """
    if choice.protocol is not None:
        assert choice.wire is not None
        version, _ = dialect(choice.wire, choice.protocol)
        silent = choice.wire is Wire.WEBSOCKET and not version.has_close_signal
        if half_close is HalfClose.CERTAIN and silent:
            raise StdinCannotEnd(
                f"stdin could not be ended over {choice.wire}:{choice.protocol}: the command would wait for ever",
                hint="use transport 'auto', 'spdy' or 'ws:v5.channel.k8s.io', or keep stdin open as a pipe",
            )
        return (Step(choice.wire, (choice.protocol,)),)
    steps = []
    if choice.wire is not Wire.WEBSOCKET:
        steps.append(Step(Wire.SPDY, tuple(spdy_protocols)))
    if choice.wire is not Wire.SPDY:
        names = (name for name in _WEBSOCKET_OFFER if _WEBSOCKET[name][0].has_close_signal)
        steps.append(Step(Wire.WEBSOCKET, _WEBSOCKET_OFFER if half_close is HalfClose.NEVER else tuple(names)))
    return tuple(steps)


# -- what an answer means ----------------------------------------------------------------------------------------------

_OF_THE_POD: Final = re.compile(r"\b(pods?|containers?|sandbox|namespaces?)\b", re.IGNORECASE)
_OF_THE_UPGRADE: Final = re.compile(r"upgrad|spdy|websocket|subprotocol|negotiate protocol", re.IGNORECASE)
_NOT_HERE: Final = {
    405: "the server does not take this method here",
    426: "the server asks for another upgrade",
    501: "the server does not implement it",
    502: "a proxy between got no usable answer",
    505: "the server does not take this version of HTTP",
}


def reason_to_go_on(wire: Wire, status: int, message: str, *, empty: bool, lists_protocols: bool) -> str | None:
    """Why an answer that is not a 101 means *not this transport*; None when it is final.

    ``message`` is the server's text, ``empty`` whether the answer had no body, ``lists_protocols`` whether it names the
    subprotocols that the server would have taken.
    """
    if lists_protocols or (status == 403 and "unable to negotiate protocol" in message):
        return f"HTTP {status}: the server takes other subprotocols"
    if 200 <= status < 300:
        return f"HTTP {status}: the request for an upgrade was not seen"
    if status == 403 and wire is Wire.WEBSOCKET and empty:
        # x/net refuses a subprotocol with nothing but the status line; a refusal of authorization has a text.
        return "HTTP 403 without a text: the server takes none of these subprotocols"
    if status == 404:
        return None if _OF_THE_POD.search(message) else "HTTP 404: the server has no such streaming endpoint"
    if status in _NOT_HERE:
        return f"HTTP {status}: {_NOT_HERE[status]}"
    if status in (400, 500) and _OF_THE_UPGRADE.search(message) and not _OF_THE_POD.search(message):
        return f"HTTP {status}: the server cannot do this upgrade"
    return None


# -- what is remembered ------------------------------------------------------------------------------------------------

FORGET_AFTER: Final = 600.0
"""Seconds after which a refused step is tried again: servers are updated, and proxies mended."""


class Memory:
    """Which steps an endpoint refused while another one worked, so that the next session does not ask again.

    It belongs to one client, and holds one entry for each kind of step. Threads may share it: each call is one
    operation on a dict.
    """

    def __init__(self) -> None:
        self._refused: dict[Step, tuple[str, float]] = {}

    def order(self, steps: Sequence[Step], now: float) -> tuple[list[Step], list[Attempt]]:
        """``steps`` with those that were refused lately at the end, and an account of these."""
        fresh, stale, account = [], [], []
        for step in steps:
            reason, until = self._refused.get(step, ("", now))
            if until > now:
                stale.append(step)
                account.append(Attempt(str(step.wire), step.protocols, reason=reason, skipped=True))
            else:
                fresh.append(step)
        return (fresh + stale, account) if fresh else (list(steps), [])

    def learn(self, chosen: Step, refused: Sequence[tuple[Step, str]], now: float) -> None:
        """``chosen`` worked where ``refused`` did not."""
        self._refused.pop(chosen, None)
        for step, reason in refused:
            self._refused[step] = (reason, now + FORGET_AFTER)

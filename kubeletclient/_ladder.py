"""Which transport to try, in which order, and what is a reason to try the next one.

A kubelet's streaming endpoints speak SPDY/3.1 and WebSocket, and which of them pass depends on the server's age and on
what stands between. SPDY comes first there: it can end stdin in every version, and needs no mask. WebSocket v5 can end
stdin, too, but a kubelet takes it only from 1.36 on; v4 is what runtimes speak, and has no end of stdin; base64 is for
peers that let nothing but text pass.

An apiserver has translated WebSocket v5 since 1.30, so that is first there, as in kubectl: what stands before an
apiserver (load balancers, gateways, proxies that inspect) may know WebSocket and no SPDY, which is on its way out of
Kubernetes. SPDY is second, for older apiservers, and v4 last, for a gateway that lets no SPDY pass to one of these; its
outcome is as certain, but it cannot end stdin. Much to send turns the first two around: every byte that a client sends
over WebSocket has to be masked. A proxy on the way to a kubelet turns them around, too.

The next one is tried only when the answer means *not this transport*. An answer about the caller (401, 403 of
authorization), about the pod or its container, about load (429), a connection that was not made, and anything behind a
101 are final: trying again would hide the cause, or run the command twice. kubectl goes further, and falls back on
every answer that is not a 101 (``client-go: tools/remotecommand/fallback.go``). An apiserver's translator says 101
before it asks the kubelet, so what a kubelet refuses behind it never is a reason.

Nothing here does I/O. Sources of the answers: ``k8s.io/streaming: pkg/httpstream``, ``golang.org/x/net: websocket``,
``kubernetes: pkg/kubelet/server``.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from kubeletclient.errors import StdinCannotEnd
from spdyproto.channels.events import Transport
from spdyproto.channels.subprotocols import CLIENT_OFFER, Subprotocol
from spdyproto.limits import MIB

__all__ = [
    "AUTO",
    "BULK",
    "NO_PROTOCOL",
    "Attempt",
    "Choice",
    "HalfClose",
    "Memory",
    "Needs",
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


BULK: Final = 8 * MIB
"""Bytes of stdin from which on the mask of WebSocket (some 3 s of CPU for a GiB without an accelerator) costs more than
the round trip of an attempt that may be refused."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a session needs of its transport.

    - ``half_close``: whether stdin will want to end;
    - ``bulk``: at least ``BULK`` bytes are known to be sent;
    - ``proxied``: the connection goes through a proxy.
    """

    half_close: HalfClose = HalfClose.NEVER
    bulk: bool = False
    proxied: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One request: the transport, what is offered over it, best first, and why it has its place in the order."""

    wire: Wire
    protocols: tuple[str, ...]
    why: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of one step.

    - ``transport``: ``"spdy"`` or ``"ws"``; ``offered``: the subprotocols of the request;
    - ``accepted``: the one that the server chose, None if it chose none;
    - ``reason``: why it was not used, empty if it was;
    - ``skipped``: it was not even tried, because the server refused it a short while ago;
    - ``why``: what gave it its place in the order.
    """

    transport: str
    offered: tuple[str, ...]
    accepted: str | None = None
    reason: str = ""
    skipped: bool = False
    why: str = ""

    def __str__(self) -> str:
        if self.accepted is not None:
            return f"{self.transport}: {self.accepted or 'no subprotocol'}"
        return f"{self.transport}: {'not tried again, ' if self.skipped else ''}{self.reason}"


@dataclass(frozen=True, slots=True)
class Choice:
    """A ``transport`` as the caller gave it; None is free."""

    wire: Wire | None = None
    protocol: str | None = None


AUTO: Final = Choice()

NO_PROTOCOL: Final = "none"
"""How a WebSocket without any subprotocol is asked for: ``ws:none``. On the wire nothing is offered or named."""

_WEBSOCKET: Final = {
    "v5.channel.k8s.io": (Subprotocol.V5, Transport.WEBSOCKET),
    "v4.channel.k8s.io": (Subprotocol.V4, Transport.WEBSOCKET),
    "v4.base64.channel.k8s.io": (Subprotocol.V4, Transport.WEBSOCKET_BASE64),
    "channel.k8s.io": (Subprotocol.V1, Transport.WEBSOCKET),
    "base64.channel.k8s.io": (Subprotocol.V1, Transport.WEBSOCKET_BASE64),
}
_WEBSOCKET_OFFER: Final = ("v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io")
"""The older two, and none at all, cannot tell success from a loss, so they are used only when asked for by name."""


def parse_transport(text: str) -> Choice:
    """``auto``, ``spdy``, ``ws``, or one subprotocol: ``spdy:NAME``, ``ws:NAME``; ``ws:none`` is for none at all.

    A bare NAME means SPDY where it exists there, and WebSocket otherwise. Raises ValueError for anything else.
    """
    if text == "auto":
        return AUTO
    if text == f"{Wire.WEBSOCKET}:{NO_PROTOCOL}":
        return Choice(Wire.WEBSOCKET, "")
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
        f"or ws:NAME with NAME one of {', '.join((*_WEBSOCKET, NO_PROTOCOL))}"
    )


def dialect(wire: Wire, protocol: str) -> tuple[Subprotocol, Transport]:
    """What a subprotocol's name means on this transport. The empty one, over WebSocket, means the first version."""
    if wire is Wire.SPDY:
        return Subprotocol(protocol), Transport.SPDY
    return _WEBSOCKET[protocol or Subprotocol.V1]


def steps_for(
    choice: Choice, needs: Needs, spdy_protocols: Sequence[str] = CLIENT_OFFER, *, apiserver: bool = False
) -> tuple[Step, ...]:
    """The steps that can serve the call, in order, at a kubelet or at an apiserver.

    Raises StdinCannotEnd when stdin is certain to end and the chosen protocol has no word for that.
    """
    if choice.protocol is not None:
        return (_only_step(choice.wire or Wire.SPDY, choice.protocol, needs),)
    spdy, spdy_protocols = Wire.SPDY, tuple(spdy_protocols)
    ws, ends = Wire.WEBSOCKET, tuple(name for name in _WEBSOCKET_OFFER if _WEBSOCKET[name][0].has_close_signal)
    offer = _WEBSOCKET_OFFER if needs.half_close is HalfClose.NEVER else ends
    if choice.wire is not None:
        return (Step(choice.wire, spdy_protocols if choice.wire is spdy else offer, "as asked for"),)
    if needs.bulk:
        why = "much is sent, and SPDY needs no mask"
        return Step(spdy, spdy_protocols, why), Step(ws, offer, "where SPDY does not pass")
    if apiserver:
        steps = [
            Step(ws, ends, "an apiserver since 1.30 takes it, and so does what stands before one"),
            Step(spdy, spdy_protocols, "for an apiserver before 1.30"),
            Step(ws, tuple(name for name in offer if name not in ends), "for a gateway that lets no SPDY pass to one"),
        ]
        return tuple(step for step in steps if step.protocols)
    if needs.proxied:
        return (
            Step(ws, offer, "a proxy that reads along may know no SPDY"),
            Step(spdy, spdy_protocols, "for a kubelet without WebSocket v5"),
        )
    why = "a kubelet of any age takes it, it ends stdin, and it needs no mask"
    return Step(spdy, spdy_protocols, why), Step(ws, offer, "where SPDY does not pass")


def _only_step(wire: Wire, protocol: str, needs: Needs) -> Step:
    version, _ = dialect(wire, protocol)
    silent = wire is Wire.WEBSOCKET and not version.has_close_signal
    if needs.half_close is HalfClose.CERTAIN and silent:
        raise StdinCannotEnd(
            f"stdin could not be ended over {wire}:{protocol or NO_PROTOCOL}: the command would wait for ever",
            hint="use transport 'auto', 'spdy' or 'ws:v5.channel.k8s.io', or keep stdin open as a pipe",
        )
    return Step(wire, (protocol,) if protocol else (), "as asked for")


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


MOST_REMEMBERED: Final = 4096
"""Refusals that are remembered, of all endpoints together; of more the oldest are forgotten."""


class Memory:
    """Which steps an endpoint refused while another one worked, so that the next session does not ask again.

    It belongs to one client. Endpoints are told apart by their address. Threads may share it: each call is made of
    single operations on a dict.
    """

    def __init__(self) -> None:
        self._refused: dict[tuple[str, Step], tuple[str, float]] = {}

    def order(self, endpoint: str, steps: Sequence[Step], now: float) -> tuple[list[Step], list[Attempt]]:
        """``steps`` with those that this endpoint refused lately at the end, and an account of these."""
        fresh, stale, account = [], [], []
        for step in steps:
            reason, until = self._refused.get((endpoint, step), ("", now))
            if until > now:
                stale.append(step)
                account.append(Attempt(str(step.wire), step.protocols, reason=reason, skipped=True, why=step.why))
            else:
                fresh.append(step)
        return (fresh + stale, account) if fresh else (list(steps), [])

    def learn(self, endpoint: str, chosen: Step, refused: Sequence[tuple[Step, str]], now: float) -> None:
        """``chosen`` worked where ``refused`` did not."""
        self._refused.pop((endpoint, chosen), None)
        for step, reason in refused:
            if len(self._refused) >= MOST_REMEMBERED:
                self._refused.pop(next(iter(self._refused), (endpoint, step)), None)
            self._refused[endpoint, step] = (reason, now + FORGET_AFTER)

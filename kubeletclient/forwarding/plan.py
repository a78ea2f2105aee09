"""What is forwarded, over what, and how a session is set up.

Transports in order: SPDY; SPDY tunnelled in a WebSocket, which apiservers take since 1.31 and kubelets since 1.36; the
old WebSocket form, which has one connection for each session and no half-close. The next one is tried for the same
reasons as with exec (``_ladder``).
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qs

from kubeletclient._flows import Command, upgrade_flow
from kubeletclient._ladder import Attempt, Choice, Memory, Step, Wire
from kubeletclient._settings import Settings
from kubeletclient._trust import Trust
from kubeletclient.endpoints import Target
from spdyproto.channels.forwarding import TUNNEL, ForwardTransport
from spdyproto.channels.portforward import ForwardClient
from spdyproto.channels.portsocket import ForwardSocketClient
from spdyproto.channels.subprotocols import PORT_FORWARD
from spdyproto.limits import Deadlines, Keepalive, Limits
from spdyproto.types import Tracer

__all__ = [
    "Engine",
    "ForwardEstablished",
    "ForwardFlow",
    "ForwardRequest",
    "Mapped",
    "forward_flow",
    "forward_request",
    "parse_ports",
]

Engine: TypeAlias = ForwardClient | ForwardSocketClient

_OLD: Final = {
    "v4.channel.k8s.io": ForwardTransport.WEBSOCKET,
    "v4.base64.channel.k8s.io": ForwardTransport.WEBSOCKET_BASE64,
}


@dataclass(frozen=True, slots=True)
class Mapped:
    """One mapping: ``local`` is a port (0: a free one) or the path of a Unix socket; ``remote`` a port or its name."""

    local: int | str
    remote: int | str


_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")


def parse_ports(ports: int | str | Mapping[Any, Any] | Iterable[int | str]) -> list[Mapped]:
    """``{8080: 80, 0: "http", "/tmp/db.sock": 5432}``, or as kubectl has them: ``8080:80``, ``:80``, ``80``, a list of
    them. Raises ValueError for what is none."""
    if isinstance(ports, Mapping):
        pairs = [(local, remote) for local, remote in ports.items()]
    else:
        items: Iterable[int | str] = [ports] if isinstance(ports, int | str) else ports
        pairs = [_split(item) for item in items]
    if not pairs:
        raise ValueError("no ports: name at least one")
    return [Mapped(_local(local, remote), _remote(remote)) for local, remote in pairs]


def _split(item: int | str) -> tuple[Any, Any]:
    if isinstance(item, int):
        return item, item
    local, colon, remote = item.rpartition(":")
    if not colon:
        return (item if item.isdecimal() else 0), item
    return local or 0, remote


def _remote(remote: Any) -> int | str:  # noqa: ANN401 - as the caller gave it
    text = str(remote)
    if text.lower().endswith("/udp"):
        raise ValueError(f"remote port {remote!r}: the protocol carries TCP connections only, no UDP")
    if text.isascii() and text.isdecimal() and 0 < int(text) < 65536:
        return int(text)
    if isinstance(remote, str) and len(text) <= 15 and _NAME.match(text) and not text.isdecimal():
        return text
    raise ValueError(f"remote port {remote!r}; 1 to 65535 expected, or the name of a port")


def _local(local: Any, remote: Any) -> int | str:  # noqa: ANN401 - as the caller gave it
    text = str(local)
    if "/" in text:
        return text
    if text.isascii() and text.isdecimal() and int(text) < 65536:
        return int(text)
    raise ValueError(
        f"local port {local!r} for remote port {remote!r}; 0 (a free one) to 65535 expected, or the path of a Unix "
        "socket, with a slash in it"
    )


@dataclass(frozen=True, slots=True)
class ForwardRequest:
    """Everything that one session needs to be set up; ``port`` is for the old WebSocket form, whose session is one
    connection. Fields as of ``ExecRequest``."""

    target: Target
    port: int
    trust: Trust
    user_agent: str
    method: str
    steps: tuple[Step, ...]
    limits: Limits
    deadlines: Deadlines
    keepalive: Keepalive | None
    tracer: Tracer | None
    memory: Memory = field(default_factory=Memory)
    bearer_subprotocol: bool = False
    allow_local: bool = True


@dataclass(frozen=True, slots=True)
class ForwardEstablished:
    """The server switched protocols: as ``Established``, with a port-forward engine."""

    engine: Engine
    transport: str
    protocol: str
    surplus: bytes
    attempts: tuple[Attempt, ...]
    target: Target


ForwardFlow: TypeAlias = Generator[Command, Any, ForwardEstablished]


def forward_steps(choice: Choice, names: Sequence[str] = ()) -> tuple[Step, ...]:
    """The steps of a port-forward, in order. Raises ValueError for a protocol that port-forward does not have."""
    spdy = Step(Wire.SPDY, (PORT_FORWARD,))
    tunnel, old = Step(Wire.WEBSOCKET, (TUNNEL,)), Step(Wire.WEBSOCKET, tuple(_OLD))
    if choice.protocol is not None and choice.wire is Wire.WEBSOCKET:
        if choice.protocol not in (TUNNEL, *_OLD):
            raise ValueError(f"port-forward has no {choice.protocol} over WebSocket: {TUNNEL}, {', '.join(_OLD)}")
        return (Step(Wire.WEBSOCKET, (choice.protocol,)),)
    if choice.wire is Wire.SPDY:
        return (spdy,)
    return (tunnel, old) if choice.wire is Wire.WEBSOCKET else (spdy, tunnel, old)


def forward_request(settings: Settings, target: Target) -> ForwardRequest:
    """The request for one session. Raises ValueError as ``forward_steps``."""
    query = parse_qs(target.path.partition("?")[2])
    return ForwardRequest(
        target,
        int((query.get("port") or query.get("ports") or ["0"])[0]),
        settings.trust,
        settings.agent,
        settings.method,
        forward_steps(settings.choice),
        settings.limits,
        settings.deadlines,
        settings.keepalive,
        settings.tracer,
        settings.memory,
        settings.bearer_subprotocol,
        settings.allow_local,
    )


def forward_flow(request: ForwardRequest) -> ForwardFlow:
    """Dial, secure, upgrade; as ``exec_flow``."""
    step, accepted, attempts = yield from upgrade_flow(request)
    protocol = accepted.protocol
    common: dict[str, Any] = {
        "limits": request.limits, "deadlines": request.deadlines, "keepalive": request.keepalive,
        "tracer": request.tracer,
    }  # fmt: skip
    engine: Engine
    if step.wire is Wire.SPDY or protocol == TUNNEL:
        carrier = ForwardTransport.SPDY if step.wire is Wire.SPDY else ForwardTransport.TUNNEL
        engine = ForwardClient(transport=carrier, **common)
    else:
        engine = ForwardSocketClient([request.port], transport=_OLD[protocol], **common)
    return ForwardEstablished(engine, str(step.wire), protocol, accepted.surplus, attempts, request.target)

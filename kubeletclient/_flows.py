"""The control plane, written once: from a target to a session that is ready to start.

A flow is a generator. It yields commands, and the driver answers each with what came of it: an address list,
nothing, or bytes. A driver needs one small runner for that; everything that could be got wrong twice stands here.
The contract:

- ``OSError`` (with ``ssl.SSLError`` and ``TimeoutError``) raised by a command is thrown into the flow, which names
  it;
- a command with ``timeout`` fails with ``TimeoutError`` after that many seconds (None waits for ever);
- the caller's own deadline is the runner's: it closes the flow and raises ``DeadlineExceeded``;
- when the flow ends with an error, or is closed, the runner closes the transport it has by then.

Nothing is sent early: the session's first frame leaves only after the whole head of the 101 was read, because proxies
between drop what comes earlier (``apimachinery: pkg/util/proxy/upgradeaware.go``). Bytes of the server behind the
head are kept as ``surplus``.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from kubeletclient import _faults
from kubeletclient._trust import Trust
from kubeletclient.endpoints import Target
from spdyproto.channels.events import StreamSet
from spdyproto.channels.session import ClientSession
from spdyproto.channels.subprotocols import CLIENT_OFFER, Subprotocol
from spdyproto.channels.upgrade import ClientUpgrade, UpgradeAccepted, UpgradeOutcome, UpgradeRefused
from spdyproto.limits import Deadlines, Keepalive, Limits
from spdyproto.types import Tracer

__all__ = [
    "Address",
    "Command",
    "Connect",
    "Established",
    "ExecRequest",
    "Flow",
    "Load",
    "Receive",
    "Resolve",
    "Send",
    "StartTLS",
    "exec_flow",
]

Address: TypeAlias = tuple[int, int, int, str, tuple[Any, ...]]
"""One entry of ``getaddrinfo``: family, type, protocol, canonical name, socket address."""


@dataclass(frozen=True, slots=True)
class Resolve:
    """Answer: the addresses of ``host`` for a stream socket, in the system's order: ``list[Address]``."""

    host: str
    port: int
    timeout: float | None


@dataclass(frozen=True, slots=True)
class Connect:
    """Connect a TCP socket to ``address``. Answer: None. A socket that failed is closed by the driver."""

    address: Address
    timeout: float | None


@dataclass(frozen=True, slots=True)
class StartTLS:
    """Do the TLS handshake on the connected socket. Answer: None."""

    context: ssl.SSLContext
    server_name: str
    timeout: float | None


@dataclass(frozen=True, slots=True)
class Send:
    """Send all of ``data``. Answer: None."""

    data: bytes
    timeout: float | None


@dataclass(frozen=True, slots=True)
class Receive:
    """Answer: some bytes, or ``b""`` at the end of the transport."""

    timeout: float | None


@dataclass(frozen=True, slots=True)
class Load:
    """Call ``function``, which reads small files, and answer what it returns; an asyncio driver calls it in a
    worker thread.
    """

    function: Callable[[], object]


Command: TypeAlias = Resolve | Connect | StartTLS | Send | Receive | Load


@dataclass(frozen=True, slots=True)
class ExecRequest:
    """Everything that one exec (or attach) needs to be set up."""

    target: Target
    trust: Trust
    streams: StreamSet
    user_agent: str
    method: str = "POST"
    protocols: Sequence[Subprotocol] = CLIENT_OFFER
    limits: Limits = field(default_factory=Limits)
    deadlines: Deadlines = field(default_factory=Deadlines)
    keepalive: Keepalive | None = field(default_factory=Keepalive)
    tracer: Tracer | None = None


@dataclass(frozen=True, slots=True)
class Established:
    """The server switched protocols. The driver calls ``session.start(now)``, then feeds it ``surplus`` when not
    empty.
    """

    session: ClientSession
    protocol: Subprotocol
    surplus: bytes


Flow: TypeAlias = Generator[Command, Any, Established]


def exec_flow(request: ExecRequest) -> Flow:
    """Dial, secure, upgrade. Raises a ``ClientError`` that names the step that failed."""
    target, trust = request.target, request.trust
    trust.check(target.endpoint)
    context: ssl.SSLContext | None = None
    if target.endpoint.secure:
        context = trust.ready(time.monotonic()) or (yield Load(trust.context))
    authorization = trust.authorization(time.monotonic())
    if callable(authorization):
        authorization = yield Load(authorization)
    yield from _dial(request)
    server_name = trust.server_name or target.endpoint.host
    if context is not None:
        try:
            yield StartTLS(context, server_name, request.deadlines.tls)
        except OSError as error:
            raise _faults.tls_fault(target, error, server_name) from error
    headers = [("User-Agent", request.user_agent)]
    if isinstance(authorization, str):
        headers.append(("Authorization", authorization))
    accepted = yield from _upgrade(request, headers, server_name)
    protocol = Subprotocol(accepted.protocol)
    session = ClientSession(
        protocol,
        request.streams,
        limits=request.limits,
        deadlines=request.deadlines,
        keepalive=request.keepalive,
        tracer=request.tracer,
    )
    return Established(session, protocol, accepted.surplus)


def _dial(request: ExecRequest) -> Generator[Command, Any, None]:
    """Try the addresses in the resolver's order; the first that connects is used."""
    target = request.target
    endpoint, timeout = target.endpoint, request.deadlines.dial
    try:
        addresses: list[Address] = yield Resolve(endpoint.host, endpoint.port, timeout)
    except (OSError, UnicodeError) as error:  # UnicodeError: a label that IDNA cannot encode
        fault = error if isinstance(error, OSError) else OSError(str(error))
        raise _faults.resolve_fault(target, fault) from error
    tried: list[tuple[str, OSError]] = []
    for address in addresses:
        try:
            yield Connect(address, timeout)
        except OSError as error:
            tried.append((str(address[4][0]), error))
        else:
            return
    if not tried:
        raise _faults.resolve_fault(target, OSError("the resolver answered with an empty list"))
    raise _faults.dial_fault(target, tried) from tried[-1][1]


def _upgrade(
    request: ExecRequest, headers: Sequence[tuple[str, str]], server_name: str
) -> Generator[Command, Any, UpgradeAccepted]:
    """Send the request, read the answer: the whole head of a 101, or the whole (bounded) body of a refusal."""
    target, timeout = request.target, request.deadlines.upgrade
    upgrade = ClientUpgrade(
        target.endpoint.authority,
        target.path,
        protocols=request.protocols,
        headers=headers,
        method=request.method,
        limits=request.limits,
    )
    ends = None if timeout is None else time.monotonic() + timeout
    outcome: UpgradeOutcome | None = None
    ended = False
    try:
        try:
            yield Send(upgrade.data_to_send(), timeout)
        except ConnectionError:
            pass  # the server hung up; what it said before, e.g. why it refuses our certificate, is still to be read
        while outcome is None:
            data = yield Receive(None if ends is None else max(0.0, ends - time.monotonic()))
            ended = not data
            outcome = upgrade.receive_eof() if ended else upgrade.receive_data(data)
    except TimeoutError as error:
        assert timeout is not None
        outcome = upgrade.receive_eof(clean=False)
        if not isinstance(outcome, UpgradeRefused):
            raise _faults.upgrade_timeout(target, timeout) from error
    except OSError as error:
        outcome = upgrade.receive_eof(clean=False)
        if not isinstance(outcome, UpgradeRefused):
            raise _faults.cut_during_upgrade(target, error, server_name) from error
    if isinstance(outcome, UpgradeAccepted):
        return outcome
    if isinstance(outcome, UpgradeRefused):
        raise _faults.refusal(target, outcome)
    if ended:
        raise _faults.cut_during_upgrade(target, None, server_name) from outcome.error
    raise _faults.not_an_upgrade(target, outcome) from outcome.error

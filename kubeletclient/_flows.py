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
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from kubeletclient import _faults, errors
from kubeletclient._commands import Address, Command, Connect, Disconnect, Load, Receive, Resolve, Send, StartTLS
from kubeletclient._ladder import Attempt, Memory, Step, Wire, dialect, reason_to_go_on
from kubeletclient._trust import Headers, Trust
from kubeletclient._tunnel import dial
from kubeletclient.endpoints import Target
from spdyproto.channels.events import StreamSet
from spdyproto.channels.session import ClientSession
from spdyproto.channels.subprotocols import ACCEPTED_HEADER, CLIENT_OFFER
from spdyproto.channels.upgrade import (
    ClientUpgrade,
    ProtocolNotOffered,
    UpgradeAccepted,
    UpgradeMissing,
    UpgradeOutcome,
    UpgradeRefused,
)
from spdyproto.http import ClientExchange
from spdyproto.limits import Deadlines, Keepalive, Limits
from spdyproto.types import Tracer

__all__ = [
    "Address",
    "Command",
    "Connect",
    "Disconnect",
    "Established",
    "ExecRequest",
    "Flow",
    "Load",
    "Receive",
    "Resolve",
    "Send",
    "StartTLS",
    "exec_flow",
    "upgrade_flow",
]


@dataclass(frozen=True, slots=True)
class ExecRequest:
    """Everything that one exec (or attach) needs to be set up.

    ``steps`` are tried in order (see ``_ladder``); ``method`` is for SPDY, WebSocket is always a GET.
    ``allow_local`` is whether the host's name may lead to a loopback or link-local address;
    ``bearer_subprotocol`` puts a token among the subprotocols of a WebSocket request instead of its headers.
    """

    target: Target
    trust: Trust
    streams: StreamSet
    user_agent: str
    method: str = "POST"
    steps: tuple[Step, ...] = (Step(Wire.SPDY, CLIENT_OFFER),)
    limits: Limits = field(default_factory=Limits)
    deadlines: Deadlines = field(default_factory=Deadlines)
    keepalive: Keepalive | None = field(default_factory=Keepalive)
    tracer: Tracer | None = None
    memory: Memory = field(default_factory=Memory)
    bearer_subprotocol: bool = False
    allow_local: bool = True


class Request(Protocol):
    """What setting up a session of any kind needs to know; fields as of ``ExecRequest``."""

    @property
    def target(self) -> Target: ...
    @property
    def trust(self) -> Trust: ...
    @property
    def user_agent(self) -> str: ...
    @property
    def method(self) -> str: ...
    @property
    def steps(self) -> tuple[Step, ...]: ...
    @property
    def limits(self) -> Limits: ...
    @property
    def deadlines(self) -> Deadlines: ...
    @property
    def memory(self) -> Memory: ...
    @property
    def bearer_subprotocol(self) -> bool: ...
    @property
    def allow_local(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Established:
    """The server switched protocols. The driver calls ``session.start(now)``, then feeds it ``surplus`` when not
    empty. ``transport`` and ``protocol`` are names, and ``attempts`` ends with the one that succeeded.
    """

    session: ClientSession
    transport: str
    protocol: str
    surplus: bytes
    attempts: tuple[Attempt, ...]


Flow: TypeAlias = Generator[Command, Any, Established]


class _NotThisTransport(Exception):
    """An answer that is a reason to try the next step."""

    def __init__(self, error: errors.ClientError, reason: str) -> None:
        super().__init__(reason)
        self.error = error
        self.reason = reason


def exec_flow(request: ExecRequest) -> Flow:
    """Dial, secure, upgrade, over the first transport that the server takes; each is tried on a connection of its own.

    Raises a ``ClientError`` that names the step that failed; where no transport was taken, that of the first.
    """
    step, accepted, attempts = yield from upgrade_flow(request)
    return _established(request, step, accepted, attempts)


def upgrade_flow(request: Request) -> Generator[Command, Any, tuple[Step, UpgradeAccepted, tuple[Attempt, ...]]]:
    """The same, for a session of any kind: the step that was taken, the server's answer, and what was tried."""
    endpoint = str(request.target.endpoint)
    steps, attempts = request.memory.order(endpoint, request.steps, time.monotonic())
    refused: list[tuple[Step, str]] = []
    first: errors.ClientError | None = None
    for step in steps:
        offered = step.protocols
        if refused:
            yield Disconnect()
        try:
            accepted = yield from _authenticated(request, step)
        except _NotThisTransport as fault:
            first = first or fault.error
            refused.append((step, fault.reason))
            attempts.append(Attempt(str(step.wire), offered, reason=fault.reason, why=step.why))
            continue
        except errors.ClientError as error:
            error.attempts = (*attempts, Attempt(str(step.wire), offered, reason=error.cause, why=step.why))
            raise
        attempts.append(Attempt(str(step.wire), offered, accepted.protocol, why=step.why))
        request.memory.learn(endpoint, step, refused, time.monotonic())
        return step, accepted, tuple(attempts)
    assert first is not None, "there is always a step"
    first.attempts = tuple(attempts)
    raise first


def _established(
    request: ExecRequest, step: Step, accepted: UpgradeAccepted, attempts: tuple[Attempt, ...]
) -> Established:
    version, transport = dialect(step.wire, accepted.protocol)
    session = ClientSession(
        version,
        request.streams,
        transport=transport,
        limits=request.limits,
        deadlines=request.deadlines,
        keepalive=request.keepalive,
        tracer=request.tracer,
    )
    return Established(session, str(step.wire), accepted.protocol, accepted.surplus, attempts)


def _authenticated(request: Request, step: Step) -> Generator[Command, Any, UpgradeAccepted]:
    """One attempt; and one more, on another connection, if the server took our credentials for bad ones and others can
    be had: a token file that was written since, or a credential plugin. A 401 starts nothing, so nothing runs twice.
    """
    trust = request.trust
    refusals = (errors.Unauthorized, errors.ClientCertificateRejected)
    taken: list[float] = []
    try:
        return (yield from _attempt(request, step, taken))
    except refusals as error:
        if trust.credentials is None:
            raise
        again: bool = yield Load(lambda _: trust.rejected(taken[-1]))
        if not again:
            yield from _complain(trust, error)
            raise
    yield Disconnect()
    try:
        return (yield from _attempt(request, step, taken))
    except refusals as error:
        yield from _complain(trust, error)
        raise


def _complain(trust: Trust, error: errors.ClientError) -> Generator[Command, Any, None]:
    """Say why the server may be right, where it can be seen from here."""
    complaint: str = yield Load(lambda _: trust.complaint())
    if complaint:
        error.hint = f"{complaint}: get a new one"


def _attempt(request: Request, step: Step, taken: list[float]) -> Generator[Command, Any, UpgradeAccepted]:
    """One connection, and one request over it. ``taken`` gets the time at which the credentials were in hand."""
    target, trust = request.target, request.trust
    trust.check(target.endpoint)
    context: ssl.SSLContext | None = None
    if target.endpoint.secure:
        context = trust.ready(time.monotonic()) or (yield Load(trust.context))
    identity = trust.headers(target.endpoint, time.monotonic())
    if callable(identity):
        identity = yield Load(identity)
    taken.append(time.monotonic())
    yield from dial(target, trust, request.deadlines, request.user_agent, allow_local=request.allow_local)
    server_name = trust.server_name or target.endpoint.host
    if context is not None:
        try:
            yield StartTLS(context, server_name, request.deadlines.tls)
        except OSError as error:
            raise _faults.tls_fault(target, error, server_name, pinned=trust.pinned is not None) from error
    return (yield from _upgrade(request, _exchange(request, step, identity), step.wire, server_name))


def _exchange(request: Request, step: Step, identity: Headers) -> ClientExchange:
    """The request of this step, with the credentials where the caller wants them."""
    endpoint, path, limits = request.target.endpoint, request.target.path, request.limits
    headers = [("User-Agent", request.user_agent)]
    token: str | None = None
    for name, value in identity:
        if step.wire is Wire.WEBSOCKET and request.bearer_subprotocol and value.startswith("Bearer "):
            token = value.removeprefix("Bearer ")
        else:
            headers.append((name, value))
    if step.wire is Wire.SPDY:
        return ClientUpgrade(
            endpoint.authority, path, protocols=step.protocols, headers=headers, method=request.method, limits=limits
        )
    from spdyproto.websocket.handshake import ClientHandshake  # a SPDY session does not pay for it

    return ClientHandshake(
        endpoint.authority, path, protocols=step.protocols, headers=headers, bearer_token=token, limits=limits
    )


def _upgrade(
    request: Request, upgrade: ClientExchange, wire: Wire, server_name: str
) -> Generator[Command, Any, UpgradeAccepted]:
    """Send the request, read the answer: the whole head of a 101, or the whole (bounded) body of a refusal."""
    target, timeout = request.target, request.deadlines.upgrade
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
        refusal = _faults.refusal(target, outcome, websocket=wire is Wire.WEBSOCKET)
        reason = reason_to_go_on(
            wire,
            outcome.status,
            outcome.message,
            empty=not outcome.body,
            lists_protocols=any(name.lower() == ACCEPTED_HEADER.lower() for name, _ in outcome.headers),
        )
        if reason is None:
            raise refusal
        raise _NotThisTransport(refusal, reason)
    if ended:
        raise _faults.cut_during_upgrade(target, None, server_name) from outcome.error
    fault = _faults.not_an_upgrade(target, outcome)
    fault.__cause__ = outcome.error
    if isinstance(outcome.error, UpgradeMissing | ProtocolNotOffered):
        raise _NotThisTransport(fault, f"HTTP 101 for something else: {outcome.error}")
    raise fault

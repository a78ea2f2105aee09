"""What all requests of one client have in common, in either flavour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from kubeletclient._flows import ExecRequest
from kubeletclient._ladder import AUTO, BULK, Choice, HalfClose, Memory, Needs, Wire, parse_transport, steps_for
from kubeletclient._plan import Plan, user_agent
from kubeletclient._trust import Trust
from kubeletclient.endpoints import Target
from kubeletclient.errors import ProxyError
from spdyproto.channels.subprotocols import CLIENT_OFFER, Subprotocol
from spdyproto.limits import Deadlines, Keepalive, Limits
from spdyproto.types import Tracer

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True)
class Settings:
    """Checked arguments of ``Kubelet`` or ``connect_exec``."""

    trust: Trust
    user_agent: str | None
    method: str
    choice: Choice
    protocols: tuple[Subprotocol, ...]
    limits: Limits
    deadlines: Deadlines
    keepalive: Keepalive | None
    tracer: Tracer | None
    bearer_subprotocol: bool
    memory: Memory = field(default_factory=Memory)
    allow_local: bool = True
    """Whether the host's name may lead to a loopback or link-local address."""

    @classmethod
    def of(
        cls,
        trust: Trust,
        *,
        transport: str,
        method: str,
        protocols: Sequence[Subprotocol] | None,
        limits: Limits | None,
        deadlines: Deadlines | None,
        keepalive: Keepalive | None,
        user_agent: str | None,
        tracer: Tracer | None,
        bearer_subprotocol: bool,
        once: bool = False,
    ) -> Settings:
        """The arguments, checked. ``once``: the URL may serve one request only, so there is nothing to fall back to.

        Raises ValueError for an unknown ``transport``, and for what it leaves no room for.
        """
        choice = parse_transport(transport)
        if protocols is not None and (choice.wire is Wire.WEBSOCKET or choice.protocol is not None):
            raise ValueError("protocols= lists what to offer over SPDY: give it with transport 'auto' or 'spdy' only")
        if bearer_subprotocol and choice.protocol == "":
            raise ValueError("a token among the subprotocols needs another one beside it: not with transport 'ws:none'")
        if choice == AUTO and (once or protocols is not None):
            choice = Choice(Wire.SPDY)
        return cls(
            trust,
            user_agent,
            method,
            choice,
            CLIENT_OFFER if protocols is None else tuple(protocols),
            limits or Limits(),
            deadlines or Deadlines(),
            keepalive,
            tracer,
            bearer_subprotocol,
        )

    @property
    def agent(self) -> str:
        """The value of ``User-Agent``."""
        return self.user_agent or user_agent()

    def request(self, target: Target, plan: Plan) -> ExecRequest:
        """The request for one session. Raises StdinCannotEnd (see ``_ladder.steps_for``)."""
        half_close = HalfClose.NEVER
        if plan.streams.stdin and not plan.streams.tty:
            half_close = HalfClose.POSSIBLE if plan.source is None else HalfClose.CERTAIN
        needs = Needs(half_close, bulk=plan.input_size >= BULK, proxied=self._proxied(target))
        return ExecRequest(
            target,
            self.trust,
            plan.streams,
            self.agent,
            self.method,
            steps_for(self.choice, needs, self.protocols, apiserver=target.route == "apiserver"),
            self.limits,
            self.deadlines,
            self.keepalive,
            self.tracer,
            self.memory,
            self.bearer_subprotocol,
            self.allow_local,
        )

    def _proxied(self, target: Target) -> bool:
        """Whether a proxy stands on the way; one that is named wrongly is for the dial to complain of."""
        try:
            return self.trust.proxy(target.endpoint) is not None
        except ProxyError:
            return False

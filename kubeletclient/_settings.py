"""What all requests of one client have in common, in either flavour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kubeletclient._flows import ExecRequest
from kubeletclient._plan import user_agent
from kubeletclient._trust import Trust
from kubeletclient.endpoints import Target
from spdyproto.channels.events import StreamSet
from spdyproto.channels.subprotocols import Subprotocol
from spdyproto.limits import Deadlines, Keepalive, Limits
from spdyproto.types import Tracer

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True)
class Settings:
    """Checked arguments of ``Kubelet`` or ``connect_exec``."""

    trust: Trust
    user_agent: str | None
    method: str
    protocols: Sequence[Subprotocol]
    limits: Limits
    deadlines: Deadlines
    keepalive: Keepalive | None
    tracer: Tracer | None

    @property
    def agent(self) -> str:
        """The value of ``User-Agent``."""
        return self.user_agent or user_agent()

    def request(self, target: Target, streams: StreamSet) -> ExecRequest:
        """The request for one session."""
        return ExecRequest(
            target,
            self.trust,
            streams,
            self.agent,
            self.method,
            self.protocols,
            self.limits,
            self.deadlines,
            self.keepalive,
            self.tracer,
        )

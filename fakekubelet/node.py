"""What the handlers of a fake kubelet need to know of it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fakekubelet.auth import Authenticator, Authorizer
from fakekubelet.behaviours import FileTree
from fakekubelet.forwarding import CONTAINERD_GRACE, Forwarded
from fakekubelet.pods import PodTable
from fakekubelet.profiles import DEFAULT, Profile
from fakekubelet.runtimes import Execution
from spdyproto.channels.subprotocols import Subprotocol

RECORDS_KEPT = 1000
"""How many past executions and forwarded connections are remembered."""


@dataclass(frozen=True, slots=True)
class Serving:
    """What is served, and where. Handlers that are disabled answer 405; the names of the kubelet's configuration stand
    behind."""

    debugging: bool = True
    """exec, attach, run, portForward, containerLogs, runningpods, logs, pprof ... (``enableDebuggingHandlers``)."""
    system_logs: bool = True
    """``/logs/`` (``enableSystemLogHandler``)."""
    log_query: bool = False
    """``/logs/?query=`` (``enableSystemLogQuery`` and the gate ``NodeLogQuery``)."""
    profiling: bool = True
    """``/debug/pprof/`` (``enableProfilingHandler``)."""
    debug_flags: bool = True
    """``/debug/flags/v`` (``enableDebugFlagsHandler``)."""
    http2: bool = True
    """HTTP/2 beside HTTP/1.1; without it nobody is offered it."""
    read_only_port: int | None = None
    """A port without TLS and authentication, and without what debugs: 10255 in reality, 0 a free one, None none
    (``readOnlyPort``)."""
    healthz_port: int | None = None
    """A port of loopback with ``/healthz`` alone, without TLS: 10248 in reality, 0 a free one, None none
    (``healthzPort``)."""


NODE_LOGS: FileTree = {
    "/containers/": "",
    "/kubelet.log": "the log of a kubelet that does not exist\n",
    "/pods/": "",
}


@dataclass(frozen=True, slots=True)
class Machine:
    """What the node itself is, and tells of itself."""

    cpus: int = 2
    memory: int = 4 << 30
    """Bytes."""
    storage: int = 32 << 30
    """Bytes of the file system of containers and logs."""
    logs: FileTree = field(default_factory=lambda: NODE_LOGS)
    """What ``/logs/`` shows."""
    journal: Mapping[str, str | bytes] = field(default_factory=dict)
    """The logs of services, for ``/logs/?query=``, in the text of a CRI log file."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """What ``/configz`` shows, over the defaults."""
    checkpoints: bool = True
    """Whether the runtime can checkpoint a container."""


@dataclass(slots=True)
class Node:
    """One kubelet."""

    name: str
    host_ip: str
    pods: PodTable
    authenticator: Authenticator
    authorize: Authorizer
    protocols: tuple[Subprotocol, ...]
    websocket_protocols: tuple[str, ...]
    profile: Profile = DEFAULT
    serving: Serving = field(default_factory=Serving)
    machine: Machine = field(default_factory=Machine)
    streams_create: bool = False
    executions: deque[Execution] = field(default_factory=lambda: deque(maxlen=RECORDS_KEPT))
    """Filled with the record of every session and run."""
    forwards: deque[Forwarded] = field(default_factory=lambda: deque(maxlen=RECORDS_KEPT))
    """Filled with the record of every forwarded connection."""
    forward_grace: float | None = CONTAINERD_GRACE
    """See ``fakekubelet.forwarding``."""
    started: float = field(default_factory=time.time)
    port: int = 10250
    ports: dict[str, int] = field(default_factory=dict)
    """The ports without TLS that are open, by name."""
    verbosity: int = 2

    def __post_init__(self) -> None:
        if not self.protocols and not self.websocket_protocols:
            raise ValueError("protocols and websocket_protocols: name at least one protocol in either")

    def gate(self, name: str) -> bool:
        """Whether a feature gate of the kubelet is on."""
        return name in self.profile.gates

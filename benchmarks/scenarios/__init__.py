"""The scenarios, by the name that ``--scenario`` takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from benchmarks.harness import Bench, Outcome
from benchmarks.scenarios import copy, forwarding, go_peer, memory, parts, proxy, servers, websocket, wire

SCENARIOS: Final[dict[str, Callable[[Bench], Outcome]]] = {
    "go": go_peer.transfers,
    "latency": go_peer.latency,
    "download": wire.download,
    "upload": wire.upload,
    "backlog": wire.backlog,
    "many": wire.many,
    "servers": servers.run,
    "proxy": proxy.run,
    "copy": copy.run,
    "websocket": websocket.transfers,
    "libraries": websocket.libraries,
    "memory": memory.transfers,
    "sessions": memory.sessions,
    "forward": forwarding.run,
    "parts": parts.run,
    "echo": wire.echo,
}
"""Each takes the bench and answers with what it found; none raises for a variant that fails."""

"""What a flow asks a driver to do; see ``_flows`` for the contract."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

__all__ = ["Address", "Command", "Connect", "Disconnect", "Load", "Receive", "Resolve", "Send", "StartTLS"]

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
    """Do the TLS handshake on the connection: on the socket, or inside the TLS that is there already. Answer: None."""

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
    """Call ``function``, which reads small files or runs a credential plugin, and answer what it returns. It gets the
    seconds that the caller's deadline leaves. An asyncio driver calls it in a worker thread.
    """

    function: Callable[[float | None], object]


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Close the connection, if there is one: the next command makes a new one. Answer: None."""


Command: TypeAlias = Resolve | Connect | StartTLS | Send | Receive | Load | Disconnect

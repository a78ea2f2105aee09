"""Which dialect of a streaming protocol both ends speak, and what each dialect can do.

Source: the version list of ``k8s.io/apimachinery: pkg/util/remotecommand/constants.go`` and the handshake of
``k8s.io/streaming: pkg/httpstream/httpstream.go``.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from typing import Final

PROTOCOL_HEADER: Final = "X-Stream-Protocol-Version"
"""Request: what the client speaks, best first, one line each. Answer: the one that was chosen."""

ACCEPTED_HEADER: Final = "X-Accepted-Stream-Protocol-Versions"
"""Answer 403: what the server would have spoken, one line each."""


class Subprotocol(enum.StrEnum):
    """The versions of the remote-command protocol, as they stand in headers.

    ======  ===================================================================
    V1      the initial version; the error stream holds text, and only on failure
    V2      as V1, with the order of closing repaired: stdin can be half-closed
    V3      adds the resize stream of terminals
    V4      the error stream always holds a JSON status, success included
    V5      adds the CLOSE signal, which exists over WebSocket only; over SPDY it is V4
    ======  ===================================================================
    """

    V1 = "channel.k8s.io"
    V2 = "v2.channel.k8s.io"
    V3 = "v3.channel.k8s.io"
    V4 = "v4.channel.k8s.io"
    V5 = "v5.channel.k8s.io"

    @property
    def has_json_status(self) -> bool:
        """Whether the error stream owes a JSON status, so that an empty one is a loss and not a success."""
        return self in (Subprotocol.V4, Subprotocol.V5)

    @property
    def has_resize(self) -> bool:
        """Whether a session with a terminal opens a resize stream (and the server waits for it)."""
        return self in (Subprotocol.V3, Subprotocol.V4, Subprotocol.V5)

    @property
    def has_close_signal(self) -> bool:
        """Whether stdin can be ended over WebSocket. Over SPDY every version can: a stream has FIN."""
        return self is Subprotocol.V5


PORT_FORWARD: Final = "portforward.k8s.io"
"""The only version of the port-forward protocol."""

CLIENT_OFFER: Final = (Subprotocol.V5, Subprotocol.V4, Subprotocol.V3, Subprotocol.V2, Subprotocol.V1)
"""What ``client-go`` offers for exec and attach over SPDY, best first."""

CRI_SPDY: Final = (Subprotocol.V4, Subprotocol.V3, Subprotocol.V2, Subprotocol.V1)
"""What container runtimes speak over SPDY (``k8s.io/cri-streaming: pkg/streaming/remotecommand``): no V5."""


def offered_protocols(values: Iterable[str]) -> list[str]:
    """The entries of all ``X-Stream-Protocol-Version`` lines of a request, in order.

    Each line may hold one entry or a comma list; entries are trimmed and empty ones dropped.
    """
    return [entry for value in values for part in value.split(",") if (entry := part.strip(" \t"))]


def negotiate(offered: Iterable[str], supported: Sequence[str]) -> str | None:
    """The first entry of the client that the server supports too, or None. The order of the client decides.

    The server's own item is returned, so a ``Subprotocol`` stays one.
    """
    for entry in offered:
        if entry in supported:
            return supported[supported.index(entry)]
    return None

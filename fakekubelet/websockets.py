"""Which remote-command dialects a kubelet speaks over WebSocket, by the names that stand in the handshake.

The names are not those of SPDY: there is none for v2 and v3, two of them put base64 into text messages, and a client
that names nothing speaks the first version. Kubelets up to 1.35 hand the WebSocket to the runtime's streaming server,
which has no v5; from 1.36 they translate v5 themselves (``ExtendWebSocketsToKubelet``).

Sources: ``cri-streaming: pkg/streaming/remotecommand/websocket.go``, ``k8s.io/apiserver: pkg/util/proxy/websocket.go``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from spdyproto.channels.events import Transport
from spdyproto.channels.subprotocols import Subprotocol

_DIALECTS: Final[Mapping[str, tuple[Subprotocol, Transport]]] = {
    "": (Subprotocol.V1, Transport.WEBSOCKET),
    "channel.k8s.io": (Subprotocol.V1, Transport.WEBSOCKET),
    "base64.channel.k8s.io": (Subprotocol.V1, Transport.WEBSOCKET_BASE64),
    "v4.channel.k8s.io": (Subprotocol.V4, Transport.WEBSOCKET),
    "v4.base64.channel.k8s.io": (Subprotocol.V4, Transport.WEBSOCKET_BASE64),
    "v5.channel.k8s.io": (Subprotocol.V5, Transport.WEBSOCKET),
}

ALL_WEBSOCKET: Final = tuple(_DIALECTS)
"""Every name that can be spoken at all; a kubelet from 1.36 on speaks them all. The empty one is a client that asks
for none."""

CRI_WEBSOCKET: Final = tuple(name for name in ALL_WEBSOCKET if not name.startswith("v5."))
"""What a kubelet up to 1.35 speaks: the list of the container runtimes."""


def dialect(name: str) -> tuple[Subprotocol, Transport]:
    """The version and the encoding that a name stands for. Raises KeyError for a name that is none."""
    return _DIALECTS[name]


def checked_names(names: Iterable[str]) -> tuple[str, ...]:
    """``names`` as plain strings. Raises ValueError for one that is not spoken over WebSocket."""
    chosen = tuple(str(name) for name in names)
    for name in chosen:
        if name not in _DIALECTS:
            known = ", ".join(repr(known) for known in _DIALECTS)
            raise ValueError(f"websocket_protocols: {name!r} is not spoken over WebSocket; expected some of {known}")
    return chosen

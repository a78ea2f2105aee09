"""From HTTP/1.1 to SPDY/3.1: the upgrade request, what its answer must say, and the server's decision.

How a request is written and its answer read is ``spdyproto.http``; this module adds what is particular to SPDY: the
headers, and how leniently the deployed peers compare them.

Sources: ``k8s.io/streaming: pkg/httpstream/spdy/roundtripper.go`` (client), ``pkg/httpstream/httpstream.go`` and
``pkg/httpstream/spdy/upgrade.go`` (server).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from spdyproto.channels.subprotocols import (
    ACCEPTED_HEADER,
    CLIENT_OFFER,
    PROTOCOL_HEADER,
    Subprotocol,
    negotiate,
    offered_protocols,
)
from spdyproto.errors import LocalProtocolError
from spdyproto.http import (
    ClientExchange,
    ProtocolNotOffered,
    RawHeaders,
    RequestHead,
    ServerAnswer,
    UpgradeAccepted,
    UpgradeFailed,
    UpgradeMissing,
    UpgradeOutcome,
    UpgradeRefused,
    check_line,
    decode_headers,
    encode_headers,
    header_values,
    is_protocol_name,
)
from spdyproto.limits import Limits
from spdyproto.text import printable
from spdyproto.types import HeaderList

__all__ = [
    "UPGRADE_TOKEN",
    "ClientUpgrade",
    "ProtocolNotOffered",
    "RawHeaders",
    "ServerAnswer",
    "UpgradeAccepted",
    "UpgradeFailed",
    "UpgradeMissing",
    "UpgradeOutcome",
    "UpgradeRefused",
    "UpgradeRequest",
    "negotiate_upgrade",
    "upgrade_response",
    "wants_upgrade",
]

UPGRADE_TOKEN: Final = "SPDY/3.1"


@dataclass(frozen=True, slots=True)
class UpgradeRequest:
    """The head of an upgrade request. ``repr`` shows no target, no header values: both may hold secrets.

    ``host`` is the value of the Host header, with a port where it is not the scheme's own. ``target`` is the path and
    query. ``protocols`` are offered one line each, best first.
    """

    host: str
    target: str = field(repr=False)
    method: str = "POST"
    protocols: tuple[str, ...] = CLIENT_OFFER
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def head(self) -> RequestHead:
        """The request as it is written.

        Raises LocalProtocolError for a method other than GET and POST, for no protocol at all, and for one that does
        not fit into a header.
        """
        if self.method not in ("GET", "POST"):
            raise LocalProtocolError(f"an upgrade request is a GET or a POST, not {printable(self.method, limit=20)!r}")
        if not self.protocols:
            raise LocalProtocolError("an upgrade request offers at least one subprotocol")
        for protocol in self.protocols:
            check_line(PROTOCOL_HEADER, protocol, spaces=False)
        own = [("Connection", "Upgrade"), ("Upgrade", UPGRADE_TOKEN)]
        own += [(PROTOCOL_HEADER, protocol) for protocol in self.protocols]
        if self.method == "POST":
            own.append(("Content-Length", "0"))
        return RequestHead(self.method, self.host, self.target, tuple(own), self.headers)

    def judge(self, headers: HeaderList, quote: Callable[[str], str]) -> str:
        """The protocol that a 101 chose. Raises UpgradeMissing and ProtocolNotOffered."""
        connection, upgrade = (", ".join(header_values(headers, name)) for name in ("connection", "upgrade"))
        if "upgrade" not in connection.lower() or UPGRADE_TOKEN.lower() not in upgrade.lower():
            raise UpgradeMissing(
                f"the server switched protocols, but not to {UPGRADE_TOKEN}: "
                f"Connection is {quote(connection)}, Upgrade is {quote(upgrade)}"
            )
        answered = next((value for value in header_values(headers, PROTOCOL_HEADER) if value), "")
        # A server older than the negotiation names nothing and speaks V1 (client-go: tools/remotecommand/spdy.go).
        protocol = answered or Subprotocol.V1
        if protocol in self.protocols:
            return self.protocols[self.protocols.index(protocol)]
        offered = ", ".join(self.protocols)
        if answered:
            raise ProtocolNotOffered(f"the server chose {quote(answered)}, but the request offered {offered}")
        raise ProtocolNotOffered(
            f"the server named no subprotocol, which means {Subprotocol.V1}, but the request offered {offered}"
        )


class ClientUpgrade(ClientExchange):
    """The client's side of one upgrade: bytes in, bytes out, one outcome.

    Raises LocalProtocolError for a request that cannot be written (see ``UpgradeRequest.head``).
    """

    def __init__(
        self,
        host: str,
        target: str,
        *,
        protocols: Sequence[str] = CLIENT_OFFER,
        headers: HeaderList = (),
        method: str = "POST",
        limits: Limits = Limits(),
    ) -> None:
        self.request = UpgradeRequest(host, target, method, tuple(protocols), tuple((n, v) for n, v in headers))
        super().__init__(self.request.head(), self.request.judge, token=UPGRADE_TOKEN, limits=limits)


def wants_upgrade(headers: RawHeaders) -> bool:
    """Whether a request is an upgrade at all, by the test of the kubelet's proxy: any Connection line says ``upgrade``.

    A kubelet answers a streaming address without it with 500, an apiserver with 400, before any negotiation.
    """
    return any("upgrade" in value.lower() for value in header_values(decode_headers(headers), "connection"))


def negotiate_upgrade(headers: RawHeaders, supported: Sequence[str]) -> ServerAnswer:
    """Decide on an upgrade request in the order, and with the answers, of the runtimes' streaming server.

    First the subprotocol (400 when none is named, 403 when none fits), then the upgrade headers themselves (400): the
    reference looks at the first Connection and the first Upgrade line only. Where the reference shows all request
    headers in its text, only their names are shown here: one of them is Authorization.

    ``supported`` lists what the server speaks and is not empty; the client's order decides.
    """
    lines = decode_headers(headers)
    offered = offered_protocols(header_values(lines, PROTOCOL_HEADER))
    if not offered:
        # Go keeps Host and Transfer-Encoding apart from the other headers, and counts names, not lines.
        names = {name.lower() for name, _ in lines} - {"host", "transfer-encoding"}
        return _refusal(400, f"header {PROTOCOL_HEADER} does not exist in request with {len(names)} headers")
    protocol = negotiate(offered, supported)
    if protocol is None:
        text = (
            "unable to negotiate protocol: "
            f"client supports [{' '.join(offered)}], server accepts [{' '.join(supported)}]"
        )
        return _refusal(403, text, [(ACCEPTED_HEADER, entry) for entry in supported])
    connection, upgrade = ((*header_values(lines, name), "")[0].lower() for name in ("connection", "upgrade"))
    if "upgrade" not in connection or UPGRADE_TOKEN.lower() not in upgrade:
        names_shown = " ".join(sorted({name.title() for name, _ in lines}))
        text = f"missing upgrade headers in request: [{names_shown}]"
        return _refusal(400, text, [(PROTOCOL_HEADER, protocol)])
    return ServerAnswer(101, _switching(protocol), protocol=protocol)


def upgrade_response(protocol: str) -> bytes:
    """The whole head of a 101 that chooses ``protocol``. Raises LocalProtocolError for one that is not a token."""
    if not is_protocol_name(protocol):
        raise LocalProtocolError(f"not a subprotocol: {printable(protocol, limit=80)!r}")
    return ServerAnswer(101, _switching(protocol), protocol=protocol).to_bytes()


def _switching(protocol: str) -> list[tuple[bytes, bytes]]:
    return [
        (b"Connection", b"Upgrade"),
        (b"Upgrade", UPGRADE_TOKEN.encode()),
        (PROTOCOL_HEADER.encode(), protocol.encode()),
    ]


def _refusal(status: int, text: str, headers: Sequence[tuple[str, str]] = ()) -> ServerAnswer:
    body = f"unable to upgrade: {text}\n".encode()
    lines = [
        *headers,
        ("Content-Type", "text/plain; charset=utf-8"),
        ("X-Content-Type-Options", "nosniff"),
        ("Content-Length", str(len(body))),
    ]
    return ServerAnswer(status, encode_headers(lines), body)

"""The opening handshake (RFC 6455 section 4): what the request says, what its answer must say, the server's decision.

How a request is written and its answer read is ``spdyproto.http``. The client holds the server to the letter of section
4.1. The server decides as the container runtimes' server does, which stands on ``x/net/websocket``; where that is not
what the RFC says, it is written down here.

Kubernetes hides a bearer token in the list of subprotocols, for browsers, which can set no header: the entry
``base64url.bearer.authorization.k8s.io.<token>``. Servers and proxies log what they take for a protocol, so the client
sends it only when asked to.

Sources: ``golang.org/x/net: websocket/hybi.go, server.go``; ``k8s.io/streaming: pkg/httpstream/wsstream/conn.go``;
``k8s.io/apiserver: pkg/authentication/request/websocket/protocol.go``; for the client
``github.com/gorilla/websocket: client.go``.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from spdyproto.errors import LocalProtocolError, UpgradeError
from spdyproto.http import (
    ClientExchange,
    ProtocolNotOffered,
    RawHeaders,
    RequestHead,
    ServerAnswer,
    UpgradeMissing,
    decode_headers,
    encode_headers,
    header_values,
    is_protocol_name,
)
from spdyproto.limits import Limits
from spdyproto.text import printable
from spdyproto.types import HeaderList
from spdyproto.websocket.constants import GUID, VERSION

PROTOCOL_HEADER: Final = "Sec-WebSocket-Protocol"
"""Request: a comma list, best first. Answer: the one that was chosen."""

BEARER_PREFIX: Final = "base64url.bearer.authorization.k8s.io."
"""What an entry of the list begins with that carries a token, in base64url without padding, and is no protocol."""

_KEY_BYTES: Final = 16


def accept_key(key: str) -> str:
    """The value of ``Sec-WebSocket-Accept`` that answers this ``Sec-WebSocket-Key`` (section 1.3)."""
    digest = hashlib.sha1(key.encode("latin-1") + GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode("ascii")


def _random_key() -> bytes:
    return secrets.token_bytes(_KEY_BYTES)


# -- the client's side -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HandshakeRequest:
    """The head of a handshake request, a GET. ``repr`` shows no target, no header values, no token.

    ``host`` is the value of the Host header, with a port where it is not the scheme's own. ``target`` is the path and
    query. ``key`` is the value of ``Sec-WebSocket-Key``. ``protocols`` are offered in one line, best first.
    """

    host: str
    target: str = field(repr=False)
    key: str = field(repr=False)
    protocols: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    bearer_token: str | None = field(default=None, repr=False)

    @property
    def bearer_entry(self) -> str | None:
        """The entry that carries the token, None without one."""
        if self.bearer_token is None:
            return None
        encoded = base64.urlsafe_b64encode(self.bearer_token.encode("utf-8")).decode("ascii")
        return BEARER_PREFIX + encoded.rstrip("=")

    def head(self) -> RequestHead:
        """The request as it is written.

        Raises LocalProtocolError for a protocol that cannot stand in the list or stands there twice, and for a token
        that is empty or alone: servers answer one of the other entries.
        """
        for protocol in self.protocols:
            if protocol.startswith(BEARER_PREFIX):
                raise LocalProtocolError("a token among the subprotocols would be shown like one: give bearer_token")
            if not is_protocol_name(protocol):
                raise LocalProtocolError(f"not a subprotocol: {printable(protocol, limit=80)!r}")
        if len(set(self.protocols)) < len(self.protocols):
            raise LocalProtocolError("a subprotocol is offered twice")
        own = [("Upgrade", "websocket"), ("Connection", "Upgrade")]
        own += [("Sec-WebSocket-Key", self.key), ("Sec-WebSocket-Version", VERSION)]
        if offered := [*self.protocols, *self._bearer()]:
            own.append((PROTOCOL_HEADER, ", ".join(offered)))
        for name, _ in self.headers:
            if name.lower().startswith("sec-websocket-"):
                raise LocalProtocolError(f"header {name} is written by the upgrade itself and cannot be given")
        return RequestHead("GET", self.host, self.target, tuple(own), self.headers)

    def _bearer(self) -> list[str]:
        if self.bearer_token is None:
            return []
        if not self.bearer_token:
            raise LocalProtocolError("the bearer token is empty")
        if not self.protocols:
            raise LocalProtocolError("a bearer token among the subprotocols needs another one beside it to be answered")
        try:
            entry = self.bearer_entry
        except UnicodeEncodeError:
            entry = None  # its text shows the token, so it is not chained
        if entry is None:
            raise LocalProtocolError("the bearer token is not text: it holds half a surrogate pair")
        return [entry]

    def judge(self, headers: HeaderList, quote: Callable[[str], str]) -> str:
        """The protocol that a 101 chose, empty when none was offered (section 4.1, items 2 to 6).

        Raises UpgradeMissing, ProtocolNotOffered, and UpgradeError for the rest.
        """
        connection, upgrade = (", ".join(header_values(headers, name)) for name in ("connection", "upgrade"))
        tokens = [token.strip(" \t").lower() for token in connection.split(",")]
        if "upgrade" not in tokens or upgrade.lower() != "websocket":
            raise UpgradeMissing(
                "the server switched protocols, but not to websocket: "
                f"Connection is {quote(connection)}, Upgrade is {quote(upgrade)}"
            )
        accept = ", ".join(header_values(headers, "Sec-WebSocket-Accept"))
        if accept != accept_key(self.key):
            raise UpgradeError(
                f"the 101 does not answer our key: Sec-WebSocket-Accept is {quote(accept)}, "
                f"expected {accept_key(self.key)}; it was made for another request, or by no WebSocket server"
            )
        extensions = ", ".join(value for value in header_values(headers, "Sec-WebSocket-Extensions") if value)
        if extensions:
            raise UpgradeError(f"the server wants extensions, and the request offered none: {quote(extensions)}")
        return self._chosen([value for value in header_values(headers, PROTOCOL_HEADER) if value], quote)

    def _chosen(self, answered: list[str], quote: Callable[[str], str]) -> str:
        # Go's server writes the header with nothing in it when no protocol was asked for, which is no choice.
        offered = ", ".join(self.protocols) or "none"
        if not answered:
            if self.protocols:
                raise ProtocolNotOffered(f"the server named no subprotocol, but the request offered {offered}")
            return ""
        chosen = ", ".join(answered)
        if chosen.startswith(BEARER_PREFIX):
            raise ProtocolNotOffered("the server chose the entry that carries a token, which is no subprotocol")
        if chosen not in self.protocols:
            raise ProtocolNotOffered(f"the server chose {quote(chosen)}, but the request offered {offered}")
        return self.protocols[self.protocols.index(chosen)]


class ClientHandshake(ClientExchange):
    """The client's side of one handshake: bytes in, bytes out, one outcome, like ``ClientUpgrade``.

    ``key_source`` gives 16 unpredictable bytes. ``bearer_token`` goes into the list of subprotocols, behind the others,
    and nowhere else; neither it nor its encoding is ever shown, and an answer that shows it is struck out. Raises
    LocalProtocolError for a request that cannot be written (see ``HandshakeRequest.head``).
    """

    def __init__(
        self,
        host: str,
        target: str,
        *,
        protocols: Sequence[str] = (),
        headers: HeaderList = (),
        key_source: Callable[[], bytes] = _random_key,
        bearer_token: str | None = None,
        limits: Limits = Limits(),
    ) -> None:
        key = key_source()
        if len(key) != _KEY_BYTES:
            raise LocalProtocolError(f"a key has {_KEY_BYTES} bytes; the source gave {len(key)}")
        lines = tuple((name, value) for name, value in headers)
        encoded = base64.b64encode(key).decode("ascii")
        self.request = HandshakeRequest(host, target, encoded, tuple(protocols), lines, bearer_token)
        head = self.request.head()
        hidden: list[str] = []
        if bearer_token is not None and (entry := self.request.bearer_entry):
            hidden = [bearer_token, entry, entry.removeprefix(BEARER_PREFIX)]
        super().__init__(head, self.request.judge, token="WebSocket", secrets=hidden, limits=limits)


# -- the server's side -------------------------------------------------------------------------------------------------


def wants_websocket(headers: RawHeaders) -> bool:
    """Whether a request is for a WebSocket at all; a server that speaks both takes all others for SPDY.

    The first Upgrade line is ``websocket``, and any Connection line says ``upgrade``.
    """
    lines = decode_headers(headers)
    upgrade = _first(lines, "upgrade").lower()
    return upgrade == "websocket" and any("upgrade" in value.lower() for value in header_values(lines, "connection"))


def negotiate_websocket(headers: RawHeaders, supported: Sequence[str], *, method: str = "GET") -> ServerAnswer:
    """Decide on a handshake request in the order, and with the answers, of the runtimes' streaming server.

    ``supported`` lists what the server speaks; the client's order decides. An empty name in it accepts a client that
    asks for no protocol; the 101 then carries an empty protocol header. The answers are the bytes of ``to_bytes``, and
    the connection ends behind a refusal: it announces no length.

    As in the reference only the first line of each header counts, and a key is only required to be there (RFC 6455
    section 4.2.1 wants 16 bytes in base64).
    """
    lines = decode_headers(headers)
    if method != "GET":
        return _refusal(405, "bad method")
    if _first(lines, "upgrade").lower() != "websocket" or "upgrade" not in _first(lines, "connection").lower():
        return _refusal(400, "not websocket protocol")
    key = _first(lines, "Sec-WebSocket-Key")
    if not key:
        return _refusal(400, "mismatch challenge/response")
    if _first(lines, "Sec-WebSocket-Version") != VERSION:
        return _refusal(400, "missing or bad WebSocket Version", [("Sec-WebSocket-Version", VERSION)])
    asked = _first(lines, PROTOCOL_HEADER)
    offered = [entry.strip(" \t") for entry in asked.split(",")]
    protocol = next((entry for entry in offered if entry in supported), None)
    if protocol is None:
        return _refusal(403, "")
    switching = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept_key(key))]
    switching.append((PROTOCOL_HEADER, protocol))
    return ServerAnswer(101, encode_headers(switching), protocol=supported[supported.index(protocol)])


def _first(lines: HeaderList, name: str) -> str:
    return next(iter(header_values(lines, name)), "")


def _refusal(status: int, text: str, headers: HeaderList = ()) -> ServerAnswer:
    return ServerAnswer(status, encode_headers(headers), text.encode("ascii"))


@dataclass(frozen=True, slots=True)
class BearerOffer:
    """What the list of subprotocols says about a token.

    ``token`` is None without one. ``headers`` are those of the request with the entry taken out: to be used once the
    token has proved good, so that it is neither negotiated nor handed on. ``fault`` is empty, or why the request is to
    be answered with 401.
    """

    token: str | None = field(repr=False)
    headers: list[tuple[bytes, bytes]] = field(repr=False)
    fault: str = ""


def take_bearer_token(headers: RawHeaders) -> BearerOffer:
    """Find the token among the subprotocols of a WebSocket request, with the rules of the apiserver's authenticator,
    which the kubelet uses too."""
    given = [(bytes(name), bytes(value)) for name, value in headers]
    if not wants_websocket(headers):
        return BearerOffer(None, given)
    token: str | None = None
    others = []
    for value in header_values(decode_headers(headers), PROTOCOL_HEADER):
        for entry in (part.strip(" \t") for part in value.split(",")):
            if not entry.startswith(BEARER_PREFIX):
                others.append(entry)
            elif token is not None:
                return BearerOffer(None, given, "multiple base64.bearer.authorization tokens specified")
            else:
                decoded = _decode(entry.removeprefix(BEARER_PREFIX))
                if decoded is None:
                    return BearerOffer(None, given, "invalid base64.bearer.authorization token encoding")
                try:
                    token = decoded.decode("utf-8")
                except UnicodeDecodeError:
                    return BearerOffer(None, given, "invalid base64.bearer.authorization token")
    if not token:  # an empty one proves nothing, and is left to the negotiation
        return BearerOffer(None, given)
    if not others:
        return BearerOffer(None, given, "missing additional subprotocol")
    kept = [(name, value) for name, value in given if name.lower() != PROTOCOL_HEADER.lower().encode()]
    return BearerOffer(token, [*kept, *encode_headers([(PROTOCOL_HEADER, ",".join(others))])])


def _decode(text: str) -> bytes | None:
    """base64url without padding; None for anything else."""
    if len(text) % 4 == 1 or not re.fullmatch(r"[\w-]*", text, re.ASCII):
        return None
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

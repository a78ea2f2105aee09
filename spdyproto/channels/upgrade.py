"""From HTTP/1.1 to SPDY/3.1: the upgrade request, the answer to it, and the server's decision.

Theory of operation. h11 parses and writes every head; this module adds what is particular to the upgrade:

- The client sends its request head and then nothing until it has read the whole head of the answer: proxies and the Go
  client and server drop what comes early (``k8s.io/apimachinery: pkg/util/proxy/upgradeaware.go``). Bytes after the
  head of a 101 already belong to SPDY; they are handed on as ``surplus``.
- h11 is lenient where real servers once were (bare line feeds, folded lines, Transfer-Encoding beside Content-Length).
  Two readers that see different messages in the same bytes are how requests are smuggled, so the raw head is kept until
  h11 has found its end, and is then held to the letter of RFC 9112.
- Whatever is not an upgrade is read to its end (length, chunks or end of connection), bounded, because the body says
  why. Redirects are refusals like any other: following one hands the credentials to another host (CVE-2020-8559).
- A Go server that misses the upgrade headers answers with all headers of the request, Authorization included. So the
  credentials that were sent are struck out of everything that came back before it becomes part of an outcome.

Sources: ``k8s.io/streaming: pkg/httpstream/spdy/roundtripper.go`` (client), ``pkg/httpstream/httpstream.go`` and
``pkg/httpstream/spdy/upgrade.go`` (server).
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias
from urllib.parse import urlsplit

import h11

from spdyproto.channels.subprotocols import (
    ACCEPTED_HEADER,
    CLIENT_OFFER,
    PROTOCOL_HEADER,
    Subprotocol,
    negotiate,
    offered_protocols,
)
from spdyproto.errors import EngineTerminated, LocalProtocolError, UpgradeError
from spdyproto.limits import Limits
from spdyproto.text import printable
from spdyproto.types import Buffer, HeaderList

UPGRADE_TOKEN: Final = "SPDY/3.1"

RawHeaders: TypeAlias = Sequence[tuple[bytes, bytes]]
"""Header lines as h11 has them, in order, names in any case."""

_INTERIM_ANSWERS: Final = 5  # 100, 102, 103 ... before the answer proper; Go's client gives up at the same number
_WIRE_PER_BODY: Final = (
    8  # bytes read per byte kept: a chunk of one byte costs six, and its extensions shall not cost more
)
_EXCERPT: Final = 200  # characters of a peer's text that an error quotes
_STRUCK_OUT: Final = "<credentials>"
_SECRET_HEADERS: Final = ("authorization", "cookie", "proxy-authorization")
_OWN_HEADERS: Final = frozenset(
    {"host", "connection", "upgrade", "content-length", "transfer-encoding", PROTOCOL_HEADER.lower()}
)


class UpgradeMissing(UpgradeError):
    """A 101 whose headers do not switch to SPDY/3.1: a proxy took them off, or the server speaks something else."""


class ProtocolNotOffered(UpgradeError):
    """A 101 that chooses a subprotocol which the request did not offer."""


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

    def to_h11(self) -> h11.Request:
        """Check every part and put them together.

        Raises LocalProtocolError, which names the part but never shows a header's value, for a method other than GET
        and POST, for a part that does not fit into a head (line feeds, spaces in the target), for no protocol at all,
        and for a header that the upgrade itself writes.
        """
        if self.method not in ("GET", "POST"):
            raise LocalProtocolError(f"an upgrade request is a GET or a POST, not {printable(self.method, limit=20)!r}")
        if not self.protocols:
            raise LocalProtocolError("an upgrade request offers at least one subprotocol")
        lines = [("Host", self.host), ("Connection", "Upgrade"), ("Upgrade", UPGRADE_TOKEN)]
        lines += [(PROTOCOL_HEADER, protocol) for protocol in self.protocols]
        if self.method == "POST":
            lines.append(("Content-Length", "0"))
        for name, value in self.headers:
            if name.lower() in _OWN_HEADERS:
                raise LocalProtocolError(f"header {name} is written by the upgrade itself and cannot be given")
            lines.append((name, value))
        for name, value in lines:
            _check_line(name, value, spaces=name not in ("Host", PROTOCOL_HEADER))
        try:
            return h11.Request(method=self.method, target=self.target, headers=lines)
        except (h11.LocalProtocolError, UnicodeEncodeError):
            pass  # the text of either may hold a secret, so it is not chained either
        raise LocalProtocolError("the request target does not fit into a request line: percent-encode it")


def _check_line(name: str, value: str, *, spaces: bool) -> None:
    # h11 lets control characters through, which Go's server answers with a 400 that names no header.
    if value.isprintable() and (spaces or (value and " " not in value)):
        try:
            h11.Request(method="GET", target="/", headers=[(name, value)], http_version="1.0")  # 1.0 needs no Host
            return
        except (h11.LocalProtocolError, UnicodeEncodeError):
            pass  # its text shows the value
    raise LocalProtocolError(
        f"header {printable(name, limit=80)!r} does not fit into a request head: "
        "a name is letters, digits and dashes, a value is printable ASCII without spaces at its ends"
    )


@dataclass(frozen=True, slots=True)
class UpgradeAccepted:
    """The connection now speaks SPDY/3.1 and ``protocol``; ``surplus`` is what already came of it, after the head."""

    protocol: str
    surplus: bytes = field(default=b"", repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class UpgradeRefused:
    """An HTTP answer other than the upgrade.

    ``message`` is the server's own text, not escaped (see ``spdyproto.text.printable``): the ``message`` of a JSON
    ``Status``, else the body as text; where the body says nothing, what the status means here. ``note`` is empty unless
    ``body`` is not the whole body, and then says why.
    """

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)
    message: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class UpgradeFailed:
    """What came is no HTTP/1.1 answer, or a 101 that does not do what was asked."""

    error: UpgradeError


UpgradeOutcome: TypeAlias = UpgradeAccepted | UpgradeRefused | UpgradeFailed


class ClientUpgrade:
    """The client's side of one upgrade: bytes in, bytes out, one outcome.

    Raises LocalProtocolError for a request that cannot be written (see ``UpgradeRequest.to_h11``).
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
        self._secrets = _secrets(self.request.headers)
        self._limits = limits
        # h11 counts what is left over after a read, so its verdict depends on how much comes at once: the limits are
        # kept here instead (_overspent, _check_head).
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=sys.maxsize)
        self._output = (self._http.send(self.request.to_h11()) or b"") + (self._http.send(h11.EndOfMessage()) or b"")
        self._head = bytearray()  # what came of the current head, raw; h11 keeps no copy of what it parsed
        self._received = 0  # bytes of the whole answer
        self._interim = 0
        self._answer: h11.Response | None = None
        self._body = bytearray()
        self._body_wire = 0
        self._outcome: UpgradeOutcome | None = None

    def __repr__(self) -> str:
        return f"<ClientUpgrade {self.request.method} {self.request.host}: {self._outcome or 'waiting for the answer'}>"

    def data_to_send(self) -> bytes:
        """The request head, once; later calls give nothing, since nothing may follow it before the answer."""
        output, self._output = self._output, b""
        return output

    def receive_data(self, data: Buffer) -> UpgradeOutcome | None:
        """Take in what came from the server; ``data`` may be reused afterwards.

        Returns the outcome as soon as it is known, and None until then. Raises EngineTerminated when called after that.
        """
        self._check_open()
        if not data:  # h11 would take it for the end of the connection
            return None
        self._received += len(data)
        if self._answer is None:
            self._head += data
        else:
            self._body_wire += len(data)
        self._http.receive_data(bytes(data))
        return self._settle()

    def receive_eof(self, *, clean: bool = True) -> UpgradeRefused | UpgradeFailed:
        """The connection ended; ``clean`` is False when TLS did not say so (truncation). Always gives an outcome.

        Raises EngineTerminated when the outcome was already known.
        """
        self._check_open()
        if self._answer is None:
            outcome: UpgradeRefused | UpgradeFailed = UpgradeFailed(
                UpgradeError(
                    f"the connection ended after {self._received} bytes, before the head of an answer to the upgrade "
                    f"request was complete{_hint(self._head)}"
                )
            )
            self._outcome = outcome
            return outcome
        self._http.receive_data(b"")
        settled = self._settle()
        if not isinstance(settled, UpgradeRefused):  # every body reader of h11 ends or fails at the end of input
            settled = self._refuse(self._answer, "the connection ended before the body did")
        elif not clean and not settled.note:
            settled = self._refuse(self._answer, "the connection was cut, and the body may be longer")
        self._outcome = settled
        return settled

    def _strike_out(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, _STRUCK_OUT)
        return text

    def _strike_out_body(self, *, cut: bool) -> bytes:
        body = bytes(self._body)
        for secret in (value.encode() for value in self._secrets):
            body = body.replace(secret, _STRUCK_OUT.encode())
            sizes = range(len(secret) - 1, 3, -1) if cut else ()  # the cut may have gone through it
            if size := next((size for size in sizes if body.endswith(secret[:size])), 0):
                body = body[:-size] + _STRUCK_OUT.encode()
        return body

    def _decode(self, headers: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
        return tuple((name.decode("latin-1"), self._strike_out(value.decode("latin-1"))) for name, value in headers)

    def _check_open(self) -> None:
        if self._outcome is not None:
            raise EngineTerminated("the answer to the upgrade request is complete: its bytes are in the outcome")

    def _settle(self) -> UpgradeOutcome | None:
        try:
            self._outcome = self._advance()
        except UpgradeError as error:
            self._outcome = UpgradeFailed(error)
        except h11.RemoteProtocolError as error:
            if self._answer is not None:
                self._outcome = self._refuse(self._answer, f"the body broke off after {len(self._body)} bytes")
            else:
                text = printable(self._strike_out(str(error)), limit=_EXCERPT)
                self._outcome = UpgradeFailed(
                    UpgradeError(f"not an HTTP/1.1 answer to the upgrade request: {text}{_hint(self._head)}")
                )
        return self._outcome

    def _advance(self) -> UpgradeOutcome | None:
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.InformationalResponse):
                self._check_head(event)
                if event.status_code == 101:
                    return self._switch(event)
                self._interim += 1
                if self._interim > _INTERIM_ANSWERS:
                    raise UpgradeError(f"more than {_INTERIM_ANSWERS} interim (1xx) answers, and no final one")
            elif isinstance(event, h11.Response):
                self._body_wire = self._check_head(event)
                self._head.clear()
                self._answer = event
            elif isinstance(event, h11.Data) and self._answer is not None:
                room = self._limits.refusal_body - len(self._body)
                self._body += event.data[:room]
                if len(event.data) > room:
                    return self._refuse(self._answer, f"only the first {self._limits.refusal_body} bytes were read")
            elif isinstance(event, h11.EndOfMessage) and self._answer is not None:
                return self._refuse(self._answer)
            else:
                return self._overspent()

    def _overspent(self) -> UpgradeOutcome | None:
        """More input is needed; stop all the same when the head, or the framing of the body, has cost too much."""
        if self._answer is None:
            self._check_head_size(len(self._head))
        elif self._body_wire > _WIRE_PER_BODY * self._limits.refusal_body:
            return self._refuse(self._answer, f"reading stopped after {self._body_wire} bytes on the wire")
        return None

    def _check_head_size(self, size: int) -> None:
        if size > self._limits.http_head:
            raise UpgradeError(f"the head of the answer has {size} bytes or more; {self._limits.http_head} are allowed")

    def _check_head(self, event: h11.InformationalResponse | h11.Response) -> int:
        """Hold the raw head that h11 made ``event`` of to RFC 9112; returns how many bytes came after it."""
        surplus = len(self._http.trailing_data[0])
        size = len(self._head) - surplus
        head = bytes(self._head[:size])
        del self._head[:size]
        self._check_head_size(size)
        if not event.http_version.startswith(b"1."):
            raise UpgradeError(f"the answer is HTTP/{event.http_version.decode()}, and only HTTP/1.1 can be upgraded")
        if not head.count(b"\r\n") == head.count(b"\n") == head.count(b"\r"):
            raise UpgradeError("the head of the answer has lines that do not end in CR LF")
        if re.search(rb"\r\n[ \t]", head):
            raise UpgradeError("the head of the answer has a folded line, which RFC 9112 section 5.2 forbids")
        lengths = re.findall(rb"\r\ncontent-length:([^\r]*)", head, re.IGNORECASE)
        if len(lengths) > 1 or any(b"," in length for length in lengths):
            raise UpgradeError("the answer has more than one Content-Length")
        if lengths and _values(self._decode(event.headers), "transfer-encoding"):
            raise UpgradeError("the answer has both Content-Length and Transfer-Encoding")
        return surplus

    def _switch(self, event: h11.InformationalResponse) -> UpgradeAccepted:
        headers = self._decode(event.headers)
        if event.http_version != b"1.1":
            raise UpgradeError(f"a 101 over HTTP/{event.http_version.decode()}: only HTTP/1.1 can be upgraded")
        connection, upgrade = (", ".join(_values(headers, name)) for name in ("connection", "upgrade"))
        if "upgrade" not in connection.lower() or UPGRADE_TOKEN.lower() not in upgrade.lower():
            raise UpgradeMissing(
                f"the server switched protocols, but not to {UPGRADE_TOKEN}: "
                f"Connection is {_quote(connection)}, Upgrade is {_quote(upgrade)}"
            )
        if _values(headers, "transfer-encoding") or any(
            length.strip("0") for length in _values(headers, "content-length")
        ):
            raise UpgradeError("a 101 that announces a body: where SPDY/3.1 begins cannot be known")
        return UpgradeAccepted(self._chosen(headers), self._http.trailing_data[0], headers)

    def _chosen(self, headers: HeaderList) -> str:
        answered = next((value for value in _values(headers, PROTOCOL_HEADER) if value), "")
        # A server older than the negotiation names nothing and speaks V1 (client-go: tools/remotecommand/spdy.go).
        protocol = answered or Subprotocol.V1
        if protocol in self.request.protocols:
            return self.request.protocols[self.request.protocols.index(protocol)]
        offered = ", ".join(self.request.protocols)
        if answered:
            raise ProtocolNotOffered(f"the server chose {_quote(answered)}, but the request offered {offered}")
        raise ProtocolNotOffered(
            f"the server named no subprotocol, which means {Subprotocol.V1}, but the request offered {offered}"
        )

    def _refuse(self, answer: h11.Response, note: str = "") -> UpgradeRefused:
        body = self._strike_out_body(cut=bool(note))
        reason = self._strike_out(answer.reason.decode("latin-1"))
        headers = self._decode(answer.headers)
        status = answer.status_code
        if 300 <= status < 400:
            message = _describe_redirect(_values(headers, "location"))
        elif status < 300:
            message = (
                "the server answered the request instead of switching protocols: "
                "this is no streaming address, or a proxy on the way took the upgrade headers off"
            )
        else:
            message = _read_message(body) or "the server gave no reason: the body of its answer is empty"
        return UpgradeRefused(status, reason, headers, body, message, note)


def _secrets(headers: HeaderList) -> list[str]:
    """The values that must not come back, longest first; fewer than four characters are a placeholder."""
    values = [value for name, value in headers if name.lower() in _SECRET_HEADERS]
    values += [value.split(" ", 1)[1] for value in values if " " in value]  # the token without its scheme
    return sorted((value for value in values if len(value) >= 4), key=len, reverse=True)


def _describe_redirect(locations: list[str]) -> str:
    where = "another address"
    if locations:
        try:
            parts = urlsplit(locations[0])
            where = f"{parts.scheme}://{parts.hostname}{parts.path}" if parts.hostname else parts.path
        except ValueError:  # brackets that hold no address
            pass
    return (
        f"the server redirects to {where}; redirects are not followed, since the credentials are meant for this server"
    )


def _read_message(body: bytes) -> str:
    """The ``message`` of a JSON object (``metav1.Status`` and its look-alikes), else the text itself."""
    text = body.decode("utf-8", "replace").strip()
    if text.startswith("{"):
        try:
            message = json.loads(text).get("message")
        except (ValueError, RecursionError):
            return text
        if isinstance(message, str) and message:
            return message.encode("utf-8", "replace").decode()  # half a surrogate pair cannot be printed
    return text


def _hint(head: bytes | bytearray) -> str:
    """What bytes that are no HTTP usually are."""
    if head[:1] in (b"\x15", b"\x16") and head[1:2] in (b"", b"\x03"):
        return " (these bytes are TLS: the address needs https)"
    if head[3:4] == b"\x04" and head[:2] == b"\x00\x00":
        return " (these bytes are HTTP/2, which cannot be upgraded: offer only http/1.1 in ALPN)"
    return ""


def _quote(value: str) -> str:
    return repr(printable(value, limit=_EXCERPT)) if value else "absent"


def _values(headers: HeaderList, name: str) -> list[str]:
    wanted = name.lower()
    return [value.strip(" \t") for key, value in headers if key.lower() == wanted]


@dataclass(frozen=True, slots=True)
class ServerAnswer:
    """The server's decision: 101 with the ``protocol`` chosen, or a refusal with its ``body``.

    ``headers`` are complete for the body (type and length) and leave Date to whoever has a clock.
    """

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    protocol: str | None = None


def wants_upgrade(headers: RawHeaders) -> bool:
    """Whether a request is an upgrade at all, by the test of the kubelet's proxy: any Connection line says ``upgrade``.

    A kubelet answers a streaming address without it with 500, an apiserver with 400, before any negotiation.
    """
    return any("upgrade" in value.lower() for value in _values(_text(headers), "connection"))


def negotiate_upgrade(headers: RawHeaders, supported: Sequence[str]) -> ServerAnswer:
    """Decide on an upgrade request in the order, and with the answers, of the runtimes' streaming server.

    First the subprotocol (400 when none is named, 403 when none fits), then the upgrade headers themselves (400): the
    reference looks at the first Connection and the first Upgrade line only. Where the reference shows all request
    headers in its text, only their names are shown here: one of them is Authorization.

    ``supported`` lists what the server speaks and is not empty; the client's order decides.
    """
    lines = _text(headers)
    offered = offered_protocols(_values(lines, PROTOCOL_HEADER))
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
    connection, upgrade = ((*_values(lines, name), "")[0].lower() for name in ("connection", "upgrade"))
    if "upgrade" not in connection or UPGRADE_TOKEN.lower() not in upgrade:
        names_shown = " ".join(sorted({name.title() for name, _ in lines}))
        text = f"missing upgrade headers in request: [{names_shown}]"
        return _refusal(400, text, [(PROTOCOL_HEADER, protocol)])
    return ServerAnswer(101, _switching(protocol), protocol=protocol)


def upgrade_response(protocol: str) -> bytes:
    """The whole head of a 101 that chooses ``protocol``. Raises LocalProtocolError for one that is not a token."""
    if not re.fullmatch(r"[!-+\--~]+", protocol):
        raise LocalProtocolError(f"not a subprotocol: {printable(protocol, limit=80)!r}")
    lines = [name + b": " + value for name, value in _switching(protocol)]
    return b"\r\n".join([b"HTTP/1.1 101 Switching Protocols", *lines, b"", b""])


def _switching(protocol: str) -> list[tuple[bytes, bytes]]:
    return [
        (b"Connection", b"Upgrade"),
        (b"Upgrade", UPGRADE_TOKEN.encode()),
        (PROTOCOL_HEADER.encode(), protocol.encode()),
    ]


def _text(headers: RawHeaders) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def _refusal(status: int, text: str, headers: Sequence[tuple[str, str]] = ()) -> ServerAnswer:
    body = f"unable to upgrade: {text}\n".encode()
    lines = [
        *headers,
        ("Content-Type", "text/plain; charset=utf-8"),
        ("X-Content-Type-Options", "nosniff"),
        ("Content-Length", str(len(body))),
    ]
    return ServerAnswer(status, [(name.encode(), value.encode()) for name, value in lines], body)

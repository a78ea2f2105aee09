"""HTTP/1.1 up to the point where another protocol takes the connection over. Sans-I/O; the only user of h11 here.

Theory of operation. h11 parses and writes every head; this module adds what every upgrade needs, whatever it leads to:

- The client sends its request head and then nothing until it has read the whole head of the answer: proxies and the Go
  client and server drop what comes early (``k8s.io/apimachinery: pkg/util/proxy/upgradeaware.go``). Bytes after the
  head of a 101 already belong to the new protocol; they are handed on as ``surplus``.
- h11 is lenient where real servers once were (bare line feeds, folded lines, Transfer-Encoding beside Content-Length).
  Two readers that see different messages in the same bytes are how requests are smuggled, so the raw head is kept until
  h11 has found its end, and is then held to the letter of RFC 9112.
- Whether a 101 does what was asked is for a ``Judge`` to say: each protocol has rules of its own.
- Whatever is not an upgrade is read to its end (length, chunks or end of connection), bounded, because the body says
  why. Redirects are refusals like any other: following one hands the credentials to another host (CVE-2020-8559).
- A Go server that misses the upgrade headers answers with all headers of the request, Authorization included. So the
  credentials that were sent are struck out of everything that came back before it becomes part of an outcome.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias
from urllib.parse import urlsplit

import h11

from spdyproto.errors import EngineTerminated, LocalProtocolError, UpgradeError
from spdyproto.limits import Limits
from spdyproto.text import printable
from spdyproto.types import Buffer, HeaderList

RawHeaders: TypeAlias = Sequence[tuple[bytes, bytes]]
"""Header lines as h11 has them, in order, names in any case."""

Judge: TypeAlias = Callable[[HeaderList, Callable[[str], str]], str]
"""``judge(headers, quote)`` takes the headers of a 101, exactly as they came, and returns the subprotocol that it
chose. Raises UpgradeError when it does not do what was asked; ``quote`` makes any of its text fit for that error."""

_INTERIM_ANSWERS: Final = 5  # 100, 102, 103 ... before the answer proper; Go's client gives up at the same number
_WIRE_PER_BODY: Final = (
    8  # bytes read per byte kept: a chunk of one byte costs six, and its extensions shall not cost more
)
_EXCERPT: Final = 200  # characters of a peer's text that an error quotes
_STRUCK_OUT: Final = "<credentials>"
_SECRET_HEADERS: Final = ("authorization", "cookie", "proxy-authorization")
_PHRASES: Final = {
    101: "Switching Protocols",
    400: "Bad Request",
    403: "Forbidden",
    405: "Method Not Allowed",
}


class UpgradeMissing(UpgradeError):
    """A 101 whose headers do not switch to what was asked for: a proxy took them off, or the server speaks something
    else."""


class ProtocolNotOffered(UpgradeError):
    """A 101 that chooses a subprotocol which the request did not offer."""


# -- the client's request ----------------------------------------------------------------------------------------------


_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE: Final = re.compile(r"([!-~]([ -~]*[!-~])?)?")
_WORD: Final = re.compile(r"[!-~]+")


def check_line(name: str, value: str, *, spaces: bool = True) -> None:
    """Raise LocalProtocolError, which never shows the value, for a header that does not fit into a head.

    Without ``spaces`` the value must be there and hold none.
    """
    # h11 judges the whole head once more; it lets control characters through, which Go's server answers with a 400 that
    # names no header, and its own text shows the value.
    fits = _VALUE if spaces else _WORD
    if _NAME.fullmatch(name) and fits.fullmatch(value):
        return
    raise LocalProtocolError(
        f"header {printable(name, limit=80)!r} does not fit into a request head: "
        "a name is letters, digits and dashes, a value is printable ASCII without spaces at its ends"
    )


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request without a body. ``repr`` shows no target and no header values: both may hold secrets.

    ``host`` is the value of the Host header, with a port where it is not the scheme's own. ``target`` is the path and
    query. ``own`` are the lines that the upgrade itself writes, ``headers`` those of the caller, who may give none of
    the former and nothing that frames a body.
    """

    method: str
    host: str
    target: str = field(repr=False)
    own: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def to_h11(self) -> h11.Request:
        """Check every part and put them together.

        Raises LocalProtocolError, which names the part but never shows a header's value, for a part that does not fit
        into a head (line feeds, spaces in the target), and for a header that the upgrade itself writes.
        """
        reserved = {"host", "content-length", "transfer-encoding", *(name.lower() for name, _ in self.own)}
        for name, _ in self.headers:
            if name.lower() in reserved:
                raise LocalProtocolError(f"header {name} is written by the upgrade itself and cannot be given")
        check_line("Host", self.host, spaces=False)
        lines = [("Host", self.host), *self.own, *self.headers]
        for name, value in lines:
            check_line(name, value)
        try:
            return h11.Request(method=self.method, target=self.target, headers=lines)
        except (h11.LocalProtocolError, UnicodeEncodeError):
            pass  # the text of either may hold a secret, so it is not chained either
        raise LocalProtocolError("the request target does not fit into a request line: percent-encode it")


def secret_values(headers: HeaderList) -> list[str]:
    """The values among a client's headers that must not come back."""
    values = [value for name, value in headers if name.lower() in _SECRET_HEADERS]
    return values + [value.split(" ", 1)[1] for value in values if " " in value]  # the token without its scheme


# -- the outcome -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UpgradeAccepted:
    """The connection now speaks what was asked for, and ``protocol`` (the subprotocol, empty where none was asked
    for); ``surplus`` is what already came of it, after the head."""

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


# -- the client's side -------------------------------------------------------------------------------------------------


class ClientExchange:
    """One request and one outcome: bytes in, bytes out.

    ``token`` names what the connection shall switch to, for errors. ``secrets`` are struck out of everything that comes
    back, besides the credentials among the request's own headers; fewer than four characters are a placeholder and
    stay. Raises LocalProtocolError for a request that cannot be written (see ``RequestHead.to_h11``).
    """

    def __init__(
        self,
        head: RequestHead,
        judge: Judge,
        *,
        token: str,
        secrets: Iterable[str] = (),
        limits: Limits = Limits(),
    ) -> None:
        self._request = head
        self._judge = judge
        self._token = token
        hidden = {value for value in (*secrets, *secret_values(head.headers)) if len(value) >= 4}
        self._secrets = sorted(hidden, key=len, reverse=True)
        self._limits = limits
        # h11 counts what is left over after a read, so its verdict depends on how much comes at once: the limits are
        # kept here instead (_overspent, _check_head).
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=sys.maxsize)
        self._output = (self._http.send(head.to_h11()) or b"") + (self._http.send(h11.EndOfMessage()) or b"")
        self._head = bytearray()  # what came of the current head, raw; h11 keeps no copy of what it parsed
        self._received = 0  # bytes of the whole answer
        self._interim = 0
        self._answer: h11.Response | None = None
        self._body = bytearray()
        self._body_wire = 0
        self._outcome: UpgradeOutcome | None = None

    def __repr__(self) -> str:
        state = self._outcome or "waiting for the answer"
        return f"<{type(self).__name__} {self._request.method} {self._request.host}: {state}>"

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

    def _quote(self, text: str) -> str:
        return repr(printable(self._strike_out(text), limit=_EXCERPT)) if text else "absent"

    def _shown(self, headers: RawHeaders) -> tuple[tuple[str, str], ...]:
        return tuple((name, self._strike_out(value)) for name, value in decode_headers(headers))

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
        if lengths and header_values(self._shown(event.headers), "transfer-encoding"):
            raise UpgradeError("the answer has both Content-Length and Transfer-Encoding")
        return surplus

    def _switch(self, event: h11.InformationalResponse) -> UpgradeAccepted:
        if event.http_version != b"1.1":
            raise UpgradeError(f"a 101 over HTTP/{event.http_version.decode()}: only HTTP/1.1 can be upgraded")
        headers = decode_headers(event.headers)
        protocol = self._judge(headers, self._quote)
        if header_values(headers, "transfer-encoding") or any(
            length.strip("0") for length in header_values(headers, "content-length")
        ):
            raise UpgradeError(f"a 101 that announces a body: where {self._token} begins cannot be known")
        return UpgradeAccepted(protocol, self._http.trailing_data[0], self._shown(event.headers))

    def _refuse(self, answer: h11.Response, note: str = "") -> UpgradeRefused:
        body = self._strike_out_body(cut=bool(note))
        reason = self._strike_out(answer.reason.decode("latin-1"))
        headers = self._shown(answer.headers)
        status = answer.status_code
        if 300 <= status < 400:
            message = _describe_redirect(header_values(headers, "location"))
        elif status < 300:
            message = (
                "the server answered the request instead of switching protocols: "
                "this is no streaming address, or a proxy on the way took the upgrade headers off"
            )
        else:
            message = read_message(body) or "the server gave no reason: the body of its answer is empty"
        return UpgradeRefused(status, reason, headers, body, message, note)


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


def read_message(body: bytes) -> str:
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


# -- header lines ------------------------------------------------------------------------------------------------------


def header_values(headers: HeaderList, name: str) -> list[str]:
    """The values of all lines of that name (in any case), in order, without white space around them."""
    wanted = name.lower()
    return [value.strip(" \t") for key, value in headers if key.lower() == wanted]


def decode_headers(headers: RawHeaders) -> list[tuple[str, str]]:
    """The lines as text, one character for each byte."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def is_protocol_name(text: str) -> bool:
    """Whether ``text`` can stand in a list of subprotocols: visible ASCII without a comma.

    Wider than a token (RFC 9110 section 5.6.2), since ``SPDY/3.1+portforward.k8s.io`` is none.
    """
    return re.fullmatch(r"[!-+\--~]+", text) is not None


def encode_headers(headers: HeaderList) -> list[tuple[bytes, bytes]]:
    """The reverse of ``decode_headers``."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]


# -- the server's side -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ServerAnswer:
    """The server's decision: 101 with the ``protocol`` chosen (empty where the client asked for none), or a refusal
    with its ``body``.

    ``headers`` leave Date to whoever has a clock.
    """

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    protocol: str | None = None

    def to_bytes(self) -> bytes:
        """The whole answer, with nothing added."""
        head = [f"HTTP/1.1 {self.status} {_PHRASES[self.status]}".encode()]
        head += [name + b": " + value for name, value in self.headers]
        return b"\r\n".join([*head, b"", self.body])

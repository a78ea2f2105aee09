"""Faults of the answer to an upgrade: another one, a wrong one, none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from fakekubelet.faults.base import KUBERNETES, Fault, check_bytes, check_positive
from fakekubelet.messages import Answer, RawAnswer, Request, Response, Upgrade, plain
from fakekubelet.wires import WEBSOCKET

_FOREVER: Final = 7 * 86400.0


def _with_header(upgrade: Upgrade, names: Iterable[bytes], value: bytes | None) -> Upgrade:
    """The 101 with another value for the first of ``names`` that it has, or without it."""
    wanted = {name.lower() for name in names}
    headers = []
    for name, old in upgrade.headers:
        if name.lower() not in wanted:
            headers.append((name, old))
        elif value is not None:
            headers.append((name, value))
    return replace(upgrade, headers=headers)


_PROTOCOL_HEADERS: Final = (b"X-Stream-Protocol-Version", b"Sec-WebSocket-Protocol")


@dataclass(frozen=True, slots=True)
class WrongProtocol(Fault):
    """The 101 names a subprotocol that the client did not offer."""

    name = "wrong-protocol"
    incident = "https://github.com/kubernetes-client/python/issues/2355"
    protocol: str = "v9.channel.k8s.io"

    def answer(self, upgrade: Upgrade) -> Upgrade:
        """As ``Fault.answer``."""
        return _with_header(upgrade, _PROTOCOL_HEADERS, self.protocol.encode())


@dataclass(frozen=True, slots=True)
class NoProtocol(Fault):
    """The 101 names no subprotocol, as behind a proxy that drops headers which it does not know."""

    name = "no-protocol"
    incident = "https://github.com/kubernetes-client/python/issues/2355"

    def answer(self, upgrade: Upgrade) -> Upgrade:
        """As ``Fault.answer``."""
        return _with_header(upgrade, _PROTOCOL_HEADERS, None)


@dataclass(frozen=True, slots=True)
class WrongAccept(Fault):
    """The 101 answers another request's WebSocket key: a cache, or a connection that a proxy shares between two."""

    name = "wrong-accept"
    incident = "https://www.rfc-editor.org/rfc/rfc6455#section-1.3"
    wires = frozenset({WEBSOCKET})

    def answer(self, upgrade: Upgrade) -> Upgrade:
        """As ``Fault.answer``."""
        return _with_header(upgrade, (b"Sec-WebSocket-Accept",), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")


_REFUSALS: Final[Mapping[int, str]] = {
    200: "ok",
    307: "",
    400: "you must specify at least 1 of stdin, stdout, stderr",
    401: "Unauthorized",
    403: "Forbidden (user=somebody, verb=create, resource=nodes, subresource(s)=[proxy])\n",
    404: "pod does not exist",
    429: "rpc error: code = ResourceExhausted desc = maximum number of in-flight requests exceeded",
    500: 'container not found ("main")',
    502: "<html><head><title>502 Bad Gateway</title></head></html>\n",
    503: "upstream connect error or disconnect/reset before headers\n",
    504: "upstream request timeout\n",
}


@dataclass(frozen=True, slots=True)
class Refuse(Fault):
    """The upgrade is answered by ``code``, in the words of whoever says so: a kubelet, or a proxy before it. 307 points
    to another server, whom a client must not follow with its credentials (CVE-2020-8559, CVE-2018-1002102)."""

    name = "refuse"
    incident = f"https://github.com/kubernetes-client/python/issues/2355 {KUBERNETES}/pull/92941"
    code: int = 500
    status: bool = False
    """Whether the body is a ``metav1.Status`` in JSON, as an apiserver's is."""

    def __post_init__(self) -> None:
        if not 200 <= self.code <= 599:
            raise ValueError(f"an answer that refuses has a code of 200 to 599, not {self.code}")

    async def before(self, request: Request) -> Answer | None:
        """As ``Fault.before``."""
        text = _REFUSALS.get(self.code, f"refused with {self.code}")
        headers = []
        if 300 <= self.code < 400:
            headers.append(("Location", f"https://elsewhere.invalid{request.path}"))
        if self.code in (429, 503):
            headers.append(("Retry-After", "60"))
        if not self.status:
            return plain(self.code, text, headers)
        document = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": text.strip()}
        body = json.dumps({**document, "code": self.code}).encode()
        return Response(self.code, body, [*headers, ("Content-Type", "application/json")])


@dataclass(frozen=True, slots=True)
class NoAnswer(Fault):
    """The request is taken, and answered only after ``seconds``: a runtime that hangs while it makes the exec."""

    name = "no-answer"
    incident = "https://github.com/kubernetes-client/python/issues/602"
    seconds: float = _FOREVER

    def __post_init__(self) -> None:
        check_positive(seconds=self.seconds)

    async def before(self, request: Request) -> Answer | None:
        """As ``Fault.before``."""
        await asyncio.sleep(self.seconds)
        return None


@dataclass(frozen=True, slots=True)
class CutAnswer(Fault):
    """The connection ends within the answer, behind its first ``after`` bytes."""

    name = "cut-answer"
    incident = f"{KUBERNETES}/issues/73056"
    after: int = 20

    def __post_init__(self) -> None:
        check_bytes(self.after)

    async def before(self, request: Request) -> Answer | None:
        """As ``Fault.before``."""
        head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
        return RawAnswer(head[: self.after])

"""exec, attach and port-forward of pods, and upgrades through the node proxy: from the request to the session.

What happens to a WebSocket depends on the version (``fakekubelet.apiserver.gates``): v5 of exec and attach is
translated here, port-forward's tunnel ends here, and from 1.36 on both go through to a kubelet that takes them.
Everything else is passed on as it is.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass

import h11

from fakekubelet.accounting import PASSED, PROXIED, TRANSLATED, TUNNELLED, SessionRecord
from fakekubelet.apiserver import locations
from fakekubelet.apiserver.backend import DialError, Link, Refused, Scratch, Switched, dial
from fakekubelet.apiserver.gates import EXTEND_FEATURE, Gates
from fakekubelet.apiserver.locations import KubeletFinder, Location, Query
from fakekubelet.apiserver.objects import truth
from fakekubelet.apiserver.passthrough import PassThrough
from fakekubelet.apiserver.rbac import AccessJudge
from fakekubelet.apiserver.requests import Meaning
from fakekubelet.apiserver.status import StatusError, bad_request, forbidden
from fakekubelet.apiserver.store import Store
from fakekubelet.apiserver.translator import CLOSES_AT_ONCE, Translation
from fakekubelet.apiserver.tunnels import PREFIX, Tunnel, tunnelled
from fakekubelet.auth import User
from fakekubelet.messages import Answer, RawAnswer, Request, Response, Upgrade, go_error
from spdyproto.channels.events import StreamSet
from spdyproto.channels.subprotocols import CLIENT_OFFER, PROTOCOL_HEADER, Subprotocol
from spdyproto.channels.upgrade import UPGRADE_TOKEN
from spdyproto.http import decode_headers
from spdyproto.websocket.handshake import negotiate_websocket, wants_websocket

_FLAGS = (("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty"))
_V5 = str(Subprotocol.V5)
_HOP = (b"content-length", b"transfer-encoding", b"connection", b"keep-alive", b"date")


@dataclass(slots=True)
class StreamHandler:
    """Answers requests that become sessions. ``host`` is set once the server listens."""

    store: Store
    finder: KubeletFinder
    context: ssl.SSLContext
    judge: AccessJudge
    gates: Gates
    faults: frozenset[str] = frozenset()
    host: Scratch | None = None

    async def answer(self, request: Request, meaning: Meaning, user: User) -> Answer:
        """101 and a session, or a refusal. Raises StatusError."""
        if meaning.resource == "pods":
            self._check_verbs(request, meaning, user)
        where = self._locate(request, meaning)
        if not request.wants_upgrade:
            raise bad_request("Upgrade request required")
        record = SessionRecord(meaning.subresource, where.path.strip("/").partition("/")[2], user.name, PASSED)
        if meaning.resource == "pods" and wants_websocket(request.headers):
            if self._extends(where.node):
                record.path = PROXIED
                return await self._pass(request, where, record)
            if meaning.subresource == "portforward":
                tunnelling = tunnelled(request.headers) if self.gates.tunnel else None
                if tunnelling is not None:
                    return await self._tunnel(request, where, tunnelling, record)
            elif self.gates.translate and _V5 in _offered(request):
                return self._translate(request, where, record)
        return await self._pass(request, where, record)

    def _extends(self, node: str) -> bool:
        """Whether the node takes these WebSockets itself, and the apiserver knows of that."""
        document = self.store.get(locations.NODES, "", node)
        declared = ((document or {}).get("status") or {}).get("declaredFeatures") or ()
        return self.gates.extend and EXTEND_FEATURE in declared

    def _check_verbs(self, request: Request, meaning: Meaning, user: User) -> None:
        if not (self.gates.websocket_needs_create and meaning.verb == "get" and wants_websocket(request.headers)):
            return
        access = meaning.access(user, "create")
        if not self.judge(access):
            raise forbidden(locations.PODS, meaning.name, access.refusal())

    def _locate(self, request: Request, meaning: Meaning) -> Location:
        if meaning.resource == "nodes":
            # The query is lost here, as it is at a real apiserver: issue 77142 of kubernetes/kubernetes.
            return locations.node_proxy(self.store, self.finder, request, meaning, query=False)
        pod = locations.pod_of(self.store, meaning.namespace, meaning.name)
        if meaning.subresource == "portforward":
            ports = [port for value in request.query.get("ports", ()) for port in value.split(",") if port]
            return locations.forward_location(self.store, pod, ports, self.finder)
        query: Query = [(there, "1") for here, there in _FLAGS if truth(request, here)]
        if meaning.subresource == "exec":
            query += [("command", word) for word in request.query.get("command", ())]
        container = request.first("container")
        return locations.stream_location(self.store, pod, meaning.subresource, container, query, self.finder)

    # -- passed on ---------------------------------------------------------------------------------------------------

    async def _pass(self, request: Request, where: Location, record: SessionRecord) -> Answer:
        link, outcome = await self._connect(where, forwarded(request, where))
        if isinstance(outcome, Refused):
            return passed_on(outcome)
        link.record = record
        return Upgrade(outcome.headers, lambda carrier, host: PassThrough(carrier, host, link), record)

    # -- translated and tunnelled ------------------------------------------------------------------------------------

    def _translate(self, request: Request, where: Location, record: SessionRecord) -> Answer:
        decision = negotiate_websocket(request.headers, (_V5,), method=request.method)
        if decision.protocol is None:
            return RawAnswer(decision.to_bytes())
        record.path = TRANSLATED
        wanted = {here for here, _ in _FLAGS if truth(request, here)}
        tty = "tty" in wanted
        # A client that asks for nothing has its 101 all the same; the kubelet's refusal follows.
        asked = wanted & {"stdin", "stdout", "stderr"}
        streams = StreamSet("stdin" in wanted, "stdout" in wanted or not asked, "stderr" in wanted and not tty, tty)

        async def reach() -> tuple[Link, Refused | Switched]:
            link, outcome = await self._connect(where, upstream(where, CLIENT_OFFER))
            link.record = record
            return link, outcome

        at_once = CLOSES_AT_ONCE in self.faults
        return Upgrade(
            decision.headers,
            lambda carrier, host: Translation(carrier, host, streams, reach, closes_at_once=at_once),
            record,
        )

    async def _tunnel(self, request: Request, where: Location, protocols: list[str], record: SessionRecord) -> Answer:
        if not protocols:
            return go_error(400, "unable to upgrade: no tunneling spdy protocols provided")
        link, outcome = await self._connect(where, upstream(where, protocols))
        if isinstance(outcome, Refused):
            return passed_on(outcome)
        chosen = [
            value for name, value in decode_headers(outcome.headers) if name.lower() == "x-stream-protocol-version"
        ]
        decision = negotiate_websocket(request.headers, [PREFIX + name for name in chosen[:1]], method=request.method)
        if decision.protocol is None:
            link.abort()
            return RawAnswer(decision.to_bytes())
        link.record, record.path = record, TUNNELLED
        return Upgrade(decision.headers, lambda carrier, host: Tunnel(carrier, host, link), record)

    async def _connect(self, where: Location, request: h11.Request) -> tuple[Link, Refused | Switched]:
        assert self.host is not None, "the server listens"
        try:
            link = await dial(self.host, self.context, where, request)
            return link, await link.outcome()
        except DialError as error:
            raise StatusError(500, "", f"error dialing backend: {error}") from error


def forwarded(request: Request, where: Location) -> h11.Request:
    """The client's request, as the kubelet gets it: its method and headers, another target, nobody's credentials (they
    were taken off before), and where it came from."""
    seen = request.values(b"x-forwarded-for")
    dropped = (b"host", b"content-length", b"transfer-encoding", b"x-forwarded-for", b"expect")
    kept = [(name, value) for name, value in request.headers if name not in dropped]
    chain = ", ".join([*seen, request.peer])
    headers = [(b"host", where.authority.encode()), *kept, (b"x-forwarded-for", chain.encode("latin-1"))]
    if request.method not in ("GET", "HEAD"):
        headers.append((b"content-length", b"0"))
    return h11.Request(method=request.method, target=where.target, headers=headers)


def upstream(where: Location, protocols: Sequence[str]) -> h11.Request:
    """The apiserver's own request for SPDY, whatever its client speaks."""
    headers = [("Host", where.authority), ("User-Agent", "kube-apiserver"), ("Content-Length", "0")]
    headers += [("Connection", "Upgrade"), ("Upgrade", UPGRADE_TOKEN)]
    headers += [(PROTOCOL_HEADER, protocol) for protocol in protocols]
    return h11.Request(method="POST", target=where.target, headers=headers)


def _offered(request: Request) -> list[str]:
    return [part.strip() for value in request.values(b"sec-websocket-protocol") for part in value.split(",")]


def passed_on(refused: Refused) -> Response:
    """A kubelet's refusal of an upgrade, for the client; the connection ends behind it. Raises StatusError for an
    answer that is neither the upgrade nor a refusal."""
    if refused.status < 400:
        raise StatusError(500, "", f"invalid upgrade response: status code {refused.status}")
    headers = [
        (key.decode("latin-1"), value.decode("latin-1")) for key, value in refused.headers if key.lower() not in _HOP
    ]
    return Response(refused.status, refused.body, headers, close=True)

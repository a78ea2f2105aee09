"""The set-up of a session over more than one transport: each attempt on a connection of its own."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import Any

import pytest
import trustme

import kubeletclient
import kubeletclient.aio
from kubeletclient import DEVNULL, BearerToken, errors
from kubeletclient._flows import (
    Connect,
    Disconnect,
    Established,
    ExecRequest,
    Load,
    Receive,
    Resolve,
    Send,
    StartTLS,
    exec_flow,
)
from kubeletclient._ladder import AUTO, HalfClose, Memory, Needs, parse_transport, steps_for
from kubeletclient._plan import plan_process
from kubeletclient._trust import Trust
from kubeletclient.endpoints import Target, exec_target, parse_endpoint, parse_target
from spdyproto.channels.events import StreamSet, Transport
from spdyproto.channels.subprotocols import Subprotocol
from spdyproto.websocket.handshake import accept_key

CA = trustme.CA().cert_pem.bytes()
ADDRESS = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 10250))
V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
SPDY_101 = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
    b"X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n"
)
BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"
OTHER_PROTOCOLS = b"HTTP/1.1 403 Forbidden\r\n\r\n"


def websocket_101(protocol: str) -> Any:
    def answer(request: bytes) -> bytes:
        (key,) = (line[19:] for line in request.decode().split("\r\n") if line.startswith("Sec-WebSocket-Key: "))
        return (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept_key(key)}\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\nsurplus"
        ).encode()

    return answer


class Script:
    """A server that answers each connection with the next of `answers`: bytes, a function of the request, or a fault
    of the dial. `commands` and `requests` are what the flow asked for."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.commands: list[Any] = []
        self.requests: list[bytes] = []

    def run(self, request: ExecRequest) -> Established:
        flow = exec_flow(request)
        command: Any = next(flow)
        try:
            while True:
                self.commands.append(command)
                answer = self._answer(command)
                command = flow.throw(answer) if isinstance(answer, BaseException) else flow.send(answer)
        except StopIteration as done:
            established: Established = done.value
            return established

    def _answer(self, command: Any) -> Any:
        if isinstance(command, Load):
            return command.function(None)
        if isinstance(command, Resolve):
            return [ADDRESS]
        if isinstance(command, Connect) and isinstance(self.answers[0], OSError):
            return self.answers.pop(0)
        if isinstance(command, Send):
            self.requests.append(command.data)
        if isinstance(command, Receive):
            answer = self.answers.pop(0)
            return answer(self.requests[-1]) if callable(answer) else answer
        return None

    @property
    def connections(self) -> int:
        return sum(isinstance(command, Connect) for command in self.commands)


def request(transport: str = "auto", half_close: HalfClose = HalfClose.NEVER, **more: Any) -> ExecRequest:
    stdin = half_close is not HalfClose.NEVER
    streams = StreamSet(stdin=stdin)
    target = exec_target(parse_endpoint("https://node:10250"), "ns", "pod", "main", ["ls"], streams, None)
    more.setdefault("trust", Trust(ca=CA))
    trust = more.pop("trust")
    return ExecRequest(
        target, trust, streams, "a", steps=steps_for(parse_transport(transport), Needs(half_close)), **more
    )


def test_spdy_is_enough() -> None:
    script = Script(SPDY_101)
    made = script.run(request())
    assert (made.transport, made.protocol) == ("spdy", V4)
    assert [str(attempt) for attempt in made.attempts] == ["spdy: v4.channel.k8s.io"]
    assert script.connections == 1


def test_websocket_on_a_new_connection() -> None:
    script = Script(BAD_GATEWAY, websocket_101(V4))
    made = script.run(request())
    assert (made.transport, made.protocol, made.surplus) == ("ws", V4, b"surplus")
    assert made.session.transport is Transport.WEBSOCKET
    assert made.session.version is Subprotocol.V4
    spdy, ws = made.attempts
    assert (spdy.transport, spdy.accepted, spdy.reason[:8]) == ("spdy", None, "HTTP 502")
    assert (ws.transport, ws.accepted, ws.reason) == ("ws", V4, "")
    kinds = [type(command) for command in script.commands]
    again = kinds[kinds.index(Disconnect) :]
    assert again == [Disconnect, Resolve, Connect, StartTLS, Send, Receive]
    first, second = script.requests
    assert first.startswith(b"POST /exec/ns/pod/main?command=ls")
    assert second.startswith(b"GET /exec/ns/pod/main?command=ls")
    assert b"Sec-WebSocket-Protocol: v5.channel.k8s.io, v4.channel.k8s.io, v4.base64.channel.k8s.io\r\n" in second


def test_base64() -> None:
    made = Script(websocket_101("v4.base64.channel.k8s.io")).run(request("ws"))
    assert made.protocol == "v4.base64.channel.k8s.io"
    assert made.session.transport is Transport.WEBSOCKET_BASE64


def test_only_what_can_end_stdin_is_offered_then() -> None:
    script = Script(BAD_GATEWAY, websocket_101(V5))
    assert script.run(request(half_close=HalfClose.CERTAIN)).session.can_close_stdin
    assert b"Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n" in script.requests[1]


def test_the_first_refusal_is_told_when_none_is_left() -> None:
    script = Script(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", OTHER_PROTOCOLS, b"")
    with pytest.raises(errors.UpgradeMissing) as caught:
        script.run(request())
    assert [attempt.transport for attempt in caught.value.attempts] == ["spdy", "ws"]
    assert "(tried spdy: HTTP 200: " in str(caught.value)
    assert "; ws: HTTP 403 without a text" in str(caught.value)


def test_no_subprotocol_in_common_over_websocket_is_named_so() -> None:
    with pytest.raises(errors.ProtocolNotSupported, match="none of the subprotocols offered over WebSocket") as caught:
        Script(OTHER_PROTOCOLS, b"").run(request("ws", HalfClose.CERTAIN))
    assert caught.value.http_status == 403


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", errors.Unauthorized),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\nForbidden", errors.Forbidden),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 18\r\n\r\npod does not exist", errors.NotFound),
        (b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n", errors.TooManyRequests),
        (b"HTTP/1.1 307 Temporary\r\nLocation: https://x/\r\nContent-Length: 0\r\n\r\n", errors.Redirected),
        (b"220 smtp.example ESMTP\r\n\r\n", errors.InvalidAnswer),
        (b"", errors.ConnectionLost),
        (ConnectionRefusedError(111, "Connection refused"), errors.ConnectionRefused),
    ],
)
def test_what_is_final(answer: Any, kind: type[errors.ClientError]) -> None:
    script = Script(answer, websocket_101(V4))
    with pytest.raises(kind) as caught:
        script.run(request())
    assert script.connections == 1
    assert [attempt.transport for attempt in caught.value.attempts] == ["spdy"]
    assert "tried" not in str(caught.value)


def test_a_final_answer_to_the_second_attempt_is_told_as_it_is() -> None:
    unauthorized = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\nForbidden"
    with pytest.raises(errors.Forbidden, match=r"`get` on `nodes/proxy`.*\(tried spdy: HTTP 502"):
        Script(BAD_GATEWAY, unauthorized).run(request())


def test_a_server_that_refuses_spdy_is_remembered() -> None:
    memory = Memory()
    Script(BAD_GATEWAY, websocket_101(V4)).run(request(memory=memory))
    script = Script(websocket_101(V4))
    made = script.run(request(memory=memory))
    assert script.connections == 1
    assert [(attempt.transport, attempt.skipped) for attempt in made.attempts] == [("spdy", True), ("ws", False)]
    changed = Script(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n", SPDY_101)
    assert changed.run(request(memory=memory)).transport == "spdy"
    assert Script(SPDY_101).run(request(memory=memory)).transport == "spdy"


def at_apiserver(half_close: HalfClose = HalfClose.NEVER, **more: Any) -> ExecRequest:
    target = Target(
        parse_endpoint("https://api"), "/api/v1/namespaces/ns/pods/pod/exec", "https://api/exec", "apiserver"
    )
    return replace(request(**more), target=target, steps=steps_for(AUTO, Needs(half_close), apiserver=True))


def test_websocket_v4_through_a_gateway_that_knows_no_spdy_to_an_old_apiserver() -> None:
    script = Script(OTHER_PROTOCOLS, b"", BAD_GATEWAY, websocket_101(V4))
    made = script.run(at_apiserver())
    assert (made.transport, made.protocol) == ("ws", V4)
    assert [(attempt.transport, attempt.accepted) for attempt in made.attempts] == [
        ("ws", None), ("spdy", None), ("ws", V4),
    ]  # fmt: skip
    assert all(attempt.why for attempt in made.attempts)
    with pytest.raises(errors.ProtocolNotSupported):
        Script(OTHER_PROTOCOLS, b"", BAD_GATEWAY).run(at_apiserver(HalfClose.CERTAIN))


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        ("401 Unauthorized", "credentials of the kubeconfig"),
        ("403 Forbidden", "`create` on `pods/exec`, and `get` too for WebSocket"),
        ("404 Not Found", "check the namespace"),
        ("500 Internal Server Error", "check the node of the pod"),
        ("503 Service Unavailable", "check the node of the pod"),
        ("429 Too Many Requests", "try again"),
    ],
)
def test_what_an_apiserver_refuses_is_final_and_its_hint_is_about_it(status: str, hint: str) -> None:
    script = Script(f"HTTP/1.1 {status}\r\nContent-Length: 6\r\n\r\npods x".encode(), SPDY_101)
    with pytest.raises(errors.UpgradeRefused) as caught:
        script.run(at_apiserver())
    assert hint in caught.value.hint
    assert script.connections == 1


def test_a_token_cannot_hide_among_no_subprotocols() -> None:
    with pytest.raises(ValueError, match="not with transport 'ws:none'"):
        kubeletclient.Kubelet("https://node", transport="ws:none", bearer_subprotocol=True)


def test_token_goes_where_it_is_wanted() -> None:
    trust = Trust(ca=CA, credentials=BearerToken("t0ken"))
    script = Script(BAD_GATEWAY, websocket_101(V4))
    script.run(request(trust=trust))
    assert all(b"Authorization: Bearer t0ken\r\n" in sent for sent in script.requests)
    assert not any(b"bearer.authorization" in sent for sent in script.requests)
    script = Script(BAD_GATEWAY, websocket_101(V4))
    script.run(request(trust=trust, bearer_subprotocol=True))
    spdy, ws = script.requests
    assert b"Authorization: Bearer t0ken\r\n" in spdy
    assert b"Authorization" not in ws
    assert b", base64url.bearer.authorization.k8s.io.dDBrZW4\r\n" in ws


def test_protocols_of_the_callers_own_leave_spdy_alone() -> None:
    node = kubeletclient.Kubelet("https://node", protocols=(Subprotocol.V2,))
    plan = plan_process(stdin=None, stdout=DEVNULL, stderr=None, tty=False, capture_limit=1)
    target = parse_target("https://node/exec/T")
    assert [step.wire for step in node._settings.request(target, plan).steps] == ["spdy"]
    with pytest.raises(ValueError, match="with transport 'auto' or 'spdy' only"):
        kubeletclient.Kubelet("https://node", protocols=(Subprotocol.V2,), transport="ws")
    with pytest.raises(ValueError, match="transport 'carrier-pigeon' is unknown"):
        kubeletclient.aio.Kubelet("https://node", transport="carrier-pigeon")

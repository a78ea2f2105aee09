"""Which transport is tried when, and what is a reason to try the next one."""

from __future__ import annotations

import pytest

from kubeletclient import StdinCannotEnd
from kubeletclient._ladder import (
    AUTO,
    FORGET_AFTER,
    MOST_REMEMBERED,
    Attempt,
    Choice,
    HalfClose,
    Memory,
    Needs,
    Step,
    Wire,
    dialect,
    parse_transport,
    reason_to_go_on,
    steps_for,
)
from spdyproto.channels.events import Transport
from spdyproto.channels.subprotocols import CLIENT_OFFER, Subprotocol

SPDY, WS = Wire.SPDY, Wire.WEBSOCKET
V5, V4, V4_BASE64 = "v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io"
V1, V1_BASE64 = "channel.k8s.io", "base64.channel.k8s.io"
ANY_SPDY = Step(SPDY, CLIENT_OFFER)
ANY_WS = Step(WS, (V5, V4, V4_BASE64))
WS_V5 = Step(WS, (V5,))
NEVER, POSSIBLE, CERTAIN = HalfClose.NEVER, HalfClose.POSSIBLE, HalfClose.CERTAIN


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("auto", AUTO),
        ("spdy", Choice(SPDY)),
        ("ws", Choice(WS)),
        ("v4.channel.k8s.io", Choice(SPDY, V4)),
        ("channel.k8s.io", Choice(SPDY, V1)),
        ("v5.channel.k8s.io", Choice(WS, V5)),
        ("v4.base64.channel.k8s.io", Choice(WS, V4_BASE64)),
        ("base64.channel.k8s.io", Choice(WS, V1_BASE64)),
        ("spdy:v2.channel.k8s.io", Choice(SPDY, "v2.channel.k8s.io")),
        ("ws:v4.channel.k8s.io", Choice(WS, V4)),
        ("ws:channel.k8s.io", Choice(WS, V1)),
        ("ws:none", Choice(WS, "")),
    ],
)
def test_spellings(text: str, choice: Choice) -> None:
    assert parse_transport(text) == choice


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SPDY",
        "websocket",
        "ws:",
        "spdy:",
        "http:v4.channel.k8s.io",
        "v9.channel.k8s.io",
        "spdy:v5.channel.k8s.io",
        "ws:v2.channel.k8s.io",
        "ws:v3.channel.k8s.io",
        "spdy:base64.channel.k8s.io",
        "ws:ws",
        "none",
        "spdy:none",
    ],
)
def test_what_is_no_transport(text: str) -> None:
    with pytest.raises(ValueError, match="expected auto, spdy, ws, spdy:NAME"):
        parse_transport(text)


@pytest.mark.parametrize(
    ("text", "half_close", "steps"),
    [
        ("auto", NEVER, (ANY_SPDY, ANY_WS)),
        ("auto", POSSIBLE, (ANY_SPDY, WS_V5)),
        ("auto", CERTAIN, (ANY_SPDY, WS_V5)),
        ("spdy", CERTAIN, (ANY_SPDY,)),
        ("ws", NEVER, (ANY_WS,)),
        ("ws", POSSIBLE, (WS_V5,)),
        ("ws", CERTAIN, (WS_V5,)),
        ("ws:v5.channel.k8s.io", CERTAIN, (WS_V5,)),
        ("ws:v4.channel.k8s.io", NEVER, (Step(WS, (V4,)),)),
        ("ws:v4.channel.k8s.io", POSSIBLE, (Step(WS, (V4,)),)),
        ("v4.channel.k8s.io", CERTAIN, (Step(SPDY, (V4,)),)),
        ("channel.k8s.io", CERTAIN, (Step(SPDY, (V1,)),)),
    ],
)
def test_order(text: str, half_close: HalfClose, steps: tuple[Step, ...]) -> None:
    for needs in (Needs(half_close), Needs(half_close, bulk=True)):
        assert steps_for(parse_transport(text), needs) == steps


OLD_WS = Step(WS, (V4, V4_BASE64))


@pytest.mark.parametrize(
    ("text", "half_close", "steps"),
    [
        ("auto", NEVER, (WS_V5, ANY_SPDY, OLD_WS)),
        ("auto", POSSIBLE, (WS_V5, ANY_SPDY)),
        ("auto", CERTAIN, (WS_V5, ANY_SPDY)),
        ("spdy", CERTAIN, (ANY_SPDY,)),
        ("ws", NEVER, (ANY_WS,)),
        ("ws", CERTAIN, (WS_V5,)),
        ("ws:v4.channel.k8s.io", NEVER, (Step(WS, (V4,)),)),
        ("ws:none", NEVER, (Step(WS, ()),)),
    ],
)
def test_order_at_an_apiserver(text: str, half_close: HalfClose, steps: tuple[Step, ...]) -> None:
    assert steps_for(parse_transport(text), Needs(half_close), apiserver=True) == steps
    proxied = Needs(half_close, proxied=True)
    assert steps_for(parse_transport(text), proxied, apiserver=True) == steps


def test_much_to_send_prefers_spdy_at_an_apiserver_too() -> None:
    assert steps_for(AUTO, Needs(CERTAIN, bulk=True), apiserver=True) == (ANY_SPDY, WS_V5)


def test_a_proxy_on_the_way_to_a_kubelet_prefers_websocket() -> None:
    assert steps_for(AUTO, Needs(CERTAIN, proxied=True)) == (WS_V5, ANY_SPDY)
    assert steps_for(AUTO, Needs(NEVER, proxied=True)) == (ANY_WS, ANY_SPDY)


def test_each_step_says_why_it_has_its_place() -> None:
    for apiserver in (False, True):
        for needs in (Needs(), Needs(bulk=True), Needs(proxied=True)):
            assert all(step.why for step in steps_for(AUTO, needs, apiserver=apiserver))
    assert [step.why for step in steps_for(Choice(WS), Needs())] == ["as asked for"]


def test_own_list_over_spdy() -> None:
    assert steps_for(Choice(SPDY), Needs(), (Subprotocol.V2,)) == (Step(SPDY, ("v2.channel.k8s.io",)),)


@pytest.mark.parametrize("name", [V4, V4_BASE64, V1, V1_BASE64, ""])
def test_stdin_that_must_end_where_it_cannot(name: str) -> None:
    with pytest.raises(
        StdinCannotEnd, match=f"could not be ended over ws:{name or 'none'}.*use transport 'auto'"
    ) as caught:
        steps_for(Choice(WS, name), Needs(CERTAIN))
    assert isinstance(caught.value, ValueError)


def test_dialects() -> None:
    assert dialect(SPDY, V4) == (Subprotocol.V4, Transport.SPDY)
    assert dialect(WS, V4) == (Subprotocol.V4, Transport.WEBSOCKET)
    assert dialect(WS, V4_BASE64) == (Subprotocol.V4, Transport.WEBSOCKET_BASE64)
    assert dialect(WS, "") == (Subprotocol.V1, Transport.WEBSOCKET)
    assert dialect(WS, V1_BASE64) == (Subprotocol.V1, Transport.WEBSOCKET_BASE64)


FALLS_BACK = [
    (SPDY, 200, "<html>"),
    (SPDY, 400, "unable to upgrade: missing upgrade headers in request: [Host]"),
    (SPDY, 400, "Upgrade request required"),
    (WS, 400, "not websocket protocol"),
    (SPDY, 404, "404 page not found"),
    (SPDY, 404, "404: Page Not Found"),
    (SPDY, 405, "Method Not Allowed"),
    (SPDY, 426, ""),
    (SPDY, 500, "Upgrade request required"),
    (SPDY, 501, "Unsupported method"),
    (SPDY, 502, "Bad Gateway"),
    (WS, 403, ""),
    (SPDY, 403, "unable to upgrade: unable to negotiate protocol: client supports [x], server accepts []"),
]
FINAL = [
    (SPDY, 400, "you must specify at least 1 of stdin, stdout, stderr"),
    (SPDY, 400, "Client sent an HTTP request to an HTTPS server."),
    (SPDY, 400, ""),
    (SPDY, 401, "Unauthorized"),
    (WS, 401, ""),
    (SPDY, 403, ""),
    (SPDY, 403, "Forbidden (user=u, verb=create, resource=nodes, subresource(s)=[proxy])"),
    (WS, 403, "Forbidden (user=u, verb=get, resource=nodes, subresource(s)=[proxy])"),
    (SPDY, 404, "pod does not exist"),
    (SPDY, 404, 'pods "web" not found'),
    (SPDY, 429, "too many requests in flight"),
    (SPDY, 302, ""),
    (SPDY, 500, 'container not found ("x")'),
    (SPDY, 500, 'unable to upgrade connection: container not found ("x")'),
    (SPDY, 500, "Authorization error (user=u, verb=create, resource=nodes, subresource=proxy)"),
    (SPDY, 503, "no endpoints available"),
    (SPDY, 504, "Gateway Timeout"),
    # an apiserver's
    (WS, 401, "Unauthorized"),
    (
        WS,
        403,
        'pods "web" is forbidden: User "u" cannot get resource "pods/exec" in API group "" in the namespace "ns"',
    ),
    (WS, 404, 'pods "web" not found'),
    (WS, 404, 'namespaces "ns" not found'),
    (WS, 400, "container x is not valid for pod web"),
    (WS, 400, "a container name must be specified for pod web, choose one of: [a b]"),
    (WS, 500, "error dialing backend: dial tcp 10.0.0.1:10250: connect: connection refused"),
    (WS, 500, 'unable to upgrade connection: container not found ("x")'),
    (WS, 503, "the server is currently unable to handle the request"),
]


@pytest.mark.parametrize(("wire", "status", "text"), FALLS_BACK)
def test_reasons(wire: Wire, status: int, text: str) -> None:
    reason = reason_to_go_on(wire, status, text, empty=not text, lists_protocols=False)
    assert reason is not None
    assert reason.startswith(f"HTTP {status}")


@pytest.mark.parametrize(("wire", "status", "text"), FINAL)
def test_what_is_final(wire: Wire, status: int, text: str) -> None:
    assert reason_to_go_on(wire, status, text, empty=not text, lists_protocols=False) is None


def test_no_subprotocol_in_common() -> None:
    reason = reason_to_go_on(SPDY, 403, "unable to upgrade", empty=False, lists_protocols=True)
    assert reason == "HTTP 403: the server takes other subprotocols"


# -- the memory --------------------------------------------------------------------------------------------------------


def test_what_was_refused_comes_last_for_a_while() -> None:
    memory, steps = Memory(), (ANY_SPDY, WS_V5)
    assert memory.order("https://node", steps, 0.0) == ([ANY_SPDY, WS_V5], [])
    memory.learn("https://node", WS_V5, [(ANY_SPDY, "HTTP 502")], 10.0)
    skipped = Attempt("spdy", CLIENT_OFFER, reason="HTTP 502", skipped=True)
    assert memory.order("https://node", steps, 10.0 + FORGET_AFTER - 1) == ([WS_V5, ANY_SPDY], [skipped])
    assert memory.order("https://node", steps, 10.0 + FORGET_AFTER) == ([ANY_SPDY, WS_V5], [])


def test_what_works_again_is_not_held_against_it() -> None:
    memory = Memory()
    memory.learn("https://node", WS_V5, [(ANY_SPDY, "HTTP 502")], 0.0)
    memory.learn("https://node", ANY_SPDY, [(WS_V5, "HTTP 403")], 1.0)
    order, skipped = memory.order("https://node", (ANY_SPDY, WS_V5), 2.0)
    assert order == [ANY_SPDY, WS_V5]
    assert [attempt.transport for attempt in skipped] == ["ws"]


def test_the_only_way_is_tried_whatever_is_remembered() -> None:
    memory = Memory()
    memory.learn("https://node", WS_V5, [(ANY_SPDY, "HTTP 502")], 0.0)
    assert memory.order("https://node", (ANY_SPDY,), 1.0) == ([ANY_SPDY], [])


def test_endpoints_are_remembered_apart() -> None:
    memory = Memory()
    memory.learn("https://node", WS_V5, [(ANY_SPDY, "HTTP 502")], 0.0)
    assert memory.order("https://other", (ANY_SPDY, WS_V5), 1.0) == ([ANY_SPDY, WS_V5], [])


def test_the_memory_is_bounded() -> None:
    memory = Memory()
    for number in range(MOST_REMEMBERED + 10):
        memory.learn(f"https://node-{number}", WS_V5, [(ANY_SPDY, "HTTP 502")], 0.0)
    assert len(memory._refused) == MOST_REMEMBERED
    assert memory.order(f"https://node-{MOST_REMEMBERED + 9}", (ANY_SPDY, WS_V5), 1.0)[0] == [WS_V5, ANY_SPDY]
    assert memory.order("https://node-0", (ANY_SPDY, WS_V5), 1.0)[0] == [ANY_SPDY, WS_V5]


def test_attempts_as_text() -> None:
    assert str(Attempt("ws", (V5,), V5)) == "ws: v5.channel.k8s.io"
    assert str(Attempt("ws", (), "")) == "ws: no subprotocol"
    assert str(Attempt("spdy", (V4,), reason="HTTP 502")) == "spdy: HTTP 502"
    assert str(Attempt("spdy", (V4,), reason="HTTP 502", skipped=True)) == "spdy: not tried again, HTTP 502"

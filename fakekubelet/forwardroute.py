"""``/portForward``: what a kubelet, and the runtime behind it, makes of the request.

The order (``k/k: pkg/kubelet/server/server.go``, ``getPortForward``): options (400), pod (404), its uid (404), not an
upgrade (500). Then, for a kubelet of 1.36 or newer, a WebSocket that offers ``SPDY/3.1+portforward.k8s.io`` is a
tunnel; any other WebSocket is the old form, whose ports stand in the query; everything else is taken for SPDY.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from email.utils import formatdate
from functools import partial

from fakekubelet.accounting import SessionRecord
from fakekubelet.forwarding import Forwarded, ForwardRequest, ForwardSession
from fakekubelet.messages import Answer, RawAnswer, Request, Upgrade, go_error, plain
from fakekubelet.pods import Pod
from fakekubelet.upgrades import Carrier, SessionHost
from spdyproto.channels.forwarding import TUNNEL, ForwardTransport
from spdyproto.channels.portsocket import MOST_BASE64
from spdyproto.channels.subprotocols import PORT_FORWARD
from spdyproto.channels.upgrade import negotiate_upgrade
from spdyproto.websocket.handshake import negotiate_websocket, wants_websocket

_OLD = {
    "": ForwardTransport.WEBSOCKET,
    "v4.channel.k8s.io": ForwardTransport.WEBSOCKET,
    "v4.base64.channel.k8s.io": ForwardTransport.WEBSOCKET_BASE64,
}


def ports_of(request: Request) -> tuple[int, ...] | str:
    """The ports in the query of a WebSocket request, or what is wrong with them."""
    values = request.query.get("port", [])
    if not values:
        return 'query parameter "port" is required'
    ports = []
    for value in values:
        if not value:
            return 'query parameter "port" cannot be empty'
        for text in value.split(","):
            if not (text.isascii() and text.isdecimal()):
                return f'unable to parse "{value}" as a port: strconv.ParseUint: parsing "{text}": invalid syntax'
            if int(text) > 65535:
                return f'unable to parse "{value}" as a port: strconv.ParseUint: parsing "{text}": value out of range'
            if int(text) < 1:
                return f'port "{value}" must be > 0'
            ports.append(int(text))
    return tuple(ports)


def answer_port_forward(
    request: Request,
    pod: Pod | None,
    uid: str | None,
    *,
    tunnels: bool,
    grace: float | None,
    record: Callable[[Forwarded], None],
    watch: Callable[[str, Callable[[], None]], Callable[[], None]],
    protocols: Sequence[str] = (PORT_FORWARD,),
    websocket_protocols: Sequence[str] = tuple(_OLD),
) -> Answer:
    """See the module. ``tunnels`` is a kubelet of 1.36 or newer; ``protocols`` are those over SPDY,
    ``websocket_protocols`` those of the old form."""
    websocket = wants_websocket(request.headers)
    ports = ports_of(request) if websocket and not _offers_tunnel(request) else ()
    if isinstance(ports, str):
        return plain(400, ports)
    if pod is None:
        return plain(404, "pod does not exist")
    if uid is not None and uid != pod.uid:
        return plain(404, "pod not found")
    if not request.wants_upgrade:
        return go_error(500, "Upgrade request required")
    wanted = ForwardRequest(
        pod.name, pod.uid, pod.service, ForwardTransport.SPDY, ports, grace, partial(watch, pod.name)
    )
    if not websocket:
        decision = negotiate_upgrade(request.headers, protocols)
        if decision.protocol is None:
            dated = [*decision.headers, (b"Date", formatdate(usegmt=True).encode())]
            return RawAnswer(replace(decision, headers=dated).to_bytes())
        return _accept(decision.headers, wanted, record)
    old = [name for name in websocket_protocols if name in _OLD]
    offered = [TUNNEL] if tunnels and _offers_tunnel(request) else old
    decision = negotiate_websocket(request.headers, offered, method=request.method)
    if decision.protocol is None:
        return RawAnswer(decision.to_bytes())
    transport = ForwardTransport.TUNNEL if decision.protocol == TUNNEL else _OLD[decision.protocol]
    if transport is ForwardTransport.WEBSOCKET_BASE64 and len(ports) > MOST_BASE64:
        return plain(400, f"{len(ports)} ports; base64 has channels for {MOST_BASE64}")
    return _accept(decision.headers, replace(wanted, transport=transport), record)


def _offers_tunnel(request: Request) -> bool:
    offered = ",".join(request.values(b"sec-websocket-protocol")).split(",")
    return any(each.strip() == TUNNEL for each in offered)


def _accept(headers: list[tuple[bytes, bytes]], wanted: ForwardRequest, record: Callable[[Forwarded], None]) -> Upgrade:
    def open_session(carrier: Carrier, host: SessionHost) -> ForwardSession:
        return ForwardSession(carrier, host, wanted, record)

    return Upgrade(headers, open_session, SessionRecord("portforward", wanted.pod))

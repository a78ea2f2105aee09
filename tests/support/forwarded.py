"""Forwarded ports of a fake kubelet, in either flavour of the client, behind one blocking face."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fakekubelet import ALL_WEBSOCKET, FakeKubelet, Pod
from kubeletclient import ClientCertificate, ForwardedConnection, ForwardEvent
from support.flavours import Flavour

SECONDS = 30.0


class Forwarded:
    """One `Forward`, with the events that it told."""

    def __init__(self, flavour: Flavour, forward: Any, events: list[ForwardEvent]) -> None:
        self.flavour = flavour
        self.forward = forward
        self.events = events

    @property
    def local(self) -> list[int]:
        """The local ports on IPv4, one for each mapping."""
        addresses = [each.address for each in self.forward.listeners]
        return [int(address.rpartition(":")[2]) for address in addresses if address.startswith("127.0.0.1:")]

    def connect(self, index: int = 0) -> socket.socket:
        """A client of the forwarded port."""
        return socket.create_connection(("127.0.0.1", self.local[index]), timeout=SECONDS)

    def ended(self, count: int = 1) -> list[ForwardedConnection]:
        """The records of connections that have ended, once there are as many."""
        until(lambda: self.forward.totals.connections >= count)
        return [each for each in self.forward.connections if each.ended]

    def told(self, kind: str) -> list[ForwardEvent]:
        return [event for event in self.events if event.kind == kind]


def until(done: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Waits until `done()`; what it looks at changes in another thread that tells nobody."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it never came about"
        threading.Event().wait(0.005)


def credentials(kubelet: FakeKubelet) -> ClientCertificate:
    pair = kubelet.credentials("forwarder")
    return ClientCertificate(pair.cert_pem, pair.key_pem)


def kubelet_of(ports: dict[int, Any], **options: Any) -> FakeKubelet:
    """A fake kubelet of 1.36 with one pod, ``default/web``, that half-closes truly."""
    options = {"forward_grace": None, "websocket_protocols": ALL_WEBSOCKET} | options
    return FakeKubelet([Pod("default/web", ports=ports)], **options)


@contextmanager
def forwarding(
    flavour: Flavour, kubelet: FakeKubelet, ports: Any, *, client: dict[str, Any] | None = None, **options: Any
) -> Iterator[Forwarded]:
    """Forwards `ports` of ``default/web``."""
    node = flavour.client.Kubelet(kubelet.url, ca=kubelet.ca, credentials=credentials(kubelet), **(client or {}))
    events: list[ForwardEvent] = []
    options = {"address": "127.0.0.1", "on_event": events.append} | options
    forward = flavour.do(lambda: node.pod("web").forward(ports, **options))
    try:
        yield Forwarded(flavour, forward, events)
    finally:
        flavour.do(forward.close)
        flavour.do(node.close)


def read_all(sock: socket.socket) -> bytes:
    """To the end of file."""
    pieces = []
    while piece := sock.recv(1 << 18):
        pieces.append(piece)
    return b"".join(pieces)


def read_exactly(sock: socket.socket, size: int) -> bytes:
    """As many bytes, or fewer where the file ends."""
    data = bytearray()
    while len(data) < size and (piece := sock.recv(size - len(data))):
        data += piece
    return bytes(data)

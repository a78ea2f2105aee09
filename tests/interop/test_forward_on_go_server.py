"""Our port-forward in both flavours on Go's port-forward server: the code that container runtimes serve it with."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from kubeletclient import ClientCertificate, ForwardEvent
from support.flavours import Flavour, flavour_fixture
from support.forwarded import Forwarded, read_all, read_exactly
from support.goforward import answer_at_end, echo, exchange, listening
from support.gopeers import GoServer, random_blocks
from support.pki import Pki

pytestmark = [pytest.mark.interop, pytest.mark.usefixtures("go_peers")]

MIB = 1 << 20
GIB = 1 << 30
TRANSPORTS = ["spdy", "ws", "ws:v4.channel.k8s.io", "ws:v4.base64.channel.k8s.io"]
MUX = pytest.mark.parametrize("transport", TRANSPORTS[:2])

flavour = flavour_fixture()


def sink(connection: socket.socket) -> None:
    """Answers the digest of what came, once the client has half-closed."""
    digest = hashlib.sha256()
    while data := connection.recv(MIB):
        digest.update(data)
    connection.sendall(digest.hexdigest().encode())


def source(connection: socket.socket) -> None:
    """Sends as many bytes as the first eight tell."""
    size = int.from_bytes(connection.recv(8, socket.MSG_WAITALL), "big")
    for block in random_blocks(size, 7):
        connection.sendall(block)


def unread(connection: socket.socket) -> None:
    """Reads nothing until the client is gone."""
    threading.Event().wait(20)


@pytest.fixture(scope="module")
def ports() -> Iterator[dict[str, int]]:
    with (
        listening(echo) as first, listening(answer_at_end) as second, listening(sink) as third,
        listening(source) as fourth, listening(unread) as fifth,
    ):  # fmt: skip
        yield {
            "echo": first, "end": second, "sink": third, "source": fourth, "unread": fifth, "closed": 1,
        }  # fmt: skip


@pytest.fixture(scope="module")
def server(pki: Pki) -> Iterator[GoServer]:
    with GoServer(
        certificate=pki.server_certificate, key=pki.server_key, client_ca=pki.ca, translate=True, forward_grace=-1
    ) as server:
        yield server


@contextmanager
def forwarding(
    flavour: Flavour, server: GoServer, pki: Pki, *ports: int, transport: str = "spdy", **options: Any
) -> Iterator[Forwarded]:
    identity = ClientCertificate(pki.client_certificate, pki.client_key)
    node = flavour.client.Kubelet(server.url, ca=pki.ca, credentials=identity, transport=transport)
    events: list[ForwardEvent] = []
    options = {"address": "127.0.0.1", "on_event": events.append} | options
    forward = flavour.do(lambda: node.pod("demo").forward([f":{port}" for port in ports], **options))
    try:
        yield Forwarded(flavour, forward, events)
    finally:
        flavour.do(forward.close)
        flavour.do(node.close)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_data_both_ways(flavour: Flavour, server: GoServer, pki: Pki, ports: dict[str, int], transport: str) -> None:
    data = os.urandom(MIB)
    with (
        forwarding(flavour, server, pki, ports["echo"], transport=transport) as forwarded,
        forwarded.connect() as sock,
    ):
        sender = threading.Thread(target=sock.sendall, args=(data,))
        sender.start()
        assert read_exactly(sock, MIB) == data
        sender.join()


@MUX
def test_half_close(flavour: Flavour, server: GoServer, pki: Pki, ports: dict[str, int], transport: str) -> None:
    with forwarding(flavour, server, pki, ports["end"], transport=transport) as forwarded:
        assert exchange(forwarded.local[0], bytes(MIB)) == b"%d\n" % MIB
        (record,) = forwarded.ended()
        assert (record.sent, record.received, record.ended) == (MIB, len(b"%d\n" % MIB), "finished")


@MUX
def test_refusals_are_for_themselves(
    flavour: Flavour, server: GoServer, pki: Pki, ports: dict[str, int], transport: str
) -> None:
    with (
        forwarding(flavour, server, pki, ports["echo"], ports["closed"], transport=transport) as forwarded,
        forwarded.connect() as sock,
    ):
        for _ in range(100):
            with pytest.raises(ConnectionResetError):
                exchange(forwarded.local[1], b"x")
        sock.sendall(b"alive")
        assert read_exactly(sock, 5) == b"alive"
        for record in forwarded.ended(100):
            assert record.ended == "failed"
            assert "connection refused" in record.error
        assert len(forwarded.told("connected")) == 1


@MUX
def test_a_thousand_connections_over_one_session_fifty_at_once(
    flavour: Flavour, server: GoServer, pki: Pki, ports: dict[str, int], transport: str
) -> None:
    with forwarding(flavour, server, pki, ports["echo"], transport=transport) as forwarded:
        wrong: list[int] = []

        def work(first: int) -> None:
            for number in range(first, 1000, 50):
                data = b"%d," % number * 100
                if exchange(forwarded.local[0], data) != data:
                    wrong.append(number)

        threads = [threading.Thread(target=work, args=(first,)) for first in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        forwarded.ended(1000)
        assert forwarded.forward.totals.ended == {"finished": 1000}
        assert len(forwarded.told("connected")) == 1


@MUX
def test_two_hundred_at_once(
    flavour: Flavour, server: GoServer, pki: Pki, ports: dict[str, int], transport: str
) -> None:
    with forwarding(flavour, server, pki, ports["echo"], transport=transport) as forwarded:
        socks = [forwarded.connect() for _ in range(200)]
        for number, sock in enumerate(socks):
            sock.sendall(b"%04d" % number)
        for number, sock in enumerate(socks):
            assert read_exactly(sock, 4) == b"%04d" % number
        for sock in socks:
            sock.close()
        forwarded.ended(200)
        assert len(forwarded.told("connected")) == 1


def test_a_pod_that_does_not_read_wedges_gos_session_and_nobody_who_comes_later(
    flavour: Flavour, server: GoServer, pki: Pki, ports: dict[str, int]
) -> None:
    with (
        forwarding(flavour, server, pki, ports["unread"], ports["echo"]) as forwarded,
        forwarded.connect(0) as stuck,
    ):
        stuck.settimeout(2.0)
        with pytest.raises(TimeoutError):
            stuck.sendall(bytes(64 * MIB))
        for _ in range(5):
            assert exchange(forwarded.local[1], b"hello") == b"hello"
        assert len(forwarded.told("connected")) == 2


def test_a_client_that_does_not_read_holds_up_nobody_for_ever(
    flavour: Flavour, server: GoServer, pki: Pki, ports: dict[str, int]
) -> None:
    with (
        forwarding(flavour, server, pki, ports["source"], ports["echo"], stall=0.5, buffer_limit=MIB) as forwarded,
        forwarded.connect(0) as stuck,
        forwarded.connect(1) as other,
    ):
        stuck.sendall((64 * MIB).to_bytes(8, "big"))
        for _ in range(20):
            other.sendall(b"hello")
            assert read_exactly(other, 5) == b"hello"
        assert "took nothing for 0.5 s" in forwarded.ended()[0].error
        other.sendall(b"hello")
        assert read_exactly(other, 5) == b"hello"


@pytest.mark.parametrize("size", [16 * MIB, pytest.param(GIB, marks=[pytest.mark.soak, pytest.mark.timeout(300)])])
@MUX
def test_each_way_by_digest(
    flavour: Flavour, server: GoServer, pki: Pki, ports: dict[str, int], transport: str, size: int
) -> None:
    digest = hashlib.sha256()
    for block in random_blocks(size, 7):
        digest.update(block)
    with forwarding(flavour, server, pki, ports["source"], ports["sink"], transport=transport) as forwarded:
        with forwarded.connect(0) as sock:
            sock.sendall(size.to_bytes(8, "big"))
            got = hashlib.sha256()
            while data := sock.recv(MIB):
                got.update(data)
            assert got.digest() == digest.digest()
        with forwarded.connect(1) as sock:
            for block in random_blocks(size, 7):
                sock.sendall(block)
            sock.shutdown(socket.SHUT_WR)
            assert read_all(sock).decode() == digest.hexdigest()


def test_containerds_grace_and_how_to_live_with_it(flavour: Flavour, pki: Pki, ports: dict[str, int]) -> None:
    with GoServer(certificate=pki.server_certificate, key=pki.server_key, client_ca=pki.ca) as server:
        with forwarding(flavour, server, pki, ports["end"]) as forwarded:
            # The pod is never told of the client's end; the second that follows is all that it gets.
            assert exchange(forwarded.local[0], b"x") == b""
        with (
            forwarding(flavour, server, pki, ports["echo"], hold_half_close=True) as forwarded,
            forwarded.connect() as sock,
        ):
            sock.shutdown(socket.SHUT_WR)
            sock.settimeout(1.5)
            with pytest.raises(TimeoutError):
                sock.recv(1)  # held: the connection lives on

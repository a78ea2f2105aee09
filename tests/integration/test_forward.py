"""Forwarded ports in both flavours of the client, on the fake kubelet."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fakekubelet import FakeKubelet, Loopback, Pod, Port
from fakekubelet.ports import answer_at_end, discard, echo, half_close, http, reset, source, unread
from kubeletclient import DeadlineExceeded, ForwardFailed, NotFound
from support.flavours import Flavour, flavour_fixture
from support.forwarded import credentials, forwarding, kubelet_of, read_all, read_exactly, until
from support.goforward import exchange

MIB = 1 << 20
PORTS = {
    7: echo, 9: discard, 80: Port(http, name="http"), 81: answer_at_end, 82: half_close, 83: reset, 84: unread,
    85: source(64 * MIB),
}  # fmt: skip
MUX = pytest.mark.parametrize("transport", ["spdy", "ws"])
ALL = pytest.mark.parametrize("transport", ["spdy", "ws", "ws:v4.channel.k8s.io", "ws:v4.base64.channel.k8s.io"])
RESET = struct.pack("ii", 1, 0)

flavour = flavour_fixture()


@pytest.fixture(scope="module")
def kubelet() -> Iterator[FakeKubelet]:
    with kubelet_of(PORTS) as kubelet:
        yield kubelet


def client(transport: str) -> dict[str, Any]:
    return {"transport": transport}


# -- data and ends ----------------------------------------------------------------------------------------------------


@ALL
def test_data_goes_both_ways(flavour: Flavour, kubelet: FakeKubelet, transport: str) -> None:
    data = os.urandom(MIB)
    with forwarding(flavour, kubelet, [":7"], client=client(transport)) as forwarded, forwarded.connect() as sock:
        sender = threading.Thread(target=sock.sendall, args=(data,))
        sender.start()
        got = b""
        while len(got) < len(data):
            got += sock.recv(MIB)
        sender.join()
    assert got == data


@MUX
def test_half_close_goes_both_ways(flavour: Flavour, kubelet: FakeKubelet, transport: str) -> None:
    with forwarding(flavour, kubelet, [":81", ":82"], client=client(transport)) as forwarded:
        assert exchange(forwarded.local[0], b"x" * 100_000) == b"100000\n"
        with forwarded.connect(1) as sock:
            assert read_all(sock) == b"bye\n"
            sock.sendall(b"still " * 1000)  # the pod has ended its own direction only
            sock.shutdown(socket.SHUT_WR)
            (record,) = [each for each in forwarded.ended(2) if each.port == 82]
        assert (record.sent, record.received, record.ended) == (6000, 4, "finished")


@ALL
def test_a_refusal_is_a_reset_and_no_end_of_file(flavour: Flavour, kubelet: FakeKubelet, transport: str) -> None:
    with forwarding(flavour, kubelet, [":99"], client=client(transport)) as forwarded:
        with pytest.raises(ConnectionResetError):
            exchange(forwarded.local[0], b"")
        (record,) = forwarded.ended()
        assert record.ended == "failed"
        assert "failed to connect to localhost:99 inside namespace" in record.error


@MUX
def test_a_reset_in_the_pod_comes_behind_what_was_sent_before(
    flavour: Flavour, kubelet: FakeKubelet, transport: str
) -> None:
    with forwarding(flavour, kubelet, [":83"], client=client(transport)) as forwarded, forwarded.connect() as sock:
        sock.sendall(b"x")
        assert read_exactly(sock, 4) == b"part"
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
        assert "connection reset by peer" in forwarded.ended()[0].error


@MUX
def test_a_reset_of_the_client_reaches_the_pod(flavour: Flavour, transport: str) -> None:
    with (
        kubelet_of(PORTS) as kubelet,
        forwarding(flavour, kubelet, [":7"], client=client(transport)) as forwarded,
    ):
        with forwarded.connect() as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        assert forwarded.ended()[0].ended == "reset by the client"
        until(lambda: kubelet.forwards[0].ended == "reset by the client")


@MUX
def test_a_failure_is_its_connections_alone(flavour: Flavour, kubelet: FakeKubelet, transport: str) -> None:
    with (
        forwarding(flavour, kubelet, [":7", ":99", ":83"], client=client(transport)) as forwarded,
        forwarded.connect() as sock,
    ):
        for index in (1, 2, 1, 2):
            with pytest.raises(ConnectionResetError):
                exchange(forwarded.local[index], b"x")
        sock.sendall(b"alive")
        assert read_exactly(sock, 5) == b"alive"
        assert len(forwarded.told("connected")) == 1


@pytest.mark.parametrize("transport", ["spdy", "ws"])
def test_many_connections_share_one_session(flavour: Flavour, kubelet: FakeKubelet, transport: str) -> None:
    with forwarding(flavour, kubelet, [":7"], client=client(transport)) as forwarded:
        wrong: list[int] = []

        def work(first: int) -> None:
            for number in range(first, 1000, 50):
                data = b"%d," % number * 50
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


def test_two_hundred_at_once(flavour: Flavour, kubelet: FakeKubelet) -> None:
    with forwarding(flavour, kubelet, [":7"]) as forwarded:
        socks = [forwarded.connect() for _ in range(200)]
        for number, sock in enumerate(socks):
            sock.sendall(b"%04d" % number)
        for number, sock in enumerate(socks):
            assert read_exactly(sock, 4) == b"%04d" % number
        for sock in socks:
            sock.close()
        forwarded.ended(200)
        assert len(forwarded.told("connected")) == 1


# -- clients and pods that do not read --------------------------------------------------------------------------------


def test_a_client_alone_that_does_not_read_brakes_the_pod_and_loses_nothing(flavour: Flavour) -> None:
    with (
        kubelet_of(PORTS) as kubelet,
        forwarding(flavour, kubelet, [":85"], stall=0.2) as forwarded,
        forwarded.connect() as sock,
    ):
        until(lambda: bool(kubelet.forwards) and kubelet.forwards[0].sent > 0)
        before = -1
        while before != kubelet.forwards[0].sent:  # until the brake has gone through all buffers
            before = kubelet.forwards[0].sent
            threading.Event().wait(0.5)
        assert before < 48 * MIB
        assert len(read_all(sock)) == 64 * MIB


def test_a_client_that_does_not_read_holds_up_nobody_for_ever(flavour: Flavour, kubelet: FakeKubelet) -> None:
    with (
        forwarding(flavour, kubelet, [":85", ":7"], stall=0.3, buffer_limit=MIB) as forwarded,
        forwarded.connect(0) as stuck,
        forwarded.connect(1) as other,
    ):
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        other.sendall(b"hello")
        assert read_exactly(other, 5) == b"hello"
        (record,) = forwarded.ended()
        assert record.ended == "failed"
        assert "took nothing for 0.3 s" in record.error
        other.sendall(b"again")
        assert read_exactly(other, 5) == b"again"
        with pytest.raises(ConnectionResetError):
            read_all(stuck)


def test_a_slow_client_slows_others_down_and_is_not_reset(flavour: Flavour, kubelet: FakeKubelet) -> None:
    with (
        forwarding(flavour, kubelet, [":85", ":85"], stall=2.0, buffer_limit=MIB) as forwarded,
        forwarded.connect(0) as slow,
        forwarded.connect(1) as other,
    ):
        reader = threading.Thread(target=read_all, args=(other,))
        reader.start()
        total = 0
        while piece := slow.recv(MIB):
            total += len(piece)
        reader.join()
        assert total == 64 * MIB
        for sock in (slow, other):
            sock.shutdown(socket.SHUT_WR)
        forwarded.ended(2)
        assert forwarded.forward.totals.ended == {"finished": 2}


def test_a_pod_that_does_not_read_stands_in_nobodys_way_who_comes_later(flavour: Flavour) -> None:
    with (
        kubelet_of(PORTS) as kubelet,
        forwarding(flavour, kubelet, [":84", ":7"]) as forwarded,
        forwarded.connect(0) as stuck,
    ):
        stuck.settimeout(2.0)
        with pytest.raises(TimeoutError):
            stuck.sendall(bytes(64 * MIB))
        with forwarded.connect(1) as sock:
            sock.sendall(b"hello")
            assert read_exactly(sock, 5) == b"hello"
        assert len(forwarded.told("connected")) == 2


def test_isolated_connections_have_sessions_of_their_own(flavour: Flavour, kubelet: FakeKubelet) -> None:
    with forwarding(flavour, kubelet, [":7", ":84"], isolate=True) as forwarded, forwarded.connect(1) as stuck:
        stuck.settimeout(1.0)
        with pytest.raises(TimeoutError):
            stuck.sendall(bytes(64 * MIB))
        assert exchange(forwarded.local[0], b"hello") == b"hello"
        assert len(forwarded.told("connected")) >= 2


# -- listeners --------------------------------------------------------------------------------------------------------


def test_ports_that_are_chosen_are_told_and_localhost_is_both_families(flavour: Flavour, kubelet: FakeKubelet) -> None:
    with forwarding(flavour, kubelet, {0: 7}, address="localhost") as forwarded:
        addresses = [each.address for each in forwarded.forward.listeners]
        port = forwarded.forward.local_port
        assert addresses == [f"127.0.0.1:{port}", f"[::1]:{port}"]
        assert exchange(port, b"six", host="::1") == b"six"
        with pytest.raises(OSError, match="cannot listen on"), forwarding(flavour, kubelet, {port: 7}):
            pass


def test_unix_sockets_at_the_local_end(flavour: Flavour, kubelet: FakeKubelet, tmp_path: Path) -> None:
    path = tmp_path / "echo.sock"
    for _ in range(2):  # and a file that a crash left behind is replaced
        with forwarding(flavour, kubelet, {str(path): 7}) as forwarded:
            assert forwarded.forward.local_port is None
            assert path.stat().st_mode & 0o777 == 0o600
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(path))
                sock.sendall(b"hello")
                sock.shutdown(socket.SHUT_WR)
                assert read_all(sock) == b"hello"
        assert not path.exists()
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(path))


def test_named_ports(flavour: Flavour, kubelet: FakeKubelet) -> None:
    with forwarding(flavour, kubelet, {0: "http"}) as forwarded:
        answer = httpx.get(f"http://127.0.0.1:{forwarded.local[0]}/x", trust_env=False)
        assert answer.text == "GET /x HTTP/1.1\n"
        assert forwarded.ended(0)[:0] == []
    with (
        pytest.raises(ForwardFailed, match=r"no port named 'nope'; its named ports: http \(80\)"),
        forwarding(flavour, kubelet, {0: "nope"}),
    ):
        pass


@pytest.mark.parametrize("ports", [[], {0: 0}, {0: 65536}, {0: "no_name"}, {65536: 80}, {"x": 80}, ["80:"], ["a:80"]])
def test_ports_that_are_none(flavour: Flavour, kubelet: FakeKubelet, ports: Any) -> None:
    with pytest.raises(ValueError, match="port"), forwarding(flavour, kubelet, ports):
        pass


def test_addresses_that_are_none(flavour: Flavour, kubelet: FakeKubelet) -> None:
    with pytest.raises(ValueError, match="an IP address expected"), forwarding(flavour, kubelet, 7, address="here"):
        pass


def test_where_no_session_can_be_had_nothing_stays_open(flavour: Flavour) -> None:
    with FakeKubelet() as kubelet:
        node = flavour.client.Kubelet(kubelet.url, ca=kubelet.ca, credentials=credentials(kubelet))
        with pytest.raises(DeadlineExceeded):
            flavour.do(lambda: node.pod("demo").forward([":80"], address="127.0.0.1", timeout=0))
        with pytest.raises(NotFound, match="pod does not exist"):
            flavour.do(lambda: node.pod("nobody").forward([":80"], address="127.0.0.1"))
        flavour.do(node.close)


# -- supervision ------------------------------------------------------------------------------------------------------


def test_a_lost_session_resets_what_was_open_and_the_listener_stays(flavour: Flavour) -> None:
    ports = {7: echo}
    with kubelet_of(ports) as first:
        port, authority = first.port, first.authority
        with forwarding(flavour, first, [":7"]) as forwarded:
            with forwarded.connect() as sock:
                sock.sendall(b"x")
                assert sock.recv(1) == b"x"
                first.close()
                with pytest.raises(ConnectionResetError):
                    sock.recv(1)
            until(lambda: bool(forwarded.told("retry")))
            waiting = forwarded.connect()  # it waits until the target is back
            waiting.sendall(b"hello")
            with kubelet_of(ports, port=port, ca=authority):
                assert read_exactly(waiting, 5) == b"hello"
                waiting.close()
                kinds = [event.kind for event in forwarded.events if event.kind in ("connected", "lost")]
                assert kinds == ["connected", "lost", "connected"]
                assert forwarded.ended()[0].ended == "lost"


def test_whoever_waits_too_long_is_reset(flavour: Flavour) -> None:
    with kubelet_of({7: echo}) as kubelet, forwarding(flavour, kubelet, [":7"], wait=0.3) as forwarded:
        kubelet.close()
        until(lambda: bool(forwarded.told("lost")))
        with pytest.raises(ConnectionResetError):
            exchange(forwarded.local[0], b"")
        assert "no session to the pod for 0.3 s: nothing listens" in forwarded.ended()[-1].error


def test_what_is_open_at_the_end_is_reset(flavour: Flavour, kubelet: FakeKubelet) -> None:
    with forwarding(flavour, kubelet, [":7"]) as forwarded:
        sock = forwarded.connect()
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
    with sock, pytest.raises(ConnectionResetError):
        sock.recv(1)
    assert forwarded.forward.connections[-1].ended == "closed"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", forwarded.local[0]))


# -- without a listener -----------------------------------------------------------------------------------------------


class Blocking:
    def __init__(self, kubelet: FakeKubelet, **options: Any) -> None:
        import kubeletclient

        self.node = kubeletclient.Kubelet(kubelet.url, ca=kubelet.ca, credentials=credentials(kubelet), **options)
        self.pod = self.node.pod("web")


@ALL
def test_connect_gives_a_socket(kubelet: FakeKubelet, transport: str) -> None:
    there = Blocking(kubelet, transport=transport)
    with there.node:
        with there.pod.connect(7, timeout=30) as sock:
            sock.sendall(b"hello")
            assert read_exactly(sock, 5) == b"hello"
            assert isinstance(sock, socket.socket)
            assert sock.connection.sent == 5
        with there.pod.connect(99) as sock, pytest.raises(ForwardFailed, match="connection refused"):
            sock.recv(1)
    assert not [thread for thread in threading.enumerate() if thread.name == "kubewire-forward"]


def test_connect_by_name_and_to_a_pod_that_is_not_there(kubelet: FakeKubelet) -> None:
    there = Blocking(kubelet)
    with there.node:
        with there.pod.connect("http") as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
            assert read_all(sock).endswith(b"GET / HTTP/1.1\n")
        with pytest.raises(ForwardFailed, match="no port named"):
            there.pod.connect("nope")
        with pytest.raises(NotFound):
            there.node.pod("nobody").connect(80)


@ALL
def test_connect_gives_asyncios_streams(kubelet: FakeKubelet, transport: str) -> None:
    import kubeletclient.aio

    async def run() -> None:
        async with kubeletclient.aio.Kubelet(
            kubelet.url, ca=kubelet.ca, credentials=credentials(kubelet), transport=transport
        ) as node:
            pod = node.pod("web")
            reader, writer = await pod.connect(7)
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            writer.close()
            await writer.wait_closed()
            reader, writer = await pod.connect(99)
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()
            if not transport.startswith("ws:"):
                reader, writer = await pod.connect(81)
                writer.write(bytes(1000))
                writer.write_eof()
                assert await reader.read() == b"1000\n"
                writer.close()

    asyncio.run(run())


def test_digest_of_64_mib(flavour: Flavour, kubelet: FakeKubelet) -> None:
    with forwarding(flavour, kubelet, [":85"]) as forwarded, forwarded.connect() as sock:
        digest = hashlib.sha256(read_all(sock)).hexdigest()
        assert digest == hashlib.sha256(bytes(64 * MIB)).hexdigest()
        sock.shutdown(socket.SHUT_WR)
        record = forwarded.ended()[0]
        assert record.received == 64 * MIB
        assert record.seconds > 0


def test_pods_are_declared_with_ports() -> None:
    with pytest.raises(ValueError, match="1 to 65535"):
        Pod("default/x", ports={0: echo})
    with pytest.raises(PermissionError, match="allow_loopback_ports"):
        FakeKubelet([Pod("default/x", ports={80: Loopback(80)})])

"""Go's own port-forwarder on the fake kubelet: over SPDY, and over SPDY tunnelled in a WebSocket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakekubelet import ALL_WEBSOCKET, FakeKubelet, Loopback, Pod, Port
from fakekubelet.ports import Service, answer_at_end, echo, half_close, http, reset
from support.goforward import GoForward, exchange, listening
from support.goforward import echo as real_echo

pytestmark = [pytest.mark.interop, pytest.mark.usefixtures("go_peers")]

TRANSPORTS = pytest.mark.parametrize("transport", ["spdy", "websocket"])


def blocking(sock: socket.socket) -> None:
    sock.sendall(b"from a thread: " + sock.recv(100))


class Host:
    """A fake kubelet, and what a Go client needs to reach it."""

    def __init__(self, kubelet: FakeKubelet, folder: Path) -> None:
        self.kubelet = kubelet
        certificate = kubelet.credentials("forwarder")
        self.files = {"ca": folder / "ca.crt", "cert": folder / "client.crt", "key": folder / "client.key"}
        for path, data in zip(
            self.files.values(), (kubelet.ca, certificate.cert_pem, certificate.key_pem), strict=True
        ):
            path.write_bytes(data)

    def forward(self, *ports: str, transport: str = "spdy", pod: str = "default/web") -> GoForward:
        return GoForward(f"{self.kubelet.url}/portForward/{pod}", ports, self.files, transport)


@pytest.fixture(scope="module")
def host(go_peers: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with listening(real_echo) as port:
        ports: dict[int, Service | Port] = {
            7: echo, 80: Port(http, name="http"), 81: answer_at_end, 82: half_close, 83: reset, 84: blocking,
            5432: Loopback(port),
        }  # fmt: skip
        with FakeKubelet(
            [Pod("default/web", ports=ports)], websocket_protocols=ALL_WEBSOCKET, allow_loopback_ports=True,
            forward_grace=None,
        ) as kubelet:  # fmt: skip
            yield Host(kubelet, tmp_path_factory.mktemp("host"))


@TRANSPORTS
def test_data_both_ways_and_half_close(host: Host, transport: str) -> None:
    data = bytes(range(256)) * 4096
    with host.forward(":7", ":81", ":84", ":5432", transport=transport) as forward:
        assert exchange(forward.local[0], data) == data
        assert exchange(forward.local[1], data) == b"%d\n" % len(data)
        assert exchange(forward.local[2], b"hello") == b"from a thread: hello"
        assert exchange(forward.local[3], data) == data
        assert exchange(forward.local[0], b"") == b""


@TRANSPORTS
def test_http(host: Host, transport: str) -> None:
    with host.forward(":80", transport=transport) as forward:
        answer = exchange(forward.local[0], b"GET /x HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert answer.endswith(b"\r\n\r\nGET /x HTTP/1.1\n")


@TRANSPORTS
def test_many_connections_at_once(host: Host, transport: str) -> None:
    with host.forward(":7", transport=transport) as forward:
        wrong: list[int] = []

        def one(number: int) -> None:
            data = b"%d," % number * 1000
            if exchange(forward.local[0], data) != data:
                wrong.append(number)

        threads = [threading.Thread(target=one, args=(number,)) for number in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert wrong == []
    mine = [each for each in host.kubelet.forwards if each.received == each.sent == len(b"%d," % 49 * 1000)]
    assert len(mine) >= 40


@TRANSPORTS
def test_a_refusal_reaches_gos_client_in_the_words_of_containerd(host: Host, transport: str) -> None:
    with host.forward(":99", transport=transport) as forward:
        assert exchange(forward.local[0], b"") == b""
        code, said = forward.wait()  # any text on any error stream ends the whole of kubectl's session
    assert code == 255
    assert "lost connection to pod" in said
    assert "error forwarding port 99 to pod " in said
    assert "failed to connect to localhost:99 inside namespace" in said


def test_a_reset_in_the_pod_is_told(host: Host) -> None:
    with host.forward(":83") as forward:
        assert exchange(forward.local[0], b"x") == b"part"  # to Go's client a reset is an end of file
        _, said = forward.wait()
    assert "connection reset by peer" in said


def test_a_pod_that_is_not_there(host: Host) -> None:
    with pytest.raises(RuntimeError, match="pod does not exist"), host.forward(":80", pod="default/nobody"):
        pass


def test_kubelets_before_1_36_take_no_tunnel_and_kubectl_falls_back(tmp_path: Path) -> None:
    with FakeKubelet([Pod("default/web", ports={7: echo})]) as kubelet:
        host = Host(kubelet, tmp_path)
        with pytest.raises(RuntimeError, match="403"), host.forward(":7", transport="websocket"):
            pass
        with host.forward(":7", transport="fallback") as forward:
            assert exchange(forward.local[0], b"hello") == b"hello"


def test_containerds_second_of_grace_cuts_a_slow_answer(tmp_path: Path) -> None:
    async def late(reader: object, writer: object) -> None:
        import asyncio

        assert isinstance(reader, asyncio.StreamReader)
        assert isinstance(writer, asyncio.StreamWriter)
        await reader.read(10)
        gone.wait()
        writer.write(b"late")

    gone = threading.Event()
    gone.set()
    with FakeKubelet([Pod("default/web", ports={1: late, 7: answer_at_end})]) as kubelet:
        host = Host(kubelet, tmp_path)
        with host.forward(":1", ":7") as forward:
            assert exchange(forward.local[0], b"x") == b"late"  # within the second
            assert exchange(forward.local[1], b"x") == b""  # the pod never hears of the client's end

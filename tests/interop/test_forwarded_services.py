"""Real clients of real services through forwarded ports: httpx, and a Redis with its own driver."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpcore
import httpx
import pytest
import redis
import redis.asyncio

import kubeletclient
import kubeletclient.aio
from fakekubelet import FakeKubelet, Loopback, Port
from fakekubelet.ports import http
from support.forwarded import credentials, kubelet_of

pytestmark = pytest.mark.interop

VALUE = bytes(range(256)) * 4096


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A Redis on a free port of its own choice: it announces it in no other way, so it is looked up before."""
    program = shutil.which("redis-server")
    if program is None:
        if os.environ.get("KUBEWIRE_REQUIRE_PEERS", "") not in ("", "0"):
            pytest.fail("KUBEWIRE_REQUIRE_PEERS is set, but there is no redis-server", pytrace=False)
        pytest.skip("no redis-server on this machine")
    folder = tmp_path_factory.mktemp("redis")
    path = folder / "redis.sock"
    argv = [program, "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(folder)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if b"eady to accept connections" in line:
                break
        with _relay(path) as port:
            yield port
        process.terminate()


class _relay:
    """A TCP port in front of a Unix socket: pods listen on TCP, and Redis chooses no free port by itself."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> int:
        from support.goforward import listening

        self._listening = listening(self._serve)
        return self._listening.__enter__()

    def __exit__(self, *details: Any) -> None:
        self._listening.__exit__(*details)

    def _serve(self, connection: socket.socket) -> None:
        import select

        with socket.socket(socket.AF_UNIX) as other:
            other.connect(str(self._path))
            pairs = {connection: other, other: connection}
            while True:
                for ready in select.select(list(pairs), [], [])[0]:
                    data = ready.recv(1 << 16)
                    if not data:
                        return
                    pairs[ready].sendall(data)


@pytest.fixture(scope="module")
def kubelet(redis_port: int) -> Iterator[FakeKubelet]:
    ports = {80: Port(http, name="http"), 6379: Port(Loopback(redis_port), name="redis")}
    with kubelet_of(ports, allow_loopback_ports=True) as kubelet:
        yield kubelet


@pytest.fixture
def pod(kubelet: FakeKubelet) -> Iterator[kubeletclient.Pod]:
    with kubeletclient.Kubelet(kubelet.url, ca=kubelet.ca, credentials=credentials(kubelet)) as node:
        yield node.pod("web")


# -- httpx ------------------------------------------------------------------------------------------------------------


class PodStream(httpcore.NetworkStream):
    """A forwarded socket as ``httpcore`` wants it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._sock.settimeout(timeout)
        return self._sock.recv(max_bytes)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._sock.settimeout(timeout)
        self._sock.sendall(buffer)

    def close(self) -> None:
        self._sock.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return PodStream(ssl_context.wrap_socket(self._sock, server_hostname=server_hostname))

    def get_extra_info(self, info: str) -> Any:
        return self._sock if info == "socket" else None


class PodBackend(httpcore.NetworkBackend):
    """Connects to the pod's ports, whatever the host is called."""

    def __init__(self, pod: kubeletclient.Pod) -> None:
        self._pod = pod

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        return PodStream(self._pod.connect(port, timeout=timeout))


def test_httpx_without_a_listener(pod: kubeletclient.Pod) -> None:
    transport = httpx.HTTPTransport()
    transport._pool = httpcore.ConnectionPool(network_backend=PodBackend(pod))
    with httpx.Client(transport=transport, trust_env=False) as client:
        for number in range(20):
            answer = client.post(f"http://web/{number}", content=b"x" * 100_000)
            assert answer.content == b"POST /%d HTTP/1.1\n" % number + b"x" * 100_000


def test_httpx_through_a_port_and_through_a_unix_socket(pod: kubeletclient.Pod, tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    with pod.forward({0: "http", str(path): "http"}, address="127.0.0.1") as forward:
        with httpx.Client(trust_env=False) as client:
            assert client.get(f"http://127.0.0.1:{forward.local_port}/a").text == "GET /a HTTP/1.1\n"
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
            assert client.get("http://web/b").text == "GET /b HTTP/1.1\n"


# -- Redis ------------------------------------------------------------------------------------------------------------


class PodConnection(redis.Connection):
    """The driver's own connection, over a socket that the pod gives."""

    pod: kubeletclient.Pod

    def __init__(self, *, pod: kubeletclient.Pod, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call] # the driver's is not typed
        self.pod = pod

    def _connect(self) -> socket.socket:
        return self.pod.connect(6379)


def test_a_database_without_a_listener(pod: kubeletclient.Pod) -> None:
    pool = redis.ConnectionPool(connection_class=PodConnection, pod=pod)
    client = redis.Redis(connection_pool=pool)
    assert client.ping()
    assert client.set("key", VALUE)
    assert client.get("key") == VALUE
    with client.pipeline() as pipeline:
        for number in range(500):
            pipeline.incrby("count", number)
        assert pipeline.execute()[-1] == sum(range(500))
    pool.disconnect()


def test_a_database_through_a_named_port(pod: kubeletclient.Pod) -> None:
    with pod.forward({0: "redis"}, address="127.0.0.1") as forward:
        assert forward.local_port is not None
        client = redis.Redis(port=forward.local_port)
        assert client.set("other", VALUE)
        assert client.get("other") == VALUE
        client.close()


class AsyncPodConnection(redis.asyncio.Connection):
    """The same, awaited."""

    def __init__(self, *, pod: kubeletclient.aio.Pod, **options: Any) -> None:
        super().__init__(**options)
        self.pod = pod

    async def _connect(self) -> None:
        self._reader, self._writer = await self.pod.connect(6379)


def test_a_database_over_asyncios_streams(kubelet: FakeKubelet) -> None:
    async def run() -> None:
        async with kubeletclient.aio.Kubelet(kubelet.url, ca=kubelet.ca, credentials=credentials(kubelet)) as node:
            pool = redis.asyncio.ConnectionPool(connection_class=AsyncPodConnection, pod=node.pod("web"))
            client = redis.asyncio.Redis(connection_pool=pool)
            assert await client.set("third", VALUE)
            assert await client.get("third") == VALUE
            assert len(await asyncio.gather(*(client.incr("many") for _ in range(50)))) == 50
            await pool.disconnect()

    asyncio.run(run())

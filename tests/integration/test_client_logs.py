"""Logs, in both flavours: direct and through the apiserver, whole, followed, and over connections that break."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

import kubeletclient
from fakekubelet import Container, FakeCluster, FakeKubelet, Pod
from kubeletclient import (
    BadRequest,
    ClientCertificate,
    ConnectionLost,
    ConnectionRefused,
    DeadlineExceeded,
    NotFound,
    ProcessClosed,
)
from kubeletclient.aio import Cluster
from kubeletclient.kubeconfig import load
from support.cutproxy import Cut, CutProxy
from support.flavours import Asyncio, Flavour, flavour_fixture

flavour = flavour_fixture()

LOG = """2024-05-01T10:00:00.000000001Z stdout F one
2024-05-01T10:00:01.000000001Z stderr F two
2024-05-01T10:00:02.000000001Z stdout P thr
2024-05-01T10:00:02.000000002Z stdout F ee
"""
COUNT = 400


async def counting() -> AsyncIterator[str]:
    for number in range(COUNT):
        yield f"line {number}"
        await asyncio.sleep(0.002)


def pods() -> list[Pod]:
    return [
        Pod(
            "default/demo",
            [Container("main", log=LOG, previous_log="2024-05-01T09:00:00Z stdout F before\n"), Container("side")],
        ),
        Pod("default/count", [Container("main", log=counting)]),
        Pod("default/pulling", [Container("main", waiting="ImagePullBackOff")]),
        Pod("default/over", [Container("main", main=["echo", "the end"])]),
    ]


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster(pods=pods()) as running:
        yield running


@contextmanager
def log_of(flavour: Flavour, client: Any, pod: str = "demo", **options: Any) -> Iterator[Any]:
    stream = client.pod(pod).logs(container="main", **options)
    try:
        yield stream
    finally:
        flavour.do(stream.close)


def lines(flavour: Flavour, stream: Any, count: int) -> list[bytes]:
    """So many lines."""

    async def take() -> list[bytes]:
        return [await anext(stream) for _ in range(count)]

    if isinstance(flavour, Asyncio):
        taken: list[bytes] = flavour.do(take)
        return taken
    return [next(stream) for _ in range(count)]


@pytest.fixture(params=["kubelet", "apiserver"])
def client(request: pytest.FixtureRequest, flavour: Flavour, cluster: FakeCluster) -> Any:
    return flavour.client.Cluster(load(cluster.kubeconfig), via=request.param)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, b"one\ntwo\nthree\n"),
        ({"tail": 1}, b"ee\n"),
        ({"tail": 0}, b""),
        (
            {"timestamps": True, "tail": 3},
            b"2024-05-01T10:00:01.000000001Z two\n2024-05-01T10:00:02.000000001Z three\n",
        ),
        ({"since": datetime(2024, 5, 1, 10, 0, 1, tzinfo=UTC)}, b"two\nthree\n"),
        ({"since": 60}, b""),
        ({"limit_bytes": 5}, b"one\nt"),
        ({"previous": True}, b"before\n"),
    ],
)
def test_logs(flavour: Flavour, client: Any, options: dict[str, Any], text: bytes) -> None:
    with log_of(flavour, client, **options) as stream:
        assert flavour.do(stream.read) == text
        assert stream.route == client.via


def test_errors_say_why(flavour: Flavour, client: Any, cluster: FakeCluster) -> None:
    with log_of(flavour, client, "pulling") as stream, pytest.raises(BadRequest, match="waiting to start"):
        flavour.do(stream.read)
    with log_of(flavour, client, "none") as stream, pytest.raises(NotFound, match="none"):
        flavour.do(stream.read)
    with pytest.raises(NotFound if client.via == "kubelet" else BadRequest, match=r"'x'|container x"):
        flavour.do(client.pod("demo").logs(container="x").read)


def test_a_pod_that_has_ended(flavour: Flavour, client: Any, cluster: FakeCluster) -> None:
    cluster.kubelets["node-1"].main_process("default/over").wait(30)
    with log_of(flavour, client, "over", follow=True) as stream:
        assert flavour.do(stream.read) == b"the end\n"


@pytest.mark.parametrize("timestamps", [False, True])
def test_follow(flavour: Flavour, client: Any, timestamps: bool) -> None:
    with log_of(flavour, client, "count", follow=True, timestamps=timestamps) as stream:
        came = lines(flavour, stream, COUNT)
    assert [line.split(b"Z ", 1)[-1] for line in came] == [b"line %d\n" % number for number in range(COUNT)]
    assert all(line.startswith(b"20") == timestamps for line in came)


def test_a_timeout_is_for_all_of_it(flavour: Flavour, client: Any) -> None:
    with (
        log_of(flavour, client, "count", follow=True, timeout=1.5) as stream,
        pytest.raises(DeadlineExceeded, match=r"1\.5 s"),
    ):
        flavour.do(stream.read)


def test_closed_logs_are_not_read(flavour: Flavour, client: Any) -> None:
    with log_of(flavour, client) as stream:
        flavour.do(stream.close)
        with pytest.raises(ProcessClosed):
            flavour.do(stream.read)


# -- connections that break --------------------------------------------------------------------------------------------


@pytest.fixture
def kubelet() -> Iterator[FakeKubelet]:
    with FakeKubelet(pods()) as server:
        yield server


def through(flavour: Flavour, kubelet: FakeKubelet, port: int) -> Any:
    pair = kubelet.credentials()
    return flavour.client.Kubelet(
        f"https://127.0.0.1:{port}", ca=kubelet.ca, credentials=ClientCertificate(pair.cert_pem, pair.key_pem)
    )


@pytest.mark.parametrize("how", ["rst", "fin"])
def test_a_log_that_is_followed_goes_on_after_a_break(flavour: Flavour, kubelet: FakeKubelet, how: Any) -> None:
    with CutProxy(("127.0.0.1", kubelet.port)) as proxy:
        proxy.plan = Cut(12_000, how)
        client = through(flavour, kubelet, proxy.port)
        with log_of(flavour, client, "count", follow=True) as stream:
            came = lines(flavour, stream, 1)
            proxy.plan = Cut(40_000, how)
            while len(came) < COUNT:
                came += lines(flavour, stream, 1)
                if stream.reconnects >= 2:
                    proxy.plan = None
            assert came == [b"line %d\n" % number for number in range(COUNT)]
            assert stream.reconnects >= 1


def test_a_log_that_is_not_followed_is_not_whole_then(flavour: Flavour) -> None:
    big = "".join(f"2024-05-01T10:00:00.000000001Z stdout F {n:0100d}\n" for n in range(1000))
    with (
        FakeKubelet([Pod("default/demo", [Container("main", log=big)])]) as server,
        CutProxy(("127.0.0.1", server.port)) as proxy,
        log_of(flavour, through(flavour, server, proxy.port)) as stream,
    ):
        proxy.plan = Cut(50_000, "rst")
        with pytest.raises(ConnectionLost, match=r"the log of default/demo was cut off after \d+ bytes"):
            flavour.do(stream.read)


def test_a_node_that_does_not_come_back(flavour: Flavour, kubelet: FakeKubelet) -> None:
    with log_of(flavour, through(flavour, kubelet, kubelet.port), "count", follow=True, reconnect=1) as stream:
        lines(flavour, stream, 1)
        kubelet.close()
        with pytest.raises(ConnectionRefused):
            flavour.do(stream.read)


def test_a_cancelled_wait_loses_nothing(cluster: FakeCluster) -> None:
    async def main() -> None:
        async with Cluster(load(cluster.kubeconfig)) as client:
            stream = client.pod("count").logs(container="main", follow=True)
            came: list[bytes] = []
            while len(came) < COUNT:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.001):
                        came.append(await anext(stream))
            assert came == [b"line %d\n" % number for number in range(COUNT)]
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await anext(stream)
            await stream.close()
            with pytest.raises(ProcessClosed):
                await anext(stream)

    asyncio.run(main())


def test_what_failed_once_is_no_end_the_next_time(flavour: Flavour, client: Any) -> None:
    with log_of(flavour, client, "count", follow=True, timeout=0.5) as stream:
        for _ in range(2):
            with pytest.raises(DeadlineExceeded):
                flavour.do(stream.read)


@pytest.mark.parametrize("which", ["stream", "client"])
def test_closing_ends_a_read_in_another_thread(cluster: FakeCluster, which: str) -> None:
    failures: list[BaseException] = []
    with kubeletclient.Cluster(load(cluster.kubeconfig)) as client:
        stream = client.pod("demo").logs(container="main", follow=True)
        assert next(stream) == b"one\n"
        reading = threading.Event()

        def read() -> None:
            try:
                for _ in range(2):
                    next(stream)
                reading.set()
                next(stream)
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        assert reading.wait(30)
        (stream if which == "stream" else client).close()
        thread.join(30)
    assert isinstance(failures[0], ProcessClosed)


def test_an_interrupt_is_no_end(cluster: FakeCluster) -> None:
    def interrupted() -> Generator[bytes, None, None]:
        yield b"one\n"
        raise KeyboardInterrupt

    with kubeletclient.Cluster(load(cluster.kubeconfig)) as client:
        stream = client.pod("demo").logs(container="main")
        stream._lines = interrupted()
        assert next(stream) == b"one\n"
        with pytest.raises(KeyboardInterrupt):
            next(stream)
        with pytest.raises(ProcessClosed, match="interrupt"):
            next(stream)


def test_reading_is_the_same_as_iterating(flavour: Flavour, client: Any) -> None:
    stream = client.pod("demo").logs(container="main")
    assert lines(flavour, stream, 1) == [b"one\n"]
    assert flavour.do(stream.read) == b"two\nthree\n"
    assert flavour.do(partial(client.pod("demo").logs(container="main", tail=1).read)) == b"ee\n"

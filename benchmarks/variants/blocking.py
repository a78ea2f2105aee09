"""The blocking client."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.variants.limits import echo_answer
from benchmarks.variants.meter import UNIT, Consumer, Meter, command
from kubeletclient import PIPE, ClientCertificate, Kubelet
from kubeletclient.sync.pods import Pod
from spdyproto.websocket.masking import use_masker

Target = dict[str, str]
_ZEROS = memoryview(bytes(1 << 20))


def client(target: Target, transport: str = "auto") -> Kubelet:
    """The client that every variant uses: a verified server, a client certificate."""
    credentials = ClientCertificate(target["cert"], target["key"])
    return Kubelet(target["url"], ca=target["ca"], credentials=credentials, transport=transport)


def download(
    target: Target, argv: list[str], size: int, how: str, warm: int = 0, pause: float = 0.0,
    digest: str | None = None, transport: str = "auto",
) -> dict[str, Any]:  # fmt: skip
    """stdout, taken ``how``: ``callback`` (a function gets views), ``readinto`` (256 KiB), ``read`` (to bytes)."""
    with client(target, transport) as node:
        pod = node.pod("demo")
        if warm:
            _download(pod, command(argv, warm), how, Consumer()).check(warm, None)
        consumer = Consumer(pause=pause, digest=digest is not None)
        with Meter() as meter:
            _download(pod, command(argv, size), how, consumer)
        consumer.check(size, digest)
        return meter.answer(size)


def _download(pod: Pod, argv: list[str], how: str, consumer: Consumer) -> Consumer:
    if how == "callback":
        pod.run(argv, container="main", stdout=consumer.take, stderr=None, check=True)
        return consumer
    with pod.popen(argv, container="main", stdout=PIPE, stderr=None) as process:
        assert process.stdout is not None
        if how == "read":
            read = process.stdout.read
            while data := read(UNIT):
                consumer.take(data)
        else:
            buffer = memoryview(bytearray(UNIT))
            readinto = process.stdout.readinto
            while count := readinto(buffer):
                consumer.take(buffer[:count])
        _exited(process.wait())
    return consumer


def upload(
    target: Target, argv: list[str], size: int, how: str, warm: int = 0, transport: str = "auto",
    masker: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """stdin, given ``how``: ``write`` (1 MiB each), ``iterable`` (of 256 KiB). Over WebSocket it is left open, as v4
    has no end of it, and ``masker`` names the strategy of the mask."""
    if masker is not None:
        use_masker(masker)
    with client(target, transport) as node:
        pod = node.pod("demo")
        if warm:
            _upload(pod, command(argv, warm), warm, how)
        with Meter() as meter:
            answer = _upload(pod, command(argv, size), size, how)
        check_upload(answer, size)
        return meter.answer(size)


def _upload(pod: Pod, argv: list[str], size: int, how: str) -> bytes:
    if how == "iterable":
        done = pod.run(argv, container="main", stdin=pieces(size), stderr=None, check=True)
        assert done.stdout is not None
        return done.stdout
    with pod.popen(argv, container="main", stdin=PIPE, stdout=PIPE, stderr=None) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        write, left = process.stdin.write, size
        while left:
            count = min(left, len(_ZEROS))
            write(_ZEROS[:count])
            left -= count
        if process.transport == "spdy":
            process.stdin.close()
        answer = process.stdout.read()
        _exited(process.wait())
    return answer


def pieces(size: int) -> Iterator[memoryview]:
    """``size`` zero bytes, 256 KiB at a time."""
    while size:
        count = min(size, UNIT)
        yield _ZEROS[:count]
        size -= count


def check_upload(answer: bytes, size: int) -> None:
    """Raises ValueError unless the peer counted every byte, and its digest, if it sent one, is that of zeros."""
    count, *digest = answer.split()
    if int(count) != size:
        raise ValueError(f"the peer counted {answer!r}, and {size} bytes were sent")
    if digest:
        expected = hashlib.sha256()
        for piece in pieces(size):
            expected.update(piece)
        if digest[0].decode() != expected.hexdigest():
            raise ValueError("the bytes reached the peer damaged: their digest is wrong")


def _exited(code: int) -> None:
    if code:
        raise ValueError(f"the command ended with {code}")


def latency(target: Target, argv: list[str], count: int) -> dict[str, Any]:
    """Whole short execs, one after another: dial, TLS, upgrade, streams, command, status, close."""
    sessions = []
    with client(target) as node, Meter() as meter:
        pod = node.pod("demo")
        for _ in range(count):
            start = time.perf_counter()
            pod.run(argv, container="main", check=True)
            sessions.append({"seconds": time.perf_counter() - start})
    return meter.answer(1, sessions=sessions, cpu_ms=1e3 * (meter.user + meter.system) / count)


def echo(target: Target, count: int, size: int = 64) -> dict[str, Any]:
    """Round trips of a small write and its echo."""
    data, times = bytes(size), []
    with (
        client(target) as node,
        node.pod("demo").popen(["echo"], container="main", stdin=PIPE, stdout=PIPE, stderr=None) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        buffer = memoryview(bytearray(size))
        write, readinto = process.stdin.write, process.stdout.readinto
        for _ in range(count):
            start = time.perf_counter()
            write(data)
            missing = size
            while missing:
                missing -= readinto(buffer[:missing])
            times.append(time.perf_counter() - start)
    return echo_answer(times, size)

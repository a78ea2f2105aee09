"""Forwarded ports beside Kubernetes' own port-forwarder, both at Kubernetes' own server, in turn.

The load is the same for both: this process connects to the local port that either has opened. Behind the server stands
a small program with a source, a sink and an echo.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

from benchmarks.goals import Goal
from benchmarks.harness import Bench, GoMissing, Outcome, Table, go_programs
from benchmarks.peers.processes import ROOT, Peer, python

_GO, _OURS = "Go's port-forwarder", "kubewire port-forward"
_SEVERAL: Final = 8
_SECONDS: Final = 60.0

_MEASURES: Final = (
    ("one connection, down", "GiB/s", True),
    ("one connection, up", "GiB/s", True),
    ("eight connections, down", "GiB/s", True),
    ("connections one after another", "1/s", True),
    ("connections, eight at a time", "1/s", True),
    ("one byte there and back", "us", False),
)
"""Name, unit, and whether more is better."""


def run(bench: Bench) -> Outcome:
    """Forwarded ports beside Go's port-forwarder: throughput, connections, latency."""
    outcome = Outcome("forward", "Forwarded ports, beside Go's port-forwarder, at Go's server")
    found: dict[str, dict[str, list[float]]] = {_GO: {}, _OURS: {}}
    cpu: dict[str, list[float]] = {_GO: [], _OURS: []}
    try:
        with bench.unpinned(), Peer(python("benchmarks.peers.services"), None) as services, _server(bench) as server:
            ports = services.ready["ports"]
            for number in range(bench.rounds):
                order = (_GO, _OURS) if number % 2 else (_OURS, _GO)
                for name in order:
                    bench.log(f"forward: {name}, round {number + 1}")
                    start = _go if name == _GO else _ours
                    with start(bench, server, ports) as (local, pid):
                        before = _cpu(pid)
                        for measure, value in _measure(bench, local):
                            found[name].setdefault(measure, []).append(value)
                        cpu[name].append(_cpu(pid) - before)
    except GoMissing as missing:
        outcome.problems.append(f"left out: {missing}")
        return outcome
    rows = []
    for measure, unit, more in _MEASURES:
        go, ours = found[_GO][measure], found[_OURS][measure]
        ratio = statistics.median(ours) / statistics.median(go)
        rows.append([f"{measure}, {unit}", _spread(go), _spread(ours), f"{ratio:.2f}"])
        sign: Any = "at least" if more else "at most"
        goal = 1.0 if unit == "GiB/s" else (1 / 1.5 if more else 1.5)
        outcome.goals.append(Goal(f"forwarding: {measure}, of Go's", sign, round(goal, 2), ratio, "x"))
    ratio = statistics.median(cpu[_OURS]) / statistics.median(cpu[_GO])
    rows.append(["the client's CPU seconds for all of it", _spread(cpu[_GO]), _spread(cpu[_OURS]), f"{ratio:.2f}"])
    note = "Median (least to most). Every byte is counted at the other end."
    outcome.tables.append(Table("forwarded ports over SPDY", ["", _GO, _OURS, "ratio"], rows, note))
    outcome.facts["forwarding"] = {"samples": found, "cpu": cpu}
    return outcome


def _spread(values: Sequence[float]) -> str:
    digits = 2 if statistics.median(values) < 100 else 0
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


# -- the two clients --------------------------------------------------------------------------------------------------


def _server(bench: Bench) -> Peer:
    """Kubernetes' port-forward server, which carries half-close on, so that uploads have an end."""
    files = {"cert": bench.files.certificate, "key": bench.files.key, "client-ca": bench.files.ca}
    argv = [str(go_programs() / "kwserver"), "-forward-grace=-1s"]
    return Peer([*argv, *(f"-{name}={path}" for name, path in files.items())], None)


_Started = Iterator[tuple[dict[str, int], int]]


@contextmanager
def _go(bench: Bench, server: Peer, ports: dict[str, int]) -> _Started:
    target = bench.target(server)
    argv = [
        str(go_programs() / "kwforward"), f"-url={server.url}/portForward/default/demo",
        f"-ports={','.join(f':{port}' for port in ports.values())}",
        *(f"-{name}={target[name]}" for name in ("ca", "cert", "key")),
    ]  # fmt: skip
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    with process:
        assert process.stdout is not None
        assert process.stdin is not None
        local = json.loads(process.stdout.readline())["ports"]
        yield dict(zip(ports, local, strict=True)), process.pid
        process.stdin.close()


@contextmanager
def _ours(bench: Bench, server: Peer, ports: dict[str, int]) -> _Started:
    target = bench.target(server)
    argv = [
        *python("kubewire", "port-forward", "--json", "--address=127.0.0.1", f"--kubelet={server.url}"),
        f"--certificate-authority={target['ca']}", f"--client-certificate={target['cert']}",
        f"--client-key={target['key']}", "demo", *(f":{port}" for port in ports.values()),
    ]  # fmt: skip
    process = subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    with process, ThreadPoolExecutor(1) as pool:
        assert process.stderr is not None
        local: dict[int, int] = {}
        while len(local) < len(ports):
            event = json.loads(process.stderr.readline())
            if event["event"] == "listening":
                local[event["port"]] = int(event["address"].rpartition(":")[2])
        drain = pool.submit(process.stderr.read)  # it tells every connection
        yield {name: local[port] for name, port in ports.items()}, process.pid
        process.terminate()
        drain.result()


def _cpu(pid: int) -> float:
    """Processor seconds of a process so far."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# -- the load ---------------------------------------------------------------------------------------------------------


def _measure(bench: Bench, local: dict[str, int]) -> Iterator[tuple[str, float]]:
    size = bench.size(256)
    _down(local["source"], 1 << 20)  # warm
    yield "one connection, down", _rate(size, lambda: _down(local["source"], size))
    yield "one connection, up", _rate(size, lambda: _up(local["sink"], size))
    share = size // _SEVERAL
    with ThreadPoolExecutor(_SEVERAL) as pool:

        def all_down() -> None:
            for done in [pool.submit(_down, local["source"], share) for _ in range(_SEVERAL)]:
                done.result()

        yield "eight connections, down", _rate(share * _SEVERAL, all_down)
        count = 100 if bench.quick else 400
        began = time.perf_counter()
        for _ in range(count):
            _touch(local["echo"])
        yield "connections one after another", count / (time.perf_counter() - began)
        began = time.perf_counter()
        for done in [pool.submit(_touch, local["echo"]) for _ in range(count)]:
            done.result()
        yield "connections, eight at a time", count / (time.perf_counter() - began)
    yield "one byte there and back", _round_trip(local["echo"], 200 if bench.quick else 2000)


def _rate(size: int, work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return size / (time.perf_counter() - began) / (1 << 30)


def _connect(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _down(port: int, size: int) -> None:
    room, got = bytearray(1 << 20), 0
    with _connect(port) as sock:
        sock.sendall(size.to_bytes(8, "big"))
        while count := sock.recv_into(room):
            got += count
    if got != size:
        raise RuntimeError(f"{got} bytes came down, {size} were sent")


def _up(port: int, size: int) -> None:
    block = memoryview(bytes(1 << 20))
    with _connect(port) as sock:
        left = size
        while left:
            sock.sendall(block[: min(left, len(block))])
            left -= min(left, len(block))
        sock.shutdown(socket.SHUT_WR)
        got = int.from_bytes(sock.recv(8), "big")
    if got != size:
        raise RuntimeError(f"{got} bytes came up, {size} were sent")


def _touch(port: int) -> None:
    with _connect(port) as sock:
        sock.sendall(b"x")
        if sock.recv(1) != b"x":
            raise RuntimeError("no echo")


def _round_trip(port: int, count: int) -> float:
    """The median, in microseconds."""
    times = []
    with _connect(port) as sock:
        for _ in range(count):
            began = time.perf_counter()
            sock.sendall(b"x")
            sock.recv(1)
            times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6

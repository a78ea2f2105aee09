"""What sessions cost: bytes, processor time and duration, for each session and direction, at each server.

A server has one ``SessionLog``. Its records are for Python (``FakeKubelet.sessions``, ``FakeApiserver.sessions``); the
same numbers, added up, are metrics.

What is counted: ``received`` and ``sent`` are the bytes that came from the client and went to it after the 101, TLS
taken off. The processor's seconds of a direction are what the server's thread spent on its batches: deciphering,
protocol, enciphering, and the system calls that write. Reading from the socket is done by the event loop for all
connections together, so it is in no session; ``cpu_seconds`` of a server is all that its thread spent. Commands in
threads or processes of their own count neither here nor there.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

SESSIONS_KEPT = 1000
"""How many past sessions a server remembers."""

PASSED = "passed_through"
"""Bytes handed on as they came."""

PROXIED = "proxied_to_kubelet"
"""A WebSocket that the kubelet itself takes."""

TRANSLATED = "translated_at_apiserver"
"""WebSocket v5 on one side, SPDY on the other."""

TUNNELLED = "tunneled_at_apiserver"
"""SPDY that came in a WebSocket. These are the words of ``proxy_type`` in a real apiserver's metrics."""

SERVED = "served"
"""Ends here: a kubelet's own."""


@dataclass(slots=True)
class SessionRecord:
    """One session at one server; readable from any thread while it goes on."""

    kind: str = ""
    """``exec``, ``attach``, ``portforward``, ``proxy``."""
    target: str = ""
    """Namespace, pod and container; or the node."""
    user: str = ""
    path: str = SERVED
    """What this server does with it."""
    started: float = field(default_factory=time.time)
    """Seconds since the epoch."""
    received: int = 0
    sent: int = 0
    cpu_received: float = 0.0
    """Processor seconds for what came from the client."""
    cpu_sent: float = 0.0
    """And for what went to it."""
    _began: float = field(default_factory=time.monotonic, repr=False)
    _seconds: float | None = field(default=None, repr=False)
    _over: threading.Event = field(default_factory=threading.Event, repr=False, compare=False)

    @property
    def open(self) -> bool:
        """Whether the connection is still there."""
        return self._seconds is None

    @property
    def seconds(self) -> float:
        """How long it took, or has taken so far."""
        return time.monotonic() - self._began if self._seconds is None else self._seconds

    def wait(self, timeout: float | None = None) -> None:
        """Wait for its end. Raises TimeoutError after ``timeout`` seconds."""
        if not self._over.wait(timeout):
            raise TimeoutError(f"the session {self.kind} {self.target} is still open after {timeout} s")

    @contextmanager
    def receiving(self) -> Iterator[None]:
        """Count what the block costs on the way in."""
        began = time.thread_time()
        try:
            yield
        finally:
            self.cpu_received += time.thread_time() - began

    @contextmanager
    def sending(self) -> Iterator[None]:
        """And on the way out."""
        began = time.thread_time()
        try:
            yield
        finally:
            self.cpu_sent += time.thread_time() - began

    def end(self) -> None:
        """Called by the server, once."""
        self._seconds = time.monotonic() - self._began
        self._over.set()


class SessionLog:
    """The sessions of one server, and their sums since it started."""

    def __init__(self) -> None:
        self._records: deque[SessionRecord] = deque(maxlen=SESSIONS_KEPT)
        self._sums: dict[tuple[str, str], list[float]] = {}
        self._lock = threading.Lock()
        self._live: dict[int, SessionRecord] = {}

    def began(self, record: SessionRecord) -> None:
        """A session has its 101."""
        with self._lock:
            self._records.append(record)
            self._live[id(record)] = record

    def ended(self, record: SessionRecord) -> None:
        """Its connection is gone."""
        record.end()
        with self._lock:
            self._live.pop(id(record), None)
            self._add(self._sums, record)

    @staticmethod
    def _add(sums: dict[tuple[str, str], list[float]], record: SessionRecord) -> None:
        row = sums.setdefault((record.kind, record.path), [0.0] * 6)
        values = (1, record.received, record.sent, record.cpu_received, record.cpu_sent, record.seconds)
        for index, value in enumerate(values):
            row[index] += value

    @property
    def records(self) -> list[SessionRecord]:
        """The last thousand, oldest first; open ones among them."""
        with self._lock:
            return list(self._records)

    def totals(self) -> dict[tuple[str, str], list[float]]:
        """By kind and path: sessions, bytes received and sent, processor seconds for either, seconds."""
        with self._lock:
            sums = {key: list(row) for key, row in self._sums.items()}
            for record in self._live.values():
                self._add(sums, record)
            return sums

    def collect(self) -> Iterator[Any]:
        """The metric families, for a registry of ``prometheus_client`` (the extra ``metrics``)."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        labels = ["kind", "proxy_type"]
        count = CounterMetricFamily("kubewire_sessions", "Sessions that got as far as a 101.", labels=labels)
        size = CounterMetricFamily(
            "kubewire_session_bytes", "Bytes of sessions after the 101, TLS taken off.", labels=[*labels, "direction"]
        )
        cpu = CounterMetricFamily(
            "kubewire_session_cpu_seconds", "Processor seconds of sessions.", labels=[*labels, "direction"]
        )
        time_ = CounterMetricFamily("kubewire_session_seconds", "Duration of sessions, added up.", labels=labels)
        for key, (sessions, received, sent, cpu_received, cpu_sent, seconds) in sorted(self.totals().items()):
            count.add_metric(list(key), sessions)
            time_.add_metric(list(key), seconds)
            for direction, amount, spent in (("received", received, cpu_received), ("sent", sent, cpu_sent)):
                size.add_metric([*key, direction], amount)
                cpu.add_metric([*key, direction], spent)
        yield from (count, size, cpu, time_)
        with self._lock:
            yield GaugeMetricFamily("kubewire_sessions_open", "Sessions that are open now.", value=len(self._live))

    def render(self) -> bytes:
        """The metrics as text. Raises ImportError without ``prometheus_client``."""
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)

"""The kubelet's metrics, in the exposition formats of Prometheus, written by its own client library.

That library comes with the extra ``metrics``; without it these endpoints say so. Nothing is collected ahead of a
scrape but the counts of requests.

Sources: ``k/k: pkg/kubelet/server/server.go``, ``pkg/kubelet/metrics``, ``pkg/kubelet/metrics/collectors``,
``component-base: metrics/prometheus/slis``; ``google/cadvisor: metrics/prometheus.go``.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from typing import Any

from fakekubelet.auth import User
from fakekubelet.messages import Request, Response, go_error
from fakekubelet.node import Node
from fakekubelet.nodeapi import CHECKS
from fakekubelet.podstate import ContainerState, PodState

Metric = Any  # of prometheus_client, which is not always there

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_METHODS = frozenset({"OPTIONS", "GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "CONNECT"})
_LONG = frozenset({"exec", "attach", "portforward", "debug"})

Labels = tuple[str, str, str, str]


class RequestCounts:
    """How many requests of which kind, and how long they took. Bounded: all labels come from short lists."""

    def __init__(self, buckets: Iterable[str]) -> None:
        self._known = frozenset(buckets)
        self.total: dict[Labels, int] = {}
        self.inflight: dict[Labels, int] = {}
        self.durations: dict[Labels, list[int]] = {}
        self.seconds: dict[Labels, float] = {}

    def begin(self, method: str, path: str, server: str) -> Labels:
        """A request has come."""
        parts = path.lstrip("/").split("/", 2)
        root = "/".join(parts[:2]) if parts[0] == "metrics" and len(parts) > 1 else parts[0]
        known = root if root in self._known else "other"
        labels = (method if method in _METHODS else "other", known, server, "true" if known in _LONG else "false")
        self.total[labels] = self.total.get(labels, 0) + 1
        self.inflight[labels] = self.inflight.get(labels, 0) + 1
        return labels

    def end(self, labels: Labels, seconds: float) -> None:
        """It was answered."""
        self.inflight[labels] -= 1
        counts = self.durations.setdefault(labels, [0] * (len(_BUCKETS) + 1))
        counts[bisect_left(_BUCKETS, seconds)] += 1
        self.seconds[labels] = self.seconds.get(labels, 0.0) + seconds


class MetricsAPI:
    """Handlers, as ``routing.Handler``: ``/metrics`` and what stands below it."""

    def __init__(self, node: Node, counts: RequestCounts) -> None:
        self._node = node
        self._counts = counts

    def kubelet(self, request: Request, user: User | None, names: dict[str, str]) -> Response:
        """``/metrics``"""
        return _expose(request, self._kubelet)

    def cadvisor(self, request: Request, user: User | None, names: dict[str, str]) -> Response:
        """``/metrics/cadvisor``"""
        return _expose(request, self._cadvisor)

    def resource(self, request: Request, user: User | None, names: dict[str, str]) -> Response:
        """``/metrics/resource``"""
        return _expose(request, self._resource)

    def probes(self, request: Request, user: User | None, names: dict[str, str]) -> Response:
        """``/metrics/probes``"""
        return _expose(request, self._probes)

    def slis(self, request: Request, user: User | None, names: dict[str, str]) -> Response:
        """``/metrics/slis``"""
        return _expose(request, self._slis)

    # -- what there is -----------------------------------------------------------------------------------------------

    def _containers(self) -> Iterator[tuple[PodState, ContainerState]]:
        for pod in self._node.pods.states:
            for container in pod.containers:
                if container.running:
                    yield pod, container

    def _kubelet(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        node, counts = self._node, self._counts
        name = GaugeMetricFamily("kubelet_node_name", "The node's name. The count is always 1.", labels=["node"])
        name.add_metric([node.name], 1)
        yield name
        pods = GaugeMetricFamily("kubelet_running_pods", "Number of pods that have a running pod sandbox")
        pods.add_metric([], sum(each.phase == "Running" for each in node.pods.states))
        yield pods
        containers = GaugeMetricFamily(
            "kubelet_running_containers", "Number of containers currently running", labels=["container_state"]
        )
        states = [each for pod in node.pods.states for each in pod.containers if each.started]
        running = sum(each.running for each in states)
        containers.add_metric(["running"], running)
        containers.add_metric(["exited"], len(states) - running)
        yield containers
        labels = ["method", "path", "server_type", "long_running"]
        total = CounterMetricFamily("kubelet_http_requests", "Number of the http requests received", labels=labels)
        inflight = GaugeMetricFamily(
            "kubelet_http_inflight_requests", "Number of the inflight http requests", labels=labels
        )
        seconds = HistogramMetricFamily(
            "kubelet_http_requests_duration_seconds", "Duration in seconds to serve http requests", labels=labels
        )
        for key, value in counts.total.items():
            total.add_metric(list(key), value)
            inflight.add_metric(list(key), counts.inflight.get(key, 0))
        for key, histogram in counts.durations.items():
            below = [sum(histogram[: index + 1]) for index in range(len(histogram))]
            bounds = [*map(str, _BUCKETS), "+Inf"]
            seconds.add_metric(list(key), list(zip(bounds, below, strict=True)), counts.seconds[key])
        yield total
        yield inflight
        yield seconds
        gates = GaugeMetricFamily(
            "kubernetes_feature_enabled",
            "This metric records the data about the stage and enablement of a k8s feature.",
            labels=["name", "stage"],
        )
        for gate in sorted(node.profile.gates):
            gates.add_metric([gate, "BETA"], 1)
        yield gates
        yield _start_time(node)

    def _cadvisor(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        labels = ["container", "id", "image", "name", "namespace", "pod"]
        cpu = CounterMetricFamily(
            "container_cpu_usage_seconds", "Cumulative cpu time consumed in seconds.", labels=[*labels, "cpu"]
        )
        memory = GaugeMetricFamily("container_memory_working_set_bytes", "Current working set in bytes.", labels=labels)
        start = GaugeMetricFamily(
            "container_start_time_seconds", "Start time of the container since unix epoch in seconds.", labels=labels
        )
        seen = GaugeMetricFamily("container_last_seen", "Last time a container was seen by the exporter", labels=labels)
        now = time.time()
        for pod, state in self._containers():
            container, uid = state.container, pod.pod.uid
            instance = state.identity(state.restarts).removeprefix("containerd://")
            key = [
                container.name,
                f"/kubepods/besteffort/pod{uid}/{instance}",
                container.image,
                instance,
                pod.pod.namespace,
                pod.pod.short_name,
            ]
            cpu.add_metric([*key, "total"], container.cpu * (now - state.main.started))
            memory.add_metric(key, container.memory)
            start.add_metric(key, state.main.started)
            seen.add_metric(key, int(now))
        yield from (cpu, memory, start, seen)
        for name, text, value in (
            ("machine_cpu_cores", "Number of logical CPU cores.", self._node.machine.cpus),
            ("machine_memory_bytes", "Amount of memory installed on the machine.", self._node.machine.memory),
        ):
            machine = GaugeMetricFamily(name, text)
            machine.add_metric([], value)
            yield machine

    def _resource(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        labels = ["container", "namespace", "pod"]
        cpu = CounterMetricFamily(
            "container_cpu_usage_seconds",
            "Cumulative cpu time consumed by the container in core-seconds",
            labels=labels,
        )
        memory = GaugeMetricFamily(
            "container_memory_working_set_bytes", "Current working set of the container in bytes", labels=labels
        )
        start = GaugeMetricFamily(
            "container_start_time_seconds",
            "Start time of the container since unix epoch in seconds",
            labels=labels,
        )
        pod_cpu = CounterMetricFamily(
            "pod_cpu_usage_seconds", "Cumulative cpu time consumed by the pod in core-seconds", labels=labels[1:]
        )
        pod_memory = GaugeMetricFamily(
            "pod_memory_working_set_bytes", "Current working set of the pod in bytes", labels=labels[1:]
        )
        now = time.time()
        sums: dict[tuple[str, str], tuple[float, int]] = {}
        for pod, state in self._containers():
            key = (pod.pod.namespace, pod.pod.short_name)
            used = state.container.cpu * (now - state.main.started)
            cpu.add_metric([state.container.name, *key], used)
            memory.add_metric([state.container.name, *key], state.container.memory)
            start.add_metric([state.container.name, *key], state.main.started)
            before = sums.get(key, (0.0, 0))
            sums[key] = (before[0] + used, before[1] + state.container.memory)
        for key, (seconds, held) in sums.items():
            pod_cpu.add_metric(list(key), seconds)
            pod_memory.add_metric(list(key), held)
        node_cpu = CounterMetricFamily(
            "node_cpu_usage_seconds", "Cumulative cpu time consumed by the node in core-seconds"
        )
        node_cpu.add_metric([], 0.05 * (now - self._node.started) + sum(each[0] for each in sums.values()))
        node_memory = GaugeMetricFamily("node_memory_working_set_bytes", "Current working set of the node in bytes")
        node_memory.add_metric([], (64 << 20) + sum(each[1] for each in sums.values()))
        error = GaugeMetricFamily(
            "resource_scrape_error", "1 if there was an error while getting container metrics, 0 otherwise"
        )
        error.add_metric([], 0)
        yield from (cpu, memory, start, node_cpu, node_memory, pod_cpu, pod_memory, error)

    def _probes(self) -> Iterator[Metric]:
        yield _start_time(self._node)

    def _slis(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        now = GaugeMetricFamily(
            "kubernetes_healthcheck", "This metric records the result of a single healthcheck.", labels=["name", "type"]
        )
        total = CounterMetricFamily(
            "kubernetes_healthchecks",
            "This metric records the results of all healthcheck.",
            labels=["name", "type", "status"],
        )
        for check in CHECKS:
            now.add_metric([check, "healthz"], 1)
            total.add_metric([check, "healthz", "success"], 1)
        yield from (now, total)


def _start_time(node: Node) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    start = GaugeMetricFamily("process_start_time_seconds", "Start time of the process since unix epoch in seconds.")
    start.add_metric([], node.started)
    return start


def _expose(request: Request, collect: Callable[[], Iterator[Metric]]) -> Response:
    if find_spec("prometheus_client") is None:
        return go_error(501, "metrics need prometheus_client: pip install 'kubewire[metrics]'")
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.registry import Collector

    class Here(Collector):
        def collect(self) -> Iterator[Metric]:
            return collect()

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Here())
    encode, kind = choose_encoder(", ".join(request.values(b"accept")))
    return Response(200, encode(registry), [("Content-Type", kind)])

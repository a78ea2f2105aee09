"""``kubewire port-forward``: at one kubelet, and in a cluster by its kubeconfig."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fakekubelet import FakeCluster, Pod, Port
from fakekubelet.ports import echo, http
from support.forwarded import read_all
from support.goforward import exchange

SECONDS = 30
REQUEST = b"GET /x HTTP/1.1\r\nConnection: close\r\n\r\n"


def web(name: str, port: int = 80) -> Pod:
    return Pod(f"default/{name}", labels={"app": "web"}, ports={port: Port(http, name="http"), 7: echo})


OBJECTS = (
    {
        "kind": "Deployment",
        "apiVersion": "apps/v1",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}},
    },
    {
        "kind": "Service",
        "apiVersion": "v1",
        "metadata": {"name": "front", "namespace": "default"},
        "spec": {
            "selector": {"app": "web"},
            "ports": [{"name": "main", "port": 8000, "targetPort": "http", "protocol": "TCP"}],
        },
    },
)


@contextmanager
def cluster_of(*pods: Pod) -> Iterator[FakeCluster]:
    with FakeCluster(pods=pods, objects=OBJECTS, forward_grace=None) as cluster:
        yield cluster


class Command:
    """A running ``kubewire port-forward --json``."""

    def __init__(self, cluster: FakeCluster, *arguments: str) -> None:
        environ = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig), "HOME": "/nonexistent"}
        argv = [sys.executable, "-m", "kubewire", "port-forward", "--json", "--address", "127.0.0.1", *arguments]
        self._process = subprocess.Popen(argv, stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=environ)
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._lines.put(line)

    def event(self, kind: str) -> dict[str, Any]:
        """The next event of this kind; others are passed over."""
        while True:
            event: dict[str, Any] = json.loads(self._lines.get(timeout=SECONDS))
            if event.get("event") == kind:
                return event

    def port(self) -> int:
        """The local port of the next listener."""
        return int(self.event("listening")["address"].rpartition(":")[2])

    def stop(self) -> tuple[int, dict[str, Any]]:
        """Exit code and statistics after SIGTERM."""
        self._process.send_signal(signal.SIGTERM)
        statistics = self.event("statistics")
        return self.wait(), statistics

    def wait(self) -> int:
        return self._process.wait(SECONDS)

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(SECONDS)
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()


@pytest.mark.parametrize("via", ["auto", "kubelet", "apiserver"])
@pytest.mark.parametrize("transport", ["spdy", "ws"])
def test_events_and_statistics(via: str, transport: str) -> None:
    with (
        cluster_of(web("web-1")) as cluster,
        Command(cluster, "web-1", ":80", f"--via={via}", f"--transport={transport}") as command,
    ):
        connected = command.event("connected")
        assert connected["pod"] == "default/web-1"
        assert connected["route"] == ("apiserver" if via == "apiserver" else "kubelet")
        assert connected["protocol"] == ("portforward.k8s.io" if transport == "spdy" else "SPDY/3.1+portforward.k8s.io")
        assert exchange(command.port(), REQUEST).endswith(b"GET /x HTTP/1.1\n")
        assert command.event("opened")["port"] == 80
        ended = command.event("ended")
        assert (ended["ended"], ended["sent"], ended["port"]) == ("finished", len(REQUEST), 80)
        code, statistics = command.stop()
    assert code == 0
    assert (statistics["connections"], statistics["ended"]) == (1, {"finished": 1})


@pytest.mark.parametrize(
    ("name", "port"),
    [
        ("deploy/web", ":80"),
        ("deploy/web", ":http"),
        ("svc/front", ":8000"),
        ("svc/front", ":main"),
        ("web-1", ":http"),
    ],
)
def test_targets_and_names(name: str, port: str) -> None:
    with cluster_of(web("web-1")) as cluster, Command(cluster, name, port) as command:
        assert command.event("connected")["pod"] == "default/web-1"
        assert exchange(command.port(), REQUEST).endswith(b"GET /x HTTP/1.1\n")


@pytest.mark.parametrize("via", ["kubelet", "apiserver"])
def test_a_pod_that_is_replaced_is_followed_and_the_listener_stays(via: str) -> None:
    with (
        cluster_of(web("web-1")) as cluster,
        Command(cluster, "svc/front", ":main", f"--via={via}", "--ping-period=0.2") as command,
    ):
        assert command.event("connected")["pod"] == "default/web-1"
        port = command.port()
        (kubelet,) = cluster.kubelets.values()
        with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert sock.recv(15) == b"HTTP/1.1 200 OK"
            kubelet.pods.add(web("web-2", 8080))  # with another port behind the same name
            kubelet.pods.remove("default/web-1")
            with pytest.raises(ConnectionResetError):
                read_all(sock)
            with pytest.raises(ConnectionResetError):
                exchange(port, REQUEST)  # the session lives on, and only a connection shows that the pod has gone
        assert command.event("lost")["pod"] == "default/web-1"
        assert command.event("connected")["pod"] == "default/web-2"
        assert exchange(port, REQUEST).endswith(b"GET /x HTTP/1.1\n")
        code, statistics = command.stop()
    assert code == 0
    assert statistics["ended"] == {"finished": 1, "failed": 2}


def test_once_ends_with_the_session() -> None:
    with cluster_of(web("web-1")) as cluster, Command(cluster, "web-1", ":80", "--once") as command:
        command.port()
        (kubelet,) = cluster.kubelets.values()
        kubelet.close()
        assert command.event("lost")["pod"] == "default/web-1"
        assert command.wait() == 255


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "kubewire", "port-forward", *arguments]
    return subprocess.run(argv, capture_output=True, timeout=SECONDS, check=False, text=True)


def test_wrong_usage_and_no_session() -> None:
    udp = run("--kubelet", "https://127.0.0.1:1", "demo", "53/udp")
    assert (udp.returncode, "TCP connections only" in udp.stderr) == (2, True)
    assert run("--kubelet", "https://127.0.0.1:1", "demo").returncode == 2
    nobody = run("--kubelet", "http://127.0.0.1:1", "demo", ":80", "--address=127.0.0.1")
    assert (nobody.returncode, "nothing listens on port 1" in nobody.stderr) == (255, True)
    assert len(nobody.stderr.splitlines()) == 1


def test_without_json_one_line_tells_each_change(tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    with cluster_of(web("web-1")) as cluster:
        environ = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig), "HOME": "/nonexistent"}
        argv = [sys.executable, "-m", "kubewire", "port-forward", "web-1", f"{path}:80"]
        with subprocess.Popen(argv, stderr=subprocess.PIPE, env=environ, text=True) as process:
            assert process.stderr is not None
            first, second = process.stderr.readline(), process.stderr.readline()
            assert path.is_socket()
            process.send_signal(signal.SIGINT)
            last = process.stderr.read()
    assert process.returncode == 0
    assert first == "kubewire: connected to pod default/web-1 by the kubelet, portforward.k8s.io over spdy\n"
    assert second == f"kubewire: forwarding {path} to port 80\n"
    assert last.startswith("kubewire: 0 connections in ")
    assert not path.exists()

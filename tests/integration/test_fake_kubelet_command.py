"""``kubewire fake``: a fake kubelet as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fakekubelet.faults import PRESETS
from kubewire.fake import fake
from spdyproto.channels.events import Lost, StreamSet
from support.rawclient import ExecClient, HttpClient, connect, exec_target, run, upgrade_headers, websocket_headers


@dataclass
class Pair:
    """A client certificate read from files."""

    cert_pem: bytes
    key_pem: bytes


@contextmanager
def serving(*arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, Any]]]:
    command = [sys.executable, "-m", "kubewire", "fake", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())
        finally:
            process.terminate()
            try:
                process.wait(20)
            finally:
                process.kill()


def pair(facts: dict[str, Any]) -> Pair:
    return Pair(Path(facts["client_certificate"]).read_bytes(), Path(facts["client_key"]).read_bytes())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_and_stops_cleanly(tmp_path: Path, number: int) -> None:
    folder = tmp_path / "new" / "with space"
    with serving("--write-config", str(folder)) as (process, facts):
        assert facts["kubelet"].startswith("https://127.0.0.1:")
        assert (facts["apiserver"], facts["kubeconfig"]) == (None, None)
        ca = Path(facts["ca"]).read_bytes()
        assert run(connect(facts["kubelet"], ca, pair(facts)), ["echo", "x"]).stdout == b"x\n"
        assert {path.name for path in folder.iterdir()} == {"ca.crt", "client.crt", "client.key"}
        assert os.stat(facts["client_key"]).st_mode & 0o777 == 0o600
        assert folder.stat().st_mode & 0o077 == 0
        process.send_signal(number)
        output, errors = process.communicate(timeout=20)
        assert (process.returncode, output, errors) == (0, b"", b"")


def test_processes_and_protocols_on_request(tmp_path: Path) -> None:
    arguments = ["--write-config", str(tmp_path), "--allow-processes", "--protocol", "v2.channel.k8s.io"]
    with serving(*arguments) as (_, facts):
        ca = Path(facts["ca"]).read_bytes()
        result = run(connect(facts["kubelet"], ca, pair(facts)), ["sh", "-c", "echo $0"], path="default/host/main")
        assert result.stdout == b"sh\n"
        with HttpClient(connect(facts["kubelet"], ca, pair(facts))) as http:
            answer = http.request("POST", exec_target(["true"]), upgrade_headers())
            assert answer.values("X-Stream-Protocol-Version") == ["v2.channel.k8s.io"]


def test_nothing_of_the_host_by_default(tmp_path: Path) -> None:
    with serving("--write-config", str(tmp_path), "--listen", ":0") as (_, facts):
        ca = Path(facts["ca"]).read_bytes()
        with HttpClient(connect(facts["kubelet"], ca, pair(facts))) as http:
            answer = http.request("POST", exec_target(["sh"], path="default/host/main"), upgrade_headers())
            assert (answer.status, answer.body) == (404, b"pod does not exist")


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--listen", "0.0.0.0:0"], 2, "--allow-remote"),
        (["--listen", "example.com:0"], 2, "expected an IP address"),
        (["--listen", "127.0.0.1:http"], 2, "expected a port"),
        (["--listen", "127.0.0.1:65536"], 2, "expected a port"),
        (["--protocol", "v9.channel.k8s.io"], 2, "v9.channel.k8s.io"),
        (["--profile", "1.30"], 2, "1.31"),
        (["--fault", "cut-everything"], 2, "expected one of cut-output"),
        (["--fault", "cut-output:many"], 2, "cut-output[:AFTER=0][:HOW=close_notify]"),
        (["extra"], 2, "extra"),
    ],
)
def test_wrong_usage(arguments: list[str], code: int, text: str) -> None:
    result = CliRunner().invoke(fake, arguments)
    assert result.exit_code == code
    assert text in result.output


def test_an_address_that_is_taken() -> None:
    with serving() as (_, facts):
        assert set(facts) == {"kubelet", "apiserver"}
        port = facts["kubelet"].rpartition(":")[2]
        done = subprocess.run(
            [sys.executable, "-m", "kubewire", "fake", "--listen", f"127.0.0.1:{port}"],
            capture_output=True,
            timeout=30,
            check=False,
        )
        assert (done.returncode, done.stdout) == (1, b"")
        assert b"cannot serve on" in done.stderr


def test_v5_over_websocket_is_accepted_when_it_is_named(tmp_path: Path) -> None:
    """Over SPDY, which has no v5, everything stays as it was."""
    with serving("--write-config", str(tmp_path), "--protocol", "v5.channel.k8s.io") as (_, facts):
        ca = Path(facts["ca"]).read_bytes()
        assert (
            run(connect(facts["kubelet"], ca, pair(facts)), ["cat"], stdin=b"x", websocket="v5.channel.k8s.io").code
            == 0
        )
        assert run(connect(facts["kubelet"], ca, pair(facts)), ["cat"], stdin=b"x").code == 0
        with HttpClient(connect(facts["kubelet"], ca, pair(facts))) as http:
            assert http.request("GET", exec_target(["true"]), websocket_headers(["v4.channel.k8s.io"])).status == 403


@pytest.mark.parametrize("websocket", [None, "v4.channel.k8s.io"])
def test_there_is_something_to_attach_to(tmp_path: Path, websocket: str | None) -> None:
    with serving("--write-config", str(tmp_path)) as (_, facts):
        ca = Path(facts["ca"]).read_bytes()

        def attach(container: str, **streams: bool) -> ExecClient:
            sock = connect(facts["kubelet"], ca, pair(facts))
            wanted = StreamSet(stdin=True, stderr=not streams.get("tty"), **streams)
            return ExecClient.open(sock, None, path=f"default/attach/{container}", streams=wanted, websocket=websocket)

        with attach("main") as client:
            client.send(b"hello")
            client.pump_until(lambda: bytes(client.stdout) == b"hello")
        with attach("tty", tty=True) as client:
            client.session.resize(80, 24)
            client.pump_until(lambda: bytes(client.stdout) == b"80x24\n")
        with attach("once") as watcher:
            with attach("once") as client:
                client.send(b"abc")
            assert watcher.finish().stdout.startswith(b"3 ba7816bf")


def test_faults_by_name(tmp_path: Path) -> None:
    arguments = ["--write-config", str(tmp_path), "--fault", "split-writes:3", "--fault", "lost-status"]
    with serving(*arguments) as (_, facts):
        result = run(connect(facts["kubelet"], Path(facts["ca"]).read_bytes(), pair(facts)), ["echo", "x"])
    assert isinstance(result.outcome, Lost)
    assert result.stdout == b"x\n"


def test_the_list_of_faults() -> None:
    done = CliRunner().invoke(fake, ["--list-faults"])
    assert done.exit_code == 0
    for name in PRESETS:
        assert f"\n{name}" in f"\n{done.output}"
    assert "https://github.com/kubernetes/kubernetes/issues/60140" in done.output


def test_a_version_by_name(tmp_path: Path) -> None:
    with serving("--write-config", str(tmp_path), "--profile", "1.36") as (_, facts):
        ca = Path(facts["ca"]).read_bytes()
        done = run(connect(facts["kubelet"], ca, pair(facts)), ["cat"], stdin=b"x", websocket="v5.channel.k8s.io")
        assert (done.code, done.stdout) == (0, b"x")


POD = """
kind: Pod
metadata:
  name: %s
  annotations:
    fakekubelet.container/main: |
      main: [echo, %s]
spec: {restartPolicy: Never, containers: [{name: main}]}
---
"""


def names(facts: dict[str, Any]) -> list[str]:
    with HttpClient(connect(facts["kubelet"], Path(facts["ca"]).read_bytes(), pair(facts))) as http:
        return sorted(each["metadata"]["name"] for each in json.loads(http.request("GET", "/pods").body)["items"])


def log_of(facts: dict[str, Any], pod: str) -> bytes:
    with HttpClient(connect(facts["kubelet"], Path(facts["ca"]).read_bytes(), pair(facts))) as http:
        return http.request("GET", f"/containerLogs/default/{pod}/main?follow=true").body


def test_pods_of_a_file_come_and_go_with_it(tmp_path: Path) -> None:
    manifest = tmp_path / "pods.yaml"
    manifest.write_text(POD % ("stays", "one") + POD % ("changes", "two") + POD % ("goes", "three"))
    with serving("--pods", str(manifest), "--write-config", str(tmp_path / "config")) as (process, facts):
        assert names(facts) == ["changes", "goes", "stays"]
        assert log_of(facts, "changes") == b"two\n"
        manifest.write_text(POD % ("stays", "one") + POD % ("changes", "new") + POD % ("comes", "four"))
        process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 30
        while names(facts) != ["changes", "comes", "stays"]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert log_of(facts, "changes") == b"new\n"
        manifest.write_text("kind: Nonsense")
        process.send_signal(signal.SIGHUP)
        assert process.stderr is not None
        assert process.stderr.readline().startswith(b"the pods stay as they are: ")
        assert names(facts) == ["changes", "comes", "stays"]


def test_the_ports_without_tls_on_request() -> None:
    with serving("--read-only-port", "0", "--healthz-port", "0") as (_, facts):
        for name in ("read_only_port", "healthz_port"):
            with urllib.request.urlopen(f"http://127.0.0.1:{facts[name]}/healthz", timeout=30) as answer:
                assert answer.read() == b"ok"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--pods", "/nonexistent"], "does not exist"),
        (["--pods", "FILE"], "expected objects of kind Pod, got 'Nonsense'"),
        (["--apiserver", "--healthz-port", "0"], "leave --apiserver out"),
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, arguments: list[str], reason: str) -> None:
    (tmp_path / "bad.yaml").write_text("kind: Nonsense")
    shown = [str(tmp_path / "bad.yaml") if each == "FILE" else each for each in arguments]
    result = CliRunner().invoke(fake, shown)
    assert result.exit_code == 2
    assert reason in " ".join(result.output.split())

"""``kubewire exec``: the choice of the transport, and what is told of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from fakekubelet import FakeKubelet
from fakekubelet.websockets import ALL_WEBSOCKET


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Of a kubelet that refuses SPDY."""
    folder = tmp_path_factory.mktemp("config")
    with FakeKubelet(protocols=[], websocket_protocols=ALL_WEBSOCKET) as kubelet:
        pair = kubelet.credentials()
        files = {"ca.crt": kubelet.ca, "client.crt": pair.cert_pem, "client.key": pair.key_pem}
        for name, content in files.items():
            (folder / name).write_bytes(content)
        yield [
            f"--kubelet={kubelet.url}",
            f"--certificate-authority={folder / 'ca.crt'}",
            f"--client-certificate={folder / 'client.crt'}",
            f"--client-key={folder / 'client.key'}",
            "--container=main",
        ]


def kubewire(options: list[str], *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "kubewire", "exec", *options, *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=30, check=False)


def test_choice_and_reasons_in_json(options: list[str]) -> None:
    done = kubewire(options, "-i", "--json", "demo", "--", "cat", stdin=b"through")
    assert (done.returncode, done.stdout) == (0, b"through")
    told = json.loads(done.stderr)
    assert (told["transport"], told["protocol"]) == ("ws", "v5.channel.k8s.io")
    assert [attempt["transport"] for attempt in told["attempts"]] == ["spdy", "ws"]
    assert told["attempts"][0]["reason"].startswith("HTTP 403")
    assert told["attempts"][1]["why"] == "where SPDY does not pass"


def test_choice_and_reasons_in_words(options: list[str]) -> None:
    done = kubewire(options, "-v", "demo", "--", "exit", "3")
    assert done.returncode == 3
    first, second, third = done.stderr.decode().splitlines()
    assert first.startswith("kubewire: spdy: HTTP 403")
    assert first.endswith("(tried: a kubelet of any age takes it, it ends stdin, and it needs no mask)")
    assert second == "kubewire: ws: v5.channel.k8s.io (chosen: where SPDY does not pass)"
    assert third.startswith("kubewire: exit code 3, v5.channel.k8s.io over WebSocket by the kubelet")


def test_refusal_tells_what_was_tried(options: list[str]) -> None:
    done = kubewire(options, "--transport=spdy", "--json", "demo", "--", "true")
    assert done.returncode == 255
    told = json.loads(done.stderr)
    assert told["error"]["type"] == "ProtocolNotSupported"
    assert [attempt["transport"] for attempt in told["attempts"]] == ["spdy"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--transport=carrier-pigeon"], "expected auto, spdy, ws"),
        (["--transport=ws:v4.channel.k8s.io", "-i"], "stdin could not be ended"),
    ],
)
def test_wrong_usage(options: list[str], arguments: list[str], text: str) -> None:
    done = kubewire(options, *arguments, "demo", "--", "cat")
    assert done.returncode == 2
    assert done.stdout == b""
    assert text in done.stderr.decode()

"""``kubewire exec`` straight to a kubelet over SPDY: streams, exit codes, and every way out."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fakekubelet import Container, FakeKubelet, Pod
from fakekubelet import faults as presets


@pytest.fixture(scope="module")
def kubelet() -> Iterator[FakeKubelet]:
    pods = [Pod("default/demo"), Pod("other/demo"), Pod("default/host", [Container("main", processes=True)])]
    with FakeKubelet(pods, allow_processes=True) as server:
        yield server


Trusting = Callable[[FakeKubelet], list[str]]


@pytest.fixture(scope="module")
def trust_of(tmp_path_factory: pytest.TempPathFactory) -> Trusting:
    """The options that a kubelet trusts, and that trust it."""

    def options(kubelet: FakeKubelet) -> list[str]:
        folder = tmp_path_factory.mktemp("config")
        pair = kubelet.credentials()
        for name, content in {"ca.crt": kubelet.ca, "client.crt": pair.cert_pem, "client.key": pair.key_pem}.items():
            (folder / name).write_bytes(content)
        return [
            f"--certificate-authority={folder / 'ca.crt'}",
            f"--client-certificate={folder / 'client.crt'}",
            f"--client-key={folder / 'client.key'}",
        ]

    return options


@pytest.fixture(scope="module")
def trust(kubelet: FakeKubelet, trust_of: Trusting) -> list[str]:
    return trust_of(kubelet)


@pytest.fixture(scope="module")
def options(kubelet: FakeKubelet, trust: list[str]) -> list[str]:
    return [f"--kubelet={kubelet.url}", *trust, "--container=main"]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "kubewire", "exec", *arguments]


def run(options: list[str], *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command(*options, *arguments), input=stdin, capture_output=True, timeout=30, check=False)


@pytest.mark.parametrize("code", [0, 3, 127, 255])
def test_exit_code_is_the_commands_own(options: list[str], code: int) -> None:
    done = run(options, "demo", "--", "exit", str(code))
    assert (done.returncode, done.stdout, done.stderr) == (code, b"", b"")


def test_outputs_stay_apart(options: list[str]) -> None:
    done = run(options, "default/host", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")


def test_stdin_from_a_pipe_and_from_a_file(options: list[str], tmp_path: Path) -> None:
    data = bytes(range(256)) * 4096
    assert run(options, "-i", "demo", "--", "cat", stdin=data).stdout == data
    file = tmp_path / "input"
    file.write_bytes(data)
    with file.open("rb") as opened:
        done = subprocess.run(
            command(*options, "-i", "demo", "--", "cat"), stdin=opened, capture_output=True, timeout=30
        )
    assert (done.returncode, done.stdout) == (0, data)


def test_without_i_stdin_is_left_alone(options: list[str]) -> None:
    assert run(options, "demo", "--", "echo", "x", stdin=b"for somebody else").stdout == b"x\n"


@pytest.mark.parametrize("namespace", [["other/demo"], ["-n", "other", "demo"], ["-n", "other", "other/demo"]])
def test_namespace(options: list[str], namespace: list[str]) -> None:
    assert run(options, *namespace, "--", "true").returncode == 0


def test_any_streaming_url(kubelet: FakeKubelet, trust: list[str]) -> None:
    url = f"{kubelet.url}/exec/default/demo/main?command=echo&command=x&output=1&error=1"
    done = run([f"--url={url}", *trust])
    assert (done.returncode, done.stdout, done.stderr) == (0, b"x\n", b"")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nosuch", "--", "true"], "HTTP 404: pod does not exist"),
        (["--timeout=0.5", "demo", "--", "sleep", "60"], "the timeout of 0.5 s passed"),
        (["demo", "--", "fail", "no such file"], "no such file"),
    ],
)
def test_an_exit_code_that_is_not_known_is_255_and_one_line(
    options: list[str], arguments: list[str], text: str
) -> None:
    done = run(options, *arguments)
    assert done.returncode == 255
    assert done.stdout == b""
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("kubewire: ")
    assert text in line


def test_failure_in_json(options: list[str]) -> None:
    told = json.loads(run(options, "--json", "nosuch", "--", "true").stderr)
    assert (told["exit_code"], told["http_status"], told["error"]["type"]) == (None, 404, "NotFound")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--kubelet=https://127.0.0.1:1", "--", "true"],
        ["--kubelet=https://127.0.0.1:1", "deploy/web", "--", "true"],
        ["--kubelet=https://127.0.0.1:1", "demo"],
        ["--kubelet=https://127.0.0.1:1", "-n", "a", "b/demo", "--", "true"],
        ["--kubelet=https://127.0.0.1:1", "--client-key=k", "demo", "--", "true"],
        ["--kubelet=ftp://127.0.0.1", "-c", "main", "demo", "--", "true"],
        ["--url=https://127.0.0.1:1/exec/x", "demo", "--", "true"],
    ],
)
def test_wrong_usage_is_2_and_says_why(arguments: list[str]) -> None:
    done = run([], *arguments)
    assert done.returncode == 2
    assert done.stderr
    assert b"Traceback" not in done.stderr


def test_ctrl_c(kubelet: FakeKubelet, options: list[str]) -> None:
    script = "echo started; sleep 60"
    with subprocess.Popen(command(*options, "host", "--", "sh", "-c", script), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130


def test_a_reader_that_has_left_ends_it_as_sigpipe_would(options: list[str]) -> None:
    with subprocess.Popen(
        command(*options, "demo", "--", "source", "1000000000"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(10) == bytes(10)
        process.stdout.close()
        assert process.wait(20) == 141
        assert process.stderr.read() == b""


def test_a_cold_start_imports_only_what_it_needs(options: list[str]) -> None:
    program = (
        "import sys; sys.argv = ['kubewire', 'exec', *sys.argv[1:]]\n"
        "from kubewire.cli import main\n"
        "try:\n    main()\nfinally:\n    print(*sorted(sys.modules), file=sys.stderr)"
    )
    arguments = [sys.executable, "-c", program, *options, "demo", "--", "true"]
    done = subprocess.run(arguments, capture_output=True, timeout=30, check=False)
    assert done.returncode == 0
    loaded = set(done.stderr.decode().split())
    assert "kubeletclient.sync.pump" in loaded
    needless = {"asyncio", "httpx", "h2", "rich", "yaml", "cryptography", "fakekubelet", "importlib.metadata"}
    assert not loaded & (needless | {"kubeletclient.aio", "spdyproto.websocket.connection", "kubewire.fake"})


@pytest.mark.parametrize("transport", ["spdy", "ws"])
def test_a_dead_peer_is_noticed_within_the_deadline_of_the_options(trust_of: Trusting, transport: str) -> None:
    with FakeKubelet(faults=[presets.NoPong()]) as silent:
        options = [f"--kubelet={silent.url}", *trust_of(silent), "--container=main", f"--transport={transport}"]
        lively = ["--ping-period=0.1", "--ping-deadline=0.5", "--json"]
        done = run([*options, *lively], "demo", "--", "sleep", "30")
        assert done.returncode == 255
        told = json.loads(done.stderr)
        assert told["error"]["type"] == "PeerNotResponding"
        assert "deadline 0.5 s" in told["error"]["message"]
        assert told["received"] == {"stdout": 0, "stderr": 0, "error": 0}
        assert told["owed"]
        assert run([*options, "--ping-period=0"], "demo", "--", "sleep", "1").returncode == 0

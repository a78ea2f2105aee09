"""The Go peers against each other, and the golden bytes they made: what judges the project has to be right itself."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import pytest

from support.gopeers import SOURCES, GoReport, GoServer, random_bytes, run_go_client
from support.pki import Pki

pytestmark = [pytest.mark.interop, pytest.mark.usefixtures("go_peers"), pytest.mark.timeout(300)]
MIB = 1 << 20
VECTORS = SOURCES.parents[1] / "vectors" / "spdystream"
V1 = "channel.k8s.io"


class Run(Protocol):
    def __call__(self, *command: str, **options: object) -> GoReport: ...


def runner(server: GoServer, pki: Pki) -> Run:
    """The Go client at `server`, as the client it knows unless a test says otherwise."""

    def run(*command: str, **options: object) -> GoReport:
        identity = {"ca": pki.ca, "certificate": pki.client_certificate, "key": pki.client_key}
        return run_go_client(server.url, command, **{**identity, **options})  # type: ignore[arg-type] # checked there

    return run


@pytest.fixture(scope="module")
def server(go_peers: Path, pki: Pki) -> Iterator[GoServer]:
    with GoServer(pki.server_certificate, pki.server_key, client_ca=pki.ca, allow_processes=True) as running:
        yield running


@pytest.fixture
def run(server: GoServer, pki: Pki) -> Run:
    return runner(server, pki)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_echo_over_v4_although_v5_is_offered_first(run: Run) -> None:
    report = run("echo", "hello", "kubelet")
    assert (report.exit_code, report.error, report.stdout, report.stderr) == (0, "", b"hello kubelet\n", b"")
    assert report.session.exited
    assert 0 < report.session.seconds <= report.wall_seconds


def test_exit_code(run: Run) -> None:
    report = run("exit", "3")
    assert (report.exit_code, report.session.exited) == (3, True)
    assert report.error == "command terminated with exit code 3"


def test_failure_without_exit_code(run: Run) -> None:
    report = run("fail", "no such container")
    assert (report.exit_code, report.session.exited) == (255, False)
    assert "no such container" in report.error


def test_outputs_stay_apart(run: Run) -> None:
    report = run("both", "3")
    assert report.stdout == b"out 0\nout 1\nout 2\n"
    assert report.stderr == b"err 0\nerr 1\nerr 2\n"


def test_download_by_digest(run: Run) -> None:
    report = run("source", str(64 * MIB), stdout="hash")
    assert report.session.stdout.bytes == 64 * MIB
    assert report.session.stdout.sha256 == digest(bytes(64 * MIB))


def test_upload_by_digest(run: Run) -> None:
    report = run("sink", stdin=f"random:{64 * MIB}:upload")
    assert report.stdout.decode() == f"{64 * MIB} {digest(random_bytes(64 * MIB, 'upload'))}\n"
    assert report.session.stdin_bytes == 64 * MIB


def test_both_ways_at_once(run: Run) -> None:
    report = run("cat", stdin=f"random:{16 * MIB + 1}:echo", stdout="hash")
    assert report.session.stdout.sha256 == digest(random_bytes(16 * MIB + 1, "echo"))


def test_generators_agree(run: Run) -> None:
    assert run("random", "100001", "7").stdout == random_bytes(100001, 7)


def test_counted_without_digest(run: Run) -> None:
    report = run("discard", stdin=f"zero:{MIB}")
    assert report.stdout == b"%d\n" % MIB
    report = run("source", str(MIB), stdout="discard", stderr="none")
    assert (report.session.stdout.bytes, report.session.stdout.sha256) == (MIB, "")


def test_stdin_ends_early_is_unread_or_never_ends(run: Run) -> None:
    assert run("early-exit", "10", stdin=f"zero:{64 * MIB}").exit_code == 0
    assert run("ignore-stdin", "0.05", stdin=f"zero:{64 * MIB}").exit_code == 0
    assert run("echo", "done", stdin="hold").stdout == b"done\n"


def test_terminal_sizes(run: Run) -> None:
    assert run("sizes", "2", tty=True, resize=[(80, 24), (132, 43)]).stdout == b"80x24\n132x43\n"


def test_many_sessions(run: Run) -> None:
    report = run("cat", stdin="random:65536:many", stdout="hash", stderr="hash", repeat=60, parallel=20)
    assert len(report.sessions) == 60
    assert {s.stdout.sha256 for s in report.sessions} == {digest(random_bytes(65536, "many"))}
    assert report.cpu_seconds > 0
    assert report.max_rss_kib > 0


def test_processes_of_the_host(run: Run) -> None:
    report = run("sh", "-c", "cat; echo oops >&2; exit 42", stdin=b"piped")
    assert (report.exit_code, report.stdout, report.stderr) == (42, b"piped", b"oops\n")
    assert run("sh", "-c", "kill -TERM $$").exit_code == 128 + signal.SIGTERM
    assert "failed to exec in container" in run("/no/such/program").error


def test_processes_only_when_allowed() -> None:
    with GoServer() as server:
        assert "host processes are not allowed" in run_go_client(server.url, ["sh", "-c", "true"]).error


@pytest.mark.parametrize("outputs_end", ["fin", "reset"])
@pytest.mark.parametrize("version", ["v1", "v2", "v3", "v4"])
def test_each_protocol_version(version: str, outputs_end: str) -> None:
    name = V1 if version == "v1" else f"{version}.{V1}"
    with GoServer(protocols=[name], outputs_end=outputs_end) as server:  # type: ignore[arg-type] # parametrised
        report = run_go_client(server.url, ["both", "2"])
        assert (report.exit_code, report.stdout, report.stderr) == (0, b"out 0\nout 1\n", b"err 0\nerr 1\n")
        failed = run_go_client(server.url, ["exit", "3"])
    if version == "v4":
        assert (failed.exit_code, failed.session.exited) == (3, True)
    elif version == "v1":
        # The server resets the error stream before the command runs, so its text comes too late for client-go.
        assert (failed.exit_code, failed.error) == (0, "")
    else:
        assert failed.exit_code == 255
        assert "exit code 3" in failed.error


def test_protocols_in_common(server: GoServer, run: Run) -> None:
    assert "unable to negotiate protocol" in run("echo", protocols="v9.channel.k8s.io").error
    assert run("exit", "3", protocols="v2,v4").exit_code == 255  # the client's order decides


@pytest.mark.parametrize("command", ["vanish", "cut"])
def test_client_go_takes_a_lost_session_for_success(run: Run, command: str) -> None:
    """The hazard that kubewire exists to avoid: no status came, and client-go reports none missing."""
    report = run(command, "5")
    assert (report.exit_code, report.error) == (0, "")


def test_credentials(server: GoServer, run: Run, pki: Pki) -> None:
    assert "Unauthorized" in run("echo", certificate=None, key=None).error
    stranger = {"certificate": pki.stranger_certificate, "key": pki.stranger_key}
    assert "Unauthorized" in run("echo", **stranger).error
    assert "certificate" in run("echo", ca=pki.client_certificate).error


def test_bearer_token(pki: Pki, tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text("correct\n")
    bad.write_text("wrong\n")
    with GoServer(pki.server_certificate, pki.server_key, client_ca=pki.ca, token_file=good) as server:
        assert run_go_client(server.url, ["echo"], ca=pki.ca, token_file=good).exit_code == 0
        assert "Unauthorized" in run_go_client(server.url, ["echo"], ca=pki.ca, token_file=bad).error


def get(url: str, context: ssl.SSLContext | None = None) -> tuple[int, str]:
    address = urlsplit(url)
    if context is None:
        connection = http.client.HTTPConnection(address.netloc, timeout=30)
    else:
        connection = http.client.HTTPSConnection(address.netloc, timeout=30, context=context)
    connection.request("GET", f"{address.path}?{address.query}")
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


@pytest.mark.parametrize(
    ("target", "status", "body"),
    [
        ("/exec/default/demo/main?command=x", 400, "you must specify at least 1 of stdin, stdout, stderr"),
        ("/exec/default/other/main?command=x", 400, "you must specify at least 1 of stdin, stdout, stderr"),
        ("/exec/default/other/main?command=x&output=1", 404, "pod does not exist"),
        ("/exec/default/demo/other?command=x&output=1", 500, 'container not found ("other")'),
        ("/exec/default/demo/main?command=x&output=1", 500, "Upgrade request required"),
        ("/exec/default/demo/uid/main?command=x&output=1", 500, "Upgrade request required"),
    ],
)
def test_refusals_in_the_order_of_a_kubelet(target: str, status: int, body: str) -> None:
    with GoServer() as server:
        assert get(server.url + target) == (status, body)


def test_server_reports_its_cost(server: GoServer, run: Run, pki: Pki) -> None:
    before = server.usage()
    run("source", str(64 * MIB), stdout="discard")
    after = server.usage()
    assert after.cpu > before.cpu
    context = ssl.create_default_context(cafile=str(pki.ca))
    context.load_cert_chain(pki.client_certificate, pki.client_key)
    status, body = get(f"{server.url}/debug/cpu", context)
    assert status == 200
    assert json.loads(body)["user"] >= after.user


def test_server_ends_with_its_test_and_takes_its_processes_along() -> None:
    with GoServer(allow_processes=True) as server:
        left = run_go_client(server.url, ["sh", "-c", "echo $$; exec sleep 600"], timeout=1)
        assert "deadline exceeded" in left.error
        pid = int(left.stdout)
        os.kill(pid, 0)  # as in a real container, it survives its client
        pids = [server.pid, pid]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_server_that_dies_is_reported() -> None:
    with pytest.raises(RuntimeError, match="kwserver ended with -9"), GoServer() as server:
        os.kill(server.pid, signal.SIGKILL)


def test_background_processes_end_with_their_command() -> None:
    with GoServer(allow_processes=True) as server:
        report = run_go_client(server.url, ["sh", "-c", "sleep 600 >/dev/null 2>&1 & echo $!"])
        # Killed, but as an orphan; whoever adopts it may not have buried it yet.
        status = Path(f"/proc/{int(report.stdout)}/stat")
        assert not status.exists() or status.read_text().rpartition(")")[2].split()[0] in "ZX"


def test_golden_frames_are_what_the_framer_writes(go_peers: Path, tmp_path: Path) -> None:
    subprocess.run([go_peers / "kwvectors", "-out", tmp_path, "-only", "frames"], check=True, timeout=120)
    assert (tmp_path / "frames.json").read_text() == (VECTORS / "frames.json").read_text()


def test_golden_dialogues_can_be_captured_again(go_peers: Path, tmp_path: Path) -> None:
    subprocess.run(
        [go_peers / "kwvectors", "-out", tmp_path, "-only", "dialogues"],
        check=True, timeout=120, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    fresh, golden = (json.loads((folder / "dialogues.json").read_text()) for folder in (tmp_path, VECTORS))
    assert fresh["source"] == golden["source"]
    for mine, theirs in zip(fresh["dialogues"], golden["dialogues"], strict=True):
        for key in ("name", "protocol", "stdout", "stderr", "exit_code", "error", "response_head"):
            assert without_date(mine[key]) == without_date(theirs[key])


def without_date(value: object) -> object:
    if not isinstance(value, str):
        return value
    return "\n".join(line for line in value.splitlines() if not line.startswith("Date:"))


@pytest.mark.parametrize("arguments", [["vet", "./..."], ["test", "-count=1", "./..."]], ids=["vet", "test"])
def test_go_sources(arguments: list[str]) -> None:
    go = shutil.which("go")
    assert go is not None, "the peers were built with it"
    done = subprocess.run([go, *arguments], cwd=SOURCES, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr

"""Real processes as a container: only when allowed by name, and gone when the server is."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakekubelet import Container, FakeKubelet, Pod
from spdyproto.channels.events import StreamKind, StreamSet
from support.fakes import Caller

HOST = "default/host/main"
POD = Pod("default/host", [Container("main", processes=True, environment={"GREETING": "hello"})])
MIB = 1 << 20


@pytest.fixture(scope="module")
def caller() -> Iterator[Caller]:
    with FakeKubelet([POD], allow_processes=True) as kubelet:
        yield Caller(kubelet)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_processes_must_be_allowed_by_name() -> None:
    with pytest.raises(PermissionError, match=r"container 'main' .*allow_processes=True"):
        FakeKubelet([POD])
    with FakeKubelet() as kubelet, pytest.raises(PermissionError, match="allow_processes"):
        kubelet.pods.add(POD)


def test_outputs_apart_and_exit_code(caller: Caller) -> None:
    result = caller.run(["sh", "-c", "echo out; echo err >&2; exit 7"], path=HOST)
    assert (result.code, result.stdout, result.stderr) == (7, b"out\n", b"err\n")
    assert result.message.endswith("error executing command [sh -c echo out; echo err >&2; exit 7], exit code 7")


def test_a_signal_is_128_and_its_number(caller: Caller) -> None:
    assert caller.run(["sh", "-c", "kill -9 $$"], path=HOST).code == 137


def test_stdin_reaches_its_end(caller: Caller) -> None:
    data = os.urandom(2 * MIB)
    assert (
        caller.run(["sha256sum"], path=HOST, stdin=data).stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()
    )


def test_without_stdin_there_is_only_its_end(caller: Caller) -> None:
    assert caller.run(["cat"], path=HOST).code == 0


def test_environment_and_folder_are_the_containers_own(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBEWIRE_TEST_SECRET", "must not be seen")
    result = caller.run(["sh", "-c", "env; pwd"], path=HOST)
    lines = result.stdout.decode().split()
    folder = lines[-1]
    assert "GREETING=hello" in lines
    assert f"HOME={folder}" in lines
    assert not any("SECRET" in line for line in lines)
    assert folder != os.getcwd()
    assert os.listdir(folder) == []


def test_files_stay_from_one_exec_to_the_next(caller: Caller) -> None:
    caller.run(["sh", "-c", "echo kept > note"], path=HOST)
    assert caller.run(["cat", "note"], path=HOST).stdout == b"kept\n"
    caller.run(["rm", "note"], path=HOST)


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["no-such-program"], 'exec: "no-such-program": executable file not found in $PATH'),
        (["/no/such/program"], 'exec: "/no/such/program": stat /no/such/program: no such file or directory'),
        (["./plain"], 'exec: "./plain": permission denied'),
        (["/bin"], 'exec: "/bin": permission denied'),
    ],
)
@pytest.mark.parametrize("tty", [False, True])
def test_a_program_that_cannot_be_started(caller: Caller, argv: list[str], why: str, tty: bool) -> None:
    caller.run(["sh", "-c", "echo > plain"], path=HOST)
    result = caller.run(argv, path=HOST, tty=tty)
    assert result.code is None
    assert f"unable to start container process: {why}: unknown" in result.message
    caller.run(["rm", "plain"], path=HOST)


def test_no_command_at_all(caller: Caller) -> None:
    assert caller.run([], path=HOST).message.endswith("no command given")


def test_a_process_that_ends_while_stdin_flows(caller: Caller) -> None:
    with caller.open(["head", "-c", "5"], path=HOST, streams=StreamSet(stdin=True)) as client:
        client.send(b"x" * 100_000)
        result = client.finish()
        assert (result.code, result.stdout) == (0, b"xxxxx")


def test_a_process_that_does_not_read_stops_the_client(caller: Caller) -> None:
    with caller.open(["sleep", "0.8"], path=HOST, streams=StreamSet(stdin=True)) as client:
        client.sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.send(bytes(64 * MIB))
        assert caller.kubelet.executions[-1].received < 8 * MIB


def test_a_client_that_does_not_read_stops_the_process(caller: Caller) -> None:
    with caller.open(["sh", "-c", "echo $$; exec cat /dev/zero"], path=HOST) as client:
        client.pump_until(lambda: b"\n" in client.stdout)
        execution = caller.kubelet.executions[-1]
        last = -1
        while (now := execution.sent[StreamKind.STDOUT]) != last:
            last = now
            time.sleep(0.2)
        assert last < 32 * MIB
    status = execution.wait(10)  # the pipe broke under it
    assert status is not None
    assert status.code == 141


def test_a_terminal_with_its_size(caller: Caller) -> None:
    command = "read -r _; tty >/dev/null && stty size; echo err >&2; echo $TERM"
    streams = StreamSet(stdin=True, stderr=False, tty=True)
    with caller.open(["sh", "-c", command], path=HOST, streams=streams) as client:
        client.session.resize(132, 43)
        client.send(b"go\n")
        result = client.finish()
    assert (result.code, result.stdout) == (0, b"go\r\n43 132\r\nerr\r\nxterm\r\n")


ON_RESIZE = """
import os, signal, sys
signal.signal(signal.SIGWINCH, lambda *_: print(*os.get_terminal_size(), flush=True))
print(*os.get_terminal_size(), "ready", flush=True)
while True:
    signal.pause()
"""


@pytest.mark.parametrize("websocket", [None, "v4.channel.k8s.io"])
def test_a_terminal_that_changes_its_size_says_so(caller: Caller, websocket: str | None) -> None:
    """The size at the start, then what attach does: one more, a bit larger, and the true one; each is a SIGWINCH."""
    streams = StreamSet(stdin=True, stderr=False, tty=True)
    argv = [sys.executable, "-I", "-S", "-c", ON_RESIZE]
    with caller.open(argv, path=HOST, streams=streams, websocket=websocket) as client:
        client.session.resize(70, 20)
        client.pump_until(lambda: b"ready\r\n" in client.stdout)
        for width, height in ((81, 25), (80, 24)):
            client.session.resize(0, 7)  # without meaning
            client.session.resize(width, height)
            line = b"%d %d\r\n" % (width, height)
            client.pump_until(lambda: bytes(client.stdout).endswith(line))  # noqa: B023 - done before the next line
    lines = bytes(client.stdout).split(b"\r\n")
    assert b"0" not in [word for line in lines[1:] for word in line.split()]


def test_the_end_of_stdin_on_a_terminal(caller: Caller) -> None:
    result = caller.run(["cat"], path=HOST, stdin=b"line\n", tty=True)
    assert (result.code, result.stdout) == (0, b"line\r\nline\r\n")


@pytest.mark.parametrize("tty", [False, True])
def test_closing_the_server_kills_what_runs(tty: bool) -> None:
    with FakeKubelet([POD], allow_processes=True) as kubelet:
        # A shell that ignores what it can, with a child of its own.
        script = "trap '' HUP TERM INT; sleep 1000 & echo $$ $!; wait"
        streams = StreamSet(stdin=True, stderr=not tty, tty=tty)
        client = Caller(kubelet).open(["sh", "-c", script], path=HOST, streams=streams)
        with client:
            client.pump_until(lambda: b"\n" in client.stdout)
            pids = [int(word) for word in client.stdout.split()]
            assert all(alive(pid) for pid in pids)
            kubelet.close()
    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline, "a process outlived its server"
        time.sleep(0.01)


def test_the_process_goes_on_when_its_client_leaves_and_dies_with_the_server() -> None:
    with FakeKubelet([POD], allow_processes=True) as kubelet:
        with Caller(kubelet).open(["sh", "-c", "echo $$; exec sleep 1000"], path=HOST) as client:
            client.pump_until(lambda: b"\n" in client.stdout)
            pid = int(client.stdout)
        kubelet.executions[0].wait_client_left(10)
        assert alive(pid)
    assert not alive(pid)


def test_the_folder_is_removed_with_the_server() -> None:
    with FakeKubelet([POD], allow_processes=True) as kubelet:
        folder = Path(Caller(kubelet).run(["sh", "-c", "touch x; pwd"], path=HOST).stdout.decode().strip())
        assert folder.is_dir()
    assert not folder.exists()

"""Exec on the fake kubelet: the scripted container, all protocol versions, the end of a session on the wire."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from functools import partial

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from fakekubelet import Command, Container, FakeKubelet, Pod
from spdyproto.channels.events import Lost, Ready, StreamKind, StreamSet
from spdyproto.channels.session import ClientSession
from spdyproto.channels.subprotocols import CRI_SPDY, Subprotocol
from spdyproto.spdy.constants import RstStatus
from support.fakes import Caller
from support.rawclient import ExecClient, HttpClient, exec_target, upgrade_headers

MIB = 1 << 20


class Broken(Command):
    """A command with a fault of its own."""

    def stdin(self, data: memoryview) -> None:
        raise ZeroDivisionError("cannot take this")


@pytest.fixture(scope="module")
def caller() -> Iterator[Caller]:
    tree: dict[str, str | bytes] = {"/srv/a.txt": "alpha\n", "/srv/sub/b.bin": b"\x00\xff", "/srv/empty/": ""}
    containers = [Container("main"), Container("files", files=tree), Container("broken", behaviour=Broken)]
    with FakeKubelet([Pod("default/demo", containers)]) as kubelet:
        yield Caller(kubelet)


def keystream(size: int, seed: str) -> bytes:
    key = hashlib.sha256(seed.encode()).digest()[:16]
    return Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(size))


@pytest.mark.parametrize(
    ("argv", "code", "stdout", "stderr"),
    [
        (["echo", "a", "b c", "ü"], 0, "a b c ü\n".encode(), b""),
        (["echo"], 0, b"\n", b""),
        (["true"], 0, b"", b""),
        (["false"], 1, b"", b""),
        (["exit", "0"], 0, b"", b""),
        (["exit", "3"], 3, b"", b""),
        (["exit", "255"], 255, b"", b""),
        (["source", "0"], 0, b"", b""),
        (["source", "5"], 0, bytes(5), b""),
        (["both", "2"], 0, b"out 0\nout 1\n", b"err 0\nerr 1\n"),
        (["sleep", "0"], 0, b"", b""),
        (["cat"], 0, b"", b""),  # stdin was not asked for, so it is at its end
        (["sink"], 0, b"0 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n", b""),
        (["discard"], 0, b"0\n", b""),
        (["early-exit", "0"], 0, b"", b""),
        (["ls", "/nope"], 1, b"", b"ls: /nope: No such file or directory\n"),
        (["cat", "/etc/hostname"], 0, b"demo\n", b""),
    ],
)
def test_scripted_commands(caller: Caller, argv: list[str], code: int, stdout: bytes, stderr: bytes) -> None:
    result = caller.run(argv)
    assert (result.code, result.stdout, result.stderr) == (code, stdout, stderr)


@pytest.mark.parametrize(
    ("argv", "code", "stdout", "stderr"),
    [
        (["ls"], 0, b"srv\n", b""),
        (["ls", "/srv"], 0, b"a.txt\nempty\nsub\n", b""),
        (["ls", "srv/sub/.."], 0, b"a.txt\nempty\nsub\n", b""),
        (["ls", "/srv/empty"], 0, b"", b""),
        (["ls", "/srv/a.txt"], 0, b"/srv/a.txt\n", b""),
        (["cat", "/srv/sub/b.bin", "/srv/a.txt"], 0, b"\x00\xffalpha\n", b""),
        (["cat", "/srv", "/srv/a.txt"], 1, b"alpha\n", b"cat: /srv: Is a directory\n"),
    ],
)
def test_a_declared_tree(caller: Caller, argv: list[str], code: int, stdout: bytes, stderr: bytes) -> None:
    result = caller.run(argv, path="default/demo/files")
    assert (result.code, result.stdout, result.stderr) == (code, stdout, stderr)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "no command given"),
        (["exit", "256"], "exit: expected an exit code of 0 to 255, got 256"),
        (["exit", "-1"], "exit: expected 1 decimal number(s), got ['-1']"),
        (["source"], "source: expected 1 decimal number(s), got []"),
        (["source", "9" * 19], "source: expected numbers below 10**18"),
        (["random", "5"], "random: expected a byte count and a seed, got 1 arguments"),
        (["sleep", "nan"], "sleep: expected 0 to 1,000,000 seconds, got nan"),
        (["sleep", "soon"], "sleep: expected a number of seconds, got ['soon']"),
        (["early-exit", "5"], "stdin ended 5 bytes too early"),
        (["sizes", "1"], "this session has no resize stream"),
        (["fail", "disk", "on fire"], "disk on fire"),
        (
            ["nope"],
            "failed to exec in container: failed to start exec: OCI runtime exec failed: exec failed: "
            'unable to start container process: exec: "nope": executable file not found in $PATH: unknown',
        ),
    ],
)
def test_failures_around_the_command_carry_no_exit_code(caller: Caller, argv: list[str], message: str) -> None:
    result = caller.run(argv)
    assert result.code is None
    assert result.message == f"Internal error occurred: error executing command in container: {message}"


def test_a_nonzero_exit_is_told_in_the_words_of_containerd(caller: Caller) -> None:
    message = "command terminated with non-zero exit code: error executing command [exit 3], exit code 3"
    assert caller.run(["exit", "3"]).message == message


def test_a_fault_of_a_command_is_the_commands_failure(caller: Caller) -> None:
    result = caller.run(["x"], path="default/demo/broken", stdin=b"y")
    assert result.code is None
    assert result.message.endswith("ZeroDivisionError: cannot take this")


@pytest.mark.parametrize("size", [1, 262112, 262113, 3 * MIB + 7])
def test_random_is_the_documented_keystream(caller: Caller, size: int) -> None:
    assert caller.run(["random", str(size), "a seed"]).stdout == keystream(size, "a seed")


@pytest.mark.parametrize("version", [Subprotocol.V2, Subprotocol.V3, Subprotocol.V4])
def test_data_both_ways_in_each_version(caller: Caller, version: Subprotocol) -> None:
    data = keystream(2 * MIB, version)
    result = caller.run(["sink"], stdin=data, protocols=[version])
    assert result.stdout == f"{len(data)} {hashlib.sha256(data).hexdigest()}\n".encode()
    assert result.code == 0
    assert caller.run(["random", str(MIB), "x"], protocols=[version]).stdout == keystream(MIB, "x")


@pytest.mark.parametrize("version", [Subprotocol.V2, Subprotocol.V3])
def test_before_v4_a_failure_is_text_and_success_is_nothing(caller: Caller, version: Subprotocol) -> None:
    assert caller.run(["true"], protocols=[version]).code == 0
    failed = caller.run(["exit", "3"], protocols=[version])
    assert failed.code is None
    assert failed.message == "command terminated with non-zero exit code: error executing command [exit 3], exit code 3"


def test_v1_streams_output(caller: Caller) -> None:
    with caller.open(["echo", "old"], protocols=[Subprotocol.V1]) as client:
        client.pump_until(lambda: client.outcome is not None)
        assert client.stdout == b"old\n"


def test_cat_echoes_while_stdin_is_open_and_ends_with_it(caller: Caller) -> None:
    with caller.open(["cat"], streams=StreamSet(stdin=True)) as client:
        for word in (b"one", b"two", b"three"):
            client.send(word)
            client.pump_until(partial(client.stdout.endswith, word))
        client.send(b"", eof=True)
        assert client.finish().code == 0
        assert client.stdout == b"onetwothree"


def test_early_exit_leaves_stdin_unread(caller: Caller) -> None:
    with caller.open(["early-exit", "10"], streams=StreamSet(stdin=True)) as client:
        client.send(b"x" * 50)
        assert client.finish().code == 0
        assert not client.session.stdin_open


def test_outputs_that_were_not_asked_for_are_dropped(caller: Caller) -> None:
    result_of = {}
    for streams in (StreamSet(stdout=True, stderr=False), StreamSet(stdout=False, stderr=True)):
        with caller.open(["both", "1"], streams=streams) as client:
            result = client.finish()
            result_of[streams.stdout] = (result.code, result.stdout, result.stderr)
    assert result_of == {True: (0, b"out 0\n", b""), False: (0, b"", b"err 0\n")}


def test_a_terminal_takes_stderr_into_stdout_and_knows_its_size(caller: Caller) -> None:
    assert caller.run(["both", "2"], tty=True).stdout == b"out 0\nerr 0\nout 1\nerr 1\n"
    with caller.open(["sizes", "2"], streams=StreamSet(stderr=False, tty=True)) as client:
        client.session.resize(80, 24)
        client.session.resize(132, 43)
        result = client.finish()
        assert (result.code, result.stdout) == (0, b"80x24\n132x43\n")


def test_both_outputs_come_interleaved(caller: Caller) -> None:
    with caller.open(["both", "50"]) as client:
        result = client.finish()
    assert result.order == [StreamKind.STDOUT, StreamKind.STDERR] * 50


def test_get_does_what_post_does(caller: Caller) -> None:
    assert caller.run(["echo", "x"], method="GET").stdout == b"x\n"


def test_arguments_arrive_as_they_were_sent(caller: Caller) -> None:
    arguments = ["a b", "&=?#%+", "", "ä\n", "'\""]
    assert caller.run(["echo", *arguments]).stdout == (" ".join(arguments) + "\n").encode()


# the wire


def test_the_server_is_silent_until_the_clients_first_frame(caller: Caller) -> None:
    with caller.http() as http:
        assert http.request("POST", exec_target(["true"]), upgrade_headers()).surplus == b""
        http.sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            http.sock.recv(1)


def test_frames_behind_the_request_head_are_not_lost(caller: Caller) -> None:
    session = ClientSession(Subprotocol.V4, StreamSet(), keepalive=None)
    session.start(time.monotonic())
    early = b"".join(session.data_to_send())
    sock = caller.connect()
    answer = HttpClient(sock).request("POST", exec_target(["echo", "x"]), upgrade_headers(), early=early)
    with ExecClient(sock, session) as client:
        events = session.receive_data(answer.surplus, time.monotonic())
        assert all(not isinstance(event, Lost) for event in events)
        client.pump_until(lambda: client.outcome is not None or any(isinstance(event, Ready) for event in events))
        assert client.finish().stdout == b"x\n"


def test_the_end_of_a_session_on_the_wire(caller: Caller) -> None:
    """FIN of the outputs, the status without FIN, RST(CANCEL) for what has no FIN, GOAWAY, close_notify."""
    seen: list[tuple[object, ...]] = []

    def trace(direction: str, frame: tuple[object, ...]) -> None:
        if direction == "in":
            seen.append(frame)

    streams = StreamSet(stdin=True)
    sock = caller.connect()
    http = HttpClient(sock)
    assert http.request("POST", exec_target(["echo", "x"], streams=streams), upgrade_headers()).status == 101
    session = ClientSession(Subprotocol.V4, streams, keepalive=None, tracer=trace)
    session.start(time.monotonic())
    with ExecClient(sock, session) as client:
        assert client.finish().code == 0
        assert sock.recv(1000) == b""  # ends without truncation, or this raises
    replies, rest = seen[:4], seen[4:]
    assert [frame[:2] for frame in replies] == [("SYN_REPLY", stream) for stream in (1, 3, 5, 7)]
    status = len(b'{"metadata":{},"status":"Success"}')
    assert rest[:4] == [("DATA", 5, 2, False), ("DATA", 5, 0, True), ("DATA", 7, 0, True), ("DATA", 1, status, False)]
    cancel = int(RstStatus.CANCEL)
    assert sorted(rest[4:-1]) == [("RST_STREAM", 1, cancel), ("RST_STREAM", 3, cancel)]
    assert rest[-1] == ("GOAWAY", 7, 0)


def test_two_hundred_sessions_at_once(caller: Caller) -> None:
    clients = [caller.open(["cat"], streams=StreamSet(stdin=True)) for _ in range(200)]
    for number, client in enumerate(clients):
        client.send(b"%d" % number, eof=True)
    for number, client in enumerate(clients):
        with client:
            result = client.finish()
            assert (result.code, result.stdout) == (0, b"%d" % number)


def test_executions_are_recorded(caller: Caller) -> None:
    caller.run(["exit", "3"])
    caller.run(["sink"], stdin=b"12345")
    failed, sunk = caller.kubelet.executions[-2:]
    status = failed.wait(10)
    assert status is not None
    assert (failed.argv, status.code, failed.running, failed.client_left) == (("exit", "3"), 3, False, False)
    request = failed.request
    assert (request.namespace, request.pod, request.container) == ("default", "demo", "main")
    assert (request.user.name, request.protocol) == ("tester", CRI_SPDY[0])
    assert (sunk.received, sunk.sent[StreamKind.STDOUT]) == (5, len("5 \n") + 64)

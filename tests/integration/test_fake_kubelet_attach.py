"""Attach on the fake kubelet: who gets what of a main process, over either transport."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from fakekubelet import ALL_WEBSOCKET, AsyncExec, BlockingExec, Command, Container, FakeKubelet, Pod
from spdyproto.channels.events import StreamKind, StreamSet
from spdyproto.channels.status import ExitStatus
from support.fakes import Caller
from support.rawclient import ExecClient, exec_target, upgrade_headers, websocket_headers
from support.rawwebsocket import NORMAL_CLOSE, RawWebSocket

MIB = 1 << 20
V4, V5 = "v4.channel.k8s.io", "v5.channel.k8s.io"
TRANSPORTS = [None, V4, V5, "v4.base64.channel.k8s.io"]  # None is SPDY
FEED = StreamSet(stdin=True, stdout=True, stderr=True)
WATCH = StreamSet(stdin=False, stdout=True, stderr=True)
TERMINAL = StreamSet(stdin=True, stdout=True, stderr=False, tty=True)
BULK = 96 * MIB


def two_voices(exec: BlockingExec) -> int:
    """Lines that begin with e go to stderr; one that says end is the end."""
    for line in exec.stdin:
        if line == b"end\n":
            return 7
        (exec.stderr if line.startswith(b"e") else exec.stdout).write(line)
    exec.stdout.write(b"stdin ended\n")
    return 0


async def flood(exec: AsyncExec) -> None:
    """More than all buffers on the way hold, once a byte has come."""
    await exec.stdin.read(1)
    for _ in range(BULK // MIB):
        await exec.stdout.write(bytes(MIB))


async def chatter(exec: AsyncExec) -> None:
    """Never waits for anybody."""
    while True:
        await exec.stdout.write(bytes(65536))


class Pusher(Command):
    """Writes on though it is told to wait, as a command should not."""

    def stdin(self, data: memoryview) -> None:
        self.step()

    def step(self, count: int = 100) -> None:
        self.outlet.write(StreamKind.STDOUT, bytes(256 * 1024))
        if count:
            self.outlet.loop.call_soon(self.step, count - 1)
        else:
            self.outlet.exit(ExitStatus.success())


def broken(exec: BlockingExec) -> int:
    raise ZeroDivisionError


@pytest.fixture
def caller() -> Iterator[Caller]:
    containers = [
        Container("main"),
        Container("cat", main=["cat"], stdin=True),
        Container("voices", main=two_voices, stdin=True),
        Container("once", main=["sink"], stdin=True, stdin_once=True),
        Container("deaf", main=["both", "0"]),
        Container("tty", main=["sizes", "3"], stdin=True, tty=True),
        Container("pusher", main=Pusher, stdin=True),
        Container("flood", main=flood, stdin=True),
        Container("replay", main=two_voices, stdin=True, backlog=12),
    ]
    with FakeKubelet([Pod("default/demo", containers)], websocket_protocols=ALL_WEBSOCKET) as kubelet:
        yield Caller(kubelet)


def attach(
    caller: Caller, container: str, streams: StreamSet = FEED, *, websocket: str | None = None, tty: bool | None = None
) -> ExecClient:
    path = f"default/demo/{container}"
    return ExecClient.open(caller.connect(), None, path=path, streams=streams, websocket=websocket, tty=tty)


def expect(client: ExecClient, stdout: bytes) -> None:
    client.pump_until(lambda: len(client.stdout) >= len(stdout) or client.outcome is not None)
    assert bytes(client.stdout) == stdout


# -- the request -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "status", "body"),
    [
        ("/attach/default/demo/cat", 400, b"you must specify at least 1 of stdin, stdout, stderr"),
        ("/attach/default/gone/cat?output=1", 404, b"pod does not exist"),
        ("/attach/default/demo/gone?output=1", 500, b"container gone not found in pod demo_default"),
        ("/attach/default/demo/some-uid/cat?output=1", 500, b"pod demo_default not found"),
        ("/attach/default/demo/tty?error=1", 500, b"tty and stderr cannot both be true"),
        ("/attach/default/demo/tty?error=1&tty=1", 400, b"you must specify at least 1 of stdin, stdout, stderr"),
        ("/attach/default/demo/deaf?output=1", 500, b"container is in CONTAINER_EXITED state"),
        ("/exec/default/demo/deaf?command=true&output=1", 500, b"container is in CONTAINER_EXITED state"),
        ("/attach/default/demo", 404, b"404: Page Not Found"),
    ],
)
@pytest.mark.parametrize("headers", [upgrade_headers([V4]), websocket_headers([V4])])
def test_refusals(caller: Caller, target: str, status: int, body: bytes, headers: list[tuple[str, str]]) -> None:
    method = "GET" if headers[1] == ("Upgrade", "websocket") else "POST"
    with caller.http() as http:
        answer = http.request(method, target, headers)
    assert answer.status == status
    assert answer.body.endswith(body)


def test_not_an_upgrade(caller: Caller) -> None:
    with caller.http() as http:
        answer = http.request("GET", "/attach/default/demo/cat?output=1")
    assert (answer.status, answer.body) == (500, b"Upgrade request required\n")


@pytest.mark.parametrize("websocket", TRANSPORTS)
def test_with_the_uid_in_the_path(caller: Caller, websocket: str | None) -> None:
    uid = caller.kubelet.pods["default/demo"].uid
    path = f"default/demo/{uid}/cat"
    with ExecClient.open(caller.connect(), None, path=path, streams=FEED, websocket=websocket) as client:
        client.send(b"here")
        expect(client, b"here")
    request = caller.kubelet.executions[-1].request
    assert (request.attach, request.argv, str(request)) == (True, (), "default/demo/cat: attach")


# -- output ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", TRANSPORTS)
@pytest.mark.parametrize("websocket", TRANSPORTS)
def test_everybody_gets_what_comes_from_then_on(caller: Caller, websocket: str | None, other: str | None) -> None:
    with attach(caller, "cat", websocket=websocket) as first:
        first.send(b"one ")
        expect(first, b"one ")
        with attach(caller, "cat", WATCH, websocket=other) as second:
            first.send(b"two ")
            expect(first, b"one two ")
            expect(second, b"two ")
        first.send(b"three")  # the other one has left, and the process goes on
        expect(first, b"one two three")
    assert caller.kubelet.main_process("default/demo", "cat").running


@pytest.mark.parametrize("websocket", TRANSPORTS)
def test_outputs_apart_and_no_exit_code(caller: Caller, websocket: str | None) -> None:
    with (
        attach(caller, "voices", websocket=websocket) as client,
        attach(caller, "voices", StreamSet(stderr=False), websocket=websocket) as deaf,
    ):
        client.send(b"out 1\nerr 1\nout 2\nend\n")
        result = client.finish()
        assert (result.stdout, result.stderr) == (b"out 1\nout 2\n", b"err 1\n")
        assert result.code == 0  # Success, though the process exited with 7
        assert deaf.finish().stdout == b"out 1\nout 2\n"
    status = caller.kubelet.main_process("default/demo", "voices").wait(30)
    assert status is not None
    assert status.code == 7


def test_the_end_on_the_wire(caller: Caller) -> None:
    path = "default/demo/voices"
    with RawWebSocket(caller.connect(), exec_target(None, path=path, streams=FEED)) as peer:
        peer.send(b"\x00end\n")
        frames = peer.read_all()
    assert [payload for _, payload in frames[:-2]] == [b"\x01"]
    assert json.loads(frames[-2][1][1:])["status"] == "Success"
    assert frames[-1] == NORMAL_CLOSE


@pytest.mark.parametrize("websocket", TRANSPORTS)
def test_a_backlog_replays_the_last_of_both_outputs(caller: Caller, websocket: str | None) -> None:
    with attach(caller, "replay") as first:
        first.send(b"lost\nout1\nerr1\no2\ne2\n")  # 12 of 21 bytes stay
        first.pump_until(lambda: len(first.stdout) == 13 and len(first.stderr) == 8)
        with attach(caller, "replay", WATCH, websocket=websocket) as late:
            late.pump_until(lambda: len(late.stdout) + len(late.stderr) >= 12)
            assert (bytes(late.stdout), bytes(late.stderr)) == (b"\no2\n", b"err1\ne2\n")


def test_a_slow_attacher_holds_the_process_up_and_loses_nothing(caller: Caller) -> None:
    main = caller.kubelet.main_process("default/demo", "flood")
    with attach(caller, "flood", WATCH, websocket=V4) as slow, attach(caller, "flood") as fast:
        fast.keep = False
        fast.send(b"x")
        fast.sock.settimeout(0.7)
        with pytest.raises(TimeoutError):
            fast.finish()
        got = sum(fast.session.received.values())
        assert MIB < got < BULK - MIB
        assert main.running
        fast.sock.settimeout(30)
        slow.keep = False
        reader = threading.Thread(target=slow.finish)  # from now on it reads too
        reader.start()
        fast.finish()
        reader.join(30)
        for client in (fast, slow):
            assert client.session.received[StreamKind.STDOUT] == BULK


def test_a_slow_attacher_that_leaves_lets_the_others_go_on(caller: Caller) -> None:
    with attach(caller, "flood") as fast:
        with attach(caller, "flood", WATCH) as slow:
            fast.keep = False
            fast.send(b"x")
            fast.sock.settimeout(0.7)
            with pytest.raises(TimeoutError):
                fast.finish()
            slow.sock.shutdown(socket.SHUT_RDWR)
        fast.sock.settimeout(30)
        assert fast.finish().code == 0


@pytest.mark.parametrize("websocket", [None, V4])
def test_a_process_that_does_not_wait_fails_its_slow_attachers_alone(caller: Caller, websocket: str | None) -> None:
    with attach(caller, "pusher", websocket=websocket) as slow:
        slow.send(b"x")
        assert caller.kubelet.main_process("default/demo", "pusher").wait(30) == ExitStatus.success()
        result = slow.finish()
        assert len(result.stdout) < 101 * 256 * 1024
        assert result.code is None
        assert "attached too slowly" in result.message


def test_a_process_that_nobody_watches_does_not_stop_the_server() -> None:
    with FakeKubelet([Pod("demo", [Container("main", main=chatter)])]) as kubelet:
        caller = Caller(kubelet)
        assert caller.run(["echo", "still here"]).stdout == b"still here\n"
        with ExecClient.open(caller.connect(), None, streams=WATCH, websocket=V4) as client:
            client.pump_until(lambda: len(client.stdout) > MIB)


@pytest.mark.parametrize("websocket", TRANSPORTS)
def test_a_container_that_declares_no_process_is_silent_for_ever(caller: Caller, websocket: str | None) -> None:
    with attach(caller, "main", websocket=websocket) as client:
        client.send(b"is anybody there?")
        client.sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.finish()
        assert client.session.received == dict.fromkeys(client.session.received, 0)
    assert caller.run(["echo", "exec works"]).stdout == b"exec works\n"


# -- stdin -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("websocket", [None, V5])
def test_the_end_of_an_attachers_stdin_ends_its_attachment_alone(caller: Caller, websocket: str | None) -> None:
    with attach(caller, "cat", websocket=websocket) as first, attach(caller, "cat") as second:
        first.send(b"bye", eof=True)
        assert first.finish().stdout == b"bye"
        second.send(b" on")
        expect(second, b"bye on")


@pytest.mark.parametrize("websocket", [None, V5])
def test_stdin_once_ends_with_the_first_attacher_that_ends_it(caller: Caller, websocket: str | None) -> None:
    data = os.urandom(MIB)
    with attach(caller, "once", WATCH) as watcher, attach(caller, "once", websocket=websocket) as first:
        first.send(data, eof=True)
        expected = f"{len(data)} {hashlib.sha256(data).hexdigest()}\n".encode()
        assert first.finish().stdout == expected  # its outputs go on to the end of the container
        assert watcher.finish().stdout == expected
    assert caller.kubelet.main_process("default/demo", "once").received == MIB


@pytest.mark.parametrize("websocket", TRANSPORTS)
def test_stdin_once_ends_with_the_first_attacher_that_leaves(caller: Caller, websocket: str | None) -> None:
    with attach(caller, "once", WATCH) as watcher:
        with attach(caller, "once", websocket=websocket) as first:
            first.send(b"abc")
        assert watcher.finish().stdout == f"3 {hashlib.sha256(b'abc').hexdigest()}\n".encode()


def test_an_attacher_without_stdin_ends_nothing(caller: Caller) -> None:
    with attach(caller, "once", WATCH):
        pass
    caller.kubelet.executions[-1].wait(30)
    with attach(caller, "once") as client:
        client.send(b"abc", eof=True)
        assert client.finish().stdout.startswith(b"3 ")


def test_two_may_type(caller: Caller) -> None:
    with attach(caller, "cat") as first, attach(caller, "cat", websocket=V4) as second:
        first.send(b"a")
        expect(first, b"a")
        second.send(b"b")
        expect(first, b"ab")
        expect(second, b"ab")


# -- terminals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("websocket", TRANSPORTS)
@pytest.mark.parametrize("asked", [TERMINAL, StreamSet(stdin=True, stdout=True, stderr=False)])
def test_the_container_decides_about_the_terminal(caller: Caller, websocket: str | None, asked: StreamSet) -> None:
    """And so the sizes arrive though the request says nothing of a terminal; kubectl sends one more, a bit larger."""
    with attach(caller, "tty", asked, websocket=websocket, tty=True) as client:
        for width, height in ((81, 25), (80, 24), (132, 43)):
            client.session.resize(width, height)
        client.flush()
        assert client.finish().stdout == b"81x25\n80x24\n132x43\n"


def test_a_container_without_a_terminal_has_none_for_who_asks(caller: Caller) -> None:
    with attach(caller, "cat", TERMINAL, websocket=V4) as client:
        client.session.resize(80, 24)
        client.send(b"x")
        expect(client, b"x")
    assert not caller.kubelet.executions[-1].request.streams.tty


# -- pods that come and go ---------------------------------------------------------------------------------------------


def test_a_pod_that_is_taken_away_ends_its_process_and_who_is_attached(caller: Caller) -> None:
    main = caller.kubelet.main_process("default/demo", "cat")
    with attach(caller, "cat", websocket=V4) as client:
        caller.kubelet.pods.remove("default/demo")
        assert client.finish().code == 0
    assert main.wait(30) is None
    with pytest.raises(KeyError):
        caller.kubelet.main_process("default/demo", "cat")


def test_a_pod_that_is_added_starts_its_process(caller: Caller) -> None:
    caller.kubelet.pods.add(Pod("default/new", [Container("main", main=["both", "1"])]))
    status = caller.kubelet.main_process("default/new").wait(30)
    assert status is not None
    assert status.ok


def test_a_process_with_a_fault_has_exited() -> None:
    pod = Pod("demo", [Container("main", main=broken), Container("other", main=["nope"])])
    with FakeKubelet([pod]) as kubelet:
        for container, words in (("main", "ZeroDivisionError"), ("other", "executable file not found")):
            status = kubelet.main_process("default/demo", container).wait(30)
            assert status is not None
            assert words in status.message


def test_the_document_tells_what_was_declared(caller: Caller) -> None:
    with caller.http() as http:
        document = json.loads(http.request("GET", "/pods").body)
    specs = {spec["name"]: spec for spec in document["items"][0]["spec"]["containers"]}
    assert specs["once"]["command"] == ["sink"]
    assert (specs["once"]["stdin"], specs["once"]["stdinOnce"]) == (True, True)
    assert specs["tty"]["tty"] is True
    assert not {"stdin", "stdinOnce", "tty", "command"} & set(specs["main"])


# -- real processes ----------------------------------------------------------------------------------------------------


@pytest.fixture
def host() -> Iterator[Caller]:
    loop = 'while read line; do echo "out $line"; echo "err $line" >&2; done; echo over'
    sizes = "stty size; while read line; do stty size; done"
    containers = [
        Container("main", processes=True, main=["sh", "-c", loop], stdin=True, stdin_once=True),
        Container("tty", processes=True, main=["sh", "-c", sizes], stdin=True, tty=True),
        Container("deaf", processes=True, main=["sh", "-c", "cat; exec sleep 600"]),
    ]
    pod = Pod("default/demo", containers)
    with FakeKubelet([pod], allow_processes=True, websocket_protocols=ALL_WEBSOCKET) as kubelet:
        yield Caller(kubelet)


@pytest.mark.parametrize("websocket", [None, V5])
def test_a_process_of_the_host(host: Caller, websocket: str | None) -> None:
    with attach(host, "main", websocket=websocket) as client:
        client.send(b"1\n2\n", eof=True)
        result = client.finish()
    assert (result.stdout, result.stderr) == (b"out 1\nout 2\nover\n", b"err 1\nerr 2\n")
    assert result.code == 0


@pytest.mark.parametrize("websocket", [None, V4, V5])
def test_a_terminal_of_the_host_follows_the_sizes(host: Caller, websocket: str | None) -> None:
    with attach(host, "tty", TERMINAL, websocket=websocket) as client:
        for width, height in ((81, 25), (80, 24)):
            client.session.resize(width, height)
            client.send(b"\n")
            client.pump_until(lambda size=b"%d %d" % (height, width): size in client.stdout)  # type: ignore[misc]  # mypy infers no type for a lambda's default
    assert host.kubelet.main_process("default/demo", "tty").running


def test_processes_end_with_the_server(host: Caller) -> None:
    main = host.kubelet.main_process("default/demo", "deaf")
    assert main.running
    host.kubelet.close()
    assert not main.running

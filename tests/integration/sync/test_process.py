"""A running command: pipes, timeouts, Ctrl-C, callbacks and threads."""

from __future__ import annotations

import io
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import pytest

from fakekubelet import FakeKubelet
from kubeletclient import (
    CAPTURE,
    PIPE,
    ClientCertificate,
    ConnectionLost,
    DeadlineExceeded,
    Keepalive,
    Kubelet,
    OutputLimitExceeded,
    Pod,
    ProcessClosed,
    StdinClosed,
    StreamSet,
    connect_exec,
)
from kubeletclient._policy import HIGH_WATER, SCRATCH
from spdyproto.errors import LocalProtocolError
from support.scripted import SUCCESS, Peer, ScriptedServer
from support.wire import data, goaway

MIB = 1 << 20


@pytest.fixture(scope="module")
def server() -> Iterator[FakeKubelet]:
    with FakeKubelet() as kubelet:
        yield kubelet


@pytest.fixture
def pod(server: FakeKubelet) -> Iterator[Pod]:
    identity = server.credentials("alice", ["system:masters"])
    credentials = ClientCertificate(identity.cert_pem, identity.key_pem)
    with Kubelet(server.url, ca=server.ca, credentials=credentials) as kubelet:
        yield kubelet.pod("demo")


def end(peer: Peer) -> None:
    peer.send(data(peer.stdout, fin=True), data(peer.stderr, fin=True), data(peer.error, SUCCESS), goaway())


# -- reading ---------------------------------------------------------------------------------------------------------


def test_ways_to_read(pod: Pod) -> None:
    with pod.popen(["cat"], container="main", stdin=PIPE, timeout=30) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        out = process.stdout
        process.stdin.write(b"one\ntwo\nthree\nrest-of-it")
        process.stdin.close()
        assert out.readline() == b"one\n"
        assert out.peek()[:1] == b"t"
        assert out.read(2) == b"tw"
        assert out.read(0) == b""
        assert next(out) == b"o\n"
        room = bytearray(3)
        assert out.readinto(room) == 3
        assert room == b"thr"
        assert out.readinto1(memoryview(room)) in (1, 2, 3)
        assert b"".join(iter(lambda: out.read1(4), b"")).endswith(b"rest-of-it")
        assert out.read() == b""
        assert out.read1() == b""
        assert out.readinto(room) == 0
        assert out.readinto1(room) == 0
        assert out.peek() == b""
        assert list(out) == []
        assert process.wait() == 0


def test_an_output_is_a_file_for_the_standard_library(pod: Pod) -> None:
    with pod.popen(["echo", "h\u00e9llo"], container="main", timeout=30) as process:
        assert process.stdout is not None
        with pytest.raises(io.UnsupportedOperation):
            process.stdout.fileno()
        with io.TextIOWrapper(process.stdout, encoding="utf-8") as text:
            assert text.read() == "h\u00e9llo\n"
        with pytest.raises(ValueError, match="closed"):
            process.stdout.read()


@pytest.mark.parametrize("size", [1, 4096, 300_000, 3 * MIB])
def test_every_byte_in_order_whatever_the_size_of_the_reads(pod: Pod, size: int) -> None:
    total = 200_000 if size == 1 else 9 * MIB + 17
    expected = pod.run(["random", str(total), "5"], container="main").stdout or b""
    for method in ("read", "read1", "readinto", "readinto1"):
        with pod.popen(["random", str(total), "5"], container="main", timeout=50) as process:
            assert process.stdout is not None
            got = bytearray()
            if method.startswith("readinto"):
                room = memoryview(bytearray(size))
                while count := getattr(process.stdout, method)(room):
                    got += room[:count]
            else:
                while piece := getattr(process.stdout, method)(size):
                    got += piece
            assert got == expected
            assert process.wait() == 0


def test_a_pipe_that_nobody_reads_stops_the_socket_and_says_so(pod: Pod) -> None:
    with pod.popen(["source", str(16 * MIB)], container="main") as process:
        with pytest.raises(DeadlineExceeded, match="nobody reads stdout, so nothing more is received"):
            process.wait(0.3)
        assert HIGH_WATER <= process.received["stdout"] <= HIGH_WATER + SCRATCH
        assert process.stdout is not None
        assert len(process.stdout.read()) == 16 * MIB
        assert process.wait(10) == 0


def test_a_slow_reader_is_no_dead_peer(pod: Pod) -> None:
    client = pod._client
    assert isinstance(client, Kubelet)
    quick = Kubelet(
        str(client.endpoint),
        ca=client._settings.trust._ca,
        credentials=client._settings.trust.credentials,
        keepalive=Keepalive(period=0.02, deadline=0.05),
    )
    with quick, quick.pod("demo").popen(["source", str(8 * MIB)], container="main", timeout=30) as process:
        assert process.stdout is not None
        total = 0
        while piece := process.stdout.read(MIB):
            total += len(piece)
            threading.Event().wait(0.06)  # the scenario itself: a consumer that takes its time
        assert total == 8 * MIB
        assert process.wait() == 0


def test_closing_an_output_throws_it_away(pod: Pod) -> None:
    with pod.popen(["both", "20000"], container="main", timeout=30) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read()
        assert process.wait() == 0


# -- writing ---------------------------------------------------------------------------------------------------------


def test_writes_of_any_buffer_may_be_changed_afterwards(pod: Pod) -> None:
    with pod.popen(["cat"], container="main", stdin=PIPE, stdout=CAPTURE, timeout=30) as process:
        assert process.stdin is not None
        room = bytearray(b"a" * 100_000)
        assert process.stdin.write(room) == 100_000
        room[:] = b"b" * 100_000
        assert process.stdin.write(memoryview(room)[:50_000]) == 50_000
        process.stdin.close()
        process.stdin.close()
        with pytest.raises(ValueError, match="closed"):
            process.stdin.write(b"x")
        assert process.wait() == 0
        assert process.received["stdout"] == 150_000


def test_plain_http_may_reuse_its_buffer_too() -> None:
    got = bytearray()

    def script(peer: Peer) -> None:
        peer.open_streams(4)
        while len(got) < 8 * MIB:
            frame = peer.read_until(lambda frame: frame[0] == "DATA")
            got.extend(frame[2])
        end(peer)

    with ScriptedServer(script) as server, connect_exec(server.url, stdin=PIPE) as process:
        assert process.stdin is not None
        room = bytearray(MIB)
        for number in range(8):
            room[:] = bytes([number]) * MIB
            process.stdin.write(room)
        assert process.wait(30) == 0
    assert got == b"".join(bytes([number]) * MIB for number in range(8))


def test_stdin_from_a_pipe_that_is_silent_does_not_hold_up_the_output(pod: Pod) -> None:
    receiver, sender = os.pipe()
    answers: list[bytes] = []

    def answer(view: memoryview) -> None:
        answers.append(bytes(view))
        if len(answers) == 1:
            os.write(sender, b"second")
        else:
            os.close(sender)

    os.write(sender, b"first ")
    try:
        done = pod.run(["cat"], container="main", stdin=receiver, stdout=answer, timeout=30)
    finally:
        os.close(receiver)
    assert done.returncode == 0
    assert b"".join(answers) == b"first second"


def test_output_flows_while_stdin_says_nothing(pod: Pod) -> None:
    receiver, sender = os.pipe()
    try:
        done = pod.run(["echo", "hi"], container="main", stdin=receiver, timeout=30)
    finally:
        os.close(receiver)
        os.close(sender)
    assert done.stdout == b"hi\n"


def test_a_source_that_fails_ends_the_session_with_its_own_error(pod: Pod) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x"
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        pod.run(["cat"], container="main", input=broken(), timeout=30)


def test_a_terminal_keeps_its_stdin_open() -> None:
    def script(peer: Peer) -> None:
        peer.open_streams(4)
        frame = peer.read_until(lambda frame: frame[0] == "DATA")
        assert frame == ("DATA", peer.stdin, b"exit\n", 0)
        peer.send(data(peer.stdout, fin=True), data(peer.error, SUCCESS), goaway())
        assert not [f for f in peer.read_to_the_end() if f[0] == "DATA"], "containerd would stop the output"

    streams = StreamSet(stdin=True, stdout=True, stderr=False, tty=True)
    with ScriptedServer(script) as server, connect_exec(server.url, streams=streams, stdin=b"exit\n") as process:
        assert process.wait(10) == 0


def test_resize_needs_a_terminal(pod: Pod) -> None:
    with pod.popen(["sleep", "60"], container="main") as process, pytest.raises(LocalProtocolError, match="tty=True"):
        process.resize(80, 24)


# -- communicate -----------------------------------------------------------------------------------------------------


def both(peer: Peer) -> None:
    """Three megabytes on each output, in turns."""
    peer.open_streams(3)
    for number in range(48):
        peer.send(data(peer.stdout, bytes([number]) * 65536), data(peer.stderr, bytes([number + 100]) * 65536))
    end(peer)


OUT = b"".join(bytes([number]) * 65536 for number in range(48))
ERR = b"".join(bytes([number + 100]) * 65536 for number in range(48))


def test_communicate_drains_both_pipes_beyond_the_high_water_mark() -> None:
    with ScriptedServer(both) as server, connect_exec(server.url, timeout=30) as process:
        assert process.communicate() == (OUT, ERR)
        assert process.returncode == 0


def test_communicate_can_be_repeated_after_its_timeout() -> None:
    def script(peer: Peer) -> None:
        peer.open_streams(4)
        peer.read_until(lambda frame: frame[0] == "DATA" and frame[3] == 1)
        peer.send(data(peer.stdout, b"early "))
        assert released.wait(10)
        peer.send(data(peer.stdout, b"late"))
        end(peer)

    released = threading.Event()
    with ScriptedServer(script) as server, connect_exec(server.url, stdin=PIPE) as process:
        with pytest.raises(DeadlineExceeded) as caught:
            process.communicate(b"input", timeout=0.2)
        assert caught.value.stdout == b"early "
        with pytest.raises(ValueError, match="cannot be given again"):
            process.communicate(b"again", timeout=0.1)
        released.set()
        assert process.communicate(timeout=10) == (b"early late", b"")


def test_communicate_is_bounded(pod: Pod) -> None:
    with pod.popen(["source", str(4 * MIB)], container="main", capture_limit=2 * MIB) as process:
        with pytest.raises(OutputLimitExceeded, match="capture_limit") as caught:
            process.communicate()
        assert caught.value.stdout is not None
        assert len(caught.value.stdout) <= 2 * MIB


# -- time and interrupts ---------------------------------------------------------------------------------------------


def leaves(peer: Peer) -> None:
    """Some output, and then nothing until the client has gone."""
    peer.open_streams(3)
    peer.send(data(peer.stdout, b"so far"))
    assert any(frame[0] == "GOAWAY" for frame in peer.read_to_the_end()), "the client says that it leaves"


def test_the_timeout_of_a_wait_leaves_everything_running(pod: Pod) -> None:
    with pod.popen(["cat"], container="main", stdin=PIPE) as process:
        assert process.poll() is None
        for _ in range(2):
            with pytest.raises(DeadlineExceeded, match="while waiting for the command to end"):
                process.wait(0.05)
        assert process.communicate(b"still here", 30) == (b"still here", b"")


def test_the_timeout_of_a_process_closes_it() -> None:
    with ScriptedServer(leaves) as server, connect_exec(server.url, timeout=0.3) as process:
        assert process.stdout is not None
        assert process.stdout.read(6) == b"so far"
        with pytest.raises(DeadlineExceeded, match=r"0\.3 s passed while waiting for stdout"):
            process.stdout.read(1)
        with pytest.raises(DeadlineExceeded):
            process.wait()


def test_run_out_of_time_tells_what_came_and_leaves_nothing(pod: Pod) -> None:
    with pytest.raises(DeadlineExceeded) as caught:
        pod.run(["sleep", "60"], container="main", timeout=0.2)
    assert (caught.value.stdout, caught.value.timeout) == (b"", 0.2)
    assert isinstance(caught.value, TimeoutError)


class Interrupter:
    """Sends the main thread a signal until its handler has run once: one that comes a moment before the thread sleeps
    is seen by Python only when it wakes up.
    """

    def __init__(self, handler: Callable[[], object]) -> None:
        self.handled = threading.Event()
        self.poised = threading.Event()
        self._handler = handler

    def __enter__(self) -> Interrupter:
        self._previous = signal.signal(signal.SIGUSR1, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        self.handled.set()
        signal.signal(signal.SIGUSR1, self._previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.handled.is_set():
            self.handled.set()
            self._handler()

    def soon(self, call: Callable[[], object]) -> None:
        """Let the interruption come, and make a call for it to come into."""
        self.poised.set()
        call()

    def interrupt(self) -> None:
        main = threading.main_thread().ident
        assert main is not None
        while not self.handled.is_set():
            signal.pthread_kill(main, signal.SIGUSR1)
            self.handled.wait(0.02)


def ctrl_c() -> None:
    raise KeyboardInterrupt


def test_ctrl_c_closes_what_run_has_opened() -> None:
    def script(peer: Peer) -> None:
        peer.open_streams(3)
        interrupter.interrupt()
        peer.read_to_the_end()

    with Interrupter(ctrl_c) as interrupter, ScriptedServer(script) as server, Kubelet(server.address) as kubelet:
        pod = kubelet.pod("p")
        with pytest.raises(KeyboardInterrupt):
            pod.run(["x"], container="c", timeout=30)


def test_ctrl_c_during_a_wait_loses_nothing() -> None:
    def script(peer: Peer) -> None:
        peer.open_streams(3)
        peer.send(data(peer.stdout, b"before "))
        assert interrupter.poised.wait(10)
        interrupter.interrupt()
        peer.send(data(peer.stdout, b"after"))
        end(peer)

    with (
        Interrupter(ctrl_c) as interrupter,
        ScriptedServer(script) as server,
        connect_exec(server.url) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.peek() == b"before "  # so that nothing but the wait itself can be interrupted
        with pytest.raises(KeyboardInterrupt):
            interrupter.soon(lambda: process.wait(10))
        assert process.communicate(timeout=10) == (b"before after", b"")


def test_ctrl_c_during_a_read_gives_back_what_was_read() -> None:
    def script(peer: Peer) -> None:
        peer.open_streams(3)
        peer.send(data(peer.stdout, b"first"))
        assert interrupter.poised.wait(10)
        interrupter.interrupt()
        peer.send(data(peer.stdout, b"second"))
        end(peer)

    with (
        Interrupter(ctrl_c) as interrupter,
        ScriptedServer(script) as server,
        connect_exec(server.url) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.peek() == b"first"  # so that nothing but the wait for more can be interrupted
        with pytest.raises(KeyboardInterrupt):
            interrupter.soon(lambda: process.stdout and process.stdout.readinto(bytearray(100)))
        assert process.stdout.readinto1(bytearray(5)) == 5
        assert process.stdout.read() == b"second"


def test_two_threads_cannot_read_one_output_at_once() -> None:
    def script(peer: Peer) -> None:
        peer.open_streams(3)
        assert tried.wait(10)
        peer.send(data(peer.stdout, b"x"))
        end(peer)

    tried = threading.Event()
    with ScriptedServer(script) as server, connect_exec(server.url) as process:
        stdout = process.stdout
        assert stdout is not None
        reader = Worker(lambda: stdout.readinto(bytearray(1)))
        while stdout.sink.into is None:
            assert not tried.wait(0.001)
        with pytest.raises(RuntimeError, match="two threads read the same output"):
            stdout.readinto(bytearray(1))
        tried.set()
        assert reader.join() is None


@pytest.mark.parametrize("what", ["wait", "write"])
def test_a_signal_handler_may_close_the_process(what: str) -> None:
    def script(peer: Peer) -> None:
        peer.open_streams(4)
        assert waiting.wait(10)
        interrupter.interrupt()

    def wait() -> object:
        waiting.set()
        return process.wait(10)

    def write() -> object:
        waiting.set()
        assert process.stdin is not None
        return process.stdin.write(bytes(64 * MIB))

    waiting = threading.Event()
    with (
        Interrupter(lambda: process.close()) as interrupter,
        ScriptedServer(script) as server,
        connect_exec(server.url, stdin=PIPE) as process,
        pytest.raises((ProcessClosed, StdinClosed)),
    ):
        {"wait": wait, "write": write}[what]()


# -- leaving ---------------------------------------------------------------------------------------------------------


def test_leaving_the_block_closes_at_once() -> None:
    with ScriptedServer(leaves) as server:
        with connect_exec(server.url) as process:
            pass
        assert process.returncode is None
        for call in (process.wait, process.poll, lambda: process.stdout and process.stdout.read()):
            with pytest.raises(ProcessClosed):
                call()
        process.close()
        process.kill()


def test_closing_the_kubelet_closes_its_processes() -> None:
    with ScriptedServer(leaves) as server:
        with Kubelet(server.address) as kubelet:
            process = kubelet.pod("p").popen(["x"], container="c")
        with pytest.raises(ProcessClosed):
            process.wait()
        with pytest.raises(ProcessClosed, match="this Kubelet was closed"):
            kubelet.pod("p").run(["x"], container="c")


def test_a_process_that_is_forgotten_warns_and_closes() -> None:
    with ScriptedServer(leaves) as server:
        process = connect_exec(server.url)
        with pytest.warns(ResourceWarning, match="was never closed"):
            del process


def test_a_finished_process_needs_no_closing(pod: Pod) -> None:
    process = pod.popen(["echo", "x"], container="main", stdout=CAPTURE, stderr=CAPTURE, timeout=30)
    assert process.wait() == 0
    assert "exit code 0" in repr(process)
    del process


# -- callbacks -------------------------------------------------------------------------------------------------------


def test_a_callback_may_write_and_end_stdin(pod: Pod) -> None:
    seen: list[bytes] = []

    def answer(view: memoryview) -> None:
        seen.append(bytes(view))
        assert process.stdin is not None
        if len(seen) == 1:
            process.stdin.write(b"pong")
        else:
            process.stdin.close()

    with pod.popen(["cat"], container="main", stdin=PIPE, stdout=answer, timeout=30) as process:
        assert process.stdin is not None
        process.stdin.write(b"ping")
        assert process.wait() == 0
    assert seen == [b"ping", b"pong"]


@pytest.mark.parametrize("wait", ["wait", "poll"])
def test_a_callback_is_called_only_once_the_process_is_there(wait: str) -> None:
    def script(peer: Peer) -> None:
        peer.read_head()
        peer.switch()
        peer.read_streams(3)
        replies = [peer.wire.syn_reply(number) for number in peer.streams.values()]
        peer.send(
            *replies,
            data(peer.stdout, b"a"),
            data(peer.stdout, b"b", fin=True),
            data(peer.stderr, b"err", fin=True),
            data(peer.error, SUCCESS, fin=True),
        )
        peer.read_to_the_end()

    def take(view: memoryview) -> None:
        seen.append((process.protocol, bytes(view)))

    seen: list[tuple[str, bytes]] = []
    with ScriptedServer(script) as server, connect_exec(server.url, stdout=take, stderr=CAPTURE) as process:
        assert seen == []
        while getattr(process, wait)() is None:
            pass
        assert [piece for _, piece in seen] == [b"a", b"b"]
        assert process.returncode == 0


def test_what_a_callback_queues_is_bounded() -> None:
    def script(peer: Peer) -> None:
        peer.open_streams(4)
        peer.send(data(peer.stdout, b"go"))
        assert done.wait(10)

    def flood(view: memoryview) -> None:
        assert process.stdin is not None
        try:
            while True:
                process.stdin.write(bytes(MIB))
        finally:
            done.set()

    done = threading.Event()
    with (
        ScriptedServer(script) as server,
        connect_exec(server.url, stdin=PIPE, stdout=flood) as process,
        pytest.raises(LocalProtocolError),
    ):
        process.wait(10)


def test_a_callback_may_close(pod: Pod) -> None:
    def close(view: memoryview) -> None:
        process.close()

    with pod.popen(["source", str(64 * MIB)], container="main", stdout=close) as process, pytest.raises(ProcessClosed):
        process.wait(10)


def test_a_callback_cannot_wait(pod: Pod) -> None:
    def wait(view: memoryview) -> None:
        process.wait()

    process = pod.popen(["echo", "x"], container="main", stdout=wait)
    with process, pytest.raises(RuntimeError, match="cannot wait on its own process"):
        process.wait(10)


def test_a_callback_may_run_other_commands(pod: Pod) -> None:
    answers: list[bytes | None] = []

    def ask(view: memoryview) -> None:
        before = bytes(view)
        answers.append(pod.run(["random", "100000", "1"], container="main", timeout=30).stdout)
        assert bytes(view) == before, "the buffers of two pumps must not be the same"

    done = pod.run(["random", "100000", "2"], container="main", stdout=ask, timeout=30)
    assert done.returncode == 0
    assert set(map(len, filter(None, answers))) == {100000}


def test_what_a_callback_raises_reaches_the_caller_and_ends_the_session(pod: Pod) -> None:
    def fail(view: memoryview) -> None:
        raise LookupError("mine")

    with pod.popen(["source", "100000"], container="main", stdout=fail) as process:
        with pytest.raises(LookupError, match="mine"):
            process.wait(10)
        with pytest.raises(ConnectionLost, match="interrupted by LookupError") as caught:
            process.wait(10)
    assert isinstance(caught.value.__cause__, LookupError)


# -- threads ---------------------------------------------------------------------------------------------------------


class Worker:
    """A call in another thread, and what came of it."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.error: BaseException | None = None
        self._call = call
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._call()
        except BaseException as error:
            self.error = error

    def join(self) -> BaseException | None:
        self._thread.join(20)
        assert not self._thread.is_alive(), "the thread is stuck"
        return self.error


def test_one_thread_writes_and_one_reads(pod: Pod) -> None:
    total = 24 * MIB
    with pod.popen(["cat"], container="main", stdin=PIPE, timeout=50) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin = process.stdin

        def write() -> None:
            for _ in range(total // 100_000):
                stdin.write(b"z" * 100_000)
            stdin.close()

        writer = Worker(write)
        got = 0
        while piece := process.stdout.read1():
            got += len(piece)
        assert writer.join() is None
        assert got == total // 100_000 * 100_000
        assert process.wait() == 0


def test_each_output_may_have_a_thread() -> None:
    with ScriptedServer(both) as server, connect_exec(server.url, timeout=30) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        got: dict[str, bytes] = {}
        workers = [
            Worker(lambda file=file: got.update({file.name: file.read()}))  # type: ignore[misc]  # bound now
            for file in (process.stdout, process.stderr)
        ]
        assert process.wait() == 0
        assert [worker.join() for worker in workers] == [None, None]
        assert got == {"stdout": OUT, "stderr": ERR}


def test_a_reader_that_comes_later_wakes_a_waiter_on_a_full_pipe(pod: Pod) -> None:
    with pod.popen(["source", str(8 * MIB)], container="main", timeout=50) as process:
        waiter = Worker(process.wait)
        assert process.stdout is not None
        assert len(process.stdout.read()) == 8 * MIB
        assert waiter.join() is None


def test_a_writer_that_is_stuck_takes_over_when_the_reader_leaves() -> None:
    def script(peer: Peer) -> None:
        peer.open_streams(4)
        peer.send(data(peer.stdout, b"x"))
        assert reading.wait(10)
        peer.send(data(peer.stdout, b"y" * 4 * MIB))  # blocks until somebody reads, while stdin is full
        total = 0
        while total < 16 * MIB:
            total += len(peer.read_until(lambda frame: frame[0] == "DATA")[2])
        end(peer)

    reading = threading.Event()
    with ScriptedServer(script) as server, connect_exec(server.url, stdin=PIPE, stdout=CAPTURE) as process:
        assert process.stdin is not None
        stdin = process.stdin
        writer = Worker(lambda: stdin.write(bytes(16 * MIB)))
        with pytest.raises(DeadlineExceeded):
            process.wait(0.2)
        reading.set()
        assert writer.join() is None
        assert process.wait(20) == 0


@pytest.mark.parametrize("what", ["read", "wait", "write"])
def test_close_from_another_thread_ends_every_wait(what: str) -> None:
    def script(peer: Peer) -> None:
        peer.open_streams(4)
        assert closed.wait(10)

    closed = threading.Event()
    with ScriptedServer(script) as server, connect_exec(server.url, stdin=PIPE) as process:
        calls: dict[str, Callable[[], object]] = {
            "read": lambda: process.stdout and process.stdout.read(),
            "wait": process.wait,
            "write": lambda: process.stdin and process.stdin.write(bytes(64 * MIB)),
        }
        workers = [Worker(calls[what]), Worker(process.wait)]
        process.close()
        closed.set()
        for worker in workers:
            assert isinstance(worker.join(), ProcessClosed | StdinClosed)


def test_a_client_is_shared_by_threads(pod: Pod) -> None:
    results: list[bytes | None] = []
    workers = [
        Worker(lambda: results.append(pod.run(["echo", "x"], container="main", timeout=50).stdout)) for _ in range(16)
    ]
    assert [worker.join() for worker in workers] == [None] * 16
    assert results == [b"x\n"] * 16


# -- the default container -------------------------------------------------------------------------------------------


def test_no_container_named_takes_the_pods_own(pod: Pod) -> None:
    assert pod.run(["echo", "x"], timeout=30).stdout == b"x\n"
    assert pod.run(["echo", "y"], timeout=30).stdout == b"y\n"


def test_text(pod: Pod) -> None:
    done = pod.run(["cat"], container="main", input="h\u00e9", text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("h\u00e9", "")


def test_behind_a_bulk_transfer_a_few_bytes_are_read_all_the_same(pod: Pod) -> None:
    """The kernel gathers bulk (``_sockets``); a short answer behind it must not wait for more."""
    buffer = bytearray(MIB // 4)
    with pod.popen(["cat"], container="main", stdin=PIPE, stdout=PIPE, timeout=60) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(3):
            for _ in range(16):
                process.stdin.write(buffer)
                assert process.stdout.readinto(buffer) == len(buffer)
            process.stdin.write(b"few")
            assert process.stdout.read(3) == b"few"

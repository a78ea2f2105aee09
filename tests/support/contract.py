"""What a client and a server of exec owe each other, as tests: run against the Go server and against the fake kubelet.

A module of tests subclasses `ExecContract` and gives it the fixtures `flavour` and `peer`. The commands are those that
both servers know (``tests/interop/go/README.md``).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from kubeletclient import (
    CAPTURE,
    PIPE,
    BadRequest,
    CommandFailed,
    ConnectionLost,
    Keepalive,
    NotFound,
    OutputLimitExceeded,
    ProtocolNotSupported,
    RemoteError,
    ServerError,
    StdinClosed,
    StreamSet,
    Unauthorized,
)
from spdyproto.channels.subprotocols import Subprotocol
from support.flavours import Flavour, Node
from support.gopeers import exec_url, random_blocks, random_bytes

__all__ = ["ALL_BYTES", "GIB", "MIB", "ExecContract", "HashSink", "Peer", "hashed_blocks"]

MIB = 1 << 20
GIB = 1 << 30
SESSIONS = 200
ALL_BYTES = bytes(range(256))
VERSIONS = (Subprotocol.V1, Subprotocol.V2, Subprotocol.V3, Subprotocol.V4)


class Peer(Protocol):
    """A server that runs, and what a client needs to be welcome there."""

    @property
    def url(self) -> str: ...

    def options(self) -> dict[str, Any]:
        """Authority and credentials, as `Kubelet` and `connect_exec` take them."""

    def strangers(self) -> list[dict[str, Any]]:
        """The same of clients who are not welcome: without a credential, and with those of another authority."""

    def speaking(self, version: Subprotocol) -> contextlib.AbstractContextManager[Peer]:
        """Another server of this kind that speaks `version` only."""


class HashSink:
    """Output by count and digest."""

    def __init__(self) -> None:
        self.size = 0
        self._digest = hashlib.sha256()

    def __call__(self, data: memoryview) -> None:
        self.size += len(data)
        self._digest.update(data)

    @property
    def seen(self) -> tuple[int, str]:
        return self.size, self._digest.hexdigest()


def hashed_blocks(size: int, seed: str, sink: HashSink) -> Iterator[bytes]:
    """`random_blocks`, counted and digested on their way."""
    for block in random_blocks(size, seed):
        sink(memoryview(block))
        yield block


def expected(size: int, seed: str) -> tuple[int, str]:
    """What a `HashSink` has seen after ``random SIZE SEED``."""
    sink = HashSink()
    for _ in hashed_blocks(size, seed, sink):
        pass
    return sink.seen


class ExecContract:
    """The tests. Each runs in both flavours."""

    @pytest.fixture
    def node(self, flavour: Flavour, peer: Peer) -> Iterator[Node]:
        node = flavour.node(peer.url, **peer.options())
        yield node
        node.close()

    # -- output, input, exit codes -------------------------------------------------------------------------------------

    def test_text(self, node: Node) -> None:
        done = node.run("echo", "naïve", "kubelet", text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "naïve kubelet\n", "")
        assert (done.protocol, done.route) == (Subprotocol.V4, "kubelet")
        assert done.received["stdout"] == len("naïve kubelet\n".encode())

    def test_arguments_arrive_as_they_are(self, node: Node) -> None:
        words = ["", " a  b ", "&x=1;#?%2f+", "'\"\\", "\n", "ünï", "--", "-x"]
        assert node.run("echo", *words, text=True).stdout == " ".join(words) + "\n"

    def test_binary(self, node: Node) -> None:
        done = node.run("cat", input=ALL_BYTES * 17)
        assert (done.returncode, done.stdout, done.sent["stdin"]) == (0, ALL_BYTES * 17, 17 * 256)

    @pytest.mark.parametrize("size", [0, 1, 32767, 32768, 65528, 65529, MIB + 1])
    def test_sizes_around_those_of_frames_and_records(self, node: Node, size: int) -> None:
        data = random_bytes(size, size)
        assert node.run("random", str(size), str(size)).stdout == data
        assert node.run("cat", input=data).stdout == data

    def test_download_by_digest(self, node: Node) -> None:
        sink = HashSink()
        done = node.run("random", str(16 * MIB), "down", stdout=sink)
        assert (done.returncode, sink.seen) == (0, expected(16 * MIB, "down"))

    def test_upload_by_digest(self, node: Node) -> None:
        sink = HashSink()
        done = node.run("sink", input=hashed_blocks(16 * MIB, "up", sink))
        assert done.stdout.decode() == "{} {}\n".format(*sink.seen)
        assert done.sent["stdin"] == 16 * MIB

    def test_both_ways_at_once(self, node: Node) -> None:
        sent, came = HashSink(), HashSink()
        done = node.run("cat", input=hashed_blocks(16 * MIB + 1, "echo", sent), stdout=came)
        assert (done.returncode, came.seen) == (0, sent.seen)
        assert came.size == 16 * MIB + 1

    def test_both_ways_at_once_from_memory_to_memory(self, node: Node) -> None:
        data = random_bytes(8 * MIB + 3, "memory")
        with node.popen("cat", stdin=PIPE) as process:
            assert process.communicate(data) == (data, b"")
            assert process.wait() == 0

    def test_files_as_ends(self, node: Node, tmp_path: Path) -> None:
        source, target = tmp_path / "in", tmp_path / "out"
        source.write_bytes(random_bytes(MIB + 7, "file"))
        with source.open("rb") as stdin, target.open("wb") as stdout:
            assert node.run("cat", stdin=stdin, stdout=stdout).returncode == 0
        assert target.read_bytes() == source.read_bytes()

    @pytest.mark.parametrize("code", [0, 1, 3, 126, 127, 128, 137, 254, 255])
    def test_exit_codes(self, node: Node, code: int) -> None:
        done = node.run("exit", str(code))
        assert (done.returncode, done.stdout, done.stderr) == (code, b"", b"")
        with node.popen("exit", str(code)) as process:
            assert process.wait() == code

    def test_exit_code_is_an_error_only_if_asked_for(self, node: Node) -> None:
        node.run("true", check=True)
        with pytest.raises(CommandFailed) as caught:
            node.run("exit", "3", check=True)
        assert caught.value.returncode == 3

    def test_failure_of_the_runtime_is_no_exit_code(self, node: Node) -> None:
        with pytest.raises(RemoteError, match="cannot start") as caught:
            node.run("fail", "cannot", "start")
        assert "cannot start" in caught.value.message

    def test_outputs_stay_apart(self, node: Node) -> None:
        done = node.run("both", "3000", text=True)
        assert done.stdout.splitlines() == [f"out {i}" for i in range(3000)]
        assert done.stderr.splitlines() == [f"err {i}" for i in range(3000)]

    def test_only_the_outputs_that_were_asked_for(self, node: Node) -> None:
        assert node.run("both", "2", stderr=None).stdout == b"out 0\nout 1\n"
        assert node.run("both", "2", stdout=None).stderr == b"err 0\nerr 1\n"

    def test_captured_output_is_bounded(self, node: Node) -> None:
        with pytest.raises(OutputLimitExceeded) as caught:
            node.run("random", str(4 * MIB), "cap", stdout=CAPTURE, capture_limit=100_001)
        assert caught.value.stdout == random_bytes(100_001, "cap")

    # -- stdin ---------------------------------------------------------------------------------------------------------

    def test_half_close(self, node: Node) -> None:
        """The end of stdin reaches the command; its output and exit code still come."""
        with node.popen("cat", stdin=PIPE) as process:
            process.write(b"first,")
            assert process.read(6) == b"first,"
            process.write(b"second")
            assert process.read(6) == b"second"
            process.end_stdin()
            assert process.read() == b""
            assert process.wait() == 0
        with node.popen("sink", stdin=PIPE) as process:
            process.write(b"counted")
            process.end_stdin()
            assert process.read().decode() == f"7 {hashlib.sha256(b'counted').hexdigest()}\n"
            assert process.wait() == 0

    def test_stdin_that_ends_at_once(self, node: Node) -> None:
        assert node.run("cat", input=b"").stdout == b""
        assert node.run("cat", stdin=io.BytesIO(b"")).returncode == 0

    def test_command_that_ends_while_stdin_flows(self, node: Node) -> None:
        endless = (bytes(65536) for _ in iter(int, 1))
        done = node.run("early-exit", "100000", input=endless)
        assert done.returncode == 0
        assert done.sent["stdin"] >= 100000

    def test_writer_learns_that_the_command_has_ended(self, node: Node) -> None:
        with node.popen("early-exit", "10", stdin=PIPE) as process:
            with pytest.raises(StdinClosed):
                process.write_for_ever(bytes(65536))
            assert process.wait() == 0

    def test_stdin_that_is_never_ended(self, node: Node) -> None:
        with node.popen("echo", "done", stdin=PIPE) as process:
            assert process.read() == b"done\n"
            assert process.wait() == 0

    # Most of 5 MiB lies in buffers between, so that nothing tells of it but the server's silence.
    @pytest.mark.parametrize("size", [10, 100_000, 5 * MIB, 64 * MIB])
    def test_unread_stdin_is_no_dead_peer(self, flavour: Flavour, peer: Peer, size: int) -> None:
        """A server whose command does not read may stop to answer PINGs; three deadlines of that are survived."""
        patience = Keepalive(period=0.1, deadline=0.4)
        node = flavour.node(peer.url, **peer.options(), keepalive=patience)
        began = time.monotonic()
        done = node.run("ignore-stdin", "1.5", input=bytes(size))
        assert done.returncode == 0
        assert time.monotonic() - began > 3 * patience.deadline

    # -- terminals -----------------------------------------------------------------------------------------------------

    def test_terminal_sizes(self, node: Node) -> None:
        with node.popen("sizes", "3", tty=True) as process:
            process.resize(80, 24)
            assert process.read(6) == b"80x24\n"
            process.resize(132, 43)
            process.resize(65535, 1)
            assert process.read() == b"132x43\n65535x1\n"
            assert process.wait() == 0

    def test_terminal_with_stdin(self, node: Node) -> None:
        with node.popen("early-exit", "5", tty=True, stdin=PIPE) as process:
            assert process.process.stderr is None
            process.resize(80, 24)
            process.write(b"typed")
            assert process.wait() == 0

    # -- many ----------------------------------------------------------------------------------------------------------

    def test_many_sessions_at_once(self, node: Node) -> None:
        """All of them are open before any of them ends."""
        flavour = node.flavour
        processes = flavour.together([node.opening("cat", stdin=PIPE)] * SESSIONS)
        assert [p for p in processes if isinstance(p, Exception)] == []
        inputs = [random_bytes(10_000 + i, i) for i in range(SESSIONS)]

        def talk(process: Any, data: bytes) -> Any:
            return lambda: process.communicate(data, timeout=50)

        answers = flavour.together([talk(*pair) for pair in zip(processes, inputs, strict=True)])
        assert answers == [(data, b"") for data in inputs]
        assert [process.returncode for process in processes] == [0] * SESSIONS

    def test_many_short_runs_at_once(self, node: Node) -> None:
        answers = node.flavour.together([node.call("exit", str(i % 256)) for i in range(SESSIONS)])
        assert [answer.returncode for answer in answers] == [i % 256 for i in range(SESSIONS)]

    # -- protocol versions ---------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("version", VERSIONS)
    def test_each_version(self, flavour: Flavour, peer: Peer, version: Subprotocol) -> None:
        with peer.speaking(version) as old:
            node = flavour.node(old.url, **old.options())
            done = node.run("both", "300")
            assert (done.returncode, done.protocol) == (0, version)
            assert done.stdout == b"".join(b"out %d\n" % i for i in range(300))
            assert done.stderr == b"".join(b"err %d\n" % i for i in range(300))
            assert node.run("cat", input=ALL_BYTES * 1000).stdout == ALL_BYTES * 1000
            if version.has_json_status:
                assert node.run("exit", "3").returncode == 3
            else:
                with pytest.raises(RemoteError, match="exit code 3"):
                    node.run("exit", "3")
            with pytest.raises(RemoteError, match="no luck"):
                node.run("fail", "no luck")
            self._end_with_stdin_unread(node, version)
            if version.has_resize:
                with node.popen("sizes", "1", tty=True) as process:
                    process.resize(80, 24)
                    assert process.communicate(timeout=30)[0] == b"80x24\n"

    def _end_with_stdin_unread(self, node: Node, version: Subprotocol) -> None:
        """A server that closes its socket with unread bytes in it makes TCP reset the connection, which may destroy
        what is on its way. Before v4 that holds the only proof of completion: the end of the error stream."""
        try:
            assert node.run("early-exit", "10", input=bytes(4 * MIB)).returncode == 0
        except ConnectionLost:
            assert not version.has_json_status

    @pytest.mark.parametrize("version", VERSIONS)
    def test_each_version_offered_alone(self, flavour: Flavour, peer: Peer, version: Subprotocol) -> None:
        node = flavour.node(peer.url, **peer.options(), protocols=(version,))
        assert node.run("echo", "x").protocol == version

    def test_client_order_decides(self, flavour: Flavour, peer: Peer) -> None:
        node = flavour.node(peer.url, **peer.options(), protocols=(Subprotocol.V2, Subprotocol.V4))
        assert node.run("echo", "x").protocol == Subprotocol.V2

    def test_no_version_in_common(self, flavour: Flavour, peer: Peer) -> None:
        with peer.speaking(Subprotocol.V2) as old:
            node = flavour.node(old.url, **old.options(), protocols=(Subprotocol.V4, Subprotocol.V3))
            with pytest.raises(ProtocolNotSupported) as caught:
                node.run("echo", "x")
        assert caught.value.http_status == 403

    # -- requests ------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("method", ["POST", "GET"])
    @pytest.mark.parametrize("uid", [None, "5d1f5d3c-5f0e-4b7e-9c2b-0c6f3c1e4a77"])
    def test_methods_and_paths(self, flavour: Flavour, peer: Peer, method: str, uid: str | None) -> None:
        node = flavour.node(peer.url, **peer.options(), method=method)
        assert node.run("echo", method, pod={"uid": uid}).stdout.decode() == f"{method}\n"

    def test_url_of_the_callers_own(self, flavour: Flavour, peer: Peer) -> None:
        url = exec_url(peer.url, ["cat"], stdin=True, stderr=False)
        streams = StreamSet(stdin=True, stdout=True, stderr=False)
        with flavour.connect_exec(url, **peer.options(), streams=streams) as process:
            assert process.communicate(b"mine")[0] == b"mine"
            assert process.process.route == "url"

    def test_nobody_is_let_in_without_a_good_credential(self, flavour: Flavour, peer: Peer) -> None:
        for options in peer.strangers():
            with pytest.raises(Unauthorized, match="401") as caught:
                flavour.node(peer.url, **options).run("echo", "x")
            assert caught.value.http_status == 401
            assert isinstance(caught.value, PermissionError)

    def test_missing_pod(self, node: Node) -> None:
        with pytest.raises(NotFound, match="pod does not exist") as caught:
            node.run("echo", pod={"pod": "other"})
        assert caught.value.http_status == 404

    def test_missing_container(self, node: Node) -> None:
        with pytest.raises(ServerError, match="container not found") as caught:
            node.run("echo", container="other")
        assert caught.value.http_status == 500

    def test_bad_request(self, flavour: Flavour, peer: Peer) -> None:
        url = exec_url(peer.url, ["echo"], stdout=False, stderr=False)
        with pytest.raises(BadRequest, match="must specify at least 1 of stdin, stdout, stderr") as caught:
            flavour.connect_exec(url, **peer.options())
        assert caught.value.http_status == 400

    def test_threads_share_a_process(self, flavour: Flavour, node: Node) -> None:
        """One writes, one reads: more than any pipe between them holds."""
        data = random_bytes(8 * MIB, "threads")
        with node.popen("cat", stdin=PIPE) as process:

            def write() -> None:
                for start in range(0, len(data), 100_000):
                    process.write(data[start : start + 100_000])
                process.end_stdin()

            writer = threading.Thread(target=write)
            writer.start()
            came = process.read()
            writer.join()
            assert came == data
            assert process.wait() == 0

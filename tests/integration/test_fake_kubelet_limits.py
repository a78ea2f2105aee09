"""Clients that are slow, absent or hostile cost the fake kubelet bounded memory and time."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Iterator

import pytest

from fakekubelet import Command, Container, Execution, FakeKubelet, Pod, Timeouts
from spdyproto.channels.events import Lost, StreamKind, StreamSet
from spdyproto.limits import Deadlines
from spdyproto.spdy.connection import SpdyConnection
from spdyproto.spdy.events import DataReceived, StreamAccepted
from spdyproto.types import Role
from support.fakes import Caller
from support.rawclient import connect, exec_target, upgrade_headers

MIB = 1 << 20
CUT = (ConnectionError, ssl.SSLEOFError)


@pytest.fixture(scope="module")
def caller() -> Iterator[Caller]:
    with FakeKubelet() as kubelet:
        yield Caller(kubelet)


def read_to_end(sock: socket.socket) -> bytes:
    """Everything until the server closes, orderly or not; times out if it never does."""
    parts = []
    with contextlib.suppress(*CUT):
        while part := sock.recv(65536):
            parts.append(part)
    return b"".join(parts)


def settled(execution: Execution, kind: StreamKind) -> int:
    """The bytes queued for the client, once they do not grow any more."""
    deadline = time.monotonic() + 30
    last, since = -1, time.monotonic()
    while time.monotonic() - since < 0.3:
        assert time.monotonic() < deadline
        now = execution.sent.get(kind, 0)
        if now != last:
            last, since = now, time.monotonic()
        time.sleep(0.01)
    return last


# time


def test_a_client_that_never_speaks_is_cut_off() -> None:
    with FakeKubelet(timeouts=Timeouts(head=0.1)) as kubelet:
        with socket.create_connection(("127.0.0.1", kubelet.port), 30) as sock:
            assert read_to_end(sock) == b""
        with connect(kubelet.url, kubelet.ca) as sock:
            assert read_to_end(sock) == b""


def test_a_head_that_comes_by_the_byte_is_cut_off() -> None:
    with FakeKubelet(timeouts=Timeouts(head=0.3)) as kubelet, connect(kubelet.url, kubelet.ca) as sock:
        sock.settimeout(0.05)
        start = time.monotonic()
        with pytest.raises(CUT):  # noqa: PT012 - a loop that ends only so
            while time.monotonic() - start < 30:
                sock.sendall(b"G")
                with contextlib.suppress(TimeoutError):
                    if not sock.recv(1):
                        raise ConnectionResetError


def test_an_idle_connection_is_closed_after_a_while() -> None:
    with FakeKubelet(timeouts=Timeouts(idle=0.1)) as kubelet, Caller(kubelet).http() as http:
        assert http.request("GET", "/healthz").status == 200
        assert read_to_end(http.sock) == b""


@pytest.mark.parametrize("target", [exec_target(["true"]), exec_target(["true"], flags="output=1&tty=1")])
def test_streams_that_are_not_opened_in_time_end_the_session(target: str) -> None:
    with (
        FakeKubelet(deadlines=Deadlines(streams=0.2)) as kubelet,
        Caller(kubelet).http() as http,
    ):
        assert http.request("POST", target, upgrade_headers()).status == 101
        engine = SpdyConnection(Role.CLIENT)
        engine.open_stream([("streamtype", "error")])
        http.sock.sendall(b"".join(engine.data_to_send()))
        read_to_end(http.sock)
        (execution,) = kubelet.executions
        assert execution.wait(10) is None


def test_a_terminal_without_its_resize_stream_never_starts() -> None:
    """The real server counts the streams: one is missing, so it waits until it gives up."""
    with FakeKubelet(deadlines=Deadlines(streams=0.3)) as kubelet, Caller(kubelet).http() as http:
        target = exec_target(["echo", "x"], flags="output=1&tty=1")
        assert http.request("POST", target, upgrade_headers()).status == 101
        engine = SpdyConnection(Role.CLIENT)
        for kind in ("error", "stdout"):
            engine.open_stream([("streamtype", kind)])
        http.sock.sendall(b"".join(engine.data_to_send()))
        events = engine.receive_data(read_to_end(http.sock), 0.0)
        assert not any(isinstance(event, DataReceived) for event in events)


def test_an_exec_without_any_traffic_ends() -> None:
    with FakeKubelet(timeouts=Timeouts(stream_idle=0.2)) as kubelet:
        with Caller(kubelet).open(["cat"], streams=StreamSet(stdin=True)) as client, contextlib.suppress(*CUT):
            client.pump_until(lambda: client.outcome is not None)
        kubelet.executions[0].wait_client_left(10)


# memory


def test_a_client_that_reads_nothing_stops_the_command(caller: Caller) -> None:
    with caller.open(["source", str(4096 * MIB)]):
        execution = caller.kubelet.executions[-1]
        assert settled(execution, StreamKind.STDOUT) < 32 * MIB
        assert execution.running
    execution.wait_client_left(10)
    execution.wait(10)  # as a process does on a broken pipe


def test_a_client_that_reads_late_gets_everything(caller: Caller) -> None:
    size = 64 * MIB
    with caller.open(["source", str(size)]) as client:
        settled(caller.kubelet.executions[-1], StreamKind.STDOUT)
        client.keep = False
        assert client.finish().code == 0
        assert client.session.received[StreamKind.STDOUT] == size


def test_stdin_that_nobody_reads_stays_with_the_client(caller: Caller) -> None:
    with caller.open(["ignore-stdin", "1"], streams=StreamSet(stdin=True)) as client:
        client.sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.send(bytes(64 * MIB))
        assert caller.kubelet.executions[-1].received < 8 * MIB


def test_a_command_that_ends_with_stdin_unread_still_tells_how_it_ended(caller: Caller) -> None:
    """The server drops what still comes: closing with unread data would reset the connection under the status."""
    for _ in range(20):
        with caller.open(["early-exit", "1"], streams=StreamSet(stdin=True)) as client:
            client.send(bytes(200_000))
            assert client.finish().code == 0


def test_echo_to_a_client_that_only_writes_is_bounded(caller: Caller) -> None:
    with caller.open(["cat"], streams=StreamSet(stdin=True)) as client:
        client.sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.send(bytes(128 * MIB))
        execution = caller.kubelet.executions[-1]
        assert settled(execution, StreamKind.STDOUT) < 32 * MIB


def test_a_flood_of_pings_that_nobody_collects_ends_the_connection() -> None:
    with FakeKubelet(timeouts=Timeouts(linger=0.1)) as kubelet, Caller(kubelet).open(["sleep", "1000"]) as client:
        ping = struct.pack("!HHII", 0x8003, 6, 4, 1)
        with pytest.raises(CUT):  # noqa: PT012 - a loop that ends only so
            while True:
                client.sock.sendall(ping * 10_000)
        kubelet.executions[-1].wait_client_left(10)


def test_a_broken_frame_is_answered_by_goaway(caller: Caller) -> None:
    with caller.open(["sleep", "1000"]) as client:
        client.sock.sendall(b"\x80\x03\x00\x06\x00\x00\x00\x07" + bytes(7))  # a PING of 7 bytes
        client.pump_until(lambda: client.outcome is not None)
        assert isinstance(client.outcome, Lost)
        caller.kubelet.executions[-1].wait_client_left(10)


def test_stdin_that_comes_before_all_streams_are_open_waits(caller: Caller) -> None:
    with caller.http() as http:
        streams = StreamSet(stdin=True, stderr=False)
        assert http.request("POST", exec_target(["sink"], streams=streams), upgrade_headers()).status == 101
        engine = SpdyConnection(Role.CLIENT)
        ids = [engine.open_stream([("streamtype", kind)]) for kind in ("error", "stdin")]
        http.sock.sendall(b"".join(engine.data_to_send()))
        accepted: set[int] = set()
        while len(accepted) < 2:
            events = engine.receive_data(http.sock.recv(65536), 0.0)
            accepted |= {event.stream_id for event in events if isinstance(event, StreamAccepted)}
        engine.send_data(ids[1], b"hasty")
        engine.end_stream(ids[1])
        engine.open_stream([("streamtype", "stdout")])
        http.sock.sendall(b"".join(engine.data_to_send()))
        output = b"".join(
            bytes(event.data)
            for event in engine.receive_data(read_to_end(http.sock), 0.0)
            if isinstance(event, DataReceived)
        )
        assert output.startswith(b"5 ")


def test_connections_beyond_the_limit_are_closed() -> None:
    with FakeKubelet(max_connections=2) as kubelet:
        caller = Caller(kubelet)
        address = ("127.0.0.1", kubelet.port)
        with caller.connect(), caller.connect(), socket.create_connection(address, 30) as third:
            assert read_to_end(third) == b""


# clients that leave


def test_the_command_goes_on_when_its_client_leaves(caller: Caller) -> None:
    with caller.open(["sleep", "0.5"]):
        execution = caller.kubelet.executions[-1]
    execution.wait_client_left(10)
    status = execution.wait(10)
    assert status is not None
    assert status.ok


@pytest.mark.parametrize("argv", [["cat"], ["sink"], ["early-exit", "1000"], ["sizes", "9"]])
def test_a_command_that_reads_sees_the_end_when_its_client_leaves(caller: Caller, argv: list[str]) -> None:
    streams = StreamSet(stdin=True, stderr=False, tty=argv[0] == "sizes")
    with caller.open(argv, streams=streams) as client:
        if not streams.tty:
            client.send(b"a little")
        execution = caller.kubelet.executions[-1]
    execution.wait_client_left(10)
    execution.wait(10)


class Hasty(Command):
    """Writes more than it may in one go."""

    def start(self) -> None:
        for _ in range(100):
            self.outlet.write(StreamKind.STDOUT, bytes(MIB))


@pytest.mark.parametrize("websocket", [None, "v4.channel.k8s.io"])
def test_a_command_that_does_not_wait_fails_and_the_client_is_told(websocket: str | None) -> None:
    with FakeKubelet([Pod("demo", [Container("main", behaviour=Hasty)])]) as kubelet:
        result = Caller(kubelet).run(["any"], websocket=websocket)
        assert result.code is None
        assert 0 < len(result.stdout) < 100 * MIB
        assert len(result.stdout) % MIB == 0

"""The first law on real sockets: an end without its proof is an error that says what came and what is missing."""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
from collections.abc import Callable

import pytest
import trustme

from kubeletclient import (
    CAPTURE,
    PIPE,
    ConnectionLost,
    Deadlines,
    Keepalive,
    PeerNotResponding,
    Process,
    RemoteError,
    StdinClosed,
    StreamSet,
    connect_exec,
)
from support.scripted import SUCCESS, Peer, Script, ScriptedServer, exit_status
from support.wire import data, goaway, ping, rst

MIB = 1 << 20


def read_all(process: Process) -> bytes:
    assert process.stdout is not None
    return process.stdout.read()


def test_data_before_reset_and_goaway_in_one_segment_is_delivered() -> None:
    def script(peer: Peer) -> None:
        peer.open_streams(3)
        peer.send(
            data(peer.stdout, b"out", fin=True),
            data(peer.stderr, b"err", fin=True),
            data(peer.error, exit_status(7)),
            rst(peer.error),
            goaway(),
        )

    with ScriptedServer(script) as server, connect_exec(server.url) as process:
        assert process.communicate(timeout=10) == (b"out", b"err")
        assert process.returncode == 7


def end_by_reset(peer: Peer) -> None:
    peer.send(rst(peer.error))


def end_by_fin(peer: Peer) -> None:
    peer.send(data(peer.error, fin=True))


def end_by_goaway(peer: Peer) -> None:
    peer.send(goaway())


def end_by_close(peer: Peer) -> None:
    """The connection just ends."""


def end_by_cut(peer: Peer) -> None:
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # close sends RST


ENDS: list[Callable[[Peer], None]] = [end_by_reset, end_by_fin, end_by_goaway, end_by_close, end_by_cut]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("captured", [True, False])
def test_no_status_is_no_success(end: Callable[[Peer], None], captured: bool) -> None:
    def script(peer: Peer) -> None:
        peer.open_streams(3)
        peer.send(data(peer.stdout, b"part"))
        if end in (end_by_reset, end_by_fin):
            peer.send(data(peer.stdout, fin=True), data(peer.stderr, fin=True))
        # The client must have seen the data before the connection is cut: its echo of a PING proves it.
        peer.send(ping(2))
        peer.read_until(lambda frame: frame == ("PING", 2))
        end(peer)

    target = CAPTURE if captured else PIPE
    with ScriptedServer(script) as server, connect_exec(server.url, stdout=target, stderr=target) as process:
        with pytest.raises(ConnectionLost) as caught:
            process.wait(10)
        assert process.returncode is None
        # A GOAWAY stands behind the last byte, so it ends the outputs; what it cannot stand for is the status.
        if not captured and end not in (end_by_reset, end_by_fin, end_by_goaway):
            assert process.stdout is not None
            assert process.stdout.read(4) == b"part"
            with pytest.raises(ConnectionLost):
                process.stdout.read(1)
    error = caught.value
    assert error.received["stdout"] == 4
    assert "the exit status" in error.owed
    assert "4 bytes of stdout" in str(error)
    assert error.stdout == (b"part" if captured else None)


def test_what_came_before_the_loss_is_read_first() -> None:
    def script(peer: Peer) -> None:
        peer.open_streams(3)
        peer.send(data(peer.stdout, b"x" * 100000))

    with ScriptedServer(script) as server, connect_exec(server.url) as process:
        assert process.stdout is not None
        assert b"".join(process.stdout.read(30000) for _ in range(4)) == b"x" * 100000
        with pytest.raises(ConnectionLost, match="the end of stdout"):
            process.stdout.read(1)


def test_reading_all_or_a_line_never_takes_a_loss_for_the_end() -> None:
    def script(peer: Peer) -> None:
        peer.open_streams(3)
        peer.send(data(peer.stdout, b"line\nhalf a l"), data(peer.stderr, b"x" * 100))

    with ScriptedServer(script) as server, connect_exec(server.url) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        with pytest.raises(ConnectionLost):
            process.stdout.read()
        assert process.stdout.readline() == b"line\n"
        for _ in range(2):
            with pytest.raises(ConnectionLost):
                process.stdout.readline()
        assert process.stdout.readline(4) == b"half"
        assert process.stdout.read1() == b" a l"
        with pytest.raises(ConnectionLost):
            process.stdout.read1()
        with pytest.raises(ConnectionLost):
            list(process.stderr)
        assert process.stderr.readinto(bytearray(200)) == 100


def test_an_output_that_ended_is_no_loss_for_its_reader() -> None:
    def script(peer: Peer) -> None:
        peer.open_streams(3)
        peer.send(data(peer.stdout, b"all of it", fin=True))

    with ScriptedServer(script) as server, connect_exec(server.url) as process:
        assert read_all(process) == b"all of it"
        assert read_all(process) == b""
        with pytest.raises(ConnectionLost):
            process.wait(10)


def test_tls_that_is_cut_without_its_own_end() -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    def script(peer: Peer) -> None:
        peer.open_streams(3)
        peer.send(data(peer.stdout, b"all", fin=True), data(peer.stderr, fin=True), data(peer.error, SUCCESS))
        # Neither close_notify nor FIN on the error stream: the status itself may have been cut short.
        assert isinstance(peer.sock, ssl.SSLSocket)
        peer.sock.shutdown(socket.SHUT_WR)
        peer.read_to_the_end()

    with (
        ScriptedServer(script, tls=context) as server,
        connect_exec(server.url, ca=authority.cert_pem.bytes()) as process,
    ):
        assert read_all(process) == b"all"
        with contextlib.suppress(ConnectionLost):
            assert process.wait(10) == 0, "a whole JSON status proves itself"


def test_a_broken_record_loses_the_session_and_not_the_data_before_it() -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    def script(peer: Peer) -> None:
        peer.open_streams(3)
        peer.send(data(peer.stdout, b"good"))
        with socket.socket(fileno=peer.sock.detach()) as raw:
            raw.settimeout(10)
            raw.sendall(b"\x17\x03\x03\x00\x20" + b"\0" * 32)
            while raw.recv(65536):
                pass

    with (
        ScriptedServer(script, tls=context) as server,
        connect_exec(server.url, ca=authority.cert_pem.bytes()) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.read(4) == b"good"
        with pytest.raises(ConnectionLost) as caught:
            process.wait(10)
    chain: BaseException | None = caught.value
    kinds = []
    while chain is not None:
        kinds.append(type(chain))
        chain = chain.__cause__
    assert any(issubclass(kind, ssl.SSLError) for kind in kinds), "the cause is told"


def test_garbage_instead_of_frames() -> None:
    def script(peer: Peer) -> None:
        peer.open_streams(3)
        peer.send(data(peer.stdout, b"good"), b"\x80\x02\x00\x01\x00\x00\x00\x04rubb")
        peer.read_to_the_end()

    with (
        ScriptedServer(script) as server,
        connect_exec(server.url, stdout=CAPTURE) as process,
        pytest.raises(ConnectionLost) as caught,
    ):
        process.wait(10)
    assert caught.value.stdout == b"good"


def test_a_status_that_is_not_one() -> None:
    def script(peer: Peer) -> None:
        peer.open_streams(3)
        peer.send(
            data(peer.stdout, fin=True), data(peer.stderr, fin=True), data(peer.error, b"<html>\x1b[2J", fin=True)
        )

    with (
        ScriptedServer(script) as server,
        connect_exec(server.url) as process,
        pytest.raises(ConnectionLost, match="not a JSON status") as caught,
    ):
        process.wait(10)
    assert "\x1b" not in str(caught.value)


def test_a_failure_without_an_exit_code() -> None:
    def script(peer: Peer) -> None:
        peer.open_streams(3)
        body = b'{"status":"Failure","reason":"InternalError","message":"no such file or directory: x"}'
        peer.send(data(peer.stdout, fin=True), data(peer.stderr, fin=True), data(peer.error, body, fin=True))

    with ScriptedServer(script) as server, connect_exec(server.url) as process:
        with pytest.raises(RemoteError, match="no such file or directory: x; check the command's name"):
            process.wait(10)
        assert process.returncode is None


def test_the_status_may_come_before_the_last_output() -> None:
    def script(peer: Peer) -> None:
        peer.open_streams(3)
        peer.send(
            data(peer.error, SUCCESS, fin=True), data(peer.stderr, fin=True), data(peer.stdout, b"tail", fin=True)
        )

    with ScriptedServer(script) as server, connect_exec(server.url) as process:
        assert read_all(process) == b"tail"
        assert process.wait(10) == 0


def silent_after_the_outputs(peer: Peer) -> None:
    peer.open_streams(3)
    peer.send(data(peer.stdout, fin=True), data(peer.stderr, fin=True))
    peer.read_to_the_end()


def silent_after_the_status(peer: Peer) -> None:
    peer.open_streams(3)
    peer.send(data(peer.error, SUCCESS, fin=True))
    peer.read_to_the_end()


def silent_from_the_start(peer: Peer) -> None:
    peer.open_streams(3)
    assert ("PING", 1) in peer.read_to_the_end()


@pytest.mark.parametrize(
    ("script", "deadlines", "keepalive", "text"),
    [
        (silent_after_the_outputs, Deadlines(status=0.2), None, "no status came within 0.2 s"),
        (silent_after_the_status, Deadlines(drain=0.2), None, "the outputs did not end within 0.2 s"),
        (silent_from_the_start, Deadlines(), Keepalive(period=0.05, deadline=0.2), "PING|pong|alive|silent|answer"),
    ],
)
def test_a_peer_that_owes_something_for_too_long(
    script: Script, deadlines: Deadlines, keepalive: Keepalive | None, text: str
) -> None:
    with (
        ScriptedServer(script) as server,
        connect_exec(server.url, deadlines=deadlines, keepalive=keepalive) as process,
        pytest.raises(PeerNotResponding, match=text),
    ):
        process.wait(10)


def test_stdin_that_the_command_does_not_want() -> None:
    def script(peer: Peer) -> None:
        peer.open_streams(4)
        peer.read_until(lambda frame: frame[0] == "DATA")
        peer.send(rst(peer.stdin))
        peer.read_until(lambda frame: frame == ("PING", 1))
        peer.send(ping(1), data(peer.stdout, b"enough", fin=True), data(peer.stderr, fin=True))
        peer.send(data(peer.error, exit_status(3), fin=True))
        peer.read_to_the_end()

    endless = itertools.repeat(b"x" * 1000)
    keepalive = Keepalive(period=0.05, deadline=10)
    with (
        ScriptedServer(script) as server,
        connect_exec(server.url, stdin=endless, stdout=CAPTURE, keepalive=keepalive) as process,
    ):
        assert process.wait(10) == 3


def test_writing_to_a_command_that_does_not_want_it() -> None:
    def script(peer: Peer) -> None:
        peer.open_streams(4)
        peer.send(rst(peer.stdin), data(peer.stdout, b"x", fin=True), data(peer.stderr, fin=True))
        peer.send(data(peer.error, exit_status(1), fin=True))
        peer.read_to_the_end()

    with ScriptedServer(script) as server, connect_exec(server.url, stdin=PIPE) as process:
        assert process.stdin is not None
        assert read_all(process) == b"x"
        with pytest.raises(StdinClosed, match="the command ended, or does not read it any more"):
            process.stdin.write(b"y" * MIB)
        process.stdin.close()
        assert process.wait(10) == 1


def test_a_server_that_stops_reading_and_ends() -> None:
    def script(peer: Peer) -> None:
        peer.open_streams(4)
        # Nothing of stdin is ever read, so the client's socket is full when the end comes.
        peer.send(data(peer.stdout, fin=True), data(peer.stderr, fin=True), data(peer.error, exit_status(9), fin=True))
        peer.send(goaway())

    streams = StreamSet(stdin=True)
    with (
        ScriptedServer(script) as server,
        connect_exec(server.url, stdin=bytes(64 * MIB), streams=streams, stdout=CAPTURE, stderr=CAPTURE) as process,
    ):
        assert process.wait(10) == 9


def test_a_flood_of_pings_is_bounded() -> None:
    def script(peer: Peer) -> None:
        peer.open_streams(3)
        flood = b"".join(ping(2 * number) for number in range(1, 1001))
        with contextlib.suppress(ConnectionError, TimeoutError):
            peer.sock.settimeout(10)
            while True:
                peer.sock.sendall(flood)

    with (
        ScriptedServer(script) as server,
        connect_exec(server.url, stdout=CAPTURE, stderr=CAPTURE) as process,
        pytest.raises(ConnectionLost),
    ):
        process.wait(30)

"""The transport on a socket pair: partial sends, a full socket, a peer that has gone."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from kubeletclient._flows import Address, Command, Connect, Flow, Load, Receive, Resolve, Send
from kubeletclient._policy import NEVER, Deadline
from kubeletclient.errors import DeadlineExceeded
from kubeletclient.sync.driver import Scratch, Transport, _after, establish, milliseconds, scratch


@pytest.fixture
def pair() -> Iterator[tuple[Transport, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    transport = Transport()
    transport._sock = ours
    with theirs:
        yield transport, theirs
    transport.close()


@pytest.mark.parametrize(
    ("sent", "left"),
    [(0, b"abcdef"), (1, b"bcdef"), (2, b"cdef"), (3, b"def"), (5, b"f"), (6, b"")],
)
def test_what_is_left_after_a_partial_send(sent: int, left: bytes) -> None:
    assert b"".join(map(bytes, _after([b"ab", memoryview(b"cde"), b"f"], sent))) == left


@pytest.mark.parametrize(("seconds", "expected"), [(0, 0), (-1, 0), (0.0001, 1), (1, 1001), (1e12, 0x7FFFFFFF)])
def test_poll_never_wakes_too_early(seconds: float, expected: int) -> None:
    assert milliseconds(seconds) == expected


def test_a_full_socket_keeps_the_rest_in_order(pair: tuple[Transport, socket.socket]) -> None:
    transport, peer = pair
    pieces = [bytes([number]) * 10_000 for number in range(200)]
    transport.queue(pieces)
    got = bytearray()
    while not transport.flush():
        assert transport.blocked
        got += peer.recv(100_000)
    assert not transport.blocked
    peer.setblocking(False)
    while len(got) < 2_000_000:
        got += peer.recv(100_000)
    assert got == b"".join(pieces)


def test_a_peer_that_has_gone_ends_sending_and_not_receiving(pair: tuple[Transport, socket.socket]) -> None:
    transport, peer = pair
    peer.sendall(b"last words")
    peer.close()
    transport.queue([b"x"])
    assert transport.flush()
    assert isinstance(transport.broken, BrokenPipeError)
    assert not transport.blocked
    transport.queue([b"y"])
    assert not transport.blocked
    room = memoryview(bytearray(100))
    assert transport.read(room) == 10
    assert transport.read(room) == 0
    assert transport.end_of_input()


def test_a_closed_transport_answers_nothing(pair: tuple[Transport, socket.socket]) -> None:
    transport, peer = pair
    transport.shutdown()
    assert peer.recv(1) == b""
    transport.close()
    transport.close()
    transport.shutdown()
    transport.say_goodbye()
    assert transport.fileno() == -1
    assert transport.read(memoryview(bytearray(1))) is None
    assert transport.flush()


def test_buffers_are_lent_to_one_pump_at_a_time() -> None:
    with scratch() as outer:
        with scratch() as inner:
            assert inner is not outer
        with scratch() as again:
            assert again is inner
    with scratch() as later:
        assert isinstance(later, Scratch)
        assert later.stdin_room() is later.stdin_room()


def address_of(listener: socket.socket) -> Address:
    return (socket.AF_INET, socket.SOCK_STREAM, 0, "", listener.getsockname())


def test_a_flow_that_fails_leaves_no_socket() -> None:
    def flow() -> Flow:
        assert (yield Load(lambda _: 42)) == 42
        yield Connect(address_of(listener), 5)
        yield Send(b"hi", 5)
        raise LookupError("enough")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        with pytest.raises(LookupError, match="enough"):
            establish(flow(), NEVER)
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.recv(100) == b"hi"
            assert accepted.recv(100) == b""


@pytest.mark.parametrize("command", [Receive(None), Receive(30)])
def test_the_callers_deadline_ends_a_step_and_closes_the_flow(command: Command) -> None:
    closed: list[bool] = []

    def flow() -> Flow:
        try:
            yield Connect(address_of(listener), 5)
            yield command
        finally:
            closed.append(True)
        raise AssertionError("nothing comes")

    text = r"the connection to be set up \(Receive\)"
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(DeadlineExceeded, match=text):
        establish(flow(), Deadline.after(0.05))
    assert closed == [True]


def test_a_steps_own_timeout_is_the_flows_to_judge() -> None:
    def flow() -> Flow:
        yield Connect(address_of(listener), 5)
        try:
            yield Receive(0.02)
        except TimeoutError:
            raise LookupError("judged") from None
        raise AssertionError("nothing comes")

    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(LookupError, match="judged"):
        establish(flow(), Deadline.after(30))


def test_names_are_resolved_within_their_time() -> None:
    def flow() -> Flow:
        found.extend((yield Resolve("localhost", 1, 10)))
        found.extend((yield Resolve("127.0.0.1", 1, 10)))
        found.extend((yield Resolve("127.0.0.1", 1, None)))
        raise LookupError

    found: list[Address] = []
    with pytest.raises(LookupError):
        establish(flow(), NEVER)
    assert ("127.0.0.1", 1) in [address[4] for address in found]

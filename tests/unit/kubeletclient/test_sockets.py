"""Bulk transfers are gathered by the kernel, and whatever else comes is not kept waiting."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator

import pytest

from kubeletclient._sockets import Gatherer

_PIECE = 16 * 1024
_BULK = 1 << 20


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    with ours, theirs:
        yield ours, theirs


def in_bulk(gatherer: Gatherer, sock: socket.socket) -> None:
    for _ in range(_BULK // _PIECE):
        gatherer.came(_PIECE, sock)


def test_it_begins_behind_a_mebibyte_that_came_in_large_pieces(pair: tuple[socket.socket, socket.socket]) -> None:
    gatherer, (ours, _) = Gatherer(), pair
    for _ in range(_BULK // _PIECE - 1):
        gatherer.came(_PIECE, ours)
        assert not gatherer.on
    gatherer.came(_PIECE, ours)
    assert gatherer.on
    assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) > _PIECE


def test_small_pieces_never_begin_it_and_interrupt_the_count(pair: tuple[socket.socket, socket.socket]) -> None:
    gatherer, (ours, _) = Gatherer(), pair
    for _ in range(4 * _BULK // _PIECE):
        gatherer.came(_PIECE - 1, ours)
    for _ in range(_BULK // _PIECE - 1):
        gatherer.came(_PIECE, ours)
    gatherer.came(1, ours)
    gatherer.came(_PIECE, ours)
    assert not gatherer.on
    assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1


def test_once_stopped_any_byte_makes_the_socket_readable(pair: tuple[socket.socket, socket.socket]) -> None:
    gatherer, (ours, theirs) = Gatherer(), pair
    in_bulk(gatherer, ours)
    theirs.sendall(b"the rest")
    gatherer.stop(ours)
    assert not gatherer.on
    assert select.select([ours], [], [], 10)[0]
    in_bulk(gatherer, ours)
    assert gatherer.on, "a transfer that went on is gathered again"


def test_the_end_is_told_at_once(pair: tuple[socket.socket, socket.socket]) -> None:
    gatherer, (ours, theirs) = Gatherer(), pair
    in_bulk(gatherer, ours)
    theirs.shutdown(socket.SHUT_WR)
    assert select.select([ours], [], [], 10)[0]


def test_a_system_without_it_gathers_nothing(pair: tuple[socket.socket, socket.socket]) -> None:
    gatherer, (ours, _) = Gatherer(), pair
    ours.close()  # setsockopt fails, as it does where there is no such option
    in_bulk(gatherer, ours)
    assert not gatherer.on

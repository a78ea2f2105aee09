"""Port-forward sessions, whatever is done in whatever order: nothing is lost, nothing is reported twice."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spdyproto.channels.forwarding import Failed, Finished, ForwardTransport, Received, RemoteEnded, Requested
from spdyproto.channels.portforward import ForwardClient
from spdyproto.channels.portserver import ForwardServer
from support import wire
from support.forwards import ForwardBench, ForwardPair

ACTS = st.lists(
    st.tuples(
        st.sampled_from(["open", "up", "down", "end up", "end down", "finish", "fail", "reset", "carry"]),
        st.integers(0, 3),
        st.binary(max_size=40),
    ),
    max_size=60,
)


class Model:
    """What must have come of everything that was done, connection by connection."""

    def __init__(self, both: ForwardPair) -> None:
        self.both = both
        self.up: dict[int, bytes] = {}
        self.down: dict[int, bytes] = {}
        self.failed: set[int] = set()
        self.reset: set[int] = set()
        self.got: dict[int, bytes] = {}
        self.heard: dict[int, list[str]] = {}
        self.numbers: dict[int, int] = {}

    def act(self, name: str, number: int, data: bytes) -> None:
        both = self.both
        if name == "open":
            self.up[both.client.open(80, 0.0)] = b""
        elif name == "carry":
            self.carry()
        elif number not in self.up:
            return
        elif name == "up" and both.client.may_send(number):
            both.client.send(number, data)
            self.up[number] += data
        elif name == "end up" and both.client.may_send(number):
            both.at_client += both.client.end(number)
        elif name == "reset":
            both.client.reset(number)
            self.reset.add(number)
        elif number in self.numbers:
            self.serve(name, number, self.numbers[number], data)

    def serve(self, name: str, number: int, there: int, data: bytes) -> None:
        server = self.both.server
        if name == "down" and server.may_send(there):
            server.send(there, data)
            self.down[number] = self.down.get(number, b"") + data
        elif name == "end down":
            server.end(there)
        elif name == "finish":
            server.finish(there)
        elif name == "fail" and server.may_send(there):
            server.fail(there, "text")
            self.failed.add(number)

    def carry(self) -> None:
        self.both.settle()
        for event in self.both.at_server:
            if isinstance(event, Requested):
                self.numbers[len(self.numbers)] = event.connection
        for event in self.both.at_client:
            if isinstance(event, Received):
                self.got[event.connection] = self.got.get(event.connection, b"") + bytes(event.data)
            if isinstance(event, RemoteEnded | Finished | Failed):
                self.heard.setdefault(event.connection, []).append(type(event).__name__)
        self.both.at_client, self.both.at_server = [], []


@pytest.mark.parametrize("transport", [ForwardTransport.SPDY, ForwardTransport.TUNNEL])
@given(acts=ACTS, cut=st.sampled_from([None, 1, 3, 50]))
def test_whatever_is_done_each_connection_ends_once_with_all_its_bytes(
    transport: ForwardTransport, acts: list[tuple[str, int, bytes]], cut: int | None
) -> None:
    model = Model(ForwardPair(transport, cut=cut))
    for act in acts:
        model.act(*act)
    model.carry()
    for number in model.up:
        heard = model.heard.get(number, [])
        assert sum(name in ("Finished", "Failed") for name in heard) <= 1
        assert heard.count("RemoteEnded") <= 1
        if "Finished" in heard:
            assert heard[-2:] == ["RemoteEnded", "Finished"]
        if number not in model.reset:
            assert model.got.get(number, b"") == model.down.get(number, b"")
        if number in model.failed and number not in model.reset:
            assert heard[-1] == "Failed" or "Finished" in heard


@given(st.data())
def test_in_what_pieces_bytes_come_makes_no_difference(data: st.DataObject) -> None:
    def told(size: int | None) -> list[Any]:
        bench = ForwardBench(ForwardClient())
        assert isinstance(bench.session, ForwardClient)
        for _ in range(3):
            bench.session.open(80, 0.0)
        peer = bench.peer
        replies = [peer.syn_reply(number) for number in (1, 3, 5, 7, 9, 11)]
        frames = [
            *replies, wire.data(3, b"one"), wire.data(7, b"two", fin=True), wire.data(9, b"text"),
            wire.data(5, fin=True), wire.rst(11), wire.data(3, b"more"), wire.goaway(11),
        ]  # fmt: skip
        return bench.feed(*frames, size=size)

    whole = told(None)
    assert told(data.draw(st.integers(1, 200))) == whole


@given(st.lists(st.binary(max_size=60), max_size=8), st.booleans())
def test_whatever_comes_the_server_never_raises(pieces: list[bytes], clean: bool) -> None:
    bench = ForwardBench(ForwardServer())
    told = []
    for piece in pieces:
        told += bench.feed(piece) if piece else []
        bench.sent()
    told += bench.eof(clean=clean)
    assert [each[0] for each in told].count("SessionOver") == 1

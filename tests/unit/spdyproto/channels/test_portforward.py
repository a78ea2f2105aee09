"""The port-forward session over SPDY, each end before a raw peer."""

from __future__ import annotations

import pytest

from spdyproto.channels.forwarding import ForwardTransport
from spdyproto.channels.portforward import BRIEF_DOUBT, DOUBT_SECONDS, TEXT_SECONDS, ForwardClient
from spdyproto.channels.portserver import ForwardServer
from spdyproto.errors import LocalProtocolError, OutputLimitExceeded
from spdyproto.limits import Deadlines, Keepalive, Limits
from support import wire
from support.forwards import ForwardBench, ForwardPair, tell

ERROR, DATA = 1, 3


def client(**options: object) -> ForwardBench:
    return ForwardBench(ForwardClient(**options))  # type: ignore[arg-type] # a bench passes on what a test names


def server(**options: object) -> ForwardBench:
    return ForwardBench(ForwardServer(**options))  # type: ignore[arg-type] # as above


def opened(port: int = 80, **options: object) -> ForwardBench:
    """A client with one connection that the server has accepted."""
    bench = client(**options)
    assert isinstance(bench.session, ForwardClient)
    assert bench.session.open(port, bench.now) == 0
    bench.sent()
    assert bench.feed(bench.peer.syn_reply(ERROR), bench.peer.syn_reply(DATA)) == [("Opened", 0)]
    bench.sent()
    return bench


def requested(**options: object) -> ForwardBench:
    """A server with one pair that is complete."""
    bench = server(**options)
    told = bench.feed(bench.peer.syn_stream(1, pair("error")), bench.peer.syn_stream(3, pair("data")))
    assert told == [("Requested", 0, 80)]
    bench.sent()
    return bench


def pair(kind: str, port: str = "80", request: str | None = "0") -> dict[str, str]:
    headers = {"streamtype": kind, "port": port}
    return headers if request is None else headers | {"requestid": request}


# -- the client opens -----------------------------------------------------------------------------------------------


def test_both_streams_leave_in_one_flight_and_nothing_follows_before_the_replies() -> None:
    bench = client()
    assert isinstance(bench.session, ForwardClient)
    bench.session.open(8080, 0.0)
    error, data = bench.sent()
    assert (error[0], error[1], sorted(error[3])) == (
        "SYN_STREAM", 1, [("port", "8080"), ("requestid", "0"), ("streamtype", "error")],
    )  # fmt: skip
    assert (data[1], sorted(data[3])) == (3, [("port", "8080"), ("requestid", "0"), ("streamtype", "data")])
    assert not bench.session.may_send(0)
    with pytest.raises(LocalProtocolError):
        bench.session.send(0, b"x")
    assert bench.feed(bench.peer.syn_reply(3)) == []
    assert bench.sent() == []
    assert bench.feed(bench.peer.syn_reply(1)) == [("Opened", 0)]
    assert bench.sent() == [("DATA", 1, b"", wire.FIN)]  # our half of the error stream
    bench.session.send(0, b"x")
    assert bench.sent() == [("DATA", 3, b"x", 0)]


@pytest.mark.parametrize("port", [0, 65536, -1])
def test_a_port_is_a_port(port: int) -> None:
    with pytest.raises(LocalProtocolError):
        ForwardClient().open(port, 0.0)


def test_a_full_session_says_so_and_a_finished_connection_makes_room() -> None:
    bench = opened(limits=Limits(connections=1))
    assert isinstance(bench.session, ForwardClient)
    assert not bench.session.can_open
    with pytest.raises(LocalProtocolError, match="1 of 1"):
        bench.session.open(80, 0.0)
    bench.session.end(0)
    assert bench.feed(wire.data(ERROR, fin=True), wire.data(DATA, fin=True)) == [("RemoteEnded", 0), ("Finished", 0)]
    assert bench.session.can_open


def test_a_server_that_does_not_reply_in_time_fails_that_connection_alone() -> None:
    bench = opened(deadlines=Deadlines(stream_reply=30.0))
    assert isinstance(bench.session, ForwardClient)
    bench.session.open(81, bench.now)
    bench.sent()
    assert bench.session.next_deadline() == 30.0
    assert bench.later(29.9) == []
    assert bench.later(31.0, input_paused=True) == []  # we did not listen, so nothing is late
    (failed,) = bench.later(31.0)
    assert failed[:2] == ("Failed", 1)
    assert "30 s" in failed[2]
    assert bench.sent() == []  # a stream without its reply must not be reset
    assert bench.session.may_send(0)
    bench.feed(bench.peer.syn_reply(5), bench.peer.syn_reply(7))
    assert bench.sent() == [("DATA", 5, b"", wire.FIN), ("RST_STREAM", 7, 5), ("RST_STREAM", 5, 5)]
    assert bench.session.connections == 1


def test_giving_up_a_connection_before_the_replies_resets_it_behind_them() -> None:
    bench = client()
    assert isinstance(bench.session, ForwardClient)
    bench.session.open(80, 0.0)
    bench.session.reset(0)
    assert [frame[0] for frame in bench.sent()] == ["SYN_STREAM", "SYN_STREAM"]
    assert bench.feed(bench.peer.syn_reply(1), bench.peer.syn_reply(3)) == []
    assert ("RST_STREAM", 3, 5) in bench.sent()
    assert bench.session.connections == 0


def test_a_refused_stream_fails_the_connection() -> None:
    bench = client()
    assert isinstance(bench.session, ForwardClient)
    bench.session.open(80, 0.0)
    ((name, number, text),) = bench.feed(wire.rst(DATA, 3))
    assert (name, number) == ("Failed", 0)
    assert "refused" in text
    assert "REFUSED_STREAM" in text
    assert bench.feed(bench.peer.syn_reply(ERROR)) == []


# -- the client's connection ends -----------------------------------------------------------------------------------


def test_half_close_in_either_order_loses_nothing() -> None:
    bench = opened()
    assert isinstance(bench.session, ForwardClient)
    bench.session.send(0, b"request")
    bench.session.end(0)
    assert bench.sent() == [("DATA", DATA, b"request", 0), ("DATA", DATA, b"", wire.FIN)]
    assert not bench.session.may_send(0)
    assert bench.feed(wire.data(DATA, b"ans")) == [("Received", 0, b"ans")]
    told = bench.feed(wire.data(DATA, b"wer"), wire.data(ERROR, fin=True), wire.data(DATA, fin=True))
    assert told == [("Received", 0, b"wer"), ("RemoteEnded", 0), ("Finished", 0)]

    bench = opened()
    assert isinstance(bench.session, ForwardClient)
    assert bench.feed(wire.data(DATA, b"hi", fin=True)) == [("Received", 0, b"hi")]
    assert bench.later(BRIEF_DOUBT) == [("RemoteEnded", 0)]  # no text has followed
    bench.session.send(0, b"more")
    assert bench.session.end(0) == []
    assert bench.feed(wire.data(ERROR, fin=True)) == [("Finished", 0)]


def test_a_text_is_the_failure_of_its_connection_and_of_no_other() -> None:
    bench = opened()
    assert isinstance(bench.session, ForwardClient)
    bench.session.open(81, 0.0)
    bench.feed(bench.peer.syn_reply(5), bench.peer.syn_reply(7))
    told = bench.feed(wire.data(5, b"connection "), wire.data(5, b"refused"), wire.rst(7), wire.rst(5))
    assert told == [("Failed", 1, "connection refused")]
    assert bench.session.may_send(0)
    assert bench.feed(wire.data(DATA, b"on")) == [("Received", 0, b"on")]


def test_a_text_without_an_end_is_taken_after_a_while() -> None:
    bench = opened()
    assert bench.feed(wire.data(ERROR, b"timed out waiting for streams")) == []
    assert bench.session.next_deadline() == TEXT_SECONDS
    assert bench.later(TEXT_SECONDS) == [("Failed", 0, "timed out waiting for streams")]
    assert ("RST_STREAM", DATA, 5) in bench.sent()


def test_a_text_behind_the_end_of_the_data_is_a_failure_still() -> None:
    bench = opened()
    assert isinstance(bench.session, ForwardClient)
    bench.session.end(0)
    assert bench.feed(wire.data(DATA, fin=True)) == []
    assert bench.later(DOUBT_SECONDS) == [("RemoteEnded", 0)]
    assert bench.feed(wire.data(ERROR, b"broken pipe", fin=True)) == [("Failed", 0, "broken pipe")]


@pytest.mark.parametrize("end", [wire.data(ERROR, fin=True), wire.rst(ERROR)])
def test_an_end_of_the_data_that_a_text_explains_is_no_end_of_file(end: bytes) -> None:
    bench = opened()  # containerd ends the data stream of a connection that was refused before it says so
    assert bench.feed(wire.data(DATA, fin=True)) == []
    assert bench.feed(wire.data(ERROR, b"connection refused"), end) == [("Failed", 0, "connection refused")]
    bench = opened()
    assert bench.feed(wire.data(DATA, fin=True), wire.data(ERROR, b"connection ")) == []
    assert bench.later(DOUBT_SECONDS) == []
    assert bench.feed(wire.data(ERROR, b"refused"), end) == [("Failed", 0, "connection refused")]


def test_an_error_stream_that_never_ends_does_not_hold_a_connection() -> None:
    bench = opened()
    assert isinstance(bench.session, ForwardClient)
    bench.session.end(0)
    assert bench.feed(wire.data(DATA, fin=True)) == []
    assert bench.session.next_deadline() == DOUBT_SECONDS
    assert bench.later(DOUBT_SECONDS) == [("RemoteEnded", 0)]
    assert bench.later(TEXT_SECONDS) == [("Finished", 0)]
    assert bench.session.connections == 0


def test_a_reset_is_no_end_of_file() -> None:
    bench = opened()
    told = bench.feed(wire.data(DATA, b"half an ans"), wire.rst(DATA), wire.rst(ERROR))
    assert told[0] == ("Received", 0, b"half an ans")
    assert told[1][:2] == ("Failed", 0)
    assert len(told) == 2


def test_a_reset_behind_the_end_of_the_data_takes_nothing_back() -> None:
    bench = opened()
    told = bench.feed(wire.data(DATA, b"all", fin=True), wire.rst(DATA))
    assert told == [("Received", 0, b"all"), ("RemoteEnded", 0), ("Finished", 0)]


def test_our_reset_is_the_end_of_it() -> None:
    bench = opened()
    assert isinstance(bench.session, ForwardClient)
    bench.session.reset(0)
    bench.session.reset(0)
    assert bench.sent() == [("RST_STREAM", DATA, 5), ("RST_STREAM", ERROR, 5)]
    assert bench.feed(wire.data(DATA, b"late"), wire.data(ERROR, b"late", fin=True)) == []
    assert bench.session.connections == 0


@pytest.mark.parametrize("how", ["goaway", "eof", "cut"])
def test_the_end_of_the_session_is_a_failure_of_what_is_open(how: str) -> None:
    bench = opened()
    told = bench.feed(wire.goaway(DATA)) if how == "goaway" else bench.eof(clean=how == "eof")
    assert told[0][:2] == ("Failed", 0)
    assert told[1][0] == "SessionOver"
    assert bench.feed(wire.data(DATA, b"x")) == []
    assert bench.session.next_deadline() is None


def test_what_was_whole_when_the_session_ended_is_no_failure() -> None:
    bench = opened()
    assert isinstance(bench.session, ForwardClient)
    bench.session.end(0)
    told = bench.feed(wire.data(DATA, b"all", fin=True), wire.goaway(DATA))
    assert told == [("Received", 0, b"all"), ("RemoteEnded", 0), ("Finished", 0), ("SessionOver", "NoneType")]


def test_leaving_resets_what_is_open_and_says_goodbye() -> None:
    bench = opened()
    assert isinstance(bench.session, ForwardClient)
    bench.session.close()
    bench.session.close()
    assert bench.sent() == [("RST_STREAM", DATA, 5), ("GOAWAY", 0, 0)]
    assert bench.feed(wire.data(DATA, b"x")) == []


def test_a_dead_server_is_noticed() -> None:
    bench = opened(keepalive=Keepalive(5.0, 30.0))
    assert bench.later(5.0) == []
    assert bench.sent() == [("PING", 1)]
    assert bench.later(30.0)[-1] == ("SessionOver", "PeerTimeout")


def test_what_is_queued_is_bounded() -> None:
    bench = opened(limits=Limits(queued_bytes=1000))
    assert isinstance(bench.session, ForwardClient)
    with pytest.raises(OutputLimitExceeded):
        bench.session.send(0, bytes(1001))
    assert bench.session.may_send(0)


# -- the server -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"streamtype": "data"},
        {"streamtype": "data", "port": "0"},
        {"streamtype": "data", "port": "65536"},
        {"streamtype": "data", "port": "x"},
        {"streamtype": "data", "port": "+80"},
        {"port": "80"},
        {"port": "80", "streamtype": "stdin"},
    ],
)
def test_the_server_refuses_what_names_no_port_or_no_type(headers: dict[str, str]) -> None:
    bench = server()
    assert bench.feed(bench.peer.syn_stream(1, headers)) == []
    assert bench.sent() == [("RST_STREAM", 1, 5)]
    bench.feed(bench.peer.syn_stream(3, pair("error")))
    assert bench.sent() == [("SYN_REPLY", 3, 0, [])]


def test_the_order_of_the_two_streams_means_nothing() -> None:
    bench = server()
    assert bench.feed(bench.peer.syn_stream(1, pair("data"))) == []
    assert bench.feed(bench.peer.syn_stream(3, pair("error"))) == [("Requested", 0, 80)]


def test_clients_without_request_ids_are_paired_by_stream_ids() -> None:
    bench = server()
    assert bench.feed(bench.peer.syn_stream(5, pair("error", request=None))) == []
    assert bench.feed(bench.peer.syn_stream(7, pair("data", request=None))) == [("Requested", 0, 80)]


def test_half_a_pair_is_told_after_thirty_seconds() -> None:
    bench = server(deadlines=Deadlines(streams=30.0))
    bench.feed(bench.peer.syn_stream(1, pair("error")), bench.peer.syn_stream(3, pair("data", request="7")))
    bench.sent()
    assert bench.session.next_deadline() == 30.0
    bench.later(30.0)
    ((name, stream_id, text, flags),) = bench.sent()
    assert (name, stream_id, flags) == ("DATA", 1, 0)
    assert text.endswith(b"request=0) timed out waiting for streams")
    assert bench.session.next_deadline() is None


@pytest.mark.parametrize("kind", ["error", "data"])
def test_a_second_stream_of_a_kind_is_told_on_the_error_stream(kind: str) -> None:
    bench = server()
    other = {"error": "data", "data": "error"}[kind]
    bench.feed(bench.peer.syn_stream(1, pair(kind)), bench.peer.syn_stream(3, pair(kind)))
    told = [frame for frame in bench.sent() if frame[0] == "DATA"]
    text = f"error processing stream for request 0: {kind} stream already assigned".encode()
    assert told == ([("DATA", 1, text, 0)] if kind == "error" else [])
    assert bench.feed(bench.peer.syn_stream(5, pair(other))) == [("Requested", 0, 80)]


def test_a_hasty_client_loses_nothing_but_is_bounded() -> None:
    bench = server()
    assert bench.feed(bench.peer.syn_stream(1, pair("data"))) == []
    assert bench.feed(wire.data(1, b"GET", fin=True)) == []
    told = bench.feed(bench.peer.syn_stream(3, pair("error")))
    assert told == [("Requested", 0, 80), ("Received", 0, b"GET"), ("RemoteEnded", 0)]

    bench = server(limits=Limits(early_data=10))
    bench.feed(bench.peer.syn_stream(1, pair("data")))
    bench.feed(wire.data(1, bytes(11)))
    assert ("RST_STREAM", 1, 5) in bench.sent()


def test_the_server_ends_a_connection_as_gos_does() -> None:
    bench = requested()
    assert isinstance(bench.session, ForwardServer)
    bench.session.send(0, b"bye")
    bench.session.finish(0)
    bench.session.finish(0)
    fin = wire.FIN
    assert bench.sent() == [("DATA", 3, b"bye", 0), ("DATA", 1, b"", fin), ("DATA", 3, b"", fin)]
    assert bench.feed(wire.data(3, b"late")) == []


def test_the_server_fails_a_connection_as_gos_does() -> None:
    bench = requested()
    assert isinstance(bench.session, ForwardServer)
    bench.session.fail(0, "refused")
    assert bench.sent() == [("DATA", 1, b"refused", 0), ("RST_STREAM", 3, 5), ("RST_STREAM", 1, 5)]


def test_the_server_half_closes() -> None:
    bench = requested()
    assert isinstance(bench.session, ForwardServer)
    bench.session.end(0)
    bench.session.end(0)
    assert bench.sent() == [("DATA", 3, b"", wire.FIN)]
    assert not bench.session.may_send(0)
    assert bench.feed(wire.data(3, b"still")) == [("Received", 0, b"still")]
    bench.session.finish(0)
    assert bench.sent() == [("DATA", 1, b"", wire.FIN)]


def test_a_client_that_resets_is_told_of_and_another_pair_may_follow() -> None:
    bench = requested()
    assert bench.feed(wire.rst(3))[0][:2] == ("Failed", 0)
    told = bench.feed(bench.peer.syn_stream(5, pair("error")), bench.peer.syn_stream(7, pair("data")))
    assert told == [("Requested", 1, 80)]


def test_the_end_of_the_client_ends_every_connection() -> None:
    bench = requested()
    assert [told[0] for told in bench.eof()] == ["Failed", "SessionOver"]


# -- both -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", [ForwardTransport.SPDY, ForwardTransport.TUNNEL])
@pytest.mark.parametrize("cut", [None, 1, 7])
def test_two_ends_back_to_back(transport: ForwardTransport, cut: int | None) -> None:
    both = ForwardPair(transport, cut=cut)
    first, second = both.client.open(80, 0.0), both.client.open(81, 0.0)
    assert both.take()[1] == [("Requested", 0, 80), ("Requested", 1, 81)]
    payload = bytes(range(256)) * 1000
    both.client.send(first, payload)
    both.client.send(second, b"two")
    both.client.end(second)
    both.server.send(0, payload)
    both.server.fail(1, "no")
    at_client, at_server = both.take()
    assert ("Received", 0, payload) in at_server
    assert ("Received", 0, payload) in at_client
    assert ("Failed", 1, "no") in at_client
    both.server.finish(0)
    assert both.take()[0] == [("RemoteEnded", 0)]
    assert tell(both.client.end(first)) == [("Finished", 0)]
    both.client.close()
    assert both.take()[1] == [("SessionOver", "NoneType")]

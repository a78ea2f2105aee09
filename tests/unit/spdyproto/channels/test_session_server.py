"""The server's end of a remote-command session: whom it waits for, what it is told, how it ends."""

from __future__ import annotations

import pytest

from spdyproto.channels.events import StreamKind, StreamSet
from spdyproto.channels.session import ServerSession
from spdyproto.channels.status import ExitStatus
from spdyproto.channels.subprotocols import Subprotocol
from spdyproto.errors import OutputLimitExceeded
from spdyproto.limits import Deadlines, Limits
from support import wire
from support.sessions import ALL, ERROR, RESIZE, STDERR, STDIN, STDOUT, SUCCESS, V1, V2, V3, V4, ServerBench

TTY = StreamSet(stdin=True, stderr=False, tty=True)

# -- opening -------------------------------------------------------------------------------------------------------


def test_silent_until_the_clients_first_frame() -> None:
    session = ServerSession(V4, ALL)
    session.start(0.0)
    assert session.data_to_send() == []
    session.handle_timeout(29.9)
    assert session.data_to_send() == []


def test_each_stream_gets_a_bare_reply_and_the_last_one_starts_the_session() -> None:
    bench = ServerBench(opened=False)
    for name in ("error", "stdin", "stdout"):
        assert bench.feed(bench.open(name)) == []
        assert bench.sent() == [("SYN_REPLY", bench.ids[name], 0, [])]
        assert not bench.session.ready
    assert bench.feed(bench.open("stderr")) == [("Ready",)]
    assert bench.session.ready
    assert bench.session.next_deadline() is None


@pytest.mark.parametrize(("version", "count"), [(V1, 3), (V2, 3), (V3, 4), (V4, 4)])
def test_a_terminal_has_a_resize_stream_from_v3_on(version: Subprotocol, count: int) -> None:
    bench = ServerBench(version, TTY, opened=False)
    names = ["error", "stdin", "stdout", "resize"][:count]
    assert [bench.feed(bench.open(name)) for name in names] == [[]] * (count - 1) + [[("Ready",)]]


def test_streams_beyond_the_expected_number_get_no_reply() -> None:
    bench = ServerBench()
    assert bench.feed(bench.open("stdin"), bench.data(STDIN, b"x")) == [("Stdin", b"x")]
    assert bench.sent() == []


def test_a_stream_whose_end_is_in_the_same_buffer_is_not_replied_to() -> None:
    bench = ServerBench(opened=False)
    assert bench.feed(bench.open("error"), bench.rst(ERROR), bench.open("stdin", flags=wire.UNIDIRECTIONAL)) == []
    assert bench.sent() == []
    assert bench.feed(bench.open("stdout"), wire.goaway())[-1][:2] == ("Lost", "PeerClosed")
    assert bench.sent() == []


def test_a_client_that_reads_no_replies_cannot_fill_the_memory() -> None:
    bench = ServerBench(V4, ALL, limits=Limits(queued_bytes=2000), opened=False)
    for number in range(1, 10_000, 2):
        told = bench.feed(bench.peer.syn_stream(number, {"streamtype": "unknown"}))
        told += bench.feed(wire.rst(number))
        assert bench.session.pending_bytes < 2100
        if told:
            break
    assert [event[:2] for event in told] == [("Lost", "LimitExceeded")]
    assert bench.feed(bench.open("error")) == [], "nothing follows the loss"


# -- what it is told -----------------------------------------------------------------------------------------------


def test_stdin_and_its_end() -> None:
    bench = ServerBench()
    assert bench.feed(bench.data(STDIN, b"abc"), bench.data(STDIN), bench.data(STDIN, b"def", fin=True)) == [
        ("Stdin", b"abcdef"),
        ("StdinEnded",),
    ]
    assert bench.session.received == {STDIN: 6}
    assert bench.feed(bench.rst(STDIN)) == [], "it ended once"


def test_an_end_of_stdin_without_data() -> None:
    bench = ServerBench()
    assert bench.feed(bench.data(STDIN, fin=True)) == [("StdinEnded",)]
    assert bench.session.received == {}


def test_a_reset_of_stdin_is_its_end() -> None:
    bench = ServerBench()
    assert bench.feed(bench.rst(STDOUT), bench.rst(STDIN)) == [("StdinEnded",)]


def test_stdin_that_ends_with_its_opening() -> None:
    bench = ServerBench(V4, StreamSet(stdin=True, stdout=False, stderr=False), opened=False)
    told = bench.feed(bench.open("error"), bench.open("stdin", flags=wire.FIN))
    assert told == [("Ready",), ("StdinEnded",)]
    assert bench.feed(bench.rst(STDIN)) == []


def test_a_repeated_kind_replaces_the_earlier_stream() -> None:
    bench = ServerBench(V4, ALL, opened=False)
    bench.feed(bench.open("error"), bench.open("stdin"), bench.open("stdout"))
    first = bench.ids[STDIN]
    told = bench.feed(bench.open("stdin"))
    assert told == [("Ready",)], "a repeated kind counts"
    second = max(bench.ids.values())
    assert bench.feed(wire.data(first, b"old", fin=True), wire.data(second, b"new")) == [("Stdin", b"new")]
    assert not bench.session.can_write(STDERR)


def test_sizes() -> None:
    bench = ServerBench(V4, TTY)
    told = bench.feed(
        bench.data(RESIZE, b'{"Width":80,"Height":24}\n{"width":132,"hei'), bench.data(RESIZE, b'ght":43}')
    )
    assert told == [("Resized", 80, 24), ("Resized", 132, 43)]
    assert bench.feed(bench.data(RESIZE, b'{"Width":70000}'), bench.data(RESIZE, b'{"Width":1,"Height":1}')) == []
    assert bench.feed(bench.data(STDIN, b"on")) == [("Stdin", b"on")]


def test_what_comes_on_outputs_has_no_meaning() -> None:
    bench = ServerBench()
    assert bench.feed(bench.data(STDOUT, b"?", fin=True), bench.data(ERROR, b"?")) == []


@pytest.mark.parametrize("clean", [False, True])
def test_a_client_that_leaves_is_a_loss(clean: bool) -> None:
    bench = ServerBench()
    assert bench.eof(clean=clean)[0][:2] == ("Lost", "PeerClosed")
    assert bench.session.lost
    assert not bench.session.write(STDOUT, b"x")
    bench.session.end_output(STDOUT)
    bench.session.finish(ExitStatus.success())
    assert bench.session.finished
    assert bench.sent() == []


def test_a_client_that_says_goodbye_is_a_loss_too() -> None:
    bench = ServerBench()
    assert bench.feed(wire.goaway()) == [
        ("Lost", "PeerClosed", "the client closed the connection before the command ended")
    ]


def test_a_violation_is_a_loss_with_its_own_name() -> None:
    bench = ServerBench()
    assert bench.feed(bench.data(STDIN, b"good"), wire.data(0), bench.data(STDIN, b"never"))[1][:2] == (
        "Lost",
        "FramingError",
    )
    assert bench.sent() == [("GOAWAY", 7, 1)]


def test_after_the_end_a_client_may_leave() -> None:
    bench = ServerBench()
    bench.session.finish(ExitStatus.success())
    assert bench.eof() == []
    assert bench.session.lost


# -- what it sends -------------------------------------------------------------------------------------------------


def test_outputs_and_their_ends() -> None:
    bench = ServerBench()
    assert bench.session.write(STDOUT, b"out")
    assert bench.session.write(STDERR, b"err")
    bench.session.end_output(STDOUT)
    bench.session.end_output(STDOUT)
    assert not bench.session.write(STDOUT, b"more")
    assert bench.session.can_write(STDERR)
    assert bench.sent() == [
        ("DATA", bench.ids[STDOUT], b"out", 0),
        ("DATA", bench.ids[STDERR], b"err", 0),
        ("DATA", bench.ids[STDOUT], b"", wire.FIN),
    ]
    assert bench.session.sent == {STDOUT: 3, STDERR: 3}


def test_an_output_that_the_client_reset_takes_nothing() -> None:
    bench = ServerBench()
    bench.feed(bench.rst(STDOUT))
    assert not bench.session.can_write(STDOUT)
    assert not bench.session.write(STDOUT, b"x")
    bench.session.end_output(STDOUT)
    assert bench.sent() == []


def test_nothing_can_be_written_before_the_streams_are_there() -> None:
    bench = ServerBench(opened=False)
    assert not bench.session.write(STDOUT, b"x")
    assert bench.session.data_to_send() == []


@pytest.mark.parametrize("version", [V1, V2, V3, V4])
@pytest.mark.parametrize("ended", [(), (STDOUT,), (STDOUT, STDERR)])
def test_the_end_as_a_go_server_sends_it(version: Subprotocol, ended: tuple[StreamKind, ...]) -> None:
    bench = ServerBench(version)
    for kind in ended:
        bench.session.end_output(kind)
    bench.sent()
    bench.session.finish(ExitStatus.success())
    frames = bench.sent()
    if version is V4:
        assert frames[0] == ("DATA", bench.ids[ERROR], SUCCESS, 0)
        frames = frames[1:]
    reset = [kind for kind in (ERROR, STDIN, STDOUT, STDERR) if kind not in ended]
    assert frames == [*(("RST_STREAM", bench.ids[kind], 5) for kind in reset), ("GOAWAY", 7, 0)]
    bench.session.finish(ExitStatus.success())
    assert bench.sent() == []


def test_a_raw_status_is_sent_as_it_is() -> None:
    bench = ServerBench()
    bench.session.finish(b"not a status")
    assert bench.sent()[0] == ("DATA", bench.ids[ERROR], b"not a status", 0)
    silent = ServerBench()
    silent.session.finish(b"")
    assert silent.sent()[0][0] == "RST_STREAM"


def test_a_status_that_does_not_fit_is_not_lost() -> None:
    bench = ServerBench(V4, ALL, limits=Limits(queued_bytes=1000))
    bench.session.write(STDOUT, bytes(990))
    with pytest.raises(OutputLimitExceeded):
        bench.session.finish(ExitStatus.success())
    assert not bench.session.finished
    assert [frame[0] for frame in bench.sent()] == ["DATA"]
    bench.session.finish(ExitStatus.success())
    assert bench.sent()[0] == ("DATA", bench.ids[ERROR], SUCCESS, 0)


def test_the_end_before_the_streams_are_there() -> None:
    bench = ServerBench(opened=False)
    bench.feed(bench.open("error"))
    bench.sent()
    bench.session.finish(ExitStatus.failure("no such container"))
    assert [frame[0] for frame in bench.sent()] == ["DATA", "RST_STREAM", "GOAWAY"]
    assert bench.feed(bench.open("stdin")) == []


# -- its deadline --------------------------------------------------------------------------------------------------


def test_streams_that_do_not_come_in_time() -> None:
    bench = ServerBench(opened=False)
    bench.feed(bench.open("error"), bench.open("resize"))
    assert bench.session.next_deadline() == 30.0
    assert bench.tick(29.9) == []
    ((name, error, text),) = bench.tick(30.0)
    assert (name, error) == ("Lost", "PeerTimeout")
    assert "within 30 s" in text
    assert "opened: error, resize" in text
    assert bench.session.next_deadline() is None
    assert bench.tick(31.0) == []
    assert bench.feed(bench.open("stdin"), bench.open("stdout"), bench.open("stderr")) == [], "too late"
    assert not bench.session.ready


def test_no_deadline_was_asked_for() -> None:
    bench = ServerBench(V4, ALL, deadlines=Deadlines(streams=None), opened=False)
    assert bench.session.next_deadline() is None
    assert bench.tick(1e9) == []

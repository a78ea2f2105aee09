"""The client's end of a remote-command session: what it sends, what it is told, and what proves the end."""

from __future__ import annotations

import itertools

import pytest

from spdyproto.channels.events import StreamKind, StreamSet
from spdyproto.channels.session import ClientSession
from spdyproto.channels.status import ExitStatus
from spdyproto.channels.subprotocols import Subprotocol
from spdyproto.errors import LocalProtocolError, OutputLimitExceeded, StreamClosedError
from spdyproto.limits import Limits
from support import wire
from support.events import Told
from support.sessions import (
    ALL,
    ERROR,
    EXIT_3,
    RESIZE,
    STDERR,
    STDIN,
    STDOUT,
    SUCCESS,
    SUCCESS_WITH_METADATA,
    V1,
    V2,
    V3,
    V4,
    V5,
    ClientBench,
    outcome,
)

JSON = (V4, V5)
TEXT = (V1, V2, V3)
GONE = ("Exited", ExitStatus.success())


def lost(told: list[Told]) -> str:
    """The text of the loss that ended the session."""
    end = outcome(told)
    assert end is not None
    assert end[0] == "Lost", f"expected a loss, got {end}"
    return f"{end[1]}: {end[2]}"


# -- opening -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", Subprotocol)
@pytest.mark.parametrize(("stdin", "stdout", "stderr", "tty"), list(itertools.product([False, True], repeat=4)))
def test_the_streams_that_a_client_opens(
    version: Subprotocol, stdin: bool, stdout: bool, stderr: bool, tty: bool
) -> None:
    if not (stdin or stdout or stderr) or (tty and stderr):
        with pytest.raises(ValueError, match=r"at least one|not for both"):
            StreamSet(stdin, stdout, stderr, tty)
        return
    bench = ClientBench(version, StreamSet(stdin, stdout, stderr, tty), ready=False)
    names = ["error", *itertools.compress(["stdin", "stdout", "stderr"], [stdin, stdout, stderr])]
    if tty and version not in (V1, V2):
        names.append("resize")
    assert bench.opened == [
        ("SYN_STREAM", 2 * index + 1, 0, [("streamtype", name)], 0) for index, name in enumerate(names)
    ]


def test_nothing_is_sent_before_the_start() -> None:
    session = ClientSession(V4, ALL)
    assert session.data_to_send() == []
    assert session.pending_bytes == 0
    assert session.next_deadline() is None


@pytest.mark.parametrize("last", range(4))
def test_ready_comes_with_the_last_reply_in_any_order(last: int) -> None:
    bench = ClientBench(ready=False)
    ids = list(bench.ids.values())
    ids.append(ids.pop(last))
    for stream_id in ids[:-1]:
        assert bench.feed(bench.peer.syn_reply(stream_id)) == []
        assert not bench.session.ready
    assert bench.feed(bench.peer.syn_reply(ids[-1])) == [("Ready",)]
    assert bench.session.ready
    assert bench.feed(bench.peer.syn_reply(ids[-1])) == [], "a reply that comes twice is ignored"


def test_output_before_the_last_reply_is_delivered() -> None:
    bench = ClientBench(ready=False)
    error, stdin, stdout, stderr = bench.replies()
    assert bench.feed(error, stdin, stdout, bench.data(STDOUT, b"soon")) == [("Output", STDOUT, b"soon")]
    assert bench.feed(stderr) == [("Ready",)]


def test_a_reply_that_ends_the_stream() -> None:
    bench = ClientBench(V4, StreamSet(stderr=False), ready=False)
    told = bench.feed(
        bench.peer.syn_reply(1), bench.peer.syn_reply(3, flags=wire.FIN), bench.data(ERROR, SUCCESS, fin=True)
    )
    assert told == [("Ready",), ("OutputEnded", STDOUT), GONE]


@pytest.mark.parametrize("status", [3, 5])
def test_a_refused_stream_is_a_loss_that_names_it(status: int) -> None:
    bench = ClientBench(ready=False)
    text = lost(bench.feed(bench.rst(STDOUT, status=status)))
    assert text.startswith("PeerClosed: the server refused the stdout stream")
    assert "owed: the reply for error, the reply for stdin, the reply for stdout" in text


# -- what proves the end -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", JSON)
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (SUCCESS, ExitStatus.success()),
        (SUCCESS_WITH_METADATA, ExitStatus.success()),
        (EXIT_3, ExitStatus.exited(3, "command terminated with non-zero exit code: exit 3")),
        (b'{"status":"Failure","message":"no","reason":"InternalError","code":500}', ExitStatus.failure("no")),
    ],
)
@pytest.mark.parametrize("size", [None, 1])
def test_the_end_as_a_go_server_sends_it(
    version: Subprotocol, body: bytes, status: ExitStatus, size: int | None
) -> None:
    bench = ClientBench(version)
    told = bench.feed(
        bench.data(STDOUT, b"out"),
        bench.data(STDERR, b"err"),
        bench.fin(STDOUT, STDERR),
        bench.data(ERROR, body),
        bench.rst(STDIN, ERROR),
        wire.goaway(7),
        size=size,
    )
    assert told == [
        ("Output", STDOUT, b"out"),
        ("Output", STDERR, b"err"),
        ("OutputEnded", STDOUT),
        ("OutputEnded", STDERR),
        ("StdinEnded",),
        ("Exited", status),
    ]
    assert bench.session.received == {ERROR: len(body), STDOUT: 3, STDERR: 3}
    assert bench.session.next_deadline() is None
    assert not bench.session.stdin_open


@pytest.mark.parametrize("version", JSON)
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("end", ["fin", "rst"])
def test_status_and_outputs_may_end_in_any_order(version: Subprotocol, order: tuple[int, ...], end: str) -> None:
    bench = ClientBench(version)
    ends = [
        bench.data(STDOUT, b"last words") + bench.fin(STDOUT),
        bench.fin(STDERR) if end == "fin" else bench.rst(STDERR),
        bench.data(ERROR, SUCCESS) + (bench.fin(ERROR) if end == "fin" else bench.rst(ERROR)),
    ]
    for index in order[:2]:
        assert outcome(bench.feed(ends[index])) is None
    assert bench.feed(ends[order[2]])[-1] == GONE
    assert bench.session.received[STDOUT] == len(b"last words")


@pytest.mark.parametrize("version", TEXT)
@pytest.mark.parametrize("end", ["fin", "rst"])
@pytest.mark.parametrize("text", [b"", b"exec failed: exit code 3"])
def test_before_v4_all_streams_must_have_ended(version: Subprotocol, end: str, text: bytes) -> None:
    bench = ClientBench(version)
    ended = bench.fin if end == "fin" else bench.rst
    assert outcome(bench.feed(bench.data(ERROR, text))) is None
    assert outcome(bench.feed(ended(STDERR))) is None
    assert outcome(bench.feed(ended(STDOUT))) is None
    told = bench.feed(ended(ERROR), wire.goaway())
    assert told[-1] == ("Exited", ExitStatus(None, text.decode()) if text else ExitStatus.success())


@pytest.mark.parametrize("version", TEXT)
@pytest.mark.parametrize("goaway", [False, True])
@pytest.mark.parametrize("clean", [False, True])
def test_before_v4_the_end_of_the_connection_proves_nothing(version: Subprotocol, goaway: bool, clean: bool) -> None:
    bench = ClientBench(version, StreamSet())
    told = bench.feed(bench.data(STDOUT, b"half"), bench.fin(STDERR), wire.goaway() if goaway else b"")
    if not goaway:
        told = bench.eof(clean=clean)
    assert "owed: the end of stdout" in lost(told)


@pytest.mark.parametrize("version", JSON)
@pytest.mark.parametrize("clean", [False, True])
def test_an_empty_error_stream_is_never_success(version: Subprotocol, clean: bool) -> None:
    for end in ("fin", "rst", "goaway", "eof"):
        bench = ClientBench(version)
        told = bench.feed(bench.data(STDOUT, b"out"), bench.fin(STDOUT, STDERR))
        if end == "eof":
            told = bench.eof(clean=clean)
        else:
            told = bench.feed({"fin": bench.fin(ERROR), "rst": bench.rst(ERROR), "goaway": wire.goaway()}[end])
        text = lost(told)
        assert text.startswith("StatusError: the error stream ended empty")
        assert "received 3 bytes of stdout (ended) and 0 bytes of stderr (ended)" in text
        assert "owed: the exit status" in text


@pytest.mark.parametrize("version", JSON)
@pytest.mark.parametrize("clean", [False, True])
def test_the_end_of_the_connection_ends_no_output(version: Subprotocol, clean: bool) -> None:
    bench = ClientBench(version)
    told = bench.feed(
        bench.data(STDOUT, b"some of it"), bench.data(ERROR, SUCCESS), bench.rst(ERROR), bench.fin(STDERR)
    )
    assert outcome(told) is None
    text = lost(bench.eof(clean=clean))
    assert text.startswith("PeerClosed")
    assert "10 bytes of stdout (not ended)" in text
    assert "owed: the end of stdout" in text
    assert "the exit status" not in text.partition("owed")[2]


@pytest.mark.parametrize("body", [SUCCESS[:-1], b"not json", b'{"status":"Maybe"}', b"{}"])
def test_a_status_that_is_none(body: bytes) -> None:
    bench = ClientBench()
    assert lost(bench.feed(bench.fin(STDOUT, STDERR), bench.data(ERROR, body), bench.rst(ERROR))).startswith(
        "StatusError"
    )


def test_a_status_counts_only_when_its_stream_has_ended() -> None:
    bench = ClientBench()
    assert outcome(bench.feed(bench.fin(STDOUT, STDERR), bench.data(ERROR, SUCCESS))) is None
    assert lost(bench.feed(bench.data(ERROR, b"!"), bench.rst(ERROR))).startswith("StatusError")


@pytest.mark.parametrize("kind", [ERROR, STDOUT])
@pytest.mark.parametrize("status", [1, 2, 3, 6, 4711])
def test_an_aborted_stream_is_a_loss(kind: StreamKind, status: int) -> None:
    bench = ClientBench()
    text = lost(bench.feed(bench.data(STDOUT, b"some"), bench.data(ERROR, SUCCESS), bench.rst(kind, status=status)))
    assert f"the server aborted the {kind.value} stream" in text


def test_an_output_that_has_ended_can_be_reset_with_anything() -> None:
    bench = ClientBench()
    bench.feed(bench.fin(STDOUT, STDERR), bench.rst(STDOUT, status=6), bench.rst(STDIN, status=6))
    assert bench.feed(bench.data(ERROR, SUCCESS), bench.rst(ERROR))[-1] == GONE


def test_a_broken_rule_is_not_called_a_refusal() -> None:
    bench = ClientBench(ready=False)
    assert "broke the rules of the stdout stream" in lost(bench.feed(bench.data(STDOUT, b"before its reply")))


@pytest.mark.parametrize("size", [None, 1])
def test_a_violation_after_the_proof_changes_nothing_and_before_it_is_a_loss(size: int | None) -> None:
    bench = ClientBench()
    end = [bench.fin(STDOUT, STDERR), bench.data(ERROR, SUCCESS), bench.rst(ERROR)]
    assert outcome(bench.feed(*end, wire.data(0), size=size)) == GONE
    bench = ClientBench()
    assert lost(bench.feed(*end[:2], wire.data(0), size=size)).startswith("FramingError")


def test_nothing_follows_the_outcome() -> None:
    bench = ClientBench()
    bench.feed(bench.fin(STDOUT, STDERR), bench.data(ERROR, SUCCESS), bench.rst(ERROR))
    kept = bench.session.outcome
    assert kept is not None
    assert bench.feed(wire.data(0), wire.goaway()) == []
    assert bench.eof(clean=False) == []
    assert bench.tick(1e9) == []
    assert bench.session.outcome is kept


# -- streams that are not ours -------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", range(4))
@pytest.mark.parametrize("stream_id", [2, 11])
@pytest.mark.parametrize("size", [None, 1])
def test_a_stream_that_the_server_opens_says_nothing(flags: int, stream_id: int, size: int | None) -> None:
    bench = ClientBench()
    told = bench.feed(
        bench.peer.syn_stream(stream_id, {"streamtype": "stdout"}, flags=flags),
        wire.data(stream_id, b"not asked for", fin=True),
        wire.rst(stream_id),
        bench.data(STDOUT, b"asked for"),
        size=size,
    )
    assert told == [("Output", STDOUT, b"asked for")]


def test_what_comes_on_stdin_and_resize_has_no_meaning() -> None:
    bench = ClientBench(V4, StreamSet(stdin=True, stderr=False, tty=True))
    assert bench.feed(bench.data(STDIN, b"?", fin=True), bench.data(RESIZE, b"?", fin=True)) == []
    bench.session.write_stdin(b"still open")
    assert bench.sent() == [("DATA", bench.ids[STDIN], b"still open", 0)]
    assert bench.feed(bench.fin(STDOUT), bench.data(ERROR, SUCCESS, fin=True))[-1] == GONE


# -- stdin ---------------------------------------------------------------------------------------------------------


def test_stdin_flows_and_ends() -> None:
    bench = ClientBench()
    bench.session.write_stdin(b"abc")
    bench.session.write_stdin(bytearray(2000))
    bench.session.close_stdin()
    stdin = bench.ids[STDIN]
    assert bench.sent() == [("DATA", stdin, b"abc", 0), ("DATA", stdin, bytes(2000), 0), ("DATA", stdin, b"", wire.FIN)]
    assert bench.session.sent == {STDIN: 2003}
    assert not bench.session.stdin_open
    with pytest.raises(StreamClosedError, match="stdin is over"):
        bench.session.write_stdin(b"x")
    with pytest.raises(StreamClosedError, match="stdin is over"):
        bench.session.close_stdin()


def test_stdin_waits_for_ready() -> None:
    bench = ClientBench(ready=False)
    with pytest.raises(LocalProtocolError, match="before the server has replied"):
        bench.session.write_stdin(b"x")
    with pytest.raises(LocalProtocolError, match="before the server has replied"):
        bench.session.close_stdin()
    assert bench.sent() == []
    assert bench.session.stdin_open


def test_a_session_without_stdin_has_none() -> None:
    bench = ClientBench(V4, StreamSet())
    assert not bench.session.stdin_open
    with pytest.raises(LocalProtocolError, match="without stdin"):
        bench.session.write_stdin(b"x")


def test_a_full_queue_refuses_stdin_and_keeps_count() -> None:
    bench = ClientBench(V4, ALL, limits=Limits(queued_bytes=1000))
    bench.session.write_stdin(bytes(900))
    with pytest.raises(OutputLimitExceeded):
        bench.session.write_stdin(bytes(900))
    assert bench.session.sent == {STDIN: 900}
    assert bench.session.pending_bytes == 908
    bench.sent()
    bench.session.write_stdin(bytes(900))


@pytest.mark.parametrize("status", [5, 3, 6])
def test_a_server_that_reads_no_more_stdin_ends_it_and_nothing_else(status: int) -> None:
    bench = ClientBench()
    bench.session.write_stdin(b"unread")
    assert bench.feed(bench.rst(STDIN, status=status)) == [("StdinEnded",)]
    assert not bench.session.stdin_open
    with pytest.raises(StreamClosedError):
        bench.session.write_stdin(b"x")
    assert bench.feed(bench.fin(STDOUT, STDERR), bench.data(ERROR, SUCCESS), bench.rst(ERROR))[-1] == GONE


def test_a_reset_of_stdin_after_our_end_is_no_news() -> None:
    bench = ClientBench()
    bench.session.close_stdin()
    assert bench.feed(bench.rst(STDIN)) == []


# -- resize --------------------------------------------------------------------------------------------------------

TTY = StreamSet(stdin=True, stderr=False, tty=True)


def test_sizes_leave_as_one_object_each() -> None:
    bench = ClientBench(V4, TTY)
    bench.session.resize(80, 24)
    bench.session.resize(65535, 0)
    resize = bench.ids[RESIZE]
    assert bench.sent() == [
        ("DATA", resize, b'{"Width":80,"Height":24}\n', 0),
        ("DATA", resize, b'{"Width":65535,"Height":0}\n', 0),
    ]


def test_sizes_that_cannot_be_sent() -> None:
    bench = ClientBench(V4, TTY, ready=False)
    with pytest.raises(LocalProtocolError, match="before the server has replied"):
        bench.session.resize(80, 24)
    bench.feed(*bench.replies())
    for width, height in ((65536, 24), (80, -1)):
        with pytest.raises(ValueError, match="0 to 65535"):
            bench.session.resize(width, height)
    for version, streams in ((V4, ALL), (V2, TTY)):
        with pytest.raises(LocalProtocolError, match="no resize stream"):
            ClientBench(version, streams).session.resize(80, 24)
    assert bench.sent() == []


def test_a_size_for_nobody_is_dropped() -> None:
    bench = ClientBench(V4, TTY)
    bench.feed(bench.rst(RESIZE))
    bench.session.resize(80, 24)
    assert bench.sent() == []
    other = ClientBench(V4, TTY)
    other.session.close()
    other.sent()
    other.session.resize(80, 24)
    assert other.sent() == []


# -- leaving -------------------------------------------------------------------------------------------------------


def test_leaving_resets_what_is_open_and_says_goodbye() -> None:
    bench = ClientBench()
    bench.session.close_stdin()
    bench.feed(bench.fin(STDOUT))
    bench.sent()
    bench.session.close()
    frames = bench.sent()
    assert frames == [
        ("RST_STREAM", bench.ids[ERROR], 5),
        ("RST_STREAM", bench.ids[STDOUT], 5),
        ("RST_STREAM", bench.ids[STDERR], 5),
        ("GOAWAY", 0, 0),
    ]
    bench.session.close()
    assert bench.sent() == []
    assert bench.feed(bench.data(ERROR, SUCCESS)) == []
    assert bench.eof() == []
    assert bench.session.outcome is None
    with pytest.raises(StreamClosedError):
        bench.session.write_stdin(b"x")


def test_leaving_after_the_outcome() -> None:
    bench = ClientBench()
    bench.feed(bench.fin(STDOUT, STDERR), bench.data(ERROR, SUCCESS), bench.rst(ERROR))
    bench.session.close()
    assert bench.sent()[-1] == ("GOAWAY", 0, 0)
    other = ClientBench()
    other.feed(wire.goaway())
    other.session.close()
    assert other.sent() == [], "a server that said goodbye reads nothing more"


def test_the_ledger_tells_what_came_and_what_is_owed() -> None:
    bench = ClientBench()
    bench.session.write_stdin(b"12345")
    bench.feed(bench.data(STDOUT, b"abc"), bench.fin(STDERR))
    assert bench.session.ledger() == (
        "received 3 bytes of stdout (not ended) and 0 bytes of stderr (ended); sent 5 bytes of stdin; "
        "owed: the end of stdout, the exit status"
    )
    bench.feed(bench.fin(STDOUT), bench.data(ERROR, SUCCESS), bench.rst(ERROR))
    assert bench.session.ledger().endswith("owed: nothing")
    assert "no output, as none was asked for" in ClientBench(V4, StreamSet(True, False, False)).session.ledger()


# -- a missing status and outputs that still come ------------------------------------------------------------------


@pytest.mark.parametrize("end", ["fin", "goaway", "eof"])
@pytest.mark.parametrize("size", [None, 1])
def test_outputs_that_come_after_an_empty_error_stream_are_delivered(end: str, size: int | None) -> None:
    bench = ClientBench()
    told = bench.feed(bench.rst(ERROR), bench.data(STDOUT, b"late, but there"), bench.fin(STDERR), size=size)
    assert told == [("Output", STDOUT, b"late, but there"), ("OutputEnded", STDERR)]
    if end == "eof":
        told = bench.eof(clean=False)
    else:
        told = bench.feed(bench.fin(STDOUT) if end == "fin" else wire.goaway(), size=size)
    text = lost(told)
    assert text.startswith("StatusError: the error stream ended empty")
    assert "received 15 bytes of stdout" in text


@pytest.mark.parametrize("order", [(ERROR, STDIN), (STDIN, ERROR)])
@pytest.mark.parametrize("size", [None, 1])
def test_the_proof_ends_the_session_at_once_however_the_bytes_are_cut(
    order: tuple[StreamKind, ...], size: int | None
) -> None:
    bench = ClientBench()
    told = bench.feed(
        bench.fin(STDOUT, STDERR), bench.data(ERROR, SUCCESS), bench.rst(*order), wire.goaway(7), size=size
    )
    assert (("StdinEnded",) in told) == (order[0] is STDIN)
    assert told[-1] == GONE


def test_everything_may_be_there_before_the_last_reply() -> None:
    bench = ClientBench(V4, StreamSet(stdin=True, stderr=False), ready=False)
    first = bench.peer.syn_reply(bench.ids[ERROR]) + bench.peer.syn_reply(bench.ids[STDOUT])
    told = bench.feed(first, bench.data(STDOUT, b"x", fin=True), bench.data(ERROR, SUCCESS, fin=True))
    assert told == [("Output", STDOUT, b"x"), ("OutputEnded", STDOUT)]
    assert bench.feed(bench.peer.syn_reply(bench.ids[STDIN])) == [("Ready",), GONE]

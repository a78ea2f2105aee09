"""How deployed Kubernetes peers (`moby/spdystream`, `k8s.io/streaming`, client-go) differ from SPDY/3.1 as written.

One test for each quirk, by name. A Python client must survive it, a server must reproduce it, or both.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable

import pytest

from spdyproto.channels.events import StreamSet
from spdyproto.channels.status import ExitStatus
from spdyproto.errors import LocalProtocolError
from spdyproto.limits import Keepalive
from spdyproto.spdy.constants import RstStatus
from spdyproto.types import Policy, Role
from support import wire
from support.events import Told
from support.pair import Bench
from support.sessions import (
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
    V4,
    V5,
    ClientBench,
    ServerBench,
    outcome,
)
from support.wire import RawPeer

SUCCEEDED = ("Exited", ExitStatus.success())
TTY = StreamSet(stdin=True, stderr=False, tty=True)

# -- header blocks -------------------------------------------------------------------------------------------------


def test_one_zlib_stream_per_direction_shared_by_all_header_frames() -> None:
    bench = Bench(Role.CLIENT)
    streams = [bench.engine.open_stream([("streamtype", name)]) for name in ("error", "stdin", "stdout", "stderr")]
    bench.engine.send_headers(streams[0], [("a", "b")])
    segments = [bytes(segment) for segment in bench.engine.data_to_send()]
    assert [frame[3] for frame in bench.peer.read(b"".join(segments))] == [
        *([("streamtype", name)] for name in ("error", "stdin", "stdout", "stderr")),
        [("a", "b")],
    ]
    with pytest.raises(zlib.error):
        RawPeer().read(segments[1])


def test_blocks_of_any_level_are_read_on_one_connection_each() -> None:
    for level in (0, 1, 6, 9):
        bench = Bench(Role.SERVER, level=level)
        told = bench.feed(*(bench.peer.syn_stream(stream_id, {"streamtype": "x"}) for stream_id in (1, 3, 5)))
        assert [event[:3] for event in told] == [("StreamOpened", n, [("streamtype", "x")]) for n in (1, 3, 5)]


def test_a_stream_of_blocks_without_the_dictionary_flag_is_read() -> None:
    bench = Bench()
    bench.peer = RawPeer(dictionary=None)
    told = bench.feed(bench.peer.syn_stream(1, {"a": "b"}), bench.peer.syn_stream(3, {"c": "d"}))
    assert [event[2] for event in told] == [[("a", "b")], [("c", "d")]]


def test_names_leave_in_lower_case() -> None:
    bench = Bench(Role.CLIENT)
    bench.engine.open_stream([("streamType", "stdin"), ("requestID", "0")])
    assert bench.sent()[0][3] == [("streamtype", "stdin"), ("requestid", "0")]


@pytest.mark.parametrize("policy", Policy)
def test_a_name_in_mixed_case_ends_the_connection(policy: Policy) -> None:
    bench = Bench(policy=policy)
    (told,) = bench.feed(bench.peer.syn_stream(1, {"streamType": "stdin"}))
    assert told[:2] == ("ConnectionTerminated", "HeaderBlockError")
    assert bench.sent() == [("GOAWAY", 0, 1)]


def test_a_repeated_name_is_merged_and_not_refused() -> None:
    bench = Bench()
    (told,) = bench.feed(bench.peer.syn_stream(1, [("a", "1"), ("a", "2")]))
    assert told[2] == [("a", "1"), ("a", "2")]


@pytest.mark.parametrize("name", ["connection", "host", "keep-alive", "proxy-connection", "transfer-encoding"])
def test_hop_by_hop_names_end_the_connection(name: str) -> None:
    bench = Bench()
    assert bench.feed(bench.peer.syn_stream(1, {name: "x"}))[0][:2] == ("ConnectionTerminated", "HeaderBlockError")
    client = Bench(Role.CLIENT)
    told = client.feed(client.peer.syn_reply(client.we_open(replied=False), {name: "x"}))
    assert told[0][0] == ("StreamAccepted" if name == "host" else "ConnectionTerminated")


@pytest.mark.parametrize("policy", Policy)
@pytest.mark.parametrize("why", ["lower id", "too many", "after goaway", "unknown reply", "unknown headers"])
def test_the_block_of_a_refused_frame_still_advances_the_inflater(policy: Policy, why: str) -> None:
    bench = Bench(policy=policy)
    if why == "lower id":
        if policy is Policy.STRICT:
            return  # the connection ends there
        bench.peer_opens(5)
        refused = bench.peer.syn_stream(3, {"refused": "yes"})
    elif why == "too many":
        for stream_id in range(1, 513, 2):
            bench.peer_opens(stream_id, accept=False)
        refused = bench.peer.syn_stream(513, {"refused": "yes"})
    elif why == "after goaway":
        bench.peer_opens(1)
        bench.engine.go_away()
        bench.feed(bench.peer.syn_stream(3, {"refused": "yes"}))
        assert bench.feed(bench.peer.headers(1, {"in": "step"})) == [("HeadersReceived", 1, [("in", "step")], False)]
        return
    else:
        make = bench.peer.syn_reply if why == "unknown reply" else bench.peer.headers
        refused = make(99, {"refused": "yes"})
    assert bench.feed(refused) == []
    if why == "too many":
        assert bench.feed(wire.rst(1)) != []
    (told,) = bench.feed(bench.peer.syn_stream(1001, {"in": "step"}))
    assert told[:3] == ("StreamOpened", 1001, [("in", "step")])


def test_each_header_frame_leaves_in_one_segment_with_its_trailer() -> None:
    """A Go peer that does not find the end of a block in the same read stops reading for good."""
    bench, server = Bench(Role.CLIENT), ServerBench(opened=False)
    for name in ("error", "stdin", "stdout", "stderr"):
        bench.engine.open_stream([("streamtype", name)])
    server.feed(*(server.open(name) for name in ("error", "stdin", "stdout", "stderr")))
    for segments, kind in ((bench.engine.data_to_send(), 1), (server.session.data_to_send(), 2)):
        assert len(segments) == 4
        for segment in segments:
            assert bytes(segment[:4]) == b"\x80\x03\x00" + bytes([kind])
            assert len(segment) == 8 + int.from_bytes(segment[5:8], "big")
            assert bytes(segment[-4:]) == b"\x00\x00\xff\xff"
            assert len(segment) < 4096


def test_frames_that_arrive_in_the_pieces_of_a_go_writer() -> None:
    """Its framer writes a control frame as 2 + 2 + 4 bytes and payload, a data frame as 4 + 4 and payload."""
    bench = Bench()
    syn, told = bench.peer.syn_stream(1, {"streamtype": "stdin"}), []
    data = wire.data(1, b"payload")
    for part in (syn[:2], syn[2:4], syn[4:8], syn[8:12], syn[12:16], syn[16:17], syn[17:18], syn[18:]):
        told += bench.feed(part)
    bench.engine.accept_stream(1)
    for part in (data[:4], data[4:8], data[8:]):
        told += bench.feed(part)
    assert [event[0] for event in told] == ["StreamOpened", "DataReceived"]


# -- before the reply ----------------------------------------------------------------------------------------------


def test_a_client_sends_nothing_on_a_stream_before_its_reply() -> None:
    bench = ClientBench(ready=False, keepalive=Keepalive(period=0.25, deadline=30.0))
    assert {frame[0] for frame in bench.opened} == {"SYN_STREAM"}
    with pytest.raises(LocalProtocolError):
        bench.session.write_stdin(b"x")
    with pytest.raises(LocalProtocolError):
        bench.session.close_stdin()
    bench.tick(1.0)
    assert {frame[0] for frame in bench.sent()} == {"PING"}
    bench.feed(*bench.replies())
    assert bench.sent() == []
    bench.session.write_stdin(b"x")
    bench.session.close_stdin()
    assert [frame[0] for frame in bench.sent()] == ["DATA", "DATA"]


def test_a_server_drops_what_comes_before_its_reply_and_the_fin_with_it() -> None:
    bench = Bench()
    bench.peer_opens(1, accept=False)
    assert bench.feed(wire.data(1, b"lost"), wire.data(1, b"lost", fin=True)) == []
    assert bench.sent() == []
    bench.engine.accept_stream(1)
    assert bench.feed(wire.data(1, b"heard")) == [("DataReceived", 1, b"heard", False)]


def test_data_before_the_reply_is_legal_as_written() -> None:
    bench = Bench(policy=Policy.STRICT)
    bench.peer_opens(1, accept=False)
    assert bench.feed(wire.data(1, b"heard", fin=True)) == [("DataReceived", 1, b"heard", True)]


def test_a_client_never_resets_a_stream_before_its_reply() -> None:
    bench = ClientBench(ready=False)
    bench.feed(*bench.replies()[:2])
    bench.session.close()
    assert bench.sent() == [("RST_STREAM", 1, 5), ("RST_STREAM", 3, 5), ("GOAWAY", 0, 0)], "only what was replied to"


def test_a_session_never_sends_headers_frames() -> None:
    client, server = ClientBench(V4, TTY), ServerBench(V4, TTY)
    client.session.write_stdin(b"x")
    client.session.resize(80, 24)
    client.session.close_stdin()
    client.session.close()
    server.session.write(STDOUT, b"x")
    server.session.end_output(STDOUT)
    server.session.finish(ExitStatus.exited(3))
    for bench in (client, server):
        assert {frame[0] for frame in bench.sent()} <= {"DATA", "RST_STREAM", "GOAWAY"}


def test_headers_on_an_open_stream_are_reported_and_hurt_nobody() -> None:
    bench = ClientBench()
    told = bench.feed(bench.peer.headers(bench.ids[STDOUT], {"x": "y"}), bench.data(STDOUT, b"on"))
    assert told == [("Output", STDOUT, b"on")]


# -- no flow control -----------------------------------------------------------------------------------------------


def test_ten_mebibytes_pass_without_a_window_update() -> None:
    bench = ClientBench()
    block, received = wire.data(bench.ids[STDOUT], bytes(32 * 1024)) * 32, 0
    for _ in range(10):
        received += sum(len(event[2]) for event in bench.feed(block))
    assert received == 10 << 20
    assert bench.sent() == []
    sent = 0
    for _ in range(10):
        bench.session.write_stdin(bytes(1 << 20))
        sent += sum(len(frame[2]) for frame in bench.sent())
    assert sent == 10 << 20


@pytest.mark.parametrize(
    "frame",
    [
        wire.window_update(0, 1),
        wire.window_update(1, 0x7FFFFFFF),
        wire.window_update(99, 0),
        wire.settings([(7, 0, 0)]),
        wire.settings([(7, 0xFFFFFFFF, 1), (4, 0, 2)], flags=1),
        wire.settings([]),
    ],
)
def test_window_updates_and_settings_are_read_and_ignored(frame: bytes) -> None:
    bench = ClientBench()
    assert bench.feed(frame, frame) == []
    bench.session.write_stdin(bytes(100_000))
    assert sum(len(sent[2]) for sent in bench.sent()) == 100_000
    assert bench.feed(bench.data(STDOUT, bytes(100_000))) == [("Output", STDOUT, bytes(100_000))]


# -- resets and ends -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [None, 1])
def test_a_reset_is_an_end_that_keeps_what_was_delivered(size: int | None) -> None:
    """Status, resets, GOAWAY in one segment: all of it counts."""
    bench = ClientBench()
    told = bench.feed(
        bench.data(STDOUT, b"all of it"),
        bench.data(ERROR, EXIT_3),
        bench.rst(STDOUT, STDERR, ERROR, STDIN),
        wire.goaway(7),
        size=size,
    )
    assert told[0] == ("Output", STDOUT, b"all of it")
    assert told[-1] == ("Exited", ExitStatus.exited(3, "command terminated with non-zero exit code: exit 3"))


def test_goaway_ends_reading() -> None:
    bench = ClientBench()
    told = bench.feed(
        bench.data(STDOUT, b"before"), wire.goaway(7), bench.data(STDOUT, b"after"), bench.data(ERROR, SUCCESS)
    )
    assert told[0] == ("Output", STDOUT, b"before")
    assert told[-1][:2] == ("Lost", "StatusError")


def test_all_data_precedes_goaway_in_what_a_server_sends() -> None:
    bench = ServerBench()
    bench.session.write(STDOUT, bytes(200_000))
    bench.session.write(STDERR, b"err")
    bench.session.finish(ExitStatus.success())
    names = [frame[0] for frame in bench.sent()]
    assert names[-1] == "GOAWAY"
    assert names.index("RST_STREAM") > max(index for index, name in enumerate(names) if name == "DATA")


def test_goaway_with_open_streams_is_an_orderly_end() -> None:
    bench = ClientBench()
    told = bench.feed(bench.data(STDOUT, b"out"), bench.data(ERROR, SUCCESS), wire.goaway(7))
    assert told == [("Output", STDOUT, b"out"), ("OutputEnded", STDOUT), ("OutputEnded", STDERR), SUCCEEDED]


def test_data_for_an_unknown_stream_is_ignored() -> None:
    bench = Bench()
    assert bench.feed(wire.data(99, b"x"), wire.data(99, fin=True)) == []
    assert bench.sent() == []
    assert not bench.engine.terminated


def test_data_after_a_fin_is_dropped() -> None:
    bench = Bench()
    bench.peer_opens(1)
    assert bench.feed(wire.data(1, fin=True), wire.data(1, b"late")) == [("DataReceived", 1, b"", True)]
    assert bench.sent() == []


def test_a_reset_of_an_unknown_stream_is_ignored() -> None:
    bench = Bench()
    assert bench.feed(wire.rst(99), wire.rst(99)) == []
    assert bench.sent() == []


def test_a_second_reply_is_ignored() -> None:
    bench = Bench(Role.CLIENT)
    stream_id = bench.we_open()
    assert bench.feed(bench.peer.syn_reply(stream_id), bench.peer.syn_reply(99)) == []
    assert bench.sent() == []


def test_writing_after_the_peers_fin_is_fine() -> None:
    bench = Bench(Role.CLIENT)
    stream_id = bench.we_open()
    bench.feed(wire.data(stream_id, fin=True))
    bench.engine.send_data(stream_id, b"still")
    assert bench.sent() == [("DATA", stream_id, b"still", 0)]


def test_fin_with_payload_delivers_both() -> None:
    bench = ClientBench()
    assert bench.feed(bench.data(STDOUT, b"last", fin=True)) == [("Output", STDOUT, b"last"), ("OutputEnded", STDOUT)]


# -- ids and pings -------------------------------------------------------------------------------------------------


def test_a_lower_or_repeated_id_is_reset_and_the_connection_lives() -> None:
    bench = Bench()
    bench.peer_opens(1)
    bench.peer_opens(5)
    assert bench.feed(bench.peer.syn_stream(1, {"a": "b"}), bench.peer.syn_stream(3)) == []
    assert bench.sent() == [("RST_STREAM", 1, RstStatus.PROTOCOL_ERROR), ("RST_STREAM", 3, RstStatus.PROTOCOL_ERROR)]
    assert bench.feed(wire.data(1, b"lives on")) == [("DataReceived", 1, b"lives on", False)]
    assert bench.feed(bench.peer.syn_stream(7))[0][:2] == ("StreamOpened", 7)


def test_the_id_of_a_stream_that_has_ended_is_not_taken_again() -> None:
    bench = Bench()
    bench.peer_opens(3)
    bench.feed(wire.rst(3))
    assert bench.feed(bench.peer.syn_stream(3)) == []
    assert bench.sent() == [("RST_STREAM", 3, RstStatus.PROTOCOL_ERROR)]


def test_wrong_parity_is_accepted() -> None:
    bench = Bench()
    for stream_id in (2, 4):
        assert bench.feed(bench.peer.syn_stream(stream_id))[0][:2] == ("StreamOpened", stream_id)
        bench.engine.accept_stream(stream_id)
        assert bench.sent() == [("SYN_REPLY", stream_id, 0, [])]


def test_skipped_ids_are_accepted() -> None:
    bench = Bench()
    assert [event[1] for event in bench.feed(bench.peer.syn_stream(3), bench.peer.syn_stream(0x7FFFFFFF))] == [
        3,
        0x7FFFFFFF,
    ]


def test_pings_are_echoed_by_parity() -> None:
    client, server = Bench(Role.CLIENT), Bench(Role.SERVER)
    for bench, theirs, ours in ((client, 2, 1), (server, 1, 2)):
        bench.feed(wire.ping(theirs), wire.ping(ours))
        assert bench.sent() == [("PING", theirs)]


@pytest.mark.parametrize("kind", [3, 6])
@pytest.mark.parametrize("size", [0, 3, 5, 7, 9, 12])
@pytest.mark.parametrize("policy", Policy)
def test_ping_and_reset_of_a_wrong_length_end_the_connection_instead_of_the_framing(
    kind: int, size: int, policy: Policy
) -> None:
    bench = Bench(policy=policy)
    (told,) = bench.feed(wire.control(kind, b"\x01" * size), wire.ping(1))
    assert told[:2] == ("ConnectionTerminated", "FramingError")
    assert bench.sent() == [("GOAWAY", 0, 1)]


@pytest.mark.parametrize("kind", [0, 5, 10, 11, 0xFFFF])
def test_an_unknown_control_frame_ends_a_kubernetes_connection_and_no_other(kind: int) -> None:
    frame = wire.control(kind, b"whatever")
    assert Bench().feed(frame)[0][:2] == ("ConnectionTerminated", "FramingError")
    strict = Bench(policy=Policy.STRICT)
    assert strict.feed(frame, wire.ping(1)) == [("PingReceived", 1)]


@pytest.mark.parametrize("version", [0, 1, 2, 4, 0x7FFF])
def test_another_version_ends_the_connection(version: int) -> None:
    for policy in Policy:
        told = Bench(policy=policy).feed(wire.control(6, wire.u32(1), version=version))
        assert told[0][:2] == ("ConnectionTerminated", "FramingError")


# -- sessions ------------------------------------------------------------------------------------------------------


def test_a_server_is_silent_until_the_clients_first_frame() -> None:
    bench = ServerBench(opened=False)
    bench.tick(29.0)
    assert bench.session.data_to_send() == []


def test_the_streams_of_a_session_open_in_gos_order() -> None:
    bench = ClientBench(V4, StreamSet(stdin=True))
    assert bench.ids == {"error": 1, "stdin": 3, "stdout": 5, "stderr": 7}
    assert ClientBench(V4, TTY).ids == {"error": 1, "stdin": 3, "stdout": 5, "resize": 7}


def test_a_terminal_and_stderr_are_never_both_asked_for() -> None:
    with pytest.raises(ValueError, match="not for both"):
        StreamSet(tty=True, stderr=True)


def test_a_connection_without_a_protocol_is_v1_and_its_errors_are_text() -> None:
    bench = ClientBench(V1, StreamSet())
    told = bench.feed(bench.fin(STDOUT, STDERR), bench.data(ERROR, b"exec failed"), bench.fin(ERROR), wire.goaway())
    assert told[-1] == ("Exited", ExitStatus(None, "exec failed"))


@pytest.mark.parametrize("text", [b"", b"exec failed: 3"])
def test_a_v1_server_resets_the_error_stream_first_and_writes_on_it_all_the_same(text: bytes) -> None:
    """Taking that reset for the empty end of the stream, as client-go does, makes every failure a success."""
    bench = ClientBench(V1, StreamSet())
    told = bench.feed(bench.rst(ERROR), bench.fin(STDOUT, STDERR))
    assert outcome(told) is None
    told = bench.feed(bench.data(ERROR, text) if text else b"", wire.goaway())
    assert told[-1] == ("Exited", ExitStatus(None, text.decode()) if text else ExitStatus.success())


def test_late_data_on_a_reset_stream_means_nothing_to_later_versions() -> None:
    bench = ClientBench(V2, StreamSet())
    told = bench.feed(bench.rst(ERROR), bench.data(ERROR, b"late"), bench.fin(STDOUT, STDERR))
    assert told[-1] == SUCCEEDED


@pytest.mark.parametrize("body", [SUCCESS, SUCCESS_WITH_METADATA])
def test_v5_over_spdy_is_v4(body: bytes) -> None:
    ends = []
    for version in (V4, V5):
        bench = ClientBench(version)
        ends.append(bench.feed(bench.fin(STDOUT, STDERR), bench.data(ERROR, body), bench.rst(ERROR))[-1])
    assert ends == [SUCCEEDED, SUCCEEDED]


def test_a_server_counts_replies_and_not_kinds() -> None:
    bench = ServerBench(V4, StreamSet(), opened=False)
    assert bench.feed(bench.open("error"), bench.open("error"), bench.open("unknown")) == []
    assert [frame[0] for frame in bench.sent()] == ["SYN_REPLY"] * 3, "an unknown kind is replied to"
    assert bench.feed(bench.open("stdout")) == [("Ready",)], "three replies counted: the unknown one is not"


def test_a_terminal_without_a_resize_stream_never_starts() -> None:
    bench = ServerBench(V4, TTY, opened=False)
    assert bench.feed(*map(bench.open, ("error", "stdin", "stdout"))) == []
    assert bench.tick(30.0)[0][:2] == ("Lost", "PeerTimeout")


def test_a_client_has_its_own_deadline_for_replies() -> None:
    """A Go server gives up after 30 s and leaves the connection open."""
    bench = ClientBench(ready=False)
    assert bench.tick(30.0)[0][:2] == ("Lost", "PeerTimeout")


@pytest.mark.parametrize("clean", [False, True])
def test_a_connection_that_ends_mid_output_is_no_success(clean: bool) -> None:
    """client-go takes the empty error stream for success: kubectl exec exits 0."""
    bench = ClientBench()
    bench.feed(bench.data(STDOUT, b"half of the out"))
    assert bench.eof(clean=clean)[-1][0] == "Lost"


def test_the_status_may_come_before_the_last_output() -> None:
    bench = ClientBench()
    assert outcome(bench.feed(bench.data(ERROR, SUCCESS), bench.rst(ERROR))) is None
    told = bench.feed(bench.data(STDOUT, b"last bytes"), bench.fin(STDOUT, STDERR))
    assert told[0] == ("Output", STDOUT, b"last bytes")
    assert told[-1] == SUCCEEDED


ENDS: dict[str, Callable[[ClientBench], list[Told]]] = {
    "reset": lambda bench: bench.feed(bench.rst(ERROR)),
    "goaway": lambda bench: bench.feed(wire.goaway(7)),
    "fin of the transport": lambda bench: bench.eof(clean=True),
    "cut of the transport": lambda bench: bench.eof(clean=False),
    "fin": lambda bench: bench.feed(bench.fin(ERROR)),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_error_stream_has_no_fin(end: str) -> None:
    bench = ClientBench()
    assert outcome(bench.feed(bench.fin(STDOUT, STDERR), bench.data(ERROR, SUCCESS))) is None
    assert ENDS[end](bench)[-1] == SUCCEEDED


@pytest.mark.parametrize(
    ("message", "code"),
    [("0", 0), ("1", 1), ("137", 137), ("255", 255), ("256", None), ("-1", None), ("x", None), ("", None)],
)
def test_an_exit_code_is_0_to_255_or_an_error(message: str, code: int | None) -> None:
    bench = ClientBench()
    body = EXIT_3.replace(b'"message":"3"', b'"message":"%s"' % message.encode())
    end = bench.feed(bench.fin(STDOUT, STDERR), bench.data(ERROR, body), bench.rst(ERROR))[-1]
    if code is None:
        assert end[:2] == ("Lost", "StatusError")
    else:
        assert end[0] == "Exited"
        assert end[1].code == code


def test_sizes_are_objects_back_to_back_and_an_error_ends_resizing_only() -> None:
    for size in (None, 1):
        bench = ServerBench(V4, TTY)
        frames = [
            bench.data(RESIZE, b'{"Width":80,"Height":24}{"width":1'),
            bench.data(RESIZE, b'32,"height":0}'),
            bench.data(RESIZE, b'{"Width":70000,"Height":1}{"Width":1,"Height":1}'),
            bench.data(STDIN, b"goes on"),
        ]
        assert bench.feed(*frames, size=size) == [("Resized", 80, 24), ("Resized", 132, 0), ("Stdin", b"goes on")]


def test_a_pong_that_waits_behind_unread_stdin_is_no_death() -> None:
    """A Go server answers no PING while a container leaves its stdin unread."""
    bench = ClientBench(keepalive=Keepalive(period=5.0, deadline=30.0))
    bench.session.write_stdin(bytes(100_000))
    for now in range(5, 120, 5):
        assert bench.tick(float(now), output_blocked=True) == []
    assert bench.session.outcome is None


def test_a_session_dialogue_survives_any_number_of_unknown_ids() -> None:
    bench = ClientBench()
    noise = itertools.chain.from_iterable(
        (wire.data(n, b"?"), wire.rst(n), wire.window_update(n, 1)) for n in range(9, 200)
    )
    assert bench.feed(*noise) == []
    assert bench.feed(bench.fin(STDOUT, STDERR), bench.data(ERROR, SUCCESS), bench.rst(ERROR))[-1] == SUCCEEDED

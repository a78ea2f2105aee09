"""The first law: a session that is cut anywhere never reports success unless the proof of completion was received.

The proof is judged here by an oracle of its own, which reads the frames before the cut with the tests' own reader: from
v4 on, a status and the end of every output; before, the end of every stream with an empty error stream, and under v1,
whose server resets the error stream before the command runs, its FIN or GOAWAY.
"""

from __future__ import annotations

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spdyproto.channels.events import Exited, StreamKind, StreamSet
from spdyproto.channels.session import ClientSession, ServerSession
from spdyproto.channels.status import ExitStatus
from spdyproto.channels.subprotocols import Subprotocol
from spdyproto.errors import KubewireError
from support import wire
from support.events import Told, merged, tell
from support.sessions import EXIT_3, SUCCESS, V1, V2, V3, V4, V5, ClientBench, outcome
from support.vectors import DIALOGUES, Dialogue
from support.wire import RawPeer, cut_at, pieces

RECORDED = {dialogue.name: dialogue for dialogue in DIALOGUES}


def streams_of(dialogue: Dialogue) -> StreamSet:
    names = {dict(frame[3])["streamtype"] for frame in RawPeer().read(dialogue.client.wire) if frame[0] == "SYN_STREAM"}
    return StreamSet("stdin" in names, "stdout" in names, "stderr" in names, dialogue.tty)


def new_session(version: Subprotocol, streams: StreamSet) -> tuple[ClientSession, dict[int, str]]:
    """A started session and what its stream ids mean, read from what it sent."""
    session = ClientSession(version, streams)
    session.start(0.0)
    opened = RawPeer().read(session.data_to_send())
    return session, {frame[1]: dict(frame[3])["streamtype"] for frame in opened}


def proven(version: Subprotocol, streams: StreamSet, ids: dict[int, str], data: bytes) -> bool:
    """Whether these bytes of the server prove that the command ended with exit code 0."""
    ended: set[str] = set()
    body, replied, goaway, error_fin = b"", 0, False, False
    for frame in RawPeer().read(data):
        name = ids.get(frame[1], "") if frame[0] != "GOAWAY" else ""
        if frame[0] == "SYN_REPLY":
            replied += 1
        elif frame[0] == "DATA":
            body += frame[2] if name == "error" else b""
            ended |= {name} if frame[3] & 1 else set()
            error_fin |= name == "error" and bool(frame[3] & 1)
        elif frame[0] == "RST_STREAM":
            ended.add(name)
        elif frame[0] == "GOAWAY":
            goaway = True
    if replied < len(ids):
        return False
    outputs = {name for name in ("stdout", "stderr") if getattr(streams, name)}
    if version in (V4, V5):
        status = body in (b'{"status":"Success"}', b'{"metadata":{},"status":"Success"}')
        return status and (goaway or outputs <= ended)
    whole = goaway or error_fin if version is V1 else "error" in ended
    return not body and outputs <= ended and whole


def output_in(data: bytes, ids: dict[int, str]) -> bytes:
    """The payload of both outputs, in the order in which it came."""
    frames = [frame for frame in RawPeer().read(data) if frame[0] == "DATA"]
    return b"".join(frame[2] for frame in frames if ids[frame[1]] in ("stdout", "stderr"))


def play(version: Subprotocol, streams: StreamSet, parts: list[bytes], clean: bool) -> tuple[list[Told], ClientSession]:
    session, _ = new_session(version, streams)
    told: list[Told] = []
    for part in parts:
        told += tell(session.receive_data(part, 0.0))
    if session.outcome is None:
        told += tell(session.receive_eof(0.0, clean=clean))
    return merged(told), session


def judge(version: Subprotocol, streams: StreamSet, data: bytes, expected_output: bytes, ids: dict[int, str]) -> None:
    """Cuts the server's bytes at every byte, and judges what the session says."""
    boundary, proof = 0, False
    for cut in range(len(data) + 1):
        head = data[:cut]
        if cut == boundary + 8 + int.from_bytes(data[boundary + 5 : boundary + 8], "big"):
            boundary, proof = cut, proven(version, streams, ids, head)  # a frame is complete: nothing less proves more
        for clean in (True, False):
            for size in (len(head) or 1, 1) if cut % 7 == 0 or cut == len(data) else (len(head) or 1,):
                told, session = play(version, streams, pieces(head, size), clean)
                end = outcome(told)
                assert end is not None, "a session that has ended says how"
                success = isinstance(session.outcome, Exited) and session.outcome.status.ok
                assert success <= proof, f"success without proof, cut at {cut}, clean {clean}: {told}"
                if proof:
                    assert success, f"the proof was there, cut at {cut}, clean {clean}: {told}"
                    output = b"".join(event[2] for event in told if event[0] == "Output")
                    assert output == expected_output, "success means all of the output"


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_dialogues_cut_at_every_byte(name: str) -> None:
    dialogue = RECORDED[name]
    version, streams = Subprotocol(dialogue.protocol), streams_of(dialogue)
    _, ids = new_session(version, streams)
    judge(version, streams, dialogue.server.wire, output_in(dialogue.server.wire, ids), ids)


@pytest.mark.parametrize("name", RECORDED)
@pytest.mark.parametrize("size", [None, 1])
def test_recorded_dialogues_to_their_end(name: str, size: int | None) -> None:
    """What client-go made of them is what we make of them, but for its two false successes."""
    dialogue = RECORDED[name]
    version, streams = Subprotocol(dialogue.protocol), streams_of(dialogue)
    data = dialogue.server.wire
    told, _ = play(version, streams, pieces(data, size or len(data)), True)
    for kind, expected in (("stdout", dialogue.stdout), ("stderr", dialogue.stderr)):
        assert b"".join(event[2] for event in told if event[0] == "Output" and event[1] == kind) == expected
    end = told[-1]
    if name == "v4-no-status":
        assert dialogue.exit_code == 0, "client-go takes no status for success"
        assert end[:2] == ("Lost", "StatusError")
        return
    assert end[0] == "Exited"
    status = end[1]
    if name == "v1-failure":
        assert dialogue.exit_code == 0, "client-go takes the early reset of v1 for success"
        assert "exit code 3" in status.message
    if name == "v1-failure" or dialogue.exit_code is None:
        assert status.code is None
        assert not status.ok
        assert status.message.strip() in dialogue.error or name == "v1-failure"
    else:
        assert status.code == dialogue.exit_code


@pytest.mark.parametrize("name", RECORDED)
@pytest.mark.parametrize("size", [None, 1])
def test_recorded_clients_are_understood_by_our_server(name: str, size: int | None) -> None:
    """The bytes of client-go, in the recorded order: the streams first, the rest after our replies."""
    dialogue = RECORDED[name]
    session = ServerSession(Subprotocol(dialogue.protocol), streams_of(dialogue))
    session.start(0.0)
    data = dialogue.client.wire
    opening = sum(frame["length"] + 8 for frame in dialogue.client.frames if frame["type"] == "SYN_STREAM")
    told: list[Told] = []
    for part in (data[:opening], data[opening:]):
        for piece in pieces(part, size or max(1, len(part))):
            told += tell(session.receive_data(piece, 0.0))
    told = merged(told)
    assert told[0] == ("Ready",)
    received = b"".join(event[1] for event in told if event[0] == "Stdin")
    assert received == (dialogue.stdin or b"")
    assert (("StdinEnded",) in told) == any(
        frame["type"] == "DATA" and frame["flags"] for frame in dialogue.client.frames
    )
    sizes = [event[1:] for event in told if event[0] == "Resized"]
    assert sizes == ([(80, 24), (132, 43)] if dialogue.tty else [])


# -- dialogues made here: every version, every order of the end ----------------------------------------------------

ENDS = {
    "go": lambda b, body: [b.fin(*b.outputs), b.status(body), b.rst(*b.rest), wire.goaway(7)],
    "reset outputs": lambda b, body: [b.status(body), b.rst(*b.outputs, *b.rest), wire.goaway(7)],
    "all fins": lambda b, body: [b.fin(*b.outputs), b.status(body), b.fin(b.error), wire.goaway(7)],
    "status first": lambda b, body: [b.status(body), b.rst(*b.rest), b.data(b.outputs[0], b"tail"), b.fin(*b.outputs)],
    "no goaway": lambda b, body: [b.fin(*b.outputs), b.status(body), b.rst(*b.rest)],
    "only goaway": lambda b, body: [b.fin(*b.outputs), b.status(body), wire.goaway(7)],
}


class Script(ClientBench):
    """The bytes of a server, made before a session that is then thrown away."""

    def __init__(self, version: Subprotocol, streams: StreamSet) -> None:
        super().__init__(version, streams, ready=False)
        self.error = StreamKind.ERROR
        self.outputs = [kind for kind in (StreamKind.STDOUT, StreamKind.STDERR) if kind.value in self.ids]
        self.rest = [StreamKind(name) for name in self.ids if name not in ("stdout", "stderr")]

    def status(self, body: bytes) -> bytes:
        return self.data(self.error, body) if body else b""

    def whole(self, end: str, body: bytes) -> bytes:
        out = [self.data(self.outputs[0], b"some output"), *(self.data(kind, b"more") for kind in self.outputs)]
        return b"".join([*self.replies(), *out, *ENDS[end](self, body)])


@pytest.mark.parametrize("version", [V1, V2, V3, V4, V5])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("success", [True, False])
@pytest.mark.parametrize("streams", [StreamSet(stdin=True), StreamSet(stderr=False, tty=True)])
def test_dialogues_of_every_version_cut_at_every_byte(
    version: Subprotocol, end: str, success: bool, streams: StreamSet
) -> None:
    if version in (V4, V5):
        body = SUCCESS if success else EXIT_3
    else:
        body = b"" if success else b"exec failed"
    script = Script(version, streams)
    data = script.whole(end, body)
    ids = {stream_id: name for name, stream_id in script.ids.items()}
    judge(version, streams, data, output_in(data, ids), ids)


@functools.cache
def server_bytes(version: Subprotocol, status: ExitStatus) -> bytes:
    """What our own server's session says, from its replies to its end."""
    session = ServerSession(version, StreamSet(stdin=True))
    session.start(0.0)
    peer = RawPeer()
    for number, name in enumerate(("error", "stdin", "stdout", "stderr")):
        session.receive_data(peer.syn_stream(2 * number + 1, {"streamtype": name}), 0.0)
    session.write(StreamKind.STDOUT, b"out")
    session.write(StreamKind.STDERR, b"err")
    session.end_output(StreamKind.STDOUT)
    session.finish(status)
    return b"".join(session.data_to_send())


@pytest.mark.parametrize("version", [V1, V2, V3, V4])
def test_our_own_server_cut_at_every_byte(version: Subprotocol) -> None:
    for status in (ExitStatus.success(), ExitStatus.exited(3, "exit code 3")):
        data = server_bytes(version, status)
        _, ids = new_session(version, StreamSet(stdin=True))
        judge(version, StreamSet(stdin=True), data, b"outerr", ids)


# -- chunking and hostility ----------------------------------------------------------------------------------------


@given(
    st.sampled_from(sorted(RECORDED)),
    st.lists(st.integers(0, 700), max_size=10),
    st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), max_size=3),
    st.booleans(),
)
def test_damaged_dialogues_in_any_pieces_end_the_same_and_raise_nothing(
    name: str, cuts: list[int], damage: list[tuple[int, int]], clean: bool
) -> None:
    dialogue = RECORDED[name]
    version, streams = Subprotocol(dialogue.protocol), streams_of(dialogue)
    data = bytearray(dialogue.server.wire)
    for position, byte in damage:
        data[position % len(data)] = byte
    whole, _ = play(version, streams, [bytes(data)], clean)
    cut, session = play(version, streams, cut_at(bytes(data), cuts), clean)
    assert outcome(whole) is not None
    assert cut == whole
    assert session.outcome is not None
    error = getattr(session.outcome, "error", None)
    assert error is None or isinstance(error, KubewireError)


@given(st.sampled_from(list(Subprotocol)), st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=4))
def test_any_bytes_before_either_end_of_a_session(version: Subprotocol, data: bytes, cuts: list[int]) -> None:
    told, session = play(version, StreamSet(stdin=True), cut_at(data, cuts), True)
    assert outcome(told) is not None
    server = ServerSession(version, StreamSet(stdin=True))
    server.start(0.0)
    told = []
    for part in cut_at(data, cuts):
        told += tell(server.receive_data(part, 0.0))
    told += tell(server.receive_eof(0.0, clean=True))
    assert outcome(told) is not None
    server.finish(ExitStatus.success())
    session.close()

"""The session over SPDY: first byte the version and the streams, second the size of the pieces, the rest the server's.

Of the first byte, the low digit of its hexadecimal form is the version (modulo 5), bit 4 adds stdin, bit 5 makes it a
terminal, bit 6 gives the bytes to the server's end instead.
"""

from __future__ import annotations

from spdyproto.channels.events import Exited, Lost, Output, SessionEvent, StreamKind, StreamSet
from spdyproto.channels.session import ClientSession, ServerSession
from spdyproto.channels.status import ExitStatus
from spdyproto.channels.subprotocols import Subprotocol
from spdyproto.errors import RemoteProtocolError
from spdyproto.limits import Limits

from .fuzz_spdy import TOKENS as SPDY_TOKENS

LIMITS = Limits(control_frame=2048, header_block=2048, streams=8, closed_streams=8, error_stream=512, resize_buffer=64)
TOKENS = (
    *SPDY_TOKENS,
    b"\x00\x00\x00\x05\x01\x00\x00\x00",
    b"\x00\x00\x00\x07\x01\x00\x00\x00",
    b'\x00\x00\x00\x01\x00\x00\x00\x14{"status":"Success"}',
    b'\x00\x00\x00\x07\x00\x00\x00\x18{"Width":80,"Height":24}',
)


def one_input(data: bytes) -> None:
    """Any bytes give events and no exception, in any pieces the same ones, and at the end exactly one outcome, last.

    From v4 on there is no success without a status in the bytes; and every outcome says what was owed.
    """
    mode, size = (data[0] if data else 0), (data[1] if len(data) > 1 else 0) or 1
    wire = data[2:]
    pieces = [wire[at : at + size] for at in range(0, len(wire), size)]
    if mode & 0x40:
        _serve(mode, pieces)
        return
    whole, outcome = _play(mode, [wire])
    assert (whole, outcome) == _play(mode, pieces)
    if outcome == "success" and _version(mode).has_json_status:
        assert b'"Success"' in wire or b'"ExitCode"' in wire


def _version(mode: int) -> Subprotocol:
    return list(Subprotocol)[mode % 16 % 5]


def _streams(mode: int) -> StreamSet:
    tty = bool(mode & 0x20)
    return StreamSet(stdin=bool(mode & 0x10), stderr=not tty, tty=tty)


def _play(mode: int, pieces: list[bytes]) -> tuple[list[object], str]:
    session = ClientSession(_version(mode), _streams(mode), limits=LIMITS)
    session.start(0.0)
    session.data_to_send()
    told: list[object] = []
    for piece in pieces:
        _tell(session.receive_data(piece, 0.0), told)
    _tell(session.receive_eof(0.0, clean=True), told)
    end = session.outcome
    assert isinstance(end, Exited | Lost)
    assert sum(isinstance(event, str) for event in told) == 1, "one outcome"
    assert isinstance(told[-1], str), "the outcome is last"
    assert not session.stdin_open
    session.close()
    session.data_to_send()
    if isinstance(end, Lost):
        assert isinstance(end.error, RemoteProtocolError)
        assert "owed: " in str(end.error)
        return told, "lost"
    return told, "success" if end.status.ok else "failure"


def _serve(mode: int, pieces: list[bytes]) -> None:
    session = ServerSession(_version(mode), _streams(mode), limits=LIMITS)
    session.start(0.0)
    told: list[object] = []
    for piece in pieces:
        events = session.receive_data(piece, 0.0)
        _tell(events, told)
        if session.ready:
            session.write(StreamKind.STDOUT, b"output")
            session.end_output(StreamKind.STDERR)
        session.data_to_send()
    _tell(session.receive_eof(0.0, clean=True), told)
    assert session.lost
    assert sum(isinstance(event, str) for event in told) == 1
    assert isinstance(told[-1], str)
    session.finish(ExitStatus.success())


def _tell(events: list[SessionEvent], told: list[object]) -> None:
    """The events without how their payload was cut; outcomes as text."""
    for event in events:
        last = told[-1] if told else None
        if isinstance(event, Output):
            if isinstance(last, tuple) and last[0] is event.kind:
                told[-1] = (event.kind, last[1] + bytes(event.data))
            else:
                told.append((event.kind, bytes(event.data)))
        elif isinstance(event, Lost):
            told.append(f"lost: {type(event.error).__name__}: {event.error}")
        elif isinstance(event, Exited):
            told.append(f"exited: {event.status!r}")
        else:
            told.append((type(event).__name__, str(event)))

"""The SPDY engine: first byte the role, the policy and the windows, second the size of the pieces, the rest the wire.

Of the first byte, bit 0 is the role, bit 1 the policy, bit 2 flow control; bit 3 replies to what the peer opens.
"""

from __future__ import annotations

from spdyproto.errors import LocalProtocolError, RemoteProtocolError
from spdyproto.limits import Limits
from spdyproto.spdy.connection import SpdyConnection
from spdyproto.spdy.events import ConnectionTerminated, DataAfterReset, DataReceived, Event, StreamOpened
from spdyproto.spdy.flow import Unmetered, Windowed
from spdyproto.types import Policy, Role

LIMITS = Limits(control_frame=2048, header_block=2048, header_pairs=20, streams=8, closed_streams=8, queued_chores=8)
TOKENS = (
    b"\x80\x03\x00\x01",
    b"\x80\x03\x00\x02",
    b"\x80\x03\x00\x03\x00\x00\x00\x08\x00\x00\x00\x01\x00\x00\x00\x05",
    b"\x80\x03\x00\x04",
    b"\x80\x03\x00\x06\x00\x00\x00\x04\x00\x00\x00\x01",
    b"\x80\x03\x00\x07\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00\x00\x00",
    b"\x80\x03\x00\x08",
    b"\x80\x03\x00\x09\x00\x00\x00\x08",
    b"\x80\x02",
    b"\x00\x00\x00\x01\x00\x00\x00\x03abc",
    b"\x00\x00\x00\x01\x01\x00\x00\x00",
    b"\x00\x00\x00\x02\x00\xff\xff\xff",
    b"\x78\xf9\xe3\xc6\xa7\xc2",
    b"\x00\x00\xff\xff",
)


def one_input(data: bytes) -> None:
    """Any bytes give events, the terminal one once and last, and no exception; in any pieces the same ones.

    Memory stays within the limits. Whatever happened, the caller can go on or is told that the connection is over.
    """
    mode, size = (data[0] if data else 0), (data[1] if len(data) > 1 else 0) or 1
    wire = data[2:]
    pieces = [wire[at : at + size] for at in range(0, len(wire), size)]
    whole, in_pieces = _run(mode, [wire]), _run(mode, pieces)
    if (
        not mode & 0b1100
    ):  # an answer to an event, and an overrun of two windows at once, depend on when the event comes
        assert whole == in_pieces


def _run(mode: int, pieces: list[bytes]) -> list[object]:
    engine = SpdyConnection(
        Role.SERVER if mode & 1 else Role.CLIENT,
        policy=Policy.STRICT if mode & 2 else Policy.KUBERNETES,
        flow=Windowed() if mode & 4 else Unmetered(),
        limits=LIMITS,
    )
    if engine.role is Role.CLIENT:
        for name in ("error", "stdin", "stdout"):
            engine.open_stream([("streamtype", name)])
        engine.data_to_send()
    events: list[Event] = []
    told: list[object] = []
    for piece in pieces:
        new = engine.receive_data(piece, 0.0)
        _tell(new, told)
        events += new
        _check(engine, events)
        if mode & 8:
            _answer(engine, new)
    new = engine.receive_eof(0.0, clean=True)
    _tell(new, told)
    events += new
    _check(engine, events)
    assert engine.terminated
    return told


def _check(engine: SpdyConnection, events: list[Event]) -> None:
    ends = [event for event in events if isinstance(event, ConnectionTerminated)]
    assert len(ends) == engine.terminated
    assert not ends or events[-1] is ends[0]
    for end in ends:
        assert end.error is None or isinstance(end.error, RemoteProtocolError)
    assert engine.open_streams <= LIMITS.streams
    assert engine.pending_bytes <= 16 * (LIMITS.queued_chores + 1) + 64 * LIMITS.streams


def _answer(engine: SpdyConnection, events: list[Event]) -> None:
    for event in events:
        if isinstance(event, StreamOpened):
            try:
                engine.accept_stream(event.stream_id)
                engine.send_data(event.stream_id, b"answer")
            except LocalProtocolError:
                pass  # it may be over already
        elif isinstance(event, DataReceived):
            engine.acknowledge(event.stream_id, len(event.data))
    engine.data_to_send()


def _tell(events: list[Event], told: list[object]) -> None:
    """The events without how their payload was cut."""
    for event in events:
        if isinstance(event, DataReceived | DataAfterReset):
            kind, fin = type(event).__name__, isinstance(event, DataReceived) and event.fin
            last = told[-1] if told else None
            data = bytes(event.data)
            if isinstance(last, tuple) and last[:3] == (kind, event.stream_id, False):
                told[-1] = (kind, event.stream_id, fin, last[3] + data)
            else:
                told.append((kind, event.stream_id, fin, data))
        elif isinstance(event, ConnectionTerminated):
            told.append(str(event.error))
        else:
            told.append(event)

"""Types that a user of the engines relies on. Nothing here runs: ``make types`` checks it with the rest.

A line that must be refused carries a ``type: ignore`` with its code; mypy reports the ignore as unused once it is not.
"""

from __future__ import annotations

from typing import assert_never, assert_type

from spdyproto.channels.events import (
    Exited,
    Lost,
    Output,
    OutputEnded,
    Ready,
    Resized,
    SessionEvent,
    Stdin,
    StdinEnded,
    StreamKind,
    StreamSet,
)
from spdyproto.channels.session import ClientSession, ServerSession
from spdyproto.channels.status import ExitStatus
from spdyproto.channels.subprotocols import Subprotocol
from spdyproto.errors import KubewireError, LocalProtocolError, ProtocolError, RemoteProtocolError
from spdyproto.limits import Deadlines, Keepalive, Limits
from spdyproto.spdy.connection import SpdyConnection
from spdyproto.spdy.events import ConnectionTerminated, DataReceived, Event
from spdyproto.spdy.flow import FlowPolicy, Unmetered, Windowed
from spdyproto.spdy.streams import ClosedBy, StreamView
from spdyproto.types import Buffer, Policy, Role


def buffers(connection: SpdyConnection, session: ClientSession) -> None:
    """Anything whose bytes can be read without copying, and nothing else."""
    for data in (b"", bytearray(), memoryview(b"")):
        connection.receive_data(data, 0.0)
        connection.send_data(1, data)
        session.receive_data(data, 0.0)
        session.write_stdin(data)
    connection.send_data(1, "text")  # type: ignore[arg-type]  # bytes everywhere
    session.write_stdin("text")  # type: ignore[arg-type]  # bytes everywhere
    connection.receive_data([1, 2], 0.0)  # type: ignore[arg-type]  # no sequences of integers


def engine() -> None:
    """What the engine gives and takes."""
    connection = SpdyConnection(Role.CLIENT, policy=Policy.STRICT, limits=Limits(), flow=Windowed(), keepalive=None)
    SpdyConnection("client")  # type: ignore[arg-type]  # the role is no string
    SpdyConnection(Role.CLIENT, Policy.STRICT)  # type: ignore[call-arg]  # options are named
    assert_type(connection.receive_data(b"", 0.0), list[Event])
    assert_type(connection.receive_eof(0.0), list[Event])
    assert_type(connection.handle_timeout(0.0), list[Event])
    assert_type(connection.next_deadline(), float | None)
    assert_type(connection.data_to_send(), list[Buffer])
    assert_type(connection.open_stream([("a", "b")]), int)
    assert_type(connection.stream(1), StreamView | ClosedBy | None)
    assert_type(connection.ping(0.0), int)
    connection.open_stream({"a": "b"})  # type: ignore[arg-type]  # pairs: a name may occur twice
    connection.pending_bytes = 0  # type: ignore[misc]  # read-only
    for event in connection.receive_data(b"", 0.0):
        if isinstance(event, DataReceived):
            assert_type(event.data, memoryview)
        elif isinstance(event, ConnectionTerminated):
            assert_type(event.error, ProtocolError | None)


def policies() -> list[FlowPolicy]:
    """Both policies fit the protocol."""
    return [Unmetered(), Windowed(stream_window=1 << 20)]


def client(session: ClientSession) -> int:
    """Every event of a session is known by its type; a new one would be missed here."""
    events: list[SessionEvent] = session.receive_eof(0.0, clean=True)
    session.receive_eof(0.0)  # type: ignore[call-arg]  # whether the end was clean is never guessed
    assert_type(session.outcome, Exited | Lost | None)
    assert_type(session.received, dict[StreamKind, int])
    for event in events:
        match event:
            case Ready() | OutputEnded() | StdinEnded():
                pass
            case Output(kind, data):
                assert_type(kind, StreamKind)
                assert_type(data, memoryview)
            case Stdin(data):
                assert_type(data, memoryview)
            case Resized(width, height):
                assert_type((width, height), tuple[int, int])
            case Exited(status):
                assert_type(status.code, int | None)
            case Lost(error):
                assert_type(error, ProtocolError)
            case _:
                assert_never(event)
    return 0


def server(session: ServerSession) -> None:
    """The server's end."""
    assert_type(session.write(StreamKind.STDOUT, b""), bool)
    session.finish(ExitStatus.exited(3))
    session.finish(b"raw")
    session.finish(3)  # type: ignore[arg-type]  # a code alone is no status
    ServerSession(Subprotocol.V4, StreamSet(), deadlines=Deadlines(), keepalive=Keepalive())  # type: ignore[call-arg]  # servers send no PINGs


def errors(error: KubewireError) -> None:
    """Who is to blame is a matter of types."""
    if isinstance(error, LocalProtocolError | RemoteProtocolError):
        assert_type(error.stream_id, int | None)


def frozen(limits: Limits) -> None:
    """Limits do not change under a connection."""
    limits.streams = 1  # type: ignore[misc]  # frozen

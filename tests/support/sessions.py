"""A session before a raw peer: the client's end before a scripted server, the server's before a scripted client."""

from __future__ import annotations

from spdyproto.channels.events import SessionEvent, StreamKind, StreamSet
from spdyproto.channels.session import ClientSession, ServerSession
from spdyproto.channels.subprotocols import Subprotocol
from spdyproto.limits import Deadlines, Keepalive, Limits
from support import wire
from support.events import Told, merged, tell
from support.wire import Frame, RawPeer, pieces

SUCCESS = b'{"status":"Success"}'
SUCCESS_WITH_METADATA = b'{"metadata":{},"status":"Success"}'
EXIT_3 = (
    b'{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code: exit 3",'
    b'"reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}'
)
V1, V2, V3, V4, V5 = Subprotocol
ERROR, STDIN, STDOUT, STDERR, RESIZE = StreamKind
ALL = StreamSet(stdin=True)


class ClientBench:
    """A client's session, started, and the raw server before it."""

    def __init__(
        self,
        version: Subprotocol = V4,
        streams: StreamSet = ALL,
        *,
        limits: Limits | None = None,
        deadlines: Deadlines | None = None,
        keepalive: Keepalive | None = None,
        ready: bool = True,
    ) -> None:
        self.session = ClientSession(version, streams, limits=limits, deadlines=deadlines, keepalive=keepalive)
        self.peer = RawPeer()
        self.now = 0.0
        self.session.start(0.0)
        self.opened = self.sent()
        self.ids: dict[str, int] = {dict(frame[3])["streamtype"]: frame[1] for frame in self.opened}
        if ready:
            assert self.feed(*self.replies()) == [("Ready",)]

    def replies(self) -> list[bytes]:
        return [self.peer.syn_reply(stream_id) for stream_id in self.ids.values()]

    def sent(self) -> list[Frame]:
        frames = self.peer.read(self.session.data_to_send())
        assert not self.peer.within_frame
        return frames

    def feed(self, *frames: bytes, size: int | None = None) -> list[Told]:
        data = b"".join(frames)
        told: list[Told] = []
        for part in pieces(data, size or max(1, len(data))):
            told += tell(self.session.receive_data(part, self.now))
        return merged(told)

    def eof(self, *, clean: bool = True) -> list[Told]:
        return tell(self.session.receive_eof(self.now, clean=clean))

    def tick(self, now: float, *, output_blocked: bool = False, input_paused: bool = False) -> list[Told]:
        self.now = now
        return tell(self.session.handle_timeout(now, output_blocked=output_blocked, input_paused=input_paused))

    # -- what the server says

    def data(self, kind: StreamKind, payload: bytes = b"", *, fin: bool = False) -> bytes:
        return wire.data(self.ids[kind], payload, fin=fin)

    def fin(self, *kinds: StreamKind) -> bytes:
        return b"".join(self.data(kind, fin=True) for kind in kinds)

    def rst(self, *kinds: StreamKind, status: int = 5) -> bytes:
        return b"".join(wire.rst(self.ids[kind], status) for kind in kinds)


class ServerBench:
    """A server's session, started, and the raw client before it."""

    def __init__(
        self,
        version: Subprotocol = V4,
        streams: StreamSet = ALL,
        *,
        limits: Limits | None = None,
        deadlines: Deadlines | None = None,
        opened: bool = True,
    ) -> None:
        self.session = ServerSession(version, streams, limits=limits, deadlines=deadlines)
        self.peer = RawPeer()
        self.now = 0.0
        self.session.start(0.0)
        self.ids: dict[str, int] = {}
        if opened:
            names = ["error", *(name for name in ("stdin", "stdout", "stderr") if getattr(streams, name))]
            if streams.tty and version.has_resize:
                names.append("resize")
            assert self.feed(*map(self.open, names)) == [("Ready",)]
            self.sent()

    def open(self, name: str, *, flags: int = 0) -> bytes:
        stream_id = 2 * len(self.ids) + 1
        self.ids[name if name not in self.ids else f"{name} {stream_id}"] = stream_id
        return self.peer.syn_stream(stream_id, {"streamtype": name}, flags=flags)

    def sent(self) -> list[Frame]:
        frames = self.peer.read(self.session.data_to_send())
        assert not self.peer.within_frame
        return frames

    def feed(self, *frames: bytes, size: int | None = None) -> list[Told]:
        data = b"".join(frames)
        told: list[Told] = []
        for part in pieces(data, size or max(1, len(data))):
            told += tell(self.session.receive_data(part, self.now))
        return merged(told)

    def eof(self, *, clean: bool = True) -> list[Told]:
        return tell(self.session.receive_eof(self.now, clean=clean))

    def tick(self, now: float) -> list[Told]:
        self.now = now
        return tell(self.session.handle_timeout(now))

    def data(self, kind: StreamKind, payload: bytes = b"", *, fin: bool = False) -> bytes:
        return wire.data(self.ids[kind], payload, fin=fin)

    def rst(self, *kinds: StreamKind, status: int = 5) -> bytes:
        return b"".join(wire.rst(self.ids[kind], status) for kind in kinds)


def outcome(told: list[Told]) -> Told | None:
    """The last event if it ends the session. No other may: nothing follows an outcome."""
    ends = [event for event in told if event[0] in ("Exited", "Lost")]
    assert len(ends) <= 1
    assert not ends or told[-1] is ends[0]
    return ends[0] if ends else None


def kinds(events: list[SessionEvent]) -> list[str]:
    return [type(event).__name__ for event in events]

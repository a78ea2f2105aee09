"""Faults of frames: streams that stall, statuses that are lost or early, and ends that are none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from fakekubelet.faults.base import KUBECTL, KUBERNETES, Fault, check_bytes, check_positive
from fakekubelet.injection import FaultySession, Injection
from fakekubelet.wires import SPDY, WEBSOCKET, Frame, SpdyWire, fragments


class _StallStream(Injection):
    def __init__(self, line: FaultySession, fault: StallStream) -> None:
        super().__init__(line, fault)
        self._stream, self._left = fault.stream, fault.after
        self._stalled = False

    def frame(self, frame: Frame) -> Iterable[Frame]:
        if frame.stream == self._stream and (frame.payload >= self._left or frame.fin):
            self._stalled = True  # and what the frame holds is taken along: no frame is cut in two
        elif frame.stream == self._stream:
            self._left -= frame.payload
        ends = frame.kind in ("GOAWAY", "CLOSE") or (frame.stream == self._stream and frame.kind != "SYN_REPLY")
        if self._stalled and ends:
            self.line.hold(frame)
            return ()
        return (frame,)


@dataclass(frozen=True, slots=True)
class StallStream(Fault):
    """One stream stops after ``after`` bytes while the others and the pings go on: stdout that never ends though the
    status came, or, with ``error``, a status that never comes."""

    name = "stall-stream"
    incident = f"{KUBERNETES}/issues/74551 {KUBECTL}/issues/1620"
    injection = _StallStream
    stream: str = "stdout"
    after: int = 0

    def __post_init__(self) -> None:
        check_bytes(self.after)


class _LostStatus(Injection):
    def frame(self, frame: Frame) -> Iterable[Frame]:
        return () if frame.is_status else (frame,)


@dataclass(frozen=True, slots=True)
class LostStatus(Fault):
    """The command ends and its status never leaves: the error stream ends empty. client-go, and so kubectl, exits 0."""

    name = "lost-status"
    incident = f"{KUBERNETES}/issues/73056 {KUBERNETES}/pull/137404"
    injection = _LostStatus


class _LateStatus(Injection):
    def __init__(self, line: FaultySession, fault: LateStatus) -> None:
        super().__init__(line, fault)
        self._seconds = fault.seconds
        self._kept: list[Frame] = []

    def frame(self, frame: Frame) -> Iterable[Frame]:
        if frame.is_status and not self._kept:
            self.line.later(self._seconds, self._let_go)
        elif not self._kept or frame.kind in ("PING", "PONG"):
            return (frame,)
        self.line.hold(frame)
        self._kept.append(frame)
        return ()

    def _let_go(self) -> None:
        kept, self._kept = self._kept, []
        self._seconds = 0.0
        self.line.unhold(kept)
        self.line.release(self, kept)


@dataclass(frozen=True, slots=True)
class LateStatus(Fault):
    """Every output ends, and the status comes ``seconds`` later: an exit code that never completes, for clients that
    wait without a deadline or not at all."""

    name = "late-status"
    incident = "https://github.com/fabric8io/kubernetes-client/issues/5159"
    injection = _LateStatus
    seconds: float = 120.0

    def __post_init__(self) -> None:
        check_positive(seconds=self.seconds)


class _EarlyStatus(Injection):
    """The last frames of output wait for the status, a moment at most: a session that goes on must not notice."""

    _MOMENT = 0.1

    def __init__(self, line: FaultySession, fault: EarlyStatus) -> None:
        super().__init__(line, fault)
        self._kept: list[Frame] = []
        self._due = 0.0
        self._waiting = False

    def frame(self, frame: Frame) -> Iterable[Frame]:
        if frame.is_output:
            return self._keep(frame)
        if frame.is_status:
            return (frame, *self._take())
        return (frame,) if frame.kind in ("PING", "PONG", "SYN_REPLY", "GREETING") else (*self._take(), frame)

    def _keep(self, frame: Frame) -> Iterable[Frame]:
        earlier = self._take() if frame.payload else []
        self._kept.append(frame)
        self.line.hold(frame)
        self._due = self.line.loop.time() + self._MOMENT
        if not self._waiting:
            self._waiting = True
            self.line.later(self._MOMENT, self._look)
        return earlier

    def _take(self) -> list[Frame]:
        kept, self._kept = self._kept, []
        self.line.unhold(kept)
        return kept

    def _look(self) -> None:
        self._waiting = False
        left = self._due - self.line.loop.time()
        if not self._kept:
            return
        if left > 0.001:
            self._waiting = True
            self.line.later(left, self._look)
        else:
            self.line.release(self, self._take())


@dataclass(frozen=True, slots=True)
class EarlyStatus(Fault):
    """The status overtakes the end of the output. A client that believes it at once cuts the output off, and says
    that all is well."""

    name = "early-status"
    incident = f"{KUBERNETES}/issues/124571 {KUBERNETES}/issues/60140"
    injection = _EarlyStatus

    @property
    def harmless(self) -> bool:
        """Nothing is lost."""
        return True


class _LoseTail(Injection):
    """Keeps the last frames back until it is known that they were the last."""

    def __init__(self, line: FaultySession, fault: LoseTail) -> None:
        super().__init__(line, fault)
        self._size = fault.size
        self._kept: list[Frame] = []
        self._bytes = 0

    def frame(self, frame: Frame) -> Iterable[Frame]:
        if frame.is_output and frame.payload:
            self._kept.append(frame)
            self._bytes += frame.payload
            gone = []
            while self._bytes - self._kept[0].payload >= self._size:
                first = self._kept.pop(0)
                self._bytes -= first.payload
                gone.append(first)
            return gone
        if frame.is_status or frame.kind in ("GOAWAY", "CLOSE") or (frame.is_output and frame.fin):
            kept, self._kept = self._kept, []
            whole, self._bytes = self._bytes - self._size, 0
            return (*self._beginning(kept, whole), frame)
        return (frame,)

    def _beginning(self, kept: list[Frame], size: int) -> Iterable[Frame]:
        """The first ``size`` bytes of payload of ``kept``."""
        for frame in kept:
            if size >= frame.payload:
                yield frame
            elif size > 0:
                yield self.line.wire.shorter(frame, size)
            size -= frame.payload


@dataclass(frozen=True, slots=True)
class LoseTail(Fault):
    """The server loses the last ``size`` bytes of the output and reports success, as runtimes have done. The protocol
    has no word for it: only a digest of the whole, as cp compares it, tells."""

    name = "lose-tail"
    incident = f"{KUBERNETES}/issues/124571 {KUBECTL}/issues/1361"
    injection = _LoseTail
    size: int = 1

    def __post_init__(self) -> None:
        check_positive(size=self.size)


class _ResetStreams(Injection):
    def __init__(self, line: FaultySession, fault: ResetStreams) -> None:
        super().__init__(line, fault)
        self._status = fault.status

    def frame(self, frame: Frame) -> Iterable[Frame]:
        wire = self.line.wire
        if not (frame.is_output and frame.fin and isinstance(wire, SpdyWire)):
            return (frame,)
        reset = wire.reset(frame.stream_id, self._status)
        return (wire.without_fin(frame), reset) if frame.payload else (reset,)


@dataclass(frozen=True, slots=True)
class ResetStreams(Fault):
    """Outputs end by RST_STREAM with ``status`` where FIN belongs. 5, CANCEL, is what Go's servers send for streams
    that they close, and an end like another; any other status says that the stream was broken off."""

    name = "reset-streams"
    incident = f"{KUBECTL}/issues/1169 {KUBERNETES}/issues/111825"
    injection = _ResetStreams
    wires = frozenset({SPDY})
    status: int = 5

    def __post_init__(self) -> None:
        check_positive(status=self.status)

    @property
    def harmless(self) -> bool:
        """CANCEL is."""
        return self.status == 5


class _EarlyGoaway(Injection):
    def __init__(self, line: FaultySession, fault: EarlyGoaway) -> None:
        super().__init__(line, fault)
        self._left = fault.after

    def frame(self, frame: Frame) -> Iterable[Frame]:
        if frame.is_output and self._left > 0:
            self._left -= frame.payload
            return (frame,)
        if not (frame.is_output or frame.is_status):
            return (frame,)
        self.line.loop.call_soon(self.line.sever, "close_notify")
        self.frame = lambda frame: ()  # type: ignore[method-assign] # nothing follows a goodbye
        return (self.line.wire.goodbye(),)


@dataclass(frozen=True, slots=True)
class EarlyGoaway(Fault):
    """The server says goodbye (GOAWAY, Close 1000) once ``after`` bytes of output have gone, and ends in good order:
    all streams end at once, and there is no status. An idle timeout or a restart looks so."""

    name = "early-goaway"
    incident = f"{KUBERNETES}/issues/66661 {KUBECTL}/issues/686"
    injection = _EarlyGoaway
    after: int = 0

    def __post_init__(self) -> None:
        check_bytes(self.after)


class _CloseCode(Injection):
    def __init__(self, line: FaultySession, fault: CloseCode) -> None:
        super().__init__(line, fault)
        self._code = fault.code

    def frame(self, frame: Frame) -> Iterable[Frame]:
        if frame.is_status:
            return ()
        return (self.line.wire.goodbye(self._code),) if frame.kind == "CLOSE" else (frame,)


@dataclass(frozen=True, slots=True)
class CloseCode(Fault):
    """The WebSocket ends with ``code`` in place of 1000 and without a status, as proxies in between close it: 1001 when
    they restart, 1011 when their backend failed."""

    name = "close-code"
    incident = "https://www.rfc-editor.org/rfc/rfc6455#section-7.4"
    injection = _CloseCode
    wires = frozenset({WEBSOCKET})
    code: int = 1011

    def __post_init__(self) -> None:
        if not 1000 <= self.code < 5000:
            raise ValueError(f"a close code is 1000 to 4999, not {self.code}")


class _CorruptHeaders(Injection):
    _HEAD = 12  # of a SYN_REPLY: frame header and stream id

    def frame(self, frame: Frame) -> Iterable[Frame]:
        if frame.kind != "SYN_REPLY":
            return (frame,)
        block = bytes(byte ^ 0xFF for byte in frame.data[self._HEAD :])
        return (replace(frame, data=frame.data[: self._HEAD] + block),)


@dataclass(frozen=True, slots=True)
class CorruptHeaders(Fault):
    """The compressed headers of the first SYN_REPLY do not inflate: the state that all later ones share is lost with
    it. A middlebox that touches bytes, or a server with two compressors."""

    name = "corrupt-headers"
    incident = "https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/"
    injection = _CorruptHeaders
    wires = frozenset({SPDY})


class _NoReply(Injection):
    def frame(self, frame: Frame) -> Iterable[Frame]:
        # What would follow is nothing that a client without a reply may be sent, and held it keeps the connection open.
        if frame.kind == "PING":
            return (frame,)
        self.line.hold(frame)
        return ()


@dataclass(frozen=True, slots=True)
class NoReply(Fault):
    """The server never replies to the client's streams (``error creating error stream: Timeout occurred``)."""

    name = "no-reply"
    incident = f"{KUBECTL}/issues/1620 {KUBECTL}/issues/1368"
    injection = _NoReply
    wires = frozenset({SPDY})


class _FragmentedMessages(Injection):
    def __init__(self, line: FaultySession, fault: FragmentedMessages) -> None:
        super().__init__(line, fault)
        self._size = fault.size

    def frame(self, frame: Frame) -> Iterable[Frame]:
        return fragments(frame, self._size) if frame.kind in ("DATA", "GREETING") else (frame,)


@dataclass(frozen=True, slots=True)
class FragmentedMessages(Fault):
    """WebSocket messages come in fragments of ``size`` bytes, with an empty one at the end: Go's tunnel writes so, and
    so do proxies. A client that takes a frame for a message takes payload for a channel."""

    name = "fragmented-messages"
    incident = "https://www.rfc-editor.org/rfc/rfc6455#section-5.4"
    injection = _FragmentedMessages
    wires = frozenset({WEBSOCKET})
    size: int = 1000

    def __post_init__(self) -> None:
        check_positive(size=self.size)

    @property
    def harmless(self) -> bool:
        """Nothing is lost."""
        return True


class _NoPong(Injection):
    def frame(self, frame: Frame) -> Iterable[Frame]:
        return () if frame.kind in ("PING", "PONG") else (frame,)


@dataclass(frozen=True, slots=True)
class NoPong(Fault):
    """Pings are never answered. With nothing else to hear a client cannot tell such a server from a dead one."""

    name = "no-pong"
    incident = f"https://github.com/kubernetes-client/python/issues/602 {KUBERNETES}/pull/115493"
    injection = _NoPong

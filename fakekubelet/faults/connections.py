"""Faults of connections: they end, or are as good as gone, or their bytes travel badly."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fakekubelet.faults.base import KUBECTL, KUBERNETES, Fault, check_bytes, check_how, check_positive
from fakekubelet.injection import FaultySession, Injection
from fakekubelet.upgrades import How
from fakekubelet.wires import Frame
from spdyproto.types import Buffer

# -- the connection ends, or is as good as gone ------------------------------------------------------------------------


class _CutOutput(Injection):
    def __init__(self, line: FaultySession, fault: CutOutput) -> None:
        super().__init__(line, fault)
        self._left, self._how = fault.after, fault.how

    def start(self) -> None:
        if not self._left:
            self.line.sever(self._how)

    def outgoing(self, data: bytes) -> bytes:
        data = data[: self._left]
        self._left -= len(data)
        if not self._left:
            self.line.sever(self._how)
        return data


@dataclass(frozen=True, slots=True)
class CutOutput(Fault):
    """The connection ends once ``after`` bytes have gone to the client behind the 101: a kubelet or a node that dies, a
    proxy that is restarted, a copy that ends in ``unexpected EOF``."""

    name = "cut-output"
    incident = f"{KUBERNETES}/issues/60140 {KUBERNETES}/issues/73056 {KUBECTL}/issues/1726"
    injection = _CutOutput
    after: int = 0
    how: How = "close_notify"

    def __post_init__(self) -> None:
        check_bytes(self.after)
        check_how(self.how)


class _CutInput(Injection):
    def __init__(self, line: FaultySession, fault: CutInput) -> None:
        super().__init__(line, fault)
        self._left, self._how = fault.after, fault.how

    def start(self) -> None:
        if not self._left:
            self.line.sever(self._how)

    def incoming(self, data: Buffer) -> Buffer:
        data = memoryview(data)[: self._left]
        self._left -= len(data)
        if not self._left:
            self.line.loop.call_soon(self.line.sever, self._how)  # what came before it still counts
        return data


@dataclass(frozen=True, slots=True)
class CutInput(Fault):
    """The connection ends once ``after`` bytes have come from the client: an upload that a dying server half took."""

    name = "cut-input"
    incident = f"{KUBERNETES}/issues/112834 https://github.com/fabric8io/kubernetes-client/issues/6212"
    injection = _CutInput
    after: int = 0
    how: How = "close_notify"

    def __post_init__(self) -> None:
        check_bytes(self.after)
        check_how(self.how)


class _Silence(Injection):
    def __init__(self, line: FaultySession, fault: Silence) -> None:
        super().__init__(line, fault)
        self._left = fault.after

    def start(self) -> None:
        if not self._left:
            self.line.silence()

    def outgoing(self, data: bytes) -> bytes:
        data = data[: self._left]
        self._left -= len(data)
        if not self._left:
            self.line.loop.call_soon(self.line.silence)
        return data


@dataclass(frozen=True, slots=True)
class Silence(Fault):
    """Once ``after`` bytes have gone to the client nothing passes any more, in either direction, and nobody is told: a
    node without power, a firewall that forgot the connection. An exec that hangs for ever."""

    name = "silence"
    incident = f"https://github.com/kubernetes-client/python/issues/602 {KUBECTL}/issues/1208"
    injection = _Silence
    after: int = 0

    def __post_init__(self) -> None:
        check_bytes(self.after)


class _IdleCut(Injection):
    def __init__(self, line: FaultySession, fault: IdleCut) -> None:
        super().__init__(line, fault)
        self._fault = fault
        self._last = line.loop.time()

    def start(self) -> None:
        self._look()

    def _look(self) -> None:
        left = self._last + self._fault.seconds - self.line.loop.time()
        if left > 0:
            self.line.later(left, self._look)
        else:
            self.line.sever(self._fault.how)

    def outgoing(self, data: bytes) -> bytes:
        self._last = self.line.loop.time()
        return data

    def incoming(self, data: Buffer) -> Buffer:
        self._last = self.line.loop.time()
        return data


@dataclass(frozen=True, slots=True)
class IdleCut(Fault):
    """The connection ends after ``seconds`` without a byte in either direction: load balancers do so after 20 s to 10
    min, kubelets after 4 h. A client that pings more often does not notice."""

    name = "idle-cut"
    incident = f"{KUBERNETES}/issues/66661 {KUBERNETES}/issues/94301 {KUBERNETES}/issues/75488"
    injection = _IdleCut
    seconds: float = 60.0
    how: How = "rst"

    def __post_init__(self) -> None:
        check_how(self.how)
        check_positive(seconds=self.seconds)

    @property
    def harmless(self) -> bool:
        """For a client that pings."""
        return True


class _ResetAtTheEnd(Injection):
    def frame(self, frame: Frame) -> Iterable[Frame]:
        if frame.kind in ("GOAWAY", "CLOSE"):
            self.line.loop.call_soon(self.line.sever, "rst")
        return (frame,)


@dataclass(frozen=True, slots=True)
class ResetAtTheEnd(Fault):
    """The last word of the connection is TCP's reset in place of FIN, as when a server closes with the client's bytes
    unread. It can destroy what was on its way: the end of the output, the status."""

    name = "reset-at-the-end"
    incident = f"{KUBERNETES}/issues/74551 https://github.com/containerd/containerd/issues/9875"
    injection = _ResetAtTheEnd


# -- how bytes travel --------------------------------------------------------------------------------------------------


class _SplitWrites(Injection):
    def __init__(self, line: FaultySession, fault: SplitWrites) -> None:
        super().__init__(line, fault)
        line.piece = min(fault.size, line.piece or fault.size)


@dataclass(frozen=True, slots=True)
class SplitWrites(Fault):
    """Everything leaves in pieces of ``size`` bytes, each a TLS record of its own: a frame never comes in one read.
    Clients that took a read for a frame lost output or stopped at 32768 bytes."""

    name = "split-writes"
    incident = "https://github.com/kubernetes-client/python/issues/2414"
    injection = _SplitWrites
    size: int = 1

    def __post_init__(self) -> None:
        check_positive(size=self.size)

    @property
    def harmless(self) -> bool:
        """Nothing is lost."""
        return True


class _SlowLink(Injection):
    def __init__(self, line: FaultySession, fault: SlowLink) -> None:
        super().__init__(line, fault)
        size = max(1, fault.rate // 20)
        line.piece = min(size, line.piece or size)
        line.pace = line.piece / fault.rate


@dataclass(frozen=True, slots=True)
class SlowLink(Fault):
    """The client gets ``rate`` bytes a second, in twenty pieces: the last megabytes used to be lost on slow links."""

    name = "slow-link"
    incident = f"{KUBECTL}/issues/1361"
    injection = _SlowLink
    rate: int = 65536

    def __post_init__(self) -> None:
        check_positive(rate=self.rate)

    @property
    def harmless(self) -> bool:
        """Nothing is lost."""
        return True


class _SlowReader(Injection):
    def __init__(self, line: FaultySession, fault: SlowReader) -> None:
        super().__init__(line, fault)
        self._rate = fault.rate
        self._until = 0.0

    def incoming(self, data: Buffer) -> Buffer:
        now = self.line.loop.time()
        self._until = max(self._until, now) + len(data) / self._rate
        self.line.pause(True)
        self.line.later(self._until - now, self._read_on)
        return data

    def _read_on(self) -> None:
        if self.line.loop.time() >= self._until - 0.001:
            self.line.pause(False)


@dataclass(frozen=True, slots=True)
class SlowReader(Fault):
    """The server takes ``rate`` bytes a second, and no ping in between: clients that counted the missing pongs ended
    healthy transfers."""

    name = "slow-reader"
    incident = f"{KUBERNETES}/pull/115493"
    injection = _SlowReader
    rate: int = 1024 * 1024

    def __post_init__(self) -> None:
        check_positive(rate=self.rate)

    @property
    def harmless(self) -> bool:
        """Nothing is lost."""
        return True

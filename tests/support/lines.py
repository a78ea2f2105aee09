"""Commands over a line that is cut, and the judgement of what a client makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kubeletclient import ClientError, ConnectError, ConnectionLost, Deadlines, PeerNotResponding
from spdyproto.channels.subprotocols import Subprotocol
from support.cutproxy import Cut, CutProxy, How, Passage
from support.flavours import Node
from support.proof import read

__all__ = [
    "ERR",
    "OUT",
    "PATIENT",
    "STDERR",
    "STDOUT",
    "VERSIONS",
    "Line",
    "judge_beginning",
    "judge_loss",
    "positions",
    "sweep",
]

VERSIONS = {1: Subprotocol.V1, 2: Subprotocol.V2, 3: Subprotocol.V3, 4: Subprotocol.V4}
STDOUT, STDERR = 3, 5  # stream ids of a session without stdin
OUT = b"out 0\nout 1\nout 2\n"  # of the command `both 3`
ERR = b"err 0\nerr 1\nerr 2\n"
# Far more than any step needs, so that a test that hangs fails by its own limit and not by one of these.
PATIENT = Deadlines(dial=9, tls=9, upgrade=9, stream_reply=9, status=9, drain=9)


@dataclass
class Line:
    """A proxy and a node behind it."""

    proxy: CutProxy
    node: Node

    def run(self, cut: Cut | None, *command: str, **options: Any) -> tuple[Any, Passage]:
        """The result or the error of `command` under `cut`, and what the proxy carried."""
        self.proxy.plan = cut
        result: Any
        try:
            result = self.node.run(*command, **{"timeout": 30, **options})
        except ClientError as error:
            result = error
        return result, self.proxy.last()


def positions(total: int, count: int) -> list[int]:
    """About `count` of the positions from 0 to `total`, both included."""
    return sorted({*range(0, total, max(1, total // count)), total - 1, total})


def judge_loss(error: ClientError) -> None:
    """A cut is one of two errors, whose text says what is missing and what to do."""
    assert isinstance(error, ConnectError | ConnectionLost), error
    assert isinstance(error, ConnectionError)
    assert error.hint
    assert error.url
    if isinstance(error, ConnectionLost):
        assert error.owed
        assert not isinstance(error, PeerNotResponding)


def judge_beginning(error: ClientError, stdout: bytes, stderr: bytes = b"") -> None:
    """What an error carries of the outputs is how they begin."""
    for captured, whole in ((error.stdout, stdout), (error.stderr, stderr)):
        assert not isinstance(captured, str)
        assert whole.startswith(captured or b"")


def sweep(line: Line, version: int, how: How, count: int) -> None:
    """Cut at about `count` positions of the server's plaintext, and judge each outcome by what was passed on."""
    _, passage = line.run(None, "both", "3")
    outcomes = set()
    for after in positions(len(passage.down), count):
        result, passage = line.run(Cut(after, how), "both", "3")
        told = read(bytes(passage.down))
        complete = told.complete(version, {STDOUT, STDERR})
        outcomes.add(complete)
        if isinstance(result, ClientError):
            judge_loss(result)
            assert not complete or how == "rst", (after, told)
            if how != "rst":  # which may destroy what is on its way
                assert (result.stdout or b"") == told.payload.get(STDOUT, b"")
                assert (result.stderr or b"") == told.payload.get(STDERR, b"")
                assert result.received.get("stdout", 0) == len(told.payload.get(STDOUT, b""))
        else:
            assert complete, (after, told)
            assert (result.returncode, result.stdout, result.stderr) == (0, OUT, ERR)
    assert outcomes == {False, True}

"""The vocabulary of a remote-command session, whatever carries it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TypeAlias

from spdyproto.channels.status import ExitStatus
from spdyproto.errors import ProtocolError


class StreamKind(enum.StrEnum):
    """The streams of exec and attach; the values are the ``streamtype`` header."""

    ERROR = "error"
    STDIN = "stdin"
    STDOUT = "stdout"
    STDERR = "stderr"
    RESIZE = "resize"

    # Enum's own goes through Python for every dictionary look-up, of which each chunk of data makes several.
    __hash__ = str.__hash__


class Transport(enum.Enum):
    """What carries a session."""

    SPDY = "spdy"
    WEBSOCKET = "websocket"
    WEBSOCKET_BASE64 = "websocket, base64"


@dataclass(frozen=True, slots=True)
class StreamSet:
    """Which streams a session asks for. A terminal has no stderr of its own, so ``tty`` with ``stderr`` is refused."""

    stdin: bool = False
    stdout: bool = True
    stderr: bool = True
    tty: bool = False

    def __post_init__(self) -> None:
        if not (self.stdin or self.stdout or self.stderr):
            raise ValueError("a session needs at least one of stdin, stdout and stderr (the kubelet answers 400)")
        if self.tty and self.stderr:
            raise ValueError("a terminal mixes stderr into stdout: ask for tty or for stderr, not for both")


@dataclass(slots=True)
class Ready:
    """Every stream is open on both sides: stdin may flow."""


@dataclass(slots=True)
class Output:
    """Client role: bytes of stdout or stderr; ``data`` is a view that lives until the next ``receive_data``."""

    kind: StreamKind
    data: memoryview


@dataclass(slots=True)
class OutputEnded:
    """Client role: nothing more comes on this output."""

    kind: StreamKind


@dataclass(slots=True)
class Stdin:
    """Server role: bytes for the command; ``data`` is a view that lives until the next ``receive_data``."""

    data: memoryview


@dataclass(slots=True)
class StdinEnded:
    """Server role: the client half-closed stdin. Client role: the server reset stdin and reads no more of it."""


@dataclass(slots=True)
class Resized:
    """Server role: the terminal's size, in characters; 1 to 65535 each, or 0, which runtimes ignore."""

    width: int
    height: int


@dataclass(slots=True)
class Exited:
    """Client role: the proof of completion came: the status, and the end of every output."""

    status: ExitStatus


@dataclass(slots=True)
class Lost:
    """The session is over without that proof. ``error`` says what came and what is missing."""

    error: ProtocolError


SessionEvent: TypeAlias = Ready | Output | OutputEnded | Stdin | StdinEnded | Resized | Exited | Lost

"""What a finished command leaves: its result, or the error that says why there is none. Shared by both flavours."""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from kubeletclient import errors
from kubeletclient._ladder import Attempt
from spdyproto.channels.events import Exited, Lost, StreamKind, StreamSet
from spdyproto.channels.status import ExitStatus
from spdyproto.errors import OutcomeUnknown, PeerTimeout
from spdyproto.text import printable

__all__ = [
    "Completed",
    "Context",
    "Reply",
    "closed_before_its_end",
    "decoder",
    "failure_of",
    "gathered_too_much",
    "interrupted",
    "process_closed",
    "stdin_cannot_end",
    "stdin_closed",
]

Text = TypeVar("Text", bytes, str)


class Session(Protocol):
    """What a result takes over from a process of either flavour."""

    args: Sequence[str]

    @property
    def route(self) -> str: ...
    @property
    def route_reason(self) -> str: ...
    @property
    def transport(self) -> str: ...
    @property
    def protocol(self) -> str: ...
    @property
    def attempts(self) -> tuple[Attempt, ...]: ...
    @property
    def received(self) -> dict[str, int]: ...
    @property
    def sent(self) -> dict[str, int]: ...


@dataclass(frozen=True, slots=True)
class Completed(Generic[Text]):
    """A command that ran to its end; shaped like ``subprocess.CompletedProcess``.

    ``stdout`` and ``stderr`` are None unless they were captured. ``received`` and ``sent`` count payload bytes by
    stream name. ``duration`` is in seconds, from the dial to the exit status. ``transport`` is ``"spdy"`` or ``"ws"``,
    ``protocol`` the subprotocol negotiated over it, and ``attempts`` says what else was tried, and why it was left.
    ``route`` is how the server was reached (``"kubelet"``, ``"apiserver"``), and ``route_reason`` why so, where it was
    a choice.
    """

    args: Sequence[str]
    returncode: int
    stdout: Text | None
    stderr: Text | None
    route: str
    protocol: str
    received: Mapping[str, int]
    sent: Mapping[str, int]
    duration: float
    transport: str
    attempts: tuple[Attempt, ...]
    route_reason: str = ""

    @classmethod
    def of(
        cls,
        process: Session,
        returncode: int,
        captured: tuple[bytes | None, bytes | None],
        decode: tuple[str, str] | None,
        seconds: float,
    ) -> Completed[bytes] | Completed[str]:
        """The result of ``process``, captured bytes decoded if that was asked for. Raises UnicodeDecodeError as
        ``bytes.decode``.
        """
        rest = (
            process.route,
            process.protocol,
            process.received,
            process.sent,
            seconds,
            process.transport,
            process.attempts,
            process.route_reason,
        )
        out, err = captured
        if decode is None:
            return Completed(process.args, returncode, out, err, *rest)
        text = [None if data is None else data.decode(*decode) for data in captured]
        return Completed(process.args, returncode, text[0], text[1], *rest)

    def check_returncode(self) -> None:
        """Raise CommandFailed when the exit code is not 0."""
        if self.returncode:
            raise errors.CommandFailed(self.returncode, self.args, self.stdout, self.stderr)


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a plain request. ``route`` and ``route_reason`` as for a command."""

    content: bytes
    content_type: str
    route: str
    route_reason: str
    url: str

    @property
    def text(self) -> str:
        """As UTF-8; what is none is replaced."""
        return self.content.decode("utf-8", "replace")

    def json(self) -> Any:  # noqa: ANN401 - JSON
        """The document. Raises InvalidAnswer for what is none."""
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError):
            raise errors.InvalidAnswer(
                "the answer is not JSON", hint="look at its text", route=self.route, url=self.url
            ) from None


@dataclass(frozen=True, slots=True)
class Context:
    """What every error of one session says: how it was reached, and what was asked."""

    route: str
    url: str
    streams: StreamSet
    reason: str = ""

    def fill(
        self,
        error: errors.ClientError,
        *,
        received: Mapping[StreamKind, int],
        sent: Mapping[StreamKind, int],
        stdout: bytes | None = None,
        stderr: bytes | None = None,
    ) -> errors.ClientError:
        """Complete ``error`` with where it happened and how far things had come."""
        error.route = self.route
        error.route_reason = self.reason
        error.url = self.url
        error.received = {str(kind): count for kind, count in received.items()}
        error.sent = {str(kind): count for kind, count in sent.items()}
        error.stdout = stdout
        error.stderr = stderr
        return error


def failure_of(outcome: Exited | Lost, ledger: str = "") -> errors.ClientError | None:
    """The error that this end of a session means, or None when an exit code is known.

    ``ledger`` is the session's own account of what came and what is missing; its last part, behind ``owed:``, lists
    the latter.
    """
    if isinstance(outcome, Lost) and isinstance(outcome.error, OutcomeUnknown):
        unknown = errors.OutcomeUnknown(
            f"how the command ended cannot be known: {outcome.error}",
            hint="use transport 'auto', 'spdy' or 'ws:v4.channel.k8s.io', which carry exit codes",
            owed=("the exit status",),
        )
        unknown.__cause__ = outcome.error
        return unknown
    if isinstance(outcome, Lost):
        kind = errors.PeerNotResponding if isinstance(outcome.error, PeerTimeout) else errors.ConnectionLost
        lost = kind(
            f"the session was lost: {outcome.error}",
            hint="how the command ended is unknown, and it may still be running: check before you run it again",
            owed=ledger.rpartition("owed: ")[2].split(", ") if ledger else (),
        )
        lost.__cause__ = outcome.error
        return lost
    if outcome.status.code is None:
        return _remote_error(outcome.status)
    return None


def _remote_error(status: ExitStatus) -> errors.RemoteError:
    message = printable(status.message.strip(), limit=500)
    if "executable file not found" in message or "no such file or directory" in message:
        hint = "check the command's name and path inside the container"
    elif not status.reason:
        hint = "this protocol version carries no exit codes: a server that speaks v4 tells more"
    else:
        hint = "see the server's text; the runtime's log on the node tells more"
    error = errors.RemoteError(f"the server reports a failure without an exit code: {message or 'no text'}", hint=hint)
    error.message = message
    error.reason = printable(status.reason, limit=100)
    return error


def stdin_cannot_end(version: str) -> errors.StdinCannotEnd:
    """For a session over WebSocket that speaks this version."""
    return errors.StdinCannotEnd(
        f"{version} over WebSocket cannot end stdin: the command would wait for more",
        hint="nothing was changed; close the process to leave, or start it with transport 'auto' or 'spdy'",
    )


def process_closed() -> errors.ProcessClosed:
    """For a write after ``close()``."""
    return errors.ProcessClosed("the process was closed", hint="write before close()")


def closed_before_its_end(url: str) -> errors.ProcessClosed:
    """For a wait, or a read, that ``close()`` left without an answer."""
    return errors.ProcessClosed("the process was closed before its output ended", hint="read before close()", url=url)


def stdin_closed() -> errors.StdinClosed:
    """For a write that the command will not read."""
    return errors.StdinClosed(
        "stdin is closed: the command ended, or does not read it any more",
        hint="wait() tells how it ended; its output is still to be read",
    )


def interrupted(cause: BaseException) -> errors.ConnectionLost:
    """For a session in the middle of whose work ``cause`` was raised."""
    lost = errors.ConnectionLost(
        f"the session was given up because handling its data was interrupted by {type(cause).__name__}",
        hint="how the command ended is unknown, and it may still be running",
        owed=("the exit status",),
    )
    lost.__cause__ = cause
    return lost


def gathered_too_much(limit: int) -> errors.OutputLimitExceeded:
    """For ``communicate`` beyond ``capture_limit``."""
    return errors.OutputLimitExceeded(
        f"gathered output crossed the limit of {limit} bytes", hint="raise capture_limit=, or read the pipe yourself"
    )


def decoder(text: bool, encoding: str | None, errors_: str | None = None) -> tuple[str, str] | None:
    """The (encoding, error handler) that ``text=``, ``encoding=`` and ``errors=`` ask for, or None for bytes.

    UTF-8 where none is named: containers have no relation to this machine's locale. Raises LookupError for an
    unknown one.
    """
    if not text and encoding is None and errors_ is None:
        return None
    return codecs.lookup(encoding or "utf-8").name, errors_ or "strict"

"""How a session's end becomes a result or an error."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from kubeletclient import CommandFailed, Completed, ConnectionLost, PeerNotResponding, RemoteError
from kubeletclient.results import Context, failure_of
from spdyproto.channels.events import Exited, Lost, StreamKind, StreamSet
from spdyproto.channels.status import ExitStatus
from spdyproto.errors import PeerClosed, PeerTimeout

PROCESS: Any = SimpleNamespace(
    args=("x",),
    route="kubelet",
    route_reason="near",
    protocol="v4.channel.k8s.io",
    received={"stdout": 1},
    sent={},
    transport="spdy",
    attempts=(),
)


@pytest.mark.parametrize("code", [0, 1, 137, 255])
def test_an_exit_code_is_no_failure(code: int) -> None:
    assert failure_of(Exited(ExitStatus.exited(code))) is None


def test_a_failure_without_a_code() -> None:
    error = failure_of(Exited(ExitStatus.failure("exec: \x1b[31m executable file not found in $PATH")))
    assert isinstance(error, RemoteError)
    assert error.message == r"exec: \x1b[31m executable file not found in $PATH"
    assert error.reason == "InternalError"
    assert "check the command's name" in str(error)


def test_text_of_an_old_protocol_is_a_failure_that_says_so() -> None:
    error = failure_of(Exited(ExitStatus(None, "command terminated with exit code 3")))
    assert isinstance(error, RemoteError)
    assert "carries no exit codes" in str(error)


@pytest.mark.parametrize(
    ("cause", "kind"), [(PeerClosed("gone"), ConnectionLost), (PeerTimeout("late"), PeerNotResponding)]
)
def test_a_lost_session(cause: PeerClosed, kind: type[ConnectionLost]) -> None:
    error = failure_of(Lost(cause), "received 3 bytes of stdout (not ended); owed: the end of stdout, the exit status")
    assert type(error) is kind
    assert error.__cause__ is cause
    assert error.owed == ("the end of stdout", "the exit status")
    assert "may still be running" in str(error)


def test_context_completes_an_error() -> None:
    error = Context("kubelet", "https://n/exec", StreamSet()).fill(
        ConnectionLost("x"), received={StreamKind.STDOUT: 3}, sent={StreamKind.STDIN: 4}, stdout=b"abc"
    )
    assert (error.route, error.url, error.received, error.sent) == (
        "kubelet",
        "https://n/exec",
        {"stdout": 3},
        {"stdin": 4},
    )
    assert (error.stdout, error.stderr) == (b"abc", None)


def test_bytes_and_text() -> None:
    raw = Completed.of(PROCESS, 0, (b"\xc3\xa9", None), None, 0.5)
    assert (raw.stdout, raw.stderr, raw.route, raw.duration) == (b"\xc3\xa9", None, "kubelet", 0.5)
    text = Completed.of(PROCESS, 0, (b"\xc3\xa9", b""), ("utf-8", "strict"), 0.5)
    assert (text.stdout, text.stderr) == ("\u00e9", "")
    with pytest.raises(UnicodeDecodeError):
        Completed.of(PROCESS, 0, (b"\xff", b""), ("utf-8", "strict"), 0.5)


def test_check() -> None:
    Completed.of(PROCESS, 0, (b"", b""), None, 0.5).check_returncode()
    with pytest.raises(CommandFailed, match="code 3: x; its stderr: why") as caught:
        Completed.of(PROCESS, 3, (b"out", b"why"), None, 0.5).check_returncode()
    assert (caught.value.stdout, caught.value.cmd) == (b"out", ["x"])

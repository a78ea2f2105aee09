"""Arguments of run and popen, checked before anything is dialled."""

from __future__ import annotations

from typing import Any

import pytest

from kubeletclient import CAPTURE, DEVNULL, PIPE
from kubeletclient._plan import Plan, command_words, plan_process, plan_run, user_agent
from kubeletclient._policy import Capture
from kubeletclient.results import decoder
from spdyproto.channels.events import StreamSet

RUN: dict[str, Any] = {
    "input": None,
    "stdin": None,
    "stdout": CAPTURE,
    "stderr": CAPTURE,
    "tty": False,
    "capture_limit": 100,
    "text": False,
    "encoding": None,
    "errors": None,
}
PROCESS: dict[str, Any] = {"stdin": None, "stdout": PIPE, "stderr": PIPE, "tty": False, "capture_limit": 100}


def run(**changes: Any) -> Plan:
    return plan_run(**{**RUN, **changes})


def process(**changes: Any) -> Plan:
    return plan_process(**{**PROCESS, **changes})


def test_words() -> None:
    assert command_words(["ls", "/"]) == ("ls", "/")


@pytest.mark.parametrize("args", ["ls /", b"ls", [b"ls"], [1]])
def test_nothing_splits_words(args: Any) -> None:
    with pytest.raises(TypeError, match=r"words|str"):
        command_words(args)


def test_no_words() -> None:
    with pytest.raises(ValueError, match="args is empty"):
        command_words([])


def test_what_run_asks_for_by_default() -> None:
    plan = run()
    assert plan.streams == StreamSet(stdin=False, stdout=True, stderr=True)
    assert plan.source is None
    assert isinstance(plan.stdout, Capture)
    assert plan.captured() == (b"", b"")
    assert plan.decode is None


def test_what_popen_asks_for_by_default() -> None:
    plan = process()
    assert plan.streams == StreamSet(stdin=False, stdout=True, stderr=True)
    assert (plan.stdout, plan.stderr, plan.captured()) == (None, None, (None, None))


def test_streams_that_are_not_asked_for() -> None:
    assert run(stdout=None).streams == StreamSet(stdout=False, stderr=True)
    assert run(stdout=None).captured() == (None, b"")
    assert process(stdin=DEVNULL).streams.stdin
    with pytest.raises(ValueError, match="at least one of stdin, stdout and stderr"):
        run(stdout=None, stderr=None)


def test_a_terminal_has_no_stderr() -> None:
    assert run(tty=True).streams == StreamSet(stdout=True, stderr=False, tty=True)
    assert process(tty=True, stdin=PIPE).streams == StreamSet(stdin=True, stdout=True, stderr=False, tty=True)


def test_a_pipe_of_run_is_captured() -> None:
    assert isinstance(run(stdout=PIPE).stdout, Capture)


def test_input() -> None:
    for changes in (
        {"input": b"x"},
        {"stdin": b"x"},
        {"input": "x", "text": True},
        {"input": "x", "encoding": "ascii"},
    ):
        plan = run(**changes)
        assert plan.streams.stdin
        assert plan.source is not None
        assert bytes(plan.source.next_batch(memoryview(bytearray(9))) or b"") == b"x"
    assert run(input=b"").streams.stdin, "empty input is a stdin that ends at once"


@pytest.mark.parametrize(
    ("changes", "kind", "text"),
    [
        ({"input": b"x", "stdin": b"y"}, ValueError, "input= or stdin="),
        ({"stdin": PIPE}, ValueError, "use popen"),
        ({"input": "text"}, TypeError, "give bytes, or text=True"),
        ({"encoding": "no-such"}, LookupError, "no-such"),
        ({"capture_limit": -1}, ValueError, "capture_limit"),
    ],
)
def test_what_does_not_fit_together(changes: dict[str, Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        run(**changes)


def test_decoding_is_asked_for_as_in_subprocess() -> None:
    assert decoder(False, None) is None
    assert decoder(True, None) == ("utf-8", "strict")
    assert decoder(False, "latin1") == ("iso8859-1", "strict")
    assert decoder(False, None, "replace") == ("utf-8", "replace")


def test_streams_of_a_url_that_has_fixed_them() -> None:
    streams = StreamSet(stdin=True, stdout=False, stderr=True)
    plan = process(streams=streams, stdin=PIPE, stdout=CAPTURE)
    assert plan.streams is streams
    assert plan.stdout is None


def test_the_agent_has_name_and_version() -> None:
    assert user_agent().startswith("kubewire")

"""``kubewire exec -it`` and ``kubewire attach -it`` on a real terminal, which the test holds the other end of."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakekubelet import Container, FakeKubelet, Pod
from fakekubelet.websockets import ALL_WEBSOCKET
from support.terminal import Terminal

TRANSPORTS = ["spdy", "ws"]

_PATIENCE = 20.0
_LOCAL_FLAGS = 3  # index into what tcgetattr answers


async def echo_bytes(context: Any) -> int:
    """Says it is ready once a size was told, which is after the local terminal is raw; then what each key was, until
    ``q``."""
    if context.size is None:
        await context.resized()
    await context.stdout.write(b"ready\r\n")
    async for data in context.stdin:
        for byte in data:
            await context.stdout.write(b"<%02x>" % byte)
            if byte == ord("q"):
                return 7
    return 8


def kubewire(arguments: list[str], size: tuple[int, int] = (80, 24)) -> Terminal:
    """`kubewire` on a terminal."""
    return Terminal([sys.executable, "-m", "kubewire", *arguments], size)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config")


@pytest.fixture
def kubelet() -> Iterator[FakeKubelet]:
    containers = [
        Container("main"),
        Container("keys", behaviour=echo_bytes),
        Container("cat", main=["cat"], stdin=True, stdin_once=True),
        Container("tty", main=["sizes", "1000000"], stdin=True, tty=True),
    ]
    with FakeKubelet([Pod("default/demo", containers)], websocket_protocols=ALL_WEBSOCKET) as kubelet:
        yield kubelet


@pytest.fixture
def options(kubelet: FakeKubelet, folder: Path) -> list[str]:
    pair = kubelet.credentials("tester", ["system:masters"])
    (folder / "ca.crt").write_bytes(kubelet.ca)
    (folder / "client.crt").write_bytes(pair.cert_pem)
    (folder / "client.key").write_bytes(pair.key_pem)
    return [
        f"--kubelet={kubelet.url}",
        f"--certificate-authority={folder / 'ca.crt'}",
        f"--client-certificate={folder / 'client.crt'}",
        f"--client-key={folder / 'client.key'}",
    ]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_keys_go_over_as_they_are(options: list[str], transport: str) -> None:
    """Ctrl-C and Ctrl-D, too; the exit code is the remote one, and the terminal is as it was."""
    with kubewire(["exec", "-it", f"--transport={transport}", *options, "demo", "-c", "keys", "--", "x"]) as terminal:
        terminal.until(b"ready")
        assert terminal.raw
        terminal.type(b"a\x03\x04\x1c\rq")
        terminal.until(b"<61><03><04><1c><0d><71>")
        assert terminal.wait() == 7
        terminal.assert_restored()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_sizes(options: list[str], transport: str) -> None:
    """The size is told at the start, and whenever it changes."""
    arguments = ["exec", "-it", f"--transport={transport}", *options, "demo", "-c", "main", "--", "sizes", "3"]
    with kubewire(arguments, size=(81, 25)) as terminal:
        terminal.until(b"81x25")
        terminal.resize(132, 43)
        terminal.until(b"132x43")
        terminal.resize(20, 5)
        terminal.until(b"20x5")
        assert terminal.wait() == 0
        terminal.assert_restored()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_restored_when_killed(options: list[str], number: signal.Signals) -> None:
    with kubewire(["exec", "-it", *options, "demo", "-c", "keys", "--", "x"]) as terminal:
        terminal.until(b"ready")
        assert terminal.raw
        os.kill(terminal.pid, number)
        assert terminal.wait() == 128 + number
        terminal.assert_restored()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_restored_when_the_connection_is_lost(kubelet: FakeKubelet, options: list[str], transport: str) -> None:
    with kubewire(["exec", "-it", f"--transport={transport}", *options, "demo", "-c", "keys", "--", "x"]) as terminal:
        terminal.until(b"ready")
        kubelet.close()
        assert terminal.wait() == 255
        terminal.assert_restored()
        assert b"kubewire: " in terminal.seen


def test_restored_when_the_time_is_up(options: list[str]) -> None:
    with kubewire(["exec", "-it", "--timeout=5", *options, "demo", "-c", "keys", "--", "x"]) as terminal:
        terminal.until(b"ready")
        assert terminal.raw
        assert terminal.wait() == 255
        terminal.assert_restored()
        assert b"kubewire: " in terminal.seen


def test_never_raw_when_there_is_no_session(options: list[str]) -> None:
    with kubewire(["exec", "-it", *options, "no-such-pod", "-c", "keys", "--", "x"]) as terminal:
        assert terminal.wait() == 255
        terminal.assert_restored()
        assert b"pod does not exist" in terminal.seen


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_attach_forces_a_redraw_and_is_left_by_its_keys(options: list[str], transport: str) -> None:
    arguments = ["attach", "-it", f"--transport={transport}", "--detach-keys=ctrl-p,ctrl-q", *options]
    with kubewire([*arguments, "demo", "-c", "tty"], size=(81, 25)) as terminal:
        seen = terminal.until(b"81x25")
        assert seen.index(b"82x26") < seen.index(b"81x25")
        assert terminal.raw
        terminal.type(b"x\x10y\x10\x11")
        assert terminal.wait() == 0
        terminal.assert_restored()
    with kubewire([*arguments, "-v", "demo", "-c", "tty"], size=(100, 30)) as terminal:
        terminal.until(b"100x30")  # it lives on
        terminal.type(b"\x10\x11")
        assert terminal.wait() == 0
        assert b"detached" in terminal.until(b" s\r\n")


@pytest.mark.parametrize("verb", ["exec", "attach"])
def test_without_a_terminal_none_is_asked_for(options: list[str], verb: str) -> None:
    rest = ["-c", "main", "--", "cat"] if verb == "exec" else ["-c", "cat"]
    command = [sys.executable, "-m", "kubewire", verb, "-it", *options, "demo", *rest]
    done = subprocess.run(command, input=b"plain\n", capture_output=True, timeout=_PATIENCE, check=False)
    assert (done.returncode, done.stdout) == (0, b"plain\n")
    assert b"not a terminal" in done.stderr

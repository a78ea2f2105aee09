"""``kubewire exec -it`` and ``kubewire attach -it`` on a real terminal, which the test holds the other end of."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from fakekubelet import Container, FakeKubelet, Pod
from fakekubelet.websockets import ALL_WEBSOCKET

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


class Terminal:
    """A command on a new terminal."""

    def __init__(self, arguments: list[str], size: tuple[int, int] = (80, 24)) -> None:
        master, slave = pty.openpty()
        self.master = master
        self.slave = slave  # kept open, so that the modes can be read when the command is gone
        self.before = termios.tcgetattr(slave)
        self.resize(*size, tell=False)
        self.pid = self._spawn(arguments)
        self.seen = b""
        self._status: int | None = None

    def _spawn(self, arguments: list[str]) -> int:
        command = [sys.executable, "-m", "kubewire", *arguments]
        actions = [(os.POSIX_SPAWN_DUP2, self.slave, descriptor) for descriptor in (0, 1, 2)]
        return os.posix_spawn(sys.executable, command, os.environ, file_actions=actions, setsigdef=[signal.SIGWINCH])

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.master)
        os.close(self.slave)

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def resize(self, width: int, height: int, *, tell: bool = True) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        if tell:  # it is not the command's controlling terminal, so the kernel does not
            os.kill(self.pid, signal.SIGWINCH)

    def until(self, marker: bytes) -> bytes:
        """Everything up to and with `marker`."""
        return self._read(lambda: marker in self.seen, f"{marker!r}")

    def _read(self, done: Callable[[], bool], what: str) -> bytes:
        ends = time.monotonic() + _PATIENCE
        while not done():
            left = ends - time.monotonic()
            assert left > 0, f"{what} did not come; the terminal shows {self.seen!r}"
            if select.select([self.master], [], [], left)[0]:
                self.seen += os.read(self.master, 4096)
        return self.seen

    def wait(self) -> int:
        """The exit code."""
        ends = time.monotonic() + _PATIENCE
        while self._status is None:
            assert time.monotonic() < ends, f"the command did not end; the terminal shows {self.seen!r}"
            if select.select([self.master], [], [], 0.05)[0]:
                self.seen += os.read(self.master, 4096)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status

    @property
    def raw(self) -> bool:
        return not termios.tcgetattr(self.slave)[_LOCAL_FLAGS] & (termios.ICANON | termios.ECHO | termios.ISIG)

    def assert_restored(self) -> None:
        assert termios.tcgetattr(self.slave) == self.before


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
    with Terminal(["exec", "-it", f"--transport={transport}", *options, "demo", "-c", "keys", "--", "x"]) as terminal:
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
    with Terminal(arguments, size=(81, 25)) as terminal:
        terminal.until(b"81x25")
        terminal.resize(132, 43)
        terminal.until(b"132x43")
        terminal.resize(20, 5)
        terminal.until(b"20x5")
        assert terminal.wait() == 0
        terminal.assert_restored()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_restored_when_killed(options: list[str], number: signal.Signals) -> None:
    with Terminal(["exec", "-it", *options, "demo", "-c", "keys", "--", "x"]) as terminal:
        terminal.until(b"ready")
        assert terminal.raw
        os.kill(terminal.pid, number)
        assert terminal.wait() == 128 + number
        terminal.assert_restored()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_restored_when_the_connection_is_lost(kubelet: FakeKubelet, options: list[str], transport: str) -> None:
    with Terminal(["exec", "-it", f"--transport={transport}", *options, "demo", "-c", "keys", "--", "x"]) as terminal:
        terminal.until(b"ready")
        kubelet.close()
        assert terminal.wait() == 255
        terminal.assert_restored()
        assert b"kubewire: " in terminal.seen


def test_restored_when_the_time_is_up(options: list[str]) -> None:
    with Terminal(["exec", "-it", "--timeout=5", *options, "demo", "-c", "keys", "--", "x"]) as terminal:
        terminal.until(b"ready")
        assert terminal.raw
        assert terminal.wait() == 255
        terminal.assert_restored()
        assert b"kubewire: " in terminal.seen


def test_never_raw_when_there_is_no_session(options: list[str]) -> None:
    with Terminal(["exec", "-it", *options, "no-such-pod", "-c", "keys", "--", "x"]) as terminal:
        assert terminal.wait() == 255
        terminal.assert_restored()
        assert b"pod does not exist" in terminal.seen


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_attach_forces_a_redraw_and_is_left_by_its_keys(options: list[str], transport: str) -> None:
    arguments = ["attach", "-it", f"--transport={transport}", "--detach-keys=ctrl-p,ctrl-q", *options]
    with Terminal([*arguments, "demo", "-c", "tty"], size=(81, 25)) as terminal:
        seen = terminal.until(b"81x25")
        assert seen.index(b"82x26") < seen.index(b"81x25")
        assert terminal.raw
        terminal.type(b"x\x10y\x10\x11")
        assert terminal.wait() == 0
        terminal.assert_restored()
    with Terminal([*arguments, "-v", "demo", "-c", "tty"], size=(100, 30)) as terminal:
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

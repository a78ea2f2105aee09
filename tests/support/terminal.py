"""A real terminal around a command: a pty, whose other end a test types on and reads."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Mapping
from types import TracebackType

_PATIENCE = 30.0
_LOCAL_FLAGS = 3


class Terminal:
    """A command on a new terminal."""

    def __init__(
        self, command: list[str], size: tuple[int, int] = (80, 24), environment: Mapping[str, str] | None = None
    ) -> None:
        master, slave = pty.openpty()
        self.master = master
        self.slave = slave  # kept open, so that the modes can be read when the command is gone
        self.before = termios.tcgetattr(slave)
        self.resize(*size, tell=False)
        self.pid = self._spawn(command, dict(environment or os.environ))
        self.seen = b""
        self._status: int | None = None

    def _spawn(self, command: list[str], environment: dict[str, str]) -> int:
        actions = [(os.POSIX_SPAWN_DUP2, self.slave, descriptor) for descriptor in (0, 1, 2)]
        return os.posix_spawn(command[0], command, environment, file_actions=actions, setsigdef=[signal.SIGWINCH])

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

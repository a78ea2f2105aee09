"""Real processes of the host as a container. Off unless the server was told by name to allow it.

Each process leads a session and process group of its own, works in the container's own folder, and has the
container's PATH and environment, nothing of the server's. Its exit is told as a runtime does: the code, 128 + n for
signal n, and for a program that cannot be started a failure in containerd's words. When the client leaves, the pipes
are closed and the process goes on, as in a container; when the server closes, its group is killed.

With a terminal the process gets a pseudo-terminal whose size follows the client. It becomes the controlling terminal
by a one-line launcher in the child, because running Python between fork and exec is not safe in a server with
threads.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Mapping
from typing import cast

from fakekubelet.runtimes import Command, ExecRequest, Runtime, exited, internal_failure, not_started
from spdyproto.channels.events import StreamKind
from spdyproto.channels.status import ExitStatus

_LAUNCH_ON_TTY = "import fcntl,os,sys,termios;fcntl.ioctl(0,termios.TIOCSCTTY,0);os.execvp(sys.argv[1],sys.argv[1:])"
_END_OF_FILE = b"\x04"  # what a terminal takes for the end of input
_KINDS = {1: StreamKind.STDOUT, 2: StreamKind.STDERR}
_WRITE_HIGH_WATER = 256 * 1024


class ProcessHost:
    """Runs processes and remembers them, so that none outlives the server. All of it on the server's loop."""

    def __init__(self) -> None:
        self._folders: list[str] = []

    def runtime(self, path: str, environment: Mapping[str, str]) -> Runtime:
        """A runtime with a working folder of its own, made when it is first used and removed by ``close``."""
        folder = ""

        def launch(request: ExecRequest) -> Command:
            nonlocal folder
            if not request.argv:
                raise ValueError("no command given")
            if not folder:
                folder = tempfile.mkdtemp(prefix="fakekubelet-")
                self._folders.append(folder)
            return ProcessCommand(request, folder, {"PATH": path, "HOME": folder, **environment})

        return launch

    def close(self) -> None:
        """Remove the folders; every process must be gone."""
        while self._folders:
            shutil.rmtree(self._folders.pop(), ignore_errors=True)


class _Protocol(asyncio.SubprocessProtocol):
    """Hands the transport's callbacks to the command."""

    def __init__(self, command: ProcessCommand) -> None:
        self._command = command

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._command.on_output(_KINDS[fd], data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd == 0:
            self._command.outlet.resume_stdin()  # whatever still comes has no reader
        else:
            self._command.outlet.end(_KINDS[fd])

    def pause_writing(self) -> None:
        self._command.outlet.pause_stdin()

    def resume_writing(self) -> None:
        self._command.outlet.resume_stdin()

    def connection_lost(self, exc: Exception | None) -> None:
        self._command.on_over()


class _StdinProtocol(asyncio.BaseProtocol):
    """Back-pressure of the pseudo-terminal's input side."""

    def __init__(self, command: ProcessCommand) -> None:
        self._command = command

    def pause_writing(self) -> None:
        self._command.outlet.pause_stdin()

    def resume_writing(self) -> None:
        self._command.outlet.resume_stdin()


class _TerminalProtocol(asyncio.Protocol):
    """Output of the pseudo-terminal."""

    def __init__(self, command: ProcessCommand) -> None:
        self._command = command

    def data_received(self, data: bytes) -> None:
        self._command.on_output(StreamKind.STDOUT, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._command.on_terminal_lost()


class ProcessCommand(Command):
    """One process of the host."""

    def __init__(self, request: ExecRequest, folder: str, environment: Mapping[str, str]) -> None:
        super().__init__(request)
        self._folder = folder
        self._environment = dict(environment)
        self._transport: asyncio.SubprocessTransport | None = None
        self._stdin: asyncio.WriteTransport | None = None
        self._outputs: list[asyncio.ReadTransport] = []
        self._early: list[bytes | None] = []  # stdin that came before the process was there; None is its end
        self._size: tuple[int, int] | None = None
        self._left = False
        self._over = asyncio.Event()
        self._process_over = False
        self._terminal_over = not request.streams.tty
        self._starting: asyncio.Task[None] | None = None

    def start(self) -> None:  # noqa: D102 - as Command.start
        self.outlet.pause_stdin()
        self._starting = self.outlet.loop.create_task(self._start(), name=f"start {self.request}")

    async def _start(self) -> None:
        argv0 = self.request.argv[0]
        try:
            self._check_program(argv0)
            await (self._start_on_terminal() if self.request.streams.tty else self._start_on_pipes())
        except (OSError, ValueError) as error:
            self._over.set()
            self.outlet.exit(not_started(argv0, str(getattr(error, "strerror", None) or error)))
            return
        self.outlet.resume_stdin()
        for data in self._early:
            if data is None:
                self.stdin_ended()
            else:
                self.stdin(memoryview(data))
        self._early.clear()
        if self._left:
            self.gone()

    def _check_program(self, program: str) -> None:
        """Find out early: with a terminal, the launcher is what would fail."""
        where = os.path.join(self._folder, program) if "/" in program else program
        if shutil.which(where, path=self._environment["PATH"]) is not None:
            return
        if "/" not in program:
            raise OSError(errno.ENOENT, "executable file not found in $PATH")
        if not os.path.exists(where):
            raise OSError(errno.ENOENT, f"stat {program}: no such file or directory")
        raise OSError(errno.EACCES, "permission denied")

    async def _start_on_pipes(self) -> None:
        transport, _ = await self.outlet.loop.subprocess_exec(
            lambda: _Protocol(self),
            *self.request.argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self._folder,
            env=self._environment,
            start_new_session=True,
        )
        self._transport = transport
        self._stdin = cast(asyncio.WriteTransport, transport.get_pipe_transport(0))
        self._stdin.set_write_buffer_limits(high=_WRITE_HIGH_WATER)
        self._outputs = [cast(asyncio.ReadTransport, transport.get_pipe_transport(fd)) for fd in _KINDS]

    async def _start_on_terminal(self) -> None:
        loop = self.outlet.loop
        master, slave = os.openpty()
        try:
            transport, _ = await loop.subprocess_exec(
                lambda: _Protocol(self),
                sys.executable,
                *("-I", "-S", "-E", "-c", _LAUNCH_ON_TTY),
                *self.request.argv,
                stdin=slave,
                stdout=slave,
                stderr=slave,
                cwd=self._folder,
                env={"TERM": "xterm", **self._environment},
                start_new_session=True,
            )
        except BaseException:
            os.close(master)
            raise
        finally:
            os.close(slave)
        self._transport = transport
        # Two transports of one terminal: each closes its own descriptor.
        reader, _ = await loop.connect_read_pipe(lambda: _TerminalProtocol(self), os.fdopen(master, "rb", 0))
        self._outputs = [reader]
        writing = os.fdopen(os.dup(master), "wb", 0)
        self._stdin, _ = await loop.connect_write_pipe(lambda: _StdinProtocol(self), writing)
        if self._size is not None:
            self.resized(*self._size)

    # -- from the client ---------------------------------------------------------------------------------------------

    def stdin(self, data: memoryview) -> None:  # noqa: D102 - as Command.stdin
        if self._stdin is None:
            self._early.append(bytes(data))
            return
        if not self._stdin.is_closing():
            self._stdin.write(bytes(data))

    def stdin_ended(self) -> None:  # noqa: D102 - as Command.stdin_ended
        if self._stdin is None:
            self._early.append(None)
        elif self.request.streams.tty:
            self._stdin.write(_END_OF_FILE)  # closing would hang up the terminal
        else:
            self._stdin.close()

    def resized(self, width: int, height: int) -> None:  # noqa: D102 - as Command.resized
        self._size = (width, height)
        if self.request.streams.tty and self._outputs and width > 0 and height > 0 and not self._terminal_over:
            master = self._outputs[0].get_extra_info("pipe").fileno()
            fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def gone(self) -> None:
        """Close the pipes: the process sees the end of its stdin, and its next write fails. A terminal is hung up."""
        self._left = True
        for pipe in (self._stdin, *self._outputs):
            if pipe is not None:
                pipe.close()

    # -- from the process --------------------------------------------------------------------------------------------

    def on_output(self, kind: StreamKind, data: bytes) -> None:
        """Called by the protocols."""
        if not self.outlet.write(kind, data):
            for pipe in self._outputs:
                pipe.pause_reading()

    def writable(self) -> None:  # noqa: D102 - as Command.writable
        for pipe in self._outputs:
            if not pipe.is_closing():
                pipe.resume_reading()

    def on_over(self) -> None:
        """The process has ended, and its pipes too."""
        self._process_over = True
        self._conclude()

    def on_terminal_lost(self) -> None:
        """Nobody holds the terminal any more."""
        self._terminal_over = True
        self._conclude()

    def _conclude(self) -> None:
        if not (self._process_over and self._terminal_over) or self._over.is_set():
            return
        self._over.set()
        if self._stdin is not None:
            self._stdin.close()
        code = self._transport.get_returncode() if self._transport is not None else None
        if self._transport is not None:
            self._transport.close()
        self.outlet.exit(_exit_status(self.request, code))

    async def close(self) -> None:  # noqa: D102 - as Command.close
        if self._starting is not None:
            await asyncio.wait([self._starting])
        if self._transport is None:
            return
        if not self._over.is_set():
            try:
                os.killpg(self._transport.get_pid(), signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass  # it ended in this moment
            self.gone()
        await self._over.wait()
        self._transport.close()


def _exit_status(request: ExecRequest, code: int | None) -> ExitStatus:
    if code is None:
        return internal_failure("the process ended, but its exit code is unknown")
    return exited(request.argv, 128 - code if code < 0 else code)

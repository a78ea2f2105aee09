"""client-go's own port-forwarder, `kwforward`, as a context manager; and a few things to forward to."""

from __future__ import annotations

import json
import select
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from support.gopeers import GoUsage, build

_SECONDS = 30


@dataclass
class GoForward:
    """Forwards `ports` (``:80``, ``8080:80``) of the pod behind `url`; `local` are the ports to connect to.

    `transport` is ``spdy``, ``websocket`` or ``fallback``. Leaving the block ends it. `wait` tells its exit code and
    its words once it has ended by itself.
    """

    url: str
    ports: Sequence[str]
    files: Mapping[str, Path] = field(default_factory=dict)
    transport: str = "spdy"

    local: list[int] = field(default_factory=list, init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    def __enter__(self) -> Self:
        argv = [
            str(build() / "kwforward"), f"-url={self.url}", f"-transport={self.transport}",
            f"-ports={','.join(self.ports)}", *(f"-{name}={path}" for name, path in self.files.items()),
        ]  # fmt: skip
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
        line = self._line()
        if not line:
            code, said = self.wait()
            self._end()
            raise RuntimeError(f"kwforward ended with {code}: {said}")
        self.local = json.loads(line)["ports"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def usage(self) -> GoUsage:
        """What it has cost so far."""
        self._stream("stdin").write(b"cpu\n")
        return GoUsage(**json.loads(self._line()))

    def wait(self) -> tuple[int, str]:
        """Its exit code and its words."""
        assert self._process is not None
        said = self._stream("stderr").read().decode()
        return self._process.wait(_SECONDS), said

    def _stream(self, name: str) -> IO[bytes]:
        stream: IO[bytes] | None = getattr(self._process, name)
        assert stream is not None, "started with pipes"
        return stream

    def _line(self) -> bytes:
        stdout = self._stream("stdout")
        readable, _, _ = select.select([stdout], [], [], _SECONDS)
        return stdout.readline() if readable else b""

    def _end(self) -> None:
        assert self._process is not None
        self._stream("stdin").close()
        try:
            self._process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_SECONDS)
        for name in ("stdout", "stderr"):
            self._stream(name).close()


@contextmanager
def listening(serve: Callable[[socket.socket], Any]) -> Iterator[int]:
    """A TCP server on a free loopback port, which `serve` is called by with each connection, in a thread of its own."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as server:

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=_serve, args=(serve, connection), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(_SECONDS)


def _serve(serve: Callable[[socket.socket], Any], connection: socket.socket) -> None:
    with connection:
        try:
            serve(connection)
        except OSError:
            pass  # the test has seen what it wanted


def echo(connection: socket.socket) -> None:
    """Sends back what comes."""
    while data := connection.recv(1 << 18):
        connection.sendall(data)


def answer_at_end(connection: socket.socket) -> None:
    """Answers how many bytes came once the client has half-closed."""
    size = 0
    while data := connection.recv(1 << 18):
        size += len(data)
    connection.sendall(b"%d\n" % size)


def exchange(port: int, data: bytes, *, host: str = "127.0.0.1") -> bytes:
    """Sends `data`, half-closes, and reads to the end. A reset is raised, whichever of the two is told of it: the
    kernel tells once."""
    faults: list[OSError] = []

    def send() -> None:
        try:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            faults.append(error)

    with socket.create_connection((host, port), timeout=_SECONDS) as sock:
        sender = threading.Thread(target=send)
        sender.start()
        pieces = []
        try:
            while piece := sock.recv(1 << 18):
                pieces.append(piece)
        finally:
            sender.join(_SECONDS)
    if faults:
        raise ConnectionResetError(str(faults[0]))
    return b"".join(pieces)

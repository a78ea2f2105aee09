"""WebSocket peers of other makers: gorilla (Go), ws (Node) and tungstenite (Rust), each in either role; and our engine
on a socket to talk to them with.

A judge is a program that serves (``serve``: it prints ``{"port": N}`` and ends with its stdin) or connects (``connect
PORT``). Over the connection it echoes each message, and obeys text messages that begin with ``!``:

- ``!ping TEXT``: sends a ping, and when its pong comes the text ``pong TEXT``;
- ``!fragments LENGTH SIZE``: sends a binary message, byte i of which is i modulo 251, in fragments (of SIZE where its
  library lets it choose);
- ``!close CODE REASON``: starts the closing handshake;
- ``!raw HEX``: writes these bytes into the connection, whatever they are.

When the connection is over it prints ``{"code": N, "reason": TEXT, "error": TEXT}``: the Close frame that it was sent
(code null without one), and what its library had to say.
"""

from __future__ import annotations

import fcntl
import functools
import json
import os
import select
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import h11
import pytest

from spdyproto.http import UpgradeAccepted
from spdyproto.limits import MIB, Limits
from spdyproto.types import Role
from spdyproto.websocket.connection import WebSocketConnection
from spdyproto.websocket.constants import Opcode
from spdyproto.websocket.events import CloseReceived, ConnectionTerminated, Event, MessageChunk, PongReceived
from spdyproto.websocket.handshake import ClientHandshake, negotiate_websocket
from support.gopeers import SOURCES, PeerMissing, build

__all__ = ["JUDGES", "PROTOCOL", "Link", "judge_command", "linked"]

PROTOCOL: Final = "v4.channel.k8s.io"
JUDGES: Final = ("gorilla", "ws", "tungstenite")
_BUILD_SECONDS = 900
_SECONDS = 50
_INTEROP = SOURCES.parent


def judge_command(name: str) -> list[str]:
    """How to start a judge; built on the first call. A missing one skips the test, or fails it where peers are
    required."""
    found = _find(name)
    if isinstance(found, list):
        return found
    if os.environ.get("KUBEWIRE_REQUIRE_PEERS", "") not in ("", "0"):
        pytest.fail(f"KUBEWIRE_REQUIRE_PEERS is set, but there is no {name}: {found}", pytrace=False)
    pytest.skip(f"no {name}: {found}")


@functools.cache
def _find(name: str) -> list[str] | str:
    try:
        return {"gorilla": _gorilla, "ws": _node, "tungstenite": _rust}[name]()
    except PeerMissing as missing:
        return str(missing)


def _gorilla() -> list[str]:
    return [str(build() / "kwws")]


def _node() -> list[str]:
    folder = _INTEROP / "node"
    node, npm = _tool("node", "Node.js 20 or newer"), _tool("npm", "npm")
    with _alone(folder):
        done = folder / "node_modules" / ".package-lock.json"
        if not done.exists() or done.stat().st_mtime < (folder / "package-lock.json").stat().st_mtime:
            _build([npm, "ci", "--no-audit", "--no-fund"], folder, "the packages of the JavaScript peers")
            done.touch()
    return [node, str(folder / "wsjudge.js")]


def _rust() -> list[str]:
    folder = _INTEROP / "rust"
    cargo = _tool("cargo", "Rust 1.80 or newer")
    with _alone(folder):
        _build([cargo, "build", "--locked", "--quiet"], folder, "the Rust peers")
    return [str(folder / "target" / "debug" / "wsjudge")]


def _tool(name: str, what: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise PeerMissing(f"no `{name}` on PATH; install {what}")
    return found


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One build at a time, of all workers and runs. The lock lies in an ignored folder of the Go peers."""
    locks = SOURCES / "bin"
    locks.mkdir(exist_ok=True)
    with (locks / f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(command: list[str], folder: Path, what: str) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_BUILD_SECONDS
        )
    except subprocess.TimeoutExpired as expired:
        raise PeerMissing(f"{what} took more than {_BUILD_SECONDS} s to build") from expired
    if done.returncode != 0:
        raise PeerMissing(f"{what} cannot be built: {done.stderr.strip()}")


# -- our end ---------------------------------------------------------------------------------------------------------


@dataclass
class Link:
    """Our engine, in either role, on a connection to a judge; and what the judge says of it."""

    sock: socket.socket
    engine: WebSocketConnection
    report: Callable[[], dict[str, Any]]

    def __post_init__(self) -> None:
        self.pongs: list[PongReceived] = []
        self.close: CloseReceived | None = None
        self.over: ConnectionTerminated | None = None
        self.frames = 0
        """Data frames received so far."""
        self._parts: list[bytes] = []
        self._messages: list[tuple[int, bytes]] = []
        self.engine.start(time.monotonic())

    def send(self, data: bytes | str) -> None:
        """A message; reading goes on meanwhile."""
        payload = data if isinstance(data, bytes) else data.encode()
        self.engine.send_message(b"", payload, opcode=Opcode.BINARY if isinstance(data, bytes) else Opcode.TEXT)
        self._pump(lambda: not self._unsent)

    def message(self) -> tuple[int, bytes]:
        """Opcode and payload of the next message."""
        self._pump(lambda: bool(self._messages) or self.over is not None)
        assert self._messages, f"the connection is over: {self.over}, {self.close}"
        return self._messages.pop(0)

    def pong(self) -> PongReceived:
        """The next pong."""
        self._pump(lambda: bool(self.pongs))
        return self.pongs.pop(0)

    def finish(self) -> ConnectionTerminated:
        """How the connection ended for us, once it has. The socket is closed then."""
        self._pump(lambda: self.over is not None)
        self._pump(lambda: not self._unsent)
        self.sock.shutdown(socket.SHUT_WR)
        # What the other end has still to say must be read, or the kernel's reset could overtake our last bytes.
        self.sock.settimeout(_SECONDS)
        try:
            while self.sock.recv(65536):
                pass
        except ConnectionError:
            pass  # it closed with our bytes unread
        self.sock.close()
        assert self.over is not None
        return self.over

    _unsent: bytes = b""

    def _pump(self, done: Callable[[], bool]) -> None:
        """Sends and receives until `done`."""
        ends = time.monotonic() + _SECONDS
        self.sock.setblocking(False)
        while True:
            self._unsent += b"".join(self.engine.data_to_send())
            if done():
                return
            left = ends - time.monotonic()
            assert left > 0, "the judge says nothing"
            readable, writable, _ = select.select([self.sock], [self.sock] if self._unsent else [], [], left)
            if writable:
                try:
                    self._unsent = self._unsent[self.sock.send(self._unsent) :]
                except ConnectionError:
                    self._unsent = b""
            if readable:
                try:
                    data = self.sock.recv(65536)
                except ConnectionError:
                    data = b""
                now = time.monotonic()
                events = self.engine.receive_data(data, now) if data else self.engine.receive_eof(now)
                for event in events:
                    self._hear(event)

    def _hear(self, event: Event) -> None:
        if isinstance(event, MessageChunk):
            self.frames += event.frame_start
            self._parts.append(bytes(event.data))
            if event.last:
                self._messages.append((event.opcode, b"".join(self._parts)))
                self._parts = []
        elif isinstance(event, PongReceived):
            self.pongs.append(event)
        elif isinstance(event, CloseReceived):
            self.close = event
        elif isinstance(event, ConnectionTerminated):
            self.over = event


@contextmanager
def linked(name: str, role: Role, limits: Limits | None = None) -> Iterator[Link]:
    """Our engine in `role`, connected to that judge in the other one."""
    command = judge_command(name)
    engine = WebSocketConnection(role, limits=limits or Limits(queued_bytes=64 * MIB))
    connect = contextmanager(_as_client if role is Role.CLIENT else _as_server)
    with connect(command) as (sock, stdout), sock:
        yield Link(sock, engine, lambda: json.loads(_line(stdout)))


def _as_client(command: list[str]) -> Iterator[tuple[socket.socket, IO[bytes]]]:
    with _running([*command, "serve"]) as stdout:
        sock = socket.create_connection(("127.0.0.1", json.loads(_line(stdout))["port"]), timeout=_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        handshake = ClientHandshake("127.0.0.1", "/", protocols=[PROTOCOL])
        sock.sendall(handshake.data_to_send())
        outcome = None
        while outcome is None:
            outcome = handshake.receive_data(sock.recv(65536))
        assert isinstance(outcome, UpgradeAccepted), outcome
        assert (outcome.protocol, outcome.surplus) == (PROTOCOL, b"")
        yield sock, stdout


def _as_server(command: list[str]) -> Iterator[tuple[socket.socket, IO[bytes]]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(_SECONDS)
        with _running([*command, "connect", str(listener.getsockname()[1])]) as stdout:
            sock, _ = listener.accept()
            sock.settimeout(_SECONDS)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            head = h11.Connection(h11.SERVER)
            while not isinstance(request := head.next_event(), h11.Request):
                head.receive_data(sock.recv(65536))
            answer = negotiate_websocket(request.headers, [PROTOCOL])
            assert (answer.status, answer.protocol) == (101, PROTOCOL)
            sock.sendall(answer.to_bytes())
            yield sock, stdout


@contextmanager
def _running(command: list[str]) -> Iterator[IO[bytes]]:
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout
        finally:
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _line(stdout: IO[bytes]) -> bytes:
    readable, _, _ = select.select([stdout], [], [], _SECONDS)
    assert readable, "the judge says nothing"
    return stdout.readline()


if __name__ == "__main__":  # ahead of the tests, which have a time limit each
    for _name in JUDGES:
        _found = _find(_name)
        if isinstance(_found, str):
            print(f"no {_name}: {_found}")

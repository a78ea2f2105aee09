"""A server on loopback that does what a test's script says, frame by frame, with the raw peer of `support.wire`.

::

    def script(peer: Peer) -> None:
        peer.open_streams()
        peer.send(data(peer.stdout, b"hello"), data(peer.error, SUCCESS), goaway())

    with ScriptedServer(script) as server: ...     # server.url is a streaming URL
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from types import TracebackType

from support.wire import Frame, RawPeer

__all__ = ["SUCCESS", "Peer", "Script", "ScriptedServer", "exit_status"]

SUCCESS = b'{"metadata":{},"status":"Success"}'
PATIENCE = 10.0  # seconds for anything that a script waits for: a bound, never a pause


def exit_status(code: int) -> bytes:
    """The status of a command that ended with ``code``."""
    return (
        b'{"metadata":{},"status":"Failure","message":"exit","reason":"NonZeroExitCode",'
        b'"details":{"causes":[{"reason":"ExitCode","message":"%d"}]}}' % code
    )


class Peer:
    """One accepted connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.wire = RawPeer()
        self.streams: dict[str, int] = {}
        self._frames: list[Frame] = []

    def __getattr__(self, name: str) -> int:
        """``peer.stdout`` is the id of that stream."""
        try:
            return self.streams[name]
        except KeyError:
            raise AttributeError(name) from None

    def read_head(self) -> bytes:
        """The request's head; nothing may follow it."""
        head = b""
        while b"\r\n\r\n" not in head:
            piece = self.sock.recv(65536)
            assert piece, f"the client left after {head!r}"
            head += piece
        assert head.endswith(b"\r\n\r\n"), "the client sent early bytes"
        return head

    def switch(self, protocol: str = "v4.channel.k8s.io", surplus: bytes = b"") -> None:
        """The 101, with the first bytes of SPDY in the same segment if there are any."""
        self.sock.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
            b"X-Stream-Protocol-Version: %s\r\n\r\n%s" % (protocol.encode(), surplus)
        )

    def open_streams(self, count: int, protocol: str = "v4.channel.k8s.io") -> None:
        """Upgrade, wait for this many streams, and reply to each."""
        self.read_head()
        self.switch(protocol)
        self.read_streams(count)
        self.send(*(self.wire.syn_reply(number) for number in self.streams.values()))

    def read_streams(self, count: int) -> None:
        """Wait for this many SYN_STREAMs."""
        while len(self.streams) < count:
            assert self.next_frame() is not None, "the client left before it had opened its streams"

    def send(self, *frames: bytes) -> None:
        self.sock.sendall(b"".join(frames))

    def next_frame(self) -> Frame | None:
        """The next frame of the client; None when it has left."""
        while not self._frames:
            try:
                piece = self.sock.recv(65536)
            except ConnectionError:
                return None
            if not piece:
                return None
            self._frames = self.wire.read(piece)
        frame = self._frames.pop(0)
        if frame[0] == "SYN_STREAM":
            self.streams[dict(frame[3])["streamtype"]] = frame[1]
        return frame

    def read_until(self, wanted: Callable[[Frame], bool]) -> Frame:
        """Pass over frames until one is wanted."""
        while True:
            frame = self.next_frame()
            assert frame is not None, "the client left before the frame that was waited for"
            if wanted(frame):
                return frame

    def read_to_the_end(self) -> list[Frame]:
        """All frames until the client leaves."""
        frames = []
        while (frame := self.next_frame()) is not None:
            frames.append(frame)
        return frames


Script = Callable[[Peer], None]


class ScriptedServer:
    """Runs one script for each connection, in order, in a thread of its own. What a script asserts fails the test."""

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None) -> None:
        self._scripts = scripts
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.fault: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name="scripted-server", daemon=True)

    @property
    def address(self) -> str:
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.address}/exec/T0ken"

    def _serve(self) -> None:
        self._listener.settimeout(PATIENCE)
        try:
            for script in self._scripts:
                sock, _ = self._listener.accept()
                with sock:
                    sock.settimeout(PATIENCE)
                    self._run(script, sock)
        except BaseException as error:
            self.fault = error

    def _run(self, script: Script, sock: socket.socket) -> None:
        if self._tls is None:
            script(Peer(sock))
            return
        try:
            wrapped = self._tls.wrap_socket(sock, server_side=True)
        except (ssl.SSLError, ConnectionError):
            return  # the client does not want this server: that is what the test is about
        with wrapped, contextlib.suppress(ssl.SSLError):
            script(Peer(wrapped))

    def __enter__(self) -> ScriptedServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self._listener.close()
        self._thread.join(PATIENCE)
        self._listener.close()
        if kind is None:
            assert not self._thread.is_alive(), "the script has not ended"
            if self.fault is not None:
                raise self.fault

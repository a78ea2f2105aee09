"""The client's end of a WebSocket to a server under test, one frame at a time: for what no well-behaved client does."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from types import TracebackType

from support.rawclient import ACCEPT, HttpClient, websocket_headers
from support.wsframes import BINARY, CLOSE, KEY, frame


class RawWebSocket:
    """Handshakes, then sends and reads frames by hand."""

    def __init__(self, sock: ssl.SSLSocket, target: str, protocols: Sequence[str] = ("v4.channel.k8s.io",)) -> None:
        answer = HttpClient(sock).request("GET", target, websocket_headers(protocols))
        assert answer.status == 101, answer
        assert answer.values("Sec-WebSocket-Accept") == [ACCEPT]
        self.sock = sock
        self._buffer = bytearray(answer.surplus)

    def __enter__(self) -> RawWebSocket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sock.close()

    def send(self, payload: bytes, opcode: int = BINARY, *, fin: bool = True, key: bytes | None = KEY) -> None:
        self.sock.sendall(frame(opcode, payload, fin=fin, key=key))

    def _more(self, size: int) -> bool:
        while len(self._buffer) < size:
            data = self.sock.recv(65536)
            if not data:
                return False
            self._buffer += data
        return True

    def read(self) -> tuple[int, bytes] | None:
        """Opcode and payload of the next frame, None at the end of the connection."""
        if not self._more(2):
            assert not self._buffer, "the connection ends within a frame"
            return None
        first, length = self._buffer[:2]
        assert first & 0xF0 == 0x80, "a final frame without reserved bits"
        assert length < 128, "a server never masks"
        start = 2
        if length > 125:
            start += 2 if length == 126 else 8
            assert self._more(start)
            length = int.from_bytes(self._buffer[2:start], "big")
        assert self._more(start + length), "the connection ends within a frame"
        payload = bytes(self._buffer[start : start + length])
        del self._buffer[: start + length]
        return first & 15, payload

    def read_all(self) -> list[tuple[int, bytes]]:
        """Every frame up to the end of the connection."""
        return list(iter(self.read, None))

    def close(self, code: int = 1000) -> None:
        self.send(code.to_bytes(2, "big"), CLOSE)


NORMAL_CLOSE = (CLOSE, b"\x03\xe8")

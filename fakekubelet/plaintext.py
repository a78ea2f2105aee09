"""A connection without TLS, in the shape of one with: the read-only and the healthz port are such."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from spdyproto.types import Buffer


class PlainPipe:
    """A ``connection.Pipe`` that changes nothing."""

    closed_by_peer = False
    alpn: str | None = None

    def __init__(self) -> None:
        self._queue: list[bytes] = []
        self._first = b""

    def do_handshake(self, ciphertext: Buffer = b"") -> bool:
        """There is none, but the first bytes come this way."""
        self._first += bytes(ciphertext)
        return True

    def receive(self, ciphertext: Buffer, plain: memoryview) -> Iterator[memoryview]:
        """What came, as it came."""
        first, self._first = self._first, b""
        if first:
            yield memoryview(first)
        if len(ciphertext):
            yield memoryview(ciphertext)

    def receive_eof(self) -> bool:
        """An end is as clean as any other."""
        return True

    def send(self, segments: Iterable[Buffer]) -> None:
        """Queue bytes."""
        self._queue += map(bytes, segments)

    def take(self) -> bytes:
        """All that is queued."""
        taken, self._queue = b"".join(self._queue), []
        return taken

    def take_segments(self) -> list[bytes]:
        """As ``Pipe.take_segments``."""
        return [self.take()]

    def close_notify(self) -> None:
        """There is nobody to tell."""

    @property
    def pending(self) -> int:
        """Bytes that wait for ``take``."""
        return sum(map(len, self._queue))

    @property
    def peer_chain_der(self) -> list[bytes]:
        """Nobody shows a certificate."""
        return []

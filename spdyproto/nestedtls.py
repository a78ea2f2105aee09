"""TLS inside TLS: a connection to a server through a proxy that is itself spoken to over TLS.

The outer pipe belongs to the proxy and carries, as its plaintext, the ciphertext of the inner one. To its owner the
pair looks like one ``TLSPipe``: what comes from the network goes through both, and so does what goes there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from spdyproto.tls import TLSPipe
from spdyproto.types import Buffer

__all__ = ["NestedTLSPipe"]

_ROOM: Final = 64 * 1024
"""Inner ciphertext that is taken out of the outer connection at once: four records."""


class NestedTLSPipe(TLSPipe):
    """The inner of two TLS connections, with the outer one, whose handshake is complete, folded in.

    Made as any pipe is (``NestedTLSPipe.client(context, name)``) and then given its ``outer``. The end of the data is
    the inner connection's: a proxy that ends its own has truncated it.
    """

    __slots__ = ("_outer", "_room")

    def within(self, outer: TLSPipe) -> NestedTLSPipe:
        """Put this connection into ``outer``. Call it once, before anything else; answers itself."""
        self._outer = outer
        self._room = memoryview(bytearray(_ROOM))
        return self

    def do_handshake(self, ciphertext: Buffer = b"") -> bool:
        """As ``TLSPipe.do_handshake``; a fault of the outer connection is raised, too."""
        inner = b"".join([bytes(view) for view in self._outer.receive(ciphertext, self._room)])
        try:
            return super().do_handshake(inner)
        finally:
            self._hand_over()

    def receive(self, ciphertext: Buffer, plain: memoryview) -> Iterator[memoryview]:
        """As ``TLSPipe.receive``."""
        first = super().receive(b"", plain)  # what the handshake brought along; and the checks, now
        return self._receive_through(first, ciphertext, plain)

    def _receive_through(
        self, first: Iterator[memoryview], ciphertext: Buffer, plain: memoryview
    ) -> Iterator[memoryview]:
        try:
            yield from first
            for inner in self._outer.receive(ciphertext, self._room):
                yield from super().receive(inner, plain)
        finally:
            self._hand_over()

    def receive_eof(self) -> bool:
        """As ``TLSPipe.receive_eof``: whether the inner connection had ended in good order."""
        self._outer.receive_eof()
        return super().receive_eof()

    def send(self, segments: Iterable[Buffer]) -> None:
        """As ``TLSPipe.send``."""
        super().send(segments)
        self._hand_over()

    def close_notify(self) -> None:
        """Tell both peers, the server first, that our data ends."""
        super().close_notify()
        self._hand_over()
        self._outer.close_notify()

    def take(self, limit: int | None = None) -> bytes:
        """As ``TLSPipe.take``, of what the network is to carry."""
        return self._outer.take(limit)

    def take_segments(self) -> list[bytes]:
        """As ``TLSPipe.take_segments``, of what the network is to carry."""
        return self._outer.take_segments()

    @property
    def pending(self) -> int:
        """As ``TLSPipe.pending``, of what the network is to carry."""
        return self._outer.pending

    def _hand_over(self) -> None:
        """The inner ciphertext becomes plaintext of the outer connection."""
        made: Any = super().take_segments()
        if made and not self._outer._over:
            self._outer.send(made)

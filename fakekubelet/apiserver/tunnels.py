"""SPDY of port-forward inside a client's WebSocket, plain SPDY to the kubelet: Go's ``TunnelingHandler``.

The binary messages of the WebSocket are one stream of bytes, and that stream is what the kubelet's connection carries:
SPDY itself is not looked at here. Unlike the translator, the kubelet is asked first, and what it refuses is an HTTP
status for the client, which may fall back.

Source: ``k8s.io/apiserver: pkg/util/proxy/streamtunnel.go``.
"""

from __future__ import annotations

from typing import Final

from fakekubelet.apiserver.backend import Link
from fakekubelet.upgrades import Carrier, SessionHost
from spdyproto.http import decode_headers, header_values
from spdyproto.types import Buffer, HeaderList, Role
from spdyproto.websocket.connection import WebSocketConnection
from spdyproto.websocket.constants import CloseCode, Opcode
from spdyproto.websocket.events import CloseReceived, ConnectionTerminated, MessageChunk

PREFIX: Final = "SPDY/3.1+"
SUFFIX: Final = ".k8s.io"


def tunnelled(headers: list[tuple[bytes, bytes]]) -> list[str] | None:
    """What a WebSocket request wants to tunnel, the protocols without their prefix; None if it wants no tunnel."""
    lines: HeaderList = decode_headers(headers)
    offered = [part.strip() for value in header_values(lines, "sec-websocket-protocol") for part in value.split(",")]
    prefixed = [each.removeprefix(PREFIX) for each in offered if each.startswith(PREFIX)]
    return [each for each in prefixed if each.endswith(SUFFIX)] if prefixed else None


class Tunnel:
    """A ``Session`` of the client's connection and the ``Receiver`` of the kubelet's; its own engine, which is empty
    but for answers to pings."""

    def __init__(self, carrier: Carrier, host: SessionHost, link: Link) -> None:
        self._carrier = carrier
        self._host = host
        self._link = link
        self._socket = WebSocketConnection(Role.SERVER, limits=host.limits)
        self._over = False
        self.starved = False
        """The client takes no more for now, and the kubelet is not read."""

    @property
    def engine(self) -> WebSocketConnection:
        """The WebSocket."""
        return self._socket

    # -- from the client ---------------------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """As ``Session.start``."""
        self._socket.start(now)
        self._link.attach(self)

    def receive(self, plain: Buffer, now: float) -> bool:
        """As ``Session.receive``."""
        for event in self._socket.receive_data(plain, now):
            if isinstance(event, MessageChunk):
                if event.opcode != Opcode.BINARY:
                    self._end(CloseCode.UNSUPPORTED_DATA)
                elif event.data and not self._over:
                    self._link.send((event.data,))
            elif isinstance(event, CloseReceived | ConnectionTerminated):
                self._end(CloseCode.NORMAL)
        if self._link.full and not self._over:
            self._carrier.pause_reading()
        return True

    def receive_eof(self, now: float, *, clean: bool) -> None:
        """As ``Session.receive_eof``."""
        self._finish()

    def handle_timeout(self, now: float) -> None:
        """As ``Session.handle_timeout``; there is none, SPDY inside has its own."""

    def wrote(self) -> bool:
        """As ``Session.wrote``."""
        return True

    def hang_up(self) -> None:
        """As ``Session.hang_up``."""
        self._end(CloseCode.NORMAL)

    def room(self) -> None:
        """As ``Session.room``."""
        self.starved = False
        self._link.resume_reading()

    async def close(self) -> None:
        """As ``Session.close``."""
        self._link.abort()

    # -- from the kubelet --------------------------------------------------------------------------------------------

    def backend_data(self, plain: memoryview) -> None:
        """As ``Receiver.backend_data``."""
        if not self._socket.closing:
            self._socket.send_message(b"", plain)
            self._carrier.transmit(self._socket.data_to_send())

    def backend_batch(self) -> None:
        """As ``Receiver.backend_batch``."""
        if self._carrier.full:
            self.starved = True
            self._link.pause_reading()

    def backend_room(self) -> None:
        """As ``Receiver.backend_room``."""
        self._carrier.resume_reading()

    def backend_ended(self, *, clean: bool) -> None:
        """As ``Receiver.backend_ended``."""
        self._end(CloseCode.NORMAL)

    # -- the end -----------------------------------------------------------------------------------------------------

    def _end(self, code: CloseCode) -> None:
        if not self._over:
            self._finish()
            if not self._socket.closing:
                self._socket.close(code)
            self._carrier.end(lost=False)

    def _finish(self) -> None:
        if not self._over:
            self._over = True
            self._link.close()
            self._host.session_over(self)

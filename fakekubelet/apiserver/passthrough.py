"""Bytes from one connection to the other: what Go's ``UpgradeAwareHandler`` does once both sides have switched.

Nothing is parsed. A batch that one TLS connection decrypted is encrypted for the other in the same call, out of the
buffer that all connections share, so that a byte is copied by the two ciphers and by the kernel alone.

Back-pressure: a side that takes no more stops the reading of the other, so at most one batch (256 KiB) and the
transport's own buffer wait in each direction.

The end: as soon as either direction ends, both connections do (there is no half-close through a proxy). What was read
before is delivered; what was still under way in the other direction is lost, as it is in Go.
"""

from __future__ import annotations

from fakekubelet.apiserver.backend import Link
from fakekubelet.upgrades import Carrier, SessionHost
from spdyproto.types import Buffer


class PassThrough:
    """A ``Session`` of the client's connection and the ``Receiver`` of the kubelet's. It is its own engine, and an
    empty one: output leaves by ``Carrier.transmit``."""

    pending_bytes = 0

    def __init__(self, carrier: Carrier, host: SessionHost, link: Link) -> None:
        self._carrier = carrier
        self._host = host
        self._link = link
        self._over = False
        self._early = True
        self.starved = False
        """The client takes no more for now, and the kubelet is not read."""

    @property
    def engine(self) -> PassThrough:
        """This."""
        return self

    def data_to_send(self) -> list[Buffer]:
        """Nothing."""
        return []

    def next_deadline(self) -> None:
        """None: bytes have no deadlines."""

    # -- from the client ---------------------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """As ``Session.start``."""
        self._link.attach(self)
        # What the client sent before it had the 101 is lost here: Go's proxy drops the reader that holds it.
        self._host.loop.call_soon(self._listen)

    def _listen(self) -> None:
        self._early = False

    def receive(self, plain: Buffer, now: float) -> bool:
        """As ``Session.receive``."""
        if not self._early:
            self._link.send((plain,))
            if self._link.full:
                self._carrier.pause_reading()
        return True

    def receive_eof(self, now: float, *, clean: bool) -> None:
        """As ``Session.receive_eof``."""
        self._finish()

    def handle_timeout(self, now: float) -> None:
        """As ``Session.handle_timeout``; never due."""

    def wrote(self) -> bool:
        """As ``Session.wrote``."""
        return True

    def hang_up(self) -> None:
        """As ``Session.hang_up``."""
        self._finish()
        self._carrier.end(lost=True)

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
        self._carrier.transmit((plain,))

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
        if not self._over:
            self._finish()
            self._carrier.end(lost=False)

    def _finish(self) -> None:
        if not self._over:
            self._over = True
            self._link.close()
            self._host.session_over(self)

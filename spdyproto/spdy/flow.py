"""Flow control as a policy: none, as Kubernetes' peers have it, or the windows of SPDY/3.1 as written.

spdystream neither sends WINDOW_UPDATE nor honours it (``moby/spdystream: connection.go``): an end that waits for credit
hangs, and one that enforces windows resets a healthy peer. ``Unmetered`` is therefore the default. ``Windowed`` is
draft 3.1 section 2.6.8: a window for each stream and one for the session (stream id 0), 64 KiB each unless changed, the
former by SETTINGS, the latter only by WINDOW_UPDATE.
"""

# ruff: noqa: D102  # the methods are documented once, on FlowPolicy

from __future__ import annotations

from typing import Protocol

from spdyproto.errors import FlowControlError
from spdyproto.spdy.constants import DEFAULT_WINDOW, MAX_WINDOW


class FlowPolicy(Protocol):
    """Integers only: the connection asks, and sends what the answers say. One object serves one connection."""

    metered: bool

    def greeting(self) -> tuple[int | None, int]:
        """(INITIAL_WINDOW_SIZE to announce or None, session window to add) at the start of the connection."""

    def open(self, stream_id: int) -> None:
        """A stream begins: its windows are full."""

    def close(self, stream_id: int) -> None:
        """A stream is over."""

    def sendable(self, stream_id: int) -> int:
        """How many bytes may be sent on the stream now."""

    def sent(self, stream_id: int, size: int) -> None:
        """Charges outgoing bytes, which ``sendable`` allowed."""

    def receivable(self, stream_id: int) -> int:
        """How many bytes the peer may send on the stream now."""

    def received(self, stream_id: int, size: int) -> None:
        """Charges incoming bytes. Raises ``FlowControlError`` (with the stream id, or None for the session)."""

    def acknowledge(self, stream_id: int, size: int) -> list[tuple[int, int]]:
        """The application took ``size`` bytes: the (stream id, delta) updates now due."""

    def credit(self, stream_id: int, delta: int) -> None:
        """The peer's WINDOW_UPDATE. Raises ``FlowControlError`` when the window would pass 2^31 - 1."""

    def initial_window(self, size: int) -> None:
        """The peer's SETTINGS_INITIAL_WINDOW_SIZE; moves the windows of open streams too. Raises as ``credit``."""


class Unmetered:
    """No windows: the transport's own back-pressure is all there is, and it holds all streams at once."""

    metered = False

    def greeting(self) -> tuple[int | None, int]:
        return None, 0

    def open(self, stream_id: int) -> None:
        pass

    def close(self, stream_id: int) -> None:
        pass

    def sendable(self, stream_id: int) -> int:
        return MAX_WINDOW

    def sent(self, stream_id: int, size: int) -> None:
        pass

    def receivable(self, stream_id: int) -> int:
        return MAX_WINDOW

    def received(self, stream_id: int, size: int) -> None:
        pass

    def acknowledge(self, stream_id: int, size: int) -> list[tuple[int, int]]:
        return []

    def credit(self, stream_id: int, delta: int) -> None:
        pass

    def initial_window(self, size: int) -> None:
        pass


class Windowed:
    """SPDY/3.1's windows. An update is sent when half a window was taken, so that updates stay rare and the sender
    busy."""

    metered = True

    def __init__(self, *, stream_window: int = DEFAULT_WINDOW, session_window: int = DEFAULT_WINDOW) -> None:
        if not DEFAULT_WINDOW <= session_window <= MAX_WINDOW or not 0 < stream_window <= MAX_WINDOW:
            raise ValueError("windows are at most 2^31 - 1 bytes, the session's at least 64 KiB")
        self._stream_window = stream_window
        self._session_window = session_window
        self._peer_initial = DEFAULT_WINDOW
        self._send: dict[int, int] = {}
        self._send_session = DEFAULT_WINDOW
        self._receive: dict[int, int] = {}
        self._taken: dict[int, int] = {}
        self._receive_session = session_window
        self._taken_session = 0

    def greeting(self) -> tuple[int | None, int]:
        announced = self._stream_window if self._stream_window != DEFAULT_WINDOW else None
        return announced, self._session_window - DEFAULT_WINDOW

    def open(self, stream_id: int) -> None:
        self._send[stream_id] = self._peer_initial
        self._receive[stream_id] = self._stream_window
        self._taken[stream_id] = 0

    def close(self, stream_id: int) -> None:
        self._send.pop(stream_id, None)
        self._receive.pop(stream_id, None)
        self._taken.pop(stream_id, None)

    def sendable(self, stream_id: int) -> int:
        return max(0, min(self._send.get(stream_id, 0), self._send_session))

    def sent(self, stream_id: int, size: int) -> None:
        self._send[stream_id] -= size
        self._send_session -= size

    def receivable(self, stream_id: int) -> int:
        return max(0, min(self._receive.get(stream_id, 0), self._receive_session))

    def received(self, stream_id: int, size: int) -> None:
        self._receive_session -= size
        if self._receive_session < 0:
            raise FlowControlError(f"more data than the session window of {self._session_window} bytes allows")
        if stream_id in self._receive:
            self._receive[stream_id] -= size
            if self._receive[stream_id] < 0:
                window = self._stream_window
                raise FlowControlError(
                    f"more data than the window of stream {stream_id}, {window} bytes, allows", stream_id=stream_id
                )

    def acknowledge(self, stream_id: int, size: int) -> list[tuple[int, int]]:
        updates = []
        if stream_id in self._taken:
            self._taken[stream_id] += size
            delta = self._taken[stream_id]
            if delta * 2 >= self._stream_window:
                self._taken[stream_id] = 0
                self._receive[stream_id] += delta
                updates.append((stream_id, delta))
        self._taken_session += size
        if self._taken_session * 2 >= self._session_window:
            updates.append((0, self._taken_session))
            self._receive_session += self._taken_session
            self._taken_session = 0
        return updates

    def credit(self, stream_id: int, delta: int) -> None:
        if stream_id == 0:
            self._send_session = _grown(self._send_session, delta, None)
        elif stream_id in self._send:
            self._send[stream_id] = _grown(self._send[stream_id], delta, stream_id)

    def initial_window(self, size: int) -> None:
        if size > MAX_WINDOW:
            raise FlowControlError(f"SETTINGS_INITIAL_WINDOW_SIZE of {size}; at most {MAX_WINDOW} expected")
        change = size - self._peer_initial
        self._peer_initial = size
        for stream_id, window in self._send.items():
            self._send[stream_id] = _grown(window, change, stream_id)


def _grown(window: int, delta: int, stream_id: int | None) -> int:
    if window + delta > MAX_WINDOW:
        where = "the session window" if stream_id is None else f"the window of stream {stream_id}"
        raise FlowControlError(f"WINDOW_UPDATE moves {where} beyond 2^31 - 1", stream_id=stream_id)
    return window + delta

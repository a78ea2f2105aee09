"""The resize stream: JSON objects, one for each change of the terminal's size, back to back.

``{"Width":80,"Height":24}`` and a newline is what Go's encoder writes; its decoder takes any case of the keys, ignores
others, needs no separator, and ends for good at the first object that does not fit 16 bits
(``cri-streaming: pkg/streaming/remotecommand/httpstream.go``, ``handleResizeEvents``).
"""

from __future__ import annotations

import json

from spdyproto.types import Buffer


def encode_resize(width: int, height: int) -> bytes:
    """One event. Raises ``ValueError`` for a size that the server could not decode."""
    if not (0 <= width <= 0xFFFF and 0 <= height <= 0xFFFF):
        raise ValueError(f"terminal size {width} x {height}; 0 to 65535 expected for each")
    return b'{"Width":%d,"Height":%d}\n' % (width, height)


class ResizeDecoder:
    """Feeds on pieces of the stream, gives (width, height). After an error it gives nothing more, as the real one."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._text = ""
        self.dead = False

    def feed(self, data: Buffer) -> list[tuple[int, int]]:
        """The sizes completed by ``data``, in order."""
        sizes: list[tuple[int, int]] = []
        if self.dead:
            return sizes
        self._text += bytes(data).decode("latin-1")
        decoder = json.JSONDecoder()
        while text := self._text.lstrip(" \t\r\n"):
            try:
                value, end = decoder.raw_decode(text)
            except (ValueError, RecursionError):
                # An object that has not ended yet ends in "}"; whatever cannot become one is an error at once.
                self.dead = not text.startswith("{") or "}" in text or len(text) > self._limit
                break
            size = _size(value)
            if size is None:
                self.dead = True
                break
            sizes.append(size)
            text = text[end:]
            self._text = text
        self._text = "" if self.dead else self._text.lstrip(" \t\r\n")
        return sizes


def _size(value: object) -> tuple[int, int] | None:
    if not isinstance(value, dict):
        return None
    found = {"width": 0, "height": 0}
    for key, number in value.items():
        name = key.lower()
        if name in found:
            if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= 0xFFFF:
                return None
            found[name] = number
    return found["width"], found["height"]

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
    """Feeds on pieces of the stream, gives (width, height). After an error it gives nothing more, as the real one.

    A state machine finds the end of each object, so that every byte is looked at once however the pieces are cut.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._object = ""
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self.dead = False

    def feed(self, data: Buffer) -> list[tuple[int, int]]:
        """The sizes completed by ``data``, in order."""
        sizes: list[tuple[int, int]] = []
        text = bytes(data).decode("latin-1")
        start = 0
        for position, char in enumerate(text):
            if self.dead:
                return sizes
            if self._depth == 0:
                start = position
                self._depth = int(char == "{")
                self.dead = char not in "{ \t\r\n"
            elif self._object_ends(char):
                size = self._decode(self._object + text[start : position + 1])
                self._object = ""
                start = position + 1
                if size is None:
                    self.dead = True
                else:
                    sizes.append(size)
        if self._depth:
            self._object += text[start:]
            if len(self._object) > self._limit:
                self._object = ""
                self.dead = True
        return sizes

    def _object_ends(self, char: str) -> bool:
        """Whether this character, within an object, ends it."""
        if self._escaped:
            self._escaped = False
        elif char == '"':
            self._in_string = not self._in_string
        elif self._in_string:
            self._escaped = char == "\\"
        elif char in "{}":
            self._depth += 1 if char == "{" else -1
        return self._depth == 0

    def _decode(self, text: str) -> tuple[int, int] | None:
        if len(text) > self._limit:
            return None
        try:
            return _size(json.loads(text))
        except (ValueError, RecursionError):
            return None


def _size(value: dict[str, object]) -> tuple[int, int] | None:
    found = {"width": 0, "height": 0}
    for key, number in value.items():
        name = key.lower()
        if name in found and number is not None:  # Go leaves a field alone for null
            if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= 0xFFFF:
                return None
            found[name] = number
    return found["width"], found["height"]

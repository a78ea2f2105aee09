"""Keys that leave a session: ``ctrl-p,ctrl-q`` and their like, found in what is typed."""

from __future__ import annotations

import re


def parse_keys(text: str) -> bytes:
    """The bytes that ``KEY[,KEY...]`` stands for; a KEY is one character, or ``ctrl-`` and the character that Ctrl goes
    with.

    Raises ValueError for anything else.
    """
    keys = bytearray()
    for name in text.split(","):
        if re.fullmatch(r"ctrl-[a-z@\[\\\]^_]", name):
            keys.append(ord(name[5].upper()) & 0x1F)
        elif len(name) == 1 and " " <= name <= "~":
            keys.append(ord(name))
        else:
            raise ValueError(f"{name!r} is no key: expected a character or ctrl-LETTER, e.g. ctrl-p,ctrl-q")
    return bytes(keys)


class KeyWatch:
    """Lets through what is typed, and notices the keys.

    What may be their beginning is held back until the next key tells, as docker does it.
    """

    def __init__(self, keys: bytes) -> None:
        if not keys:
            raise ValueError("give at least one key")
        self._keys = keys
        self._held = 0  # how many of the keys were typed, and are held back
        self.seen = False
        """True once all of the keys were typed; what follows them in the same call is dropped."""

    def feed(self, typed: bytes) -> bytes:
        """What is to be passed on. The keys themselves are not."""
        passed = bytearray()
        for byte in typed:
            if self.seen:
                break
            while self._held and byte != self._keys[self._held]:
                passed += self._fall_back()
            if byte == self._keys[self._held]:
                self._held += 1
                self.seen = self._held == len(self._keys)
            else:
                passed.append(byte)
        return bytes(passed)

    def _fall_back(self) -> bytes:
        """The next key is another one: hold back only what may still be a beginning, and answer the rest."""
        held = self._keys[: self._held]
        length = next(size for size in range(self._held - 1, -1, -1) if held.endswith(self._keys[:size]))
        passed, self._held = held[: self._held - length], length
        return passed

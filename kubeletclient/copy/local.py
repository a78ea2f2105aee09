"""The local side of a copy into a container: what is sent, and where it is read from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from kubeletclient.copy.common import MIB, Run
from kubeletclient.copy.directories import Root, local_failure
from kubeletclient.copy.entries import Entry, Received
from kubeletclient.copy.errors import SourceChanged, SourceMissing
from kubeletclient.copy.scan import LocalFile

__all__ = ["Item", "Source", "absolute", "changed", "check_unchanged", "length", "open_source", "whole"]

LINES: Final = 3 * 87360  # a batch of stdin, in whole groups of base64


@dataclass(slots=True)
class Source:
    """One source of the user's: a directory, the name in it, and the name at the target."""

    root: Root
    top: bytes
    name: bytes


@dataclass(slots=True)
class Item:
    """An entry, where it is read from, and what went out, once it did."""

    entry: Entry
    source: Source
    sent: Received | None = field(default=None)

    @property
    def parts(self) -> tuple[bytes, ...]:
        """Below the source's root."""
        below = self.entry.name[len(self.source.name) :]
        return (self.source.top, *(part for part in below.split(b"/") if part))


def open_source(path: bytes, follow: bool) -> Source:
    """The source that a path of the user's means; a link that they named is followed."""
    absolute = os.path.abspath(path)
    directory, name = os.path.split(absolute)
    try:
        if follow or os.path.islink(absolute):
            real = os.path.realpath(absolute)
            directory, top = os.path.split(real)
        else:
            top = name
        os.stat(os.path.join(directory, top))
        return Source(Root(directory, follow=follow), top or b".", name or b"root")
    except FileNotFoundError:
        raise SourceMissing(f"{os.fsdecode(path)!r} does not exist", hint="check the source's path") from None
    except OSError as error:
        raise local_failure(error, path) from error


def length(item: Item, run: Run) -> int:
    """Bytes of one run."""
    return min(run[1] * MIB, item.entry.size - run[0] * MIB)


def changed(item: Item) -> SourceChanged:
    """The error for a file that somebody writes to."""
    return SourceChanged(f"{os.fsdecode(item.entry.name)!r} changed while it was copied", hint="copy a snapshot of it")


def check_unchanged(item: Item) -> None:
    """Raises SourceChanged for a file that is not as it was listed."""
    root, parts = item.source.root, item.parts
    status = root.stat(parts)
    if status is None or status.st_size != item.entry.size or status.st_mtime_ns != item.entry.mtime:
        raise changed(item)


def absolute(path: bytes) -> bytes:
    """The path from the root, links not resolved."""
    return os.path.abspath(path)


def whole(content: LocalFile, entry: Entry) -> Iterator[memoryview]:
    """All of a file in pieces of one buffer."""
    room = memoryview(bytearray(LINES))
    at = 0
    try:
        while at < entry.size:
            piece = room[: min(len(room), entry.size - at)]
            if content.readinto(at, piece) < len(piece):
                break
            at += len(piece)
            yield piece
    finally:
        content.close()

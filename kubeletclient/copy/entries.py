"""What is copied: one entry of a tree, whichever side it was found on, and the limits on a whole tree."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Final

__all__ = ["SPECIAL", "Entry", "Kind", "Preserve", "Received", "TreeLimits", "link_leaves"]


class Kind(enum.Enum):
    """The types of entries. Devices, FIFOs and sockets are told apart only to be left out by name."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    HARDLINK = "hard link"
    FIFO = "fifo"
    CHARACTER = "character device"
    BLOCK = "block device"
    SOCKET = "socket"


SPECIAL: Final = frozenset({Kind.FIFO, Kind.CHARACTER, Kind.BLOCK, Kind.SOCKET})
"""What holds no bytes of its own and is never copied."""


@dataclass(slots=True)
class Entry:
    """One entry. ``name`` is its path relative to the root of the copy, of any bytes, parts joined by ``/``.

    ``size`` is that of the content as a reader sees it, holes included; ``mode`` the permission bits; ``mtime`` in
    nanoseconds since the epoch; ``target`` what a symbolic link holds, or the name of the entry that a hard link
    shares its content with. ``sparse`` lists the pieces of a file that hold data, as (offset, length) in order;
    None means all of it.
    """

    name: bytes
    kind: Kind
    mode: int = 0o644
    size: int = 0
    mtime: int = 0
    uid: int = 0
    gid: int = 0
    target: bytes = b""
    sparse: list[tuple[int, int]] | None = field(default=None)

    @property
    def stored(self) -> int:
        """Bytes of content that travel: the size without the holes."""
        return self.size if self.sparse is None else sum(length for _, length in self.sparse)


@dataclass(frozen=True, slots=True)
class TreeLimits:
    """What a copy accepts from a container, which may be hostile: an archive can claim anything.

    The defaults are far above what people copy and far below what harms a machine's memory; raise them by name.
    """

    entries: int = 5_000_000
    """Each costs a few hundred bytes here while the copy runs."""

    total: int = 1 << 50
    """Bytes of content, holes included: a sparse file can claim 8 EiB in one header."""

    depth: int = 256
    """Parts of one name. Each level is a directory descriptor while something below it is written."""

    path: int = 4096
    """Bytes of one name: PATH_MAX of Linux, beyond which no system call takes it."""

    metadata: int = 1 << 20
    """Bytes of one extended header of an archive."""


@dataclass(frozen=True, slots=True)
class Preserve:
    """What of an entry's metadata is kept."""

    modes: bool = True
    times: bool = True
    owners: bool = False
    """User and group numbers; needs root."""

    links: str = "keep"
    """Symbolic links: ``keep`` as they stand, ``safe`` only those that stay inside the tree, ``skip`` none,
    ``follow`` copy what they lead to.
    """

    def __post_init__(self) -> None:
        if self.links not in ("keep", "safe", "skip", "follow"):
            raise ValueError(f"links: expected keep, safe, skip or follow, not {self.links!r}")


@dataclass(slots=True)
class Received:
    """A file that was written: its size and digest."""

    size: int
    digest: str | None


def link_leaves(parts: tuple[bytes, ...], target: bytes) -> bool:
    """Whether a symbolic link at ``parts`` leads out of the tree, read as text."""
    if target.startswith(b"/"):
        return True
    depth = len(parts) - 1
    for part in target.split(b"/"):
        if part == b"..":
            depth -= 1
            if depth < 0:
                return True
        elif part not in (b"", b"."):
            depth += 1
    return False

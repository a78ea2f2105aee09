"""Moves a verified tree to its place: each file by one rename, through no link."""

from __future__ import annotations

import os
import stat

from kubeletclient.copy.directories import Parts, Root
from kubeletclient.copy.errors import UnsafeEntry

__all__ = ["place"]


def place(stage: Root, base: Root) -> None:
    """Move everything in ``stage`` into ``base``. A directory that is new there is one rename; one that exists takes
    what is new in it, and keeps its own mode and times.

    Raises UnsafeEntry where a file would take the place of a directory, or the other way round, and OSError.
    """
    _merge(stage, base, ())


def _merge(stage: Root, base: Root, parts: Parts) -> None:
    source = os.dup(stage.directory(parts))
    try:
        target = os.dup(base.directory(parts))
        try:
            below = []
            for name in os.listdir(source):
                part = os.fsencode(name)
                if _is_directory(part, target):
                    if not _is_directory(part, source):
                        raise UnsafeEntry(
                            f"{b'/'.join((*parts, part))!r} is a directory at the target, and none at the source",
                            hint="remove one of them",
                        )
                    below.append(part)
                    continue
                os.rename(part, part, src_dir_fd=source, dst_dir_fd=target)
        finally:
            os.close(target)
    finally:
        os.close(source)
    for part in below:
        _merge(stage, base, (*parts, part))


def _is_directory(name: bytes, fd: int) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False

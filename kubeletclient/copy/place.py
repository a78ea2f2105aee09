"""Moves a verified tree to its place: each file by one rename, through no link."""

from __future__ import annotations

import os
import stat

from kubeletclient.copy.directories import Parts, Root
from kubeletclient.copy.errors import BadPath, UnsafeEntry

__all__ = ["place"]


def place(stage: Root, base: Root) -> None:
    """Move everything in ``stage`` into ``base``. A directory that is new there is one rename; one that exists takes
    what is new in it, and keeps its own mode and times.

    Raises UnsafeEntry where a file would take the place of a directory, or the other way round, and BadPath where a
    directory to be merged into is another mount, across which nothing can be renamed; both before anything is moved.
    OSError may come in the middle.
    """
    merged: list[Parts] = []
    _check(stage, base, (), _device(stage.fd), merged)
    known = set(merged)
    for parts in merged:
        _move(stage, base, parts, known)


def _check(stage: Root, base: Root, parts: Parts, device: int, merged: list[Parts]) -> None:
    """Gathers the directories that are on both sides, outer ones first."""
    source, target = stage.directory(parts), base.directory(parts)
    if _device(target) != device:
        raise BadPath(
            f"{os.fsdecode(b'/'.join(parts))!r} at the target is a mount of its own, into which nothing can be renamed"
            " from outside; nothing was moved",
            hint="copy what belongs there by a call of its own, with that directory as the target",
        )
    merged.append(parts)
    below = []
    for name in os.listdir(source):
        part = os.fsencode(name)
        ours, theirs = _is_directory(part, source), _is_directory(part, target)
        if ours and theirs:
            below.append(part)
        elif theirs is not None and ours != theirs:
            kinds = ("a directory", "none") if theirs else ("no directory", "one")
            raise UnsafeEntry(
                f"{b'/'.join((*parts, part))!r} is {kinds[0]} at the target, and {kinds[1]} at the source; nothing was"
                " moved",
                hint="remove one of them",
            )
    for part in below:
        _check(stage, base, (*parts, part), device, merged)


def _move(stage: Root, base: Root, parts: Parts, merged: set[Parts]) -> None:
    source, target = stage.directory(parts), base.directory(parts)
    for name in os.listdir(source):
        part = os.fsencode(name)
        if (*parts, part) not in merged:
            os.rename(part, part, src_dir_fd=source, dst_dir_fd=target)


def _device(fd: int) -> int:
    return os.fstat(fd).st_dev


def _is_directory(name: bytes, fd: int) -> bool | None:
    """None where nothing is."""
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return None

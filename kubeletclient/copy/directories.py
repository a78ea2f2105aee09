"""Access to files below one directory, by descriptors, never through a symbolic link.

A path is a tuple of parts. Each part but the last is opened with ``O_NOFOLLOW | O_DIRECTORY`` relative to its parent,
so whatever an archive created, and whatever another process swaps in meanwhile, nothing outside the root is reached.
The descriptors of the directory used last stay open: entries come directory by directory.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from kubeletclient.copy.errors import LocalFileFailed, UnsafeEntry

__all__ = ["Root", "local_failure", "safe_parts"]

_ANY_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_DIRECTORY: Final = _ANY_DIRECTORY | os.O_NOFOLLOW

Parts = tuple[bytes, ...]


def safe_parts(name: bytes, depth: int) -> Parts:
    """The parts of a name from the other side. Raises UnsafeEntry for one that is absolute, climbs, or cannot be a name
    here. Single dots and doubled slashes are passed over; no parts at all mean the root itself.
    """
    if name.startswith(b"/"):
        raise UnsafeEntry(f"the container sent the absolute name {name!r}", hint=_HINT)
    if b"\0" in name:
        raise UnsafeEntry(f"the container sent a name with a NUL byte: {name!r}", hint=_HINT)
    parts = tuple(part for part in name.split(b"/") if part not in (b"", b"."))
    if b".." in parts:
        raise UnsafeEntry(f"the container sent a name that climbs out of the target: {name!r}", hint=_HINT)
    if len(parts) > depth:
        raise UnsafeEntry(f"the container sent a name of {len(parts)} parts, and the limit is {depth}", hint=_HINT)
    if any(len(part) > 255 for part in parts):
        raise UnsafeEntry("the container sent a name with a part of more than 255 bytes", hint=_HINT)
    return parts


_HINT: Final = "nothing of it was written; do not trust this container"


class Root:
    """A directory, and what lies below it. Close it; closing twice is allowed."""

    def __init__(self, path: str | bytes, *, dir_fd: int | None = None, follow: bool = False) -> None:
        """Opens a directory that the user named, following links, or ``path`` below ``dir_fd``, following none.

        ``follow`` is for reading a source of the user's whose links are to be followed, and for nothing else.
        """
        self.follow = follow
        self._flags = _ANY_DIRECTORY if follow else _DIRECTORY
        self.fd = os.open(path, _ANY_DIRECTORY if dir_fd is None else _DIRECTORY, dir_fd=dir_fd)
        self._open: list[tuple[bytes, int]] = []

    def close(self) -> None:
        """Close every descriptor."""
        self._drop(0)
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Root:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def directory(self, parts: Parts, *, create: bool = False) -> int:
        """A descriptor of a directory, valid until the next call. With ``create`` missing ones are made, with mode
        0700: the archive tells the mode later.

        Raises UnsafeEntry where a part is a symbolic link or no directory, OSError otherwise.
        """
        common = 0
        for (part, _), wanted in zip(self._open, parts, strict=False):
            if part != wanted:
                break
            common += 1
        self._drop(common)
        fd = self._open[-1][1] if self._open else self.fd
        for part in parts[common:]:
            fd = self._step(part, fd, create)
            self._open.append((part, fd))
        return fd

    def _step(self, part: bytes, fd: int, create: bool) -> int:
        try:
            return os.open(part, self._flags, dir_fd=fd)
        except FileNotFoundError:
            if not create:
                raise
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise UnsafeEntry(
                    f"{part!r} is no directory, and the container sent an entry below it",
                    hint="a link there would lead out of the target; remove it if it is yours",
                ) from None
            raise
        os.mkdir(part, 0o700, dir_fd=fd)
        return os.open(part, self._flags, dir_fd=fd)

    def lstat(self, parts: Parts) -> os.stat_result | None:
        """The entry's own status; None if it does not exist."""
        if not parts:
            return os.fstat(self.fd)
        try:
            return os.stat(parts[-1], dir_fd=self.directory(parts[:-1]), follow_symlinks=False)
        except FileNotFoundError:
            return None

    def stat(self, parts: Parts) -> os.stat_result | None:
        """The status of what is read: of the file behind a link where links are followed. None if there is none."""
        try:
            return os.stat(parts[-1], dir_fd=self.directory(parts[:-1]), follow_symlinks=self.follow)
        except FileNotFoundError:
            return None

    def is_directory(self, parts: Parts) -> bool:
        """Whether it is a directory, and no link to one."""
        status = self.lstat(parts)
        return status is not None and stat.S_ISDIR(status.st_mode)

    def link(self, target: Parts, parts: Parts) -> None:
        """Give the file ``target`` a further name. Raises OSError."""
        source = os.dup(self.directory(target[:-1]))
        try:
            os.link(
                target[-1], parts[-1], src_dir_fd=source, dst_dir_fd=self.directory(parts[:-1]), follow_symlinks=False
            )
        finally:
            os.close(source)

    def remove(self, parts: Parts) -> None:
        """Remove an entry, a directory with all below it. Missing ones are fine."""
        status = self.lstat(parts)
        if status is None:
            return
        if not stat.S_ISDIR(status.st_mode):
            os.unlink(parts[-1], dir_fd=self.directory(parts[:-1]))
            return
        fd = self.directory(parts)
        os.fchmod(fd, 0o700)
        for name in os.listdir(fd):
            self.remove((*parts, os.fsencode(name)))
        os.rmdir(parts[-1], dir_fd=self.directory(parts[:-1]))

    def _drop(self, keep: int) -> None:
        while len(self._open) > keep:
            os.close(self._open.pop()[1])


def local_failure(error: OSError, name: bytes) -> LocalFileFailed:
    """This machine refused something about ``name``; the text says what to do where that is known."""
    hints = {
        errno.ENOSPC: "free space on the target's file system; what had come is kept for --resume",
        errno.EDQUOT: "your quota is used up; what had come is kept for --resume",
        errno.EACCES: "check the permissions of the directory",
        errno.EPERM: "the file system does not allow it to you",
        errno.EROFS: "the file system is read-only: choose another target",
        errno.EFBIG: "the file system does not take files of that size",
    }
    failure = LocalFileFailed(
        f"{os.fsdecode(name)!r}: {error.strerror or error}", hint=hints.get(error.errno or 0, "nothing was lost")
    )
    failure.errno = error.errno
    failure.__cause__ = error
    return failure

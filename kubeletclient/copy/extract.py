"""Writes what an archive brings below one directory, under a policy of our own.

Nothing is written through a link, outside the root, or over what was there (``directories``); setuid, setgid and
sticky bits are dropped; devices, FIFOs and sockets are left out and reported. A hard link is made only to a file of
the same archive. Modes and times of directories are set at the end, for writing below them changes the one and needs
the other.

Runs of zeros at block borders become holes, as ``cp --sparse=always`` has it: an archive without pieces does not tell
which zeros were holes, and a hole reads the same.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import Final

from kubeletclient.copy.checksums import Checksum, add_zeros
from kubeletclient.copy.directories import Parts, Root, local_failure, safe_parts
from kubeletclient.copy.entries import SPECIAL, Entry, Kind, Preserve, Received, TreeLimits, link_leaves
from kubeletclient.copy.errors import UnsafeEntry

__all__ = ["Extractor"]

_HOLE: Final = 4096
_ZEROS: Final = bytes(1 << 20)
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Extractor:
    """A receiver of ``TarReader``. ``finish`` sets what can be set only at the end."""

    def __init__(
        self,
        root: Root,
        *,
        preserve: Preserve = Preserve(),
        limits: TreeLimits = TreeLimits(),
        digest: Callable[[], Checksum] | None = None,
        wanted: Callable[[Entry, Parts], bool] = lambda entry, parts: True,
        skipped: Callable[[Entry, str], None] = lambda entry, reason: None,
        progress: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._root = root
        self._preserve = preserve
        self._limits = limits
        self._digest = digest
        self._wanted = wanted
        self._skipped = skipped
        self._progress = progress
        self._fd = -1
        self._entry = Entry(b"", Kind.FILE)
        self._parts: Parts = ()
        self._sum: Checksum | None = None
        self._end = 0  # of the content seen so far
        self._written = 0  # as far as the file itself reaches
        self._directories: dict[Parts, Entry] = {}
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self.files: dict[Parts, Received] = {}
        """What was written, by parts; hard links are not listed."""
        self.links: dict[Parts, Entry] = {}
        """Symbolic and hard links that were made."""

    # -- as Receiver -------------------------------------------------------------------------------------------------

    def begin(self, entry: Entry) -> None:
        """As ``Receiver.begin``. Raises UnsafeEntry, LocalFileFailed."""
        parts = safe_parts(entry.name, self._limits.depth)
        self._entry, self._parts = entry, parts
        if entry.kind in SPECIAL:
            self._skipped(entry, f"a {entry.kind.value} is not copied")
            return
        if not self._wanted(entry, parts):
            return
        if not parts:
            if entry.kind is Kind.DIRECTORY:
                self._directories[parts] = entry
                return
            raise UnsafeEntry(f"the container sent {entry.kind.value} {entry.name!r} for the target itself")
        try:
            if entry.kind is Kind.FILE:
                self._begin_file(entry, parts)
            elif entry.kind is Kind.DIRECTORY:
                self._root.directory(parts, create=True)
                self._directories[parts] = entry
            elif entry.kind is Kind.SYMLINK:
                self._symlink(entry, parts)
            else:
                self._hard_link(entry, parts)
        except OSError as error:
            raise local_failure(error, entry.name) from error

    def data(self, offset: int, view: memoryview) -> None:
        """As ``Receiver.data``."""
        fd = self._fd
        if fd < 0:
            return
        checksum = self._sum
        if checksum is not None:
            if offset > self._end:
                add_zeros(checksum, offset - self._end)
            checksum.update(view)
        size = len(view)
        self._end = offset + size
        try:
            if offset == self._written and not (size >= _HOLE and _is_zero(view)):
                written = os.write(fd, view) if offset else os.pwrite(fd, view, 0)
                if not offset:
                    os.lseek(fd, written, os.SEEK_SET)
                while written < size:
                    written += os.write(fd, view[written:])
                self._written = self._end
            else:
                self._write_apart(fd, offset, view)
        except OSError as error:
            raise local_failure(error, self._entry.name) from error
        self._progress(size)

    def end(self) -> None:
        """As ``Receiver.end``."""
        fd = self._fd
        if fd < 0:
            return
        entry = self._entry
        self._fd = -1
        try:
            if self._written < entry.size:
                os.ftruncate(fd, entry.size)
            if self._sum is not None and self._end < entry.size:
                add_zeros(self._sum, entry.size - self._end)
            self.set_metadata(fd, entry)
        except OSError as error:
            raise local_failure(error, entry.name) from error
        finally:
            os.close(fd)
        self.files[self._parts] = Received(entry.size, None if self._sum is None else self._sum.hexdigest())

    # -- the end -----------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Set modes and times of directories, the deepest first."""
        for parts in sorted(self._directories, key=len, reverse=True):
            entry = self._directories[parts]
            try:
                self.set_metadata(self._root.directory(parts), entry)
            except OSError as error:
                raise local_failure(error, entry.name) from error

    def abort(self) -> None:
        """Close what is open. A file that was begun stays as it is, incomplete, below the root."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    # -- how ---------------------------------------------------------------------------------------------------------

    def _begin_file(self, entry: Entry, parts: Parts) -> None:
        directory = self._root.directory(parts[:-1], create=True)
        try:
            fd = os.open(parts[-1], _NEW_FILE, 0o600, dir_fd=directory)
        except FileExistsError:
            self._replace(parts, entry)
            fd = os.open(parts[-1], _NEW_FILE, 0o600, dir_fd=self._root.directory(parts[:-1]))
        self._fd = fd
        self._end = self._written = 0
        self._sum = None if self._digest is None else self._digest()

    def _replace(self, parts: Parts, entry: Entry) -> None:
        """The name is taken: by an earlier part of the archive, or by an interrupted copy."""
        if parts in self.files or parts in self.links or parts in self._directories:
            raise UnsafeEntry(f"the container sent {entry.name!r} twice", hint="the archive contradicts itself")
        if self._root.is_directory(parts):
            raise UnsafeEntry(
                f"the container sent {entry.kind.value} {entry.name!r} where a directory is",
                hint="remove the directory, or choose another target",
            )
        os.unlink(parts[-1], dir_fd=self._root.directory(parts[:-1]))

    def _symlink(self, entry: Entry, parts: Parts) -> None:
        if b"\0" in entry.target or not entry.target:
            raise UnsafeEntry(f"the container sent the symbolic link {entry.name!r} without a usable target")
        leaves = link_leaves(parts, entry.target)
        policy = self._preserve.links
        if policy == "skip" or (policy == "safe" and leaves):
            self._skipped(entry, f"link to {entry.target!r}" + (", outside the tree" if leaves else ""))
            return
        directory = self._root.directory(parts[:-1], create=True)
        try:
            os.symlink(entry.target, parts[-1], dir_fd=directory)
        except FileExistsError:
            self._replace(parts, entry)
            directory = self._root.directory(parts[:-1])
            os.symlink(entry.target, parts[-1], dir_fd=directory)
        self.links[parts] = entry
        if self._preserve.times:
            os.utime(parts[-1], ns=(entry.mtime, entry.mtime), dir_fd=directory, follow_symlinks=False)
        if self._preserve.owners:
            os.chown(parts[-1], entry.uid, entry.gid, dir_fd=directory, follow_symlinks=False)

    def _hard_link(self, entry: Entry, parts: Parts) -> None:
        target = safe_parts(entry.target, self._limits.depth)
        if target == parts:
            raise UnsafeEntry(f"the container sent {entry.name!r} as a hard link to itself")
        if target not in self.files:
            if target in self.links and self.links[target].kind is Kind.HARDLINK:
                pass  # a link to a link of this archive is one to its file
            else:
                raise UnsafeEntry(
                    f"the container sent {entry.name!r} as a hard link to {entry.target!r}, which it did not send"
                )
        self._root.directory(parts[:-1], create=True)
        try:
            self._root.link(target, parts)
        except FileExistsError:
            self._replace(parts, entry)
            self._root.link(target, parts)
        self.links[parts] = entry

    def _write_apart(self, fd: int, offset: int, view: memoryview) -> None:
        """Write what is not zero, block by block of the file."""
        at, size = 0, len(view)
        while at < size:
            step = min(size - at, _HOLE - (offset + at) % _HOLE)
            piece = view[at : at + step]
            if not _is_zero(piece):
                while step > 0 and at < size:  # as far as data goes, in one call
                    follow = min(size - at - step, _HOLE)
                    if not follow or _is_zero(view[at + step : at + step + follow]):
                        break
                    step += follow
                written = 0
                while written < step:
                    written += os.pwrite(fd, view[at + written : at + step], offset + at + written)
                self._written = offset + at + step
            at += step
        os.lseek(fd, self._written, os.SEEK_SET)

    def set_metadata(self, fd: int, entry: Entry) -> None:
        """Give an open file or directory what of the entry's metadata is kept."""
        preserve = self._preserve
        directory = entry.kind is Kind.DIRECTORY
        if preserve.owners:
            os.fchown(fd, entry.uid, entry.gid)  # before the mode: it clears bits
        if preserve.modes:
            os.fchmod(fd, entry.mode & 0o777)
        else:
            os.fchmod(fd, (0o777 if directory or entry.mode & stat.S_IXUSR else 0o666) & ~self._umask)
        if preserve.times:
            os.utime(fd, ns=(entry.mtime, entry.mtime))


def _is_zero(view: memoryview) -> bool:
    """Looks at both ends first: most data is told apart there, without a copy."""
    size = len(view)
    if view[0] or view[size - 1] or size > len(_ZEROS):
        return False
    return view.tobytes() == _ZEROS[:size]

"""Lists a local tree in the order in which it is sent, and reads its files, by descriptors and through no link."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from typing import Final

from kubeletclient.copy.checksums import Checksum, add_zeros
from kubeletclient.copy.directories import Parts, Root, local_failure
from kubeletclient.copy.entries import SPECIAL, Entry, Kind, Preserve, Received, link_leaves
from kubeletclient.copy.errors import CopyError, SourceChanged

__all__ = ["FORMATS", "LocalFile", "Scan", "status_entry"]

FORMATS: Final = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFCHR: Kind.CHARACTER,
    stat.S_IFBLK: Kind.BLOCK,
    stat.S_IFSOCK: Kind.SOCKET,
}
# NONBLOCK: a FIFO that took a file's place must not hold the copy.
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def status_entry(name: bytes, status: os.stat_result) -> Entry:
    """The entry that a status describes, without target and pieces."""
    kind = FORMATS.get(stat.S_IFMT(status.st_mode), Kind.SOCKET)
    return Entry(
        name,
        kind,
        stat.S_IMODE(status.st_mode),
        status.st_size if kind is Kind.FILE else 0,
        status.st_mtime_ns,
        status.st_uid,
        status.st_gid,
    )


class Scan:
    """The entries of ``root/top``, a directory in front of what it holds, names sorted; iterate it once.

    Each is named ``name`` instead of ``top``. ``wanted(path, is_directory)`` is asked with paths below ``top``. An
    unreadable directory is an error: a copy with a hole in it is none.

    Raises LocalFileFailed, and SourceChanged for what vanishes meanwhile.
    """

    def __init__(
        self,
        root: Root,
        top: bytes,
        name: bytes,
        *,
        preserve: Preserve = Preserve(),
        wanted: Callable[[bytes, bool], bool] = lambda path, directory: True,
        skipped: Callable[[Entry, str], None] = lambda entry, reason: None,
    ) -> None:
        self._root, self._top, self._name = root, top, name
        self._links = preserve.links
        self._wanted, self._skipped = wanted, skipped
        self._seen: dict[tuple[int, int], bytes] = {}
        self._above: set[tuple[int, int]] = set()

    def __iter__(self) -> Iterator[Entry]:
        return self._visit((self._top,), self._name)

    def _visit(self, parts: Parts, path: bytes) -> Iterator[Entry]:
        directory = self._root.directory(parts[:-1])
        try:
            status = os.stat(parts[-1], dir_fd=directory, follow_symlinks=self._root.follow)
        except FileNotFoundError:
            raise SourceChanged(f"{os.fsdecode(path)!r} vanished while the tree was read") from None
        except OSError as error:
            raise local_failure(error, path) from error
        entry = status_entry(path, status)
        if len(parts) > 1 and not self._wanted(b"/".join(parts[1:]), entry.kind is Kind.DIRECTORY):
            return
        if entry.kind in SPECIAL:
            self._skipped(entry, f"a {entry.kind.value} is not copied")
        elif entry.kind is Kind.DIRECTORY:
            yield entry
            yield from self._below(parts, path, (status.st_dev, status.st_ino))
        elif self._complete(entry, parts, directory, status):
            yield entry

    def _complete(self, entry: Entry, parts: Parts, directory: int, status: os.stat_result) -> bool:
        """Adds what the status does not tell; False for a link that is left out."""
        if entry.kind is Kind.SYMLINK:
            entry.target = os.readlink(parts[-1], dir_fd=directory)
            leaves = link_leaves(parts[1:] or parts, entry.target)
            if self._links == "skip" or (self._links == "safe" and leaves):
                self._skipped(entry, f"link to {entry.target!r}" + (", outside the tree" if leaves else ""))
                return False
            return True
        if status.st_nlink > 1 and not self._root.follow:
            first = self._seen.setdefault((status.st_dev, status.st_ino), entry.name)
            if first is not entry.name:
                entry.kind, entry.target, entry.size = Kind.HARDLINK, first, 0
                return True
        if status.st_blocks * 512 < entry.size:
            entry.sparse = _pieces(parts[-1], directory, entry, self._root.follow)
        return True

    def _below(self, parts: Parts, path: bytes, identity: tuple[int, int]) -> Iterator[Entry]:
        if identity in self._above:
            raise CopyError(f"{os.fsdecode(path)!r} is a link to a directory above it", hint="do not follow links")
        self._above.add(identity)
        try:
            names = sorted(os.fsencode(each) for each in os.listdir(self._root.directory(parts)))
        except OSError as error:
            raise local_failure(error, path) from error
        for each in names:
            yield from self._visit((*parts, each), path + b"/" + each)
        self._above.discard(identity)


def _pieces(name: bytes, directory: int, entry: Entry, follow: bool) -> list[tuple[int, int]] | None:
    """Where a file with holes holds data; None where the file system does not tell."""
    pieces: list[tuple[int, int]] = []
    fd = os.open(name, _READ & ~os.O_NOFOLLOW if follow else _READ, dir_fd=directory)
    try:
        at = 0
        while at < entry.size:
            try:
                start = os.lseek(fd, at, os.SEEK_DATA)
            except OSError:  # nothing but a hole behind it
                break
            at = min(os.lseek(fd, start, os.SEEK_HOLE), entry.size)
            if start < at:
                pieces.append((start, at - start))
    except OSError:
        return None
    finally:
        os.close(fd)
    return pieces


class LocalFile:
    """Content of a file for ``write_archive``: read when it is asked for, digested on the way.

    Whatever is not as its entry says, or was touched while it was read, is told by ``fault`` when everything has been
    read: the archive has to go on, and the copy of that file is worth nothing.
    """

    def __init__(
        self,
        root: Root,
        parts: Parts,
        entry: Entry,
        *,
        digest: Callable[[], Checksum] | None,
        progress: Callable[[int], None] = lambda count: None,
        done: Callable[[Entry, Received], None] = lambda entry, sent: None,
    ) -> None:
        self._root, self._parts, self._entry = root, parts, entry
        self._sum = None if digest is None else digest()
        self._progress = progress
        self._done = done
        self._fd = -1
        self._end = 0
        self._short = False
        self.fault: CopyError | None = None

    def _open(self) -> int:
        flags = _READ & ~os.O_NOFOLLOW if self._root.follow else _READ
        self._fd = os.open(self._parts[-1], flags, dir_fd=self._root.directory(self._parts[:-1]))
        return self._fd

    def readinto(self, offset: int, room: memoryview) -> int:
        """As ``Content.readinto``. Raises LocalFileFailed, SourceChanged."""
        wanted, got = len(room), 0
        try:
            fd = self._fd if self._fd >= 0 else self._open()
            while got < wanted:
                step = os.preadv(fd, [room[got:]], offset + got)
                if not step:
                    self._short = True
                    break
                got += step
        except FileNotFoundError:
            raise SourceChanged(f"{os.fsdecode(self._entry.name)!r} vanished while the tree was copied") from None
        except OSError as error:
            raise local_failure(error, self._entry.name) from error
        if self._sum is not None:
            if offset > self._end:
                add_zeros(self._sum, offset - self._end)
            self._sum.update(room[:got])
        self._end = offset + got
        self._progress(got)
        return got

    def close(self) -> None:
        """As ``Content.close``."""
        entry = self._entry
        try:
            fd = self._fd if self._fd >= 0 else self._open()
            status = os.fstat(fd)
        except OSError as error:
            self.fault = local_failure(error, entry.name)
            return
        finally:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
        if self._short or status.st_size != entry.size or status.st_mtime_ns != entry.mtime:
            self.fault = SourceChanged(
                f"{os.fsdecode(entry.name)!r} changed while it was copied",
                hint="copy it again when nobody writes to it, or copy a snapshot",
            )
            return
        if self._sum is not None and self._end < entry.size:
            add_zeros(self._sum, entry.size - self._end)
        self._done(entry, Received(entry.size, None if self._sum is None else self._sum.hexdigest()))

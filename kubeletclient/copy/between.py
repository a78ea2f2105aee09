"""From one container to another: the archive of the one is the stdin of the other, and is read on the way.

This machine holds a batch at a time and no file. Digests are taken of what passes by, and both containers compute
theirs: the source's prove that what was read is what is there, the target's that it arrived.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from typing import Final

from kubeletclient.copy.checksums import Checksum, add_zeros, new_checksum
from kubeletclient.copy.common import attempts, mismatch, stage_name
from kubeletclient.copy.directories import Parts, safe_parts
from kubeletclient.copy.entries import Entry, Kind
from kubeletclient.copy.errors import ArchiveError, BadPath, NoStrategy, SourceMissing, UnsafeEntry
from kubeletclient.copy.options import CopyOptions
from kubeletclient.copy.remote import Kept, Remote, Tools, manifest, probe
from kubeletclient.copy.report import CopyReport, Tracker
from kubeletclient.copy.scripts import COMMIT, PACK, RENAME, STAGE, TOUCH, UNPACK, script
from kubeletclient.copy.specs import split_remote
from kubeletclient.copy.tarread import TarReader

__all__ = ["Between"]

_HINT: Final = "nothing of it came to its place; do not trust this container"


class Between:
    """One copy from a container to another; ``source`` and ``target`` are reached each in its own way."""

    def __init__(
        self,
        source: Remote,
        path: bytes,
        target: Remote,
        to: bytes,
        options: CopyOptions,
        tracker: Tracker,
    ) -> None:
        self._source, self._path = source, path
        self._remote, self._target = target, to
        self._options = options
        self._tracker = tracker
        self.report = CopyReport("between", [os.fsdecode(path)], os.fsdecode(to))

    async def run(self) -> CopyReport:
        """Do all of it; errors as of ``Upload.run``."""
        self._check_choices()
        base, name = split_remote(self._path)
        there, here = await probe(self._source, [self._path]), await self._check_target()
        if there.paths[:1] == ("missing",):
            raise SourceMissing(f"{os.fsdecode(self._path)!r} does not exist in the container", hint="check its path")
        if not (there.shell and there.tar and here.tar):
            raise NoStrategy("between containers both need sh and tar", hint="copy through this machine")
        directory, last = split_remote(self._target)
        inside = here.paths[0] == "directory"
        if not (name or inside):
            raise BadPath(
                f"{os.fsdecode(self._path)!r} stands for what is in it, and {os.fsdecode(self._target)!r} is no"
                " directory in the container",
                hint="make the directory first, or name the source without the dot at its end",
            )
        target_base = self._target if inside else directory
        final = name if inside else last
        algorithm = next(
            (each for each in ([self._options.verify] if self._options.verify != "auto" else ["cksum", "sha256", "md5"])
             if there.digest("auto") and here.digest("auto") and _both(each, there, here)),
            None,
        )  # fmt: skip
        if algorithm is None and self._options.verify not in ("auto", "none"):
            raise NoStrategy(f"the containers cannot both compute {self._options.verify}")
        self._algorithm = algorithm
        self.report.verification = algorithm or "none"
        self.report.strategy = f"tar ({there.tar} to {here.tar})"
        self.report.dry_run = self._options.dry_run
        if self._options.dry_run:
            return self.report
        stage = os.path.join(target_base, stage_name(self._path, self._target))

        async def attempt(resume: bool) -> None:
            await self._attempt(there, here, base, name, stage, target_base, final)

        await attempts(attempt, self._options, self.report, self._tracker)
        self.report.leftover = None
        self.report.route, self.report.transport = self._remote.route, self._remote.transport
        return self.report

    def _check_choices(self) -> None:
        """Raises BadPath for a choice that would have no effect: a stream from tar to tar begins at its beginning."""
        options = self._options
        for given, what in (
            (options.compression is not None, "nothing is compressed"),
            (bool(options.filter), "nothing is left out"),
            (options.preserve.links != "keep", "links are kept as they stand"),
            (not options.preserve.modes, "modes are kept"),
            (options.strategy not in ("auto", "tar"), "tar is the only strategy"),
            (options.resume, "nothing is resumed"),
        ):
            if given:
                raise BadPath(f"between containers {what}", hint="leave that choice out, or copy through this machine")

    async def _check_target(self) -> Tools:
        directory, name = split_remote(self._target)
        tools = await probe(self._remote, [self._target, directory])
        kind, above = tools.paths or ("missing", "missing")
        if kind != "directory" and (above != "directory" or self._target.endswith(b"/") or not name):
            raise BadPath(f"{os.fsdecode(self._target)!r}: its directory does not exist in the container")
        return tools

    async def _attempt(
        self, there: Tools, here: Tools, base: bytes, name: bytes, stage: bytes, target_base: bytes, final: bytes
    ) -> None:
        report, remote = self.report, self._remote
        report.files = report.directories = report.links = report.bytes = 0
        report.leftover = os.fsdecode(stage)
        await remote.run(script(STAGE, stage, "new"), what="making the working directory")
        receiver = _Witness(self._algorithm, name or b".", report, self._tracker)
        reader = TarReader(receiver, self._options.limits)
        sparse = "S" if there.tar == "gnu" and here.tar in ("gnu", "bsdtar") else ""
        self._tracker.phase("transfer")
        began = time.monotonic()
        flags = "p" + ("" if self._options.preserve.times else "m") + ("" if self._options.preserve.owners else "o")
        words = script(PACK % there.tar_command, base if name else self._path, sparse, b"./" + name if name else b".")
        await remote.run(script(UNPACK % here.tar_command, stage, flags), what="tar", stdin=self._pieces(words, reader))
        if here.tar not in ("gnu", "bsdtar") and self._options.preserve.times and "touch" in here.names:
            await self._touch(receiver.directories, stage)  # busybox forgets times of directories
        report.transfer_seconds += time.monotonic() - began
        began = time.monotonic()
        self._tracker.phase("verify", report.bytes, report.files)
        if self._algorithm is not None:
            known = receiver.digests.__contains__
            sides = ((self._source, base if name else self._path, name), (remote, stage, b""))
            for side, where, below in sides:
                found = await manifest(side, where, [below], self._algorithm, known)
                wrong = [n for n, digest in receiver.digests.items() if found.get(n, ("", None))[0] != digest]
                if wrong:
                    raise mismatch([os.fsdecode(each) for each in wrong], self._algorithm)
        else:
            report.unverified = report.files
        report.verify_seconds += time.monotonic() - began
        self._tracker.phase("place")
        if name and final and final != name:
            await remote.run(script(RENAME, stage, name, final), what="renaming")
        await remote.run(script(COMMIT, stage, target_base), what="moving the files to their place")

    async def _touch(self, directories: list[Entry], stage: bytes) -> None:
        words: list[bytes | str] = []
        for entry in reversed(directories):
            words += [os.path.join(stage, entry.name), "-", str(entry.mtime // 10**9)]
        for at in range(0, len(words), 300):
            await self._remote.run(script(TOUCH, *words[at : at + 300]), what="setting times")

    async def _pieces(self, words: list[str], reader: TarReader) -> AsyncIterator[bytes]:
        said = Kept()
        async with self._source.open(words, stderr=said) as process:
            self.report.connections += 1
            while data := await process.stdout.read1(1 << 18):
                reader.feed(data)
                yield data
            code = await process.wait()
        if code:
            raise self._source.failure("tar", code, said)
        reader.close()


def _both(algorithm: str, there: Tools, here: Tools) -> bool:
    try:
        return there.digest(algorithm) == here.digest(algorithm) == algorithm
    except NoStrategy:
        return False


class _Witness:
    """Sees the members of an archive pass by: refuses what a target must not be given, and takes digests."""

    def __init__(self, algorithm: str | None, name: bytes, report: CopyReport, tracker: Tracker) -> None:
        self._algorithm, self._name, self._report, self._tracker = algorithm, name, report, tracker
        self.digests: dict[bytes, str] = {}
        self.directories: list[Entry] = []
        self._kinds: dict[bytes, Kind] = {}
        self._sum: Checksum | None = None
        self._entry = Entry(b"", Kind.FILE)
        self._at = 0

    def begin(self, entry: Entry) -> None:
        """As ``Receiver.begin``."""
        parts = safe_parts(entry.name, 4096)
        if self._name != b"." and parts[:1] != (self._name,):
            raise UnsafeEntry(f"the source container sent {entry.name!r}, which was not asked for")
        if entry.kind not in (Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK, Kind.HARDLINK):
            raise ArchiveError(f"{entry.name!r} is a {entry.kind.value}, which is not copied")
        entry.name = b"/".join(parts)
        self._check_place(entry, parts)
        self._entry, self._at = entry, 0
        report = self._report
        report.files += entry.kind is Kind.FILE
        report.directories += entry.kind is Kind.DIRECTORY
        if entry.kind is Kind.DIRECTORY:
            self.directories.append(entry)
        report.links += entry.kind in (Kind.SYMLINK, Kind.HARDLINK)
        report.bytes += entry.size
        self._sum = new_checksum(self._algorithm) if self._algorithm and entry.kind is Kind.FILE else None

    def _check_place(self, entry: Entry, parts: Parts) -> None:
        """What the target's tar might follow out of the working directory, or write twice, does not get there."""
        kinds = self._kinds
        if entry.name in kinds:
            raise UnsafeEntry(f"the source container sent {entry.name!r} twice", hint=_HINT)
        for depth in range(1, len(parts)):
            above = b"/".join(parts[:depth])
            if kinds.get(above, Kind.DIRECTORY) is not Kind.DIRECTORY:
                raise UnsafeEntry(
                    f"the source container sent {entry.name!r} below {above!r}, a {kinds[above].value}", hint=_HINT
                )
        if entry.kind is Kind.HARDLINK:
            target = b"/".join(safe_parts(entry.target, 4096))
            if kinds.get(target) not in (Kind.FILE, Kind.HARDLINK):
                raise UnsafeEntry(
                    f"the source container sent {entry.name!r} as a hard link to {entry.target!r}, which is no file of"
                    " this copy",
                    hint=_HINT,
                )
        kinds[entry.name] = entry.kind

    def data(self, offset: int, view: memoryview) -> None:
        """As ``Receiver.data``."""
        if self._sum is not None:
            add_zeros(self._sum, offset - self._at)
            self._sum.update(view)
        self._at = offset + len(view)
        self._tracker.add_bytes(len(view))

    def end(self) -> None:
        """As ``Receiver.end``."""
        if self._sum is not None:
            add_zeros(self._sum, self._entry.size - self._at)
            self.digests[self._entry.name] = self._sum.hexdigest()
            self._tracker.add_files()

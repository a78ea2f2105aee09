"""Brings one source out of a container, into the directory that ``download`` works in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

from kubeletclient.copy.checksums import ALGORITHMS, new_checksum
from kubeletclient.copy.common import LARGE, MIB, Run, gather, mismatch, runs_of
from kubeletclient.copy.compress import base64_reader, inflater, packed
from kubeletclient.copy.directories import Parts, Root, local_failure, safe_parts
from kubeletclient.copy.entries import Entry, Kind, Received
from kubeletclient.copy.errors import ArchiveError, SourceChanged, UnsafeEntry
from kubeletclient.copy.extract import Extractor
from kubeletclient.copy.options import CopyOptions
from kubeletclient.copy.remote import Kept, Remote, Tools, list_tree, manifest
from kubeletclient.copy.report import CopyReport, Tracker
from kubeletclient.copy.scripts import FETCH, PACK, SELECT, SHOW, SUMS, TARGETS, script
from kubeletclient.copy.tarread import TarReader

__all__ = ["Source", "Transfer"]

_STREAM_FILES: Final = 2000  # as in upload
_BATCH: Final = 100
_NO_RECURSION: Final = {"gnu": "--no-recursion", "bsdtar": "-n"}
"""The tars that take names from stdin. Busybox can be built without, and ends them with newlines if not."""

_ARGUMENTS: Final = 200
"""Names that other tars get as arguments of one command."""


@dataclass(slots=True)
class Source:
    """One source in the container: its directory, the name in it, the name at the target."""

    base: bytes
    name: bytes
    final: bytes
    entries: list[Entry] | None = None
    """What is there, by the container's own list, already filtered; names are relative to ``base``."""

    received: dict[bytes, Received] = field(default_factory=dict)
    """Files that came by tar or whole, by the same names; to be verified."""

    prefix: bytes | None = None
    """For kubectl's form of the command, whose names begin at the root: the directory in front of the source."""


class Copy(Protocol):
    """The whole of which a transfer is a part."""

    remote: Remote
    tools: Tools
    options: CopyOptions
    tracker: Tracker
    report: CopyReport
    algorithm: str | None
    tar: bool
    reader: str

    def wanted(self, source: Source, entry: Entry) -> bool:
        """Whether the user wants it."""

    def count(self, entry: Entry) -> None:
        """Count it in the report."""


class Transfer:
    """Brings one source into the stage."""

    def __init__(self, copy: Copy, source: Source, stage: Root, resume: bool) -> None:
        self.copy, self.source, self._stage, self._resuming = copy, source, stage, resume
        self._remote, self._tools, self._options = copy.remote, copy.tools, copy.options
        self._algorithm, self.tracker, self._report = copy.algorithm, copy.tracker, copy.report
        self._depth = self._options.limits.depth

    async def run(self) -> None:
        """All of it, but the verification of what came by tar or whole."""
        source = self.source
        if source.entries is None:
            await self._whole_archive(None)
            return
        large = [entry for entry in source.entries if self._is_large(entry)]
        small = [entry for entry in source.entries if entry.kind is Kind.FILE and not self._is_large(entry)]
        links = [entry for entry in source.entries if entry.kind is Kind.SYMLINK]
        self._directories()
        if self._resuming and self._algorithm is not None:
            small = await self._missing(small)
        if not self.copy.tar:
            await gather([partial(self._file, entry) for entry in small], self._options.parallel)
        elif self._takes_all(small, large):
            # Needs no stdin, which not every transport can end. Which name of a file holds its content is tar's choice.
            linked = [entry for entry in source.entries if entry.kind is Kind.HARDLINK]
            await self._whole_archive({entry.name for entry in [*small, *linked]})
        elif self._tools.tar in _NO_RECURSION:
            await self._archives(small)
        else:
            batches = [small[at : at + _ARGUMENTS] for at in range(0, len(small), _ARGUMENTS)]
            await gather([partial(self._archive, batch) for batch in batches], self._options.parallel)
        await self._runs(large)
        await self._links(links)
        self._finish()

    def _takes_all(self, small: Sequence[Entry], large: Sequence[Entry]) -> bool:
        """Whether one stream of everything is the best way: nothing of it would be passed over."""
        if large or self._resuming or self._options.filter:
            return False
        several = self._options.parallel > 1 and len(small) >= 2 * _STREAM_FILES
        return self._tools.tar not in _NO_RECURSION or not several

    def _is_large(self, entry: Entry) -> bool:
        return entry.kind is Kind.FILE and entry.size >= LARGE and "dd" in self._tools.names

    def parts(self, name: bytes) -> Parts:
        """Where an entry of the container goes below the stage."""
        source = self.source
        name = name.removeprefix(b"./")
        if source.prefix:
            name = name.removeprefix(source.prefix + b"/")
        parts = safe_parts(name, self._depth)
        if source.name == b".":
            return parts if not source.final else (source.final, *parts)
        if parts[:1] != (source.name,):
            raise UnsafeEntry(
                f"the container sent {name!r}, which is not below {source.name!r}", hint="do not trust this container"
            )
        return (source.final, *parts[1:])

    # -- tar ---------------------------------------------------------------------------------------------------------

    async def _whole_archive(self, wanted: set[bytes] | None) -> None:
        """Everything in one stream, of which ``wanted`` is kept; None keeps what the user wants."""
        source, options = self.source, self._options
        extractor = self._extractor()
        receiver = _Renamed(self, extractor, wanted)
        follow = "h" if options.preserve.links == "follow" else ""
        if source.prefix is not None:
            words = ["tar", "cf", "-", os.fsdecode(os.path.join(source.base, source.name))]
        elif self._tools.shell:
            body = packed(PACK % self._tools.tar_command, options.compression)
            words = script(body, source.base, self._sparse + follow, b"./" + source.name)
        else:
            below = os.fsdecode(source.name)
            words = [self._tools.tar_command, f"-c{follow}f", "-", "-C", os.fsdecode(source.base), f"./{below}"]
        await self._unpack(words, receiver, extractor)
        if wanted is not None:
            receiver.check()
            return
        extractor.finish()
        if not receiver.seen:
            raise ArchiveError("the container's tar sent nothing", hint="check the source's path and permissions")

    @property
    def _sparse(self) -> str:
        return "S" if self._tools.tar == "gnu" else ""

    async def _archives(self, files: list[Entry]) -> None:
        total = sum(entry.size for entry in files)
        count = min(self._options.parallel, max(total // LARGE, len(files) // _STREAM_FILES, 1))
        share = -(-max(total, 1) // count)
        streams: list[list[Entry]] = [[]]
        filled = 0
        for entry in files:
            if filled >= share and len(streams) < count:
                streams.append([])
                filled = 0
            streams[-1].append(entry)
            filled += entry.size
        await gather([partial(self._archive, part) for part in streams if part], count)

    async def _archive(self, files: Sequence[Entry]) -> None:
        """Just these files in one stream."""
        extractor = self._extractor()
        receiver = _Renamed(self, extractor, {entry.name for entry in files})
        tar, compression = self._tools.tar_command, self._options.compression
        names = [b"./" + entry.name for entry in files]
        option = _NO_RECURSION.get(self._tools.tar or "")
        stdin: object = None
        if option is not None:
            words = script(packed(SELECT % (tar, option), compression), self.source.base, self._sparse)
            stdin = (b"\0".join([*names[at : at + 500], b""]) for at in range(0, len(names), 500))
        else:
            words = script(packed(PACK % tar, compression), self.source.base, "", *names)
        await self._unpack(words, receiver, extractor, stdin)
        receiver.check()

    async def _unpack(
        self, words: Sequence[str], receiver: _Renamed, extractor: Extractor, stdin: object = None
    ) -> None:
        reader = TarReader(receiver, self._options.limits)
        self._report.connections += 1
        try:
            plain = inflater(reader.feed, self._options.compression)
            await self._remote.run(words, what="tar", stdin=stdin, stdout=plain)
            plain.close()
            reader.close()
        finally:
            extractor.abort()

    def _extractor(self) -> Extractor:
        algorithm, report = self._algorithm, self._report

        return Extractor(
            self._stage,
            preserve=self._options.preserve,
            limits=self._options.limits,
            digest=None if algorithm is None else (lambda: new_checksum(algorithm)),
            skipped=lambda entry, reason: report.skip(os.fsdecode(entry.name), reason),
            progress=self.tracker.add_bytes,
        )

    # -- without tar -------------------------------------------------------------------------------------------------

    async def _file(self, entry: Entry) -> None:
        """One file by one command."""
        extractor = self._extractor()
        tool = self.copy.reader
        path = os.path.join(self.source.base, entry.name)
        at = 0

        def take(view: memoryview) -> None:
            nonlocal at
            extractor.data(at, view)
            at += len(view)

        plain = base64_reader(take) if tool == "base64" else inflater(take, self._options.compression)
        shown = Entry(b"/".join(self.parts(entry.name)), Kind.FILE, entry.mode, max(entry.size, 0), entry.mtime)
        self._report.connections += 1
        extractor.begin(shown)
        try:
            await self._remote.run(
                script(
                    packed(SHOW[tool], None if tool == "base64" else self._options.compression),
                    path,
                    str(entry.size if entry.size >= 0 else 1 << 62),
                ),
                what=tool,
                stdout=plain,
            )
            plain.close()
            if entry.size < 0:
                shown.size = at
                self._report.bytes += at
            elif at != entry.size:
                raise mismatch([os.fsdecode(entry.name)], f"size ({at} bytes came, {entry.size} were announced)")
            extractor.end()
        finally:
            extractor.abort()
        self.source.received[entry.name] = extractor.files[self.parts(entry.name)]
        self.tracker.add_files()

    # -- large files -------------------------------------------------------------------------------------------------

    async def _runs(self, files: Sequence[Entry]) -> None:
        work = []
        for entry in files:
            runs = runs_of(entry.size, self._options.parallel)
            have: set[Run] = set()
            if self._resuming and self._algorithm is not None:
                have = await self._runs_here(entry, runs)
            self._prepare_file(entry)
            work += [partial(self._run, entry, run) for run in runs if run not in have]
        await gather(work, self._options.parallel)
        if files:
            await self._check_unchanged(files)
        for entry in files:
            self._finish_file(entry)
            self.tracker.add_files()
        if files and self._algorithm is None:
            for entry in files:
                self.source.received[entry.name] = Received(entry.size, None)

    async def _check_unchanged(self, files: Sequence[Entry]) -> None:
        """Each run was compared with itself, at its own time; together they are one file only if nobody wrote to it."""
        names = [entry.name for entry in files]
        listed: dict[bytes, Entry] = {}
        for at in range(0, len(names), _BATCH):
            batch = names[at : at + _BATCH]
            found = await list_tree(self._remote, self.source.base, batch, self._options.limits)
            listed |= {entry.name: entry for entry in found}
        for entry in files:
            now = listed.get(entry.name)
            if now is None or now.mtime != entry.mtime or (now.kind is Kind.FILE and now.size != entry.size):
                raise SourceChanged(
                    f"{os.fsdecode(entry.name)!r} changed while it was copied", hint="copy a snapshot of it"
                )

    async def _run(self, entry: Entry, run: Run) -> None:
        first, count = run
        checksum = None if self._algorithm is None else new_checksum(self._algorithm)
        tool = "-" if self._algorithm is None else ALGORITHMS[self._algorithm]
        fd = self._open(entry, os.O_WRONLY)
        said = Kept()
        at, end = first * MIB, min((first + count) * MIB, entry.size)
        progress = self.tracker.add_bytes

        def take(view: memoryview) -> None:
            nonlocal at
            if at + len(view) > end:
                raise ArchiveError(f"the container sent more of {entry.name!r} than was asked for")
            if checksum is not None:
                checksum.update(view)
            written = 0
            try:
                while written < len(view):
                    written += os.pwrite(fd, view[written:], at + written)
            except OSError as error:
                raise local_failure(error, entry.name) from error
            at += len(view)
            progress(len(view))

        self._report.connections += 1
        plain = inflater(take, self._options.compression)
        try:
            await self._remote.run(
                script(packed(FETCH, self._options.compression), self._path(entry), str(first), str(count), tool),
                what="dd",
                stdout=plain,
                stderr=said,
            )
            plain.close()
        finally:
            os.close(fd)
        right = checksum is None or said.value.split()[:1] == [checksum.hexdigest().encode()]
        if at != end or not right:
            raise mismatch([os.fsdecode(entry.name)], str(self._algorithm) if at == end else "size")

    def _path(self, entry: Entry) -> bytes:
        return os.path.join(self.source.base, entry.name)

    def _prepare_file(self, entry: Entry) -> None:
        parts = self.parts(entry.name)
        try:
            fd = os.open(
                parts[-1],
                os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC,
                0o600,
                dir_fd=self._stage.directory(parts[:-1], create=True),
            )
            try:
                os.ftruncate(fd, entry.size)
            finally:
                os.close(fd)
        except OSError as error:
            raise local_failure(error, entry.name) from error

    def _open(self, entry: Entry, mode: int) -> int:
        parts = self.parts(entry.name)
        return os.open(parts[-1], mode | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._stage.directory(parts[:-1]))

    def _finish_file(self, entry: Entry) -> None:
        fd = self._open(entry, os.O_WRONLY)
        try:
            self._extractor().set_metadata(fd, entry)
        finally:
            os.close(fd)

    # -- resuming ----------------------------------------------------------------------------------------------------

    async def _missing(self, files: Sequence[Entry]) -> list[Entry]:
        """The files that are not here yet with the content that they have there."""
        assert self._algorithm is not None
        here = {entry.name: entry for entry in files if self._is_here(entry)}
        if not here:
            return list(files)
        there = await manifest(self._remote, self.source.base, [self.source.name], self._algorithm, here.__contains__)
        missing = []
        for entry in files:
            digest = there.get(entry.name, ("", None))[0]
            if entry.name in here and self._digests(entry, [(0, -(-entry.size // MIB))]) == [digest]:
                self._finish_file(entry)
                self._report.resumed_bytes += entry.size
            else:
                missing.append(entry)
        return missing

    def _is_here(self, entry: Entry) -> bool:
        status = self._stage.lstat(self.parts(entry.name)) if self._has_parent(entry) else None
        return status is not None and status.st_size == entry.size

    def _has_parent(self, entry: Entry) -> bool:
        try:
            self._stage.directory(self.parts(entry.name)[:-1])
        except FileNotFoundError:
            return False
        return True

    async def _runs_here(self, entry: Entry, runs: Sequence[Run]) -> set[Run]:
        assert self._algorithm is not None
        if not self._is_here(entry):
            return set()
        tool = ALGORITHMS[self._algorithm]
        words = [str(number) for run in runs for number in run]
        answer = await self._remote.run(script(SUMS, self._path(entry), tool, *words), what=tool)
        there = [line.split()[0].decode() for line in answer.splitlines() if line.strip()]
        have = {
            run for run, mine, theirs in zip(runs, self._digests(entry, runs), there, strict=False) if mine == theirs
        }
        self._report.resumed_bytes += sum(min(count * MIB, entry.size - first * MIB) for first, count in have)
        return have

    def _digests(self, entry: Entry, runs: Sequence[Run]) -> list[str]:
        assert self._algorithm is not None
        digests = []
        room = memoryview(bytearray(MIB))
        fd = self._open(entry, os.O_RDONLY)
        try:
            for first, count in runs:
                checksum = new_checksum(self._algorithm)
                at, end = first * MIB, min((first + count) * MIB, entry.size)
                while at < end:
                    got = os.preadv(fd, [room[: min(MIB, end - at)]], at)
                    if not got:
                        break
                    checksum.update(room[:got])
                    at += got
                digests.append(checksum.hexdigest())
        finally:
            os.close(fd)
        return digests

    # -- everything else ---------------------------------------------------------------------------------------------

    def _directories(self) -> None:
        assert self.source.entries is not None
        for entry in self.source.entries:
            if entry.kind is Kind.DIRECTORY:
                try:
                    self._stage.directory(self.parts(entry.name), create=True)
                except OSError as error:
                    raise local_failure(error, entry.name) from error

    async def _links(self, links: Sequence[Entry]) -> None:
        extractor = self._extractor()
        for at in range(0, len(links), _BATCH):
            batch = links[at : at + _BATCH]
            answer = await self._remote.run(
                script(TARGETS, *(self._path(entry) for entry in batch)), what="reading links"
            )
            targets = answer.split(b"\n\0")
            if len(targets) != len(batch) + 1:
                raise ArchiveError(f"{len(batch)} links were asked for, and {len(targets) - 1} came")
            for entry, target in zip(batch, targets, strict=False):
                entry.target = target
                self._begin(extractor, entry)

    def _finish(self) -> None:
        """Hard links, then modes and times of directories, the deepest first."""
        assert self.source.entries is not None
        for entry in self.source.entries:
            if entry.kind is Kind.HARDLINK:
                parts, target = self.parts(entry.name), self.parts(entry.target)
                try:
                    self._stage.remove(parts)
                    self._stage.link(target, parts)
                except OSError as error:
                    raise local_failure(error, entry.name) from error
        extractor = self._extractor()
        for entry in self.source.entries:
            if entry.kind is Kind.DIRECTORY:
                self._begin(extractor, entry)
        extractor.finish()

    def _begin(self, extractor: Extractor, entry: Entry) -> None:
        shown = Entry(
            b"/".join(self.parts(entry.name)),
            entry.kind,
            entry.mode,
            mtime=entry.mtime,
            uid=entry.uid,
            gid=entry.gid,
            target=entry.target,
        )
        extractor.begin(shown)


class _Renamed:
    """Between the reader and the extractor: gives each member its name at the target, and notes its digest."""

    def __init__(self, transfer: Transfer, extractor: Extractor, wanted: set[bytes] | None) -> None:
        self._transfer, self._extractor, self._wanted = transfer, extractor, wanted
        self.seen: set[bytes] = set()
        self._name = b""
        self._parts: Parts = ()
        self._open = False

    def check(self) -> None:
        """Raises ArchiveError where something wanted did not come."""
        missing = sorted((self._wanted or set()) - self.seen)
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise ArchiveError(f"the container's tar left out {missing[0]!r}{more}", hint="its stderr says more")

    def begin(self, entry: Entry) -> None:
        """As ``Receiver.begin``."""
        transfer = self._transfer
        name = entry.name.removeprefix(b"./").rstrip(b"/") or b"."
        parts = transfer.parts(name)
        self._open = False
        if self._wanted is None:
            entry.name = name
            if not transfer.copy.wanted(transfer.source, entry):
                return
            transfer.copy.count(entry)
        elif name not in self._wanted:
            return
        self._open = True
        self._name, self._parts = name, parts
        entry.name = b"/".join(parts)
        if entry.kind is Kind.HARDLINK:
            entry.target = b"/".join(transfer.parts(entry.target))
        self.seen.add(name)
        self._extractor.begin(entry)

    def data(self, offset: int, view: memoryview) -> None:
        """As ``Receiver.data``."""
        if self._open:
            self._extractor.data(offset, view)

    def end(self) -> None:
        """As ``Receiver.end``."""
        if not self._open:
            return
        self._extractor.end()
        received = self._extractor.files.get(self._parts)
        if received is not None:
            self._transfer.source.received[self._name] = received
            self._transfer.tracker.add_files()

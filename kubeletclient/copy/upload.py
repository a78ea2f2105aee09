"""From this machine into a container.

Theory of operation
===================

Everything goes to a directory beside the target, is verified there, and is then moved to its place, each file by one
rename (``scripts.COMMIT``). The directory's name depends on source and target alone, so a later attempt finds what an
interrupted one left: with ``resume`` what is already there, and has the digest that it should have, is not sent again.

Two kinds of work fill the directory. Large files go in runs of whole MiB, written at their place by ``dd`` and read
back for a digest by the same command; runs are independent, so several connections share them, and a lost connection
costs one run. All other entries go as tar streams, or, in a container without tar, one command for each file. A source
that changes meanwhile is an error: no digest can prove such a copy.

Directories get their modes and times last, for writing below them changes the one and may need the other.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from kubeletclient._policy import SizedPieces
from kubeletclient.copy.checksums import ALGORITHMS, new_checksum
from kubeletclient.copy.common import LARGE, MIB, Run, attempts, gather, mismatch, runs_of, stage_name
from kubeletclient.copy.compress import base64_lines, check_compression, compressed, unpacker
from kubeletclient.copy.entries import Entry, Kind, Received
from kubeletclient.copy.errors import BadPath, CopyError, NoStrategy
from kubeletclient.copy.local import Item, Source, absolute, changed, check_unchanged, length, open_source, whole
from kubeletclient.copy.options import CopyOptions
from kubeletclient.copy.remote import Remote, Tools, list_tree, manifest, probe, probe_compat
from kubeletclient.copy.report import CopyReport, Tracker
from kubeletclient.copy.scan import LocalFile, Scan
from kubeletclient.copy.scripts import (
    CLAIM,
    COMMIT,
    LINK,
    MAKE,
    REMOVE,
    SIZE,
    STAGE,
    STORE,
    SUMS,
    TOUCH,
    UNPACK,
    WHOLE,
    script,
)
from kubeletclient.copy.specs import split_remote
from kubeletclient.copy.tarwrite import Content, write_archive

__all__ = ["Upload"]

_ROOM = 4 * 65528  # as the client batches stdin
_STREAM_FILES = 2000  # files of one tar stream, at least, before another one is worth its command
_BATCH = 100  # paths that one command takes as arguments


class Upload:
    """One copy into a container; see the module's theory of operation."""

    def __init__(
        self, remote: Remote, sources: Sequence[bytes], target: bytes, options: CopyOptions, tracker: Tracker
    ) -> None:
        self._remote = remote
        self._sources = list(sources)
        self._target = target
        self._options = options
        self._tracker = tracker
        self.report = CopyReport("in", [os.fsdecode(each) for each in sources], os.fsdecode(target))
        self._items: list[Item] = []
        self._algorithm: str | None = None
        self._tools: Tools
        self._tar = False
        self._writer = ""
        self._base = self._stage = b""

    async def run(self) -> CopyReport:
        """Do all of it. Raises CopyError and what ``Pod.run`` raises; ``report`` then says how far things came."""
        sources: list[Source] = []
        try:
            tries = partial(attempts, options=self._options, report=self.report, tracker=self._tracker)
            await tries(lambda resume: self._prepare(sources))
            self._scan(sources)
            if self._options.dry_run:
                self.report.dry_run = True
            else:
                await tries(self._attempt)
                self.report.leftover = None
        finally:
            for source in sources:
                source.root.close()
            self.report.route, self.report.transport = self._remote.route, self._remote.transport
        return self.report

    # -- what is to be done ------------------------------------------------------------------------------------------

    async def _prepare(self, sources: list[Source]) -> None:
        directory, name = split_remote(self._target)
        follow = self._options.preserve.links == "follow"
        while sources:
            sources.pop().root.close()
        sources.extend(open_source(path, follow) for path in self._sources)
        compat = self._options.strategy == "compat"
        self._tools = tools = await (probe_compat if compat else probe)(self._remote, [self._target, directory])
        self._choose_strategy(tools)
        inside, above = (kind == "directory" for kind in tools.paths)
        if not inside and (len(sources) > 1 or self._target.endswith(b"/")):
            raise BadPath(
                f"the target {os.fsdecode(self._target)!r} is no directory in the container",
                hint="make it first: several sources, and a target with a slash at its end, need one",
            )
        if not inside and not above:
            raise BadPath(
                f"the directory {os.fsdecode(directory)!r} does not exist in the container",
                hint="make it first (kubewire exec ... -- mkdir -p)",
            )
        if not inside:
            sources[0].name = name
        names = [source.name for source in sources]
        if len(set(names)) < len(names):
            raise BadPath("two sources have the same name at the target", hint="copy them one after another")
        self._base = self._target if inside else directory
        self._stage = os.path.join(self._base, stage_name(*map(absolute, self._sources), self._target))
        self._algorithm = tools.digest(self._options.verify)
        self.report.verification = self._algorithm or (
            "sizes" if self._options.verify != "none" and tools.lists else "none"
        )

    def _choose_strategy(self, tools: Tools) -> None:
        wanted = self._options.strategy
        if wanted == "compat":
            self._tar = True
            self.report.strategy = "compat (tar -xmf -)"
            return
        if not tools.shell:
            raise NoStrategy(
                "the container has tar and no shell, so nothing could be verified or put in place",
                hint="--strategy=compat sends the archive to tar alone, as kubectl cp does",
            )
        self._writer = next((tool for tool in WHOLE if tool in tools.names), "")
        self._tar = tools.tar is not None and wanted != "files"
        if wanted == "tar" and tools.tar is None:
            raise NoStrategy("the container has no tar", hint="--strategy=auto uses what is there")
        if not {"mv", "rm", "mkdir"} <= tools.names or not (self._tar or self._writer):
            raise NoStrategy(
                f"the container has nothing that could write a file; looked for tar, {', '.join(WHOLE)}, with mv, rm "
                "and mkdir",
                hint="copy through an ephemeral container with tools (kubectl debug)",
            )
        check_compression(self._options.compression, tools)
        self.report.compression = self._options.compression
        self.report.strategy = f"tar ({tools.tar})" if self._tar else f"files ({self._writer})"

    def _scan(self, sources: Sequence[Source]) -> None:
        self._tracker.phase("scan")
        report, options = self.report, self._options
        for source in sources:
            scan = Scan(
                source.root,
                source.top,
                source.name,
                preserve=options.preserve,
                wanted=options.filter,
                skipped=lambda entry, reason: report.skip(os.fsdecode(entry.name), reason),
            )
            for entry in scan:
                self._items.append(Item(entry, source))
                if len(self._items) > options.limits.entries:
                    raise CopyError(f"more than {options.limits.entries} entries", hint="raise the limit by name")
        for item in self._items:
            kind = item.entry.kind
            report.files += kind is Kind.FILE
            report.directories += kind is Kind.DIRECTORY
            report.links += kind in (Kind.SYMLINK, Kind.HARDLINK)
            report.bytes += item.entry.size

    def _is_large(self, item: Item) -> bool:
        """Moved in runs. Files with holes go by tar, where it knows them."""
        entry = item.entry
        if entry.kind is not Kind.FILE or "dd" not in self._tools.names or entry.size < LARGE:
            return False
        return entry.sparse is None or not (self._tar and self._sparse)

    @property
    def _sparse(self) -> bool:
        return self._tools.tar in ("gnu", "bsdtar")

    # -- one attempt -------------------------------------------------------------------------------------------------

    async def _attempt(self, resume: bool) -> None:
        report, remote = self.report, self._remote
        if self._options.strategy == "compat":
            await self._send_compat()
            return
        report.leftover = os.fsdecode(self._stage)
        resume = resume and self._tools.lists  # else nobody could tell what else an earlier attempt has left
        await remote.run(script(STAGE, self._stage, "keep" if resume else "new"), what="making the working directory")
        for item in self._items:
            item.sent = None
        if resume:
            await self._resume()
        due = [item for item in self._items if item.sent is None]
        large = [item for item in due if self._is_large(item)]
        small = [item for item in due if not self._is_large(item)]
        self._tracker.phase("transfer", sum(i.entry.size for i in due), sum(i.entry.kind is Kind.FILE for i in due))
        began = time.monotonic()
        complete = False
        if self._tar:
            complete = await self._send_archives(small, alone=not large)
        else:
            await self._send_files(small)
        await self._send_runs(large, resume)
        if not complete or self._tools.tar not in ("gnu", "bsdtar"):  # busybox forgets times of directories
            await self._finish(large)
        report.transfer_seconds += time.monotonic() - began
        await self._place([item for item in small if item.entry.kind is Kind.FILE])

    async def _place(self, files: Sequence[Item]) -> None:
        """Verify and move to its place what nobody else can write into any more: two copies of the same source to the
        same target share a working directory, and the one that claims it first has it.
        """
        shared, self._stage = self._stage, self._stage + b"." + secrets.token_hex(4).encode()
        try:
            await self._remote.run(script(CLAIM, shared, self._stage), what="claiming the working directory")
            await self._verify(files)
            self._tracker.phase("place")
            await self._remote.run(script(COMMIT, self._stage, self._base), what="moving the files to their place")
        finally:
            self._stage = shared  # where the next attempt finds it again

    async def _resume(self) -> None:
        """Take for sent what an earlier attempt left with the right digest."""
        if self._algorithm is None:
            return
        candidates = {
            item.entry.name: item for item in self._items if item.entry.kind is Kind.FILE and not self._is_large(item)
        }
        there = await manifest(self._remote, self._stage, [b""], self._algorithm, candidates.__contains__)
        for name, (digest, size) in there.items():
            item = candidates[name]
            if size is None or size == item.entry.size:
                local = self._digest(item, [(0, -(-item.entry.size // MIB))])[0]
                if local == digest:
                    item.sent = Received(item.entry.size, digest)
                    self.report.resumed_bytes += item.entry.size

    # -- tar ---------------------------------------------------------------------------------------------------------

    async def _send_archives(self, items: list[Item], *, alone: bool) -> bool:
        """All of it in one stream; or files in several, and then False: ``_finish`` has to follow."""
        files = [item for item in items if item.entry.kind is Kind.FILE]
        total = sum(item.entry.stored for item in files)
        count = min(self._options.parallel, max(total // LARGE, len(files) // _STREAM_FILES, 1))
        if count == 1 and alone:
            await self._send_archive(items)
            return True
        directories = [item for item in items if item.entry.kind is Kind.DIRECTORY]
        first = [Item(replace(item.entry, mode=0o700), item.source) for item in directories]
        first += [item for item in items if item.entry.kind is Kind.SYMLINK]
        await self._send_archive(first)
        share = -(-max(total, 1) // count)
        streams: list[list[Item]] = [[]]
        filled = 0
        for item in files:
            if filled >= share and len(streams) < count:
                streams.append([])
                filled = 0
            streams[-1].append(item)
            filled += item.entry.stored
        await gather([partial(self._send_archive, part) for part in streams if part], count)
        return False

    async def _send_archive(self, items: Sequence[Item]) -> None:
        if not items:
            return
        faults: list[CopyError] = []
        room = memoryview(bytearray(_ROOM))
        preserve = self._options.preserve
        archive = write_archive(self._members(items, faults), room, owners=preserve.owners, sparse=self._sparse)
        flags = "p" + ("" if preserve.times else "m") + ("" if preserve.owners else "o")
        body = UNPACK % (unpacker(self._options.compression) + self._tools.tar_command)
        self.report.connections += 1
        await self._remote.run(
            script(body, self._stage, flags),
            what="tar",
            stdin=SizedPieces(compressed(archive, self._options.compression), sum(i.entry.stored for i in items)),
        )
        if faults:
            raise faults[0]

    def _members(self, items: Sequence[Item], faults: list[CopyError]) -> Iterator[tuple[Entry, Content | None]]:
        for item in items:
            entry = self._shown(item.entry)
            if entry.kind is not Kind.FILE:
                yield entry, None
                continue
            content = self._content(item)
            yield entry, content
            if content.fault is not None:
                faults.append(content.fault)
            self._tracker.add_files()

    def _content(self, item: Item) -> LocalFile:
        def done(entry: Entry, sent: Received) -> None:
            item.sent = sent

        algorithm = self._algorithm
        return LocalFile(
            item.source.root,
            item.parts,
            item.entry,
            digest=None if algorithm is None else (lambda: new_checksum(algorithm)),
            progress=self._tracker.add_bytes,
            done=done,
        )

    def _shown(self, entry: Entry) -> Entry:
        """The entry with the mode that it is to have there."""
        if self._options.preserve.modes:
            return entry
        executable = entry.kind is Kind.DIRECTORY or entry.mode & 0o100
        return replace(entry, mode=0o755 if executable else 0o644)

    async def _send_compat(self) -> None:
        """As kubectl cp: straight to its place, by tar alone. What its exit code says is all that is known then."""
        report = self.report
        self._tracker.phase("transfer", report.bytes, report.files)
        plain = [] if self._options.preserve.modes else ["--no-same-permissions", "--no-same-owner"]
        faults: list[CopyError] = []
        archive = write_archive(self._members(self._items, faults), memoryview(bytearray(_ROOM)))
        began = time.monotonic()
        report.connections += 1
        words = ["tar", *plain, "-xmf", "-", "-C", os.fsdecode(self._base)]
        await self._remote.run(words, what="tar", stdin=SizedPieces(archive, report.bytes))
        report.transfer_seconds += time.monotonic() - began
        report.unverified = report.files
        if faults:
            raise faults[0]

    # -- without tar -------------------------------------------------------------------------------------------------

    async def _send_files(self, items: list[Item]) -> None:
        """One command for each file, a few for everything else."""
        pairs: list[bytes | str] = []
        for item in items:
            if item.entry.kind is Kind.DIRECTORY:
                pairs += [self._there(item), "/"]
            elif item.entry.kind is Kind.SYMLINK:
                pairs += [self._there(item), item.entry.target]
        await self._in_batches(MAKE, pairs, 2, "making directories and links")
        files = [item for item in items if item.entry.kind is Kind.FILE]
        await gather([partial(self._send_file, item) for item in files], self._options.parallel)

    async def _send_file(self, item: Item) -> None:
        content = self._content(item)
        body = WHOLE[self._writer] % unpacker(self._options.compression)
        self.report.connections += 1
        pieces: Iterator[memoryview | bytes] = whole(content, item.entry)
        pieces = base64_lines(pieces) if self._writer == "base64" else compressed(pieces, self._options.compression)
        await self._remote.run(
            script(body, self._there(item), str(item.entry.size)),
            what=self._writer,
            stdin=SizedPieces(pieces, item.entry.size),
        )
        if content.fault is not None:
            raise content.fault
        self._tracker.add_files()

    async def _in_batches(self, body: str, words: Sequence[bytes | str], each: int, what: str) -> None:
        for at in range(0, len(words), each * _BATCH):
            await self._remote.run(script(body, *words[at : at + each * _BATCH]), what=what)

    def _there(self, item: Item) -> bytes:
        return os.path.join(self._stage, item.entry.name)

    # -- large files -------------------------------------------------------------------------------------------------

    async def _send_runs(self, items: Sequence[Item], resume: bool) -> None:
        work = []
        for item in items:
            runs = runs_of(item.entry.size, self._options.parallel)
            have: set[Run] = set()
            if resume and self._algorithm is not None:
                have = await self._runs_there(item, runs)
            await self._remote.run(script(SIZE, self._there(item), str(item.entry.size)), what="making a large file")
            work += [partial(self._send_run, item, run) for run in runs if run not in have]
        await gather(work, self._options.parallel)
        for item in items:
            check_unchanged(item)
            item.sent = Received(item.entry.size, None)
            self._tracker.add_files()

    async def _runs_there(self, item: Item, runs: Sequence[Run]) -> set[Run]:
        """The runs that are complete there, by their digests."""
        assert self._algorithm is not None
        words = [str(number) for run in runs for number in run]
        answer = await self._remote.run(
            script(SUMS, self._there(item), ALGORITHMS[self._algorithm], *words), what=ALGORITHMS[self._algorithm]
        )
        there = [line.split()[0].decode() for line in answer.splitlines() if line.strip()]
        here = self._digest(item, runs)
        have = {run for run, mine, theirs in zip(runs, here, there, strict=False) if mine == theirs}
        self.report.resumed_bytes += sum(length(item, run) for run in have)
        return have

    async def _send_run(self, item: Item, run: Run) -> None:
        first, count = run
        checksum = None if self._algorithm is None else new_checksum(self._algorithm)
        tool = "-" if self._algorithm is None else ALGORITHMS[self._algorithm]
        body = STORE % unpacker(self._options.compression)
        self.report.connections += 1

        def pieces() -> Iterator[memoryview]:
            room = memoryview(bytearray(_ROOM))
            content = LocalFile(item.source.root, item.parts, item.entry, digest=None, progress=self._tracker.add_bytes)
            try:
                at, end = first * MIB, first * MIB + length(item, run)
                while at < end:
                    piece = room[: min(_ROOM, end - at)]
                    if content.readinto(at, piece) < len(piece):
                        raise changed(item)
                    if checksum is not None:
                        checksum.update(piece)
                    at += len(piece)
                    yield piece
            finally:
                content.close()

        answer = await self._remote.run(
            script(body, self._there(item), str(first), str(count), tool),
            what="dd",
            stdin=SizedPieces(compressed(pieces(), self._options.compression), length(item, run)),
        )
        if checksum is not None and answer.split()[:1] != [checksum.hexdigest().encode()]:
            raise mismatch([os.fsdecode(item.entry.name)], str(self._algorithm))

    def _digest(self, item: Item, runs: Sequence[Run]) -> list[str]:
        """Digests of parts of a local file."""
        assert self._algorithm is not None
        room = memoryview(bytearray(MIB))
        content = LocalFile(item.source.root, item.parts, item.entry, digest=None)
        digests = []
        try:
            for run in runs:
                checksum = new_checksum(self._algorithm)
                at, end = run[0] * MIB, run[0] * MIB + length(item, run)
                while at < end:
                    got = content.readinto(at, room[: min(MIB, end - at)])
                    if not got:
                        raise changed(item)
                    checksum.update(room[:got])
                    at += got
                digests.append(checksum.hexdigest())
        finally:
            content.close()
        return digests

    # -- the end -----------------------------------------------------------------------------------------------------

    async def _finish(self, large: Sequence[Item]) -> None:
        """What can be done only when every file is there: further names of files, modes and times."""
        preserve = self._options.preserve
        plain = [] if self._tar else [item for item in self._items if item.entry.kind is Kind.FILE]
        links = [item for item in self._items if item.entry.kind is Kind.HARDLINK]
        words: list[bytes | str] = []
        for item in links:
            words += [self._there(item), os.path.join(self._stage, item.entry.target)]
        await self._in_batches(LINK, words, 2, "ln")
        words = []
        directories = [item for item in self._items if item.entry.kind is Kind.DIRECTORY]
        for item in [*plain, *large, *reversed(directories)]:
            mode = f"{self._shown(item.entry).mode & 0o7777:04o}" if "chmod" in self._tools.names else "-"
            seconds = str(item.entry.mtime // 10**9) if preserve.times and "touch" in self._tools.names else "-"
            words += [self._there(item), mode, seconds]
        await self._in_batches(TOUCH, words, 3, "setting modes and times")

    async def _compare_names(self) -> None:
        """Everything is there, links and directories too, and nothing else: what an earlier attempt left goes."""
        listed = await list_tree(self._remote, self._stage, [b""], self._options.limits)
        there = {entry.name for entry in listed} - {b"", b"."}
        wanted = {item.entry.name for item in self._items}
        if wanted - there:
            raise mismatch([os.fsdecode(name) for name in sorted(wanted - there)], "absence")
        words = [os.path.join(self._stage, name) for name in sorted(there - wanted)]
        for at in range(0, len(words), _BATCH):
            await self._remote.run(script(REMOVE, *words[at : at + _BATCH]), what="rm")

    async def _verify(self, items: Sequence[Item]) -> None:
        """Compare what is there with what was sent. Large files were compared run by run."""
        report = self.report
        began = time.monotonic()
        if self._tools.lists:
            await self._compare_names()
        self._tracker.phase("verify", sum(item.entry.size for item in items), len(items))
        wanted = {item.entry.name: item for item in items}
        wrong: list[str] = []
        if self._algorithm is not None and wanted:
            there = await manifest(self._remote, self._stage, [b""], self._algorithm, wanted.__contains__)
            for name, item in wanted.items():
                assert item.sent is not None
                if there.get(name, ("", None))[0] != item.sent.digest:
                    wrong.append(os.fsdecode(name))
        elif report.verification == "sizes" and wanted:
            sizes = {e.name: e.size for e in await list_tree(self._remote, self._stage, [b""], self._options.limits)}
            wrong = [os.fsdecode(name) for name, item in wanted.items() if sizes.get(name) != item.entry.size]
        if report.verification in ("none", "sizes"):
            report.unverified = report.files
        report.verify_seconds += time.monotonic() - began
        if wrong:
            raise mismatch(wrong, report.verification)

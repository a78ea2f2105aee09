"""From a container to this machine.

Theory of operation
===================

As ``upload``, with the sides exchanged: everything goes to a directory beside the target, written by ``Extractor``
under its policy, is compared with the digests that the container computes of its files, and is then moved to its
place, each file by one rename.

Where the container can list its files (``find`` and ``stat``), the list comes first: it gives totals, tells large
files, which come in runs over several connections, and hard links, which are made here and not sent. What is left
comes as tar streams of just these names, or, without tar, by one command for each file. Where it cannot, one tar
stream of everything has to do.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from kubeletclient.copy.common import attempts, mismatch, stage_name
from kubeletclient.copy.compress import check_compression
from kubeletclient.copy.directories import Parts, Root, local_failure
from kubeletclient.copy.entries import SPECIAL, Entry, Kind
from kubeletclient.copy.errors import BadPath, CopyError, NoStrategy, SourceMissing
from kubeletclient.copy.fetch import Source, Transfer
from kubeletclient.copy.options import CopyOptions
from kubeletclient.copy.place import place
from kubeletclient.copy.remote import Records, Remote, Tools, list_tree, manifest, probe
from kubeletclient.copy.report import CopyReport, Tracker
from kubeletclient.copy.scripts import GLOB, SHOW, script
from kubeletclient.copy.specs import has_glob, split_remote

__all__ = ["Download"]

_STREAM_FILES: Final = 2000  # as in upload
_BATCH: Final = 100


class Download:
    """One copy out of a container; see the module's theory of operation."""

    def __init__(
        self, remote: Remote, sources: Sequence[bytes], target: bytes, options: CopyOptions, tracker: Tracker
    ) -> None:
        self.remote = remote
        self._given = list(sources)
        self._target = target
        self.options = options
        self.tracker = tracker
        self.report = CopyReport("out", [os.fsdecode(each) for each in sources], os.fsdecode(target))
        self._sources: list[Source] = []
        self.algorithm: str | None = None
        self.tools: Tools
        self.tar = False
        self.reader = ""
        self._base: Root
        self._local: _Target
        self._stage_name = b""

    async def run(self) -> CopyReport:
        """Do all of it. Raises CopyError and what ``Pod.run`` raises; ``report`` then says how far things came."""
        tries = partial(attempts, options=self.options, report=self.report, tracker=self.tracker)
        try:
            await tries(lambda resume: self._prepare())
            await tries(lambda resume: self._list())
            if self.options.dry_run:
                self.report.dry_run = True
                return self.report
            try:
                self._base = Root(self._local.base)
            except OSError as error:
                raise local_failure(error, self._local.base) from error
            with self._base:
                await tries(self._attempt)
            self.report.leftover = None
        finally:
            self.report.route, self.report.transport = self.remote.route, self.remote.transport
        return self.report

    # -- what is to be done ------------------------------------------------------------------------------------------

    async def _prepare(self) -> None:
        paths = await self._expand()
        if self.options.strategy == "compat":
            self.tools = tools = Tools(frozenset({"tar"}), "other", False, None, False)
        else:
            self.tools = tools = await probe(self.remote, paths)
        self._choose_strategy(tools)
        missing = [path for path, kind in zip(paths, tools.paths, strict=False) if kind == "missing"]
        if missing:
            raise SourceMissing(f"{os.fsdecode(missing[0])!r} does not exist in the container", hint="check its path")
        for path, kind in zip(paths, tools.paths, strict=False):
            if kind == "other":
                raise BadPath(
                    f"{os.fsdecode(path)!r} in the container is neither a file nor a directory",
                    hint="a FIFO, a socket or a device is not copied: read it by a command of your own",
                )
        self._local = target = _local_target(self._target)
        self._sources.clear()
        if not target.inside and (len(paths) > 1 or self._target.endswith(b"/")):
            raise BadPath(
                f"the target {os.fsdecode(self._target)!r} is no directory",
                hint="make it first: several sources, and a target with a slash at its end, need one",
            )
        for path in paths:
            base, name = split_remote(path)
            self._sources.append(Source(base, name or b".", name if target.inside else target.name))
            if self.options.strategy == "compat":
                self._sources[-1].prefix = os.path.dirname(path.rstrip(b"/")).lstrip(b"/")
        finals = [source.final for source in self._sources]
        if len(set(finals)) < len(finals):
            raise BadPath("two sources have the same name at the target", hint="copy them one after another")
        self._stage_name = stage_name(*paths, _absolute(self._target))
        self.algorithm = tools.digest(self.options.verify)
        self.report.verification = self.algorithm or (
            "sizes" if self.options.verify != "none" and tools.lists else "none"
        )

    async def _expand(self) -> list[bytes]:
        if not any(map(has_glob, self._given)):
            return self._given
        found: list[bytes] = []
        patterns = [pattern.replace(b"//", b"/") for pattern in self._given]
        records = Records(b"//\n", found.append, 1 << 16, b"end")
        await self.remote.run(script(GLOB, *patterns), what="expanding wildcards", stdout=records)
        records.check()
        if not found:
            raise SourceMissing(
                f"nothing in the container matches {' '.join(map(os.fsdecode, self._given))}",
                hint="wildcards are the container's shell's; quote them from your own",
            )
        return found

    def _choose_strategy(self, tools: Tools) -> None:
        wanted = self.options.strategy
        self.reader = next((tool for tool in SHOW if tool in tools.names), "")
        self.tar = tools.tar is not None and wanted != "files"
        if wanted == "tar" and tools.tar is None:
            raise NoStrategy("the container has no tar", hint="--strategy=auto uses what is there")
        if not self.tar and not (tools.shell and self.reader):
            raise NoStrategy(
                f"the container has nothing that could read a file; looked for tar, {', '.join(SHOW)} and sh",
                hint="copy through an ephemeral container with tools (kubectl debug)",
            )
        check_compression(self.options.compression, tools)
        self.report.compression = self.options.compression
        self.report.strategy = f"tar ({tools.tar})" if self.tar else f"files ({self.reader})"
        if wanted == "compat":
            self.report.strategy = "compat (tar cf -)"

    async def _list(self) -> None:
        self.tracker.phase("scan")
        report = self.report
        report.files = report.directories = report.links = report.bytes = report.skipped_count = 0
        report.skipped.clear()
        for index, source in enumerate(self._sources):
            if self.tools.lists and self.options.preserve.links != "follow":
                wanted = partial(self.wanted, source)
                source.entries = await list_tree(self.remote, source.base, [source.name], self.options.limits, wanted)
                for entry in source.entries:
                    self.count(entry)
            elif not self.tar:
                if self.tools.paths[index] != "file":
                    raise NoStrategy(
                        "the container has no tar, and no find and stat either: only single files can be copied",
                        hint="name each file",
                    )
                source.entries = [Entry(source.name, Kind.FILE, size=-1)]
                report.files += 1

    def wanted(self, source: Source, entry: Entry) -> bool:
        """Whether the user wants it; what cannot be copied is noted."""
        if entry.kind in SPECIAL:
            self.report.skip(os.fsdecode(entry.name), f"a {entry.kind.value} is not copied")
            return False
        below = entry.name if source.name == b"." else entry.name[len(source.name) + 1 :]
        if not below:
            return True
        parts = below.split(b"/")
        kept = self.options.filter
        return all(kept(b"/".join(parts[:count]), True) for count in range(1, len(parts))) and kept(
            below, entry.kind is Kind.DIRECTORY
        )

    def count(self, entry: Entry) -> None:
        """Count it in the report."""
        report = self.report
        report.files += entry.kind is Kind.FILE
        report.directories += entry.kind is Kind.DIRECTORY
        report.links += entry.kind in (Kind.SYMLINK, Kind.HARDLINK)
        report.bytes += max(entry.size, 0)

    # -- one attempt -------------------------------------------------------------------------------------------------

    async def _attempt(self, resume: bool) -> None:
        report, base, name = self.report, self._base, self._stage_name
        known = all(source.entries is not None for source in self._sources)
        if not known:
            report.files = report.directories = report.links = report.bytes = report.skipped_count = 0
            report.skipped.clear()
        resume = resume and known  # else nobody could tell what else an earlier attempt has left
        report.leftover = os.path.join(os.path.dirname(os.fsdecode(_absolute(self._target))), os.fsdecode(name))
        with self._open_stage(resume) as stage:
            self.tracker.phase("transfer", report.bytes if known else None, report.files if known else None)
            expected: set[Parts] = set()
            for source in self._sources:
                source.received.clear()
                began = time.monotonic()
                transfer = Transfer(self, source, stage, resume)
                await transfer.run()
                for entry in source.entries or ():
                    parts = transfer.parts(entry.name)
                    expected.update(parts[:count] for count in range(1, len(parts) + 1))
                report.transfer_seconds += time.monotonic() - began
            await self._verify()
            self.tracker.phase("place")
            try:
                if known:
                    _prune(stage, expected)
                place(stage, base)
                base.remove((name,))
            except OSError as error:
                raise local_failure(error, self._target) from error

    def _open_stage(self, resume: bool) -> Root:
        """The working directory, locked: another copy of the same source to the same target would write into it."""
        base, name = self._base, self._stage_name
        try:
            if base.lstat((name,)) is not None:
                with Root(name, dir_fd=base.fd) as old:
                    _lock(old)  # it is in use as long as this fails
                    ours = os.fstat(old.fd).st_uid == os.geteuid()
                if not (resume and ours):
                    base.remove((name,))
            if base.lstat((name,)) is None:
                os.mkdir(name, 0o700, dir_fd=base.fd)
            stage = Root(name, dir_fd=base.fd)
        except OSError as error:
            raise local_failure(error, self._target) from error
        try:
            _lock(stage)
        except BaseException:
            stage.close()
            raise
        return stage

    async def _verify(self) -> None:
        report = self.report
        began = time.monotonic()
        total = sum(each.size for source in self._sources for each in source.received.values())
        self.tracker.phase("verify", total, sum(len(source.received) for source in self._sources))
        wrong: list[str] = []
        for source in self._sources:
            received = source.received
            if self.algorithm is not None and received:
                there = await manifest(
                    self.remote,
                    source.base,
                    [source.name],
                    self.algorithm,
                    received.__contains__,
                    follow=self.options.preserve.links == "follow",
                )
                wrong += [
                    os.fsdecode(name)
                    for name, each in received.items()
                    if there.get(name, ("", None))[0] != each.digest
                ]
            elif report.verification == "sizes" and source.entries is not None:
                sizes = {entry.name: entry.size for entry in source.entries}
                wrong += [os.fsdecode(name) for name, each in received.items() if sizes.get(name) != each.size]
        if report.verification in ("none", "sizes"):
            report.unverified = report.files
        report.verify_seconds += time.monotonic() - began
        if wrong:
            raise mismatch(wrong, report.verification)


@dataclass(frozen=True, slots=True)
class _Target:
    base: bytes
    name: bytes
    inside: bool


def _local_target(path: bytes) -> _Target:
    if os.path.isdir(path):
        return _Target(path, b"", True)
    base, name = os.path.split(path.rstrip(b"/") or b"/")
    return _Target(base or b".", name, False)


def _absolute(path: bytes) -> bytes:
    return os.path.abspath(path)


def _lock(stage: Root) -> None:
    try:
        fcntl.flock(stage.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise CopyError(
            "another copy of the same source to the same target is running", hint="wait for it, or end it"
        ) from None


def _prune(stage: Root, expected: set[Parts], parts: Parts = ()) -> None:
    """Remove what an earlier attempt left and this one does not have."""
    for name in os.listdir(stage.directory(parts)):
        below = (*parts, os.fsencode(name))
        if below not in expected:
            stage.remove(below)
        elif stage.is_directory(below):
            _prune(stage, expected, below)

"""The container's side of a copy: which tools it has, and commands in it whose failure is an error with its reason."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from kubeletclient import errors
from kubeletclient.copy.checksums import ALGORITHMS
from kubeletclient.copy.entries import Entry, Kind, TreeLimits
from kubeletclient.copy.errors import ArchiveError, NoStrategy, RemoteToolFailed, VerificationFailed
from kubeletclient.copy.scan import FORMATS
from kubeletclient.copy.scripts import LIST, MANIFEST, PROBE, PROBED, script
from spdyproto.text import printable

__all__ = ["Kept", "Records", "Remote", "Tools", "list_tree", "manifest", "probe", "probe_compat"]

_STDERR_KEPT: Final = 4096
_ESCAPED: Final = re.compile(rb"\\(.)", re.DOTALL)
_LINE: Final = re.compile(rb"([0-9a-f]+) (\d+) (-?\d+) (\d+) (\d+) (\d+) (\S+) ")


class Runner(Protocol):
    """What a copy needs of ``kubeletclient.aio.Pod``."""

    async def run(
        self,
        args: Sequence[str],
        *,
        container: str | None,
        stdin: Any,  # noqa: ANN401 - as Pod.run
        stdout: Any,  # noqa: ANN401 - as Pod.run
        stderr: Any,  # noqa: ANN401 - as Pod.run
        timeout: float | None,
    ) -> Any:  # noqa: ANN401 - Completed
        """As ``Pod.run``."""

    def popen(
        self,
        args: Sequence[str],
        *,
        container: str | None,
        stderr: Any,  # noqa: ANN401 - as Pod.popen
        timeout: float | None,
    ) -> Any:  # noqa: ANN401 - Opening
        """As ``Pod.popen``."""


class Kept:
    """An output whose beginning is kept, however much there is: tools may complain about each of a million files."""

    def __init__(self, limit: int = _STDERR_KEPT) -> None:
        self._limit = limit
        self._kept = bytearray()

    def __call__(self, data: memoryview) -> None:
        """Take the next bytes."""
        if len(self._kept) < self._limit:
            self._kept += data[: self._limit - len(self._kept)]

    @property
    def value(self) -> bytes:
        """What was kept."""
        return bytes(self._kept)


class Remote:
    """Runs commands in one container, and remembers how it was reached."""

    def __init__(self, pod: Runner, container: str | None, timeout: float | None = None) -> None:
        self._pod = pod
        self._container = container
        self._timeout = timeout
        self.route = ""
        self.transport = ""
        self.search_first: str | None = None
        """A directory of the container whose programs stand before its own, for scripts."""

    async def run(
        self,
        words: Sequence[str],
        *,
        what: str,
        stdin: object = None,
        stdout: Callable[[memoryview], object] | None = None,
        stderr: Kept | None = None,
    ) -> bytes:
        """Run a command to its end; the answer is its stdout, unless ``stdout`` takes it (else at most 64 KiB).

        Raises RemoteToolFailed when it fails, with what it said; everything else as ``Pod.run``.
        """
        said = stderr or Kept()
        words = self._words(words)
        kept = Kept(1 << 16) if stdout is None else None
        done = await self._pod.run(
            words,
            container=self._container,
            stdin=stdin,
            stdout=stdout or kept,
            stderr=said,
            timeout=self._timeout,
        )
        self.route, self.transport = done.route, done.transport
        if done.returncode:
            raise self.failure(what, done.returncode, said)
        return kept.value if kept is not None else b""

    def open(self, words: Sequence[str], *, stderr: Kept) -> Any:  # noqa: ANN401 - Opening
        """Start a command whose stdout is a pipe, as ``Pod.popen``."""
        return self._pod.popen(self._words(words), container=self._container, stderr=stderr, timeout=self._timeout)

    def _words(self, words: Sequence[str]) -> Sequence[str]:
        if self.search_first is None or words[:2] != ["sh", "-c"]:
            return words
        return [*words[:2], f"PATH='{self.search_first}':$PATH\n{words[2]}", *words[3:]]

    def failure(self, what: str, code: int, said: Kept) -> RemoteToolFailed:
        """The error for a command that ended with another code than 0."""
        text = printable(said.value.decode("utf-8", "replace").strip(), limit=500)
        return RemoteToolFailed(
            f"{what} failed in the container with exit code {code}: {text or 'it said nothing'}",
            hint=_advice(text),
            route=self.route,
        )


def _advice(text: str) -> str:
    known = {
        "No space left": "free space in the container; what had come is kept for --resume",
        "Read-only file system": "the target is mounted read-only: choose another one",
        "ermission denied": "the container's user may not do that: choose another target",
        "No such file": "check the path inside the container",
    }
    return next((hint for mark, hint in known.items() if mark in text), "the target keeps what it had")


@dataclass(frozen=True, slots=True)
class Tools:
    """What was found in a container."""

    names: frozenset[str]
    tar: str | None
    """``gnu``, ``busybox``, ``bsdtar``, ``other``, or None."""

    shell: bool
    uid: int | None
    fullblock: bool
    paths: tuple[str, ...] = ()
    """For each path asked about, links followed: ``directory``, ``file`` (a regular one), ``other`` (a FIFO, a socket
    or a device, whose reading may wait for ever), ``link`` (to nothing) or ``missing``. Empty without a shell.
    """

    def digest(self, wanted: str) -> str | None:
        """The digest to verify with: the one wanted, or for ``auto`` the cheapest that is there; None without one.

        Raises NoStrategy when a digest was asked for by name that the container cannot compute.
        """
        if wanted == "none":
            return None
        possible = self.shell and "find" in self.names
        if wanted == "auto":
            return next((name for name, tool in ALGORITHMS.items() if possible and tool in self.names), None)
        if possible and ALGORITHMS[wanted] in self.names:
            return wanted
        raise NoStrategy(
            f"the container cannot compute {wanted}: it needs sh, find and {ALGORITHMS[wanted]}",
            hint="choose another digest, or --verify=auto for the best that is there",
        )

    @property
    def tar_command(self) -> str:
        """What to call tar by."""
        return "tar" if "tar" in self.names else "bsdtar"

    @property
    def lists(self) -> bool:
        """Whether a tree can be listed with sizes and times."""
        return self.shell and {"find", "stat"} <= self.names


async def probe(remote: Remote, paths: Iterable[bytes] = ()) -> Tools:
    """Ask the container what it has. Raises NoStrategy for one in which nothing runs that a copy could use."""
    try:
        answer = await remote.run(script(PROBE, *paths), what="looking for tools")
    except (errors.RemoteError, RemoteToolFailed) as error:
        if isinstance(error, RemoteToolFailed) and "exit code 12" not in str(error):  # 126, 127: not to be run
            raise
        return await _without_shell(remote, error)
    return read_probe(answer)


async def probe_compat(remote: Remote, paths: Sequence[bytes] = ()) -> Tools:
    """What kubectl cp asks: whether the first path is a directory. A container without ``test`` says no to that."""
    kinds = ["missing", *["directory"] * (len(paths) - 1)]
    try:
        await remote.run(["test", "-d", os.fsdecode(paths[0])], what="test")
        kinds[0] = "directory"
    except (errors.RemoteError, RemoteToolFailed):
        pass
    return Tools(frozenset({"tar"}), "other", False, None, False, tuple(kinds))


async def _without_shell(remote: Remote, error: Exception) -> Tools:
    for tar in ("tar", "bsdtar"):
        try:
            answer = await remote.run([tar, "--version"], what="asking tar for its version")
        except (errors.RemoteError, RemoteToolFailed):
            continue
        return Tools(frozenset({tar}), _tar_kind(answer), False, None, False)
    raise NoStrategy(
        "the container has neither a shell nor tar; looked for sh, tar and bsdtar",
        hint="copy through an ephemeral container with tools (kubectl debug), or add busybox to the image",
    ) from error


def read_probe(answer: bytes) -> Tools:
    """What the probe's answer says. Raises VerificationFailed for a part of one."""
    if not answer.endswith(b"\nend\n"):
        raise cut_off("list of tools")
    found, _, rest = answer.partition(b"\ntar=")
    version, _, rest = rest.partition(b"\n\nuid=")
    uid, *flags = rest.split(b"\n")
    names = frozenset(found.decode("ascii", "replace").split("\n")) & frozenset(PROBED)
    tar = _tar_kind(version) if "tar" in names else ("bsdtar" if "bsdtar" in names else None)
    paths = tuple(flag[5:].decode("ascii", "replace") for flag in flags if flag.startswith(b"path="))
    return Tools(names, tar, True, int(uid) if uid.isdigit() else None, b"fullblock" in flags, paths)


def _tar_kind(version: bytes) -> str:
    for mark, kind in ((b"GNU tar", "gnu"), (b"BusyBox", "busybox"), (b"busybox", "busybox"), (b"bsdtar", "bsdtar")):
        if mark in version:
            return kind
    return "other"


# -- lists of the container's files ----------------------------------------------------------------------------------


class Records:
    """Gathers an output whose records end in a mark, and hands each on."""

    def __init__(self, mark: bytes, take: Callable[[bytes], None], limit: int, end: bytes | None = None) -> None:
        """``end`` is the record that comes last, and is not handed on."""
        self._mark, self._take, self._limit, self._end = mark, take, limit, end
        self._carry = b""
        self._ended = False

    def __call__(self, data: memoryview) -> None:
        """Take the next bytes. Raises ArchiveError for a record without an end."""
        *records, self._carry = (self._carry + bytes(data)).split(self._mark)
        for record in records:
            if record == self._end:
                self._ended = True
            else:
                self._take(record)
        if len(self._carry) > self._limit:
            raise ArchiveError(
                f"the container listed a name of more than {self._limit} bytes", hint="do not trust this container"
            )

    def check(self) -> None:
        """Raises VerificationFailed where the last record did not come."""
        if not self._ended:
            raise cut_off("list")


def cut_off(what: str) -> VerificationFailed:
    """An answer without its end, of a command that succeeded all the same."""
    return VerificationFailed(
        f"the container's {what} came without its end, though the command succeeded",
        hint="its runtime loses output; another attempt may get all of it",
    )


async def list_tree(
    remote: Remote,
    base: bytes,
    names: Sequence[bytes],
    limits: TreeLimits,
    wanted: Callable[[Entry], bool] = lambda entry: True,
) -> list[Entry]:
    """Everything ``wanted`` at and below ``base/name``, each name relative to ``base``. Symbolic links have no target
    yet; a further name of the same file is a hard link to the first.

    Raises RemoteToolFailed where the container cannot read something, ArchiveError for what crosses the limits.
    """
    entries: list[Entry] = []
    seen: dict[bytes, bytes] = {}

    def take(record: bytes) -> None:
        match = _LINE.match(record)
        if match is None:
            raise ArchiveError(f"the container's list holds {record[:80]!r}", hint="its stat writes a form of its own")
        mode, size, mtime = int(match[1], 16), int(match[2]), max(0, int(match[3]))
        name = record[match.end() :].removeprefix(b"./")
        kind = FORMATS.get(mode & 0o170000, Kind.SOCKET)
        entry = Entry(
            name,
            kind,
            mode & 0o7777,
            size if kind is Kind.FILE else 0,
            mtime * 10**9,
            int(match[4]),
            int(match[5]),
        )
        if not wanted(entry):
            return
        entries.append(entry)
        if kind is Kind.FILE and match[6] != b"1":
            first = seen.setdefault(match[7], name)
            if first is not name:
                entries[-1].kind, entries[-1].target, entries[-1].size = Kind.HARDLINK, first, 0
        if len(entries) > limits.entries:
            raise ArchiveError(f"more than {limits.entries} entries", hint="if you trust it, raise the limit by name")

    records = Records(b"//\n", take, 2 * limits.path, b"end")
    paths = [b"./" + name for name in names]
    await remote.run(script(LIST, base, *paths), what="listing the files", stdout=records)
    records.check()
    return entries


async def manifest(
    remote: Remote,
    base: bytes,
    names: Sequence[bytes],
    algorithm: str,
    known: Callable[[bytes], bool],
    *,
    follow: bool = False,
) -> dict[bytes, tuple[str, int | None]]:
    """Digest, and size where the tool tells it, of every file at and below ``base/name``, by name relative to ``base``.

    Tools end a line with the name and do not care about newlines in it, so a name goes on until it is one that is
    ``known``; what never becomes known is dropped.
    """
    found: dict[bytes, tuple[str, int | None]] = {}
    reader = _Digests(algorithm, known, found)
    tool = ALGORITHMS[algorithm]
    paths = [b"./" + name for name in names]
    await remote.run(
        script(MANIFEST, base, tool, "-L" if follow else "", *paths),
        what=tool,
        stdout=Records(b"\n", reader.line, 1 << 16),
    )
    return found


class _Digests:
    """Reads the lines of ``cksum`` (number, size, name) and of ``sha256sum`` and its kin (hexadecimal, name, escaped by
    GNU's when the line begins with a backslash).
    """

    def __init__(
        self, algorithm: str, known: Callable[[bytes], bool], found: dict[bytes, tuple[str, int | None]]
    ) -> None:
        self._form = re.compile(
            rb"(\d+) (\d+) (.*)" if algorithm == "cksum" else rb"(\\?)([0-9a-f]+) [ *](.*)", re.DOTALL
        )
        self._cksum = algorithm == "cksum"
        self._known, self._found = known, found
        self._open = b""

    def line(self, line: bytes) -> None:
        match = self._form.fullmatch(line)
        if match is None or not match[3].startswith(b"./"):
            if self._open and len(self._open) < 1 << 16:
                self._try(self._open + b"\n" + line)
            return
        self._try(line)

    def _try(self, line: bytes) -> None:
        match = self._form.fullmatch(line)
        assert match is not None
        name = match[3].removeprefix(b"./")
        if not self._cksum and match[1]:
            name = _ESCAPED.sub(lambda found: b"\n" if found[1] == b"n" else found[1], name)
        if self._known(name):
            self._found[name] = (match[1].decode(), int(match[2])) if self._cksum else (match[2].decode(), None)
            self._open = b""
        else:
            self._open = line

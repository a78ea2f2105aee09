"""Container logs: what a runtime writes into a log file, and how a kubelet reads it back.

A ``ContainerLog`` is the file of one instance of a container. The runtime (containerd) cuts each output into lines and
gives each the time at which it was complete; a line of more than 16 KiB becomes several entries, all but the last of
them tagged as partial. A kubelet reads entries: those of one line come out as one line with one timestamp, but each
counts for ``tailLines``. Only the file of the moment is read, so what was rotated away is gone.

Here the output of a process is kept as it was written, and cut into lines by whoever reads: a process that writes a
gigabyte costs no line. Entries that are scripted, or come from the text of a log file, are kept as such.

Everything runs on the server's loop.

Sources: ``cri-client: pkg/logs/logs.go`` (reading); ``containerd: internal/cri/io/logger.go`` (writing).
"""

from __future__ import annotations

import asyncio
import datetime
import json
import re
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from fakekubelet.gojson import quoted
from spdyproto.types import Buffer

Stream = Literal["stdout", "stderr"]

LINE = 16 * 1024
"""Bytes of an entry; the rest of a longer line goes into entries of its own."""

LOG_SIZE = 1024 * 1024
"""Bytes after which a log is rotated, unless the container says otherwise. A kubelet's default is 10 MiB; this is what
one chatty container may cost in memory."""

_PIECE = 32 * 1024  # bytes that a reader gets at once
_TURN = 2000  # entries after which others have their turn
_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class LogLine:
    """One entry of a scripted log: ``text`` without its line feed. ``time`` None is the moment at which it comes.

    ``partial``: the line goes on in the next entry of the same stream.
    """

    text: str | bytes
    stream: Stream = "stdout"
    time: datetime.datetime | None = None
    partial: bool = False


class LogFailure(Exception):
    """Raised by a scripted log in place of a line: reading fails here, and the reader is told so in the body."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the file. ``data`` ends with a line feed unless the line goes on; ``stamp`` is how its time was
    written, with nine digits. A line that could not be read has no stream."""

    time: int
    stream: Stream | Literal[""]
    data: bytes
    stamp: str = ""

    def prefix(self) -> bytes:
        """What ``timestamps=true`` puts before a line."""
        return f"{self.stamp or format_time(self.time)} ".encode()


@dataclass(frozen=True, slots=True)
class LogOptions:
    """What of a log is wanted, and how: the parameters of ``containerLogs``."""

    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail: int | None = None
    since: int | None = None
    """Nanoseconds since 1970."""
    limit: int | None = None
    """Bytes of output, prefixes included."""
    streams: frozenset[str] = frozenset(("stdout", "stderr"))


def format_time(nanoseconds: int) -> str:
    """RFC 3339 with nine digits, in UTC."""
    seconds, fraction = divmod(nanoseconds, _SECOND)
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"


_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:[.,](\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)", re.ASCII)


def parse_time(text: str) -> tuple[int, str]:
    """Nanoseconds since 1970 of an RFC 3339 time, and the text with nine digits. Raises ValueError."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"not a time of RFC 3339: {text!r}")
    whole, fraction, zone = match[1], (match[2] or "").ljust(9, "0"), match[3]
    moment = datetime.datetime.fromisoformat(whole + ("+00:00" if zone == "Z" else zone))
    return int(moment.timestamp()) * _SECOND + int(fraction), f"{whole}.{fraction}{zone}"


# -- the file ----------------------------------------------------------------------------------------------------------

_Item = tuple[int, Stream, Buffer] | Entry  # output as it was written, or an entry


class _File:
    """What was written between two rotations."""

    __slots__ = ("items", "size")

    def __init__(self) -> None:
        self.items: list[_Item] = []
        self.size = 0


class ContainerLog:
    """The log of one instance of a container. ``limit`` is the size at which it is rotated."""

    def __init__(self, limit: int = LOG_SIZE) -> None:
        self._limit = limit
        self._file = _File()
        self._waiting: set[asyncio.Future[None]] = set()
        self.closed = False
        """Nothing more is written: the container has ended."""
        self.failure = ""
        """What reading fails with once everything was read."""

    def write(self, stream: Stream, data: Buffer) -> None:
        """Output of a process, cut anywhere. It is kept, not copied, if it cannot change."""
        if not isinstance(data, bytes) and not (isinstance(data, memoryview) and data.readonly):
            data = bytes(data)
        self._append((time.time_ns(), stream, data), memoryview(data).nbytes)

    def add(self, entry: Entry) -> None:
        """One entry."""
        self._append(entry, len(entry.data))

    def _append(self, item: _Item, size: int) -> None:
        file = self._file
        if file.size + size > self._limit and file.items:
            self._file = file = _File()
        file.items.append(item)
        file.size += size
        if self._waiting:
            self._wake()

    def close(self) -> None:
        """The container has ended: readers that follow come to an end."""
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, set()
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    # -- reading -----------------------------------------------------------------------------------------------------

    async def read(self, options: LogOptions) -> AsyncIterator[Buffer]:
        """The text of a log. With ``follow`` it goes on until the container has ended; a reader who is slower than the
        rotation misses what was rotated away in between."""
        writer = _Writer(options)
        # Lines that were complete at the same time need not be told apart unless they are counted or marked.
        reader = _Reader(self._file, blocks=options.tail is None and not options.timestamps)
        entries = reader.take(closed=self.closed)
        if options.tail is not None:
            entries = entries[-options.tail :] if options.tail else []
        while True:
            for start in range(0, len(entries), _TURN):
                for piece in writer.write(entries[start : start + _TURN]):
                    yield piece
                if writer.full:
                    break
                await asyncio.sleep(0)
            if not options.follow or writer.full:
                break
            entries = reader.take(closed=False)
            if entries:
                continue
            if reader.file is not self._file:
                reader.turn(self._file)
            elif self.closed:
                for piece in writer.write(reader.take(closed=True)):
                    yield piece
                break
            else:
                waiter = asyncio.get_running_loop().create_future()
                self._waiting.add(waiter)
                try:
                    await waiter
                finally:
                    self._waiting.discard(waiter)
        failure = writer.failure or ("" if writer.full else self.failure)
        if failure:
            yield failure.encode("utf-8", "surrogateescape")


class _Reader:
    """How far somebody has read, and the beginnings of lines that are not complete."""

    def __init__(self, file: _File, *, blocks: bool) -> None:
        self.file = file
        self._blocks = blocks
        self._next = 0
        self._begun: dict[Stream, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        self._last = 0

    def turn(self, file: _File) -> None:
        """Go on with another file."""
        self.file, self._next = file, 0

    def take(self, *, closed: bool) -> list[Entry]:
        """All entries since the last time; the beginning of a line only once the log is ``closed``. The runtime writes
        that as a fragment, so nothing ends it."""
        items = self.file.items
        found: list[Entry] = []
        while self._next < len(items):
            item = items[self._next]
            self._next += 1
            if isinstance(item, Entry):
                found.append(item)
            else:
                self._last = item[0]
                found += self._cut(*item)
        if closed:
            for stream, begun in self._begun.items():
                if begun:
                    found.append(Entry(self._last, stream, bytes(begun)))
                    begun.clear()
        return found

    def _cut(self, moment: int, stream: Stream, data: Buffer) -> Iterator[Entry]:
        begun = self._begun[stream]
        begun += data
        if len(begun) < LINE and b"\n" not in begun:
            return
        whole = bytes(begun)
        start = 0
        if self._blocks:
            start = whole.rfind(b"\n") + 1
            start += max(0, (len(whole) - start - 1) // LINE) * LINE
            if start:
                yield Entry(moment, stream, whole[:start])
        while not self._blocks:
            end = whole.find(b"\n", start, start + LINE + 1)
            if end >= 0:
                yield Entry(moment, stream, whole[start : end + 1])
                start = end + 1
            elif len(whole) - start > LINE:
                yield Entry(moment, stream, whole[start : start + LINE])
                start += LINE
            else:
                break
        del begun[:start]


@dataclass
class _Writer:
    """Turns entries into text."""

    options: LogOptions
    full: bool = False
    failure: str = ""
    _new_line: bool = True
    _first: bool = True
    _left: int | None = field(init=False)

    def __post_init__(self) -> None:
        self._left = self.options.limit

    def write(self, entries: Iterable[Entry]) -> Iterator[bytes]:
        """The text, in pieces of a good size."""
        options = self.options
        output = bytearray()
        for entry in entries:
            if not entry.stream:
                if self._first:  # the first line says which format it is
                    shown = quoted(entry.data.decode("utf-8", "replace"))
                    self.failure = f"failed to get parse function: unsupported log format: {shown}"
                    self.full = True
                    break
                continue
            self._first = False
            text = self._text(entry)
            self._new_line = not entry.data or entry.data.endswith(b"\n")
            if (options.since is not None and entry.time < options.since) or entry.stream not in options.streams:
                continue
            if self._left is not None:
                text = text[: self._left]
                self._left -= len(text)
            output += text
            if self._left == 0:
                self.full = True
                break
            if len(output) >= _PIECE:
                yield bytes(output)
                output.clear()
        if output:
            yield bytes(output)

    def _text(self, entry: Entry) -> bytes:
        return entry.prefix() + entry.data if self.options.timestamps and self._new_line else entry.data


# -- the text of a log file --------------------------------------------------------------------------------------------


def parse_log(text: str | bytes) -> list[Entry]:
    """The entries of a log file as a runtime wrote it: the format of CRI, or Docker's JSON.

    The first line decides which; lines that are not of that format are counted by the tail, and not shown. Raises
    ValueError if the first line is of neither.
    """
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    entries: list[Entry] = []
    parse = None
    for line in data.splitlines(keepends=True):
        if parse is None:
            parse = next((each for each in (_parse_cri, _parse_docker) if each(line) is not None), None)
            if parse is None:
                raise ValueError(f"neither a line of a CRI log nor of a Docker one: {line[:100]!r}")
        entries.append(parse(line) or Entry(0, "", line))
    return entries


def _parse_cri(line: bytes) -> Entry | None:
    """``TIME SP stdout|stderr SP TAGS SP TEXT LF``, the first of the tags P or F."""
    parts = line.split(b" ", 3)
    if len(parts) != 4 or parts[1] not in (b"stdout", b"stderr"):
        return None
    try:
        moment, stamp = parse_time(parts[0].decode("ascii"))
    except ValueError:
        return None
    partial = parts[2].split(b":")[0] == b"P"
    content = parts[3].removesuffix(b"\n") if partial else parts[3]
    return Entry(moment, "stdout" if parts[1] == b"stdout" else "stderr", content, stamp)


def _parse_docker(line: bytes) -> Entry | None:
    """``{"log": ..., "stream": ..., "time": ...}``"""
    try:
        document = json.loads(line)
        moment, stamp = parse_time(document["time"])
        text, stream = document["log"], document["stream"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(text, str) or stream not in ("stdout", "stderr"):
        return None
    return Entry(moment, "stdout" if stream == "stdout" else "stderr", text.encode("utf-8", "surrogatepass"), stamp)


def entry_of(line: LogLine | str | bytes) -> Entry:
    """A scripted line as an entry."""
    if not isinstance(line, LogLine):
        line = LogLine(line)
    data = line.text.encode("utf-8", "surrogateescape") if isinstance(line.text, str) else line.text
    moment = time.time_ns() if line.time is None else round(line.time.timestamp() * 1_000_000) * 1000
    return Entry(moment, line.stream, data if line.partial else data + b"\n")

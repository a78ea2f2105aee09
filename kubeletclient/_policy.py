"""What both drivers share: sizes, deadlines, where output goes and where stdin comes from.

Nothing here touches a socket. Sinks take views that die with the next read, so each either writes them out or copies.
"""

from __future__ import annotations

import io
import os
import select
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Final, Protocol, TypeAlias, cast

from kubeletclient.errors import DeadlineExceeded, OutputLimitExceeded
from spdyproto.limits import MIB
from spdyproto.types import Buffer

CAPTURE: Final = -101
"""Keep the output in memory, up to ``capture_limit``."""

PIPE: Final = -1
"""As ``subprocess.PIPE``: a stream for the caller to read or write while the command runs."""

DEVNULL: Final = -3
"""As ``subprocess.DEVNULL``: the output is asked for, read and thrown away; stdin is open and ends at once."""

STDOUT: Final = -2
"""As ``subprocess.STDOUT``. A remote command cannot share two outputs, so it is refused with a text that says so."""

FRAME: Final = 65528
"""Payload of one DATA frame: with its header it fills exactly four TLS records."""

BATCH: Final = 4 * FRAME
"""Stdin that is framed, encrypted and handed to the socket at once. One ``send`` for 256 KiB instead of one for
each record saves a quarter of the CPU time, on both ends; more brings little and costs memory.
"""

SLACK: Final = 4096
"""How much longer a batch may be when that finishes the piece: pieces of 256 KiB or 1 MiB, which is what callers
like to give, would leave a few bytes each for a batch, a record and a system call of their own.
"""

SCRATCH: Final = 256 * 1024
"""Size of a receive buffer. They belong to threads and loops, never to connections, so idle connections stay small."""

HIGH_WATER: Final = MIB
"""Bytes that wait in a pipe which nobody reads before the driver stops reading the socket. SPDY as Kubernetes
speaks it has no flow control for single streams, so this stops the whole connection.
"""

CAPTURE_LIMIT: Final = 64 * MIB
"""Default cap of captured output, for both outputs together: beyond it a file or a callback is the better place."""


FORWARD_BUFFER: Final = 16 * MIB
"""Bytes that may wait for the clients of one port-forward session that do not read."""

FORWARD_STALL: Final = 10.0
"""Seconds for which one of them may take nothing at all while others are held up because of it."""


@dataclass(slots=True)
class Deadline:
    """The caller's ``timeout``: an absolute time of the monotonic clock, or never."""

    at: float | None
    seconds: float = 0.0

    @classmethod
    def after(cls, seconds: float | None) -> Deadline:
        """``seconds`` from now; None never passes. Raises ValueError for a negative one or NaN."""
        if seconds is None:
            return cls(None)
        if not seconds >= 0:
            raise ValueError(f"a timeout is a number of seconds of at least 0, not {seconds!r}")
        return cls(time.monotonic() + seconds, seconds)

    def sooner(self, other: Deadline) -> Deadline:
        """The one that passes first."""
        if self.at is None or (other.at is not None and other.at < self.at):
            return other
        return self

    def left(self, limit: float | None = None) -> float | None:
        """Seconds until it passes, at least 0 and at most ``limit``; None when there is neither."""
        if self.at is None:
            return limit
        left = max(0.0, self.at - time.monotonic())
        return left if limit is None else min(left, limit)

    def passed(self) -> bool:
        """Whether the time is over."""
        return self.at is not None and time.monotonic() >= self.at

    def error(self, what: str) -> DeadlineExceeded:
        """The error for the caller when it has passed; ``what`` names what was being waited for."""
        error = DeadlineExceeded(
            f"the timeout of {self.seconds:g} s passed while waiting for {what}",
            hint="the command may still be running: a kubelet does not kill it when the client leaves",
        )
        error.timeout = self.seconds
        return error


NEVER: Final = Deadline(None)


# -- output ----------------------------------------------------------------------------------------------------------


class Sink(Protocol):
    """Takes the bytes of one output. ``feed`` gets views that are valid only during the call."""

    def feed(self, data: memoryview) -> None:
        """Take all of ``data``."""

    def partial(self) -> bytes | None:
        """What was kept so far; None for a sink that keeps nothing."""


class Budget:
    """The cap that the captured outputs of one command share."""

    __slots__ = ("left", "limit")

    def __init__(self, limit: int) -> None:
        if limit < 0:
            raise ValueError(f"capture_limit is a number of bytes of at least 0, not {limit!r}")
        self.limit = limit
        self.left = limit


class Capture:
    """Keeps the output in memory, within a budget."""

    __slots__ = ("_budget", "_kept")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._kept = io.BytesIO()

    def feed(self, data: memoryview) -> None:
        """Copy ``data``. Raises OutputLimitExceeded, with the bytes up to the limit kept."""
        budget = self._budget
        if len(data) > budget.left:
            self._kept.write(data[: budget.left])
            budget.left = 0
            raise OutputLimitExceeded(
                f"captured output crossed the limit of {budget.limit} bytes",
                hint="raise capture_limit=, or give stdout= a file or a function",
            )
        budget.left -= len(data)
        self._kept.write(data)

    def partial(self) -> bytes:
        """Everything kept so far, as one bytes object."""
        return self._kept.getvalue()


class Discard:
    """Throws the output away."""

    __slots__ = ()

    def feed(self, data: memoryview) -> None:
        """Take ``data`` and forget it."""

    def partial(self) -> None:
        """Nothing is kept."""


class CallSink:
    """Hands each piece to a function of the caller."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[[memoryview], object]) -> None:
        self._function = function

    def feed(self, data: memoryview) -> None:
        """Call the function. What it raises ends the session and reaches the caller as it is."""
        self._function(data)

    def partial(self) -> None:
        """Nothing is kept."""


class FileSink:
    """Writes to a file object of the caller, whole pieces, and flushes when the output ends (it never closes it)."""

    __slots__ = ("_file", "_write")

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._write = file.write

    def feed(self, data: memoryview) -> None:
        """Write all of ``data``: a raw file may take less than it was given, and a non-blocking one nothing."""
        written: int | None = self._write(data)
        while written is None or written < len(data):
            if written is None:
                _wait_writable(self._file.fileno())
            else:
                data = data[written:]
            written = self._write(data)

    def partial(self) -> None:
        """Nothing is kept."""

    def flush(self) -> None:
        """Push what the file object itself buffers."""
        flush = getattr(self._file, "flush", None)
        if flush is not None:
            flush()


class DescriptorSink:
    """Writes to a file descriptor, which stays open."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def feed(self, data: memoryview) -> None:
        """Write all of ``data``, waiting where the descriptor is non-blocking."""
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                _wait_writable(self._descriptor)

    def partial(self) -> None:
        """Nothing is kept."""


def _wait_writable(descriptor: int) -> None:
    poller = select.poll()
    poller.register(descriptor, select.POLLOUT)
    poller.poll()


OutputTarget: TypeAlias = int | IO[bytes] | Callable[[memoryview], object]
"""PIPE, CAPTURE, DEVNULL, a descriptor, a binary file object, or a function that takes each piece."""


def make_sink(name: str, target: OutputTarget, budget: Budget) -> Sink | None:
    """The sink that ``target`` asks for; None for PIPE, which each flavour builds itself.

    Raises TypeError or ValueError, naming the parameter, for what is no target.
    """
    if isinstance(target, bool):
        raise TypeError(f"{name}= takes PIPE, CAPTURE, DEVNULL, a descriptor, a binary file or a function, not a bool")
    if isinstance(target, int):
        return _special_sink(name, target, budget)
    if isinstance(target, io.TextIOBase):
        raise TypeError(f"{name}= needs a binary file: open it with 'wb', or use the .buffer of a text stream")
    if hasattr(target, "write"):
        return FileSink(cast("IO[bytes]", target))
    if callable(target):
        return CallSink(target)
    raise TypeError(f"{name}= takes PIPE, CAPTURE, DEVNULL, a descriptor, a binary file or a function, not {target!r}")


def _special_sink(name: str, target: int, budget: Budget) -> Sink | None:
    if target == PIPE:
        return None
    if target == CAPTURE:
        return Capture(budget)
    if target == DEVNULL:
        return Discard()
    if target == STDOUT:
        raise ValueError(
            f"{name}=STDOUT is not possible: the server sends the outputs apart, and their order is lost; "
            "give both the same function, or redirect in the command (sh -c '... 2>&1')"
        )
    if target < 0:
        raise ValueError(f"{name}={target} is not a file descriptor")
    return DescriptorSink(target)


# -- stdin -----------------------------------------------------------------------------------------------------------


def first_batch(data: memoryview, size: int) -> memoryview:
    """What to send of ``data`` at once: ``size`` bytes, or a little more if nothing is left then."""
    return data if len(data) <= size + SLACK else data[:size]


class Source(Protocol):
    """Where stdin comes from."""

    descriptor: int | None
    """A descriptor to poll before ``next_batch``, or None when ``next_batch`` does not wait (or cannot be polled)."""

    def next_batch(self, room: memoryview) -> Buffer | None:
        """Up to ``len(room)`` bytes, in ``room`` or elsewhere; empty at the end; None when there is nothing just
        now.
        """


class BytesSource:
    """Bytes of the caller, handed on as views: never copied, whatever their size."""

    __slots__ = ("_left", "descriptor")

    def __init__(self, data: Buffer) -> None:
        self._left = memoryview(data).cast("B")
        self.descriptor: int | None = None

    def next_batch(self, room: memoryview) -> Buffer:
        """The next slice."""
        batch = first_batch(self._left, len(room))
        self._left = self._left[len(batch) :]
        return batch


class FileSource:
    """A binary file object. Regular files are read as they are; pipes, sockets and terminals only when they are
    ready.
    """

    __slots__ = ("_into", "_read", "descriptor")

    def __init__(self, file: IO[bytes]) -> None:
        self.descriptor = _pollable(file)
        # At most one system call on a pipe or terminal: what is there counts, not a full buffer.
        into = getattr(file, "readinto1" if self.descriptor is not None else "readinto", None)
        into = into or getattr(file, "readinto", None)
        self._into: Callable[[memoryview], int | None] | None = into
        self._read = getattr(file, "read1", None) or file.read

    def next_batch(self, room: memoryview) -> Buffer | None:
        """One read."""
        if self._into is None:
            data = self._read(len(room))
            if isinstance(data, str):
                raise TypeError("stdin needs a binary file: open it with 'rb', or use the .buffer of a text stream")
            return data
        try:
            size = self._into(room)
        except BlockingIOError:
            return None
        return None if size is None else room[:size]


class IteratorSource:
    """Pieces of bytes from an iterable of the caller, of any size. The next one is asked for when the last has been
    framed and encrypted, so an iterable may fill one buffer again and again.
    """

    __slots__ = ("_constant", "_left", "_pieces", "descriptor")

    def __init__(self, pieces: Iterable[Buffer]) -> None:
        self._pieces: Iterator[Buffer] = iter(pieces)
        self._left = memoryview(b"")
        self._constant = True
        self.descriptor: int | None = None

    def next_batch(self, room: memoryview) -> Buffer:
        """The rest of the last piece, or the next piece; empty pieces are passed over.

        Drivers ask again before they send what does not fill a batch. What the caller may overwrite meanwhile is
        copied into ``room`` then; it is the smaller part of a batch.
        """
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._constant = isinstance(piece, bytes)
            self._left = memoryview(piece).cast("B")
        batch = first_batch(self._left, len(room))
        self._left = self._left[len(batch) :]
        if self._constant or len(batch) >= len(room):
            return batch
        room[: len(batch)] = batch
        return room[: len(batch)]


InputTarget: TypeAlias = int | Buffer | IO[bytes] | Iterable[Buffer] | None
"""None (no stdin), PIPE, DEVNULL, bytes, a descriptor, a binary file object, or an iterable of bytes."""


_NO_SOURCE: Final = "stdin takes PIPE, DEVNULL, bytes, a descriptor, a binary file or an iterable of bytes, not {}"


def make_source(stdin: InputTarget) -> Source | None:
    """The source that ``stdin`` asks for; None for None and PIPE. Raises TypeError or ValueError for what is none."""
    if stdin is None or (isinstance(stdin, int) and stdin == PIPE):
        return None
    if isinstance(stdin, bool | str | io.TextIOBase):
        raise TypeError(_NO_SOURCE.format(type(stdin).__name__))
    if isinstance(stdin, int):
        if stdin == DEVNULL:
            return BytesSource(b"")
        if stdin < 0:
            raise ValueError(f"stdin={stdin} is not a file descriptor")
        return FileSource(io.FileIO(stdin, "rb", closefd=False))
    if isinstance(stdin, bytes | bytearray | memoryview):
        return BytesSource(stdin)
    if hasattr(stdin, "read"):
        return FileSource(cast("IO[bytes]", stdin))
    if isinstance(stdin, Iterable):
        return IteratorSource(stdin)
    raise TypeError(_NO_SOURCE.format(type(stdin).__name__))


@dataclass(frozen=True, slots=True)
class SizedPieces:
    """An iterable of bytes whose sum is known, so that a bulk transfer can choose its transport."""

    pieces: Iterable[Buffer]
    size: int

    def __iter__(self) -> Iterator[Buffer]:
        return iter(self.pieces)


def known_size(stdin: InputTarget) -> int:
    """How many bytes ``stdin`` is known to hold: those of an object in memory, and what is left of a regular file; else
    0.
    """
    if isinstance(stdin, SizedPieces):
        return stdin.size
    if isinstance(stdin, bytes | bytearray | memoryview):
        return memoryview(stdin).nbytes
    fileno = getattr(stdin, "fileno", None)
    try:
        if isinstance(stdin, int) and not isinstance(stdin, bool):
            descriptor = stdin
        elif fileno is not None:
            descriptor = fileno()
        else:
            return 0
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return 0
        return max(0, status.st_size - os.lseek(descriptor, 0, os.SEEK_CUR))
    except (OSError, ValueError):  # ValueError: io.UnsupportedOperation, or closed
        return 0


def _pollable(file: IO[bytes]) -> int | None:
    """The descriptor behind ``file`` when reading it may block for long; None for regular files and for objects
    without one.
    """
    try:
        descriptor = file.fileno()
        mode = os.fstat(descriptor).st_mode
    except (AttributeError, OSError, ValueError):  # ValueError: io.UnsupportedOperation, or closed
        return None
    return None if stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISBLK(mode) else descriptor

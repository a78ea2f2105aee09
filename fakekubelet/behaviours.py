"""The scripted container: a small set of commands that need no host process and have an exact, documented meaning.

====================  =====================================================================================
``ls [PATH]``         the names in a folder of the container's declared tree, one a line; exit 1 if missing
``cat [PATH]...``     files of that tree; without PATH, stdin to stdout
``echo ARG...``       its arguments
``true`` ``false``    exit 0, exit 1
``exit N``            exit N (0 to 255)
``fail TEXT...``      a failure of the runtime with this text, rather than an exit code
``source N``          N zero bytes
``random N SEED``     N bytes that depend on SEED alone (see ``keystream``)
``sink``              reads stdin to its end, prints its byte count and SHA-256
``discard``           reads stdin to its end, prints its byte count
``both N``            lines ``out i`` on stdout and ``err i`` on stderr in turn, i from 0 to N - 1
``sleep S``           ends after S seconds, whether or not the client stays
``ignore-stdin S``    never reads stdin, ends after S seconds
``early-exit N``      reads N bytes of stdin and ends, while the rest still flows
``sizes N``           prints the first N terminal sizes it is told, as ``WIDTHxHEIGHT``
====================  =====================================================================================

Wrong arguments and unknown commands are failures of the runtime. ``source``, ``random``, ``sink`` and ``discard`` are
made to be no brake in a benchmark: their unit is 256 KiB, sources hand out views of one buffer, sinks read in place.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from fakekubelet.runtimes import STDIN_HIGH_WATER, Command, ExecRequest, Runtime, exited, internal_failure, not_started
from spdyproto.channels.events import StreamKind
from spdyproto.channels.status import ExitStatus
from spdyproto.types import Buffer

STDOUT, STDERR = StreamKind.STDOUT, StreamKind.STDERR

UNIT = 4 * 65528
"""Bytes of one write of a source: four full frames, each of which is exactly four TLS records with its header."""

_ZEROS = memoryview(bytes(UNIT))

FileTree = Mapping[str, str | bytes]
"""Absolute paths of files and their contents; folders come from the paths, and a key that ends in ``/`` is an empty
one."""

DEMO_TREE: FileTree = {
    "/bin/": "",
    "/dev/": "",
    "/etc/hostname": "demo\n",
    "/etc/os-release": 'NAME="scripted container"\n',
    "/home/": "",
    "/proc/": "",
    "/tmp/": "",
    "/usr/": "",
    "/var/": "",
}


class Mistake(Exception):
    """A command that cannot run as it was given; the text becomes the runtime's failure."""


def keystream(size: int, seed: str) -> Iterator[bytes]:
    """``size`` bytes that any language makes at the speed of memory, in units of ``UNIT``.

    They are the keystream of AES-128 in counter mode: the key is the first 16 bytes of the SHA-256 of ``seed`` in
    UTF-8, the counter block starts at zero. The Go peers of the tests make the same bytes.
    """
    key = hashlib.sha256(seed.encode("utf-8", "surrogateescape")).digest()[:16]
    encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    for start in range(0, size, UNIT):
        yield encryptor.update(_ZEROS[: min(UNIT, size - start)])


def zeros(size: int) -> Iterator[memoryview]:
    """``size`` zero bytes as views of one buffer."""
    for start in range(0, size, UNIT):
        yield _ZEROS[: min(UNIT, size - start)]


class Produce(Command):
    """Writes what an iterable yields as fast as the client takes it, then exits."""

    def __init__(
        self, request: ExecRequest, output: Iterable[tuple[StreamKind, Buffer]], status: ExitStatus | None = None
    ) -> None:
        super().__init__(request)
        self._output = iter(output)
        self._status = status or ExitStatus.success()

    def start(self) -> None:  # noqa: D102 - as Command.start
        self.writable()

    def writable(self) -> None:  # noqa: D102 - as Command.writable
        write = self.outlet.write
        for kind, data in self._output:
            if not write(kind, data):
                return
        self.outlet.exit(self._status)

    def gone(self) -> None:
        """Nobody reads: as a process would, it ends on the broken pipe."""
        self._output = iter(())
        self.writable()


class Sink(Command):
    """Takes stdin to its end and prints how much it was, with a digest if it is to be checked."""

    def __init__(self, request: ExecRequest, digest: bool) -> None:
        super().__init__(request)
        self._count = 0
        self._digest = hashlib.sha256() if digest else None

    def stdin(self, data: memoryview) -> None:  # noqa: D102 - as Command.stdin
        self._count += len(data)
        if self._digest is not None:
            self._digest.update(data)

    def stdin_ended(self) -> None:  # noqa: D102 - as Command.stdin_ended
        text = f"{self._count} {self._digest.hexdigest()}\n" if self._digest is not None else f"{self._count}\n"
        self.outlet.write(STDOUT, text.encode())
        self.outlet.exit(ExitStatus.success())

    def gone(self) -> None:
        """The rest never comes, which a process sees as the end of its stdin."""
        self.stdin_ended()


class CopyBack(Command):
    """Copies stdin to stdout, and stops reading while the client does not take what came back."""

    def stdin(self, data: memoryview) -> None:  # noqa: D102 - as Command.stdin
        if not self.outlet.write(STDOUT, bytes(data)):
            self.outlet.pause_stdin()

    def writable(self) -> None:  # noqa: D102 - as Command.writable
        self.outlet.resume_stdin()

    def stdin_ended(self) -> None:  # noqa: D102 - as Command.stdin_ended
        self.outlet.exit(ExitStatus.success())

    def gone(self) -> None:
        """The end of stdin, for a process."""
        self.outlet.exit(ExitStatus.success())


class Sleep(Command):
    """Ends after a time, and not earlier because the client left.

    ``refuse_stdin``: what comes on stdin is left unread, in buffers that hold as much as a Go server's do. So a
    client's PINGs are answered until they are full.
    """

    def __init__(self, request: ExecRequest, seconds: float, *, refuse_stdin: bool = False) -> None:
        super().__init__(request)
        self._seconds = seconds
        self._room = STDIN_HIGH_WATER if refuse_stdin else math.inf
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:  # noqa: D102 - as Command.start
        self._timer = self.outlet.loop.call_later(self._seconds, self.outlet.exit, ExitStatus.success())

    def stdin(self, data: memoryview) -> None:  # noqa: D102 - as Command.stdin
        self._room -= len(data)
        if self._room <= 0:
            self.outlet.pause_stdin()

    async def close(self) -> None:  # noqa: D102 - as Command.close
        if self._timer is not None:
            self._timer.cancel()


class EarlyExit(Command):
    """Ends with the rest of stdin unread."""

    def __init__(self, request: ExecRequest, size: int) -> None:
        super().__init__(request)
        self._left = size

    def start(self) -> None:  # noqa: D102 - as Command.start
        if self._left == 0:
            self.outlet.exit(ExitStatus.success())

    def stdin(self, data: memoryview) -> None:  # noqa: D102 - as Command.stdin
        self._left -= len(data)
        if self._left <= 0:
            self.outlet.exit(ExitStatus.success())

    def stdin_ended(self) -> None:  # noqa: D102 - as Command.stdin_ended
        self.outlet.exit(internal_failure(f"stdin ended {self._left} bytes too early"))

    def gone(self) -> None:
        """The end of stdin, for a process."""
        self.stdin_ended()


class Sizes(Command):
    """Prints what it is told about the terminal."""

    def __init__(self, request: ExecRequest, count: int) -> None:
        super().__init__(request)
        self._left = count

    def start(self) -> None:  # noqa: D102 - as Command.start
        if not self.request.has_resize:
            self.outlet.exit(internal_failure("this session has no resize stream"))
        elif self._left == 0:
            self.outlet.exit(ExitStatus.success())

    def resized(self, width: int, height: int) -> None:  # noqa: D102 - as Command.resized
        self.outlet.write(STDOUT, f"{width}x{height}\n".encode())
        self._left -= 1
        if self._left == 0:
            self.outlet.exit(ExitStatus.success())

    def gone(self) -> None:
        """No more sizes come."""
        self.outlet.exit(internal_failure(f"resizes ended {self._left} too early"))


def scripted(files: FileTree = DEMO_TREE) -> Runtime:
    """A runtime of the commands above, over ``files``. Raises ValueError for a path that is not absolute."""
    tree = _Tree(files)

    def launch(request: ExecRequest) -> Command:
        if not request.argv:
            return Produce(request, (), internal_failure("no command given"))
        name, *arguments = request.argv
        if name in ("ls", "cat") and (arguments or name == "ls"):
            return _read_tree(request, tree, name, arguments)
        make = _COMMANDS.get(name)
        if make is None:
            return Produce(request, (), not_started(name, "executable file not found in $PATH"))
        try:
            return make(request, arguments)
        except Mistake as mistake:
            return Produce(request, (), internal_failure(f"{name}: {mistake}"))

    return launch


def _echo(request: ExecRequest, arguments: Sequence[str]) -> Command:
    return Produce(request, [(STDOUT, (" ".join(arguments) + "\n").encode("utf-8", "surrogateescape"))])


def _exit(request: ExecRequest, arguments: Sequence[str]) -> Command:
    (code,) = _numbers(arguments, 1)
    if code > 255:
        raise Mistake(f"expected an exit code of 0 to 255, got {code}")
    return Produce(request, (), exited(request.argv, code))


def _fail(request: ExecRequest, arguments: Sequence[str]) -> Command:
    return Produce(request, (), internal_failure(" ".join(arguments) or "failed as asked"))


def _source(request: ExecRequest, arguments: Sequence[str]) -> Command:
    (size,) = _numbers(arguments, 1)
    return Produce(request, ((STDOUT, chunk) for chunk in zeros(size)))


def _random(request: ExecRequest, arguments: Sequence[str]) -> Command:
    if len(arguments) != 2:
        raise Mistake(f"expected a byte count and a seed, got {len(arguments)} arguments")
    (size,) = _numbers(arguments[:1], 1)
    return Produce(request, ((STDOUT, chunk) for chunk in keystream(size, arguments[1])))


def _both(request: ExecRequest, arguments: Sequence[str]) -> Command:
    (count,) = _numbers(arguments, 1)
    words = ((STDOUT, b"out"), (STDERR, b"err"))
    lines = ((kind, b"%s %d\n" % (word, index)) for index in range(count) for kind, word in words)
    return Produce(request, lines)


def _sleep(request: ExecRequest, arguments: Sequence[str]) -> Command:
    return Sleep(request, _seconds(arguments))


def _ignore_stdin(request: ExecRequest, arguments: Sequence[str]) -> Command:
    return Sleep(request, _seconds(arguments), refuse_stdin=True)


def _early_exit(request: ExecRequest, arguments: Sequence[str]) -> Command:
    return EarlyExit(request, *_numbers(arguments, 1))


def _sizes(request: ExecRequest, arguments: Sequence[str]) -> Command:
    return Sizes(request, *_numbers(arguments, 1))


_COMMANDS: Mapping[str, Callable[[ExecRequest, Sequence[str]], Command]] = {
    "both": _both,
    "cat": lambda request, _: CopyBack(request),
    "discard": lambda request, _: Sink(request, digest=False),
    "early-exit": _early_exit,
    "echo": _echo,
    "exit": _exit,
    "fail": _fail,
    "false": lambda request, _: Produce(request, (), exited(request.argv, 1)),
    "ignore-stdin": _ignore_stdin,
    "random": _random,
    "sink": lambda request, _: Sink(request, digest=True),
    "sizes": _sizes,
    "sleep": _sleep,
    "source": _source,
    "true": lambda request, _: Produce(request, ()),
}


def _numbers(arguments: Sequence[str], count: int) -> list[int]:
    if len(arguments) != count or not all(text.isascii() and text.isdecimal() for text in arguments):
        raise Mistake(f"expected {count} decimal number(s), got {list(arguments)}")
    if any(len(text) > 18 for text in arguments):
        raise Mistake("expected numbers below 10**18")
    return [int(text) for text in arguments]


def _seconds(arguments: Sequence[str]) -> float:
    try:
        (text,) = arguments
        seconds = float(text)
    except ValueError:
        raise Mistake(f"expected a number of seconds, got {list(arguments)}") from None
    if not (math.isfinite(seconds) and 0 <= seconds <= 1e6):
        raise Mistake(f"expected 0 to 1,000,000 seconds, got {text}")
    return seconds


class _Tree:
    """Files and folders of a scripted container."""

    def __init__(self, files: FileTree) -> None:
        self.files: dict[str, bytes] = {}
        self.folders: dict[str, set[str]] = {"/": set()}
        for path, content in files.items():
            if not path.startswith("/"):
                raise ValueError(f"a path in a container is absolute, not {path!r}")
            clean = posixpath.normpath(path)
            if path.endswith("/"):
                self.folders.setdefault(clean, set())
            else:
                self.files[clean] = content.encode() if isinstance(content, str) else bytes(content)
            while clean != "/":
                parent, name = posixpath.split(clean)
                self.folders.setdefault(parent, set()).add(name)
                clean = parent


def _read_tree(request: ExecRequest, tree: _Tree, command: str, paths: Sequence[str]) -> Command:
    """``ls`` and ``cat`` with paths, in the words and exit codes of busybox."""
    output: list[tuple[StreamKind, Buffer]] = []
    code = 0
    for path in paths or ("/",):
        clean = posixpath.normpath(posixpath.join("/", path))
        if command == "ls" and clean in tree.folders:
            listing = "".join(f"{name}\n" for name in sorted(tree.folders[clean]))
            output.append((STDOUT, listing.encode()))
        elif clean in tree.files:
            output.append((STDOUT, tree.files[clean] if command == "cat" else f"{path}\n".encode()))
        else:
            why = "Is a directory" if clean in tree.folders else "No such file or directory"
            output.append((STDERR, f"{command}: {path}: {why}\n".encode("utf-8", "surrogateescape")))
            code = 1
    return Produce(request, output, exited(request.argv, code))

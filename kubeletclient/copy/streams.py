"""Copies between one file in a container and a stream here: stdin, stdout, or any binary file object.

Into a container the bytes go to a file beside the target, are compared, and the file is renamed. Out of it they are
gone to the stream before they can be compared; a difference is an error then, and what came must not be used.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from typing import IO, Final

from kubeletclient.copy.checksums import ALGORITHMS, Checksum, new_checksum
from kubeletclient.copy.common import mismatch
from kubeletclient.copy.compress import (
    base64_lines,
    base64_reader,
    check_compression,
    compressed,
    inflater,
    packed,
    unpacker,
)
from kubeletclient.copy.errors import BadPath, NoStrategy, SourceMissing
from kubeletclient.copy.options import CopyOptions
from kubeletclient.copy.remote import Remote, Tools, probe
from kubeletclient.copy.report import CopyReport, Tracker
from kubeletclient.copy.scripts import REPLACE, SHOW, SUM, WHOLE, script
from kubeletclient.copy.specs import split_remote

__all__ = ["from_stream", "to_stream"]

_PIECE: Final = 3 * 87360  # a batch of stdin, in whole groups of base64


async def from_stream(
    remote: Remote, source: IO[bytes], target: bytes, options: CopyOptions, tracker: Tracker
) -> CopyReport:
    """All that ``source`` gives becomes the file ``target`` in the container. A stream cannot be read twice, so nothing
    is tried again.
    """
    report = CopyReport("in", ["-"], os.fsdecode(target), files=1)
    directory, name = split_remote(target)
    tools = await probe(remote, [target, directory])
    _check_shell(tools, options)
    kind, above = tools.paths
    if not name or kind == "directory" or target.endswith(b"/"):
        raise BadPath(f"{os.fsdecode(target)!r} is a directory in the container", hint="name the file to make")
    if above != "directory":
        raise BadPath(f"the directory {os.fsdecode(directory)!r} does not exist in the container", hint="make it first")
    tool = _tool([each for each in WHOLE if each != "head"], tools)  # head needs the size
    checksum = _digest(tools, options, report)
    report.dry_run = options.dry_run
    if options.dry_run:
        return report
    part = os.path.join(directory, b".kubewire-" + secrets.token_hex(8).encode() + b".part")
    report.strategy, report.compression = f"stream ({tool})", options.compression
    report.leftover = os.fsdecode(part)
    tracker.phase("transfer")

    def pieces() -> Iterator[memoryview]:
        while piece := source.read(_PIECE):
            if checksum is not None:
                checksum.update(piece)
            report.bytes += len(piece)
            tracker.add_bytes(len(piece))
            yield memoryview(piece)

    began = time.monotonic()
    stdin = base64_lines(_grouped(pieces())) if tool == "base64" else compressed(pieces(), options.compression)
    await remote.run(script(WHOLE[tool] % unpacker(options.compression), part), what=tool, stdin=stdin)
    report.connections, report.transfer_seconds = 1, time.monotonic() - began
    tracker.phase("verify", report.bytes, 1)
    began = time.monotonic()
    command, digest = ("-", "-") if checksum is None else (ALGORITHMS[report.verification], checksum.hexdigest())
    answer = await remote.run(script(REPLACE, part, target, command, digest), what="verifying")
    report.verify_seconds = time.monotonic() - began
    report.leftover = None
    report.route, report.transport = remote.route, remote.transport
    if answer.strip() == b"differs":
        raise mismatch([os.fsdecode(target)], report.verification)
    return report


async def to_stream(
    remote: Remote, source: bytes, target: IO[bytes], options: CopyOptions, tracker: Tracker
) -> CopyReport:
    """The file ``source`` of the container goes to ``target``, which is flushed and not closed."""
    report = CopyReport("out", [os.fsdecode(source)], "-", files=1)
    tools = await probe(remote, [source])
    _check_shell(tools, options)
    if tools.paths[0] == "missing":
        raise SourceMissing(f"{os.fsdecode(source)!r} does not exist in the container", hint="check its path")
    if tools.paths[0] != "file":
        raise BadPath(f"{os.fsdecode(source)!r} is no regular file", hint="only one file can go to a stream")
    tool = _tool([each for each in SHOW if each != "head"], tools)
    checksum = _digest(tools, options, report)
    report.strategy, report.compression = f"stream ({tool})", options.compression
    report.dry_run = options.dry_run
    if options.dry_run:
        return report
    tracker.phase("transfer")

    def take(view: memoryview) -> None:
        if checksum is not None:
            checksum.update(view)
        report.bytes += len(view)
        left: memoryview = view
        while len(left):
            written = target.write(left)
            left = left[written if written is not None else len(left) :]
        tracker.add_bytes(len(view))

    began = time.monotonic()
    stdout = base64_reader(take) if tool == "base64" else inflater(take, options.compression)
    body = packed(SHOW[tool], None if tool == "base64" else options.compression)
    await remote.run(script(body, source), what=tool, stdout=stdout)
    stdout.close()
    target.flush()
    report.connections, report.transfer_seconds = 1, time.monotonic() - began
    report.route, report.transport = remote.route, remote.transport
    tracker.phase("verify", report.bytes, 1)
    if checksum is not None:
        began = time.monotonic()
        answer = await remote.run(script(SUM, source, ALGORITHMS[report.verification]), what="verifying")
        report.verify_seconds = time.monotonic() - began
        if answer.split()[:1] != [checksum.hexdigest().encode()]:
            raise mismatch([os.fsdecode(source)], report.verification)
    return report


def _check_shell(tools: Tools, options: CopyOptions) -> None:
    if not tools.shell:
        raise NoStrategy("the container has no shell, which a stream needs", hint="copy to or from a file")
    check_compression(options.compression, tools)


def _tool(possible: list[str], tools: Tools) -> str:
    found = next((tool for tool in possible if tool in tools.names), None)
    if found is None:
        raise NoStrategy(f"the container has no tool for a stream; looked for {', '.join(possible)}")
    return found


def _digest(tools: Tools, options: CopyOptions, report: CopyReport) -> Checksum | None:
    algorithm = tools.digest(options.verify)
    report.verification = algorithm or "none"
    report.unverified = int(algorithm is None)
    return None if algorithm is None else new_checksum(algorithm)


def _grouped(pieces: Iterator[memoryview]) -> Iterator[bytes]:
    """The same bytes in multiples of three, as base64 needs them."""
    carry = b""
    for piece in pieces:
        data = carry + bytes(piece)
        whole = len(data) // 3 * 3
        carry = data[whole:]
        yield data[:whole]
    yield carry

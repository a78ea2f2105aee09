"""Trees with every kind of entry, what two trees differ in, and sets of tools that a container may have."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest

ODD_NAMES = (
    b"-rf",
    b"--help",
    b" leading and trailing ",
    b"$(touch pwned) `touch pwned` ${HOME}",
    b"semi;colon&amp|pipe>out<in",
    b"quote' double\" back\\slash \\n \\0101 %s %b",
    b"star * question ? [a-z] {a,b} ~ ! #",
    b"new\nline\n",
    b"tab\tbell\x07escape\x1b[31m",
    b"\xff\xfe not utf-8 \x80",
    "\u00e9\u4e2d\U0001f600".encode(),
    b"...",
    b"n" * 200,
)
"""Names that tools, shells and archives have stumbled over."""


def every_kind(root: Path) -> None:
    """Fill `root` with one of everything that is copied."""
    (root / "plain").mkdir(parents=True)
    (root / "plain" / "text").write_bytes(b"hello\n")
    (root / "plain" / "nothing").write_bytes(b"")
    (root / "plain" / "blocks").write_bytes(bytes(range(256)) * 40)
    (root / "plain" / "script").write_bytes(b"#!/bin/sh\n")
    (root / "plain" / "script").chmod(0o755)
    (root / "plain" / "secret").write_bytes(b"s")
    (root / "plain" / "secret").chmod(0o600)
    (root / "empty").mkdir()
    deep = root.joinpath(*["level"] * 12)
    deep.mkdir(parents=True)
    (deep / ("long" * 40)).write_bytes(b"deep")
    os.symlink("plain/text", root / "relative")
    os.symlink("/etc/hostname", root / "absolute")
    os.symlink("nowhere", root / "dangling")
    os.symlink("x" * 180, root / "long link")
    os.symlink("plain", root / "to directory")
    os.link(root / "plain" / "text", root / "another name")
    with open(root / "holes", "wb") as file:
        for piece in range(8):
            file.seek(piece * 262144)
            file.write(b"data%d" % piece)
        file.truncate(4 << 20)
    (root / "sealed").mkdir()
    (root / "sealed" / "inside").write_bytes(b"i")
    for name in (root / "sealed", root / "plain", root / "plain" / "text", root / "empty"):
        os.utime(name, ns=(0, 1_234_567_890 * 10**9))
    (root / "sealed").chmod(0o555)


def odd_names(root: Path) -> None:
    """Fill `root` with files of odd names, each holding its name."""
    root.mkdir()
    for name in ODD_NAMES:
        with open(os.path.join(os.fsencode(root), name), "wb") as file:
            file.write(name)


def describe(
    root: Path, *, times: bool = True, modes: bool = True, holes: bool = False
) -> dict[bytes, tuple[object, ...]]:
    """What there is below `root`, by name: all that a copy has to keep. Times are in whole seconds."""
    found: dict[bytes, tuple[object, ...]] = {}
    groups: dict[tuple[int, int], bytes] = {}
    base = os.fsencode(root)
    for folder, folders, files in os.walk(base):
        for name in sorted([*folders, *files]):
            path = os.path.join(folder, name)
            status = os.lstat(path)
            kind = stat.S_IFMT(status.st_mode)
            facts: list[object] = [kind]
            if stat.S_ISLNK(kind):
                facts.append(os.readlink(path))
            elif modes:
                facts.append(stat.S_IMODE(status.st_mode))
            if times and not stat.S_ISLNK(kind):
                facts.append(status.st_mtime_ns // 10**9)
            if stat.S_ISREG(kind):
                with open(path, "rb") as file:
                    facts.append(file.read())
                if status.st_nlink > 1:
                    facts.append(groups.setdefault((status.st_dev, status.st_ino), os.path.relpath(path, base)))
                if holes:
                    facts.append(status.st_blocks * 512 < status.st_size)
            found[os.path.relpath(path, base)] = tuple(facts)
    return found


def require_tools(*names: str) -> None:
    """Skip the test that asks where this machine lacks a program that a container is to have."""
    missing = [name for name in names if shutil.which(name) is None]
    if missing:
        pytest.skip(f"this machine has no {', '.join(missing)}")


def toolset(folder: Path, tools: Sequence[str], *, busybox: Sequence[str] = (), shell: str = "dash") -> str:
    """A PATH with just these tools: the machine's own, and applets of busybox. `sh` is `shell`; "" is none."""
    folder.mkdir()
    box = shutil.which("busybox")
    require_tools(*tools, *(["busybox"] if busybox else []), *([shell] if shell else []))
    for name in busybox:
        assert box is not None
        (folder / name).symlink_to(box)
    for name in tools:
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(os.path.realpath(found))
    if shell:
        found = box if shell == "busybox" else shutil.which(shell)
        assert found is not None
        (folder / "sh").symlink_to(os.path.realpath(found))
    return str(folder)

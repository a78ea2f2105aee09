"""What the container's answers mean, and what a part of one means: nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from kubeletclient.copy.entries import Kind, TreeLimits
from kubeletclient.copy.errors import ArchiveError, NoStrategy, RemoteToolFailed, VerificationFailed
from kubeletclient.copy.remote import Remote, Tools, list_tree, manifest, probe, read_probe
from kubeletclient.copy.scripts import PROBE, script

Take = Callable[[memoryview], object]


class Answers:
    """A pod whose commands all say the same."""

    def __init__(self, out: bytes, code: int = 0, err: bytes = b"") -> None:
        self.out, self.code, self.err = out, code, err

    async def run(
        self,
        args: Any,
        *,
        stdout: Callable[[memoryview], object],
        stderr: Callable[[memoryview], object],
        **options: Any,
    ) -> Any:
        for at in range(0, len(self.out), 7):
            stdout(memoryview(self.out)[at : at + 7])
        stderr(memoryview(self.err))
        return SimpleNamespace(returncode=self.code, route="kubelet", transport="spdy")

    def popen(self, args: Any, **options: Any) -> Any:
        raise AssertionError("nothing here is a pipe")


def remote(out: bytes, code: int = 0, err: bytes = b"") -> Remote:
    return Remote(Answers(out, code, err), "main")


LISTED = (
    b"41ed 4096 1700000000 0 0 2 8:1 ./t//\n81a4 5 1700000001 10 20 2 8:2 ./t/a\nb//\n"
    b"81a4 5 1700000001 10 20 2 8:2 ./t/again//\nend//\n"
)


@pytest.mark.asyncio
async def test_a_list() -> None:
    entries = await list_tree(remote(LISTED), b"/", [b"t"], TreeLimits())
    assert [(e.name, e.kind, e.size, e.mode) for e in entries] == [
        (b"t", Kind.DIRECTORY, 0, 0o755),
        (b"t/a\nb", Kind.FILE, 5, 0o644),
        (b"t/again", Kind.HARDLINK, 0, 0o644),
    ]


@pytest.mark.asyncio
@pytest.mark.parametrize("cut", [1, 2, 5, 6, 7, 30, len(LISTED)])
async def test_a_list_without_its_end_is_none(cut: int) -> None:
    with pytest.raises(VerificationFailed, match="came without its end"):
        await list_tree(remote(LISTED[:-cut]), b"/", [b"t"], TreeLimits())


@pytest.mark.asyncio
async def test_a_list_in_another_form() -> None:
    with pytest.raises(ArchiveError, match="the container's list holds b'what is this'"):
        await list_tree(remote(b"what is this//\nend//\n"), b"/", [b"t"], TreeLimits())


@pytest.mark.asyncio
async def test_a_list_has_limits() -> None:
    with pytest.raises(ArchiveError, match="more than 1 entries"):
        await list_tree(remote(LISTED), b"/", [b"t"], TreeLimits(entries=1))
    with pytest.raises(ArchiveError, match="a name of more than 8192 bytes"):
        await list_tree(remote(b"x" * 9000), b"/", [b"t"], TreeLimits())


@pytest.mark.asyncio
async def test_digests_by_name() -> None:
    names = {b"t/a", b"t/b\nc", b"t/d\\e"}
    out = b"11 1 ./t/a\n22 2 ./t/b\nc\n33 3 ./t/unknown\n44 4 ./t/d\\e\n"
    found = await manifest(remote(out), b"/", [b"t"], "cksum", names.__contains__)
    assert found == {b"t/a": ("11", 1), b"t/b\nc": ("22", 2), b"t/d\\e": ("44", 4)}


@pytest.mark.asyncio
async def test_digests_of_tools_that_escape() -> None:
    names = {b"t/b\nc", b"t/d\\n"}
    out = b"\\aa  ./t/b\\nc\n\\bb  ./t/d\\\\n\n"
    found = await manifest(remote(out), b"/", [b"t"], "sha256", names.__contains__)
    assert found == {b"t/b\nc": ("aa", None), b"t/d\\n": ("bb", None)}


@pytest.mark.asyncio
async def test_a_command_that_fails_says_why() -> None:
    with pytest.raises(RemoteToolFailed, match="exit code 2: No space left; free space in the container"):
        await remote(b"", 2, b"No space left\n").run(["x"], what="tar")
    assert "\x1b" not in str(remote(b"", 1, b"\x1b[2J").failure("tar", 1, _kept(b"\x1b[2J")))


def _kept(data: bytes) -> Any:
    return SimpleNamespace(value=data)


def test_a_probe_of_this_machine() -> None:
    out = subprocess.run(script(PROBE, b"/", b"/nonexistent"), capture_output=True, check=True).stdout
    tools = read_probe(out)
    assert tools.paths == ("directory", "missing")
    assert {"cat", "mv", "tar"} <= tools.names
    assert tools.tar == "gnu"
    assert tools.lists
    for cut in (1, 2, 4, 10, len(out)):
        with pytest.raises(VerificationFailed, match="list of tools came without its end"):
            read_probe(out[:-cut])


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        (b"tar (GNU tar) 1.34\nCopyright (C) 2021", "gnu"),
        (b"tar (busybox) 1.36.1", "busybox"),
        (b"tar: unrecognized option '--version'\nBusyBox v1.35.0 () multi-call binary.", "busybox"),
        (b"bsdtar 3.6.2 - libarchive 3.6.2", "bsdtar"),
        (b"toybox 0.8", "other"),
    ],
)
def test_kinds_of_tar(version: bytes, kind: str) -> None:
    assert read_probe(b"tar\nsh\ntar=" + version + b"\n\nuid=0\nend\n").tar == kind


@pytest.mark.asyncio
async def test_a_container_without_a_shell() -> None:
    with pytest.raises(NoStrategy, match="neither a shell nor tar"):
        await probe(remote(b"", 127, b"not found"))


def test_the_cheapest_digest_that_is_there() -> None:
    tools = Tools(frozenset({"find", "sha256sum", "md5sum"}), "gnu", True, 0, False)
    assert [tools.digest(wanted) for wanted in ("auto", "md5", "none")] == ["sha256", "md5", None]
    with pytest.raises(NoStrategy, match="cannot compute cksum: it needs sh, find and cksum"):
        tools.digest("cksum")
    assert Tools(frozenset({"tar"}), "gnu", False, None, False).digest("auto") is None

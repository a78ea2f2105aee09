from __future__ import annotations

import pytest

from kubeletclient.copy.between import _Witness
from kubeletclient.copy.entries import Entry, Kind
from kubeletclient.copy.errors import UnsafeEntry
from kubeletclient.copy.report import CopyReport, Tracker


def entry(name: bytes, kind: Kind = Kind.FILE, target: bytes = b"") -> Entry:
    return Entry(name, kind, 0o644, 0, 0, target=target)


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([entry(b"src/a", Kind.HARDLINK, b"/etc/passwd")], "absolute name"),
        ([entry(b"src/a", Kind.HARDLINK, b"../other")], "climbs out"),
        ([entry(b"src/a", Kind.HARDLINK, b"src/b")], "no file of this copy"),
        ([entry(b"src/a", Kind.HARDLINK, b"src/a")], "no file of this copy"),
        ([entry(b"src/a", Kind.SYMLINK, b"/etc"), entry(b"src/b", Kind.HARDLINK, b"src/a")], "no file of this copy"),
        ([entry(b"src/a", Kind.SYMLINK, b"/etc"), entry(b"./src//a/passwd")], "below b'src/a', a"),
        ([entry(b"src/a", Kind.SYMLINK, b"/etc"), entry(b"src/a/b/c/passwd")], "below b'src/a', a"),
        ([entry(b"src/a"), entry(b"src/a/b")], "below b'src/a', a"),
        ([entry(b"src/a", Kind.SYMLINK, b"/etc/passwd"), entry(b"src/./a")], "twice"),
        ([entry(b"src/a"), entry(b"src/a")], "twice"),
    ],
)
def test_the_witness_refuses(entries: list[Entry], reason: str) -> None:
    witness = _Witness(None, b"src", CopyReport("between", [], ""), Tracker(None))
    for each in [entry(b"src", Kind.DIRECTORY), *entries[:-1]]:
        witness.begin(each)
        witness.end()
    with pytest.raises(UnsafeEntry, match=reason):
        witness.begin(entries[-1])


def test_the_witness_lets_links_of_the_archive_pass() -> None:
    report = CopyReport("between", [], "")
    witness = _Witness(None, b".", report, Tracker(None))
    for each in [
        entry(b"./", Kind.DIRECTORY),
        entry(b"./a"),
        entry(b"./b", Kind.HARDLINK, b"./a"),
        entry(b"./c", Kind.HARDLINK, b"b"),
        entry(b"./d", Kind.SYMLINK, b"/etc"),
        entry(b"./e/f"),
    ]:
        witness.begin(each)
        witness.end()
    assert (report.files, report.links) == (2, 3)

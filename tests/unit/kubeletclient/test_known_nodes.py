"""The file of pinned certificates."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from kubeletclient import CredentialsError, KnownNodes
from kubeletclient.known_nodes import default_path, fingerprint_of


def test_a_pin_is_added_found_replaced_and_removed(tmp_path: Path) -> None:
    known = KnownNodes(tmp_path / "new" / "known")
    assert known.lookup("10.0.0.1", 10250) is None
    pin = known.add("10.0.0.1", 10250, b"one")
    assert known.lookup("10.0.0.1", 10250) == pin
    assert (
        pin.fingerprint
        == fingerprint_of(b"one")
        == "sha256:7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    )
    assert known.lookup("10.0.0.1", 10251) is None
    known.add("fd00::1", 10250, b"six")
    known.add("10.0.0.1", 10250, b"two")
    assert {name: entry.certificate for name, entry in known.entries().items()} == {
        "[fd00::1]:10250": b"six",
        "10.0.0.1:10250": b"two",
    }
    assert known.remove("10.0.0.1", 10250)
    assert not known.remove("10.0.0.1", 10250)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


def test_comments_stay(tmp_path: Path) -> None:
    path = tmp_path / "known"
    path.write_text("# mine\n\n")
    KnownNodes(path).add("N1", 1, b"x")
    assert path.read_text().startswith("# mine\n\nn1:1 sha256:")
    KnownNodes(path).remove("n1", 1)
    assert path.read_text() == "# mine\n\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("n1:1", "is no entry"),
        ("n1:1 sha256:00 !!!!", "is no entry"),
        ("n1:1 sha256:00 eA==", "does not have the fingerprint"),
        ("n1:1 sha256:é eA==", "not ASCII"),
    ],
)
def test_a_line_that_cannot_be_used_is_no_line_to_skip(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "known"
    path.write_text(f"# fine\n{line}\n")
    with pytest.raises(CredentialsError, match=message):
        KnownNodes(path).lookup("other", 1)
    with pytest.raises(CredentialsError, match=message):
        KnownNodes(path).add("other", 1, b"x")
    assert path.read_text() == f"# fine\n{line}\n"


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match="cannot be read: Is a directory"):
        KnownNodes(tmp_path).lookup("n", 1)


def test_all_that_add_at_the_same_time_get_in(tmp_path: Path) -> None:
    known = KnownNodes(tmp_path / "known")
    threads = [threading.Thread(target=known.add, args=(f"n{n}", 1, b"x")) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(known.entries()) == 8


def test_where_it_is() -> None:
    assert default_path({"HOME": "/home/me"}) == "/home/me/.kube/kubewire_known_nodes"
    assert default_path({"HOME": "/home/me", "KUBEWIRE_KNOWN_NODES": "/x"}) == "/x"

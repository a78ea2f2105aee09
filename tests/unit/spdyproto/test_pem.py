"""Key material given as bytes never stays on disk."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from spdyproto.pem import pem_file


@pytest.fixture
def empty_temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of the test's own, in which anything left behind would be seen."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def no_memfd(*_: object) -> int:
    raise OSError(38, "Function not implemented")


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_a_path_is_itself(tmp_path: Path) -> None:
    with pem_file(tmp_path / "absent") as path:
        assert path == str(tmp_path / "absent")
    with pem_file("relative.pem") as path:
        assert path == "relative.pem"


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="this system has no anonymous files in memory")
def test_bytes_stay_in_memory(empty_temp: Path) -> None:
    before = open_descriptors()
    with pem_file(b"secret" * 10_000) as path:
        assert Path(path).read_bytes() == b"secret" * 10_000
        assert Path(path).read_bytes() == b"secret" * 10_000, "OpenSSL may open it twice"
        assert os.readlink(path).startswith("/memfd:")
        assert list(empty_temp.iterdir()) == []
    assert not os.path.exists(path)
    assert open_descriptors() == before


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="this system has no anonymous files in memory")
def test_memory_is_given_back_after_a_fault() -> None:
    before = open_descriptors()
    with pytest.raises(RuntimeError), pem_file(b"secret"):
        raise RuntimeError
    assert open_descriptors() == before


def test_without_anonymous_files_a_private_file_stands_in(empty_temp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "memfd_create", no_memfd, raising=False)
    with pem_file(b"secret") as path:
        assert Path(path).read_bytes() == b"secret"
        assert Path(path).parent == empty_temp
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert list(empty_temp.iterdir()) == []


def test_the_file_that_stands_in_is_removed_after_a_fault(empty_temp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "memfd_create", no_memfd, raising=False)
    with pytest.raises(RuntimeError), pem_file(b"secret"):
        raise RuntimeError
    assert list(empty_temp.iterdir()) == []


def test_no_proc_means_a_private_file(empty_temp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "exists", lambda path: not str(path).startswith("/proc/"))
    before = open_descriptors()
    with pem_file(b"secret") as path:
        assert Path(path).parent == empty_temp
    assert list(empty_temp.iterdir()) == []
    assert open_descriptors() == before

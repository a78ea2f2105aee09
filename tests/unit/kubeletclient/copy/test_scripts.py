"""The scripts on real shells: no name is ever a word of a script, and every byte of it arrives."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from kubeletclient.copy import scripts
from kubeletclient.copy.compress import inflater, packed
from kubeletclient.copy.remote import read_probe
from kubeletclient.copy.scripts import argument, script
from support.trees import ODD_NAMES, describe, every_kind, odd_names, toolset

SHELLS = ["dash", "bash", "busybox"]


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    tools = [] if request.param == "busybox" else [
        "cat", "mv", "rm", "mkdir", "find", "stat", "readlink", "tar", "touch", "chmod", "ln", "dd", "id",
        "sha256sum", "md5sum",
    ]  # fmt: skip
    box = [
        "cat", "mv", "rm", "mkdir", "find", "stat", "readlink", "tar", "touch", "chmod", "ln", "dd", "id",
        "sha256sum", "md5sum",
    ] if request.param == "busybox" else []  # fmt: skip
    return {"PATH": toolset(tmp_path / "bin", tools, busybox=box, shell=request.param)}


def run(shell: dict[str, str], body: str, *arguments: bytes | str, stdin: bytes = b"") -> bytes:
    words = script(body, *arguments)
    done = subprocess.run(
        [os.path.join(shell["PATH"], words[0]), *words[1:]], env=shell, input=stdin, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


@pytest.mark.parametrize("name", [*ODD_NAMES, b"\\", b"\\0101", b"%", b"ends in newline\n\n", bytes(range(1, 256))])
def test_every_byte_of_a_name_arrives(shell: dict[str, str], name: bytes) -> None:
    assert run(shell, 'd "$1"; printf "%s" "$v"', name) == name


def test_arguments_are_ascii() -> None:
    for name in ODD_NAMES:
        assert argument(name).isascii()
        assert argument(name).isprintable()


def test_list_and_manifest_tell_odd_names(shell: dict[str, str], tmp_path: Path) -> None:
    odd_names(tmp_path / "t")
    listed = run(shell, scripts.LIST, os.fsencode(tmp_path), b"./t")
    *records, last, nothing = listed.split(b"//\n")
    assert (last, nothing) == (b"end", b"")
    names = [record.split(b" ", 7)[7] for record in records]
    assert sorted(names) == sorted([b"./t", *(b"./t/" + name for name in ODD_NAMES)])
    summed = run(shell, scripts.MANIFEST, os.fsencode(tmp_path), "sha256sum", "", b"./t")
    for name in ODD_NAMES:
        escaped = name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n")  # as GNU's tools print it
        assert any(b" ./t/" + form + b"\n" in summed for form in (name, escaped))


def test_commit_merges_file_by_file(shell: dict[str, str], tmp_path: Path) -> None:
    stage, target = tmp_path / "stage", tmp_path / "target"
    every_kind(stage / "new")
    (stage / "old").mkdir()
    (stage / "old" / "file").write_bytes(b"new content")
    odd_names(stage / "old" / "odd")
    expected = describe(stage)
    (target / "old" / "odd").mkdir(parents=True)
    (target / "old" / "odd" / "stays").write_bytes(b"stays")
    (target / "old" / "file").write_bytes(b"old")
    (target / "old").chmod(0o700)
    run(shell, scripts.COMMIT, os.fsencode(stage), os.fsencode(target))
    found = describe(target)
    assert not stage.exists()
    assert (target / "old" / "odd" / "stays").read_bytes() == b"stays"
    assert os.stat(target / "old").st_mode & 0o777 == 0o700
    for name in (b"old", b"old/odd", b"old/odd/stays"):  # what was there keeps its own mode and times
        expected.pop(name, None)
        found.pop(name)
    assert found == expected


def test_commit_does_not_put_a_file_in_place_of_a_directory(shell: dict[str, str], tmp_path: Path) -> None:
    stage, target = tmp_path / "stage", tmp_path / "target"
    stage.mkdir()
    (stage / "x").write_bytes(b"")
    (target / "x").mkdir(parents=True)
    words = script(scripts.COMMIT, os.fsencode(stage), os.fsencode(target))
    done = subprocess.run([os.path.join(shell["PATH"], "sh"), *words[1:]], env=shell, capture_output=True, check=False)
    assert done.returncode
    assert b"is a directory" in done.stderr
    assert (stage / "x").exists()


def test_commit_replaces_a_link_and_does_not_write_through_it(shell: dict[str, str], tmp_path: Path) -> None:
    stage, target, outside = tmp_path / "stage", tmp_path / "target", tmp_path / "outside"
    for folder in (stage, target, outside):
        folder.mkdir()
    (stage / "x").mkdir()
    (stage / "x" / "f").write_bytes(b"new")
    (target / "x").symlink_to(outside)
    done = subprocess.run(
        [os.path.join(shell["PATH"], "sh"), *script(scripts.COMMIT, os.fsencode(stage), os.fsencode(target))[1:]],
        env=shell,
        capture_output=True,
        check=False,
    )
    assert list(outside.iterdir()) == []
    assert done.returncode or (target / "x" / "f").read_bytes() == b"new"


def test_glob_expands_and_splits_nothing(shell: dict[str, str], tmp_path: Path) -> None:
    for name in ("a b", "a  c", "b"):
        (tmp_path / name).write_bytes(b"")
    base = os.fsencode(tmp_path)
    assert run(shell, scripts.GLOB, base + b"/a *", base + b"/a  c", base + b"/none*").split(b"//\n")[:-1] == [
        base + b"/a  c",
        base + b"/a b",
        base + b"/a  c",
        b"end",
    ]


def test_targets_of_links(shell: dict[str, str], tmp_path: Path) -> None:
    os.symlink("x\ny", tmp_path / "l")
    assert run(shell, scripts.TARGETS, os.fsencode(tmp_path / "l")) == b"x\ny\n\0"


def test_runs_are_stored_read_back_and_fetched(shell: dict[str, str], tmp_path: Path) -> None:
    path, mib = os.fsencode(tmp_path / "f"), 1 << 20
    data = os.urandom(2 * mib + 100)
    run(shell, scripts.SIZE, path, str(len(data)))
    tail = run(shell, scripts.STORE % "", path, "1", "2", "md5sum", stdin=data[mib:])
    head = run(shell, scripts.STORE % "", path, "0", "1", "md5sum", stdin=data[:mib])
    assert (tmp_path / "f").read_bytes() == data
    sums = run(shell, scripts.SUMS, path, "md5sum", "0", "1", "1", "2")
    assert sums.split(b"\n")[:2] == [head.strip(), tail.strip()]
    words = script(scripts.FETCH, path, "1", "2", "md5sum")
    done = subprocess.run([os.path.join(shell["PATH"], "sh"), *words[1:]], env=shell, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (data[mib:], tail)


@pytest.mark.parametrize("tool", ["cat", "dd"])
def test_whole_files(shell: dict[str, str], tmp_path: Path, tool: str) -> None:
    path, data = os.fsencode(tmp_path / "-n\n"), os.urandom(300_000)
    run(shell, scripts.WHOLE[tool] % "", path, str(len(data)), stdin=data)
    assert run(shell, scripts.SHOW[tool], path, str(len(data))) == data


def test_replace_compares_first(shell: dict[str, str], tmp_path: Path) -> None:
    part, target = tmp_path / "part", tmp_path / "target"
    part.write_bytes(b"hello")
    target.write_bytes(b"old")
    assert run(shell, scripts.REPLACE, os.fsencode(part), os.fsencode(target), "md5sum", "1") == b"differs\n"
    assert (target.read_bytes(), part.exists()) == (b"old", False)
    part.write_bytes(b"hello")
    assert (
        run(
            shell, scripts.REPLACE, os.fsencode(part), os.fsencode(target), "md5sum", "5d41402abc4b2a76b9719d911017c592"
        )
        == b""
    )
    assert target.read_bytes() == b"hello"


@pytest.mark.parametrize("compression", [None, "gzip", "zstd"])
@pytest.mark.parametrize("code", [0, 3, 7])
def test_compression_does_not_hide_how_a_command_ended(tmp_path: Path, compression: str | None, code: int) -> None:
    body = packed(f'd "$1"; printf "%s" "$v"; cat; exit {code}', compression)
    for name in SHELLS:
        path = toolset(tmp_path / name, ["cat", "gzip", "zstd"], shell=name)
        words = script(body, b"a\nb")
        words[0] = os.path.join(path, words[0])
        done = subprocess.run(words, env={"PATH": path}, input=b" and stdin", capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (code, b"")
        plain = bytearray()
        reader = inflater(plain.extend, compression)
        reader(memoryview(done.stdout))
        reader.close()
        assert plain == b"a\nb and stdin"


def test_the_probe_tells_what_paths_are(shell: dict[str, str], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").touch()
    for name, target in (("to-fifo", "fifo"), ("to-file", "file"), ("to-nothing", "nothing"), ("to-directory", ".")):
        (tmp_path / name).symlink_to(target)
    names = ["", "file", "fifo", "to-fifo", "to-file", "to-nothing", "to-directory", "nothing"]
    answer = run(shell, scripts.PROBE, *(os.fsencode(tmp_path / name) for name in names))
    kinds = ["directory", "file", "other", "other", "file", "link", "directory", "missing"]
    assert list(read_probe(answer).paths) == kinds

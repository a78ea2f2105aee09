"""``kubewire cp`` as a person runs it: what it says, how it exits, and what a kill leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakekubelet import Container, FakeKubelet
from fakekubelet import Pod as FakePod
from support.trees import describe, every_kind

MIB = 1 << 20


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    folder = tmp_path_factory.mktemp("config")
    pods = [FakePod("default/host", [Container("main", processes=True)]), FakePod("default/demo")]
    with FakeKubelet(pods, allow_processes=True) as kubelet:
        pair = kubelet.credentials()
        files = {"ca.crt": kubelet.ca, "client.crt": pair.cert_pem, "client.key": pair.key_pem}
        for name, content in files.items():
            (folder / name).write_bytes(content)
        yield [
            f"--kubelet={kubelet.url}",
            f"--certificate-authority={folder / 'ca.crt'}",
            f"--client-certificate={folder / 'client.crt'}",
            f"--client-key={folder / 'client.key'}",
        ]


def command(options: list[str], *arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "kubewire", "cp", *options, *map(str, arguments)]


def cp(
    options: list[str], *arguments: str | Path, stdin: bytes = b"", cwd: Path | None = None
) -> tuple[int, bytes, str]:
    done = subprocess.run(
        command(options, *arguments), input=stdin, capture_output=True, timeout=50, check=False, cwd=cwd
    )
    return done.returncode, done.stdout, done.stderr.decode()


def test_there_and_back_with_a_summary(options: list[str], tmp_path: Path) -> None:
    every_kind(tmp_path / "src")
    (tmp_path / "there").mkdir()
    code, out, err = cp(options, tmp_path / "src", f"default/host:{tmp_path}/there")
    assert (code, out) == (0, b"")
    first, second, last = err.splitlines()
    assert first.startswith("kubewire: copying src: ")
    assert second.startswith("kubewire: verifying src: ")
    assert last.startswith("kubewire: copied 4.0 MiB in 8 files, 16 directories, 6 links; ")
    assert "verified by cksum" in last
    assert last.endswith("tar (gnu); by the kubelet")
    assert cp(options, "-q", f"pod://default/host/main{tmp_path}/there/src", tmp_path / "back") == (0, b"", "")
    assert describe(tmp_path / "back") == describe(tmp_path / "src")


def test_a_local_path_with_a_colon(options: list[str], tmp_path: Path) -> None:
    (tmp_path / "a:b").write_bytes(b"colon")
    assert cp(options, "-q", "./a:b", f"host:{tmp_path}/c", cwd=tmp_path)[0] == 0
    assert (tmp_path / "c").read_bytes() == b"colon"


def test_standard_input_and_output(options: list[str], tmp_path: Path) -> None:
    data = os.urandom(3 * MIB)
    code, _, err = cp(options, "-", f"host:{tmp_path}/file", stdin=data)
    assert code == 0, err
    code, out, _ = cp(options, f"host:{tmp_path}/file", "-")
    assert (code, out) == (0, data)


def test_json_lines(options: list[str], tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"data")
    code, out, err = cp(options, "--json", tmp_path / "f", f"host:{tmp_path}/g")
    events = [json.loads(line) for line in err.splitlines()]
    assert (code, out) == (0, b"")
    assert {event["event"] for event in events} == {"progress", "done"}
    assert events[-1]["verification"] == "cksum"
    assert (events[-1]["bytes"], events[-1]["files"], events[-1]["route"]) == (4, 1, "kubelet")


def test_a_dry_run_says_what_it_would_do(options: list[str], tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"data")
    code, _, err = cp(options, "--dry-run", tmp_path / "f", f"host:{tmp_path}/g")
    assert (code, err) == (0, "kubewire: would copy 4 B in 1 file\n")
    assert not (tmp_path / "g").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["one"], 2, "name at least one source, and the target"),
        (["./a", "./b"], 2, "neither side is in a pod"),
        (["web:", "./b"], 2, "names no path in the pod"),
        (["-", "./b", "host:/x"], 2, "give one source with it"),
        (["host:/a", "demo:/b", "./c"], 2, "copy from one pod at a time"),
        (["--verify=crc", "./a", "host:/b"], 2, "verify: expected auto, none, cksum"),
        (["--compat", "--strategy=tar", "./a", "host:/b"], 2, "contradict one another"),
        (["/nonexistent", "host:/tmp"], 1, "does not exist"),
        (["host:/nonexistent", "."], 1, "does not exist in the container"),
        (["/etc/hostname", "host:/no/such/place"], 2, "does not exist in the container; make it first"),
        (["/etc/hostname", "demo:/tmp"], 1, "neither a shell nor tar; looked for sh, tar and bsdtar"),
        (["/etc/hostname", "nosuch:/tmp"], 255, "pod"),
    ],
)
def test_what_cannot_be(options: list[str], tmp_path: Path, arguments: list[str], code: int, text: str) -> None:
    found, out, err = cp(options, *arguments, cwd=tmp_path)
    assert (found, out) == (code, b""), err
    assert text in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_names_cannot_move_the_cursor(options: list[str], tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    os.mkfifo(tmp_path / "src" / "a\x1b[2Jb")
    code, _, err = cp(options, tmp_path / "src", f"host:{tmp_path}/out")
    assert code == 0
    assert "\x1b" not in err
    assert "left out" in err


@pytest.mark.parametrize("direction", ["in", "out"])
def test_a_kill_leaves_what_a_resume_goes_on_from(options: list[str], tmp_path: Path, direction: str) -> None:
    (tmp_path / "large").write_bytes(os.urandom(MIB) * 320)
    there = f"host:{tmp_path}/target"
    paths: list[str | Path] = [tmp_path / "large", there]
    if direction == "out":
        paths = [f"host:{tmp_path}/large", tmp_path / "target"]
    running = subprocess.Popen(
        command(options, "--json", "--parallel=1", *paths), stderr=subprocess.PIPE, start_new_session=True
    )
    assert running.stderr is not None
    for line in running.stderr:
        event = json.loads(line)
        if event.get("phase") == "transfer" and event["bytes"] > 200 * MIB:
            running.send_signal(signal.SIGKILL)
            break
    running.stderr.close()
    assert running.wait(20) == -signal.SIGKILL
    assert not (tmp_path / "target").exists()
    code, _, err = cp(options, "--json", "--resume", "--parallel=1", *paths)
    assert code == 0, err
    done = json.loads(err.splitlines()[-1])
    assert done["resumed_bytes"] >= 160 * MIB
    assert (tmp_path / "target").read_bytes() == (tmp_path / "large").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large", "target"]


def test_an_interrupt_says_how_to_go_on(options: list[str], tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(MIB) * 320)
    running = subprocess.Popen(
        command(options, "--json", "--parallel=1", tmp_path / "large", f"host:{tmp_path}/target"),
        stderr=subprocess.PIPE,
    )
    assert running.stderr is not None
    for line in running.stderr:
        if json.loads(line)["phase"] == "transfer":
            running.send_signal(signal.SIGINT)
            break
    rest = running.stderr.read().decode()
    running.stderr.close()
    assert running.wait(20) == 130
    assert "interrupted; what had come is kept: go on with --resume" in rest
    assert "Traceback" not in rest
    assert not (tmp_path / "target").exists()

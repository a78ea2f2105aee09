"""``kubewire cp`` beside ``kubectl cp``, both as whole processes, into and out of the same container.

kubectl goes its default way: WebSocket v5 through the apiserver, which translates it. Ours goes through the same
apiserver and straight to the kubelet. Every result is compared with its source, after the clock was stopped.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.goals import Goal, paired_remark
from benchmarks.harness import Bench, GoMissing, Outcome, Table, VariantFailed, go_programs
from benchmarks.peers.processes import python
from benchmarks.samples import Sample, Series, spread, value
from benchmarks.scenarios.tables import text

KUBECTL = "kubectl cp"
_SECONDS = 120.0
_FILES, _FILE = 5000, 4096
_GOALS = {
    ("up", "apiserver"): 2.0, ("up", "kubelet"): 4.0, ("down", "apiserver"): 1.4, ("down", "kubelet"): 2.5,
}  # fmt: skip
"""How many times as fast a large file has to go."""


def run(bench: Bench) -> Outcome:
    """A large file and a tree of small ones, both ways: time, processor time and memory of the client."""
    outcome = Outcome("copy", "Copying files, beside kubectl cp")
    try:
        kubectl = go_programs() / "kubectl"
    except GoMissing as missing:
        outcome.problems.append(f"left out: {missing}")
        return outcome
    # In memory: a disk would be what is measured.
    memory = Path("/dev/shm")
    folder = (memory if memory.is_dir() else bench.folder) / f"kubewire-bench-{os.getpid()}"
    folder.mkdir()
    try:
        with bench.unpinned(), _cluster(folder) as kubeconfig:
            world = _World(bench, folder, kubectl, kubeconfig)
            for what, make in (("1 GiB", world.make_large), ("5,000 files of 4 KiB", world.make_tree)):
                source, size = make()
                for direction in ("up", "down"):
                    variants: dict[str, Callable[[], Sample]] = {
                        KUBECTL: world.variant(source, size, direction, None),
                        "through the apiserver": world.variant(source, size, direction, "apiserver"),
                        "straight to the kubelet": world.variant(source, size, direction, "kubelet"),
                    }
                    series = bench.alternate(outcome, f"{what}, {direction}", variants)
                    _judge(outcome, series, direction, large=what == "1 GiB")
                shutil.rmtree(folder / "there", ignore_errors=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return outcome


@contextlib.contextmanager
def _cluster(folder: Path) -> Iterator[Path]:
    argv = [*python("kubewire", "fake", "--apiserver", "--allow-processes", "--write-config"), str(folder / "config")]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        yield Path(json.loads(process.stdout.readline())["kubeconfig"])
    finally:
        process.terminate()
        process.wait(20)
        if process.stdout is not None:
            process.stdout.close()


@dataclass
class _World:
    bench: Bench
    folder: Path
    kubectl: Path
    kubeconfig: Path

    def make_large(self) -> tuple[Path, int]:
        size = self.bench.size(1024)
        path = self.folder / "large"
        with open(path, "wb") as file:
            for _ in range(size >> 20):
                file.write(os.urandom(1 << 20))
        return path, size

    def make_tree(self) -> tuple[Path, int]:
        count = self.bench.count(_FILES)
        path = self.folder / "tree"
        path.mkdir()
        for number in range(count):
            (path / f"{number:05}").write_bytes(os.urandom(_FILE))
        return path, count * _FILE

    def variant(self, source: Path, size: int, direction: str, via: str | None) -> Callable[[], Sample]:
        """A whole process that copies ``source``; None is kubectl."""

        def measure() -> Sample:
            target = self.folder / "there"
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir()
            here, there = str(source), f"default/host:{source}"
            paths = [here, f"default/host:{target}/copy"] if direction == "up" else [there, f"{target}/copy"]
            if via is None:
                argv = [str(self.kubectl), f"--kubeconfig={self.kubeconfig}", "cp", *paths, "-c", "main"]
            else:
                argv = [*python("kubewire", "cp", "--json"), f"--kubeconfig={self.kubeconfig}", f"--via={via}", *paths]
                argv += ["-c", "main"]
            sample = _timed(argv, size)
            self._compare(source, target / "copy")
            return sample

        return measure

    @staticmethod
    def _compare(source: Path, copy: Path) -> None:
        """Whole files; a tree that has anything else or anything less is a failure."""
        done = subprocess.run(["diff", "-r", "-q", str(source), str(copy)], capture_output=True, text=True)
        if done.returncode:
            raise VariantFailed(f"the copy differs: {done.stdout.strip()[:200]} {done.stderr.strip()[:200]}")


def _timed(argv: list[str], size: int) -> Sample:
    """Run it, and take its time, processor time and memory."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "VIRTUAL_ENV") if name in os.environ}
    began = time.monotonic()
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment
    )
    assert process.stderr is not None
    said = process.stderr.read()
    process.stderr.close()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise VariantFailed(f"{argv[0]} ended with {process.returncode}: {said.decode(errors='replace')[-300:]}")
    values = {"peak_mib": usage.ru_maxrss / 1024, "transfer": wall, "verify": 0.0}
    if "--json" in argv:
        report = json.loads(said.splitlines()[-1])
        values |= {"transfer": report["transfer_seconds"], "verify": report["verify_seconds"]}
    return Sample(size, wall, usage.ru_utime, usage.ru_stime, values=values)


def _judge(outcome: Outcome, series: Series, direction: str, *, large: bool) -> None:
    wall, transfer, peak = (lambda sample: sample.wall), value("transfer"), value("peak_mib")
    rows = [
        [
            name,
            spread(series.all(name, wall), ".2f"),
            spread(series.all(name, transfer), ".2f") if name != KUBECTL else "",
            spread(series.all(name, value("verify")), ".2f") if name != KUBECTL else "",
            spread(series.all(name, lambda sample: sample.cpu), ".2f"),
            spread(series.all(name, peak), ".0f"),
            text(series.of_medians(KUBECTL, name, wall)),
        ]
        for name in series.samples
    ]
    columns = ["", "seconds", "of it transfer", "and verification", "client CPU s", "peak MiB", "times kubectl's speed"]
    outcome.tables.append(Table(series.title, columns, rows, "kubectl compares nothing; whole processes"))
    for name, via in (("through the apiserver", "apiserver"), ("straight to the kubelet", "kubelet")):
        # Of the transfer, as kubectl verifies nothing; digests of large files are taken on the way and are in it.
        speed = series.of_medians(KUBECTL, name, transfer)
        goal = _GOALS[direction, via] if large else 1.0
        remark = paired_remark(series.paired(KUBECTL, name, transfer))
        title = f"copy, {series.title}, {name}"
        outcome.goals.append(Goal(f"{title}: speed of kubectl's", "at least", goal, speed, "x", remark))
        if large:
            cost = series.of_minima(name, KUBECTL, lambda sample: sample.cpu)
            outcome.goals.append(Goal(f"{title}: client CPU of kubectl's", "at most", 1.0, cost, "x"))
        memory = series.median(name, peak)
        outcome.goals.append(Goal(f"{title}: peak memory", "at most", 100.0, memory, "MiB"))

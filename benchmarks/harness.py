"""Running variants in turn, each in a fresh process, and collecting what they cost.

Theory of operation. A *variant* is a function that yields one ``Sample``; a *series* runs all of them once for warm-up
and then N times, in turn, so that whatever disturbs the machine disturbs them alike. A Python variant runs in a process
of its own (``benchmarks.worker``), pinned to the client's core: imports, caches and memory of an earlier run cannot
help or hurt it. The Go client runs the same way, as itself. A variant that fails is reported and left out of the later
rounds; it does not end the run.
"""

from __future__ import annotations

import contextlib
import functools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from benchmarks import disturbance
from benchmarks.goals import Goal
from benchmarks.peers.processes import ROOT, Cores, Peer, pin, python
from benchmarks.samples import Sample, Series
from fakekubelet.pki import CertificateAuthority

_WORKER_SECONDS = 180.0

_TRIES = 4
"""Of a sample that other work on the machine disturbs."""

_PATIENCE = 5.0
"""Seconds to wait for that work to pause."""

EXEC_PATH = "/exec/default/demo/main"


class VariantFailed(Exception):
    """A measured process failed; the text is what it said."""


@dataclass(frozen=True, slots=True)
class Files:
    """The certificates of a run: one authority for both ends, P-256 throughout."""

    ca: str
    certificate: str
    key: str
    client_certificate: str
    client_key: str

    @classmethod
    def make(cls, folder: Path) -> Files:
        """Write them into ``folder``."""
        authority = CertificateAuthority.create("kubewire benchmark CA")
        certificate, key = authority.issue_server().write(folder, "server")
        client, client_key = authority.issue_client("bench", ["system:masters"]).write(folder, "client")
        ca = authority.write(folder / "ca.crt")
        return cls(*(str(path) for path in (ca, certificate, key, client, client_key)))


@dataclass(slots=True)
class Table:
    """Text for people; the numbers behind it are in ``Outcome.series``."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    note: str = ""


@dataclass(slots=True)
class Outcome:
    """What a scenario found."""

    name: str
    title: str
    tables: list[Table] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    series: list[Series] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Bench:
    """What every scenario is given: cores, certificates, sizes, and ways to run things."""

    def __init__(self, folder: Path, *, rounds: int, quick: bool, log: Callable[[str], None]) -> None:
        self.folder = folder
        self.rounds = rounds
        self.quick = quick
        self.log = log
        self.cores = Cores.available()
        self.files = Files.make(folder)

    def size(self, mib: int) -> int:
        """Bytes for a transfer of so many MiB; an eighth of it when everything is to be quick."""
        return (mib << 20) // (8 if self.quick else 1)

    def count(self, number: int) -> int:
        """A number of repetitions, less when everything is to be quick."""
        return max(2, number // (8 if self.quick else 1))

    @contextlib.contextmanager
    def unpinned(self) -> Iterator[None]:
        """What is started in this block, peers and measured processes, may run on every core."""
        saved, self.cores = self.cores, Cores(None, None)
        try:
            yield
        finally:
            self.cores = saved

    # -- peers -------------------------------------------------------------------------------------------------------

    def wire(self) -> Peer:
        """The sender and receiver that is not the brake."""
        return Peer(python("benchmarks.peers.wire", self.files.certificate, self.files.key), self.cores.peer)

    def fake(self) -> Peer:
        """The fake kubelet; ``ready`` names the files of its own authority and client."""
        return Peer(python("benchmarks.peers.fake", str(self.folder)), self.cores.peer)

    def go_server(self) -> Peer:
        """Kubernetes' own exec server. Raises GoMissing."""
        files = {"cert": self.files.certificate, "key": self.files.key, "client-ca": self.files.ca}
        argv = [str(go_programs() / "kwserver"), *(f"-{name}={path}" for name, path in files.items())]
        return Peer(argv, self.cores.peer)

    def target(self, peer: Peer) -> dict[str, str]:
        """What a worker needs to reach ``peer``. The fake kubelet brings its own certificates."""
        own = {"ca": self.files.ca, "cert": self.files.client_certificate, "key": self.files.client_key}
        return {"url": peer.url, **{name: str(peer.ready.get(name, path)) for name, path in own.items()}}

    # -- measured processes ------------------------------------------------------------------------------------------

    def worker(self, function: str, **parameters: object) -> dict[str, Any]:
        """Run ``benchmarks.variants.FUNCTION(**parameters)`` in a fresh process on the client's core.

        Raises VariantFailed with the last lines of what it wrote to stderr.
        """
        spec = json.dumps({"function": function, "parameters": parameters, "core": self.cores.client})
        argv = python("benchmarks.worker", spec)
        try:
            done = subprocess.run(
                argv, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_WORKER_SECONDS
            )
        except subprocess.TimeoutExpired as expired:
            raise VariantFailed(f"{function} took more than {_WORKER_SECONDS:g} s") from expired
        if done.returncode:
            raise VariantFailed(f"{function}: " + " / ".join(done.stderr.strip().splitlines()[-3:]))
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def variant(self, peer: Peer, function: str, **parameters: object) -> Callable[[], Sample]:
        """A variant that runs in a worker against ``peer``, whose processor time is taken too."""
        target = self.target(peer)
        return lambda: _sample(peer, lambda: self.worker(function, target=target, **parameters))

    def go_client(self, peer: Peer, command: list[str], size: int, **options: str) -> Callable[[], Sample]:
        """A variant that is Kubernetes' own client. ``options`` are those of ``kwclient``."""
        return lambda: _sample(peer, lambda: self.run_go_client(peer, command, size, options))

    def run_go_client(self, peer: Peer, command: list[str], size: int, options: Mapping[str, str]) -> dict[str, Any]:
        """One run of ``kwclient``, as a worker's answer. Raises VariantFailed or GoMissing."""
        report = self.folder / "kwclient.json"
        report.unlink(missing_ok=True)
        argv = [*self.go_client_argv(peer, command, options), f"-report={report}"]
        try:
            done = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_WORKER_SECONDS,
                preexec_fn=lambda: pin(self.cores.client),  # before Go starts, which counts its cores then
            )
        except subprocess.TimeoutExpired as expired:
            raise VariantFailed(f"kwclient took more than {_WORKER_SECONDS:g} s") from expired
        if done.returncode:
            raise VariantFailed(f"kwclient ended with {done.returncode}: {done.stderr.strip()[-300:]}")
        found = json.loads(report.read_text())
        moved = sum(session["stdin_bytes"] + session["stdout"]["bytes"] for session in found["sessions"])
        if moved < size:
            raise VariantFailed(f"kwclient moved {moved} bytes of {size}")
        answer = {"bytes": size or 1, "wall": found["wall_seconds"]}
        answer |= {"user": found["user_seconds"], "system": found["system_seconds"]}
        return {**answer, "sessions": found["sessions"]}

    def go_client_argv(self, peer: Peer, command: list[str], options: Mapping[str, str]) -> list[str]:
        """The command line of ``kwclient`` for a session at ``peer``."""
        target = self.target(peer)
        flags = {"input": options.get("stdin", "none"), "output": options["stdout"], "error": options["stderr"]}
        query = [("command", word) for word in command]
        query += [(name, "1") for name, spec in flags.items() if spec != "none"]
        files = {"ca": target["ca"], "cert": target["cert"], "key": target["key"]}
        url = f"{peer.url}{EXEC_PATH}?{urlencode(query)}"
        every = {"url": url, **files, **options}
        return [str(go_programs() / "kwclient"), *(f"-{name}={text}" for name, text in every.items())]

    # -- series ------------------------------------------------------------------------------------------------------

    def alternate(
        self, outcome: Outcome, title: str, variants: Mapping[str, Callable[[], Sample]], rounds: int | None = None
    ) -> Series:
        """Run the variants in turn: one round of warm-up, then the rounds that count."""
        series = Series(title)
        outcome.series.append(series)
        series.samples = {name: [] for name in variants}
        total = rounds or self.rounds
        for number in range(total + 1):
            self.log(f"{outcome.name}: {title}: {'warm-up' if not number else f'round {number} of {total}'}")
            for name, run in variants.items():
                if name in series.errors:
                    continue
                try:
                    sample = self._undisturbed(run, series) if number else run()
                except (VariantFailed, RuntimeError, GoMissing) as error:
                    series.errors[name] = str(error)
                    outcome.problems.append(f"{title}: {name}: {error}")
                    continue
                if number:
                    series.samples[name].append(sample)
        if series.disturbed:
            taken = sum(map(len, series.samples.values()))
            outcome.facts.setdefault("samples taken again", {})[title] = series.disturbed
            self.log(f"{outcome.name}: {title}: {series.disturbed} samples taken again for {taken} that count")
        return series

    def _undisturbed(self, run: Callable[[], Sample], series: Series) -> Sample:
        """A sample, taken again as long as other work disturbs it; after a few tries, the least disturbed."""
        best: Sample | None = None
        for _ in range(1 if self.quick else _TRIES):
            disturbance.await_calm(_PATIENCE)
            sample = run()
            if best is None or sample.foreign < best.foreign:
                best = sample
            if best.foreign <= disturbance.SHARE:
                break
            series.disturbed += 1
        assert best is not None
        return best

    def verify(self, outcome: Outcome, checks: Mapping[str, Callable[[], Sample]]) -> None:
        """Run each once, untimed, with a digest over every byte; what fails is a problem of the outcome."""
        for name, run in checks.items():
            self.log(f"{outcome.name}: every byte checked: {name}")
            try:
                run()
            except (VariantFailed, RuntimeError) as error:
                outcome.problems.append(f"NOT VERIFIED: {name}: {error}")
        outcome.facts["verified by digest"] = list(checks)


def _sample(peer: Peer, run: Callable[[], dict[str, Any]]) -> Sample:
    before = peer.cpu()
    watch = disturbance.Watch.start()
    answer = run()
    spent = peer.cpu() - before
    foreign = watch.foreign(spent)
    known = {name: answer.pop(name) for name in ("bytes", "wall", "user", "system")}
    values = {name: float(v) for name, v in answer.items() if isinstance(v, int | float)}
    if "sessions" in answer:
        values |= latencies([session["seconds"] for session in answer["sessions"]])
    return Sample(**known, peer_cpu=spent, values=values, foreign=foreign)


def latencies(seconds: list[float]) -> dict[str, float]:
    """The middle and the tail of a list of times, in milliseconds; the first five are warm-up."""
    kept = sorted(seconds[5:] or seconds)
    return {"p50_ms": 1e3 * kept[len(kept) // 2], "p99_ms": 1e3 * kept[min(len(kept) - 1, len(kept) * 99 // 100)]}


class GoMissing(Exception):
    """The Go peers cannot be had here."""


@functools.cache
def go_programs() -> Path:
    """The folder of the Go peers, compiled. Raises GoMissing, with the reason."""
    sys.path.append(str(ROOT / "tests"))
    from support import gopeers

    try:
        return gopeers.build()
    except (gopeers.PeerMissing, RuntimeError) as missing:
        raise GoMissing(str(missing)) from missing


def timed(run: Callable[[Bench], Outcome], bench: Bench) -> Outcome:
    """Run a scenario and note how long it took."""
    start = time.monotonic()
    outcome = run(bench)
    outcome.seconds = time.monotonic() - start
    return outcome


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder for certificates and reports that is gone at the end."""
    return tempfile.TemporaryDirectory(prefix="kubewire-bench-")

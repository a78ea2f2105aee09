"""Beside Kubernetes' own client, at Kubernetes' own server, which is the brake: throughput, client CPU, latency."""

from __future__ import annotations

import hashlib

from benchmarks.goals import Goal, paired_remark
from benchmarks.harness import Bench, GoMissing, Outcome, Table
from benchmarks.peers.processes import Peer
from benchmarks.samples import Series, cpu_per_gib, rate, spread, value
from benchmarks.scenarios.tables import cost_table, text
from fakekubelet.behaviours import keystream

GO = "Go client"
BARE = "(Python's bare TLS loop)"
"""What Python's own TLS socket costs for the same bytes, without looking at them: a client in Python that decrypts with
it cannot be cheaper."""

_MOST_CPU = 0.65
_SEED = "bench"


def transfers(bench: Bench) -> Outcome:
    """Download and upload, wherever the scheduler puts the two ends, and with each on a core of its own.

    The place matters to Go: a client that may use several cores hands its work from one to another, which costs; kept
    on one core it is cheaper. Users run it free, so that comes first.
    """
    outcome = Outcome("go", "At the Go server, beside the Go client")
    try:
        with bench.unpinned(), bench.go_server() as server:
            _verify(bench, outcome, server)
            _transfers(bench, outcome, server, "free")
        with bench.go_server() as server:
            _transfers(bench, outcome, server, "pinned")
    except GoMissing as missing:
        outcome.problems.append(f"left out: {missing}")
    return outcome


def _transfers(bench: Bench, outcome: Outcome, server: Peer, place: str) -> None:
    size, warm = bench.size(512), bench.size(32)
    where = "both ends on any core" if place == "free" else "each end on one core"
    down = {"argv": ["source", "{size}"], "size": size, "warm": warm}
    series = bench.alternate(
        outcome,
        f"exec stdout download, {where}",
        {
            GO: bench.go_client(server, ["source", str(size)], size, stdout="discard", stderr="none"),
            "blocking, readinto": bench.variant(server, "blocking.download", how="readinto", **down),
            "blocking, callback": bench.variant(server, "blocking.download", how="callback", **down),
            "asyncio, readinto": bench.variant(server, "aio.download", how="readinto", **down),
            BARE: bench.variant(server, "limits.download", **down),
        },
    )
    judge(outcome, series, f"download ({place})")
    up = {"argv": ["discard"], "size": size, "warm": warm}
    series = bench.alternate(
        outcome,
        f"exec stdin upload, {where}",
        {
            GO: bench.go_client(server, ["discard"], size, stdin=f"zero:{size}", stdout="discard", stderr="none"),
            "blocking, write": bench.variant(server, "blocking.upload", how="write", **up),
            "asyncio, write": bench.variant(server, "aio.upload", how="write", **up),
            BARE: bench.variant(server, "limits.upload", **up),
        },
    )
    judge(outcome, series, f"upload ({place})")


def judge(outcome: Outcome, series: Series, what: str, *, most_cpu: float | None = _MOST_CPU) -> None:
    """Client CPU and throughput, of the Go client's. The bare loop is told beside them and has no goal."""
    outcome.tables.append(cost_table(series, GO, over_base=True, note="the peer is the Go server"))
    bare = series.of_minima(BARE, GO, cpu_per_gib)
    for name in list(series.samples)[1:]:
        if name == BARE:
            continue
        title = f"{what}, {name}"
        if most_cpu is not None:
            ratio = series.of_minima(name, GO, cpu_per_gib)
            remark = paired_remark(series.paired(name, GO, cpu_per_gib))
            if bare is not None:
                remark += f"; the bare loop {bare:.2f}"
            goal = Goal(f"{title}: client CPU of the Go client's", "at most", most_cpu, ratio, "x", remark)
            outcome.goals.append(goal)
        speed = series.of_medians(name, GO, rate)
        remark = paired_remark(series.paired(name, GO, rate))
        outcome.goals.append(Goal(f"{title}: throughput of the Go client's", "at least", 1.0, speed, "x", remark))


def _verify(bench: Bench, outcome: Outcome, server: Peer) -> None:
    """Every byte by digest, once for each way, apart from the rounds that are timed."""
    size = bench.size(64)
    digest = hashlib.sha256()
    for piece in keystream(size, _SEED):
        digest.update(piece)
    down = {"argv": ["random", "{size}", _SEED], "size": size, "digest": digest.hexdigest()}
    up = {"argv": ["sink"], "size": size, "how": "write"}
    checks = {
        f"{flavour} download, {how}": bench.variant(server, f"{flavour}.download", how=how, **down)
        for flavour in ("blocking", "aio")
        for how in ("readinto", "callback", "read")
    }
    checks |= {f"{flavour} upload": bench.variant(server, f"{flavour}.upload", **up) for flavour in ("blocking", "aio")}
    bench.verify(outcome, checks)


def latency(bench: Bench) -> Outcome:
    """A whole short exec: dial, TLS with client certificate, upgrade, streams, command, exit status."""
    outcome = Outcome("latency", "A whole short exec at the Go server, beside the Go client")
    count = bench.count(160)
    command = ["exit", "0"]
    try:
        with bench.go_server() as server:
            series = bench.alternate(
                outcome,
                "dial, TLS, upgrade, run, status",
                {
                    GO: bench.go_client(server, command, 0, stdout="discard", stderr="discard", repeat=str(count)),
                    "blocking": bench.variant(server, "blocking.latency", argv=command, count=count),
                    "asyncio": bench.variant(server, "aio.latency", argv=command, count=count),
                },
            )
    except GoMissing as missing:
        outcome.problems.append(f"left out: {missing}")
        return outcome
    p50, p99 = value("p50_ms"), value("p99_ms")
    rows = [
        [
            name,
            spread(series.all(name, p50), ".2f"),
            spread(series.all(name, p99), ".2f"),
            spread([1e3 * sample.cpu / count for sample in series.samples[name]], ".2f"),
            spread([1e3 * (sample.peer_cpu or 0.0) / count for sample in series.samples[name]], ".2f"),
            text(series.of_medians(name, GO, p50)),
        ]
        for name in series.samples
    ]
    columns = ["", "p50 ms", "p99 ms", "client CPU ms", "server CPU ms", "p50 / Go's"]
    outcome.tables.append(Table(series.title, columns, rows, f"{count} sessions a round, one after another"))
    for name in ("blocking", "asyncio"):
        paired = paired_remark(series.paired(name, GO, p50))
        outcome.goals.append(
            Goal(
                f"short exec, {name}: p50 of the Go client's",
                "at most",
                1.0,
                series.of_medians(name, GO, p50),
                "x",
                paired,
            )
        )
    return outcome

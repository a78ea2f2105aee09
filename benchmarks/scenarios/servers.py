"""The fake kubelet as a server, beside the Go server, with the same clients: processor time of the server."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.goals import Goal, paired_remark
from benchmarks.harness import Bench, GoMissing, Outcome, Table
from benchmarks.peers.processes import Peer
from benchmarks.samples import Sample, Series, cpu_per_gib, peer_cpu_per_gib, rate, spread
from benchmarks.scenarios.tables import text

GO, FAKE = "Go server", "fake kubelet"


def run(bench: Bench) -> Outcome:
    """Both directions, with the Go client and with ours."""
    outcome = Outcome("servers", "The fake kubelet as a server, beside the Go server")
    try:
        with bench.go_server() as go, bench.fake() as fake:
            for client in ("Go client", "blocking client"):
                for direction in ("download", "upload"):
                    series = bench.alternate(
                        outcome,
                        f"{direction} by the {client}",
                        {GO: _variant(bench, go, client, direction), FAKE: _variant(bench, fake, client, direction)},
                    )
                    _judge(outcome, series)
    except GoMissing as missing:
        outcome.problems.append(f"left out: {missing}")
    return outcome


def _variant(bench: Bench, server: Peer, client: str, direction: str) -> Callable[[], Sample]:
    size = bench.size(512)
    if client == "Go client":
        if direction == "download":
            return bench.go_client(server, ["source", str(size)], size, stdout="discard", stderr="none")
        return bench.go_client(server, ["discard"], size, stdin=f"zero:{size}", stdout="discard", stderr="none")
    if direction == "download":
        return bench.variant(server, "blocking.download", argv=["source", "{size}"], size=size, how="readinto")
    return bench.variant(server, "blocking.upload", argv=["discard"], size=size, how="write")


def _judge(outcome: Outcome, series: Series) -> None:
    rows = [
        [
            name,
            spread(series.all(name, rate), ".2f"),
            spread(series.all(name, peer_cpu_per_gib), ".2f"),
            spread(series.all(name, cpu_per_gib), ".2f"),
            text(series.of_minima(name, GO, peer_cpu_per_gib)),
            text(series.paired(name, GO, peer_cpu_per_gib)),
        ]
        for name in series.samples
    ]
    columns = ["", "GiB/s", "server CPU s/GiB", "client CPU s/GiB", "server CPU / Go's (minima)", "(paired)"]
    outcome.tables.append(Table(series.title, columns, rows))
    ratio = series.of_minima(FAKE, GO, peer_cpu_per_gib)
    paired = paired_remark(series.paired(FAKE, GO, peer_cpu_per_gib))
    outcome.goals.append(
        Goal(f"fake kubelet, {series.title}: server CPU of the Go server's", "at most", 1.0, ratio, "x", paired)
    )

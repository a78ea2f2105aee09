"""At a peer that is not the brake, beside the bare TLS loops of the standard library over the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from benchmarks.goals import Goal, paired_remark
from benchmarks.harness import Bench, Outcome, Table
from benchmarks.peers.patterns import PATTERNS
from benchmarks.peers.processes import Peer
from benchmarks.peers.wire import expected_digest
from benchmarks.samples import Sample, Series, cpu_per_gib, spread, value
from benchmarks.scenarios.tables import cost_table, inverse, text

RX, TX = "limit: SSLSocket.recv_into 64 KiB", "limit: SSLSocket.sendall 256 KiB"
_LEAST: Final = {
    "blocking, readinto": 0.92,
    "blocking, callback": 0.92,
    "blocking, read": 0.90,
    "asyncio, readinto": 0.85,
    "asyncio, read": 0.85,
}
_FURTHER: Final = {"asyncio, readinto": 0.88}
_BACKLOG: Final = {"go-32k": (1.15, 128), "joined-1k": (1.4, 24), "go-1k": (1.8, 12)}
_MANY: Final = {2: 1.2, 16: 1.05}
_PAUSE: Final = 0.002


def efficiency(series: Series, name: str, limit: str) -> tuple[float | None, str]:
    """The limit's CPU seconds per GiB over the variant's, by minima, and the remark with the paired ratio."""
    paired = inverse(series.paired(name, limit, cpu_per_gib))
    return inverse(series.of_minima(name, limit, cpu_per_gib)), paired_remark(paired)


def aim(outcome: Outcome, series: Series, name: str, limit: str, what: str, least: float) -> None:
    """Note a goal: at least so much of the limit."""
    ratio, remark = efficiency(series, name, limit)
    outcome.goals.append(Goal(what, "at least", least, ratio, "x the limit", remark))


def _download(peer: Peer, bench: Bench, how: str, parameters: dict[str, Any]) -> Callable[[], Sample]:
    flavour, _, way = how.partition(", ")
    function = {"blocking": "blocking.download", "asyncio": "aio.download"}[flavour]
    return bench.variant(peer, function, how=way, **parameters)


def download(bench: Bench) -> Outcome:
    """One connection; ready-made frames as fast as TLS allows."""
    outcome = Outcome("download", "Download from a sender that is not the brake")
    cases: list[tuple[str, str, list[str]]] = [
        ("go-32k", "batch", list(_LEAST)),
        ("go-32k", "record", ["blocking, readinto", "asyncio, readinto"]),
        ("joined-64k", "batch", ["blocking, readinto", "asyncio, readinto"]),
    ]
    size, warm = bench.size(512), bench.size(32)
    with bench.wire() as peer:
        _verify(bench, outcome, peer)
        for pattern, flush, ways in cases:
            given = {"argv": ["dump", pattern, "{size}", flush], "size": size, "warm": warm}
            variants = {RX: bench.variant(peer, "limits.download", **given)}
            variants |= {how: _download(peer, bench, how, given) for how in ways}
            sending = "in batches of 256 KiB" if flush == "batch" else "each record by itself, as Go does"
            series = bench.alternate(outcome, f"{pattern}: {PATTERNS[pattern].who}, sent {sending}", variants)
            outcome.tables.append(cost_table(series, RX, over_base=False))
            if (pattern, flush) == ("go-32k", "batch"):
                for how in ways:
                    aim(outcome, series, how, RX, f"download, {how}", _LEAST[how])
                    if how in _FURTHER:
                        aim(outcome, series, how, RX, f"download, {how} (further goal)", _FURTHER[how])
    return outcome


def _verify(bench: Bench, outcome: Outcome, peer: Peer) -> None:
    checks: dict[str, Callable[[], Sample]] = {}
    odd = 12_345  # the last frame is not whole
    for name, pattern in PATTERNS.items():
        if name.startswith("ws-"):
            continue
        size = bench.size(32 if pattern.payload > 1024 else 4) + odd
        given = {"argv": ["dump", name, "{size}", "batch"], "size": size, "digest": expected_digest(pattern, size)}
        checks |= {f"{name}: {how}": _download(peer, bench, how, given) for how in _LEAST}
    bench.verify(outcome, checks)


def upload(bench: Bench) -> Outcome:
    """One connection; the receiver decrypts and counts, 1 MiB at a time."""
    outcome = Outcome("upload", "Upload to a receiver that is not the brake")
    given = {"argv": ["sink"], "size": bench.size(512), "warm": bench.size(32)}
    with bench.wire() as peer:
        series = bench.alternate(
            outcome,
            "exec stdin upload",
            {
                TX: bench.variant(peer, "limits.upload", **given),
                "blocking, write": bench.variant(peer, "blocking.upload", how="write", **given),
                "blocking, iterable": bench.variant(peer, "blocking.upload", how="iterable", **given),
                "asyncio, write": bench.variant(peer, "aio.upload", how="write", **given),
            },
        )
    outcome.tables.append(
        cost_table(series, TX, over_base=False, note="write: 1 MiB each; iterable: pieces of 256 KiB")
    )
    for name, least in (("blocking, write", 1.15), ("blocking, iterable", 1.15), ("asyncio, write", 1.10)):
        aim(outcome, series, name, TX, f"upload, {name}", least)
    return outcome


def backlog(bench: Bench) -> Outcome:
    """The consumer pauses, so that data queues up in front of it, as it does when something is done with it."""
    outcome = Outcome("backlog", "Download with a consumer that pauses 2 ms for each 256 KiB")
    with bench.wire() as peer:
        for pattern, (least, mib) in _BACKLOG.items():
            given = {"argv": ["dump", pattern, "{size}", "batch"], "size": bench.size(mib), "pause": _PAUSE}
            given["warm"] = bench.size(4)
            series = bench.alternate(
                outcome,
                f"{pattern}: {PATTERNS[pattern].who}",
                {
                    RX: bench.variant(peer, "limits.download", **given),
                    "blocking, callback": _download(peer, bench, "blocking, callback", given),
                    "asyncio, readinto": _download(peer, bench, "asyncio, readinto", given),
                },
            )
            outcome.tables.append(cost_table(series, RX, over_base=False))
            aim(outcome, series, "blocking, callback", RX, f"backlog, {pattern}, blocking", least)
    return outcome


def many(bench: Bench) -> Outcome:
    """Several connections in one thread."""
    outcome = Outcome("many", "Several downloads in one thread, beside the limit for one after another")
    given = {"argv": ["dump", "go-32k", "{size}", "batch"], "size": bench.size(512), "warm": bench.size(32)}
    each = "limit, dialled one after another"
    with bench.wire() as peer:
        for connections, least in _MANY.items():
            series = bench.alternate(
                outcome,
                f"{connections} connections",
                {
                    RX: bench.variant(peer, "limits.download", connections=connections, **given),
                    each: bench.variant(peer, "limits.download", connections=connections, dial="each", **given),
                    **{
                        f"asyncio, {how}": bench.variant(
                            peer, "aio.download", how=how, connections=connections, **given
                        )
                        for how in ("callback", "readinto")
                    },
                },
            )
            note = "all are open before the clock starts; the limit reads one after another to its end"
            outcome.tables.append(cost_table(series, RX, over_base=False, note=note))
            aim(outcome, series, "asyncio, callback", RX, f"{connections} downloads at once, asyncio", least)
    return outcome


def echo(bench: Bench) -> Outcome:
    """What one small write and its answer take."""
    outcome = Outcome("echo", "A round trip of 64 bytes through a session, beside ready-made frames")
    sync, streams = "limit: SSLSocket", "limit: asyncio streams"
    count = bench.count(4000)
    with bench.wire() as peer:
        series = bench.alternate(
            outcome,
            "64 B there and back",
            {
                sync: bench.variant(peer, "limits.echo", count=count),
                "blocking": bench.variant(peer, "blocking.echo", count=count),
                streams: bench.variant(peer, "limits.echo_streams", count=count),
                "asyncio": bench.variant(peer, "aio.echo", count=count),
            },
        )
    p50, p99 = value("p50_us"), value("p99_us")
    bases = {"blocking": sync, sync: sync, "asyncio": streams, streams: streams}
    rows = [
        [
            name,
            spread(series.all(name, p50), ".0f"),
            spread(series.all(name, p99), ".0f"),
            text(series.of_minima(name, bases[name], p50)),
            text(series.paired(name, bases[name], p50)),
        ]
        for name in series.samples
    ]
    outcome.tables.append(Table(series.title, ["", "p50 us", "p99 us", "p50 / its limit (minima)", "(paired)"], rows))
    for name, most in (("blocking", 1.15), ("asyncio", 1.0)):
        ratio = series.of_minima(name, bases[name], p50)
        remark = paired_remark(series.paired(name, bases[name], p50))
        outcome.goals.append(Goal(f"64 B echo, {name}: p50", "at most", most, ratio, "x the limit", remark))
    return outcome

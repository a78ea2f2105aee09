"""Parts on their own, without a network: parsing, decrypting and parsing, opening a stream."""

from __future__ import annotations

from typing import Any, Final

from benchmarks.goals import Goal
from benchmarks.harness import Bench, Outcome, Table, VariantFailed
from benchmarks.peers.patterns import PATTERNS
from benchmarks.scenarios.tables import text

_PAYLOADS: Final = (64, 1024, 16376, 32760, 65528)
_H2_PAYLOADS: Final = (1024, 16384)
_HEADERS: Final = (3, 4)


def run(bench: Bench) -> Outcome:
    """Everything once; each number is the least of seven runs within one process."""
    outcome = Outcome("parts", "Parts on their own, without a network")
    facts = outcome.facts

    def ask(name: str, function: str, **parameters: object) -> dict[str, Any] | None:
        bench.log(f"parts: {name}")
        try:
            facts[name] = bench.worker(f"micro.{function}", **parameters)
        except VariantFailed as failed:
            outcome.problems.append(f"{name}: {failed}")
            return None
        found: dict[str, Any] = facts[name]
        return found

    rows = []
    for payload in _PAYLOADS:
        mib = max(1, bench.size(128 if payload > 1024 else 16) >> 20)
        found = ask(f"parse {payload}", "parse", payload=payload, mib=mib)
        if found:
            rows += [_row(f"{name} alone, {payload} B frames", found[name]) for name in ("engine", "session")]
    for name, pattern in PATTERNS.items():
        mib = max(1, bench.size(64 if pattern.payload > 1024 else 16) >> 20)
        given = {"folder": str(bench.folder), "payload": pattern.payload, "records": pattern.records, "mib": mib}
        if found := ask(f"decrypt {name}", "decrypt_and_parse", **given):
            rows.append(_row(f"TLS alone, {name}", found["tls"]))
            rows.append(_row(f"TLS and session, {name}", found["both"]))
    for payload in _H2_PAYLOADS:
        for acknowledge in (False, True):
            name = f"h2 alone, {payload} B frames" + (", windows kept open" if acknowledge else "")
            given = {"payload": payload, "mib": max(1, bench.size(8) >> 20), "acknowledge": acknowledge}
            if found := ask(name, "h2_parse", **given):
                rows.append(_row(name, found))
    outcome.tables.append(Table("receiving", ["", "1000 frames/s", "CPU s/GiB"], rows))
    _judge_frames(outcome)
    rows = []
    for headers in _HEADERS:
        if found := ask(f"open a stream with {headers} headers", "open_stream", headers=headers):
            rows.append([f"{headers} headers", text(found["microseconds"], ".1f")])
            what = f"SYN_STREAM with {headers} headers"
            outcome.goals.append(Goal(what, "at most", 8.0, found["microseconds"], "us"))
    outcome.tables.append(Table("opening a stream", ["", "us"], rows))
    return outcome


def _row(name: str, found: dict[str, float]) -> list[str]:
    return [name, text(found["frames_per_second"] / 1000, ".0f"), text(found["cpu_per_gib"])]


def _judge_frames(outcome: Outcome) -> None:
    ours, theirs = outcome.facts.get("decrypt joined-1k"), outcome.facts.get("h2 alone, 1024 B frames")
    ratio = ours["both"]["frames_per_second"] / theirs["frames_per_second"] if ours and theirs else None
    what = "1 KiB frames, decrypted and parsed: rate of h2's parsing alone"
    outcome.goals.append(Goal(what, "at least", 5.5, ratio, "x"))

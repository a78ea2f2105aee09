"""Memory of the client: through transfers of every size, and with a thousand idle sessions."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.goals import Goal
from benchmarks.harness import Bench, GoMissing, Outcome, Table, VariantFailed
from benchmarks.peers.processes import Peer, pin
from benchmarks.scenarios.tables import text

_SIZES: Final = (1, 16, 64, 256, 1024, 4096)
_MIB: Final = 1 << 20
_SETTLE_SECONDS: Final = 60.0


def transfers(bench: Bench) -> Outcome:
    """The peak of resident memory after one transfer of each size, each in a fresh process."""
    outcome = Outcome("memory", "Memory of the client's process through one transfer")
    sizes = _SIZES[:-2] if bench.quick else _SIZES
    rows = []
    with bench.wire() as peer:
        target = bench.target(peer)
        for flavour in ("blocking", "asyncio"):
            for direction in ("download", "upload"):
                argv = ["dump", "go-32k", "{size}", "batch"] if direction == "download" else ["sink"]
                found: list[dict[str, Any]] = []
                for mib in sizes:
                    bench.log(f"memory: {flavour} {direction}, {mib} MiB")
                    given = {"argv": argv, "size": mib * _MIB, "flavour": flavour, "direction": direction}
                    try:
                        found.append({"mib": mib, **bench.worker("memory.transfer", target=target, **given)})
                    except VariantFailed as failed:
                        outcome.problems.append(f"{flavour} {direction} of {mib} MiB: {failed}")
                outcome.facts[f"{flavour} {direction}"] = found
                if len(found) == len(sizes):
                    rows.append(_row(f"{flavour} {direction}", found))
                    outcome.goals += _flat(f"{flavour} {direction}", found)
    columns = ["", "before", *(f"{mib} MiB" if mib < 1024 else f"{mib // 1024} GiB" for mib in sizes)]
    note = "MiB of resident memory: before the transfer, and the peak of the whole process after one of each size"
    outcome.tables.append(Table("resident memory", columns, rows, note))
    return outcome


def _row(name: str, found: Sequence[dict[str, Any]]) -> list[str]:
    return [name, text(found[0]["before"] / _MIB, ".1f"), *(text(each["peak"] / _MIB, ".1f") for each in found)]


def _flat(name: str, found: Sequence[dict[str, Any]]) -> list[Goal]:
    above = max((each["peak"] - each["before"]) / _MIB for each in found)
    peaks = [each["peak"] for each in found if each["mib"] >= 64]
    growth = max(peaks) / peaks[0]
    return [
        Goal(f"{name}: memory above the idle client", "at most", 64.0, above, "MiB"),
        Goal(f"{name}: peak from 64 MiB on, to that of 64 MiB", "at most", 1.10, growth, "x"),
    ]


def sessions(bench: Bench) -> Outcome:
    """A thousand sessions in one process; the server is another one."""
    outcome = Outcome("sessions", "Memory of idle sessions with three open streams")
    count = bench.count(1000)
    rows = []
    with bench.wire() as peer:
        target = bench.target(peer)
        for flavour in ("blocking", "asyncio"):
            bench.log(f"sessions: {count} of the {flavour} flavour")
            try:
                found = bench.worker("memory.idle", target=target, count=count, flavour=flavour)
            except VariantFailed as failed:
                outcome.problems.append(f"{flavour}: {failed}")
                continue
            outcome.facts[flavour] = found
            rows.append([flavour, *(text(found[name], ".1f") for name in ("idle", "received", "sent", "open_seconds"))])
            outcome.goals += _session_goals(flavour, found)
        bench.log(f"sessions: {count} of the Go client")
        try:
            each, seconds = _go_sessions(bench, peer, count)
            outcome.facts["Go client"] = {"idle": each, "open_seconds": seconds}
            rows.append(["Go client", text(each, ".1f"), "-", "-", text(seconds, ".1f")])
        except (GoMissing, VariantFailed) as problem:
            outcome.problems.append(f"Go client: {problem}")
    columns = ["", "idle", "after 256 KiB received", "after 256 KiB sent too", "s to open all"]
    outcome.tables.append(Table(f"{count} sessions, KiB each", columns, rows))
    return outcome


def _session_goals(flavour: str, found: dict[str, float]) -> list[Goal]:
    idle, received, sent = found["idle"], found["received"], found["sent"]
    return [
        Goal(f"idle session, {flavour}", "at most", 64.0, idle, "KiB"),
        Goal(f"idle session, {flavour} (further goal)", "at most", 32.0, idle, "KiB"),
        Goal(f"session after a burst received, {flavour}", "at most", 100.0, received, "KiB"),
        Goal(f"session after a burst received, {flavour} (further goal)", "at most", 80.0, received, "KiB"),
        Goal(f"session after a burst each way, {flavour}", "at most", 100.0, sent, "KiB"),
    ]


def _go_sessions(bench: Bench, peer: Peer, count: int) -> tuple[float, float]:
    """KiB for each idle session of the Go client, the process itself taken off, and seconds until all were open."""
    alone, _ = _go_resident(bench, peer, 1)
    together, seconds = _go_resident(bench, peer, count)
    return (together - alone) / 1024 / (count - 1), seconds


def _go_resident(bench: Bench, peer: Peer, count: int) -> tuple[int, float]:
    options = {"stdin": "hold", "stdout": "discard", "stderr": "discard"}
    argv = bench.go_client_argv(peer, ["burst", "1"], {**options, "repeat": str(count), "parallel": str(count)})
    start = time.monotonic()
    client = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: pin(bench.cores.client),  # before Go starts, which counts its cores then
    )
    try:
        while True:
            ticks = _ticks(client.pid)
            time.sleep(0.5)  # nothing to wait for: a client that is idle says nothing
            if client.poll() is not None:
                raise VariantFailed(f"kwclient ended with {client.returncode} before its sessions were open")
            if time.monotonic() - start > _SETTLE_SECONDS:
                raise VariantFailed(f"kwclient did not come to rest with {count} sessions in {_SETTLE_SECONDS:g} s")
            if _sockets(client.pid) >= count and _ticks(client.pid) - ticks <= 1:
                pages = int(Path(f"/proc/{client.pid}/statm").read_text().split()[1])
                return pages * os.sysconf("SC_PAGESIZE"), time.monotonic() - start
    finally:
        client.kill()
        client.wait()


def _sockets(pid: int) -> int:
    found = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found += os.readlink(entry).startswith("socket:")
        except OSError:  # closed meanwhile
            continue
    return found


def _ticks(pid: int) -> int:
    """Processor time of a process, in hundredths of a second as a rule."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])

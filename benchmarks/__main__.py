"""``python -m benchmarks``: run scenarios, print tables, write what was found.

Exits with 0 when everything ran, whatever the numbers; with 1 when a variant failed; with 2 for wrong usage. Goals that
were missed are printed, and are no failure of the run: a machine can be slow.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from pathlib import Path
from typing import Final

from benchmarks import environment, report
from benchmarks.harness import Bench, Outcome, scratch, timed
from benchmarks.scenarios import SCENARIOS

ROUNDS: Final = 7
QUICK_ROUNDS: Final = 2


def main() -> int:
    """Parse, run, report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--scenario", action="append", metavar="NAME", choices=sorted(SCENARIOS), help="only this one; may be repeated"
    )
    parser.add_argument("--list", action="store_true", help="name the scenarios and end")
    parser.add_argument("--rounds", type=int, help=f"rounds of each series (default {ROUNDS}, quick {QUICK_ROUNDS})")
    parser.add_argument(
        "--quick", action="store_true", help="an eighth of the bytes: to see that it works, not for numbers"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every raw sample there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there")
    options = parser.parse_args()
    if options.list:
        for name, run in SCENARIOS.items():
            print(f"{name:10} {(run.__doc__ or '').partition(chr(10))[0]}")
        return 0
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    stamp = environment.stamp()
    with scratch() as folder:
        bench = Bench(Path(folder), rounds=rounds, quick=options.quick, log=_log)
        if not bench.cores.apart:
            _log("this machine has one core for both ends: throughput means nothing here, processor time still does")
        names = options.scenario or list(SCENARIOS)
        outcomes = [_run(name, bench) for name in names]
    print(report.terminal(outcomes, stamp))
    if options.json:
        settings = {"rounds": rounds, "quick": options.quick, "scenarios": names}
        report.write_json(options.json, outcomes, stamp, settings)
    if options.markdown:
        options.markdown.parent.mkdir(parents=True, exist_ok=True)
        options.markdown.write_text(report.markdown(outcomes, stamp))
    return 1 if any(outcome.problems for outcome in outcomes) else 0


def _run(name: str, bench: Bench) -> Outcome:
    """A scenario; what it raises is a problem of it, and the others still run."""
    try:
        return timed(SCENARIOS[name], bench)
    except Exception as error:
        traceback.print_exc()
        return Outcome(name, f"{name} (failed)", problems=[f"{type(error).__name__}: {error}"])


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

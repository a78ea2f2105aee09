"""Search for inputs that break a target: ``python -m tests.fuzz [TARGET...] [--seconds N] [--seed N] [--runs N]``."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import secrets
import sys
import tempfile
from pathlib import Path

from . import driver


def main(argv: list[str] | None = None) -> int:
    """Run the named targets (all by default), one after another; 1 when any of them broke, 0 when none did."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"any of: {', '.join(driver.discover())}")
    parser.add_argument("--seconds", type=float, default=10.0, help="time for each target (default: 10)")
    parser.add_argument("--runs", type=int, help="stop after so many inputs")
    parser.add_argument("--seed", type=int, help="repeat the run that printed this seed")
    parser.add_argument("--output", type=Path, default=Path("build/fuzz"), help="where inputs that break go")
    parser.add_argument("--no-atheris", action="store_true", help="the random loop even where atheris is installed")
    options = parser.parse_args(argv)
    names = options.targets or driver.discover()
    if unknown := sorted(set(names) - set(driver.discover())):
        parser.error(f"unknown target: {', '.join(unknown)}")
    if not options.no_atheris and importlib.util.find_spec("atheris"):
        if len(names) != 1:
            parser.error("atheris takes over the process: name one target, or give --no-atheris")
        return _run_atheris(names[0], options.seconds)
    seed = secrets.randbits(32) if options.seed is None else options.seed
    broken = 0
    for name in names:
        target = driver.load(name)
        report = driver.fuzz(target, seed=seed, runs=options.runs, seconds=options.seconds)
        print(f"{name}: {report.runs} inputs, seed {seed}, slowest {report.slowest * 1000:.0f} ms of CPU", end="")
        if report.finding is None:
            print(", nothing broke")
            continue
        broken += 1
        path = driver.save(target, report.finding, options.output)
        print(f", BROKE with {len(report.finding.data)} bytes, saved as {path}:\n  {report.finding.error}")
    return 1 if broken else 0


def _run_atheris(name: str, seconds: float) -> int:
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["spdyproto", "fakekubelet", "kubeletclient"]):
        target = driver.load(name)
    with tempfile.TemporaryDirectory() as found:  # atheris adds what reaches new code to the first folder
        arguments = [name, f"-max_total_time={int(seconds)}", f"-max_len={target.max_size}", found]
        atheris.Setup([*arguments, str(driver.CORPORA / name)], target.one_input)
        atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())

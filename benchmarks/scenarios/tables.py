"""The tables that several scenarios share."""

from __future__ import annotations

from benchmarks.harness import Table
from benchmarks.samples import Series, cpu_per_gib, kernel_share, peer_cpu_per_gib, rate, spread


def cost_table(series: Series, base: str, *, over_base: bool, note: str = "") -> Table:
    """Throughput and processor time of each variant, and its ratio to ``base``.

    ``over_base``: the ratio is cost over the base's cost, so less is better, as against Go. Otherwise it is the base's
    cost over the variant's, so more is better, as against a limit.
    """
    sign = "cost / its cost" if over_base else "its cost / cost"
    columns = ["", "GiB/s", "CPU s/GiB", "in the kernel", "peer CPU s/GiB", f"{sign} (minima)", "(paired)"]
    rows = []
    for name in series.samples:
        ratio, paired = (
            series.of_minima(name, base, cpu_per_gib), series.paired(name, base, cpu_per_gib)
        )  # fmt: skip
        if not over_base:
            ratio, paired = inverse(ratio), inverse(paired)
        rows.append(
            [
                name,
                spread(series.all(name, rate), ".2f"),
                spread(series.all(name, cpu_per_gib), ".2f"),
                percent(series.median(name, kernel_share)),
                spread(series.all(name, peer_cpu_per_gib), ".2f"),
                text(ratio),
                text(paired),
            ]
        )
    return Table(series.title, columns, rows, note)


def inverse(value: float | None) -> float | None:
    """One over ``value``; None stays."""
    return None if value is None else 1 / value


def percent(value: float | None) -> str:
    """A share for a cell."""
    return "-" if value is None else f"{100 * value:.0f} %"


def text(value: float | None, form: str = ".2f") -> str:
    """A number for a cell."""
    return "-" if value is None else format(value, form)

"""What a run found, for a terminal, for a Markdown page, and as JSON with every raw sample."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.goals import Goal
from benchmarks.harness import Outcome, Table

_GOALS = ["", "goal", "reached", "verdict"]


def _goal_row(goal: Goal) -> list[str]:
    return [goal.what, goal.goal_text, goal.reached_text, goal.verdict]


def terminal(outcomes: Sequence[Outcome], environment: dict[str, str]) -> str:
    """Everything, in columns."""
    lines = [f"{name:20} {text}" for name, text in environment.items()]
    for outcome in outcomes:
        lines += ["", f"== {outcome.title} ({outcome.name}, {outcome.seconds:.0f} s)"]
        for table in outcome.tables:
            lines += ["", *_columns(table)]
        if outcome.goals:
            lines += ["", *_columns(Table("goals", _GOALS, [_goal_row(goal) for goal in outcome.goals]))]
        lines += [f"   ! {problem}" for problem in outcome.problems]
    return "\n".join([*lines, "", summary(outcomes)])


def _columns(table: Table) -> list[str]:
    rows = [table.columns, *table.rows]
    widths = [max(len(row[index]) for row in rows) for index in range(len(table.columns))]
    lines = [f"-- {table.title}"] + ([f"   {table.note}"] if table.note else [])
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("   " + "  ".join(cells).rstrip())
    return lines


def summary(outcomes: Sequence[Outcome]) -> str:
    """One line: how many goals were met, which were not, and what failed."""
    goals = [goal for outcome in outcomes for goal in outcome.goals]
    by_verdict = {
        verdict: [g.what for g in goals if g.verdict == verdict] for verdict in ("close", "MISSED", "no data")
    }
    problems = sum(len(outcome.problems) for outcome in outcomes)
    met = len(goals) - sum(map(len, by_verdict.values()))
    parts = [f"{met} of {len(goals)} goals met"]
    parts += [f"{verdict}: {'; '.join(names)}" for verdict, names in by_verdict.items() if names]
    parts += [f"{problems} problems (marked ! above)"] if problems else []
    return "\n".join(parts)


def markdown(outcomes: Sequence[Outcome], environment: dict[str, str]) -> str:
    """A page: the goals of everything first, then the tables of each scenario."""
    goals = [goal for outcome in outcomes for goal in outcome.goals]
    lines = ["# Benchmark results", ""]
    lines += [f"- {name}: {text}" for name, text in environment.items()]
    lines += ["", "*close*: missed by less than 8 %, the noise of one series on a shared machine.", ""]
    lines += _pipes(_GOALS, [_goal_row(goal) for goal in goals])
    for outcome in outcomes:
        lines += ["", f"## {outcome.title}"]
        for table in outcome.tables:
            lines += ["", f"**{table.title}**" + (f": {table.note}" if table.note else ""), ""]
            lines += _pipes(table.columns, table.rows)
        if outcome.problems:
            lines += ["", *(f"- problem: {problem}" for problem in outcome.problems)]
    return "\n".join([*lines, ""])


def _pipes(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(columns) + " |", "|---" + "|---:" * (len(columns) - 1) + "|"]
    return lines + ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]


def write_json(path: Path, outcomes: Sequence[Outcome], environment: dict[str, str], settings: dict[str, Any]) -> None:
    """Every raw sample, so that another statistic can be taken later."""
    found = []
    for outcome in outcomes:
        goals = [{**asdict(goal), "verdict": goal.verdict} for goal in outcome.goals]
        series = [each.raw() for each in outcome.series]
        known = {"name": outcome.name, "title": outcome.title, "seconds": outcome.seconds}
        found.append({**known, "goals": goals, "series": series, "facts": outcome.facts, "problems": outcome.problems})
    document = {"environment": environment, "settings": settings, "scenarios": found}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")

"""What was promised, what was reached, and whether that is enough. Nothing here rounds in our favour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

SLACK: Final = 0.08
"""How much one series of a few rounds may be off on a shared machine; between the goal and this lies *close*."""

Verdict = Literal["met", "close", "MISSED", "no data"]


@dataclass(frozen=True, slots=True)
class Goal:
    """One promise: ``reached`` is to be at least (or at most) ``goal``."""

    what: str
    sign: Literal["at least", "at most"]
    goal: float
    reached: float | None
    unit: str = ""
    remark: str = ""

    @property
    def verdict(self) -> Verdict:
        """*met*; *close*, when missed by less than the noise of one series; *MISSED*; *no data*."""
        if self.reached is None:
            return "no data"
        shortfall = self.goal / self.reached if self.sign == "at least" else self.reached / self.goal
        if shortfall <= 1.0:
            return "met"
        return "close" if shortfall <= 1.0 + SLACK else "MISSED"

    @property
    def goal_text(self) -> str:
        """Such as ``>= 0.92 x``."""
        return f"{'>=' if self.sign == 'at least' else '<='} {self.goal:g}{_unit(self.unit)}"

    @property
    def reached_text(self) -> str:
        """What was measured, with its remark."""
        if self.reached is None:
            return self.remark or "-"
        digits = ".2f" if abs(self.reached) < 100 else ".0f"
        text = f"{self.reached:{digits}}{_unit(self.unit)}"
        return f"{text} ({self.remark})" if self.remark else text


def _unit(unit: str) -> str:
    return f" {unit}" if unit else ""


def paired_remark(value: float | None) -> str:
    """The remark that tells the median of the paired ratios beside the ratio of minima."""
    return "" if value is None else f"paired {value:.2f}"

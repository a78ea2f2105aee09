"""Samples, series of alternating rounds, and the two ways to compare what is in them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

GIB: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one variant. ``cpu`` is user and system seconds of the measured process alone."""

    bytes: int
    wall: float
    user: float
    system: float
    peer_cpu: float | None = None
    values: dict[str, float] = field(default_factory=dict)
    foreign: float = 0.0
    """Of one core, the share that work outside of the measurement took meanwhile."""

    @property
    def cpu(self) -> float:
        """Processor seconds."""
        return self.user + self.system

    @property
    def cpu_per_gib(self) -> float:
        """Processor seconds for each GiB of payload."""
        return self.cpu * GIB / self.bytes

    @property
    def peer_cpu_per_gib(self) -> float:
        """The same of the other end. Raises ValueError where it was not asked."""
        if self.peer_cpu is None:
            raise ValueError("the peer was not asked for its processor time")
        return self.peer_cpu * GIB / self.bytes

    @property
    def rate(self) -> float:
        """GiB of payload for each second of the clock."""
        return self.bytes / GIB / self.wall


Metric = Callable[[Sample], float]


class Series:
    """The samples of variants that ran in turn, round by round: A B C, A B C, ..."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.samples: dict[str, list[Sample]] = {}
        self.errors: dict[str, str] = {}
        self.disturbed = 0
        """Samples that were thrown away because other work on the machine disturbed them."""

    def __contains__(self, name: str) -> bool:
        return bool(self.samples.get(name))

    def all(self, name: str, metric: Metric) -> list[float]:
        """A metric of every round; empty for a variant that failed."""
        return [metric(sample) for sample in self.samples.get(name, [])]

    def median(self, name: str, metric: Metric) -> float | None:
        """The median; None without samples."""
        found = self.all(name, metric)
        return statistics.median(found) if found else None

    def of_minima(self, name: str, base: str, metric: Metric) -> float | None:
        """The smallest of ``name`` divided by the smallest of ``base``: the least disturbed round of each."""
        ours, theirs = self.all(name, metric), self.all(base, metric)
        return min(ours) / min(theirs) if ours and theirs else None

    def of_medians(self, name: str, base: str, metric: Metric) -> float | None:
        """The same of medians."""
        ours, theirs = self.median(name, metric), self.median(base, metric)
        return ours / theirs if ours is not None and theirs else None

    def paired(self, name: str, base: str, metric: Metric) -> float | None:
        """The median over the rounds of ``name`` divided by ``base`` in the same round."""
        ratios = [a / b for a, b in zip(self.all(name, metric), self.all(base, metric), strict=False)]
        return statistics.median(ratios) if ratios else None

    def raw(self) -> dict[str, Any]:
        """Everything, for the JSON file."""
        rounds = {name: [asdict(sample) for sample in samples] for name, samples in self.samples.items()}
        return {"title": self.title, "samples": rounds, "errors": self.errors, "disturbed": self.disturbed}


def cpu_per_gib(sample: Sample) -> float:
    """Metric: processor seconds for each GiB."""
    return sample.cpu_per_gib


def peer_cpu_per_gib(sample: Sample) -> float:
    """Metric: the other end's processor seconds for each GiB."""
    return sample.peer_cpu_per_gib


def kernel_share(sample: Sample) -> float:
    """Metric: how much of the processor time was the kernel's."""
    return sample.system / sample.cpu if sample.cpu else 0.0


def rate(sample: Sample) -> float:
    """Metric: GiB each second."""
    return sample.rate


def value(key: str) -> Metric:
    """Metric: one of the further values of a sample."""
    return lambda sample: sample.values[key]


def spread(values: Sequence[float], form: str) -> str:
    """Median and range as text, in the given format; a dash for nothing."""
    if not values:
        return "-"
    middle, low, high = (format(v, form) for v in (statistics.median(values), min(values), max(values)))
    return middle if len(values) == 1 else f"{middle} [{low} .. {high}]"

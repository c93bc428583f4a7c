"""Quartiles, ratios and budgets."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from .result import Measurement
from .workload import Budget


class Quartiles(NamedTuple):
    low: float
    median: float
    high: float


def quartiles(samples: Sequence[float]) -> Quartiles:
    """Return the quartiles; a single sample is all three."""
    if len(samples) == 1:
        return Quartiles(samples[0], samples[0], samples[0])
    return Quartiles(*statistics.quantiles(samples, n=4, method="inclusive"))


def percentile(samples: Sequence[float], share: float) -> float:
    """Return the smallest sample that ``share`` of all samples do not exceed; 0 without samples."""
    if not samples:
        return 0.0
    ordered = sorted(samples)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def ratios(one: Measurement, other: Measurement) -> Quartiles:
    """Compare round by round, so that slowing down a whole round does not change the ratio."""
    return quartiles([a / b for a, b in zip(one.seconds, other.seconds, strict=True)])


class Verdict(NamedTuple):
    """A budget and the ratio that was measured."""

    workload: str
    budget: Budget
    ratio: Quartiles

    @property
    def is_met(self) -> bool:
        return self.ratio.median <= self.budget.factor


def verdicts(
    measurements: Sequence[Measurement], workload: str, budgets: Sequence[Budget]
) -> list[Verdict]:
    """Return the verdicts on those budgets of the workload whose subjects were measured."""
    found = {each.subject: each for each in measurements if each.workload == workload}
    return [
        Verdict(workload, budget, ratios(found[budget.subject], found[budget.baseline]))
        for budget in budgets
        if budget.subject in found and budget.baseline in found
    ]

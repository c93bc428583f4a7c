"""Medians, quartiles and ratios."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from .result import Measured
from .workload import Budget


class Quartiles(NamedTuple):
    low: float
    median: float
    high: float


def quartiles(samples: Sequence[float]) -> Quartiles:
    """Return the quartiles; of one sample, three times that."""
    if len(samples) == 1:
        return Quartiles(samples[0], samples[0], samples[0])
    return Quartiles(*statistics.quantiles(samples, n=4, method="inclusive"))


def percentile(samples: Sequence[float], share: float) -> float:
    """Return the least sample that ``share`` of all do not exceed; 0 without samples."""
    if not samples:
        return 0.0
    ordered = sorted(samples)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def ratios(one: Measured, other: Measured) -> Quartiles:
    """Compare round by round, so that what slows down a whole round counts for nothing."""
    return quartiles([a / b for a, b in zip(one.seconds, other.seconds, strict=True)])


class Verdict(NamedTuple):
    """What came of a budget."""

    workload: str
    budget: Budget
    ratio: Quartiles

    @property
    def is_kept(self) -> bool:
        return self.ratio.median <= self.budget.factor


def verdicts(
    measured: Sequence[Measured], workload: str, budgets: Sequence[Budget]
) -> list[Verdict]:
    """Return what came of those budgets of the workload whose contenders were measured."""
    found = {each.contender: each for each in measured if each.workload == workload}
    return [
        Verdict(workload, budget, ratios(found[budget.contender], found[budget.baseline]))
        for budget in budgets
        if budget.contender in found and budget.baseline in found
    ]

"""Comparison of two runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .result import OtherRatio, OtherRun, Report
from .summary import Quartiles, ratios
from .workload import WORKLOADS


class Pair(NamedTuple):
    """The same ratio in two runs."""

    workload: str
    subject: str
    baseline: str
    ratio: Quartiles
    other: Quartiles

    @property
    def agrees(self) -> bool:
        """Whether the interquartile ranges overlap."""
        return self.ratio.low <= self.other.high and self.other.low <= self.ratio.high


def other_run(report: Report) -> OtherRun:
    """Return what a comparison needs of a run."""
    found = [
        OtherRatio(
            workload=workload,
            subject=subject,
            baseline=baseline,
            quartiles=(ratio.low, ratio.median, ratio.high),
        )
        for (workload, subject, baseline), ratio in _ratios(report)
    ]
    return OtherRun(date=report.machine.date, ratios=found)


def pairs(report: Report, other: OtherRun) -> list[Pair]:
    """Return the ratios that both runs have."""
    known = {(each.workload, each.subject, each.baseline): each for each in other.ratios}
    return [
        Pair(*key, ratio, Quartiles(*known[key].quartiles))
        for key, ratio in _ratios(report)
        if key in known
    ]


def _ratios(report: Report) -> Iterator[tuple[tuple[str, str, str], Quartiles]]:
    """Yield the ratio of each goscope backend to its baseline, and the ratios with a budget."""
    for workload in WORKLOADS:
        measured = [each for each in report.measurements if each.workload == workload.name]
        found = {each.subject: each for each in measured}
        wanted = [(name, found[name].baseline) for name in found if name.startswith("goscope")]
        wanted += [(budget.subject, budget.baseline) for budget in workload.budgets]
        for subject, baseline in dict.fromkeys(wanted):
            if subject in found and baseline in found:
                ratio = ratios(found[subject], found[baseline])
                yield (workload.name, subject, baseline), ratio

"""Whether another run found the same ratios."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .result import OtherRatio, OtherRun, Report
from .summary import Quartiles, ratios
from .workload import WORKLOADS


class Pair(NamedTuple):
    """What a contender costs against another in two runs."""

    workload: str
    contender: str
    baseline: str
    ratio: Quartiles
    other: Quartiles

    @property
    def agrees(self) -> bool:
        """Whether the quartiles of the two overlap."""
        return self.ratio.low <= self.other.high and self.other.low <= self.ratio.high


def other_run(report: Report) -> OtherRun:
    """What of a run is kept to compare another one with it."""
    found = [
        OtherRatio(
            workload=workload,
            contender=contender,
            baseline=baseline,
            quartiles=(ratio.low, ratio.median, ratio.high),
        )
        for (workload, contender, baseline), ratio in _ratios(report)
    ]
    return OtherRun(date=report.machine.date, ratios=found)


def pairs(report: Report, other: OtherRun) -> list[Pair]:
    """The ratios that both runs have."""
    known = {(each.workload, each.contender, each.baseline): each for each in other.ratios}
    return [
        Pair(*key, ratio, Quartiles(*known[key].quartiles))
        for key, ratio in _ratios(report)
        if key in known
    ]


def _ratios(report: Report) -> Iterator[tuple[tuple[str, str, str], Quartiles]]:
    """Each of goscope's backends against its limit, and against what its budgets name."""
    for workload in WORKLOADS:
        found = {each.contender: each for each in report.measured if each.workload == workload.name}
        wanted = [(name, found[name].limit) for name in found if name.startswith("goscope")]
        wanted += [(budget.contender, budget.baseline) for budget in workload.budgets]
        for contender, baseline in dict.fromkeys(wanted):
            if contender in found and baseline in found:
                ratio = ratios(found[contender], found[baseline])
                yield (workload.name, contender, baseline), ratio

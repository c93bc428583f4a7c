"""The plot: one line a contender, its cost as a multiple of the limit on a logarithmic axis.

Drawn by hand, since a plotting library would be the largest thing in the project. It reads in
light and dark, and without colours: every mark has its name and its number beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import Final, NamedTuple

from . import contenders
from .result import Measured, Report
from .summary import Quartiles, ratios
from .workload import FAMILIES

WIDTH: Final = 820
LEFT: Final = 200
RIGHT: Final = 740
TOP: Final = 56
LINE: Final = 17
PARTS: Final = {kind.name for kind in contenders.PARTS}
GAP: Final = 14

_STYLE: Final = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600 }
.number { font-variant-numeric: tabular-nums }
.grid { stroke: #d0d7de }
.limit { stroke: #1f2328 }
.peer { stroke: #59636e; fill: #ffffff; stroke-width: 1.5 }
.ours { stroke: #0969da; fill: #0969da; stroke-width: 1.5 }
.bold { font-weight: 600 }
.paper { fill: #ffffff }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .grid { stroke: #30363d }
  .limit { stroke: #e6edf3 }
  .peer { stroke: #9198a1; fill: #0d1117 }
  .ours { stroke: #58a6ff; fill: #58a6ff }
  .paper { fill: #0d1117 }
}
"""


class Mark(NamedTuple):
    """One contender's cost: a multiple of the limit."""

    label: str
    ratio: Quartiles


class Group(NamedTuple):
    """The contenders of one workload."""

    title: str
    marks: list[Mark]


class Axis(NamedTuple):
    """A logarithmic axis between two powers of ten."""

    low: int
    high: int

    @classmethod
    def over(cls, groups: Sequence[Group]) -> Axis:
        found = [mark.ratio for group in groups for mark in group.marks]
        low = min((ratio.low for ratio in found), default=1.0)
        high = max((ratio.high for ratio in found), default=1.0)
        return cls(min(math.floor(math.log10(low)), -1), max(math.ceil(math.log10(high)), 1))

    def x(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return round(LEFT + share * (RIGHT - LEFT), 1)

    def decades(self) -> list[float]:
        return [10.0**power for power in range(self.low, self.high + 1)]


def draw(report: Report) -> str:
    """Return the plot of a report's workloads as SVG."""
    groups = list(_groups(report.measured))
    return "\n".join(_svg(groups, Axis.over(groups)))


def _groups(measured: Sequence[Measured]) -> Iterator[Group]:
    """The workloads that have a limit, each contender but the limit itself a mark."""
    for workload in (workload for family in FAMILIES for workload in family.workloads):
        found = {each.contender: each for each in measured if each.workload == workload.name}
        marks = [
            Mark(name, ratios(each, found[each.limit]))
            for name, each in found.items()
            if each.limit in found and name != each.limit and name not in PARTS
        ]
        if marks:
            yield Group(workload.name, sorted(marks, key=lambda mark: mark.ratio.median))


def _svg(groups: Sequence[Group], axis: Axis) -> Iterator[str]:
    height = TOP + sum(_height(group) for group in groups)
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    yield f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
    title = "Cost of one operation as a multiple of the limit; less is better"
    yield f"<title>{title}</title><style>{_STYLE}</style>"
    yield f'<rect class="paper" width="{WIDTH}" height="{height}"/>'
    yield f'<text class="title" x="12" y="20">{title}</text>'
    yield from _grid(axis, height)
    top = TOP
    for group in groups:
        yield from _group(group, axis, top)
        top += _height(group)
    yield "</svg>\n"


def _height(group: Group) -> int:
    return LINE * (len(group.marks) + 1) + GAP


def _grid(axis: Axis, height: int) -> Iterator[str]:
    for value in axis.decades():
        x = axis.x(value)
        kind = "limit" if value == 1 else "grid"
        label = "limit" if value == 1 else f"{value:g} x"
        yield f'<text x="{x}" y="42" text-anchor="middle">{label}</text>'
        yield f'<line class="{kind}" x1="{x}" y1="48" x2="{x}" y2="{height - 6}"/>'


def _group(group: Group, axis: Axis, top: int) -> Iterator[str]:
    yield f'<text class="title" x="12" y="{top + 12}">{escape(group.title)}</text>'
    for place, mark in enumerate(group.marks, 1):
        yield from _mark(mark, axis, top + place * LINE + 8)


def _mark(mark: Mark, axis: Axis, y: int) -> Iterator[str]:
    """A dot at the median, a line between the quartiles, the name and the number."""
    ours = mark.label.startswith("goscope")
    kind, weight = ("ours", " bold") if ours else ("peer", "")
    low, x, high = (axis.x(value) for value in mark.ratio)
    number = f"{mark.ratio.median:.2f}" if mark.ratio.median < 10 else f"{mark.ratio.median:.0f}"
    name = f'<text class="{weight.strip()}" x="{LEFT - 10}" y="{y + 4}" text-anchor="end">'
    yield f"{name}{escape(mark.label)}</text>"
    yield f'<line class="{kind}" x1="{low}" y1="{y}" x2="{high}" y2="{y}"/>'
    yield f'<circle class="{kind}" cx="{x}" cy="{y}" r="4"/>'
    end = f'x="{WIDTH - 12}" y="{y + 4}" text-anchor="end"'
    yield f'<text class="number{weight}" {end}>{number}</text>'

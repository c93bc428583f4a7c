"""The plot: one row per subject, its time relative to the baseline on a logarithmic axis.

It is plain SVG, because a plotting library would be the largest dependency of the project. It is
readable in light and dark mode and without colour: every mark has its name and its ratio beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import Final, NamedTuple

from . import subjects
from .result import Measurement, Report
from .summary import Quartiles, ratios
from .workload import WORKLOAD_GROUPS

WIDTH: Final = 820
LEFT: Final = 200
RIGHT: Final = 740
TOP: Final = 56
ROW_HEIGHT: Final = 17
COMPONENTS: Final = {kind.name for kind in subjects.COMPONENTS}
PANEL_GAP: Final = 14

_STYLE: Final = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600 }
.number { font-variant-numeric: tabular-nums }
.grid { stroke: #d0d7de }
.baseline { stroke: #1f2328 }
.peer { stroke: #59636e; fill: #ffffff; stroke-width: 1.5 }
.ours { stroke: #0969da; fill: #0969da; stroke-width: 1.5 }
.bold { font-weight: 600 }
.paper { fill: #ffffff }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .grid { stroke: #30363d }
  .baseline { stroke: #e6edf3 }
  .peer { stroke: #9198a1; fill: #0d1117 }
  .ours { stroke: #58a6ff; fill: #58a6ff }
  .paper { fill: #0d1117 }
}
"""


class Mark(NamedTuple):
    """A subject and its ratio to the baseline."""

    label: str
    ratio: Quartiles


class Panel(NamedTuple):
    """The marks of one workload."""

    title: str
    marks: list[Mark]


class Axis(NamedTuple):
    """A logarithmic axis between two powers of ten."""

    low: int
    high: int

    @classmethod
    def over(cls, panels: Sequence[Panel]) -> Axis:
        found = [mark.ratio for panel in panels for mark in panel.marks]
        low = min((ratio.low for ratio in found), default=1.0)
        high = max((ratio.high for ratio in found), default=1.0)
        return cls(min(math.floor(math.log10(low)), -1), max(math.ceil(math.log10(high)), 1))

    def x(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return round(LEFT + share * (RIGHT - LEFT), 1)

    def decades(self) -> list[float]:
        return [10.0**power for power in range(self.low, self.high + 1)]


def draw(report: Report) -> str:
    """Return the plot of the report's workloads as SVG."""
    panels = list(_panels(report.measurements))
    return "\n".join(_svg(panels, Axis.over(panels)))


def _panels(measurements: Sequence[Measurement]) -> Iterator[Panel]:
    """Yield one panel per workload, without the baseline and the components."""
    for workload in (workload for group in WORKLOAD_GROUPS for workload in group.workloads):
        found = {each.subject: each for each in measurements if each.workload == workload.name}
        marks = [
            Mark(name, ratios(each, found[each.baseline]))
            for name, each in found.items()
            if each.baseline in found and name != each.baseline and name not in COMPONENTS
        ]
        if marks:
            yield Panel(workload.name, sorted(marks, key=lambda mark: mark.ratio.median))


def _svg(panels: Sequence[Panel], axis: Axis) -> Iterator[str]:
    height = TOP + sum(_height(panel) for panel in panels)
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    yield f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
    title = "Time of one operation relative to the baseline; lower is better"
    yield f"<title>{title}</title><style>{_STYLE}</style>"
    yield f'<rect class="paper" width="{WIDTH}" height="{height}"/>'
    yield f'<text class="title" x="12" y="20">{title}</text>'
    yield from _grid(axis, height)
    top = TOP
    for panel in panels:
        yield from _panel(panel, axis, top)
        top += _height(panel)
    yield "</svg>\n"


def _height(panel: Panel) -> int:
    return ROW_HEIGHT * (len(panel.marks) + 1) + PANEL_GAP


def _grid(axis: Axis, height: int) -> Iterator[str]:
    for value in axis.decades():
        x = axis.x(value)
        kind = "baseline" if value == 1 else "grid"
        label = "baseline" if value == 1 else f"{value:g} x"
        yield f'<text x="{x}" y="42" text-anchor="middle">{label}</text>'
        yield f'<line class="{kind}" x1="{x}" y1="48" x2="{x}" y2="{height - 6}"/>'


def _panel(panel: Panel, axis: Axis, top: int) -> Iterator[str]:
    yield f'<text class="title" x="12" y="{top + 12}">{escape(panel.title)}</text>'
    for row, mark in enumerate(panel.marks, 1):
        yield from _mark(mark, axis, top + row * ROW_HEIGHT + 8)


def _mark(mark: Mark, axis: Axis, y: int) -> Iterator[str]:
    """Yield a dot at the median, a line between the quartiles, the name and the ratio."""
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

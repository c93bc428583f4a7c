"""Two runs are compared ratio by ratio."""

from __future__ import annotations

import pytest

from bench.comparison import other_run, pairs
from bench.report import render
from bench.result import Machine, Measurement, Report

MACHINE = Machine(
    date="2026-01-02 03:04 UTC",
    system="Linux",
    processor="some",
    cores=2,
    memory_gib=1,
    load_before=0,
    versions={},
)


def run(*seconds: float) -> Report:
    """A run in which sqlite-bun took this long and the baseline took 1 in each round."""
    measured = [
        Measurement(workload="set, 1 caller", subject=name, baseline="sqlite3", seconds=list(each))
        for name, each in (
            ("goscope sqlite-bun", seconds),
            ("sqlite3", [1.0] * len(seconds)),
            ("aiosqlite", [2.0] * len(seconds)),
        )
    ]
    return Report(size="smoke", seconds=1, machine=MACHINE, configuration={}, measurements=measured)


@pytest.mark.parametrize(
    ("one", "other", "agrees"),
    [
        ((1.0, 2.0, 3.0), (2.0, 3.0, 4.0), True),
        ((1.0, 2.0, 3.0), (2.5, 3.0, 3.5), False),
        ((5.0, 5.0, 5.0), (1.0, 4.0, 20.0), True),
    ],
)
def test_ratios_agree_if_their_interquartile_ranges_overlap(
    one: tuple[float, ...], other: tuple[float, ...], agrees: bool
) -> None:
    for first, second in ((one, other), (other, one)):
        found = pairs(run(*first), other_run(run(*second)))
        assert [(each.subject, each.baseline, each.agrees) for each in found] == [
            ("goscope sqlite-bun", "sqlite3", agrees)
        ]


def test_a_ratio_of_only_one_run_is_not_compared() -> None:
    empty = Report(size="smoke", seconds=1, machine=MACHINE, configuration={})
    assert pairs(run(1.0), other_run(empty)) == []
    assert pairs(empty, other_run(run(1.0))) == []


def test_the_report_counts_the_ratios_that_agree() -> None:
    report = run(1.0, 2.0, 3.0)
    assert "Comparison of two runs" not in render(report)
    report.other_run = other_run(run(9.0, 9.0, 9.0))
    page = render(report)
    assert "0 of 1 ratios agree with the run of 2026-01-02 03:04 UTC" in page
    assert "| 2.00 (1.50 to 2.50) | 9.00 (9.00 to 9.00) | **no** |" in page

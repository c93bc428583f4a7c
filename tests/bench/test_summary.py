"""Medians, quartiles, ratios and budgets."""

from __future__ import annotations

import pytest

from bench.result import Measured
from bench.summary import Quartiles, percentile, quartiles, ratios, verdicts
from bench.workload import Budget


def measured(contender: str, *seconds: float) -> Measured:
    return Measured(workload="get", contender=contender, limit="limit", seconds=list(seconds))


def test_quartiles_include_the_ends() -> None:
    assert quartiles([1, 2, 3, 4, 5]) == Quartiles(2, 3, 4)
    assert quartiles([7.0]) == Quartiles(7, 7, 7)


def test_ratios_are_taken_in_each_round() -> None:
    """A round in which the machine was ten times slower changes nothing."""
    assert ratios(measured("a", 2, 20, 2), measured("limit", 1, 10, 1)) == Quartiles(2, 2, 2)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.5, 51), (0.99, 100), (1.0, 100)])
def test_percentiles_are_samples(share: float, expected: int) -> None:
    assert percentile(range(100, 0, -1), share) == expected
    assert percentile([], share) == 0


def test_a_budget_is_kept_up_to_its_factor() -> None:
    all_measured = [measured("limit", 1, 1), measured("a", 2, 2)]
    kept, missed = verdicts(
        all_measured, "get", [Budget("a", 2.0, "limit"), Budget("a", 1.99, "limit")]
    )
    assert kept.is_kept
    assert not missed.is_kept


def test_a_budget_of_what_was_not_measured_is_left_out() -> None:
    assert verdicts([measured("a", 1)], "get", [Budget("a", 2.0, "limit")]) == []

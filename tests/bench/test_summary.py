"""Quartiles, percentiles, ratios and budgets."""

from __future__ import annotations

import pytest

from bench.result import Measurement
from bench.summary import Quartiles, percentile, quartiles, ratios, verdicts
from bench.workload import Budget


def measurement(subject: str, *seconds: float) -> Measurement:
    return Measurement(workload="get", subject=subject, baseline="baseline", seconds=list(seconds))


def test_quartiles_use_the_inclusive_method() -> None:
    assert quartiles([1, 2, 3, 4, 5]) == Quartiles(2, 3, 4)
    assert quartiles([7.0]) == Quartiles(7, 7, 7)


def test_ratios_compare_samples_of_the_same_round() -> None:
    """A round in which the machine is ten times slower does not change the ratio."""
    assert ratios(measurement("a", 2, 20, 2), measurement("baseline", 1, 10, 1)) == Quartiles(
        2, 2, 2
    )


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.5, 51), (0.99, 100), (1.0, 100)])
def test_a_percentile_is_one_of_the_samples(share: float, expected: int) -> None:
    assert percentile(range(100, 0, -1), share) == expected
    assert percentile([], share) == 0


def test_a_budget_is_met_up_to_its_factor() -> None:
    measurements = [measurement("baseline", 1, 1), measurement("a", 2, 2)]
    met, not_met = verdicts(
        measurements, "get", [Budget("a", 2.0, "baseline"), Budget("a", 1.99, "baseline")]
    )
    assert met.is_met
    assert not not_met.is_met


def test_a_budget_without_measurements_has_no_verdict() -> None:
    assert verdicts([measurement("a", 1)], "get", [Budget("a", 2.0, "baseline")]) == []

"""Handoff latencies and waiting times are derived from the grants of several processes."""

from __future__ import annotations

import pytest

from bench.waiting import Grant, _competition, _handoff


def test_a_handoff_lasts_from_the_release_to_the_next_grant() -> None:
    one = [Grant(token=1, requested=0.0, granted=0.0, released=0.010)]
    other = [Grant(token=2, requested=0.005, granted=0.012, released=0.020)]
    found = _handoff([other, one])
    assert found.count == 1
    assert round(found.p50_ms, 6) == round(found.max_ms, 6) == 2


@pytest.mark.parametrize(
    ("why", "requested", "granted"),
    [("no process was waiting at the release", 0.011, 0.012), ("the wait was long", -0.2, 0.012)],
)
def test_a_grant_without_a_short_wait_is_not_a_handoff(
    why: str, requested: float, granted: float
) -> None:
    one = [Grant(token=1, requested=-1, granted=-1, released=0.010)]
    other = [Grant(token=2, requested=requested, granted=granted, released=0.020)]
    assert _handoff([one, other]).count == 0, why


def test_grants_are_counted_per_process() -> None:
    grant = Grant(token=1, requested=1.0, granted=1.5, released=2.0)
    found = _competition([[grant], [grant, grant._replace(granted=3.0)], []])
    assert found.grants == [1, 2, 0]
    assert (found.p50_ms, found.max_ms) == (500, 2000)

"""What of the turns of several processes is the time a lock takes to change hands."""

from __future__ import annotations

import pytest

from bench.waiting import Grant, _handover, _turns


def test_a_handover_is_from_the_release_to_the_next_grant() -> None:
    one = [Grant(token=1, asked=0.0, granted=0.0, released=0.010)]
    other = [Grant(token=2, asked=0.005, granted=0.012, released=0.020)]
    found = _handover([other, one])
    assert found.count == 1
    assert round(found.p50, 6) == round(found.worst, 6) == 2


@pytest.mark.parametrize(
    ("why", "asked", "granted"),
    [("nobody waited at the release", 0.011, 0.012), ("the wait was long", -0.2, 0.012)],
)
def test_other_handovers_do_not_count(why: str, asked: float, granted: float) -> None:
    one = [Grant(token=1, asked=-1, granted=-1, released=0.010)]
    other = [Grant(token=2, asked=asked, granted=granted, released=0.020)]
    assert _handover([one, other]).count == 0, why


def test_turns_are_counted_by_process() -> None:
    turn = Grant(token=1, asked=1.0, granted=1.5, released=2.0)
    found = _turns([[turn], [turn, turn._replace(granted=3.0)], []])
    assert found.grants == [1, 2, 0]
    assert (found.p50, found.worst) == (500, 2000)

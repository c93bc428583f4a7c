"""Every rule finds the histories that break it, and accepts similar ones that do not."""

from __future__ import annotations

from typing import Final

import pytest

from .data_cases import DATA_CASES
from .histories import PAGE, Case, action, combine, grant, history
from .lease_cases import LEASE_CASES
from .result_cases import RESULT_CASES
from .rules import RULES, check

CASES: Final = [*LEASE_CASES, *DATA_CASES, *RESULT_CASES]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}: {case.name}")
def test_the_checker_finds_the_broken_rule_and_no_other(case: Case) -> None:
    assert {violation.rule for violation in check(history(case.bad))} == {case.rule}
    assert check(history(case.good)) == []


def test_every_rule_has_a_case_that_breaks_it() -> None:
    """So a rule that is removed from RULES fails a case."""
    for rule in RULES:
        assert any(list(rule(history(case.bad))) for case in CASES), rule.__name__


def test_a_computed_value_is_not_a_violation() -> None:
    facts = action("compute", 2, 5, key=PAGE, value=700)
    name = f"{facts[0].process}:{facts[0].id}"
    got = action("get_or_set", 0, 9, key="page:0", result=name)
    assert check(history(combine(grant(1, 0, key=PAGE), facts, got))) == []

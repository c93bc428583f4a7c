"""The table in docs/values.md is what goscope does; see `values_table` to write it again."""

from __future__ import annotations

from .values_table import table, written_table


def test_the_table_of_values_is_what_happens() -> None:
    assert written_table() == table(), "run: python -m tests.docs.values_table"


def test_no_value_comes_back_as_two() -> None:
    assert "two different values" not in table()

"""Killed at any moment, the user's tables and goscope's records agree."""

from __future__ import annotations

from pathlib import Path

from tests.sqlite.crashes import run

OPERATIONS = 15


def test_rows_and_records_agree_after_each_kill(path: Path) -> None:
    counts = run(path, OPERATIONS)
    assert counts.differences == []
    assert (counts.charges, counts.imports) == (OPERATIONS, OPERATIONS)
    assert counts.checks > counts.kills


def test_rows_outside_the_transaction_are_seen(path: Path) -> None:
    assert run(path, 1000, planted=True).differences

"""A process that reaches a limit of the system, and a wall clock that is set.

A full disk and a read-only one are in tests/sqlite/test_files.py and test_file_access.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from .shim import run_with


@pytest.mark.parametrize("program", ["no_descriptors", "large_file", "clock_steps"])
def test_a_limit_loses_nothing_and_breaks_nothing(shim: Path, tmp_path: Path, program: str) -> None:
    assert run_with(shim, "limited", program, tmp_path / "store.db", timeout=300) == "ok"

"""Each system call on the files of a store fails once, or from then on."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from .amounts import SEED, is_long
from .conftest import Count
from .failing_calls import FAULTS
from .shim import run_with

STEP = 61
"""How many calls the short run leaves out after each one."""


@pytest.mark.parametrize("phase", ["open", "use", "close"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_failing_system_call_loses_nothing_that_was_acknowledged(
    shim: Path, tmp_path: Path, fault: str, phase: str, count: Count
) -> None:
    if not is_long() and fault not in ("EIO", "ENOSPC from then on"):
        pytest.skip("only in make torture")
    first, step = (1, 1) if is_long() else (random.Random(SEED).randrange(1, STEP), STEP)
    for writes in ("loop", "thread") if is_long() else ("auto",):
        folder = tmp_path / writes
        folder.mkdir()
        failed = run_with(
            shim, "failing_calls", folder, fault, writes, phase, first, step, timeout=580
        )
        count(f"failed calls: {fault}, while {phase}, writes={writes}", int(failed))

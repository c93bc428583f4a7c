"""An interrupted demo leaves no process and no lease behind, and resumes when run again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

import goscope
from goscope import SupportsInspection

from .demo_runs import Run, finished

RECORDS = "1500"
BEGIN = "  0 %"
MIDDLE = r" [2-7]\d %"


async def leases(folder: Path) -> list[str]:
    """The leases in the store that were not given back."""
    plan = json.loads((folder / "plan.json").read_text())
    scope = goscope.Scope(
        backend="sqlite", path=folder / "import.db", key_prefix=f"demo-{plan['id']}:"
    )
    async with scope as gs:
        adapter = gs.persistence
        assert isinstance(adapter, SupportsInspection)
        return [key async for key, _ in adapter.held_locks()]


def assert_resumes(folder: Path) -> None:
    code, run = finished("--path", folder)
    assert code == 0, run.output + run.errors
    assert run.output.startswith("Resuming the import of 1,500 airports")
    assert run.ledger["records imported"].value == "1,500 of 1,500"
    assert run.ledger["duplicate charges"].value == "0"


@pytest.mark.asyncio
async def test_ctrl_c_leaves_nothing_behind_and_the_next_run_resumes(tmp_path: Path) -> None:
    """Ctrl-C reaches every process of the terminal's foreground group."""
    with Run("--path", tmp_path, "--records", RECORDS, "--no-kill") as run:
        run.read_until(MIDDLE)
        os.killpg(run.process.pid, signal.SIGINT)
        await asyncio.sleep(0.02)  # an impatient user
        os.killpg(run.process.pid, signal.SIGINT)
        code = run.finish()
        assert not run.is_alive()
    assert code == 130
    assert "Interrupted: nothing is left running" in run.output
    assert run.errors == ""
    assert await leases(tmp_path) == []
    assert_resumes(tmp_path)


@pytest.mark.asyncio
async def test_sigterm_to_the_command_alone_ends_its_children_too(tmp_path: Path) -> None:
    with Run("--path", tmp_path, "--records", RECORDS, "--no-kill") as run:
        run.read_until(MIDDLE)
        run.process.terminate()
        code = run.finish()
        assert not run.is_alive()
    assert code == 143
    assert await leases(tmp_path) == []


def test_children_leave_when_the_command_is_killed(tmp_path: Path) -> None:
    with Run("--path", tmp_path, "--records", RECORDS, "--no-kill") as run:
        run.read_until(MIDDLE)
        run.process.kill()
        run.wait_until_nothing_is_left()
    assert_resumes(tmp_path)


def test_a_second_one_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    with Run("--path", tmp_path, "--records", RECORDS, "--no-kill") as first:
        first.read_until(BEGIN)
        code, second = finished("--path", tmp_path)
        assert code == 2
        assert (
            f"another one is at work in {tmp_path} (process {first.process.pid})" in second.errors
        )
        first.process.send_signal(signal.SIGINT)
        assert first.finish() == 130, first.output


def test_an_interrupted_import_is_finished_before_another_one(tmp_path: Path) -> None:
    with Run("--path", tmp_path, "--records", RECORDS, "--seed", "3") as run:
        run.read_until(BEGIN)
        run.process.send_signal(signal.SIGINT)
        assert run.finish() == 130
    code, other = finished("--path", tmp_path, "--records", "200")
    assert code == 2
    assert "an import with --records 1500 --seed 3 was interrupted" in other.errors
    assert "Run it again without --records" in other.errors

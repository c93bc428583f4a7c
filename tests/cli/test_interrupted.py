"""An interrupted demo leaves no process and no lease behind, and the next run resumes it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

import goscope

from .demo_runs import Run, finished

RECORDS = "1500"
MANY_RECORDS = "20000"
"""An import that is still running when the test gets to interrupt it."""

BEGIN = r" *\d+%"
MIDDLE = r" [1-9]\d%"


async def leases(folder: Path) -> list[str]:
    """The unreleased leases in the store."""
    plan = json.loads((folder / "plan.json").read_text())
    scope = goscope.Scope(
        backend="sqlite", path=folder / "import.db", key_prefix=f"demo-{plan['id']}:"
    )
    async with scope as gs:
        return [lease.key async for lease in gs.inspect.leases()]


def assert_resumes(folder: Path) -> None:
    code, run = finished("--path", folder)
    assert code == 0, run.output + run.errors
    assert run.output.startswith("Resuming the import of 1,500 airports")
    assert run.ledger["records imported"].value == "1,500 of 1,500"
    assert run.ledger["duplicate charges"].value == "0"


@pytest.mark.long
@pytest.mark.asyncio
async def test_ctrl_c_leaves_nothing_behind_and_the_next_run_resumes(tmp_path: Path) -> None:
    """Ctrl-C reaches every process of the terminal's foreground group."""
    with Run("--path", tmp_path, "--records", RECORDS, "--no-kill") as run:
        run.read_until(MIDDLE)
        os.killpg(run.process.pid, signal.SIGINT)
        await asyncio.sleep(0.02)  # the user presses Ctrl-C twice
        os.killpg(run.process.pid, signal.SIGINT)
        code = run.finish()
        assert not run.is_alive()
    assert code == 130
    assert "Interrupted. All processes have stopped." in run.output
    assert run.errors == ""
    assert await leases(tmp_path) == []
    assert_resumes(tmp_path)


@pytest.mark.asyncio
async def test_sigterm_to_the_command_stops_its_children(tmp_path: Path) -> None:
    with Run("--path", tmp_path, "--records", RECORDS, "--no-kill") as run:
        run.read_until(MIDDLE)
        run.process.terminate()
        code = run.finish()
        assert not run.is_alive()
    assert code == 143
    assert await leases(tmp_path) == []


@pytest.mark.long
def test_children_exit_when_the_command_is_killed(tmp_path: Path) -> None:
    with Run("--path", tmp_path, "--records", RECORDS, "--no-kill") as run:
        run.read_until(MIDDLE)
        run.process.kill()
        run.wait_until_all_processes_ended()
    assert_resumes(tmp_path)


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    with Run("--path", tmp_path, "--records", MANY_RECORDS, "--no-kill") as first:
        first.read_until(BEGIN)
        code, second = finished("--path", tmp_path)
        assert code == 2
        assert f"process {first.process.pid} is running the demo in {tmp_path}." in second.errors
        first.process.send_signal(signal.SIGINT)
        assert first.finish() == 130, first.output


def test_an_interrupted_import_must_be_finished_before_another_starts(tmp_path: Path) -> None:
    with Run("--path", tmp_path, "--records", MANY_RECORDS, "--seed", "3") as run:
        run.read_until(BEGIN)
        run.process.send_signal(signal.SIGINT)
        assert run.finish() == 130
    code, other = finished("--path", tmp_path, "--records", "200")
    assert code == 2
    assert f"an import with --records {MANY_RECORDS} --seed 3 was interrupted" in other.errors
    assert "Run again without --records" in other.errors

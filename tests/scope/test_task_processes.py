"""``gs.run`` among real processes on one file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from goscope import Scope

from .peers import began, journal, open_gate, peers

pytestmark = pytest.mark.asyncio


async def saved(folder: Path) -> list[Any]:
    """What the checkpoints of the task hold."""
    async with Scope(backend="sqlite", path=folder / "app.db") as gs:
        checkpoints = gs.persistence.checkpoint
        assert checkpoints is not None
        return [checkpoint.data for checkpoint in await checkpoints.list("key")]


async def test_a_task_that_another_process_runs_is_refused(tmp_path: Path) -> None:
    async with peers(tmp_path, 2, lease_ttl="1s") as [owner, second]:
        owner.tell("run", gate="gate")
        await began(tmp_path, 1)
        assert await second.call("run") == ["TaskAlreadyRunning"]
        assert await second.call("run", options={"wait": 0}) == ["TaskAlreadyRunning"]
        open_gate(tmp_path)
        assert await owner.answers() == [None]
    assert journal(tmp_path) == [owner.pid]


async def test_with_a_wait_it_runs_after_the_owner_in_another_process(tmp_path: Path) -> None:
    async with peers(tmp_path, 2, lease_ttl="1s") as [owner, second]:
        owner.tell("run", gate="gate", fails=True, saves=[1])
        await began(tmp_path, 1)
        second.tell("run", options={"wait": "1m"})
        await asyncio.sleep(1.5)
        assert journal(tmp_path) == [owner.pid]
        open_gate(tmp_path)
        assert await owner.answers() == ["ZeroDivisionError"]
        assert await second.answers() == [1], "it goes on where the owner stopped"
    assert journal(tmp_path) == [owner.pid, second.pid]


async def test_a_killed_owners_task_goes_on_at_its_last_checkpoint_at_once(tmp_path: Path) -> None:
    """Nobody could wait for the end of its lease."""
    async with peers(tmp_path, 2, lease_ttl="1h") as [owner, second]:
        owner.tell("run", gate="never", saves=[1, 2, 3])
        await began(tmp_path, 1)
        await owner.kill()
        assert await second.call("run") == [3]
    assert await saved(tmp_path) == []


async def test_what_an_owner_saves_that_overslept_its_lease_is_refused(tmp_path: Path) -> None:
    """Its save is the step that was about to run, before it can notice the loss."""
    async with peers(tmp_path, 2, lease_ttl="1s") as [zombie, second]:
        zombie.tell("run", gate="gate", deaf=True, saves=[1], late_saves=[99])
        await began(tmp_path, 1)
        zombie.stop()
        second.tell("run", gate="second gate")
        await began(tmp_path, 2)
        open_gate(tmp_path)
        zombie.go_on()
        assert await zombie.answers() == ["LeaseLost"]
        assert await saved(tmp_path) == [1]
        open_gate(tmp_path, "second gate")
        assert await second.answers() == [1]
    assert journal(tmp_path) == [zombie.pid, second.pid]


async def test_an_owner_that_overslept_its_lease_deletes_no_checkpoints(tmp_path: Path) -> None:
    """Success deletes them, and it comes to its end; but the task is another one's by now."""
    async with peers(tmp_path, 2, lease_ttl="1s") as [zombie, second]:
        zombie.tell("run", gate="gate", deaf=True, saves=[1])
        await began(tmp_path, 1)
        zombie.stop()
        second.tell("run", gate="second gate", saves=[2])
        await began(tmp_path, 2)
        open_gate(tmp_path)
        zombie.go_on()
        assert await zombie.answers() == ["LeaseLost"]
        assert await saved(tmp_path) == [1, 2]
        open_gate(tmp_path, "second gate")
        await second.answers()
    assert await saved(tmp_path) == []

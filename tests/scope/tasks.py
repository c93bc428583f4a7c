"""What the bodies of tasks do, and what they leave in the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from goscope import Checkpoint, Scope, TaskContext

from .support import leases_of


@dataclass
class State:
    done: int


class Interrupted(Exception):
    """Interrupts a task."""


async def saved_checkpoints(gs: Scope, task_id: str = "etl") -> Sequence[Checkpoint]:
    checkpoints = gs.persistence.checkpoint
    assert checkpoints is not None
    return await checkpoints.list(task_id)


async def revoke_lease(gs: Scope, task_id: str = "etl") -> None:
    await leases_of(gs).force_release(f"task:{task_id}")


async def fail_after_saving(gs: Scope, *states: int, **options: Any) -> None:
    """Run a task that saves the states and fails."""

    async def body(task: TaskContext[Any]) -> None:
        for done in states:
            await task.checkpoint.save(State(done), progress=done)
        raise Interrupted

    with pytest.raises(Interrupted):
        await gs.tasks.run("etl", body, **options)

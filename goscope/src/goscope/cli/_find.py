"""Finding one record in a listing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

from .. import Scope, escape_pattern
from ..inspection import LeaseInfo, LeaseKind, TaskInfo

R = TypeVar("R")


async def first(records: AsyncIterator[R]) -> R | None:
    """The first record, None without one."""
    async for record in records:
        return record
    return None


async def first_records(records: AsyncIterator[R], count: int) -> Sequence[R]:
    """So many records, or all if there are fewer."""
    found: list[R] = []
    async for record in records:
        found.append(record)
        if len(found) == count:
            break
    return found


async def find_lease(gs: Scope, key: str, kind: LeaseKind) -> LeaseInfo | None:
    """The lease of this kind on the key, None if there is none."""
    return await first(gs.inspect.leases(escape_pattern(key), kind=kind))


async def find_task(gs: Scope, task_id: str) -> TaskInfo | None:
    """The task with this id, None if it neither runs nor has checkpoints."""
    return await first(gs.inspect.tasks(escape_pattern(task_id)))

"""Telling those who wait for a task that its owner has finished it, and neither failed nor died.

A lease that is granted after a wait looks the same in all three cases. So a run that succeeds
leaves a short lease behind, under another key, before it releases the task's own.
"""

from __future__ import annotations

import contextlib
from typing import Final

from ._runtime import Runtime
from ._tools.key import FINISH_MARK
from .errors import GoscopeError

FINISH_TTL_MS: Final = 600_000
"""How long a finish is known. Waiters notice the end of a task within 50 ms, unless their process
is suspended."""


async def record_finish(runtime: Runtime, task_id: str) -> None:
    """Record that the task has finished. A failure of the store is ignored: the work is done."""
    provider, key = runtime.leases.provider, _key(task_id)
    with contextlib.suppress(GoscopeError):
        if await provider.acquire(key, FINISH_TTL_MS) is None:  # of the run before
            await provider.force_release(key)
            await provider.acquire(key, FINISH_TTL_MS)


async def last_finish(runtime: Runtime, task_id: str) -> int | None:
    """A number that is another one after the next finish; None if no recent one is known."""
    holder = await runtime.leases.provider.holder(_key(task_id))
    return None if holder is None else holder.fencing_token


def _key(task_id: str) -> str:
    return f"{FINISH_MARK}{task_id}"

"""Removing expired rows in small steps, so that other writes wait little."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from goscope.backend import StoreContext, SweepSchedule

from . import _open_processes
from ._engine.database import Database
from ._open_processes import OpenProcesses
from .providers import cache, cache_tags, idempotency, lock

STEP_ROWS: Final = 200
"""How many rows one transaction removes while the store is quiet."""


class Sweeper:
    """Sweeps one store after a number of writes, and every ``interval_ms`` while it is idle.

    Several processes may sweep at once: what one has removed, the others do not find. So often,
    the process is also written down as one that has the store open.
    """

    def __init__(
        self,
        database: Database,
        context: StoreContext,
        processes: OpenProcesses,
        interval_ms: int,
    ) -> None:
        self._database = database
        self._processes = processes
        self._tag_position = cache_tags.START
        self.schedule: Final = SweepSchedule(context, self.sweep, interval_ms, STEP_ROWS)

    async def sweep(self) -> None:
        """Remove everything that has expired."""
        await self._processes.heartbeat_if_due()
        await self._remove(cache.expired_keys, cache.remove_expired)
        await self._remove(idempotency.expired_keys, idempotency.remove_expired)
        await self._remove(lock.abandoned_keys, lock.remove_abandoned)
        await self._remove(_open_processes.expired_ids, _open_processes.remove_expired)
        self._tag_position = await cache_tags.remove_orphans(self._database, self._tag_position)

    async def _remove(
        self,
        find: Callable[[Database, int], Awaitable[list[str]]],
        remove: Callable[[Database, list[str]], Awaitable[int]],
    ) -> None:
        limit = self.schedule.next_step_rows()
        while keys := await find(self._database, limit):
            await remove(self._database, sorted(keys))  # the order in which all writers lock rows
            if len(keys) < limit:
                return
            limit = self.schedule.next_step_rows()

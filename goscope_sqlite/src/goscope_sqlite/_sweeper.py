"""Removing expired rows in small steps, so that other writes wait little."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, NamedTuple, TypeAlias

from goscope.backend import StoreContext, SweepSchedule

from ._engine.base import BaseDatabase
from .providers import cache, circuit_breaker, idempotency, lock, lock_queue

STEP_ROWS: Final = 100
"""How many rows one write removes, in about a millisecond of the write lock.

While more rows are written than removed, a step grows to at most 1000 rows, ten milliseconds.
"""

Remove: TypeAlias = Callable[[sqlite3.Connection], int]


class _Companion(NamedTuple):
    """A companion table, its base table, and the function that deletes one of its rows."""

    table: str
    base: str
    delete: Callable[[sqlite3.Connection, str], None]


_COMPANIONS: Final = (
    _Companion("go_goscope_cache_companion", "go_goscope_cache", cache.delete_companion),
    _Companion(
        "go_goscope_circuit_companion", "go_goscope_circuit", circuit_breaker.delete_companion
    ),
    _Companion(
        "go_goscope_idempotency_companion",
        "go_goscope_idempotency",
        idempotency.delete_companion,
    ),
)


class Sweeper:
    """Sweeps one store after a number of writes, and every ``interval_ms`` while it is idle."""

    def __init__(self, database: BaseDatabase, context: StoreContext, interval_ms: int) -> None:
        self._database = database
        self._context = context
        self._positions = dict.fromkeys(_COMPANIONS, "")
        min_step_rows = min(STEP_ROWS, database.max_rows)
        self.schedule: Final = SweepSchedule(context, self.sweep, interval_ms, min_step_rows)

    async def sweep(self) -> None:
        """Remove everything that has expired."""
        now = self._context.clock.wall_ms()
        await self._sweep_cache(now)
        await self._sweep_results(now)
        await self._sweep_leases()
        for companion in _COMPANIONS:
            await self._sweep_companion(companion)

    async def _sweep_cache(self, now: int) -> None:
        position: cache.Position | None = cache.START
        while position is not None:
            limit = self.schedule.next_step_rows()
            keys, position = await cache.expired_page(self._database, position, now, limit)
            await self._remove(keys, partial(cache.remove_expired, keys=keys, now=now))

    async def _sweep_results(self, now: int) -> None:
        while keys := await idempotency.expired_keys(
            self._database, now, self.schedule.next_step_rows()
        ):
            await self._remove(keys, partial(idempotency.remove_expired, keys=keys, now=now))

    async def _sweep_leases(self) -> None:
        clock = self._context.clock
        while keys := await lock.abandoned_keys(self._database, clock, STEP_ROWS):
            await self._remove(keys, partial(lock.remove_abandoned, keys=keys, clock=clock))
        while keys := await lock_queue.stale_keys(self._database, clock, STEP_ROWS):
            await self._remove(keys, partial(lock_queue.remove_stale, keys=keys, clock=clock))

    async def _sweep_companion(self, companion: _Companion) -> None:
        """Delete the orphans of one page of a companion table; only other programs leave any."""
        sql = f"""
            SELECT s.key, EXISTS (SELECT 1 FROM {companion.base} WHERE key = s.key)
            FROM (
                SELECT key FROM {companion.table} WHERE key > ? ORDER BY key LIMIT {STEP_ROWS}
            ) AS s
        """
        rows = await self._database.read_all(sql, (self._positions[companion],))
        self._positions[companion] = rows[-1][0] if len(rows) == STEP_ROWS else ""
        keys = [key for key, has_base in rows if not has_base]
        await self._remove(keys, partial(_delete_orphans, keys=keys, companion=companion))

    async def _remove(self, keys: list[str], remove: Remove) -> None:
        """Run one step, then leave the database to other writers for as long as it took."""
        if keys:
            taken_s = await self._database.submit(partial(_timed, remove=remove), rows=len(keys))
            # Real time, not the adapter's clock: the pause limits the load.
            await asyncio.sleep(taken_s)


def _timed(connection: sqlite3.Connection, remove: Remove) -> float:
    """Run the write. Return how many seconds it took, without the time in the queue."""
    started = time.perf_counter()
    remove(connection)
    return time.perf_counter() - started


def _delete_orphans(
    connection: sqlite3.Connection, keys: Iterable[str], companion: _Companion
) -> int:
    deleted = 0
    for key in keys:
        base = f"SELECT 1 FROM {companion.base} WHERE key = ?"
        if not connection.execute(base, (key,)).fetchall():
            companion.delete(connection, key)
            deleted += 1
    return deleted

"""Removing what has expired, in steps too small to be noticed."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, NamedTuple, TypeAlias

from goscope.backend import StoreContext, wait_until
from goscope.errors import BackendError

from ._base_database import BaseDatabase
from .providers import cache, circuit_breaker, idempotency, line, lock

logger: Final = logging.getLogger("goscope_sqlite")

STEP: Final = 100
LONGEST_STEP: Final = 1000
"""How many rows one write removes: a millisecond of the write lock, and ten at most. So many only
where a write of as many is like any other, unless more is written than that removes."""

COMMITS: Final = 1000
"""After so many writes the sweeper looks for work without waiting for its interval."""

Remove: TypeAlias = Callable[[sqlite3.Connection], int]


class _Side(NamedTuple):
    """A side table, the table it belongs to, and how one of its rows is removed."""

    table: str
    base: str
    drop: Callable[[sqlite3.Connection, str], None]


_SIDES: Final = (
    _Side("go_goscope_cache_side", "go_goscope_cache", cache.drop_side),
    _Side("go_goscope_circuit_side", "go_goscope_circuit", circuit_breaker.drop_side),
    _Side("go_goscope_idempotency_side", "go_goscope_idempotency", idempotency.drop_side),
)


class Sweeper:
    """Sweeps a store when it is written to, and every ``interval_ms`` when it is not."""

    def __init__(self, database: BaseDatabase, context: StoreContext, interval_ms: int) -> None:
        self._database = database
        self._context = context
        self._interval = interval_ms / 1000
        self._least_step = min(STEP, database.max_rows)
        self._commits = 0
        self._commits_since_step = 0
        self._due: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._looked_at = dict.fromkeys(_SIDES, "")

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Stop between two steps."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def count(self, commits: int) -> None:
        """Take note of writes; enough of them start a sweep."""
        self._commits += commits
        self._commits_since_step += commits
        if self._commits >= COMMITS and self._due is not None and not self._due.done():
            self._due.set_result(None)

    async def sweep(self) -> None:
        """Remove all that has expired."""
        now = self._context.clock.wall_ms()
        await self._sweep_cache(now)
        await self._sweep_results(now)
        await self._sweep_leases()
        for side in _SIDES:
            await self._sweep_side(side)

    async def _run(self) -> None:
        while True:
            self._due = asyncio.get_running_loop().create_future()
            if self._commits < COMMITS:  # else so many were made during the last sweep
                await wait_until(self._due, self._interval, self._context.clock)
            self._commits = 0
            try:
                await self.sweep()
            except BackendError as exc:
                # What is left has expired all the same, and the next sweep finds it again.
                logger.warning("expired entries could not be removed: %s", exc)

    def _step(self) -> int:
        """How much to remove next: twice what was written, so that it gets less in any case."""
        written, self._commits_since_step = self._commits_since_step, 0
        return min(max(self._least_step, 2 * written), LONGEST_STEP)

    async def _sweep_cache(self, now: int) -> None:
        position: cache.Position | None = cache.START
        while position is not None:
            step = self._step()
            keys, position = await cache.expired_page(self._database, position, now, step)
            await self._remove(keys, partial(cache.remove_expired, keys=keys, now=now))

    async def _sweep_results(self, now: int) -> None:
        while keys := await idempotency.expired_keys(self._database, now, self._step()):
            await self._remove(keys, partial(idempotency.remove_expired, keys=keys, now=now))

    async def _sweep_leases(self) -> None:
        clock = self._context.clock
        while keys := await lock.abandoned_keys(self._database, clock, STEP):
            await self._remove(keys, partial(lock.remove_abandoned, keys=keys, clock=clock))
        while keys := await line.stale_keys(self._database, clock, STEP):
            await self._remove(keys, partial(line.remove_stale, keys=keys, clock=clock))

    async def _sweep_side(self, side: _Side) -> None:
        """Look at one page of a side table: only other writers leave rows alone behind."""
        sql = f"""
            SELECT s.key, EXISTS (SELECT 1 FROM {side.base} WHERE key = s.key)
            FROM (SELECT key FROM {side.table} WHERE key > ? ORDER BY key LIMIT {STEP}) AS s
        """
        rows = await self._database.read_all(sql, (self._looked_at[side],))
        self._looked_at[side] = rows[-1][0] if len(rows) == STEP else ""
        keys = [key for key, has_base in rows if not has_base]
        await self._remove(keys, partial(_remove_alone, keys=keys, side=side))

    async def _remove(self, keys: list[str], remove: Remove) -> None:
        """Run one step, then leave the database to others for as long as it took."""
        if keys:
            taken = await self._database.submit(partial(_timed, remove=remove), rows=len(keys))
            # Not on the adapter's clock: this is about the load, not about what time it is.
            await asyncio.sleep(taken)


def _timed(connection: sqlite3.Connection, remove: Remove) -> float:
    """Run the write; the seconds that took, without the wait for its turn."""
    began = time.perf_counter()
    remove(connection)
    return time.perf_counter() - began


def _remove_alone(connection: sqlite3.Connection, keys: Iterable[str], side: _Side) -> int:
    removed = 0
    for key in keys:
        if not connection.execute(f"SELECT 1 FROM {side.base} WHERE key = ?", (key,)).fetchall():
            side.drop(connection, key)
            removed += 1
    return removed

"""Removing rows in small steps, so that other writes wait little, and keeping the file small."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias, TypeVar

from goscope.backend import StoreContext, SweepSchedule, finish_before_cancel

from ._bounds import Bounds
from ._engine.database import SQLiteDatabase
from ._engine.file import MEMORY
from .columns import MAX_SECONDS, START, Position
from .providers import cache, circuit_breaker, eviction, idempotency, lock, lock_queue
from .providers.eviction import Evicted
from .providers.unreadable import UnreadableRows

T = TypeVar("T")

logger: Final = logging.getLogger("goscope_sqlite")

STEP_ROWS: Final = 100
"""How many rows one write removes, in about a millisecond of the write lock.

While more rows are written than removed, a step grows to at most 1000 rows, ten milliseconds.
"""

MAX_EVICTED_ROWS: Final = 1000
"""The most entries that one step evicts. It ends earlier, after about two milliseconds."""

FILL_PERCENT: Final = 90
"""How much of its bounds the cache uses after a sweep. The rest is for what is written until the
next one, which begins after a twentieth of the bound at the latest."""

SWEEPS_PER_BOUND: Final = 20
MIN_WRITES_PER_SWEEP: Final = 5

COUNT_INTERVAL_MS: Final = 30_000
"""After so long the entries are counted again whatever this process has written."""

MIN_FREE_PAGES: Final = 512
MAX_FREE_SHARE: Final = 5
MAX_FREE_SHARE_OF_BOUND: Final = 10
"""The file keeps 2 MiB, or a fifth of its used pages, free for later writes: giving pages back that
are needed soon costs more than it saves. Of a bound it keeps a tenth free."""

INCREMENTAL: Final = 2

Remove: TypeAlias = Callable[[sqlite3.Connection], int]


class _Companion(NamedTuple):
    """A companion table, its base table, and the function that deletes the row of a key."""

    table: str
    base: str
    delete: Callable[[sqlite3.Connection, str | bytes | None], None]


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

_WITH_EXPIRY: Final = ("go_goscope_cache", "go_goscope_idempotency")


class Sweeper:
    """Sweeps one store after a number of writes, and every ``interval_ms`` while it is idle."""

    def __init__(
        self,
        database: SQLiteDatabase,
        context: StoreContext,
        interval_ms: int,
        bounds: Bounds = Bounds(),  # noqa: B008  # immutable
    ) -> None:
        self._database = database
        self._bounds = bounds
        self._writes_since_sweep = self._bytes_since_sweep = 0
        self._writes_since_count = 0
        self._next_count_ms = 0
        self._is_reported = self._is_truncation_due = False
        self._context = context
        self._positions = dict.fromkeys(_COMPANIONS, 0)
        self._unreadable = UnreadableRows()
        min_step_rows = min(STEP_ROWS, database.max_rows)
        self.schedule: Final = SweepSchedule(context, self.sweep, interval_ms, min_step_rows)

    def count(self, writes: int) -> None:
        """Count committed writes, some of which may have added entries."""
        self.schedule.count(writes)
        if self._bounds.max_entries is not None:
            self._writes_since_sweep += writes
            self._writes_since_count += writes
            if self._writes_since_sweep >= self._writes_per_sweep(self._bounds.max_entries):
                self._sweep_soon()

    def count_bytes(self, written: int) -> None:
        """Count the bytes of entries that are being written."""
        self._bytes_since_sweep += written
        max_bytes = self._bounds.max_bytes
        if max_bytes is not None and self._bytes_since_sweep * SWEEPS_PER_BOUND >= max_bytes:
            self._sweep_soon()

    def _sweep_soon(self) -> None:
        self._writes_since_sweep = self._bytes_since_sweep = 0
        self.schedule.request()

    def _writes_per_sweep(self, max_entries: int) -> int:
        return max(max_entries // SWEEPS_PER_BOUND, MIN_WRITES_PER_SWEEP)

    async def sweep(self) -> None:
        """Remove everything that has expired, and evict what is beyond the bounds.

        A table that fails, such as one that another program has changed, does not keep the others
        from being swept. Then the first error is raised.
        """
        failures: list[Exception] = []
        sweeps: tuple[Callable[[], Awaitable[None]], ...] = (
            self._sweep_cache,
            self._sweep_results,
            self._sweep_leases,
            self._sweep_queues,
            *(partial(self._sweep_companion, companion) for companion in _COMPANIONS),
            *(partial(self._report_unreadable, table) for table in _WITH_EXPIRY),
            self._evict,
            self._vacuum,
        )
        for sweep in sweeps:
            try:
                await sweep()
            except Exception as exc:  # whatever it met, the other tables come next
                failures.append(exc)
        if failures:
            raise failures[0]

    async def _sweep_cache(self) -> None:
        now = self._context.clock.wall_ms()
        position: Position | None = START
        while position is not None:
            limit = self.schedule.next_step_rows()
            rows, position = await cache.expired_page(self._database, position, now, limit)
            await self._remove(rows, partial(cache.remove_expired, rows=rows, now=now))

    async def _sweep_results(self) -> None:
        now = self._context.clock.wall_ms()
        position: Position | None = START
        while position is not None:
            limit = self.schedule.next_step_rows()
            rows, position = await idempotency.expired_page(self._database, position, now, limit)
            await self._remove(rows, partial(idempotency.remove_expired, rowids=rows, now=now))

    async def _sweep_leases(self) -> None:
        clock, position = self._context.clock, 0
        while rows := await lock.abandoned_rows(self._database, position, clock, STEP_ROWS):
            await self._remove(rows, partial(lock.remove_abandoned, rowids=rows, clock=clock))
            position = rows[-1]

    async def _sweep_queues(self) -> None:
        clock, position = self._context.clock, 0
        while rows := await lock_queue.stale_rows(self._database, position, clock, STEP_ROWS):
            await self._remove(rows, partial(lock_queue.remove_stale, rowids=rows, clock=clock))
            position = rows[-1]

    async def _sweep_companion(self, companion: _Companion) -> None:
        """Delete the orphans of one page of a companion table; only other programs leave any."""
        sql = f"""
            SELECT s.rowid, CAST(s.key AS BLOB),
                EXISTS (SELECT 1 FROM {companion.base} WHERE key = s.key)
            FROM {companion.table} AS s WHERE s.rowid > ? ORDER BY s.rowid LIMIT {STEP_ROWS}
        """
        rows = await self._database.read_all(sql, (self._positions[companion],))
        self._positions[companion] = rows[-1][0] if len(rows) == STEP_ROWS else 0
        orphans = [(rowid, key) for rowid, key, has_base in rows if not has_base]
        await self._remove(orphans, partial(_delete_orphans, rows=orphans, companion=companion))

    async def _report_unreadable(self, table: str) -> None:
        """Warn of rows that stay: another program wrote them, and nobody can read them."""
        sql = f"""
            SELECT rowid FROM {table} WHERE key IS NULL
            UNION ALL SELECT rowid FROM {table} WHERE key >= x''
            UNION ALL SELECT rowid FROM {table} WHERE expires_at > {MAX_SECONDS} LIMIT {STEP_ROWS}
        """
        for (rowid,) in await self._database.read_all(sql, ()):
            reason = f"its key is not a text, or expires_at not a time. Delete it from {table}"
            self._unreadable.report(table, rowid, reason)

    async def _evict(self) -> None:
        """Evict entries until the file, and the number of entries, are within their bounds."""
        max_bytes, max_entries = self._bounds
        if not self._bounds.is_set:
            return
        await eviction.create_index(self._database)
        if max_bytes is not None:
            target = max_bytes * FILL_PERCENT // 100
            while (step := await self._evict_rows(MAX_EVICTED_ROWS, target)).rows:
                pass
            if step.used_bytes > target:
                self._report_full(max_bytes)
        if max_entries is not None and self._is_count_due(max_entries):
            self._writes_since_count = 0
            self._next_count_ms = self._context.clock.steady_ms() + COUNT_INTERVAL_MS
            excess = await eviction.count_entries(self._database)
            excess -= max_entries * FILL_PERCENT // 100
            while excess > 0 and (step := await self._evict_rows(excess, 0)).rows:
                excess -= step.rows
                self._writes_since_count -= 1  # the step itself

    async def _evict_rows(self, rows: int, target_bytes: int) -> Evicted:
        """Run one step of eviction; the next one may follow at once beyond the bound itself."""
        rows, max_bytes = min(rows, MAX_EVICTED_ROWS), self._bounds.max_bytes
        evict = partial(eviction.evict, rows=rows, target_bytes=target_bytes)
        step, taken_s = await self._run(evict, STEP_ROWS)
        if max_bytes is None or step.used_bytes <= max_bytes:
            await asyncio.sleep(taken_s)
        return step

    def _is_count_due(self, max_entries: int) -> bool:
        """Whether to count the entries, which takes time in proportion to their number.

        Not soon after the last time, while this process has written little.
        """
        return (
            self._writes_since_count >= self._writes_per_sweep(max_entries)
            or self._context.clock.steady_ms() >= self._next_count_ms
        )

    def _report_full(self, max_bytes: int) -> None:
        """Warn once that nothing is left to evict."""
        if not self._is_reported:
            self._is_reported = True
            logger.warning(
                "%s: what is not cache takes more than %d %% of max_size, which is %d bytes, so "
                "the cache is kept empty. Raise max_size, or use a separate file for the cache",
                self._database.path,
                FILL_PERCENT,
                max_bytes,
            )

    async def _vacuum(self) -> None:
        """Give free pages back to the file system, if there are many."""
        pages = await eviction.read_pages(self._database)
        allowed = max(MIN_FREE_PAGES, pages.used // MAX_FREE_SHARE)
        if self._bounds.max_bytes is not None:
            bound = self._bounds.max_bytes // pages.size
            allowed = min(allowed, bound // MAX_FREE_SHARE_OF_BOUND)
        if pages.vacuum == INCREMENTAL and pages.free > allowed:
            before, left = pages.free + 1, pages.free
            while before > left > allowed // 2:
                vacuum = partial(eviction.vacuum, pages=left - allowed // 2)
                before, (left, taken_s) = left, await self._run(vacuum, STEP_ROWS)
                await asyncio.sleep(taken_s)
            self._is_truncation_due = self._database.path != MEMORY
        if self._is_truncation_due:
            truncating = asyncio.to_thread(_truncate, self._database.path)
            self._is_truncation_due = not await finish_before_cancel(truncating)

    async def _remove(self, rows: Sequence[object], remove: Remove) -> None:
        """Run one step, then leave the database to other writers for as long as it took."""
        if rows:
            _, taken_s = await self._run(remove, len(rows))
            # Real time, not the adapter's clock: the pause limits the load.
            await asyncio.sleep(taken_s)

    async def _run(self, work: Callable[[sqlite3.Connection], T], rows: int) -> tuple[T, float]:
        """Run a write; its result, and the seconds it took without the time in the queue."""
        return await self._database.submit(partial(_timed, work=work), rows=rows)


def _timed(
    connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]
) -> tuple[T, float]:
    started = time.perf_counter()
    result = work(connection)
    return result, time.perf_counter() - started


def _truncate(path: str) -> bool:
    """Checkpoint the WAL, which makes a file shorter whose pages were given back. Blocks.

    Return whether it is done. It holds the write lock, so that no commit restarts the WAL
    in the meantime: up to SQLite 3.51.2 that can lose data.
    """
    try:
        with closing(_open(path)) as writer, closing(_open(path)) as connection:
            writer.execute("BEGIN IMMEDIATE")
            try:
                passive = "PRAGMA wal_checkpoint(PASSIVE)"
                blocked, frames, copied = connection.execute(passive).fetchall()[0]
            finally:
                writer.execute("ROLLBACK")
    except sqlite3.Error:  # as when another process writes: the next sweep tries again
        return False
    return bool(not blocked and frames == copied)


def _delete_orphans(
    connection: sqlite3.Connection, rows: Iterable[tuple[int, bytes | None]], companion: _Companion
) -> int:
    deleted = 0
    base = f"SELECT 1 FROM {companion.base} WHERE key = CAST(? AS TEXT)"
    not_text = f"DELETE FROM {companion.table} WHERE rowid = ? AND typeof(key) <> 'text'"
    for rowid, key in rows:
        if not connection.execute(base, (key,)).fetchall():
            companion.delete(connection, key)
            connection.execute(not_text, (rowid,))
            deleted += 1
    return deleted


def _open(path: str) -> sqlite3.Connection:
    """Open a file that exists: one that was removed is not created again."""
    uri = f"{Path(path).as_uri()}?mode=rw"
    return sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None)

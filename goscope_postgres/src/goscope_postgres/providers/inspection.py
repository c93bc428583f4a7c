"""Listing what the database holds, a page at a time, without reading a value."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar, get_args

from goscope.backend import (
    BaseInspectionProvider,
    CircuitRow,
    EntryRow,
    LeaseRow,
    Page,
    ResultRow,
    StoreContext,
    TaskRow,
    TotalKind,
    WaiterRow,
)
from goscope.inspection import ProcessInfo, Total
from goscope.providers import CircuitBreakerState, CircuitState

from .._engine.database import Database, Row
from ..schema import Tables
from .circuit_breaker import COLUMNS as CIRCUIT_COLUMNS
from .lock import HOLDER_COLUMNS
from .lock_queue import IS_WAITING, pid_of
from .pattern import matches, pattern_params
from .times import epoch_ms

R = TypeVar("R")

COUNTED_ROWS: Final = 10_000
"""How many rows one statement counts: a few milliseconds."""

_NOW: Final = epoch_ms("clock_timestamp()")
_IN_ORDER: Final = f"WHERE {matches('key')} ORDER BY key LIMIT $5"
_LEASES: Final = f"SELECT key, {HOLDER_COLUMNS} FROM {{lease}} {_IN_ORDER}"
_WAITERS: Final = f"""
    SELECT key, waiter, {_NOW} - {epoch_ms("since")} FROM {{queue}}
    WHERE (key, waiter) > ($1, $6) AND {matches("key").replace(">", ">=", 1)} AND {IS_WAITING}
    ORDER BY key, waiter LIMIT $5
"""
_CIRCUITS: Final = f"SELECT key, {CIRCUIT_COLUMNS} FROM {{circuit}} {_IN_ORDER}"
_TASKS: Final = f"""
    WITH page AS MATERIALIZED (
        SELECT task_id FROM {{task}} WHERE {matches("task_id")} ORDER BY task_id LIMIT $5
    )
    SELECT page.task_id, saved.*, latest.* FROM page
    CROSS JOIN LATERAL (
        SELECT count(*), coalesce(sum(octet_length(data)), 0)::bigint FROM {{checkpoint}} AS c
        WHERE c.task_id = page.task_id
    ) AS saved
    LEFT JOIN LATERAL (
        SELECT sequence, progress, estimated_time_remaining, timestamp FROM {{checkpoint}} AS c
        WHERE c.task_id = page.task_id ORDER BY sequence DESC LIMIT 1
    ) AS latest ON true
    ORDER BY page.task_id
"""
_RESULTS: Final = f"""
    SELECT key, octet_length(value), {epoch_ms("expires_at")} - {_NOW}, fingerprint
    FROM {{result}} {_IN_ORDER}
"""
_ENTRIES: Final = f"""
    SELECT key, octet_length(value), {epoch_ms("expires_at")} - {_NOW},
        {epoch_ms("nullif(kept_until, expires_at)")} - {_NOW}, tags
    FROM {{cache}} {_IN_ORDER}
"""


def _counting(table: str, key: str = "key", size: str = "0", *, grouped: bool = False) -> str:
    """The statement that counts a page of rows, and adds up their sizes."""
    number, size = ("count(*)", f"sum({size})") if grouped else ("1", size)
    group = f"GROUP BY {key}" if grouped else ""
    return f"""
        SELECT count(*), coalesce(sum(number), 0)::bigint, coalesce(sum(size), 0)::bigint, max(key)
        FROM (
            SELECT {key} AS key, {number} AS number, {size} AS size FROM {{{table}}}
            WHERE {matches(key)} {group} ORDER BY {key} LIMIT {COUNTED_ROWS}
        ) AS page
    """


_COUNT: Final[dict[TotalKind, str]] = {
    "leases": _counting("lease"),
    "circuits": _counting("circuit"),
    "tasks": _counting("task", "task_id"),
    "checkpoints": _counting("checkpoint", "task_id", "octet_length(data)", grouped=True),
    "results": _counting("result", size="octet_length(value)"),
    "entries": _counting("cache", size="octet_length(value)"),
}


class PostgresInspectionProvider(BaseInspectionProvider):
    """Lists the rows of the tables. ``processes`` returns those that have the store open."""

    def __init__(
        self,
        context: StoreContext,
        database: Database,
        tables: Tables,
        processes: Callable[[], Awaitable[Sequence[ProcessInfo]]],
    ) -> None:
        super().__init__(context)
        self._database = database
        self._open_processes = processes
        self._sql_leases = tables.fill(_LEASES)
        self._sql_waiters = tables.fill(_WAITERS)
        self._sql_circuits = tables.fill(_CIRCUITS)
        self._sql_tasks = tables.fill(_TASKS)
        self._sql_results = tables.fill(_RESULTS)
        self._sql_entries = tables.fill(_ENTRIES)
        self._sql_count = {kind: tables.fill(sql) for kind, sql in _COUNT.items()}

    async def _leases(self, pattern: str, after: str, limit: int) -> Page[LeaseRow]:
        # Nobody knows whether a process of another machine is alive.
        return await self._page(
            self._sql_leases, pattern, after, limit, lambda row: LeaseRow._make((*row, None))
        )

    async def _waiters(self, pattern: str, after: str, limit: int) -> Page[WaiterRow]:
        key, _, name = after.partition("\0")
        arguments = (key, *pattern_params(pattern), limit, name)
        rows = await self._database.read(self._sql_waiters, *arguments)
        found = [WaiterRow(key, name, pid_of(name), waited) for key, name, waited in rows]
        return Page(found, "\0".join(found[-1][:2]) if len(rows) == limit else None)

    async def _circuits(self, pattern: str, after: str, limit: int) -> Page[CircuitRow]:
        def decode(row: Row) -> CircuitRow:
            key, state, failures, last_failure, last_success, successes = row
            if state not in get_args(CircuitState):  # another program wrote it
                return CircuitRow(key, None)
            return CircuitRow(
                key,
                CircuitBreakerState(
                    state=state,
                    failure_count=failures,
                    last_failure_time=last_failure,
                    last_success_time=last_success,
                    success_count=successes,
                ),
            )

        return await self._page(self._sql_circuits, pattern, after, limit, decode)

    async def _tasks(self, pattern: str, after: str, limit: int) -> Page[TaskRow]:
        page = await self._page(self._sql_tasks, pattern, after, limit, TaskRow._make)
        return Page([row for row in page.rows if row.checkpoints], page.next)

    async def _results(self, pattern: str, after: str, limit: int) -> Page[ResultRow]:
        def decode(row: Row) -> ResultRow:
            key, size_bytes, expires_in_ms, fingerprint = row
            return ResultRow(key, size_bytes, expires_in_ms, None, fingerprint)

        return await self._page(self._sql_results, pattern, after, limit, decode)

    async def _entries(self, pattern: str, after: str, limit: int) -> Page[EntryRow]:
        def decode(row: Row) -> EntryRow:
            key, size_bytes, expires_in_ms, stale_expires_in_ms, tags = row
            stale = stale_expires_in_ms
            return EntryRow(key, size_bytes, expires_in_ms, None, stale, tuple(tags or ()))

        return await self._page(self._sql_entries, pattern, after, limit, decode)

    async def _processes(self) -> Sequence[ProcessInfo]:
        return await self._open_processes()

    async def _total(self, kind: TotalKind, pattern: str) -> Total:
        sql = self._sql_count.get(kind)
        if sql is None:
            return await super()._total(kind, pattern)
        count, size_bytes, rows, after = 0, 0, COUNTED_ROWS, ""
        while rows == COUNTED_ROWS:
            arguments = (after, *pattern_params(pattern))
            [(rows, number, size, after)] = await self._database.read(sql, *arguments)
            count, size_bytes = count + number, size_bytes + size
        return Total(count=count, size_bytes=size_bytes)

    async def _page(
        self, sql: str, pattern: str, after: str, limit: int, decode: Callable[[Row], R]
    ) -> Page[R]:
        """The rows of the statement, which are decoded one by one when they are needed."""
        rows = await self._database.read(sql, after, *pattern_params(pattern), limit)
        return Page(map(decode, rows), rows[-1][0] if len(rows) == limit else None)

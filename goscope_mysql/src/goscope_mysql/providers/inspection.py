"""Listing what the database holds, a page at a time, without sending a value."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar, get_args

from goscope._tools.codec import decode as decode_json
from goscope.backend import (
    BaseInspectionProvider,
    CircuitRow,
    DecodeError,
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
from goscope.providers import CircuitState

from .._engine.connection import Row
from .._engine.database import Database
from ..columns import MATCHES, matches, matching, milliseconds, placeholders
from .circuit_breaker import STATE
from .circuit_breaker import decode as decode_circuit
from .lock import HOLDER
from .lock_queue import lock_name

R = TypeVar("R")

COUNTED_ROWS: Final = 1_000
"""How many rows one statement counts. The server reads their values, to know their sizes."""

_IN_ORDER: Final = "ORDER BY `key` LIMIT ?"
_LEASES: Final = (
    f"SELECT `key`, {HOLDER} FROM {{leases}} WHERE {MATCHES} AND token <> 0 {_IN_ORDER}"
)
_LEASE_KEYS: Final = f"SELECT `key` FROM {{leases}} WHERE {MATCHES} {_IN_ORDER}"
_SESSIONS: Final = (
    "SELECT id, host, info FROM information_schema.processlist WHERE state = 'User lock' OR id IN "
)
_LOCK_NAME: Final = re.compile(r"goscope [0-9a-f]{40}")
_CIRCUITS: Final = f"SELECT `key`, {STATE} FROM {{circuits}} WHERE {MATCHES} {_IN_ORDER}"
_TASKS: Final = f"""
    SELECT summed.task_id, summed.checkpoints, summed.size, summed.sequence,
        latest.progress, latest.estimated_time_remaining, latest.`timestamp`
    FROM (
        SELECT page.task_id, COUNT(c.sequence) AS checkpoints,
            COALESCE(SUM(LENGTH(c.data)), 0) AS size, MAX(c.sequence) AS sequence
        FROM (
            SELECT task_id FROM {{tasks}} WHERE {matches("task_id")} ORDER BY task_id LIMIT ?
        ) AS page
        LEFT JOIN {{checkpoints}} AS c ON c.task_id = page.task_id GROUP BY page.task_id
    ) AS summed
    LEFT JOIN {{checkpoints}} AS latest
        ON latest.task_id = summed.task_id AND latest.sequence = summed.sequence
    ORDER BY summed.task_id
"""
_RESULTS: Final = f"""
    SELECT `key`, LENGTH(value), expires_at - {{now}}, created_at, fingerprint
    FROM {{results}} WHERE {MATCHES} {_IN_ORDER}
"""
_ENTRIES: Final = f"""
    SELECT `key`, LENGTH(value), expires_at - {{now}}, created_at,
        IF(kept_until > expires_at, kept_until - {{now}}, NULL),
        IF(tagging IS NULL, NULL, tags)
    FROM {{cache}} WHERE {MATCHES} {_IN_ORDER}
"""


def _counting(
    table: str,
    key: str = "`key`",
    size: str = "0",
    *,
    condition: str = "TRUE",
    grouped: bool = False,
) -> str:
    """The statement that counts a page of rows, and adds up their sizes."""
    number, size = ("COUNT(*)", f"SUM({size})") if grouped else ("1", size)
    group = f"GROUP BY {key}" if grouped else ""
    return f"""
        SELECT COUNT(*), COALESCE(SUM(page.number), 0), COALESCE(SUM(page.size), 0), MAX(page.last)
        FROM (
            SELECT {key} AS last, {number} AS number, {size} AS size FROM {{{table}}}
            WHERE {matches(key)} AND {condition} {group} ORDER BY {key} LIMIT {COUNTED_ROWS}
        ) AS page
    """


_COUNT: Final[dict[TotalKind, str]] = {
    "leases": _counting("leases", condition="token <> 0"),
    "circuits": _counting("circuits"),
    "tasks": _counting("tasks", "task_id"),
    "checkpoints": _counting("checkpoints", "task_id", "LENGTH(data)", grouped=True),
    "results": _counting("results", size="LENGTH(value)"),
    "entries": _counting("cache", size="LENGTH(value)"),
}


class MySQLInspectionProvider(BaseInspectionProvider):
    """Lists the rows of the tables. ``processes`` returns those that have the store open."""

    def __init__(
        self,
        context: StoreContext,
        database: Database,
        processes: Callable[[], Awaitable[Sequence[ProcessInfo]]],
    ) -> None:
        super().__init__(context)
        self._database = database
        self._open_processes = processes

    async def _leases(self, pattern: str, after: str, limit: int) -> Page[LeaseRow]:
        def decode(row: Row) -> LeaseRow:
            key, owner, host, pid, acquired_at, left, token = row
            # Nobody knows whether a process of another machine is alive.
            return LeaseRow(key, owner, host, pid, acquired_at // 1000, left // 1000, token, None)

        return await self._page(_LEASES, pattern, after, limit, decode)

    async def _waiters(self, pattern: str, after: str, limit: int) -> Page[WaiterRow]:
        # Queues are named locks of the server: only the names of known keys can be looked up.
        page = await self._page(_LEASE_KEYS, pattern, after, limit, lambda row: str(row[0]))
        keys = {lock_name(self.context.store_id, key): key for key in page.rows}
        return Page(await self._waiters_for(keys) if keys else [], page.next)

    async def _waiters_for(self, keys: dict[str, str]) -> list[WaiterRow]:
        """The sessions that hold or wait for the named locks: the heads and the rest."""
        used = ", ".join(["IS_USED_LOCK(?)"] * len(keys))
        [holders] = await self._database.query(f"SELECT {used}", list(keys))
        heads = {id: key for id, key in zip(holders, keys.values(), strict=True) if id is not None}
        if not heads:
            return []
        sql = f"{_SESSIONS} ({placeholders(len(heads))})"
        found = list[WaiterRow]()
        for id, host, info in await self._database.query(sql, list(heads)):
            name = _LOCK_NAME.search(info or "")
            key = heads.get(id) or (keys.get(name[0]) if name else None)
            if key is not None:
                found.append(WaiterRow(key, f"connection {id} from {host}", None, None))
        return found

    async def _circuits(self, pattern: str, after: str, limit: int) -> Page[CircuitRow]:
        def decode(row: Row) -> CircuitRow:
            key, *state = row
            # Another program may have written it.
            return CircuitRow(
                key, decode_circuit(state) if state[0] in get_args(CircuitState) else None
            )

        return await self._page(_CIRCUITS, pattern, after, limit, decode)

    async def _tasks(self, pattern: str, after: str, limit: int) -> Page[TaskRow]:
        def decode(row: Row) -> TaskRow:
            task_id, checkpoints, size_bytes, *latest = row
            return TaskRow(task_id, checkpoints, int(size_bytes), *latest)

        page = await self._page(_TASKS, pattern, after, limit, decode)
        return Page([row for row in page.rows if row.checkpoints], page.next)

    async def _results(self, pattern: str, after: str, limit: int) -> Page[ResultRow]:
        def decode(row: Row) -> ResultRow:
            key, size_bytes, left, created_at, fingerprint = row
            return ResultRow(
                key, size_bytes, milliseconds(left), milliseconds(created_at), fingerprint
            )

        return await self._page(_RESULTS, pattern, after, limit, decode)

    async def _entries(self, pattern: str, after: str, limit: int) -> Page[EntryRow]:
        def decode(row: Row) -> EntryRow:
            key, size_bytes, left, created_at, stale_left, tags = row
            return EntryRow(
                key,
                size_bytes,
                milliseconds(left),
                milliseconds(created_at),
                milliseconds(stale_left),
                _tags(tags),
            )

        return await self._page(_ENTRIES, pattern, after, limit, decode)

    async def _processes(self) -> Sequence[ProcessInfo]:
        return await self._open_processes()

    async def _total(self, kind: TotalKind, pattern: str) -> Total:
        sql = _COUNT.get(kind)
        if sql is None:
            return await super()._total(kind, pattern)
        count, size_bytes, rows, after = 0, 0, COUNTED_ROWS, ""
        while rows == COUNTED_ROWS:
            parameters = matching(pattern, after)
            [(rows, number, size, after)] = await self._database.read(sql, parameters)
            count, size_bytes = count + int(number), size_bytes + int(size)
        return Total(count=count, size_bytes=size_bytes)

    async def _page(
        self, sql: str, pattern: str, after: str, limit: int, decode: Callable[[Row], R]
    ) -> Page[R]:
        """The rows of the statement, which are decoded one by one when they are needed."""
        rows = await self._database.read(sql, (*matching(pattern, after), limit))
        return Page(map(decode, rows), rows[-1][0] if len(rows) == limit else None)


def _tags(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    try:
        tags: tuple[str, ...] = decode_json(text, tuple[str, ...])
    except DecodeError:  # another program changed them
        return ()
    return tags

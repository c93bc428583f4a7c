"""Listing what the file holds, a page at a time, without reading a value."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeVar, get_args

from goscope._tools.codec import DecodeError, decode
from goscope.backend import (
    BaseInspectionProvider,
    CircuitRow,
    EntryRow,
    LeaseRow,
    MemoryLockProvider,
    Page,
    ProcessIdentity,
    ResultRow,
    StoreContext,
    TaskRow,
    TotalKind,
    WaiterRow,
    is_alive,
    literal_prefix,
    prefix_successor,
)
from goscope.errors import BackendCorrupt
from goscope.inspection import ProcessInfo, Total
from goscope.providers import CircuitBreakerState, CircuitState

from .._engine.protocol import Database, Row
from .circuit_breaker import READ_CIRCUITS
from .lock import LEASE_COLUMNS, read_lease
from .lock_queue import HEARTBEAT_TIMEOUT_MS
from .pattern import glob

R = TypeVar("R")

COUNTED_ROWS: Final = 10_000
"""How many rows one read counts: other reads wait behind it for about 10 ms."""

_SIZE: Final = (
    "octet_length({0})"  # reads no byte of the text
    if sqlite3.sqlite_version_info >= (3, 43)
    else "length(CAST({0} AS BLOB))"
)
_DATA_SIZE: Final = _SIZE.format("data")
_VALUE_SIZE: Final = _SIZE.format("value")


def _matching(key: str) -> str:
    """The condition on the key column; its parameters are those of `_Range`."""
    return f"{key} >= CAST(? AS TEXT) AND {key} < ? AND (? IS NULL OR {key} GLOB ?)"


_LEASES: Final = (
    f"SELECT key, {LEASE_COLUMNS} FROM go_goscope_locks "
    f"WHERE {_matching('key')} ORDER BY key LIMIT ?"
)
_WAITERS: Final = """
    SELECT key, waiter, since FROM go_goscope_lock_queue
    WHERE (key, waiter) > (CAST(? AS TEXT), CAST(? AS TEXT)) AND key < ?
        AND (? IS NULL OR key GLOB ?) AND boot_id = ? AND last_heartbeat > ?
    ORDER BY key, waiter LIMIT ?
"""
_CIRCUITS: Final = f"{READ_CIRCUITS} WHERE {_matching('c.key')} ORDER BY c.key LIMIT ?"
# The columns without an aggregate come from the row that has the maximum.
_TASKS: Final = f"""
    SELECT task_id, count(*), sum({_DATA_SIZE}), max(sequence),
        progress, estimated_time_remaining, timestamp
    FROM go_goscope_checkpoints
    WHERE {_matching("task_id")} GROUP BY task_id ORDER BY task_id LIMIT ?
"""
_RESULTS: Final = f"""
    SELECT i.key, {_VALUE_SIZE}, i.expires_at, i.created_at, s.fingerprint
    FROM go_goscope_idempotency AS i
    LEFT JOIN go_goscope_idempotency_companion AS s ON s.key = i.key
    WHERE {_matching("i.key")} ORDER BY i.key LIMIT ?
"""
_ENTRIES: Final = f"""
    SELECT c.key, {_VALUE_SIZE}, c.expires_at, c.created_at, s.stale_until, s.tags
    FROM go_goscope_cache AS c LEFT JOIN go_goscope_cache_companion AS s ON s.key = c.key
    WHERE {_matching("c.key")} ORDER BY c.key LIMIT ?
"""


def _counting(table: str, key: str = "key", size: str = "0", grouped: str = "") -> str:
    """The statement that counts a page of rows, and adds up their sizes."""
    number = "count(*)" if grouped == "rows" else "1"
    group = f"GROUP BY {key}" if grouped else ""
    return f"""
        SELECT count(*), sum(number), sum(size), max(key) FROM (
            SELECT {key} AS key, {number} AS number, {size} AS size FROM {table}
            WHERE {_matching(key)} {group} ORDER BY {key} LIMIT {COUNTED_ROWS}
        )
    """


_COUNT: Final[dict[TotalKind, str]] = {
    "leases": _counting("go_goscope_locks"),
    "circuits": _counting("go_goscope_circuit"),
    "tasks": _counting("go_goscope_checkpoints", "task_id", grouped="keys"),
    "checkpoints": _counting(
        "go_goscope_checkpoints", "task_id", f"sum({_DATA_SIZE})", grouped="rows"
    ),
    "results": _counting("go_goscope_idempotency", size=_VALUE_SIZE),
    "entries": _counting("go_goscope_cache", size=_VALUE_SIZE),
}


class _Range(NamedTuple):
    """The keys that match a pattern and come after a cursor.

    A cursor is a key, in which ``surrogateescape`` stands for what is not UTF-8: other programs
    write such keys, too.
    """

    lowest: bytes
    below: str | bytes
    has_glob: int | None
    glob: str

    @classmethod
    def of(cls, pattern: str, after: str = "") -> _Range:
        start = literal_prefix(pattern)
        # One bound, so that SQLite begins there; the cursor itself is left out.
        position = after.encode(errors="surrogateescape") + b"\0" if after else b""
        lowest = max(start.encode(), position)
        # Every text is less than a blob.
        below = prefix_successor(start) if start else b""
        return cls(lowest, below, None if pattern == f"{start}*" else 1, glob(pattern))


class SQLiteInspectionProvider(BaseInspectionProvider):
    """Lists the rows of the file, also those that go-go-scope wrote."""

    lists_every_prefix = True

    def __init__(
        self,
        context: StoreContext,
        database: Database,
        *,
        memory_locks: MemoryLockProvider | None,
        prefix_ids: bool,
        processes: Callable[[], Awaitable[list[ProcessInfo]]] | None,
    ) -> None:
        super().__init__(context, memory_locks=memory_locks, prefix_ids=prefix_ids)
        self._database = database
        self._open_processes = processes

    async def _leases(self, pattern: str, after: str, limit: int) -> Page[LeaseRow]:
        clock = self.context.clock
        alive: dict[ProcessIdentity, bool | None] = {}  # a few processes hold all leases

        def row(key: str, columns: Sequence[Any]) -> LeaseRow:
            try:
                lease = read_lease(key, columns)
            except BackendCorrupt:  # listed all the same, since nobody else gets the lock
                return LeaseRow(key, "", "", 0, 0, 0, None, None)
            process = lease.process
            if process not in alive:
                alive[process] = is_alive(process)
            return LeaseRow(
                key=key,
                owner=lease.owner,
                host=lease.host,
                pid=lease.pid,
                acquired_at=lease.acquired_at,
                expires_in_ms=lease.left_ms(clock),
                token=lease.token,
                is_alive=alive[process],
            )

        return await self._page(_LEASES, pattern, after, limit, row)

    async def _waiters(self, pattern: str, after: str, limit: int) -> Page[WaiterRow]:
        clock = self.context.clock
        now = clock.steady_ms()
        wanted = _Range.of(pattern)
        key, _, name = after.partition("\0")
        position = (key, name) if after else (wanted.lowest, "")
        rows = await self._database.read_all(
            _WAITERS, (*position, *wanted[1:], clock.boot_id, now - HEARTBEAT_TIMEOUT_MS, limit)
        )
        found = [
            WaiterRow(_text(key), _text(name), _pid(_text(name)), _waited_ms(since, now))
            for key, name, since in rows
        ]
        return Page(found, f"{found[-1].key}\0{found[-1].name}" if len(rows) == limit else None)

    async def _circuits(self, pattern: str, after: str, limit: int) -> Page[CircuitRow]:
        return await self._page(
            _CIRCUITS, pattern, after, limit, lambda key, it: CircuitRow(key, _circuit(it))
        )

    async def _tasks(self, pattern: str, after: str, limit: int) -> Page[TaskRow]:
        def row(task_id: str, columns: Sequence[Any]) -> TaskRow:
            checkpoints, size_bytes, sequence, progress, remaining, saved_at = columns
            return TaskRow(
                id=task_id,
                checkpoints=checkpoints,
                size_bytes=size_bytes or 0,
                sequence=_integer(sequence) or 0,
                progress=float(progress) if isinstance(progress, int | float) else 0.0,
                estimated_time_remaining=_integer(remaining),
                saved_at=_integer(saved_at) or 0,
            )

        return await self._page(_TASKS, pattern, after, limit, row)

    async def _results(self, pattern: str, after: str, limit: int) -> Page[ResultRow]:
        now = self.context.clock.wall_ms()

        def row(key: str, columns: Sequence[Any]) -> ResultRow:
            size_bytes, expires_at, created_at, fingerprint = columns
            return ResultRow(
                key=key,
                size_bytes=size_bytes or 0,
                expires_in_ms=_left_ms(_milliseconds(expires_at), now),
                created_at=_milliseconds(created_at),
                fingerprint=fingerprint if isinstance(fingerprint, str) else None,
            )

        return await self._page(_RESULTS, pattern, after, limit, row)

    async def _entries(self, pattern: str, after: str, limit: int) -> Page[EntryRow]:
        now = self.context.clock.wall_ms()

        def row(key: str, columns: Sequence[Any]) -> EntryRow:
            size_bytes, expires_at, created_at, stale_until, tags = columns
            return EntryRow(
                key=key,
                size_bytes=size_bytes or 0,
                expires_in_ms=_left_ms(_milliseconds(expires_at), now),
                created_at=_milliseconds(created_at),
                stale_expires_in_ms=_left_ms(_integer(stale_until), now),
                tags=_tags(tags) if isinstance(tags, str | bytes) else (),
            )

        return await self._page(_ENTRIES, pattern, after, limit, row)

    async def _processes(self) -> Sequence[ProcessInfo]:
        if self._open_processes is None:
            return await super()._processes()
        return await self._open_processes()

    async def _total(self, kind: TotalKind, pattern: str) -> Total:
        sql = _COUNT.get(kind)
        if sql is None:
            return await super()._total(kind, pattern)
        count, size_bytes, read, after = 0, 0, COUNTED_ROWS, ""
        while read == COUNTED_ROWS:
            ((read, number, size, last),) = await self._database.read_all(
                sql, _Range.of(pattern, after)
            )
            if read:
                count, size_bytes, after = count + number, size_bytes + size, _cursor(last)
        return Total(count=count, size_bytes=size_bytes)

    async def _page(
        self,
        sql: str,
        pattern: str,
        after: str,
        limit: int,
        row: Callable[[str, Sequence[Any]], R],
    ) -> Page[R]:
        """The rows of the statement. They are decoded one by one, when they are needed."""
        rows = await self._database.read_all(sql, (*_Range.of(pattern, after), limit))
        decoded: Iterable[R] = (row(_text(key), columns) for key, *columns in rows)
        return Page(decoded, _cursor(rows[-1][0]) if len(rows) == limit else None)


def _cursor(key: str | bytes) -> str:
    return key if isinstance(key, str) else key.decode(errors="surrogateescape")


def _text(key: str | bytes) -> str:
    return key if isinstance(key, str) else bytes(key).decode(errors="replace")


def _integer(value: object) -> int | None:
    """The number as an integer; None for what other programs may store in its place."""
    return int(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _milliseconds(stored: object) -> int | None:
    """Stored seconds as epoch milliseconds. Text counts as never, as in SQLite's comparisons."""
    return _integer(stored * 1000) if isinstance(stored, int | float) else None


def _left_ms(time: int | None, now: int) -> int | None:
    return None if time is None else time - now


def _tags(text: str | bytes) -> tuple[str, ...]:
    try:
        tags: tuple[str, ...] = decode(text, tuple[str, ...])
    except DecodeError:  # another program changed them
        return ()
    return tags


def _waited_ms(since: object, now: int) -> int | None:
    began = _integer(since)
    return None if began is None else now - began


def _pid(name: str) -> int | None:
    """The process that a waiter is named after."""
    pid = name.partition("-")[0]
    return int(pid) if pid.isdecimal() else None


def _circuit(row: Row | Sequence[Any]) -> CircuitBreakerState | None:
    state, failures, last_failure, last_success, successes = row
    if state not in get_args(CircuitState):
        return None
    return CircuitBreakerState(
        state=state,
        failure_count=_integer(failures) or 0,
        last_failure_time=_integer(last_failure),
        last_success_time=_integer(last_success),
        success_count=_integer(successes) or 0,
    )

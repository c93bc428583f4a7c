"""Circuit states. Companion rows count successful probes, for which go-go-scope has no column."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Final, get_args

from goscope._tools.integer import MAX_INTEGER
from goscope.backend import BaseCircuitBreakerStateProvider, Fence, StoreContext
from goscope.providers import CircuitBreakerState, CircuitState

from .._engine.protocol import Database, Row
from ..columns import is_integer
from .fence import check_fence
from .unreadable import UnreadableRows

# The state that a companion row belongs to. Any failure or other writer changes it, and the row no
# longer applies.
_DESCRIBED: Final = "c.state || ':' || c.failure_count || ':' || c.updated_at"
_COLUMNS: Final = (
    "c.state, c.failure_count, c.last_failure_time, c.last_success_time, s.success_count"
)
_FROM: Final = f"""
    FROM go_goscope_circuit AS c
    LEFT JOIN go_goscope_circuit_companion AS s ON s.key = c.key AND s.describes = {_DESCRIBED}
"""
_READ: Final = f"SELECT c.rowid, {_COLUMNS} {_FROM} WHERE c.key = ?"
READ_CIRCUITS: Final = f"SELECT c.key, {_COLUMNS} {_FROM}"
"""Selects the key and the columns of circuits; the table is ``c``."""
_WRITE: Final = """
    INSERT OR REPLACE INTO go_goscope_circuit
        (key, state, failure_count, last_failure_time, last_success_time, updated_at)
    VALUES (?, ?, ?, ?, ?, ?)
"""
_WRITE_COMPANION: Final = f"""
    INSERT OR REPLACE INTO go_goscope_circuit_companion (key, describes, success_count)
    SELECT c.key, {_DESCRIBED}, ? FROM go_goscope_circuit AS c WHERE c.key = ?
"""
_DELETE_COMPANION: Final = """
    DELETE FROM go_goscope_circuit_companion WHERE key = CAST(? AS TEXT)
"""
_IS_READABLE: Final = f"""
    c.state IN {get_args(CircuitState)}
    AND typeof(c.failure_count) = 'integer' AND c.failure_count BETWEEN 0 AND {MAX_INTEGER}
    AND typeof(c.last_failure_time) IN ('null', 'integer')
    AND ifnull(c.last_failure_time, 0) BETWEEN -{MAX_INTEGER} AND {MAX_INTEGER}
    AND typeof(c.last_success_time) IN ('null', 'integer')
    AND ifnull(c.last_success_time, 0) BETWEEN -{MAX_INTEGER} AND {MAX_INTEGER}
"""
_RECORD_FAILURE: Final = f"""
    INSERT INTO go_goscope_circuit AS c
        (key, state, failure_count, last_failure_time, last_success_time, updated_at)
    VALUES (?, iif(? <= 1, 'open', 'closed'), 1, ?, NULL, ?)
    ON CONFLICT (key) DO UPDATE SET
        state = iif(c.state = 'half-open' OR c.failure_count + 1 >= ?, 'open', c.state),
        failure_count = c.failure_count + 1,
        last_failure_time =
            iif(c.state = 'open' AND c.last_failure_time IS NULL, NULL, excluded.updated_at),
        updated_at = excluded.updated_at
    WHERE {_IS_READABLE}
    RETURNING failure_count
"""
"""Returns nothing if the row cannot be read."""
_DELETE: Final = "DELETE FROM go_goscope_circuit WHERE key = ?"


class SQLiteCircuitBreakerStateProvider(BaseCircuitBreakerStateProvider):
    """The states of circuits, one row each."""

    def __init__(self, context: StoreContext, database: Database) -> None:
        super().__init__(context)
        self._database = database
        self._unreadable = UnreadableRows()

    async def _get(self, key: str) -> CircuitBreakerState | None:
        row = await self._database.read_one(_READ, (key,))
        return None if row is None else self._decode(row)

    async def _set(self, key: str, state: CircuitBreakerState, fence: Fence | None) -> None:
        now = self.context.clock.wall_ms()

        def store(connection: sqlite3.Connection) -> None:
            check_fence(connection, fence)
            _write(connection, key, state, now)

        await self._database.submit(store)

    async def _update(
        self,
        key: str,
        change: Callable[[CircuitBreakerState | None], CircuitBreakerState | None],
        fence: Fence | None,
    ) -> None:
        now = self.context.clock.wall_ms()

        def update(connection: sqlite3.Connection) -> None:
            check_fence(connection, fence)
            rows = connection.execute(_READ, (key,)).fetchall()
            state = change(self._decode(rows[0]) if rows else None)
            if state is not None:
                _write(connection, key, state, now)

        await self._database.submit(update)

    async def _record_failure(self, key: str, max_failures: int, fence: Fence | None) -> int:
        now = self.context.clock.wall_ms()
        parameters = (key, max_failures, now, now, max_failures)

        def record(connection: sqlite3.Connection) -> list[Row]:
            check_fence(connection, fence)
            return connection.execute(_RECORD_FAILURE, parameters).fetchall()

        def replace(connection: sqlite3.Connection) -> list[Row]:
            rows = record(connection)
            if not rows:
                connection.execute(_DELETE, (key,))
            return rows or record(connection)

        rows = await self._database.submit(record, autocommit=fence is None)
        rows = rows or await self._database.submit(replace)
        count: int = rows[0][0]
        return count

    def _decode(self, row: Row) -> CircuitBreakerState | None:
        """The state in the row; None, as if there were no row, if another program's is no state."""
        rowid, state, failures, last_failure, last_success, successes = row
        times = (last_failure, last_success)
        if not (
            state in get_args(CircuitState)
            and is_integer(failures)
            and failures >= 0
            and all(time is None or is_integer(time) for time in times)
        ):
            reason = f"its state is {row[1:5]!r:.200}"
            self._unreadable.report("go_goscope_circuit", rowid, reason)
            return None
        return CircuitBreakerState(
            state=state,
            failure_count=failures,
            last_failure_time=last_failure,
            last_success_time=last_success,
            success_count=successes if is_integer(successes) else 0,
        )


def _write(connection: sqlite3.Connection, key: str, state: CircuitBreakerState, now: int) -> None:
    times = (state.last_failure_time, state.last_success_time, now)
    connection.execute(_WRITE, (key, state.state, state.failure_count, *times))
    if state.success_count:
        connection.execute(_WRITE_COMPANION, (state.success_count, key))
    else:
        delete_companion(connection, key)


def delete_companion(connection: sqlite3.Connection, key: str | bytes | None) -> None:
    """Delete the count of successful probes, as part of a write."""
    connection.execute(_DELETE_COMPANION, (key,))

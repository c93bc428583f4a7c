"""Circuit states. Companion rows count successful probes, for which go-go-scope has no column."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from typing import Final

from goscope.backend import BaseCircuitBreakerStateProvider, Fence, StoreContext
from goscope.providers import CircuitBreakerState

from .._engine.protocol import Database, Row
from .fence import check_fence

# The state that a companion row belongs to. Any failure or other writer changes it, and the row no
# longer applies.
_DESCRIBED: Final = "c.state || ':' || c.failure_count || ':' || c.updated_at"
_READ: Final = f"""
    SELECT c.state, c.failure_count, c.last_failure_time, c.last_success_time, s.success_count
    FROM go_goscope_circuit AS c
    LEFT JOIN go_goscope_circuit_companion AS s ON s.key = c.key AND s.describes = {_DESCRIBED}
    WHERE c.key = ?
"""
_WRITE: Final = """
    INSERT OR REPLACE INTO go_goscope_circuit
        (key, state, failure_count, last_failure_time, last_success_time, updated_at)
    VALUES (?, ?, ?, ?, ?, ?)
"""
_WRITE_COMPANION: Final = f"""
    INSERT OR REPLACE INTO go_goscope_circuit_companion (key, describes, success_count)
    SELECT c.key, {_DESCRIBED}, ? FROM go_goscope_circuit AS c WHERE c.key = ?
"""
_DELETE_COMPANION: Final = "DELETE FROM go_goscope_circuit_companion WHERE key = ?"
_RECORD_FAILURE: Final = """
    INSERT INTO go_goscope_circuit AS c
        (key, state, failure_count, last_failure_time, last_success_time, updated_at)
    VALUES (?, iif(? <= 1, 'open', 'closed'), 1, ?, NULL, ?)
    ON CONFLICT (key) DO UPDATE SET
        state = iif(c.state = 'half-open' OR c.failure_count + 1 >= ?, 'open', c.state),
        failure_count = c.failure_count + 1,
        last_failure_time =
            iif(c.state = 'open' AND c.last_failure_time IS NULL, NULL, excluded.updated_at),
        updated_at = excluded.updated_at
    RETURNING failure_count
"""


class SQLiteCircuitBreakerStateProvider(BaseCircuitBreakerStateProvider):
    """The states of circuits, one row each."""

    def __init__(self, context: StoreContext, database: Database) -> None:
        super().__init__(context)
        self._database = database

    async def _get(self, key: str) -> CircuitBreakerState | None:
        row = await self._database.read_one(_READ, (key,))
        return None if row is None else _decode(row)

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
            state = change(_decode(rows[0]) if rows else None)
            if state is not None:
                _write(connection, key, state, now)

        await self._database.submit(update)

    def _record_failure(
        self, key: str, max_failures: int, now: int, fence: Fence | None
    ) -> Awaitable[int]:
        parameters = (key, max_failures, now, now, max_failures)

        def record(connection: sqlite3.Connection) -> int:
            check_fence(connection, fence)
            count: int = connection.execute(_RECORD_FAILURE, parameters).fetchall()[0][0]
            return count

        return self._database.submit(record, autocommit=fence is None)


def _decode(row: Row) -> CircuitBreakerState:
    state, failures, last_failure, last_success, successes = row
    return CircuitBreakerState(
        state=state,
        failure_count=failures,
        last_failure_time=last_failure,
        last_success_time=last_success,
        success_count=successes or 0,
    )


def _write(connection: sqlite3.Connection, key: str, state: CircuitBreakerState, now: int) -> None:
    times = (state.last_failure_time, state.last_success_time, now)
    connection.execute(_WRITE, (key, state.state, state.failure_count, *times))
    if state.success_count:
        connection.execute(_WRITE_COMPANION, (state.success_count, key))
    else:
        delete_companion(connection, key)


def delete_companion(connection: sqlite3.Connection, key: str) -> None:
    """Delete the count of successful probes, as part of a write."""
    connection.execute(_DELETE_COMPANION, (key,))

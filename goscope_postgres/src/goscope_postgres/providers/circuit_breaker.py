"""Circuit states: one row each."""

from __future__ import annotations

from typing import Final

from goscope.backend import BaseCircuitBreakerStateProvider, Fence, StoreContext
from goscope.providers import CircuitBreakerState, CircuitState

from .._engine.database import Database
from ..schema import Tables
from .fence import FencedWrite
from .times import epoch_ms

COLUMNS: Final = "state, failure_count, last_failure_time, last_success_time, success_count"
_GET: Final = f"SELECT {COLUMNS} FROM {{circuit}} WHERE key = $1"
_SET: Final = f"""
    INSERT INTO {{circuit}} (key, {COLUMNS})
    SELECT $1, $2, $3::bigint, $4::bigint, $5::bigint, $6::bigint WHERE IF_CURRENT
    ON CONFLICT (key) DO UPDATE SET
        state = excluded.state,
        failure_count = excluded.failure_count,
        last_failure_time = excluded.last_failure_time,
        last_success_time = excluded.last_success_time,
        success_count = excluded.success_count
    RETURNING 1
"""
_RECORD_FAILURE: Final = f"""
    INSERT INTO {{circuit}} AS c (key, {COLUMNS})
    SELECT $1, CASE WHEN $2::bigint <= 1 THEN 'open' ELSE 'closed' END, 1,
        {epoch_ms("clock_timestamp()")}, NULL, 0
    WHERE IF_CURRENT
    ON CONFLICT (key) DO UPDATE SET
        state = CASE WHEN c.state = 'half-open' OR c.failure_count + 1 >= $2
            THEN 'open' ELSE c.state END,
        failure_count = c.failure_count + 1,
        last_failure_time = CASE WHEN c.state = 'open' AND c.last_failure_time IS NULL
            THEN NULL ELSE {epoch_ms("clock_timestamp()")} END,
        success_count = 0
    RETURNING failure_count
"""
_RECORD_SUCCESS: Final = f"""
    INSERT INTO {{circuit}} AS c (key, {COLUMNS})
    SELECT $1, 'closed', 0, NULL, {epoch_ms("clock_timestamp()")}, 0
    WHERE IF_CURRENT AND (coalesce($2, 'closed') = 'closed'
        OR EXISTS (SELECT 1 FROM {{circuit}} WHERE key = $1))
    ON CONFLICT (key) DO UPDATE SET
        state = 'closed',
        failure_count = 0,
        last_success_time = {epoch_ms("clock_timestamp()")},
        success_count = 0
    WHERE $2 IS NULL OR c.state = $2
    RETURNING 1
"""


class PostgresCircuitBreakerStateProvider(BaseCircuitBreakerStateProvider):
    """The states of circuits in the database."""

    def __init__(self, context: StoreContext, database: Database, tables: Tables) -> None:
        super().__init__(context)
        self._database = database
        self._sql_get = tables.fill(_GET)
        self._sql_set = FencedWrite(tables, _SET)
        self._sql_record_failure = FencedWrite(tables, _RECORD_FAILURE)
        self._sql_record_success = FencedWrite(tables, _RECORD_SUCCESS)

    async def _get(self, key: str) -> CircuitBreakerState | None:
        rows = await self._database.read(self._sql_get, key)
        return CircuitBreakerState(**rows[0]) if rows else None

    async def _set(self, key: str, state: CircuitBreakerState, fence: Fence | None) -> None:
        values = (
            state.state,
            state.failure_count,
            state.last_failure_time,
            state.last_success_time,
            state.success_count,
        )
        await self._sql_set.run(self._database, fence, key, *values)

    async def _record_failure(self, key: str, max_failures: int, fence: Fence | None) -> int:
        threshold = min(max_failures, 2**62)
        count: int = await self._sql_record_failure.run(self._database, fence, key, threshold)
        return count

    async def _record_success(
        self, key: str, expected: CircuitState | None, fence: Fence | None
    ) -> None:
        await self._sql_record_success.run(self._database, fence, key, expected)

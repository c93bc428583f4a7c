"""Circuit states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from goscope.backend import BaseCircuitBreakerStateProvider, Fence, StoreContext, lease_lost
from goscope.providers import CircuitBreakerState, CircuitState

from .._engine.connection import Statement
from .._engine.database import Database
from ..columns import microseconds, milliseconds
from .fence import GUARDED, check_fence, guard_params, lock_fence

STATE: Final = "state, failure_count, last_failure_time, last_success_time, success_count"
_COLUMNS: Final = f"(`key`, {STATE}, updated_at)"
_READ: Final = f"SELECT {STATE} FROM {{circuits}} WHERE `key` = ?"
_SET: Final = f"REPLACE INTO {{circuits}} {_COLUMNS} VALUES (?, ?, ?, ?, ?, ?, {{now}})"
_SET_GUARDED: Final = (
    f"REPLACE INTO {{circuits}} {_COLUMNS} SELECT ?, ?, ?, ?, ?, ?, {{now}} {GUARDED}"
)
# LAST_INSERT_ID(x) reports x: the new count. A circuit that is forced open gets no failure time.
_RECORD_FAILURE: Final = f"""
    INSERT INTO {{circuits}} {_COLUMNS} %s
    ON DUPLICATE KEY UPDATE
        last_failure_time = IF(
            {{circuits}}.state = 'open' AND {{circuits}}.last_failure_time IS NULL, NULL, {{now}}
        ),
        state = IF(
            {{circuits}}.state = 'half-open' OR {{circuits}}.failure_count + 1 >= ?,
            'open', {{circuits}}.state
        ),
        failure_count = LAST_INSERT_ID({{circuits}}.failure_count + 1),
        success_count = 0,
        updated_at = {{now}}
"""
_FIRST_FAILURE: Final = "?, IF(? <= 1, 'open', 'closed'), LAST_INSERT_ID(1), {now}, NULL, 0, {now}"
_RECORD_ANY_FAILURE: Final = _RECORD_FAILURE % f"VALUES ({_FIRST_FAILURE})"
_RECORD_GUARDED_FAILURE: Final = _RECORD_FAILURE % f"SELECT {_FIRST_FAILURE} {GUARDED}"
_CLOSE: Final = "state = 'closed', failure_count = 0, success_count = 0"
_RECORD_SUCCESS: Final = f"""
    INSERT INTO {{circuits}} {_COLUMNS} VALUES (?, 'closed', 0, NULL, {{now}}, 0, {{now}})
    ON DUPLICATE KEY UPDATE {_CLOSE}, last_success_time = {{now}}, updated_at = {{now}}
"""
_RECORD_SUCCESS_IN: Final = f"""
    UPDATE {{circuits}} SET {_CLOSE}, last_success_time = {{now}}, updated_at = {{now}}
    WHERE `key` = ? AND state = ?
"""
_CREATE: Final = f"""
    INSERT INTO {{circuits}} {_COLUMNS} VALUES (?, 'closed', 0, NULL, NULL, 0, 0)
    ON DUPLICATE KEY UPDATE `key` = {{circuits}}.`key`
"""


class MySQLCircuitBreakerStateProvider(BaseCircuitBreakerStateProvider):
    """The states of circuits, one row each."""

    def __init__(self, context: StoreContext, database: Database) -> None:
        super().__init__(context)
        self._database = database

    async def _get(self, key: str) -> CircuitBreakerState | None:
        rows = await self._database.read(_READ, (key,))
        return decode(rows[0]) if rows else None

    async def _set(self, key: str, state: CircuitBreakerState, fence: Fence | None) -> None:
        row = (key, *_values(state))
        if fence is None:
            await self._database.write(_SET, row)
        else:
            result = await self._database.write(_SET_GUARDED, (*row, *guard_params(fence)))
            if not result.affected:
                raise lease_lost(fence)

    async def _record_failure(self, key: str, max_failures: int, fence: Fence | None) -> int:
        first, limit = (key, max_failures), (max_failures,)
        if fence is None:
            return (await self._database.write(_RECORD_ANY_FAILURE, (*first, *limit))).insert_id
        result = await self._database.write(
            _RECORD_GUARDED_FAILURE, (*first, *guard_params(fence), *limit)
        )
        if not result.affected:
            raise lease_lost(fence)
        return result.insert_id

    async def _record_success(
        self, key: str, expected: CircuitState | None, fence: Fence | None
    ) -> None:
        closing: list[Statement] = [
            (_RECORD_SUCCESS, (key,)) if expected is None else (_RECORD_SUCCESS_IN, (key, expected))
        ]
        if expected == "closed":  # as is a circuit without a record
            closing.insert(0, (_CREATE, (key,)))
        if fence is None:
            await self._database.write_all(closing)
        else:
            await self._database.transact(
                [*lock_fence(fence), *closing], lambda results: ([], check_fence(results, fence))
            )


def _values(state: CircuitBreakerState) -> tuple[str, int, int | None, int | None, int]:
    return (
        state.state,
        state.failure_count,
        microseconds(state.last_failure_time),
        microseconds(state.last_success_time),
        state.success_count,
    )


def decode(row: Sequence[Any]) -> CircuitBreakerState:
    """The state in the columns of `STATE`."""
    state, failures, last_failure, last_success, successes = row
    return CircuitBreakerState(
        state=state,
        failure_count=failures,
        last_failure_time=milliseconds(last_failure),
        last_success_time=milliseconds(last_success),
        success_count=successes,
    )

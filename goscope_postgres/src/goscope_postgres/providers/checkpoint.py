"""Checkpoints of tasks: one row each, and one row a task with its highest sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import asyncpg

from goscope.backend import BaseCheckpointProvider, Fence, StoreContext, StoredCheckpoint
from goscope.errors import BackendError, CheckpointConflict

from .._engine.database import Database
from ..schema import Tables
from .fence import FencedWrite, Writer

_COLUMNS: Final = "id, task_id, sequence, timestamp, progress, data, estimated_time_remaining"
_LOAD: Final = f"SELECT {_COLUMNS} FROM {{checkpoint}} WHERE id = $1"
_LATEST: Final = f"""
    SELECT {_COLUMNS} FROM {{checkpoint}} WHERE task_id = $1 ORDER BY sequence DESC LIMIT 1
"""
_LIST: Final = f"SELECT {_COLUMNS} FROM {{checkpoint}} WHERE task_id = $1 ORDER BY sequence"
_HIGHEST: Final = "SELECT sequence FROM {task} WHERE task_id = $1"
_ADVANCE: Final = """
    advanced AS (
        INSERT INTO {task} AS t (task_id, sequence, id)
        SELECT $2, $3::bigint, $1 WHERE IF_CURRENT
        ON CONFLICT (task_id) DO UPDATE SET sequence = excluded.sequence, id = excluded.id
        WHERE excluded.sequence > t.sequence
            OR (excluded.sequence = t.sequence AND excluded.id = t.id)
        RETURNING 1
    )
"""
"""The row of the task decides: it is locked, and judged as it is after the wait. A condition on the
checkpoints would be judged by the statement's snapshot, and let saves pass that came too late."""
_SAVE: Final = f"""
    INSERT INTO {{checkpoint}} ({_COLUMNS})
    SELECT $1, $2, $3, $4::bigint, $5::double precision, $6, $7::bigint FROM advanced
    ON CONFLICT (task_id, sequence) DO UPDATE SET
        timestamp = excluded.timestamp,
        progress = excluded.progress,
        data = excluded.data,
        estimated_time_remaining = excluded.estimated_time_remaining
    RETURNING 1
"""
_TRIM: Final = """
    removed AS (
        DELETE FROM {task} WHERE task_id = $1 AND $2::bigint = 0 AND IF_CURRENT
            AND sequence = (
                SELECT sequence FROM {checkpoint}
                WHERE task_id = $1 ORDER BY sequence DESC LIMIT 1
            )
    ),
    trimmed AS (
        DELETE FROM {checkpoint} WHERE task_id = $1 AND IF_CURRENT AND sequence IN (
            SELECT sequence FROM {checkpoint}
            WHERE task_id = $1 ORDER BY sequence DESC OFFSET $2::bigint
        )
        RETURNING 1
    )
"""
"""The row of the task stays if a save that this statement does not see has moved it."""


class PostgresCheckpointProvider(BaseCheckpointProvider):
    """The checkpoints of tasks in the database."""

    def __init__(self, context: StoreContext, database: Database, tables: Tables) -> None:
        super().__init__(context)
        self._database = database
        self._sql_load = tables.fill(_LOAD)
        self._sql_latest = tables.fill(_LATEST)
        self._sql_list = tables.fill(_LIST)
        self._sql_highest = tables.fill(_HIGHEST)
        self._sql_save = FencedWrite(tables, _SAVE, _ADVANCE)
        self._sql_trim = FencedWrite(tables, "SELECT count(*) FROM trimmed", _TRIM)

    async def _save(self, row: StoredCheckpoint, fence: Fence | None) -> None:
        try:
            await self.write(self._database, row, fence)
        except CheckpointConflict as exc:
            rows = await self._database.read(self._sql_highest, row.task_id)
            raise self._conflict(row, rows[0][0] if rows else None) from exc

    async def write(self, writer: Writer, row: StoredCheckpoint, fence: Fence | None) -> None:
        """Save the row with one statement, which may be part of a transaction."""
        try:
            is_saved = await self._sql_save.run(writer, fence, *row)
        except BackendError as exc:
            if not isinstance(exc.__cause__, asyncpg.UniqueViolationError):
                raise
            raise self._conflict(row, None) from exc  # another checkpoint has this id
        if not is_saved:
            raise self._conflict(row, None)

    async def _load(self, checkpoint_id: str) -> StoredCheckpoint | None:
        return await self._first(self._sql_load, checkpoint_id)

    async def _load_latest(self, task_id: str) -> StoredCheckpoint | None:
        return await self._first(self._sql_latest, task_id)

    async def _list(self, task_id: str) -> Sequence[StoredCheckpoint]:
        rows = await self._database.read(self._sql_list, task_id)
        return [StoredCheckpoint._make(row) for row in rows]

    async def _trim(self, task_id: str, keep: int, fence: Fence | None) -> None:
        await self._sql_trim.run(self._database, fence, task_id, min(keep, 2**62))

    async def _first(self, sql: str, key: str) -> StoredCheckpoint | None:
        rows = await self._database.read(sql, key)
        return StoredCheckpoint._make(rows[0]) if rows else None

    def _conflict(self, row: StoredCheckpoint, highest: int | None) -> CheckpointConflict:
        return CheckpointConflict(row.task_id[len(self._prefix) :], row.sequence, highest)

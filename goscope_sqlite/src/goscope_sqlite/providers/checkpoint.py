"""Checkpoints of tasks."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Final

from goscope._tools.integer import MAX_INTEGER
from goscope.backend import BaseCheckpointProvider, Fence, StoreContext, StoredCheckpoint
from goscope.errors import CheckpointConflict

from .._engine.protocol import Database, Row
from ..columns import equivalent_rows
from .fence import check_fence

ALL_CHECKPOINTS_ROWS: Final = 100
"""How many rows deleting all checkpoints of a task is estimated at."""

_COLUMNS: Final = "id, task_id, sequence, timestamp, progress, data, estimated_time_remaining"
_SELECT: Final = f"SELECT {_COLUMNS} FROM go_goscope_checkpoints"
_LOAD: Final = f"{_SELECT} WHERE id = ?"
_OF_TASK: Final = f"task_id = ? AND sequence <= {MAX_INTEGER}"
"""Not a row with another kind of sequence, which would be the latest one of the task ever after."""
_LATEST: Final = f"{_SELECT} WHERE {_OF_TASK} ORDER BY sequence DESC LIMIT 1"
_LIST: Final = f"{_SELECT} WHERE {_OF_TASK} ORDER BY sequence"
_HIGHEST: Final = f"""
    SELECT id, sequence FROM go_goscope_checkpoints
    WHERE {_OF_TASK} ORDER BY sequence DESC LIMIT 1
"""
_APPEND: Final = f"""
    INSERT INTO go_goscope_checkpoints ({_COLUMNS}, created_at)
    SELECT ?, ?, ?, ?, ?, ?, ?, ?
    WHERE NOT EXISTS (SELECT 1 FROM go_goscope_checkpoints WHERE {_OF_TASK} AND sequence >= ?)
"""
_UPDATE: Final = """
    UPDATE go_goscope_checkpoints
    SET timestamp = ?, progress = ?, data = ?, estimated_time_remaining = ? WHERE id = ?
"""
_TRIM: Final = f"""
    DELETE FROM go_goscope_checkpoints WHERE rowid IN (
        SELECT rowid FROM go_goscope_checkpoints
        WHERE {_OF_TASK} ORDER BY sequence DESC LIMIT -1 OFFSET ?
    )
"""
_DELETE_ALL: Final = "DELETE FROM go_goscope_checkpoints WHERE task_id = ?"


class SQLiteCheckpointProvider(BaseCheckpointProvider):
    """The checkpoints of tasks, one row each."""

    def __init__(
        self, context: StoreContext, database: Database, *, prefix_ids: bool = True
    ) -> None:
        super().__init__(context, prefix_ids=prefix_ids)
        self._database = database

    async def _save(self, row: StoredCheckpoint, fence: Fence | None) -> None:
        append = self._appending(row)
        submit, rows = self._database.submit, equivalent_rows(row.text)
        if fence is not None or not await submit(append, rows=rows, autocommit=True):
            await submit(self.saving(row, fence), rows=rows)

    async def _load(self, checkpoint_id: str) -> StoredCheckpoint | None:
        return _decode(await self._database.read_one(_LOAD, (checkpoint_id,)))

    async def _load_latest(self, task_id: str) -> StoredCheckpoint | None:
        return _decode(await self._database.read_one(_LATEST, (task_id,)))

    async def _list(self, task_id: str) -> Sequence[StoredCheckpoint]:
        rows = await self._database.read_all(_LIST, (task_id,))
        return [StoredCheckpoint._make(row) for row in rows]

    async def _trim(self, task_id: str, keep: int, fence: Fence | None) -> None:
        def trim(connection: sqlite3.Connection) -> None:
            check_fence(connection, fence)
            if keep:
                connection.execute(_TRIM, (task_id, keep))
            else:
                connection.execute(_DELETE_ALL, (task_id,))

        await self._database.submit(trim, rows=1 if keep else ALL_CHECKPOINTS_ROWS)

    def saving(
        self, row: StoredCheckpoint, fence: Fence | None
    ) -> Callable[[sqlite3.Connection], None]:
        """The write that saves the row, as part of a transaction."""
        append = self._appending(row)

        def save(connection: sqlite3.Connection) -> None:
            check_fence(connection, fence)
            if not append(connection):
                self._replace(connection, row)

        return save

    def _appending(self, row: StoredCheckpoint) -> Callable[[sqlite3.Connection], bool]:
        parameters = (*row, self.context.clock.wall_ms() // 1000, row.task_id, row.sequence)

        def append(connection: sqlite3.Connection) -> bool:
            try:
                return connection.execute(_APPEND, parameters).rowcount > 0
            except sqlite3.IntegrityError as exc:  # another checkpoint has this id
                raise self._conflict(row, _latest(connection, row.task_id)) from exc

        return append

    def _replace(self, connection: sqlite3.Connection, row: StoredCheckpoint) -> None:
        """Replace the task's latest row, provided it has the same id and sequence."""
        latest = _latest(connection, row.task_id)
        if latest != (row.id, row.sequence):
            raise self._conflict(row, latest)
        changes = (row.timestamp, row.progress, row.text, row.estimated_time_remaining)
        connection.execute(_UPDATE, (*changes, row.id))

    def _conflict(self, row: StoredCheckpoint, latest: Row | None) -> CheckpointConflict:
        highest: int | None = None if latest is None else latest[1]
        return CheckpointConflict(row.task_id[len(self._prefix) :], row.sequence, highest)


def _latest(connection: sqlite3.Connection, task_id: str) -> Row | None:
    """The id and the sequence of the task's latest row."""
    rows: list[Row] = connection.execute(_HIGHEST, (task_id,)).fetchall()
    return rows[0] if rows else None


def _decode(row: Row | None) -> StoredCheckpoint | None:
    return None if row is None else StoredCheckpoint._make(row)

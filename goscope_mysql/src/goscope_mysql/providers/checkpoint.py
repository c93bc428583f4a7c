"""Checkpoints of tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from goscope.backend import BaseCheckpointProvider, Fence, StoreContext, StoredCheckpoint
from goscope.errors import BackendError, CheckpointConflict

from .._engine.connection import Result, Row, Statement
from .._engine.database import Database
from .._engine.errors import DUPLICATE_KEY, code_of
from .fence import check_fence, lock_fence

Decide: TypeAlias = Callable[[Sequence[Result]], tuple[list[Statement], None]]

_COLUMNS: Final = "id, task_id, sequence, `timestamp`, progress, data, estimated_time_remaining"
_SELECT: Final = f"SELECT {_COLUMNS} FROM {{checkpoints}}"
_LOAD: Final = f"{_SELECT} WHERE id = ?"
_LATEST: Final = f"{_SELECT} WHERE task_id = ? ORDER BY sequence DESC LIMIT 1"
_LIST: Final = f"{_SELECT} WHERE task_id = ? ORDER BY sequence"
_LOCK_TO_SAVE: Final = (
    "INSERT INTO {tasks} (task_id) VALUES (?) ON DUPLICATE KEY UPDATE task_id = {tasks}.task_id"
)
_LOCK_TO_TRIM: Final = "SELECT 1 FROM {tasks} WHERE task_id = ? FOR UPDATE"
_HIGHEST: Final = """
    SELECT id, sequence FROM {checkpoints} WHERE task_id = ? ORDER BY sequence DESC LIMIT 1
"""
_KNOWN: Final = "SELECT 1 FROM {checkpoints} WHERE id = ?"
_APPEND: Final = (
    f"INSERT INTO {{checkpoints}} ({_COLUMNS}, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, {{now}})"
)
_REPLACE: Final = """
    UPDATE {checkpoints}
    SET `timestamp` = ?, progress = ?, data = ?, estimated_time_remaining = ? WHERE id = ?
"""
_TRIM: Final = """
    DELETE FROM {checkpoints} WHERE task_id = ? AND sequence <= (
        SELECT sequence FROM (
            SELECT sequence FROM {checkpoints} WHERE task_id = ?
            ORDER BY sequence DESC LIMIT 1 OFFSET ?
        ) AS highest_to_delete
    )
"""
_DELETE_ALL: Final = "DELETE FROM {checkpoints} WHERE task_id = ?"
_DELETE_TASK: Final = "DELETE FROM {tasks} WHERE task_id = ?"


class MySQLCheckpointProvider(BaseCheckpointProvider):
    """The checkpoints of tasks, one row each."""

    def __init__(self, context: StoreContext, database: Database) -> None:
        super().__init__(context)
        self._database = database

    async def _save(self, row: StoredCheckpoint, fence: Fence | None) -> None:
        try:
            await self._database.transact(*self.saving(row, fence))
        except BackendError as exc:
            self.check_id(exc, row)
            raise

    def saving(self, row: StoredCheckpoint, fence: Fence | None) -> tuple[list[Statement], Decide]:
        """The statements that lock and read, and what decides on the rest."""

        def decide(results: Sequence[Result]) -> tuple[list[Statement], None]:
            _, (_, _, highest), (_, _, known) = check_fence(results, fence)
            latest = tuple(highest[0]) if highest else None
            if latest == (row.id, row.sequence):
                changes = (row.timestamp, row.progress, row.text, row.estimated_time_remaining)
                return [(_REPLACE, (*changes, row.id))], None
            if known or (latest is not None and latest[1] >= row.sequence):
                raise self._conflict(row, latest)
            return [(_APPEND, row)], None

        locking = [
            (_LOCK_TO_SAVE, (row.task_id,)),
            (_HIGHEST, (row.task_id,)),
            (_KNOWN, (row.id,)),
        ]
        return [*lock_fence(fence), *locking], decide

    def check_id(self, exc: BackendError, row: StoredCheckpoint) -> None:
        """Raise the conflict if another task has saved this id since it was looked up."""
        if exc.__cause__ is not None and code_of(exc.__cause__) == DUPLICATE_KEY:
            raise self._conflict(row, None) from exc

    async def _load(self, checkpoint_id: str) -> StoredCheckpoint | None:
        return _first(await self._database.read(_LOAD, (checkpoint_id,)))

    async def _load_latest(self, task_id: str) -> StoredCheckpoint | None:
        return _first(await self._database.read(_LATEST, (task_id,)))

    async def _list(self, task_id: str) -> Sequence[StoredCheckpoint]:
        rows = await self._database.read(_LIST, (task_id,))
        return [StoredCheckpoint._make(row) for row in rows]

    async def _trim(self, task_id: str, keep: int, fence: Fence | None) -> None:
        trimming: list[Statement] = (
            [(_TRIM, (task_id, task_id, keep))]
            if keep
            else [(_DELETE_ALL, (task_id,)), (_DELETE_TASK, (task_id,))]
        )
        locking = [*lock_fence(fence), (_LOCK_TO_TRIM, (task_id,))]
        await self._database.transact(
            [*locking, *trimming], lambda results: ([], check_fence(results, fence))
        )

    def _conflict(self, row: StoredCheckpoint, latest: Row | None) -> CheckpointConflict:
        highest: int | None = None if latest is None else latest[1]
        return CheckpointConflict(row.task_id[len(self._prefix) :], row.sequence, highest)


def _first(rows: Sequence[Row]) -> StoredCheckpoint | None:
    return StoredCheckpoint._make(rows[0]) if rows else None

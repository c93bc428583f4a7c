"""The user's own statements, in one transaction with a record of goscope or alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any, TypeAlias

from goscope.backend import BaseTransactionProvider, Fence, NewResult, StoredCheckpoint

from .._engine.protocol import TransactionDatabase
from .checkpoint import SQLiteCheckpointProvider
from .fence import check_fence
from .idempotency import SQLiteIdempotencyProvider

Work: TypeAlias = Callable[[sqlite3.Connection], Any]


class SQLiteTransactionProvider(BaseTransactionProvider):
    """Work is a plain function, called in the thread of the connection that writes."""

    _checkpoints: SQLiteCheckpointProvider
    _results: SQLiteIdempotencyProvider

    def __init__(
        self,
        database: TransactionDatabase,
        checkpoints: SQLiteCheckpointProvider,
        results: SQLiteIdempotencyProvider,
    ) -> None:
        super().__init__(checkpoints, results)
        self._database = database

    async def _run(self, work: Work, fence: Fence | None) -> Any:
        return await self._transact(lambda connection: check_fence(connection, fence), work)

    async def _save(self, row: StoredCheckpoint, fence: Fence | None, work: Work) -> None:
        await self._transact(self._checkpoints.saving(row, fence), work)

    async def _set(
        self, key: str, result: NewResult, fence: Fence | None, ends_lease: bool, work: Work
    ) -> None:
        await self._transact(self._results.storing(key, result, fence, ends_lease), work)
        self._results.notify(fence, ends_lease)

    async def _transact(self, prepare: Callable[[sqlite3.Connection], None], work: Work) -> Any:
        if iscoroutinefunction(work):
            raise TypeError(
                f"{work.__qualname__} is a coroutine function: SQLite calls the work of a "
                f"transaction in a thread, so write it as a plain `def`. Await before it"
            )
        return await self._database.transact(prepare, work)

"""The user's own statements, in one transaction with a record of goscope or alone."""

from __future__ import annotations

from functools import partial
from typing import Any

from goscope.backend import BaseTransactionProvider, Fence, NewResult, StoredCheckpoint

from .._engine.database import Database
from .._engine.transaction import Step, Transaction, Work
from ..schema import Tables
from .checkpoint import PostgresCheckpointProvider
from .fence import check_fence
from .idempotency import PostgresIdempotencyProvider


class PostgresTransactionProvider(BaseTransactionProvider):
    """Work is a coroutine function of an asyncpg connection, awaited in the event loop.

    The record is written after it: what work commits by mistake has none.
    """

    _checkpoints: PostgresCheckpointProvider
    _results: PostgresIdempotencyProvider

    def __init__(
        self,
        database: Database,
        tables: Tables,
        checkpoints: PostgresCheckpointProvider,
        results: PostgresIdempotencyProvider,
    ) -> None:
        super().__init__(checkpoints, results)
        self._database = database
        self._tables = tables

    async def _run(self, work: Work[Any], fence: Fence | None) -> Any:
        return await self._transact(work, fence, _nothing)

    async def _save(self, row: StoredCheckpoint, fence: Fence | None, work: Work[Any]) -> None:
        write = partial(self._checkpoints.write, row=row, fence=fence)
        await self._transact(work, fence, write)

    async def _set(
        self, key: str, result: NewResult, fence: Fence | None, ends_lease: bool, work: Work[Any]
    ) -> None:
        write = partial(
            self._results.write, key=key, result=result, fence=fence, ends_lease=ends_lease
        )
        await self._transact(work, fence, write)
        self._results.notify(fence, ends_lease)

    async def _transact(self, work: Work[Any], fence: Fence | None, end: Step) -> Any:
        begin = partial(check_fence, tables=self._tables, fence=fence)
        return await self._database.transact(begin, work, end)


async def _nothing(_: Transaction) -> None:
    """There is no record."""

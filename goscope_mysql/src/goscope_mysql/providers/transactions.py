"""The user's own statements, in one transaction with a record of goscope or alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from goscope.backend import BaseTransactionProvider, Fence, NewResult, StoredCheckpoint
from goscope.errors import BackendError

from .._engine.connection import Result, Statement
from .._engine.database import Database
from .._engine.user_work import UserWork
from .checkpoint import Decide, MySQLCheckpointProvider
from .fence import check_fence, lock_fence
from .idempotency import MySQLIdempotencyProvider, check_applied, storing


class MySQLTransactionProvider(BaseTransactionProvider):
    """Work is a coroutine function of an asyncmy connection, awaited in the event loop.

    The record is written after it: what work commits by mistake has none.
    """

    _checkpoints: MySQLCheckpointProvider
    _results: MySQLIdempotencyProvider

    def __init__(
        self,
        database: Database,
        checkpoints: MySQLCheckpointProvider,
        results: MySQLIdempotencyProvider,
    ) -> None:
        super().__init__(checkpoints, results)
        self._database = database

    async def _run(self, work: UserWork[Any], fence: Fence | None) -> Any:
        return await self._transact(work, fence, [], lambda _: ([], None))

    async def _save(self, row: StoredCheckpoint, fence: Fence | None, work: UserWork[Any]) -> None:
        try:
            await self._transact(work, fence, *self._checkpoints.saving(row, fence))
        except BackendError as exc:
            self._checkpoints.check_id(exc, row)
            raise

    async def _set(
        self,
        key: str,
        result: NewResult,
        fence: Fence | None,
        ends_lease: bool,
        work: UserWork[Any],
    ) -> None:
        def decide(results: Sequence[Result]) -> tuple[list[Statement], None]:
            check_applied(results, fence)
            return [], None

        await self._transact(work, fence, storing(key, result, fence, ends_lease), decide)
        self._results.notify(fence, ends_lease)

    async def _transact(
        self, work: UserWork[Any], fence: Fence | None, end: list[Statement], decide: Decide
    ) -> Any:
        return await self._database.transact_with(
            lock_fence(fence), lambda results: check_fence(results, fence), work, end, decide
        )

"""A transaction that the user's statements share with goscope's."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias, TypeVar

import asyncpg

from goscope.backend import finish_before_cancel
from goscope.errors import BackendError, ConfigurationError

from .errors import DRIVER_ERRORS, translate

T = TypeVar("T")

Work: TypeAlias = Callable[[asyncpg.Connection], Awaitable[T]]
Step: TypeAlias = "Callable[[Transaction], Awaitable[None]]"

_ABORTED: Final = "25P02"
_ENDED: Final = ("25P01", "3B001")


class Transaction:
    """A transaction on one connection, in which goscope's statements run as on a `Database`."""

    def __init__(self, connection: asyncpg.Connection, server: str, max_s: float) -> None:
        self._connection = connection
        self._server = server
        self._max_s = max_s

    async def run(self, begin: Step, work: Work[T], end: Step) -> T:
        """Run goscope's ``begin``, the user's ``work`` and goscope's ``end``, and commit.

        An error of the work is raised as it is, as is one of its deferred constraints. After an
        error, or a cancellation before the commit, everything is rolled back.
        """
        transaction = self._connection.transaction()
        await self._translated(transaction.start())
        try:
            await begin(self)
            await self._translated(self._connection.execute("SAVEPOINT goscope"))
            result = await self._work(work)
            await self._check_not_ended()
            await end(self)
        except BaseException:
            if not self._connection.is_closed():
                await finish_before_cancel(transaction.rollback())
            raise
        try:
            await finish_before_cancel(transaction.commit())
        except asyncpg.IntegrityConstraintViolationError:
            raise  # a deferred constraint of the user
        except DRIVER_ERRORS as exc:
            raise translate(exc, self._server, sent=True) from exc
        return result

    async def write(self, sql: str, *arguments: Any) -> list[asyncpg.Record]:
        """Execute a statement of goscope and return its rows."""
        rows: list[asyncpg.Record] = await self._translated(self._connection.fetch(sql, *arguments))
        return rows

    async def _work(self, work: Work[T]) -> T:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._max_s
        try:
            async with asyncio.timeout_at(deadline):
                returned: Any = work(self._connection)
                if not inspect.isawaitable(returned):
                    raise TypeError(
                        "the work of a transaction returned no awaitable: for PostgreSQL it must "
                        "be a coroutine function of an asyncpg connection"
                    )
                result: T = await returned
                return result
        except (TimeoutError, asyncpg.QueryCanceledError) as exc:
            if loop.time() < deadline:
                raise  # another timeout, of the work itself
            raise BackendError(
                f"{self._server}: the work of a transaction took longer than {self._max_s:g} s "
                f"(command_timeout). Nothing was written. Write less at a time, do other work "
                f"before the transaction, or raise command_timeout"
            ) from exc

    async def _check_not_ended(self) -> None:
        try:
            await self._connection.execute("RELEASE SAVEPOINT goscope")
        except asyncpg.PostgresError as exc:
            if exc.sqlstate == _ABORTED:
                raise ConfigurationError(
                    "a statement of the work failed, and the work went on. Nothing was written. "
                    "Run a statement that may fail in `async with connection.transaction()`"
                ) from exc
            if exc.sqlstate in _ENDED:
                raise ConfigurationError(
                    "the work of a transaction executed COMMIT or ROLLBACK: goscope begins the "
                    "transaction, and commits it when the function returns. What was committed "
                    "stays, without goscope's record. Leave the statement out"
                ) from exc
            raise translate(exc, self._server, sent=True) from exc

    async def _translated(self, answer: Awaitable[T]) -> T:
        try:
            return await answer
        except DRIVER_ERRORS as exc:
            raise translate(exc, self._server, sent=True) from exc

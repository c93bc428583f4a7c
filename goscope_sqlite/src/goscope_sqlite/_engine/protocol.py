"""What a provider needs from a database: atomic writes and reads, without a driver."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

T = TypeVar("T")

Row: TypeAlias = tuple[Any, ...]


class Database(Protocol):
    """One open SQLite database. It raises goscope's errors, with the driver's as their cause.

    Before it is open and after it is closed, it raises `ScopeNotOpen`; after a fork, or in another
    event loop, `BackendUnavailable`.
    """

    def submit(
        self,
        work: Callable[[sqlite3.Connection], T],
        *,
        rows: int = 1,
        autocommit: bool = False,
    ) -> asyncio.Future[T]:
        """Submit one atomic write. The future resolves to the result of ``work`` after the commit.

        ``work`` runs in a transaction, possibly shared with other writes, possibly in another
        thread, and possibly more than once: it uses the connection and nothing else, drains every
        cursor, and neither begins nor ends a transaction. If it raises, the future raises the same
        and none of its changes is applied. A write that has started is finished before the
        cancellation of its caller is raised.

        ``rows`` is roughly how many rows it writes: a write of many may run in another thread.
        ``autocommit`` says that it is a single statement, which is atomic without a transaction.
        """
        ...

    def read_one(self, sql: str, parameters: Sequence[Any]) -> Awaitable[Row | None]:
        """Return the first row of a point read: one that touches a handful of rows."""
        ...

    def version(self) -> int | None:
        """A number that changes with each commit of another connection, None if unknown now.

        It costs less than any read: poll this, and read once it has changed.
        """
        ...

    def read_all(self, sql: str, parameters: Sequence[Any]) -> Awaitable[list[Row]]:
        """Return all rows of a read that may be long; it never blocks the event loop."""
        ...


class TransactionDatabase(Protocol):
    """A database in whose transactions the user's statements can run."""

    async def transact(
        self,
        prepare: Callable[[sqlite3.Connection], None],
        work: Callable[[sqlite3.Connection], T],
    ) -> T:
        """Run the user's ``work`` after ``prepare``, in a transaction of their own, in the thread.

        Returns what ``work`` returns, after the commit, and raises what it raises, unchanged; see
        `goscope.providers.TransactionProvider.run`.
        """
        ...

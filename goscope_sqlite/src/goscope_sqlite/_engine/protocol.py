"""What a provider needs of a database: atomic writes and reads, and nothing about its driver."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

T = TypeVar("T")

Row: TypeAlias = tuple[Any, ...]


class Database(Protocol):
    """One open SQLite database. Its errors are goscope's, with the driver's as their cause.

    Used before it is open or after it was closed, it raises `ScopeNotOpen`; after a fork or in
    another event loop, `BackendUnavailable`.
    """

    def submit(
        self,
        work: Callable[[sqlite3.Connection], T],
        *,
        rows: int = 1,
        one_statement: bool = False,
    ) -> asyncio.Future[T]:
        """Submit one atomic write; the future resolves to what ``work`` returns, once committed.

        ``work`` runs inside a transaction that other writes may share, maybe in another thread
        and maybe more than once: it touches nothing but the connection, drains every cursor, and
        leaves the transaction alone. What it raises is raised by the future, and nothing it did
        is kept. A caller that is cancelled while its write runs gets the cancellation after it.
        ``rows`` says roughly how many rows it writes: many of them may run elsewhere than few.
        ``one_statement`` says that it is no more than that, atomic by itself: it needs no
        transaction unless other writes share one with it.
        """
        ...

    def read_one(self, sql: str, parameters: Sequence[Any]) -> Awaitable[Row | None]:
        """Return the first row of a point read: one that touches a handful of rows."""
        ...

    def version(self) -> int | None:
        """What differs once another connection has committed; None if that is not known now.

        It costs less than any read, and is for those who look again and again.
        """
        ...

    def read_all(self, sql: str, parameters: Sequence[Any]) -> Awaitable[list[Row]]:
        """Return all rows of a read that may be long; it never blocks the event loop."""
        ...

"""All access of the benchmarks to the internals of goscope_sqlite's engine.

The public API cannot measure one layer without the layers above it. Everything that reaches below
it is in this module, so that a change to the engine changes one file here.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

from goscope_sqlite.engine import Row

T = TypeVar("T")

Work: TypeAlias = Callable[[sqlite3.Connection], Any]
Submit: TypeAlias = Callable[[Work], asyncio.Future[Any]]
ReadOne: TypeAlias = Callable[[str, Sequence[Any]], Awaitable[Row | None]]


class Engine:
    """The engine of a connected adapter.

    Its attributes are the engine's own bound methods: a wrapper would add to what is measured.
    """

    def __init__(self, adapter: Any) -> None:
        database = adapter._database
        self._database: Final = database
        self.submit: Final[Submit] = database.submit
        self.submit_autocommit: Final[Submit] = partial(database.submit, autocommit=True)
        self.read_one: Final[ReadOne] = database.read_one

    @property
    def read_one_unchecked(self) -> ReadOne:
        """`read_one` without the checks for another event loop and a fork."""
        read: ReadOne = self._database._reader.one
        return read

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection that reads and writes in the event loop."""
        connection: sqlite3.Connection = self._database._writer.connection
        return connection

    async def checkpoint(self) -> None:
        """Checkpoint the WAL, and wait for a checkpoint that the engine has started itself."""
        writer = self._database._writer
        await writer.finish()
        await writer._thread.run(self._database._checkpointer.run)


class PollCounter:
    """Counts the polls of an adapter's lock: each poll asks whether the file has changed."""

    def __init__(self, adapter: Any) -> None:
        self.count = 0
        self._version: Callable[[], int | None] = adapter._database.version
        adapter._database.version = self._counted

    def _counted(self) -> int | None:
        self.count += 1
        return self._version()


class InlineDatabase:
    """A `Database` that runs each read and write immediately on one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._execute = connection.cursor().execute

    def submit(
        self,
        work: Callable[[sqlite3.Connection], T],
        *,
        rows: int = 1,
        autocommit: bool = False,
    ) -> asyncio.Future[T]:
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if autocommit:
            done.set_result(work(self._connection))
        else:
            self._execute("BEGIN IMMEDIATE")
            done.set_result(work(self._connection))
            self._execute("COMMIT")
        return done

    async def read_one(self, sql: str, parameters: Sequence[Any]) -> Row | None:
        rows = self._execute(sql, parameters).fetchall()
        return rows[0] if rows else None

    async def read_all(self, sql: str, parameters: Sequence[Any]) -> list[Row]:
        return self._execute(sql, parameters).fetchall()

    def version(self) -> int | None:
        return None

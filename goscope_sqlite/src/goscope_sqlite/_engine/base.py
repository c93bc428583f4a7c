"""Base class of databases: opened, used in one event loop, and closed."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from threading import get_ident
from typing import Any, Final, TypeVar
from weakref import WeakSet

from goscope.backend import finish_before_cancel
from goscope.errors import BackendUnavailable, ScopeNotOpen

from .batch import Batch, WriteQueue, new_write
from .connection import Settings, check_sqlite
from .errors import translate
from .file import check_path
from .protocol import Row
from .reader import Reader
from .wal import Checkpointer

T = TypeVar("T")


class BaseDatabase(ABC):
    """A `Database` of one file, for one process and one event loop.

    Errors name the owner by ``name``. ``on_commit`` is called with the number of committed writes.
    """

    def __init__(self, name: str, settings: Settings) -> None:
        self._name = name
        self._settings = settings
        self.on_commit: Callable[[int], None] | None = None
        self._path = ""
        self._forked = False
        self._reset()
        _databases.add(self)

    def _reset(self) -> None:
        """Return to the state before opening, without closing anything."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread_id = 0
        self._queue = self._new_queue()
        self._draining: asyncio.Future[None] | None = None
        self._reader: Reader | None = None
        self._checkpointer: Checkpointer | None = None

    async def open(self, path: str) -> str:
        """Open the file, migrate its schema, and return the identity of the store."""
        check_sqlite()
        self._path = check_path(path, self._name)
        self._forked = False
        try:
            store_id = await finish_before_cancel(self._open())
        except BaseException as exc:
            await finish_before_cancel(self._close_connections())
            error = translate(exc, self._path)
            raise error from error.__cause__
        self._loop = asyncio.get_running_loop()
        self._thread_id = get_ident()
        return store_id

    async def close(self) -> None:
        """Finish the submitted writes, then close. Runs to the end when the caller is cancelled."""
        self.check()
        self._loop = None  # from here on `check` refuses
        await finish_before_cancel(self._finish())

    def check(self) -> asyncio.AbstractEventLoop:
        """Return the event loop the database was opened in. Raises outside of it."""
        loop = self._loop
        # The same as comparing with asyncio.get_running_loop(), for a third of its cost.
        if loop is None or not loop.is_running() or get_ident() != self._thread_id:
            raise self._unusable()
        return loop

    # --- the Database protocol ---------------------------------------------------------------

    @property
    def max_rows(self) -> int:
        """The most rows of a write that fits into a batch with others."""
        return self._queue.max_rows

    def submit(
        self,
        work: Callable[[sqlite3.Connection], T],
        *,
        rows: int = 1,
        autocommit: bool = False,
    ) -> asyncio.Future[T]:
        loop = self.check()
        write = new_write(work, rows, autocommit, loop)
        self._queue.append(write)
        if self._draining is None:
            self._start_draining(loop)
        return write

    def read_one(self, sql: str, parameters: Sequence[Any]) -> Awaitable[Row | None]:
        self.check()
        if self._reader is None:
            return self.submit(lambda connection: _first(connection, sql, parameters))
        return self._reader.one(sql, parameters)

    def version(self) -> int | None:
        self.check()
        return None if self._reader is None else self._reader.version()

    def read_all(self, sql: str, parameters: Sequence[Any]) -> Awaitable[list[Row]]:
        self.check()
        if self._reader is None:
            return self.submit(lambda connection: connection.execute(sql, parameters).fetchall())
        return self._reader.all(sql, parameters)

    # --- for a subclass to implement ---------------------------------------------------------

    @abstractmethod
    def _new_queue(self) -> WriteQueue: ...

    @abstractmethod
    async def _open(self) -> str:
        """Open the writer, and for a file the reader. Return the identity of the store."""

    @abstractmethod
    def _start_draining(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run the queued writes until the queue is empty; until then `_draining` is not None."""

    @abstractmethod
    async def _close_writer(self) -> None:
        """Close the writer if it is open."""

    # --- for a subclass to use ---------------------------------------------------------------

    async def _open_reader(self, reader: Reader, in_loop: sqlite3.Connection | None = None) -> None:
        """Open the reader and the checkpointer of a file whose tables exist."""
        await reader.open(in_loop)
        self._reader = reader
        self._checkpointer = Checkpointer(self._path)

    def _resolve(self, batch: Batch) -> None:
        """Resolve the finished writes of the batch, and requeue the others."""
        committed = batch.resolve(self._path)
        self._queue.requeue(batch.unfinished)
        if committed and self.on_commit is not None:
            self.on_commit(committed)

    # --- helpers -----------------------------------------------------------------------------

    async def _finish(self) -> None:
        while self._draining is not None:
            await asyncio.wait([self._draining])
        await self._close_connections()

    async def _close_connections(self) -> None:
        """Close everything, the writer last: SQLite removes the WAL with the last connection, but
        not if that is read-only."""
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.close()
        checkpointer, self._checkpointer = self._checkpointer, None
        if checkpointer is not None:
            checkpointer.close()
        await self._close_writer()

    def _unusable(self) -> ScopeNotOpen | BackendUnavailable:
        if self._forked:
            return BackendUnavailable(
                f"{self._name} was connected before this process was forked, and SQLite "
                f"connections do not survive a fork. Connect an adapter after it"
            )
        if self._loop is None:
            return ScopeNotOpen(
                f"{self._name} is not connected: use it inside `async with`, or await connect()"
            )
        return BackendUnavailable(
            f"{self._name} was connected in another event loop. Connect an adapter in this one"
        )


_databases: Final[WeakSet[BaseDatabase]] = WeakSet()
_inherited: Final[list[object]] = []


def _after_fork() -> None:
    """Make the parent's databases unusable in the child, and never close their connections.

    Keep them referenced: closing one in the child could damage the files the parent still uses.
    """
    for database in _databases:
        if database._loop is not None:
            _inherited.append(vars(database).copy())
            database._reset()
            database._forked = True


if hasattr(os, "register_at_fork"):  # absent on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork)


def _first(connection: sqlite3.Connection, sql: str, parameters: Sequence[Any]) -> Row | None:
    rows: list[Row] = connection.execute(sql, parameters).fetchall()
    return rows[0] if rows else None

"""The `Database` of one file: opened, used in one event loop, and closed."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from threading import get_ident
from typing import Any, Final, TypeVar, cast

from goscope._tools.cancellation import retrieve_exception
from goscope._tools.loop_budget import LoopBudget
from goscope.backend import finish_before_cancel
from goscope.errors import BackendUnavailable, ScopeNotOpen

from .backup import Backup, Progress
from .connection import Settings, check_sqlite, prepare_writer
from .errors import translate
from .file import MEMORY, OpenFile, check_path, create_file
from .fork import check_usable, register
from .protocol import Row
from .reader import Reader
from .transaction import transact
from .wal import Checkpointer
from .writer import MAX_LOOP_ROWS, MAX_THREAD_ROWS, Writer

T = TypeVar("T")


class SQLiteDatabase:
    """A `Database` of one file, for one process and one event loop.

    Errors name the owner by ``name``. ``on_commit`` is called with the number of committed writes.
    ``after_open`` and ``before_close`` are a first and a last small write, outside of the event
    loop. Neither waits for another process that is writing: the first is then made in the
    background, the last is skipped.
    """

    max_rows: Final = MAX_LOOP_ROWS
    """The most rows of a write that may run in the event loop."""

    def __init__(self, name: str, settings: Settings) -> None:
        self._name = name
        self._settings = settings
        self.on_commit: Callable[[int], None] | None = None
        self.after_open: Callable[[sqlite3.Connection], None] | None = None
        self.before_close: Callable[[sqlite3.Connection], None] | None = None
        self._is_after_open_due = False
        self._path = ""
        self._forked = False
        self._reset()
        register(self)

    def _reset(self) -> None:
        """Return to the state before opening, without closing anything."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread_id = 0
        self._is_open = False
        self._is_in_transition = False  # opening or closing, in some thread
        self._budget = LoopBudget()
        self._writer = Writer(self._name, self._settings, self._budget)
        self._reader: Reader | None = None
        self._checkpointer: Checkpointer | None = None
        self._backups: dict[Backup, asyncio.Task[None]] = {}

    @property
    def path(self) -> str:
        """The absolute path of the file, or ":memory:"; "" before the first `open`."""
        return self._path

    async def open(self, path: str, *, to_wal: bool = True) -> str:
        """Open the file, migrate its schema, and return the identity of the store.

        With ``to_wal=False`` a file that is not in WAL mode keeps its journal mode.
        """
        check_sqlite()
        self._path = check_path(
            path, self._name, allow_shared=self._settings.allow_shared_filesystem
        )
        self._forked = False
        check_usable(self._path)
        create_file(self._path)
        self._reset()
        self._is_in_transition = True
        try:
            store_id = await finish_before_cancel(self._open(to_wal))
        except BaseException as exc:
            await finish_before_cancel(self._close_connections())
            self._is_in_transition = False
            error = translate(exc, self._path)
            raise error from error.__cause__
        self._loop = asyncio.get_running_loop()
        self._thread_id = get_ident()
        self._is_open, self._is_in_transition = True, False
        if self._is_after_open_due and self.after_open is not None:
            self.submit(self.after_open).add_done_callback(retrieve_exception)
        return store_id

    async def close(self) -> None:
        """Finish the submitted writes, then close. Runs to the end when the caller is cancelled."""
        self.check()
        self._loop = None  # from here on `check` refuses
        self._is_open, self._is_in_transition = False, True
        await finish_before_cancel(self._finish())
        self._is_in_transition = False

    def check(self) -> asyncio.AbstractEventLoop:
        """Return the event loop the database was opened in. Raises outside of it."""
        loop = self._loop
        # The same as comparing with asyncio.get_running_loop(), for a third of its cost.
        if loop is None or not loop.is_running() or get_ident() != self._thread_id:
            raise self._unusable()
        return loop

    # --- the Database protocol ---------------------------------------------------------------

    def submit(
        self,
        work: Callable[[sqlite3.Connection], T],
        *,
        rows: int = 1,
        autocommit: bool = False,
    ) -> asyncio.Future[T]:
        return self._writer.submit(work, rows, autocommit, self.check())

    async def transact(
        self,
        prepare: Callable[[sqlite3.Connection], None],
        work: Callable[[sqlite3.Connection], T],
    ) -> T:
        max_s = self._settings.busy_timeout_s
        outcome = await self.submit(
            lambda connection: transact(connection, prepare, work, max_s),
            rows=MAX_THREAD_ROWS + 1,  # alone in its batch, and in the thread
            autocommit=True,  # it is a transaction itself
        )
        if outcome.error is not None:
            raise outcome.error
        return cast("T", outcome.returned)

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
            return self.submit(
                lambda connection: connection.execute(sql, parameters).fetchall(),
                rows=MAX_LOOP_ROWS + 1,  # it may be long
            )
        return self._reader.all(sql, parameters)

    async def backup(self, path: str, progress: Progress | None) -> None:
        """Copy the file to a new one, as of now."""
        self.check()
        backup = Backup(self._path, path, self._settings, self._name)
        running = self._backups[backup] = asyncio.ensure_future(backup.run(progress))
        running.add_done_callback(lambda _: self._backups.pop(backup, None))
        await running

    def after_fork(self, *, quiet: bool) -> None:
        """Become unusable in the child of a fork, and close the connections where that is safe.

        Not while a thread is in the middle of a call, and not in a write transaction: ending that
        one would change the index of the WAL, which the parent uses.
        """
        if not (self._is_open or self._is_in_transition):
            return
        kept = vars(self).copy()
        in_loop = get_ident() == self._thread_id  # else the event loop may be in a call
        if not (quiet and in_loop and self._is_open and self._close_in_child()):
            _inherited.append(kept)
        self._reset()
        self._forked = True

    def _close_in_child(self) -> bool:
        """Close the inherited connections; whether that was safe, and none is left."""
        writer = self._writer.connection
        if writer is None or writer.in_transaction:
            return False
        try:
            if self._reader is not None:
                self._reader.close_in_child()
            if self._checkpointer is not None:
                self._checkpointer.close_in_child()
            writer.close()
        except sqlite3.Error:
            return False
        return True

    # --- helpers -----------------------------------------------------------------------------

    async def _open(self, to_wal: bool) -> str:
        self._writer.on_commit = self.on_commit
        prepare = partial(self._prepare, to_wal=to_wal)
        store_id = await self._writer.open(self._path, prepare)
        if self._path != MEMORY:
            reader = Reader(self._path, self._settings, self._budget)
            await reader.open()
            self._reader = reader
            self._checkpointer = Checkpointer(self._path)
            self._writer.serve(OpenFile(self._path), reader, self._checkpointer)
        return store_id

    def _prepare(self, connection: sqlite3.Connection, *, to_wal: bool) -> str:
        """Prepare the writer's connection, in its thread, and make the first write."""
        store_id = prepare_writer(connection, self._path, self._settings, to_wal=to_wal)
        self._is_after_open_due = not _write_unless_busy(connection, self.after_open)
        return store_id

    async def _finish(self) -> None:
        await self._writer.finish()
        for backup in self._backups:
            backup.stop()
        if self._backups:
            await asyncio.wait(self._backups.values())
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
        await self._writer.close(
            lambda connection: _write_unless_busy(connection, self.before_close)
        )

    def _unusable(self) -> ScopeNotOpen | BackendUnavailable:
        if self._forked:
            return BackendUnavailable(
                f"{self._name} was connected before this process was forked, and SQLite "
                f"connections do not survive a fork. Connect it again in the child"
            )
        if self._loop is None:
            return ScopeNotOpen(
                f"{self._name} is not connected: use it inside `async with`, or await connect()"
            )
        return BackendUnavailable(
            f"{self._name} was connected in another event loop. Connect an adapter in this one"
        )


_inherited: Final[list[object]] = []
"""What the child of a fork could not close, and must not collect: that would close it."""


def _first(connection: sqlite3.Connection, sql: str, parameters: Sequence[Any]) -> Row | None:
    rows: list[Row] = connection.execute(sql, parameters).fetchall()
    return rows[0] if rows else None


def _write_unless_busy(
    connection: sqlite3.Connection, write: Callable[[sqlite3.Connection], None] | None
) -> bool:
    """Make the write on a connection that does not wait for locks.

    Return whether it was made: it fails while another process is writing.
    """
    if write is None:
        return True
    try:
        connection.execute("BEGIN IMMEDIATE")
        try:
            write(connection)
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
    except sqlite3.Error:
        return False
    return True

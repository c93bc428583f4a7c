"""Group commit: writes that wait at the same time are committed together."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Any, Final, TypeVar

from goscope._tools.cancellation import ShieldableFuture

from .errors import is_busy, translate
from .multi_row_insert import RowWrite

T = TypeVar("T")


class Write(ShieldableFuture[T]):
    """The future of one write, which resolves once it is committed.

    A write that has not begun can be cancelled, and then never happens. One that has begun cannot
    be: asyncio then lets the awaiting task wait for the outcome and raises its cancellation after.
    ``rows`` is roughly how many rows it writes, ``one_statement`` whether it needs no transaction.
    ``returned`` is what ``work`` returned when it was last attempted, unless ``error`` is what it
    raised. `new_write` makes one, since an ``__init__`` would cost as much as all the rest of it.
    """

    # The thread gets these from the loop with every batch: a dict each would be twice as much.
    __slots__ = ("begun", "blocked_at", "error", "one_statement", "returned", "rows", "work")

    work: Callable[[sqlite3.Connection], T]
    rows: int
    one_statement: bool
    begun: bool
    blocked_at: float
    returned: T
    error: BaseException | None

    def cancel(self, msg: Any | None = None) -> bool:
        return not self.begun and super().cancel(msg)

    def attempt(self, connection: sqlite3.Connection) -> bool:
        """Do the work, in a transaction of the caller's; whether it did not fail."""
        self.error = None
        try:
            self.returned = self.work(connection)
        except BaseException as exc:
            self.error = exc
        return self.error is None


def new_write(
    work: Callable[[sqlite3.Connection], T],
    rows: int,
    one_statement: bool,
    loop: asyncio.AbstractEventLoop,
) -> Write[T]:
    """Make a write that is yet to run."""
    write: Write[T] = Write(loop=loop)
    write.work = work
    write.rows = rows
    write.one_statement = one_statement
    write.begun = False
    write.blocked_at = 0.0
    write.error = None
    return write


class Batch:
    """Writes that share one transaction as long as all goes well.

    `run` may block and belongs where the connection lives; `resolve` belongs to the event loop.
    ``blocked`` is SQLite's error if another connection held the write lock for longer than the
    busy timeout of this one: what is unfinished then did not happen, and can be run again. With
    ``merges``, rows that the same statement writes are written at once, which nothing interrupts.
    """

    def __init__(self, writes: list[Write[Any]], max_seconds: float, *, merges: bool) -> None:
        self.finished = False
        self.blocked: sqlite3.Error | None = None
        self._writes = writes
        self._max_seconds = max_seconds
        self._merges = merges
        self._ended = 0  # so many of the writes, from the first on, have their outcome
        for write in writes:
            write.begun = True

    @property
    def unfinished(self) -> list[Write[Any]]:
        """The writes that a later batch has to run: this one took too long, or was blocked."""
        return self._writes[self._ended :]

    @property
    def size(self) -> int:
        """How many writes it has."""
        return len(self._writes)

    @property
    def rows(self) -> int:
        """Roughly how many rows it writes."""
        return sum(write.rows for write in self._writes)

    def run(self, connection: sqlite3.Connection) -> None:
        """Run and commit the writes; an error never escapes. Does nothing the second time."""
        if self.finished:
            return
        try:
            if len(self._writes) == 1 or not self._run_together(connection):
                self._run_each(connection)
        except BaseException as exc:  # BEGIN failed, or ROLLBACK did: no use to go on
            if isinstance(exc, sqlite3.Error) and is_busy(exc):
                self.blocked = exc
            else:
                self.fail(exc)
        self.finished = True

    def fail(self, error: BaseException) -> None:
        """Let every write that has no outcome yet end in this error."""
        for write in self.unfinished:
            write.error = error
        self._ended = len(self._writes)
        self.finished = True

    def give_up(self, patience: float) -> None:
        """Fail, when blocked, the writes that first were so at least ``patience`` seconds ago."""
        now = perf_counter()
        for write in self.unfinished:
            write.blocked_at = write.blocked_at or now
            if now - write.blocked_at >= patience:
                write.error = self.blocked
                self._ended += 1

    def resolve(self, path: str) -> int:
        """Resolve the futures of the writes that were run; how many of them were committed."""
        committed = 0
        for write in self._writes[: self._ended]:
            if write.error is None:
                write.set_result(write.returned)
                committed += 1
            else:
                write.set_exception(translate(write.error, path))
        return committed

    def _run_together(self, connection: sqlite3.Connection) -> bool:
        """Run the writes in one transaction; False if that was rolled back and none happened."""
        connection.execute("BEGIN IMMEDIATE")
        deadline = perf_counter() + self._max_seconds
        attempted = 0
        while attempted < len(self._writes):
            rows = _rows_from(self._writes, attempted) if self._merges else []
            if len(rows) > 1:
                count = _attempt_rows(self._writes[attempted:], rows, connection)
            else:
                count = _attempt_one(self._writes[attempted], connection)
            if not count:
                _roll_back(connection)
                return False
            attempted += count
            if perf_counter() > deadline:
                break
        try:
            connection.execute("COMMIT")
        except sqlite3.Error:
            _roll_back(connection)
            return False
        self._ended = attempted
        return True

    def _run_each(self, connection: sqlite3.Connection) -> None:
        """Run each write in a transaction of its own, so that it fails or succeeds alone."""
        deadline = perf_counter() + self._max_seconds
        for write in self._writes:
            if write.one_statement:
                _run_statement(write, connection)
            else:
                _run_transaction(write, connection)
            self._ended += 1
            if perf_counter() > deadline:
                break


class WriteQueue:
    """Writes in the order they were submitted.

    A batch has at most ``max_rows`` rows, or is a single larger write. It is committed after
    ``max_seconds`` of work, so that others get their turn. ``merges`` is for its batches.
    """

    def __init__(self, max_rows: int, max_seconds: float, *, merges: bool) -> None:
        self.max_rows: Final = max_rows
        self._writes: deque[Write[Any]] = deque()
        self._max_seconds = max_seconds
        self._merges = merges

    def __len__(self) -> int:
        return len(self._writes)

    def append(self, write: Write[Any]) -> None:
        self._writes.append(write)

    def next_batch(self) -> Batch | None:
        """Take the writes at the front that go together; None when there are none."""
        writes: list[Write[Any]] = []
        rows = 0
        while self._writes and (not writes or rows + self._writes[0].rows <= self.max_rows):
            write = self._writes.popleft()
            if not write.cancelled():
                writes.append(write)
                rows += write.rows
        return Batch(writes, self._max_seconds, merges=self._merges) if writes else None

    def put_back(self, writes: list[Write[Any]]) -> None:
        """Queue writes again that a batch left unfinished, in front of all others."""
        for write in writes:
            write.begun = False
        self._writes.extendleft(reversed(writes))


def _rows_from(writes: list[Write[Any]], start: int) -> list[RowWrite]:
    """The works of the next writes, as long as they write a row with the same statement."""
    found: list[RowWrite] = []
    first = writes[start].work
    if isinstance(first, RowWrite):
        for write in writes[start:]:
            work = write.work
            if not isinstance(work, RowWrite) or work.statement is not first.statement:
                break
            found.append(work)
    return found


def _attempt_rows(
    writes: list[Write[Any]], works: list[RowWrite], connection: sqlite3.Connection
) -> int:
    """Attempt the works of the first writes together.

    How many these are; 0 if the transaction they are part of has to be rolled back.
    """
    try:
        written = works[0].statement.write(connection, [work.row for work in works])
    except Exception:
        return 0
    if written < len(works):  # some were left out, and each has to know whether it was
        return 0
    for write in writes[:written]:
        write.returned, write.error = True, None
    return written


def _attempt_one(write: Write[Any], connection: sqlite3.Connection) -> int:
    """Attempt the write; 1, or 0 if the transaction it is part of has to be rolled back."""
    changes = connection.total_changes
    # Without savepoints, a failed write can stay only if it left nothing behind.
    stays = write.attempt(connection) or (
        connection.in_transaction and connection.total_changes == changes
    )
    return int(stays)


def _run_statement(write: Write[Any], connection: sqlite3.Connection) -> None:
    """Let SQLite commit the write by itself. Raises if another connection is in the way."""
    if not write.attempt(connection):
        error = write.error
        if isinstance(error, sqlite3.Error) and is_busy(error):
            raise error


def _run_transaction(write: Write[Any], connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    if write.attempt(connection):
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as exc:
            write.error = exc
    if write.error is not None:
        _roll_back(connection)


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:  # SQLite rolls back by itself when the disk is full
        connection.execute("ROLLBACK")

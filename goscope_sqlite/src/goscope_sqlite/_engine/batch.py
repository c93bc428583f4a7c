"""Group commit: writes that wait at the same time share a transaction."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Any, Final, TypeVar

from goscope._tools.cancellation import ShieldableFuture

from .errors import is_busy, translate
from .multi_row_insert import InsertRow

T = TypeVar("T")


class Write(ShieldableFuture[T]):
    """The future of one write, resolved after its commit.

    A write that has not started can be cancelled and then is never applied. One that has started
    refuses: asyncio then raises the cancellation in the awaiting task after the outcome.
    ``returned`` is what the last attempt of ``work`` returned, or ``error`` what it raised. Use
    `new_write`: an ``__init__`` would double the cost of making one.
    """

    # Slots, because each batch passes these to another thread: a dict would take twice the time.
    __slots__ = ("autocommit", "blocked_at", "error", "returned", "rows", "started", "work")

    work: Callable[[sqlite3.Connection], T]
    rows: int
    autocommit: bool
    started: bool
    blocked_at: float
    returned: T
    error: BaseException | None

    def cancel(self, msg: Any | None = None) -> bool:
        return not self.started and super().cancel(msg)

    def attempt(self, connection: sqlite3.Connection) -> bool:
        """Run the work in the caller's transaction. Return whether it succeeded."""
        self.error = None
        try:
            self.returned = self.work(connection)
        except BaseException as exc:
            self.error = exc
        return self.error is None


def new_write(
    work: Callable[[sqlite3.Connection], T],
    rows: int,
    autocommit: bool,
    loop: asyncio.AbstractEventLoop,
) -> Write[T]:
    """Make a write that has not started; see `Database.submit` for the arguments."""
    write: Write[T] = Write(loop=loop)
    write.work = work
    write.rows = rows
    write.autocommit = autocommit
    write.started = False
    write.blocked_at = 0.0
    write.error = None
    return write


class Batch:
    """Writes that share one transaction unless one of them fails.

    `run` may block and runs where the connection is used; `resolve` runs in the event loop.
    ``blocked`` is SQLite's error if another connection held the write lock for longer than the
    busy timeout of this one: the unfinished writes were not applied and can be requeued. With
    ``merges``, consecutive `InsertRow` writes of one insert run as one statement, which nothing
    can interrupt.
    """

    def __init__(self, writes: list[Write[Any]], max_work_s: float, *, merges: bool) -> None:
        self.finished = False
        self.blocked: sqlite3.Error | None = None
        self._writes = writes
        self._max_work_s = max_work_s
        self._merges = merges
        self._finished_writes = 0  # how many from the first on have an outcome
        for write in writes:
            write.started = True

    @property
    def unfinished(self) -> list[Write[Any]]:
        """The writes left for a later batch: this one was blocked, or took too long."""
        return self._writes[self._finished_writes :]

    @property
    def size(self) -> int:
        """The number of writes."""
        return len(self._writes)

    @property
    def rows(self) -> int:
        """Roughly how many rows the batch writes."""
        return sum(write.rows for write in self._writes)

    def run(self, connection: sqlite3.Connection) -> None:
        """Run and commit the writes. Never raises; does nothing the second time."""
        if self.finished:
            return
        try:
            if len(self._writes) == 1 or not self._run_together(connection):
                self._run_each(connection)
        except BaseException as exc:  # BEGIN or ROLLBACK failed: the batch cannot continue
            if isinstance(exc, sqlite3.Error) and is_busy(exc):
                self.blocked = exc
            else:
                self.fail(exc)
        self.finished = True

    def fail(self, error: BaseException) -> None:
        """Fail every unfinished write with this error."""
        for write in self.unfinished:
            write.error = error
        self._finished_writes = len(self._writes)
        self.finished = True

    def fail_timed_out(self, busy_timeout_s: float) -> None:
        """Fail the writes of a blocked batch that have been blocked for the whole busy timeout."""
        now = perf_counter()
        for write in self.unfinished:
            write.blocked_at = write.blocked_at or now
            if now - write.blocked_at >= busy_timeout_s:
                write.error = self.blocked
                self._finished_writes += 1

    def resolve(self, path: str) -> int:
        """Resolve the futures of the finished writes. Return how many were committed."""
        committed = 0
        for write in self._writes[: self._finished_writes]:
            if write.error is None:
                write.set_result(write.returned)
                committed += 1
            else:
                write.set_exception(translate(write.error, path))
        return committed

    def _run_together(self, connection: sqlite3.Connection) -> bool:
        """Run the writes in one transaction. Return False if it was rolled back."""
        connection.execute("BEGIN IMMEDIATE")
        deadline = perf_counter() + self._max_work_s
        attempted = 0
        while attempted < len(self._writes):
            inserts = _inserts_from(self._writes, attempted) if self._merges else []
            if len(inserts) > 1:
                count = _attempt_inserts(self._writes[attempted:], inserts, connection)
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
        self._finished_writes = attempted
        return True

    def _run_each(self, connection: sqlite3.Connection) -> None:
        """Run each write in a separate transaction, so that a failure affects no other write."""
        deadline = perf_counter() + self._max_work_s
        for write in self._writes:
            if write.autocommit:
                _run_statement(write, connection)
            else:
                _run_transaction(write, connection)
            self._finished_writes += 1
            if perf_counter() > deadline:
                break


class WriteQueue:
    """Writes in the order of submission.

    A batch has at most ``max_rows`` rows, or is a single larger write. It is committed after
    ``max_work_s`` of work, so that other processes get the write lock.
    """

    def __init__(self, max_rows: int, max_work_s: float, *, merges: bool) -> None:
        self.max_rows: Final = max_rows
        self._writes: deque[Write[Any]] = deque()
        self._max_work_s = max_work_s
        self._merges = merges

    def __len__(self) -> int:
        return len(self._writes)

    def append(self, write: Write[Any]) -> None:
        self._writes.append(write)

    def next_batch(self) -> Batch | None:
        """Take the first writes, as many as fit into a batch; None if there are none."""
        writes: list[Write[Any]] = []
        rows = 0
        while self._writes and (not writes or rows + self._writes[0].rows <= self.max_rows):
            write = self._writes.popleft()
            if not write.cancelled():
                writes.append(write)
                rows += write.rows
        return Batch(writes, self._max_work_s, merges=self._merges) if writes else None

    def requeue(self, writes: list[Write[Any]]) -> None:
        """Put the unfinished writes of a batch back at the front; they can be cancelled again."""
        for write in writes:
            write.started = False
        self._writes.extendleft(reversed(writes))


def _inserts_from(writes: list[Write[Any]], start: int) -> list[InsertRow]:
    """The works of the next writes, for as long as they insert a row with the same statement."""
    found: list[InsertRow] = []
    first = writes[start].work
    if isinstance(first, InsertRow):
        for write in writes[start:]:
            work = write.work
            if not isinstance(work, InsertRow) or work.insert is not first.insert:
                break
            found.append(work)
    return found


def _attempt_inserts(
    writes: list[Write[Any]], works: list[InsertRow], connection: sqlite3.Connection
) -> int:
    """Attempt the works of the first writes as one insert.

    Return how many they are, or 0 if the transaction has to be rolled back.
    """
    try:
        inserted = works[0].insert.execute(connection, [work.row for work in works])
    except Exception:
        return 0
    if inserted < len(works):  # it skipped some, and only single inserts show which
        return 0
    for write in writes[:inserted]:
        write.returned, write.error = True, None
    return inserted


def _attempt_one(write: Write[Any], connection: sqlite3.Connection) -> int:
    """Attempt the write. Return 1, or 0 if the transaction has to be rolled back."""
    changes = connection.total_changes
    # There are no savepoints: the transaction can continue only if a failed write changed nothing.
    may_continue = write.attempt(connection) or (
        connection.in_transaction and connection.total_changes == changes
    )
    return int(may_continue)


def _run_statement(write: Write[Any], connection: sqlite3.Connection) -> None:
    """Run a write that SQLite commits itself. Raise if another connection blocks it."""
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
    if connection.in_transaction:  # SQLite itself rolls back after some errors, as on a full disk
        connection.execute("ROLLBACK")

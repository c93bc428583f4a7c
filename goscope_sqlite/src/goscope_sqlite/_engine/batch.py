"""Group commit: writes that wait at the same time share a transaction."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Any, TypeVar

from goscope._tools.cancellation import ShieldableFuture

from .errors import is_busy, translate

T = TypeVar("T")


class Write(ShieldableFuture[T]):
    """The future of one write, resolved after its commit.

    A write that has not started can be cancelled and then is never applied. One that has started
    refuses: asyncio then raises the cancellation in the awaiting task after the outcome. If that
    attempt was blocked by another connection, the write is cancelled when it is queued again.
    ``returned`` is what the last attempt of ``work`` returned, or ``error`` what it raised. Use
    `new_write`: an ``__init__`` would double the cost of making one.
    """

    # Slots, because each batch passes these to another thread: a dict would take twice the time.
    __slots__ = (
        "autocommit",
        "error",
        "is_unwanted",
        "returned",
        "rows",
        "started",
        "submitted_at",
        "work",
    )

    can_withdraw = True
    work: Callable[[sqlite3.Connection], T]
    rows: int
    autocommit: bool
    started: bool
    is_unwanted: bool
    submitted_at: float
    returned: T
    error: BaseException | None

    def cancel(self, msg: Any | None = None) -> bool:
        if self.started:
            self.is_unwanted = not self.shielded
            return False
        return super().cancel(msg)

    def attempt(self, connection: sqlite3.Connection) -> bool:
        """Run the work in the caller's transaction. Return whether it succeeded."""
        self.error = None
        try:
            self.returned = self.work(connection)
        except BaseException as exc:
            self.error = exc
        return self.error is None

    def resolve(self, path: str) -> bool:
        """Resolve the future with the outcome. Return whether it was committed."""
        if self.error is None:
            self.set_result(self.returned)
            return True
        self.set_exception(translate(self.error, path))
        return False


def new_write(
    work: Callable[[sqlite3.Connection], T],
    rows: int,
    autocommit: bool,
    loop: asyncio.AbstractEventLoop,
    now: float,
) -> Write[T]:
    """Make a write that has not started; see `Database.submit` for the arguments.

    ``now`` is ``perf_counter()``: from here on it waits for the locks of other connections.
    """
    write: Write[T] = Write(loop=loop)
    write.work = work
    write.rows = rows
    write.autocommit = autocommit
    write.started = False
    write.is_unwanted = False
    write.submitted_at = now
    write.error = None
    return write


class Batch:
    """Writes that share one transaction unless one of them fails.

    `run` may block and runs where the connection is used; `resolve` runs in the event loop.
    ``blocked`` is SQLite's error if another connection held the write lock: the unfinished writes
    were not applied and can be requeued.
    """

    def __init__(self, writes: list[Write[Any]], max_work_s: float) -> None:
        self.blocked: sqlite3.Error | None = None
        self.size = len(writes)
        self._writes = writes
        self._max_work_s = max_work_s
        self._finished_writes = 0  # how many from the first on have an outcome
        for write in writes:
            write.started = True

    def unfinished(self) -> list[Write[Any]]:
        """The writes left for a later batch: this one was blocked, or took too long."""
        return self._writes[self._finished_writes :]

    @property
    def rows(self) -> int:
        """Roughly how many rows the batch writes."""
        return sum(write.rows for write in self._writes)

    def run(self, connection: sqlite3.Connection) -> None:
        """Run and commit the writes. Never raises."""
        try:
            if self.size == 1 or not self._run_together(connection):
                self._run_each(connection)
        except BaseException as exc:  # BEGIN or ROLLBACK failed: the batch cannot continue
            if is_busy(exc):
                self.blocked = exc
            else:
                error = exc
                self.fail(lambda: error)

    def fail(self, new_error: Callable[[], BaseException]) -> None:
        """Fail every unfinished write."""
        for write in self.unfinished():
            write.error = new_error()
        self._finished_writes = self.size

    def fail_timed_out(self, busy_timeout_s: float) -> None:
        """Fail the writes of a blocked batch that have waited for the whole busy timeout."""
        now = perf_counter()
        for write in self.unfinished():
            if now - write.submitted_at < busy_timeout_s:
                break  # the later ones have waited less
            write.error = self.blocked
            self._finished_writes += 1

    def resolve(self, path: str) -> int:
        """Resolve the futures of the finished writes. Return how many were committed."""
        return sum([write.resolve(path) for write in self._writes[: self._finished_writes]])

    def _run_together(self, connection: sqlite3.Connection) -> bool:
        """Run the writes in one transaction. Return False if it was rolled back."""
        connection.execute("BEGIN IMMEDIATE")
        deadline = perf_counter() + self._max_work_s
        attempted = 0
        for write in self._writes:
            changes = connection.total_changes
            # There are no savepoints: the transaction can go on only if a failed write changed
            # nothing.
            if not write.attempt(connection) and not (
                connection.in_transaction and connection.total_changes == changes
            ):
                _roll_back(connection)
                return False
            attempted += 1
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
            if not write.autocommit:
                _run_transaction(write, connection)
            elif not write.attempt(connection) and is_busy(write.error):
                raise write.error
            self._finished_writes += 1
            if perf_counter() > deadline:
                break


class WriteQueue(deque[Write[Any]]):
    """Writes in the order of submission."""

    def next_batch(self, max_rows: int, max_work_s: float) -> Batch | None:
        """Take the first writes, as many as fit into a batch; None if there are none.

        A batch has at most ``max_rows`` rows, or is a single larger write. It is committed after
        ``max_work_s`` of work, so that other processes get the write lock.
        """
        writes: list[Write[Any]] = []
        rows = 0
        while self and (not writes or rows + self[0].rows <= max_rows):
            write = self.popleft()
            if not write.cancelled():
                writes.append(write)
                rows += write.rows
        return Batch(writes, max_work_s) if writes else None

    def requeue(self, writes: list[Write[Any]]) -> None:
        """Put the unfinished writes of a batch back at the front; they can be cancelled again."""
        for write in reversed(writes):
            write.started = False
            if not (write.is_unwanted and write.cancel()):
                self.appendleft(write)


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

"""Group commit: writes that wait at the same time are committed together."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Any, Final, NamedTuple, TypeVar

from ._errors import is_busy, translate

T = TypeVar("T")


class Write(asyncio.Future[T]):
    """The future of one write, which resolves once it is committed.

    A write that has not begun can be cancelled, and then never happens. One that has begun cannot
    be: asyncio then lets the awaiting task wait for the outcome and raises its cancellation after.
    ``rows`` is roughly how many rows it writes.
    """

    def __init__(
        self, work: Callable[[sqlite3.Connection], T], rows: int, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(loop=loop)
        self.work: Final = work
        self.rows: Final = rows
        self.begun = False
        self.blocked_at = 0.0

    def cancel(self, msg: Any | None = None) -> bool:
        return not self.begun and super().cancel(msg)


class Outcome(NamedTuple):
    """What became of one write."""

    write: Write[Any]
    result: Any = None
    error: BaseException | None = None


class Batch:
    """Writes that share one transaction as long as all goes well.

    `run` may block and belongs where the connection lives; `resolve` belongs to the event loop.
    ``blocked`` is SQLite's error if another connection held the write lock for longer than the
    busy timeout of this one: what is unfinished then did not happen, and can be run again.
    """

    def __init__(self, writes: list[Write[Any]], max_seconds: float) -> None:
        self.finished = False
        self.blocked: sqlite3.Error | None = None
        self._writes = writes
        self._max_seconds = max_seconds
        self._outcomes: list[Outcome] = []
        for write in writes:
            write.begun = True

    @property
    def unfinished(self) -> list[Write[Any]]:
        """The writes that a later batch has to run: this one took too long, or was blocked."""
        return self._writes[len(self._outcomes) :]

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
        self._outcomes += [Outcome(write, error=error) for write in self.unfinished]
        self.finished = True

    def give_up(self, patience: float) -> None:
        """Fail, when blocked, the writes that first were so at least ``patience`` seconds ago."""
        now = perf_counter()
        for write in self.unfinished:
            write.blocked_at = write.blocked_at or now
            if now - write.blocked_at >= patience:
                self._outcomes.append(Outcome(write, error=self.blocked))

    def resolve(self, path: str) -> int:
        """Resolve the futures of the writes that were run; how many of them were committed."""
        committed = 0
        for write, result, error in self._outcomes:
            if error is None:
                write.set_result(result)
                committed += 1
            else:
                write.set_exception(translate(error, path))
        return committed

    def _run_together(self, connection: sqlite3.Connection) -> bool:
        """Run the writes in one transaction; False if that was rolled back and none happened."""
        connection.execute("BEGIN IMMEDIATE")
        deadline = perf_counter() + self._max_seconds
        outcomes: list[Outcome] = []
        for write in self._writes:
            changes = connection.total_changes
            outcome = _attempt(connection, write)
            # Without savepoints, a failed write can stay only if it left nothing behind.
            if outcome.error is not None and (
                not connection.in_transaction or connection.total_changes != changes
            ):
                _roll_back(connection)
                return False
            outcomes.append(outcome)
            if perf_counter() > deadline:
                break
        try:
            connection.execute("COMMIT")
        except sqlite3.Error:
            _roll_back(connection)
            return False
        self._outcomes = outcomes
        return True

    def _run_each(self, connection: sqlite3.Connection) -> None:
        """Run each write in a transaction of its own, so that it fails or succeeds alone."""
        deadline = perf_counter() + self._max_seconds
        for write in self._writes:
            connection.execute("BEGIN IMMEDIATE")
            outcome = _attempt(connection, write)
            if outcome.error is None:
                try:
                    connection.execute("COMMIT")
                except sqlite3.Error as exc:
                    outcome = Outcome(write, error=exc)
            if outcome.error is not None:
                _roll_back(connection)
            self._outcomes.append(outcome)
            if perf_counter() > deadline:
                break


class WriteQueue:
    """Writes in the order they were submitted.

    A batch has at most ``max_rows`` rows, or is a single larger write. It is committed after
    ``max_seconds`` of work, so that others get their turn.
    """

    def __init__(self, max_rows: int, max_seconds: float) -> None:
        self._writes: deque[Write[Any]] = deque()
        self._max_rows = max_rows
        self._max_seconds = max_seconds

    def __len__(self) -> int:
        return len(self._writes)

    def append(self, write: Write[Any]) -> None:
        self._writes.append(write)

    def next_batch(self) -> Batch | None:
        """Take the writes at the front that go together; None when there are none."""
        writes: list[Write[Any]] = []
        rows = 0
        while self._writes and (not writes or rows + self._writes[0].rows <= self._max_rows):
            write = self._writes.popleft()
            if not write.cancelled():
                writes.append(write)
                rows += write.rows
        return Batch(writes, self._max_seconds) if writes else None

    def put_back(self, writes: list[Write[Any]]) -> None:
        """Queue writes again that a batch left unfinished, in front of all others."""
        for write in writes:
            write.begun = False
        self._writes.extendleft(reversed(writes))


def _attempt(connection: sqlite3.Connection, write: Write[Any]) -> Outcome:
    try:
        return Outcome(write, write.work(connection))
    except BaseException as exc:
        return Outcome(write, error=exc)


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:  # SQLite rolls back by itself when the disk is full
        connection.execute("ROLLBACK")

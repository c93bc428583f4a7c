"""Keeping the WAL small: when to checkpoint it, and how long to wait for its readers."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from contextlib import closing
from time import perf_counter, sleep
from typing import Final

from .connection import WAL_LIMIT_BYTES
from .errors import is_busy
from .file import sync_file
from .worker import Worker

logger: Final = logging.getLogger("goscope_sqlite")

SIZE_CHECK_INTERVAL_S: Final = 0.001
"""How often to read the size of the WAL.

Each commit beyond the limit makes the file longer, because SQLite truncates it to the limit when it
restarts, and that takes a sixth of the commit's time. Reading the size costs less.
"""

RETRY_INTERVAL_S: Final = 0.5
"""How soon to repeat a checkpoint that left frames behind, unless the WAL has grown by another
limit: in this time a fast writer adds 30 MB and more."""

READER_WAIT_S: Final = 0.004
RESTART_WAIT_S: Final = 0.001
POLL_INTERVAL_S: Final = 0.001
"""How long a checkpoint waits for readers, whose frames must stay in the WAL, for those that
prevent its restart, and how often it looks. Nobody can write meanwhile, so both together are 5 ms
at most; a checkpoint that left frames behind is repeated."""

MAX_COPIES: Final = 4
FEW_FRAMES: Final = 256
"""How often `copy` copies what was written during the copy before, and how few frames, 1 MiB, end
it. Without it, a set takes 1.3 times as long: the disk is synced under the write lock."""

MAX_SIZE: Final = 4
"""How many times as long as its limit the WAL may become before the writes wait."""


class Checkpointer:
    """Checkpoints the WAL when it has grown, in two steps on connections of its own.

    `copy` copies frames while everybody writes. `run` copies the rest while the writer holds the
    write lock, so that the next commit restarts the WAL. Up to SQLite 3.51.2, a commit that
    restarts the WAL during a checkpoint can lose data: the write lock prevents that, and in `copy`
    a read transaction. Before ``next_check``, `is_due` and `is_overdue` say no without looking.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        # No starvation guard: it would take the time in which the disk is synced for starvation.
        self._worker = Worker("goscope-sqlite-checkpointer", starvation_guard=False)
        self.next_check = self._next_attempt = 0.0
        self._size_at_last_attempt = 0.0
        self._backfilled_frames = 0  # how many the last checkpoint found in the database file
        self._restart_pending = False  # the next commit restarts the WAL unless somebody reads it
        self.is_restart_due = False
        """Whether the last checkpoint was complete: the next commit restarts the WAL if it can."""

    def is_due(self) -> bool:
        """Whether the WAL is longer than its limit, and another checkpoint may shorten it."""
        size = self._new_size()
        if size is None:
            return False
        if size < self._size_at_last_attempt:  # it restarted and was truncated
            self._size_at_last_attempt = 0.0
            self._restart_pending = False
        return size > 1 and (
            self._restart_pending
            or size >= self._size_at_last_attempt + 1
            or perf_counter() >= self._next_attempt
        )

    def is_overdue(self) -> bool:
        """Whether the WAL has grown so much that the writes have to wait for the checkpoint."""
        size = self._new_size()
        return size is not None and size > MAX_SIZE

    def copy(self) -> asyncio.Future[bool]:
        """Copy frames while everybody writes, in a thread. Return whether `run` is due."""
        return self._worker.run(self._copy)

    def run(self, writer: sqlite3.Connection) -> None:
        """Copy the frames that no reader needs, while the writer holds the write lock.

        Blocks: run it in a thread, not necessarily the same one each time.
        """
        self.is_restart_due = False
        try:
            writer.execute("BEGIN IMMEDIATE")
            try:
                self._checkpoint()
            finally:
                writer.execute("ROLLBACK")
        except sqlite3.Error as exc:
            if not is_busy(exc):  # another process writes: the next write looks at the size again
                self._report(exc)

    def close(self) -> None:
        """Close the connections, and end the thread."""
        self.close_in_child()
        self._worker.stop()

    def close_in_child(self) -> None:
        """Close the connections in the child of a fork, where the thread does not exist."""
        for connection in (self._reader, self._connection):
            if connection is not None:
                connection.close()
        self._reader = self._connection = None

    def _copy(self) -> bool:
        copied = 0
        try:
            for _ in range(MAX_COPIES):
                self._copy_snapshot()
                if self._backfilled_frames - copied < FEW_FRAMES:
                    break
                copied = self._backfilled_frames
        except (sqlite3.Error, OSError) as exc:
            self._report(exc)
            return False
        if self._backfilled_frames < 0:  # another process is copying
            self._delay()
            return False
        return True

    def _copy_snapshot(self) -> None:
        """Copy the frames up to the latest commit, and sync them."""
        if self._reader is None:
            self._reader = self._connect()
        # The statement stays open: while somebody reads, no commit restarts the WAL.
        with closing(self._reader.execute("SELECT 1 FROM sqlite_schema LIMIT 1")):
            self._backfill()
            sync_file(self._path)  # else SQLite does it in `run`

    def _report(self, exc: Exception) -> None:
        """Report a checkpoint that failed: it is tried again, and costs disk space and no data."""
        logger.warning("%s: WAL checkpoint failed, will be retried: %s", self._path, exc)
        self.next_check = perf_counter() + RETRY_INTERVAL_S

    def _checkpoint(self) -> None:
        self._delay()
        deadline = perf_counter() + READER_WAIT_S
        before = self._backfilled_frames
        # If not one more frame could be copied, the reader has read for long and may continue.
        while not (
            (complete := self._backfill())
            or self._backfilled_frames == before
            or perf_counter() + POLL_INTERVAL_S > deadline
        ):
            sleep(POLL_INTERVAL_S)
        if complete and self._restart_pending:
            # The last checkpoint was complete too, but a reader prevented the restart. Only then is
            # a wait worthwhile: the WAL seldom has a reader.
            sleep(RESTART_WAIT_S)
        self.is_restart_due = complete
        self._restart_pending = complete and not self._restart_pending

    def _delay(self) -> None:
        """Let the next checkpoint wait for an interval, or until the WAL has grown by a limit."""
        self._size_at_last_attempt = self._size()
        self._next_attempt = perf_counter() + RETRY_INTERVAL_S

    def _new_size(self) -> float | None:
        """The size, None if it was read just before."""
        now = perf_counter()
        if now < self.next_check:
            return None
        self.next_check = now + SIZE_CHECK_INTERVAL_S
        return self._size()

    def _size(self) -> float:
        """The size of the WAL as a multiple of its limit."""
        try:
            # Not open(): closing any descriptor of a file drops the locks SQLite has on it.
            return os.stat(f"{self._path}-wal").st_size / WAL_LIMIT_BYTES
        except FileNotFoundError:
            return 0.0

    def _backfill(self) -> bool:
        """Run one passive checkpoint; whether it was complete."""
        if self._connection is None:
            self._connection = self._connect()
        passive = "PRAGMA wal_checkpoint(PASSIVE)"
        blocked, frames, backfilled = self._connection.execute(passive).fetchall()[0]
        self._backfilled_frames = backfilled
        return bool(not blocked and frames == backfilled)

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=0, isolation_level=None, check_same_thread=False)

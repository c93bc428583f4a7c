"""Keeping the WAL small: when to checkpoint it, and how long to wait for its readers."""

from __future__ import annotations

import logging
import os
import sqlite3
from time import monotonic, sleep
from typing import Final

from .connection import WAL_LIMIT_BYTES
from .errors import is_busy

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


class Checkpointer:
    """Checkpoints the WAL when it has grown.

    It has a separate connection, and runs while the writer holds the write lock: up to SQLite
    3.51.2, a commit that restarts the WAL during a checkpoint can lose data.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._next_size_check = self._next_attempt = 0.0
        self._size_at_last_attempt = 0.0
        self._backfilled_frames = 0  # how many the last checkpoint found in the database file
        self._restart_pending = False  # the next commit restarts the WAL unless somebody reads it
        self.is_restart_due = False
        """Whether the last checkpoint was complete: the next commit restarts the WAL if it can."""

    def is_due(self) -> bool:
        """Whether the WAL is longer than its limit, and another checkpoint may shorten it."""
        now = monotonic()
        if now < self._next_size_check:
            return False
        self._next_size_check = now + SIZE_CHECK_INTERVAL_S
        size = self._size()
        if size < self._size_at_last_attempt:  # it restarted and was truncated
            self._size_at_last_attempt = 0.0
            self._restart_pending = False
        return size > 1 and (
            self._restart_pending
            or size >= self._size_at_last_attempt + 1
            or now >= self._next_attempt
        )

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
            if is_busy(exc):
                return  # another process writes: the next write looks at the size again
            # Tried again later: a failed checkpoint costs disk space and no data.
            logger.warning("%s: WAL checkpoint failed, will be retried: %s", self._path, exc)
            self._next_size_check = monotonic() + RETRY_INTERVAL_S

    def close(self) -> None:
        """Close the connection. The checkpointer opens another one if it is used again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _checkpoint(self) -> None:
        self._size_at_last_attempt = self._size()
        deadline = monotonic() + READER_WAIT_S
        before = self._backfilled_frames
        # If not one more frame could be copied, the reader has read for long and may continue.
        while not (
            (complete := self._backfill())
            or self._backfilled_frames == before
            or monotonic() + POLL_INTERVAL_S > deadline
        ):
            sleep(POLL_INTERVAL_S)
        if complete and self._restart_pending:
            # The last checkpoint was complete too, but a reader prevented the restart. Only then is
            # a wait worthwhile: the WAL seldom has a reader.
            sleep(RESTART_WAIT_S)
        self.is_restart_due = complete
        self._restart_pending = complete and not self._restart_pending
        self._next_attempt = monotonic() + RETRY_INTERVAL_S

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
            self._connection = sqlite3.connect(
                self._path, timeout=0, isolation_level=None, check_same_thread=False
            )
        passive = "PRAGMA wal_checkpoint(PASSIVE)"
        blocked, frames, backfilled = self._connection.execute(passive).fetchall()[0]
        self._backfilled_frames = backfilled
        return bool(not blocked and frames == backfilled)

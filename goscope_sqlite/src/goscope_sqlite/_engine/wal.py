"""Keeping the write-ahead log small."""

from __future__ import annotations

import logging
import os
import sqlite3
from time import monotonic, sleep
from typing import Final

from .connection import WAL_LIMIT_BYTES
from .shared_read import LONGEST

logger: Final = logging.getLogger("goscope_sqlite")

LOOK: Final = 0.001
PAUSE: Final = 0.5
"""Seconds between two looks at the size of the log, and between two checkpoints unless it has grown
by another `WAL_LIMIT_BYTES` before. Beyond that limit each commit makes the file longer, since it is cut
off there when it begins anew, and that takes a sixth of the commit's time: looks are cheaper."""

PATIENCE: Final = 0.005
MOST: Final = 10
"""Seconds for which a checkpoint waits for readers, since what they read has to stay in the log;
twice as many when that is twice as long as it should be, and so many times as long at most."""


class Checkpointer:
    """Moves the write-ahead log into the database file when it has grown.

    It does so on a connection of its own while the writer holds the write lock: up to SQLite
    3.51.2 a commit that restarts the log under a running checkpoint can lose data.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._next_look = self._next_try = 0.0
        self._tried = 0.0  # how long the log was then
        self._moved = 0  # pages of it are in the file
        self._is_to_begin = False  # anew, with the next commit, if nobody reads it then

    def is_due(self) -> bool:
        """Whether the log is longer than SQLite itself leaves it, and worth another try."""
        now = monotonic()
        if now < self._next_look:
            return False
        self._next_look = now + LOOK
        length = self._length()
        if length < self._tried:  # it began anew, and was cut off
            self._tried = 0.0
            self._is_to_begin = False
        return length > 1 and (
            self._is_to_begin or length >= self._tried + 1 or now >= self._next_try
        )

    def run(self, writer: sqlite3.Connection) -> None:
        """Take the write lock, `move`, and give it back. Blocks; belongs into a thread."""
        try:
            writer.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as exc:
            self.postpone(exc)
            return
        try:
            self.move()
        finally:
            writer.execute("ROLLBACK")

    def move(self) -> None:
        """Move what no reader needs any more, while the caller's writer has the write lock.

        Blocks; belongs into a thread, maybe another one each time.
        """
        self._tried = self._length()
        longer = min(max(self._tried, 1), MOST)
        until = monotonic() + PATIENCE * longer
        before = self._moved
        try:
            # Whoever keeps it from moving a single page has read for long, and may go on.
            while not (
                (complete := self._checkpoint()) or self._moved == before or monotonic() >= until
            ):
                sleep(LONGEST)
        except sqlite3.Error as exc:
            self.postpone(exc)
            return
        if self._is_to_begin and complete:  # it did not: wait for those who read it
            sleep(LONGEST * longer)
        self._is_to_begin = complete and not self._is_to_begin
        self._next_try = monotonic() + PAUSE

    def postpone(self, exc: sqlite3.Error) -> None:
        """Try again later. Nothing is lost but space: the log stays as it is."""
        logger.warning("%s: the write-ahead log could not be moved: %s", self._path, exc)
        self._next_look = monotonic() + PAUSE

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _length(self) -> float:
        """How long the log is, in times of its limit."""
        try:
            # Only asked for its size: closing a file of SQLite's own would drop SQLite's locks.
            return os.stat(f"{self._path}-wal").st_size / WAL_LIMIT_BYTES
        except FileNotFoundError:
            return 0.0

    def _checkpoint(self) -> bool:
        """Whether all of the log was moved."""
        if self._connection is None:
            self._connection = sqlite3.connect(
                self._path, timeout=0, isolation_level=None, check_same_thread=False
            )
        passive = "PRAGMA wal_checkpoint(PASSIVE)"
        blocked, length, self._moved = self._connection.execute(passive).fetchall()[0]
        return bool(not blocked and length == self._moved)

"""Keeping the write-ahead log small."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from typing import Final

from ._connection import WAL_LIMIT

logger: Final = logging.getLogger("goscope_sqlite")

LOOK: Final = 0.02
PAUSE: Final = 0.05
PAUSE_WHEN_BLOCKED: Final = 0.5
"""Seconds between two looks at the size of the log, and between two checkpoints; longer when a
reader kept one from its end."""


class Checkpointer:
    """Moves the write-ahead log into the database file when it has grown.

    It does so on a connection of its own while the writer holds the write lock: up to SQLite
    3.51.2 a commit that restarts the log under a running checkpoint can lose data.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._not_before = 0.0

    def is_due(self) -> bool:
        """Whether the log is longer than SQLite itself leaves it."""
        now = time.monotonic()
        if now < self._not_before:
            return False
        self._not_before = now + LOOK
        try:
            # Only asked for its size: closing a file of SQLite's own would drop SQLite's locks.
            return os.stat(f"{self._path}-wal").st_size > WAL_LIMIT
        except FileNotFoundError:
            return False

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
        try:
            complete = self._checkpoint()
        except sqlite3.Error as exc:
            self.postpone(exc)
        else:
            self._not_before = time.monotonic() + (PAUSE if complete else PAUSE_WHEN_BLOCKED)

    def postpone(self, exc: sqlite3.Error) -> None:
        """Try again later. Nothing is lost but space: the log stays as it is."""
        logger.warning("%s: the write-ahead log could not be moved: %s", self._path, exc)
        self._not_before = time.monotonic() + PAUSE_WHEN_BLOCKED

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _checkpoint(self) -> bool:
        """Whether all of the log was moved."""
        if self._connection is None:
            self._connection = sqlite3.connect(
                self._path, timeout=0, isolation_level=None, check_same_thread=False
            )
        passive = "PRAGMA wal_checkpoint(PASSIVE)"
        blocked, length, moved = self._connection.execute(passive).fetchall()[0]
        return not blocked and length == moved

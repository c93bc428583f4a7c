"""One read transaction under all reads of a tick of the event loop.

Each read in WAL mode locks a read mark, which keeps the frames it needs in the WAL, and releases
it: two system calls, a quarter of what a point read costs. The connections of a process share these
locks: while one of them holds a read mark, SQLite makes no system call for the others. They still
read the latest commit: SQLite locks another read mark when there is a newer one. Without it, a get
of 64 callers takes 8 % longer.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from time import perf_counter
from typing import Final

MIN_READS_PER_TICK: Final = 3
"""The read of a tick that begins the shared transaction, which costs half a read."""

MAX_HOLD_S: Final = 0.001
"""How long a tick is expected to hold the read mark, and how long a checkpoint waits for it."""

COOLDOWN_FACTOR: Final = 20
"""After a tick that held the read mark for longer than `MAX_HOLD_S`, because other work followed
the reads, how many times that long to do without: a held read mark lets the WAL only grow."""


class SharedReadTransaction:
    """Holds a read mark on its own connection. Use it in the event loop only.

    ``held_since`` is 0 while there is no transaction; then each read calls `on_read` first.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._cursor = connection.cursor()
        self._reads = 0
        self.held_since = 0.0
        self._not_before = 0.0

    def on_read(self, now: float) -> None:
        """Begin the transaction if this tick has had enough reads to expect more."""
        self._reads += 1
        if self._reads == MIN_READS_PER_TICK and now >= self._not_before:
            with suppress(sqlite3.Error):  # the read that follows meets the same error, handled
                # The statement stays open, and keeps the read mark, until its row is fetched.
                self._cursor.execute("SELECT 1 FROM sqlite_schema LIMIT 1")
                self.held_since = now

    def on_wait(self, now: float) -> None:
        """End the transaction early if the reads that start to wait make the tick long."""
        if self.held_since and now - self.held_since > MAX_HOLD_S / 2:
            self.release()

    def release(self) -> None:
        """End the transaction, at the end of the tick."""
        self._reads = 0
        if self.held_since:
            with suppress(sqlite3.Error):  # an error ends the transaction as well
                self._cursor.fetchall()
            now = perf_counter()
            held_s = now - self.held_since
            if held_s > MAX_HOLD_S:
                self._not_before = now + COOLDOWN_FACTOR * held_s
            self.held_since = 0.0

    def close(self) -> None:
        self.release()
        self._connection.close()

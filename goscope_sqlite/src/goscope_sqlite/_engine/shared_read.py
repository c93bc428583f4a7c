"""One lock for the reads of one turn of the event loop.

Each read of a file in WAL mode takes a lock, so that the log it reads stays, and gives it back: two
calls of the kernel, a quarter of what a point read costs. The connections of a process share it:
while one of them holds the lock, SQLite does not ask the kernel for another one. The others' reads
begin with the latest commit as ever, and take a lock of their own if one has come meanwhile.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from time import perf_counter
from typing import Final

READS: Final = 3
"""The read of a turn from which on the lock is held: to take it for others costs half a read."""

LONGEST: Final = 0.001
REST: Final = 20
"""Seconds after which nobody holds the lock as a rule. Where it was held for longer, since other
work in the turn followed the reads, it is left alone for so many times as long: as long as somebody
has it the log can only grow."""


class ReadLock:
    """Holds the lock on a connection that is for nothing else. Belongs to the event loop."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._cursor = connection.cursor()
        self._reads = 0
        self._held_since = 0.0  # or 0: it is not held
        self._not_before = 0.0

    def note_read(self, now: float) -> None:
        """Take the lock if there have been so many reads in this turn that more may follow."""
        self._reads += 1
        if self._reads == READS and now >= self._not_before:
            with suppress(sqlite3.Error):  # the read itself will meet it, and do what is due
                # There is a row, and the lock is held until it has been fetched.
                self._cursor.execute("SELECT 1 FROM sqlite_schema LIMIT 1")
                self._held_since = now

    def note_wait(self, now: float) -> None:
        """Give the lock back if so many reads begin to wait in this turn that it gets long."""
        if self._held_since and now - self._held_since > LONGEST / 2:
            self.release()

    def release(self) -> None:
        """Give the lock back, at the end of the turn."""
        self._reads = 0
        if self._held_since:
            with suppress(sqlite3.Error):  # also then it holds nothing any more
                self._cursor.fetchall()
            now = perf_counter()
            held = now - self._held_since
            if held > LONGEST:
                self._not_before = now + REST * held
            self._held_since = 0.0

    def close(self) -> None:
        self.release()
        self._connection.close()

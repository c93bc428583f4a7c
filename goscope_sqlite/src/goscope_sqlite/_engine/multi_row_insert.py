"""Writing many rows with few statements.

Each statement that the writer's thread runs gives the interpreter away and has to get it back, in
competition with the event loop. A statement of 64 rows does that once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import cache
from typing import Final

from .protocol import Row

MOST: Final = 64
"""The most rows of one statement."""


class RowStatement:
    """An ``INSERT`` of one row or more, which may leave some of them out.

    ``sql`` has ``{rows}`` in place of the list of rows, each of so many columns.
    """

    def __init__(self, sql: str, columns: int) -> None:
        self._sql: Final = sql
        self._columns: Final = columns
        self._of = cache(self._new)
        self.of_one: Final = self._of(1)

    def write(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> int:
        """Write the rows, in this order; how many of them were not left out."""
        written = start = 0
        while start < len(rows):
            # Powers of two, so that the connection keeps all statements there are.
            count = min(MOST, 1 << (len(rows) - start).bit_length() - 1)
            parameters = [value for row in rows[start : start + count] for value in row]
            written += connection.execute(self._of(count), parameters).rowcount
            start += count
        return written

    def _new(self, count: int) -> str:
        row = f"({', '.join('?' * self._columns)})"
        return self._sql.format(rows=", ".join([row] * count))


class RowWrite:
    """The write of one row, which those of others may be merged with; whether it was written."""

    __slots__ = ("row", "statement")

    def __init__(self, statement: RowStatement, row: Row) -> None:
        self.statement: Final = statement
        self.row: Final = row

    def __call__(self, connection: sqlite3.Connection) -> bool:
        return connection.execute(self.statement.of_one, self.row).rowcount > 0

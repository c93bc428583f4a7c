"""Inserting the rows of many writes with few statements.

sqlite3 releases the GIL for each statement, and the writer's thread then competes with the event
loop to get it back. A statement of 64 rows competes once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import cache
from typing import Final

from .protocol import Row

MAX_ROWS_PER_STATEMENT: Final = 64


class MultiRowInsert:
    """An ``INSERT`` of one or more rows, which may skip some of them.

    ``sql`` has ``{rows}`` in place of the list of rows; ``columns`` is the number of values in one.
    """

    def __init__(self, sql: str, columns: int) -> None:
        self._sql: Final = sql
        self._columns: Final = columns
        self._sql_for = cache(self._format)
        self.single_row_sql: Final = self._sql_for(1)

    def execute(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> int:
        """Insert the rows in this order. Return how many were not skipped."""
        inserted = start = 0
        while start < len(rows):
            # Powers of two: seven statements in all, which the connection keeps prepared.
            count = min(MAX_ROWS_PER_STATEMENT, 1 << (len(rows) - start).bit_length() - 1)
            parameters = [value for row in rows[start : start + count] for value in row]
            inserted += connection.execute(self._sql_for(count), parameters).rowcount
            start += count
        return inserted

    def _format(self, count: int) -> str:
        row = f"({', '.join('?' * self._columns)})"
        return self._sql.format(rows=", ".join([row] * count))


class InsertRow:
    """A write that inserts one row and returns whether it was inserted.

    A batch runs consecutive ones of the same ``insert`` as one statement.
    """

    __slots__ = ("insert", "row")

    def __init__(self, insert: MultiRowInsert, row: Row) -> None:
        self.insert: Final = insert
        self.row: Final = row

    def __call__(self, connection: sqlite3.Connection) -> bool:
        return connection.execute(self.insert.single_row_sql, self.row).rowcount > 0

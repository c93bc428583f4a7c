"""Comparing a copy of a file with its source."""

from __future__ import annotations

import sqlite3
from typing import Final

from goscope.errors import BackendCorrupt

_TABLES: Final = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"


def check_copy(source: sqlite3.Connection, copy: sqlite3.Connection, path: str) -> None:
    """Raise `BackendCorrupt` unless the copy is intact and has as many rows in each table.

    ``source`` is in the read transaction whose state was copied.
    """
    problems = [row[0] for row in copy.execute("PRAGMA integrity_check(3)").fetchall()]
    if problems != ["ok"]:
        raise BackendCorrupt(
            f"{path}: the copy fails SQLite's integrity check, so the store is probably damaged, "
            f"too: {'; '.join(problems)}. The copy was removed. Run goscope doctor"
        )
    expected, found = _counts(source), _counts(copy)
    if found != expected:
        raise BackendCorrupt(f"{path}: the copy was removed: it has {found} rows, not {expected}")


def _counts(connection: sqlite3.Connection) -> dict[str, int]:
    """How many rows each table has, those of the host application too."""
    tables = [row[0].replace('"', '""') for row in connection.execute(_TABLES).fetchall()]
    return {
        table: connection.execute(f'SELECT count(*) FROM "{table}"').fetchall()[0][0]
        for table in tables
    }

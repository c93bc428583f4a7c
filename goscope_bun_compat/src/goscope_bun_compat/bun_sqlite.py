"""The part of Bun's module ``bun:sqlite`` that programs with go-go-scope use.

It is synchronous like the original: a statement runs, and may block, where it is called. Use it for
your own tables, and the adapter for what goscope stores.
"""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from goscope.errors import ConfigurationError
from goscope_sqlite.engine import MEMORY, create_file


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """The result of `Statement.run` and `Database.run`."""

    changes: int
    last_insert_rowid: int


class Database:
    """A connection to a database file, which is created for its user alone if absent.

    As in Bun it does not wait for a lock of another connection unless you set
    ``PRAGMA busy_timeout``. Close it with `close`, or use ``with Database(path) as database``.
    """

    def __init__(self, path: str | os.PathLike[str] = MEMORY) -> None:
        path = os.fspath(path)
        self.filename: Final = path if path == MEMORY else os.path.abspath(path)
        create_file(self.filename)
        self._connection = sqlite3.connect(self.filename, timeout=0, isolation_level=None)
        self._connection.row_factory = sqlite3.Row

    def __repr__(self) -> str:
        return f"Database({self.filename!r})"

    def __fspath__(self) -> str:
        """The path of the file. Raises `ConfigurationError` for a database in memory."""
        if self.filename == MEMORY:
            raise ConfigurationError(
                "the Database is in memory, where no other connection can open it: pass the path "
                "of a file, or ':memory:' for a separate store"
            )
        return self.filename

    def query(self, sql: str) -> Statement:
        """Return the statement. It is compiled on its first run, and cached."""
        return Statement(self._connection, sql)

    def run(self, sql: str, *parameters: Any) -> Changes:
        """Run one statement and return what it changed."""
        return self.query(sql).run(*parameters)

    def close(self) -> None:
        """Close the connection. Does nothing if it is closed already."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Statement:
    """One statement of a `Database`.

    Pass its parameters one by one, or as one mapping of names without ``$``, ``:`` or ``@``.
    """

    def __init__(self, connection: sqlite3.Connection, sql: str) -> None:
        self._connection = connection
        self._sql = sql

    def get(self, *parameters: Any) -> dict[str, Any] | None:
        """Return the first row, or None if there is none."""
        rows = self.all(*parameters)
        return rows[0] if rows else None

    def all(self, *parameters: Any) -> list[dict[str, Any]]:
        """Return all rows."""
        return [dict(row) for row in self._execute(parameters).fetchall()]

    def run(self, *parameters: Any) -> Changes:
        """Run it and return what it changed."""
        before = self._connection.total_changes
        cursor = self._execute(parameters)
        cursor.fetchall()  # a statement with RETURNING ends after its last row
        return Changes(
            changes=self._connection.total_changes - before,
            last_insert_rowid=cursor.lastrowid or 0,
        )

    def _execute(self, parameters: Any) -> sqlite3.Cursor:
        if len(parameters) == 1 and isinstance(parameters[0], (dict, list, tuple)):
            (parameters,) = parameters
        return self._connection.execute(self._sql, parameters)

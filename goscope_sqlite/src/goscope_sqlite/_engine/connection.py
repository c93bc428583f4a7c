"""What every connection of ours is told before it is used."""

from __future__ import annotations

import random
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from goscope.errors import BackendUnavailable

from ..schema import check_schema, migrate
from .errors import is_busy
from .file import MEMORY

MINIMUM_SQLITE: Final = (3, 35, 0)

WAL_LIMIT: Final = 4 * 1024 * 1024
"""Bytes the write-ahead log may reach before it is moved into the database file."""


READ_CACHE_KIB: Final = 16 * 1024
"""Pages a reader keeps: with SQLite's own 2 MiB most reads of a larger table ask the kernel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the connections of one adapter behave."""

    durability: Literal["normal", "full"] = "normal"
    foreign_keys: bool = False
    busy_timeout_ms: int = 5_000

    @property
    def busy_timeout(self) -> float:
        """In seconds, as sqlite3 takes it."""
        return self.busy_timeout_ms / 1000


def check_sqlite() -> None:
    """Raise `BackendUnavailable` if this Python's SQLite is too old."""
    if sqlite3.sqlite_version_info < MINIMUM_SQLITE:
        raise BackendUnavailable(
            f"this Python comes with SQLite {sqlite3.sqlite_version}, goscope-sqlite needs 3.35 or "
            f"newer. Use a newer Python, or one built against a newer SQLite"
        )


def prepare_writer(connection: sqlite3.Connection, path: str, settings: Settings) -> str:
    """Check the file, switch it to WAL and create what is missing; the identity of the store.

    Blocks. Raises errors of sqlite3, `SchemaMismatch` and `BackendUnavailable`, and has written
    nothing then unless the disk itself failed.
    """
    deadline = time.monotonic() + settings.busy_timeout
    pause = 0.001
    while True:
        try:
            return _prepare(connection, path, settings)
        except sqlite3.OperationalError as exc:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            # The switch to WAL fails at once when others open the file: no busy handler is asked.
            if not is_busy(exc) or time.monotonic() > deadline:
                raise
        time.sleep(pause * random.random())  # spreads those who wait
        pause = min(pause * 2, 0.05)


def open_reader(path: str, busy_timeout: float) -> sqlite3.Connection:
    """Open a read-only connection that any thread may use, one at a time. Blocks."""
    connection = sqlite3.connect(
        f"{Path(path).as_uri()}?mode=ro",
        uri=True,
        timeout=busy_timeout,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute(f"PRAGMA cache_size = -{READ_CACHE_KIB}").fetchall()
        connection.execute("SELECT key FROM go_goscope_cache LIMIT 1").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: str, settings: Settings) -> str:
    check_schema(connection, path)
    if path != MEMORY:
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchall()[0][0]
        if mode != "wal":
            raise BackendUnavailable(
                f"{path}: SQLite keeps the journal mode {mode!r} instead of WAL, so this file "
                f"system lacks shared memory. Put the file on a local disk"
            )
    for pragma in (
        f"synchronous = {settings.durability}",
        f"foreign_keys = {int(settings.foreign_keys)}",
        f"journal_size_limit = {WAL_LIMIT}",
        "wal_autocheckpoint = 0",
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    return migrate(connection)

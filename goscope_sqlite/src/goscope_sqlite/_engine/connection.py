"""Preparing connections: the journal mode, the pragmas and the schema."""

from __future__ import annotations

import random
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Final, Literal

from goscope.errors import BackendUnavailable

from ..schema import check_schema, migrate
from .errors import is_busy
from .file import MEMORY

MINIMUM_SQLITE: Final = (3, 35, 0)

WAL_LIMIT_BYTES: Final = 4 * 1024 * 1024
"""Checkpoint the WAL when it exceeds this size."""

READ_CACHE_KIB: Final = 16 * 1024
"""The page cache of a reader. SQLite's default of 2 MiB sends most reads of a larger table to the
kernel."""

FIRST_RETRY_S: Final = 0.001
MAX_RETRY_S: Final = 0.05
"""The longest pause before the first retry of a locked file, and before any later one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the connections of one adapter behave."""

    durability: Literal["normal", "full"] = "normal"
    foreign_keys: bool = False
    busy_timeout_ms: int = 5_000

    @property
    def busy_timeout_s(self) -> float:
        """The timeout as sqlite3 takes it."""
        return self.busy_timeout_ms / 1000


def check_sqlite() -> None:
    """Raise `BackendUnavailable` if this Python's SQLite is too old."""
    if sqlite3.sqlite_version_info < MINIMUM_SQLITE:
        raise BackendUnavailable(
            f"this Python has SQLite {sqlite3.sqlite_version}, and goscope-sqlite needs 3.35 or "
            f"newer. Use a newer Python, or one built against a newer SQLite"
        )


def prepare_writer(connection: sqlite3.Connection, path: str, settings: Settings) -> str:
    """Check the file, switch it to WAL and migrate the schema. Return the store's identity.

    Blocks, for up to the busy timeout while other processes lock the file. Raises errors of
    sqlite3, `SchemaMismatch` and `BackendUnavailable`; after an error the schema is as before.
    """
    deadline = monotonic() + settings.busy_timeout_s
    max_pause_s = FIRST_RETRY_S
    while True:
        try:
            return _prepare(connection, path, settings)
        except sqlite3.OperationalError as exc:
            # SQLite calls no busy handler when the switch to WAL meets another connection.
            if not is_busy(exc) or monotonic() > deadline:
                raise
        sleep(max_pause_s * random.random())  # jitter: processes that start together spread out
        max_pause_s = min(max_pause_s * 2, MAX_RETRY_S)


def open_reader(path: str, busy_timeout_s: float) -> sqlite3.Connection:
    """Open a read-only connection, for one thread at a time. Blocks."""
    connection = sqlite3.connect(
        f"{Path(path).as_uri()}?mode=ro",
        uri=True,
        timeout=busy_timeout_s,
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
                f"{path}: SQLite keeps the journal mode {mode!r} instead of WAL, because this file "
                f"system has no shared memory. Put the file on a local disk"
            )
    for pragma in (
        f"synchronous = {settings.durability}",
        f"foreign_keys = {int(settings.foreign_keys)}",
        f"journal_size_limit = {WAL_LIMIT_BYTES}",
        "wal_autocheckpoint = 0",
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    return migrate(connection, path)

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
from .place import Place

MINIMUM_SQLITE: Final = (3, 35, 0)

WAL_LIMIT_BYTES: Final = 4 * 1024 * 1024
"""Checkpoint the WAL when it exceeds this size."""

PAGE_CACHE_KIB: Final = 16 * 1024
"""The most memory of a connection's page cache. SQLite's default of 2 MiB sends most reads of a
larger table to the kernel."""

MAX_BUSY_TIMEOUT_MS: Final = 2_000_000_000
"""23 days. SQLite counts in 32 bits, and takes a longer timeout for none."""

FIRST_RETRY_S: Final = 0.001
MAX_RETRY_S: Final = 0.05
"""The longest pause before the first retry of a locked file, and before any later one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the connections of one adapter behave."""

    durability: Literal["normal", "full"] = "normal"
    reads: Place = "auto"
    writes: Place = "auto"
    foreign_keys: bool = False
    busy_timeout_ms: int = 5_000
    starvation_guard: bool = True
    allow_shared_filesystem: bool = False

    @property
    def busy_timeout_s(self) -> float:
        """The timeout as sqlite3 takes it."""
        return min(self.busy_timeout_ms, MAX_BUSY_TIMEOUT_MS) / 1000

    @property
    def place_of_writes(self) -> Place:
        """Where small writes run: one that has to reach the disk would block the event loop."""
        return "thread" if self.durability == "full" and self.writes == "auto" else self.writes


def check_sqlite() -> None:
    """Raise `BackendUnavailable` if this Python's SQLite is too old."""
    if sqlite3.sqlite_version_info < MINIMUM_SQLITE:
        raise BackendUnavailable(
            f"this Python has SQLite {sqlite3.sqlite_version}, and goscope-sqlite needs 3.35 or "
            f"newer. Use a newer Python, or one built against a newer SQLite"
        )


def prepare_writer(
    connection: sqlite3.Connection, path: str, settings: Settings, *, to_wal: bool
) -> str:
    """Check the file, switch it to WAL and migrate the schema. Return the store's identity.

    With ``to_wal=False`` the file keeps its journal mode.

    Blocks, for up to the busy timeout while other processes lock the file. From then on the
    connection does not wait for locks. Raises errors of sqlite3, `SchemaMismatch` and
    `BackendUnavailable`; after an error the schema is as before.
    """
    deadline = monotonic() + settings.busy_timeout_s
    max_pause_s = FIRST_RETRY_S
    try:
        while True:
            set_busy_timeout(connection, max(deadline - monotonic(), 0))
            try:
                return _prepare(connection, path, settings, to_wal)
            except sqlite3.OperationalError as exc:
                # SQLite calls no busy handler when the switch to WAL meets another connection.
                if not is_busy(exc) or monotonic() > deadline:
                    raise
            sleep(max_pause_s * random.random())  # jitter: processes that start together spread out
            max_pause_s = min(max_pause_s * 2, MAX_RETRY_S)
    finally:
        set_busy_timeout(connection, 0)


def set_busy_timeout(connection: sqlite3.Connection, seconds: float) -> None:
    """Let SQLite wait for the locks of other connections for so long."""
    connection.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}").fetchall()


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
        connection.execute(f"PRAGMA cache_size = -{PAGE_CACHE_KIB}").fetchall()
        connection.execute("SELECT key FROM go_goscope_cache LIMIT 1").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: str, settings: Settings, to_wal: bool) -> str:
    check_schema(connection, path)
    durability: str = settings.durability
    if path != MEMORY:
        switch = "PRAGMA journal_mode = WAL" if to_wal else "PRAGMA journal_mode"
        mode = connection.execute(switch).fetchall()[0][0]
        if mode != "wal" and not to_wal:
            durability = "full"  # a power failure could damage a file with another journal
        elif mode != "wal":
            raise BackendUnavailable(
                f"{path}: SQLite keeps the journal mode {mode!r} instead of WAL, because this file "
                f"system has no shared memory. Put the file on a local disk"
            )
    for pragma in (
        f"cache_size = -{PAGE_CACHE_KIB}",
        f"synchronous = {durability}",
        f"foreign_keys = {int(settings.foreign_keys)}",
        f"journal_size_limit = {WAL_LIMIT_BYTES}",
        "wal_autocheckpoint = 0",
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    return migrate(connection, path)

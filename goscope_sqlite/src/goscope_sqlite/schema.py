"""The tables, and the migrations between their versions.

Four tables are go-go-scope's: its files open here, and goscope's open there. Companion tables hold
what go-go-scope has no column for. A companion row carries a digest of the stored text it belongs
to, and is ignored once another writer has replaced that text.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
from contextlib import closing
from functools import cache
from itertools import chain
from typing import Final

from goscope.errors import SchemaMismatch

logger: Final = logging.getLogger("goscope_sqlite")

_NOW: Final = "DEFAULT (CAST(strftime('%s', 'now') AS INTEGER))"

_VERSION_1_TABLES: Final = {
    "go_goscope_circuit": """
        key TEXT PRIMARY KEY,
        state TEXT NOT NULL,
        failure_count INTEGER NOT NULL DEFAULT 0,
        last_failure_time INTEGER,
        last_success_time INTEGER,
        updated_at INTEGER NOT NULL
    """,
    "go_goscope_cache": f"""
        key TEXT PRIMARY KEY,
        value TEXT NOT NULL,
        expires_at INTEGER,
        created_at INTEGER {_NOW}
    """,
    "go_goscope_checkpoints": f"""
        id TEXT PRIMARY KEY,
        task_id TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        timestamp INTEGER NOT NULL,
        progress INTEGER NOT NULL DEFAULT 0,
        data TEXT NOT NULL,
        estimated_time_remaining INTEGER,
        created_at INTEGER {_NOW}
    """,
    "go_goscope_idempotency": f"""
        key TEXT PRIMARY KEY,
        value TEXT NOT NULL,
        expires_at INTEGER,
        created_at INTEGER {_NOW},
        updated_at INTEGER {_NOW}
    """,
    "go_goscope_locks": """
        key TEXT PRIMARY KEY,
        owner TEXT NOT NULL,
        token INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        boot_id TEXT NOT NULL,
        host TEXT NOT NULL,
        pid INTEGER NOT NULL,
        pid_namespace TEXT NOT NULL,
        started TEXT NOT NULL,
        acquired_at INTEGER NOT NULL
    """,
    "go_goscope_lock_waiters": """
        key TEXT NOT NULL,
        waiter TEXT NOT NULL,
        boot_id TEXT NOT NULL,
        since INTEGER NOT NULL,
        seen INTEGER NOT NULL,
        PRIMARY KEY (key, waiter)
    """,
    "go_goscope_meta": """
        key TEXT PRIMARY KEY,
        value
    """,
    "go_goscope_cache_side": """
        key TEXT PRIMARY KEY,
        digest TEXT NOT NULL,
        stale_until INTEGER,
        tags TEXT NOT NULL
    """,
    "go_goscope_cache_tags": """
        tag TEXT NOT NULL,
        key TEXT NOT NULL,
        PRIMARY KEY (tag, key)
    """,
    "go_goscope_circuit_side": """
        key TEXT PRIMARY KEY,
        describes TEXT NOT NULL,
        success_count INTEGER NOT NULL
    """,
    "go_goscope_idempotency_side": """
        key TEXT PRIMARY KEY,
        digest TEXT NOT NULL,
        fingerprint TEXT NOT NULL
    """,
}

_VERSION_1_INDEXES: Final = """
    CREATE INDEX IF NOT EXISTS idx_cache_expires
        ON go_goscope_cache (expires_at) WHERE expires_at IS NOT NULL;
    CREATE INDEX IF NOT EXISTS idx_idempotency_expires
        ON go_goscope_idempotency (expires_at) WHERE expires_at IS NOT NULL;
    CREATE INDEX IF NOT EXISTS idx_checkpoints_task ON go_goscope_checkpoints (task_id);
    CREATE INDEX IF NOT EXISTS idx_checkpoints_sequence
        ON go_goscope_checkpoints (task_id, sequence);
"""

_MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        *(
            f"CREATE TABLE IF NOT EXISTS {table} ({definition})"
            for table, definition in _VERSION_1_TABLES.items()
        ),
        *_VERSION_1_INDEXES.strip().rstrip(";").split(";"),
    ),
    (
        """CREATE TABLE go_goscope_cache_companion (
            key TEXT PRIMARY KEY,
            digest TEXT NOT NULL,
            stale_until INTEGER,
            tags TEXT NOT NULL
        )""",
        "INSERT INTO go_goscope_cache_companion SELECT * FROM go_goscope_cache_side",
        "DROP TABLE go_goscope_cache_side",
        """CREATE TABLE go_goscope_circuit_companion (
            key TEXT PRIMARY KEY,
            describes TEXT NOT NULL,
            success_count INTEGER NOT NULL
        )""",
        "INSERT INTO go_goscope_circuit_companion SELECT * FROM go_goscope_circuit_side",
        "DROP TABLE go_goscope_circuit_side",
        """CREATE TABLE go_goscope_idempotency_companion (
            key TEXT PRIMARY KEY,
            digest TEXT NOT NULL,
            fingerprint TEXT NOT NULL
        )""",
        "INSERT INTO go_goscope_idempotency_companion SELECT * FROM go_goscope_idempotency_side",
        "DROP TABLE go_goscope_idempotency_side",
        """CREATE TABLE go_goscope_lock_queue (
            key TEXT NOT NULL,
            waiter TEXT NOT NULL,
            boot_id TEXT NOT NULL,
            since INTEGER NOT NULL,
            last_heartbeat INTEGER NOT NULL,
            PRIMARY KEY (key, waiter)
        )""",
        "INSERT INTO go_goscope_lock_queue SELECT * FROM go_goscope_lock_waiters",
        "DROP TABLE go_goscope_lock_waiters",
    ),
    (
        """CREATE TABLE go_goscope_processes (
            id TEXT PRIMARY KEY,
            boot_id TEXT NOT NULL,
            host TEXT NOT NULL,
            pid INTEGER NOT NULL,
            pid_namespace TEXT NOT NULL,
            started TEXT NOT NULL,
            opened_at INTEGER NOT NULL
        )""",
    ),
)
"""The statements of each step; step n leads from version n - 1 to version n.

Never change a step once it is released: append one. A step changes a table by copying it, because
ALTER TABLE fails in a file in which the host application has left a broken view.
"""

VERSION: Final = len(_MIGRATIONS)

_SHARED_TABLES: Final = (
    "go_goscope_circuit",
    "go_goscope_cache",
    "go_goscope_checkpoints",
    "go_goscope_idempotency",
)


def check_schema(connection: sqlite3.Connection, path: str) -> None:
    """Raise `SchemaMismatch` if the file holds tables this version cannot use. Only reads.

    A file that is still empty will be one that can give free pages back.
    """
    if connection.execute("PRAGMA page_count").fetchall() == [(0,)]:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL").fetchall()
    # In one transaction: a migration by another process could fall between two of the reads.
    connection.execute("BEGIN")
    try:
        _check(connection, path)
    finally:
        _roll_back(connection)


def check_current(connection: sqlite3.Connection, path: str) -> None:
    """Raise `SchemaMismatch` unless `migrate` would change nothing. Only reads."""
    connection.execute("BEGIN")
    try:
        version = _check(connection, path)
        missing = ["store_id"] if _identity(connection) is None else list(_missing(connection))
    finally:
        _roll_back(connection)
    if version != VERSION or missing:
        state = f"has version {version}" if version != VERSION else f"lacks {', '.join(missing)}"
        raise SchemaMismatch(
            f"{path}: the schema {state}, and this goscope-sqlite uses version {VERSION}; the file "
            f"was left unchanged. Open it once with a program that uses this version"
        )


def migrate(connection: sqlite3.Connection, path: str) -> str:
    """Bring the tables to the current version in one transaction. Return the store's identity.

    Tables that another program has dropped are created again, empty. Several processes may do this
    at once: one of them migrates. After an error the file is as before. Raises errors of sqlite3,
    and `SchemaMismatch`.
    """
    identity = _identity(connection) if _version(connection, path) == VERSION else None
    if identity is None or _missing(connection):
        connection.execute("BEGIN IMMEDIATE")
        try:
            _migrate(connection, path)
            connection.execute("COMMIT")
        except BaseException:
            _roll_back(connection)
            raise
        identity = _identity(connection)
    assert identity is not None  # `_migrate` has written it
    return identity


def _migrate(connection: sqlite3.Connection, path: str) -> None:
    """Run the missing steps and repair the rest, in a transaction that holds the write lock."""
    # Check again: another process may have migrated before this one got the write lock.
    version = _check(connection, path)
    for step in _MIGRATIONS[version or 0 :]:
        for statement in step:
            connection.execute(statement)
    for name, sql in _missing(connection).items():
        logger.warning("%s: %s was missing and is created again, empty", path, name)
        connection.execute(sql)
    write = "INSERT OR REPLACE INTO go_goscope_meta VALUES (?, ?)"
    if version is None:  # never again: tokens must not repeat
        connection.execute(write, ("token", 0))
    if _identity(connection) is None:  # any other one serves as well
        connection.execute(write, ("store_id", secrets.token_hex(8)))
    if version != VERSION:
        connection.execute(write, ("schema_version", VERSION))


def _identity(connection: sqlite3.Connection) -> str | None:
    """The identity of the store, None if it is missing."""
    sql = "SELECT CAST(value AS BLOB) FROM go_goscope_meta WHERE key = 'store_id'"
    rows = connection.execute(sql).fetchall()
    return rows[0][0].decode(errors="replace") if rows and rows[0][0] else None


def _missing(connection: sqlite3.Connection) -> dict[str, str]:
    """The tables and indexes that are missing, and the statements that create them."""
    present = {row[0] for row in connection.execute("SELECT name FROM sqlite_master").fetchall()}
    return {name: sql for name, sql in _statements().items() if name not in present}


@cache
def _statements() -> dict[str, str]:
    """The statement that creates each table and each index of this version."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for statement in chain.from_iterable(_MIGRATIONS):
            connection.execute(statement)
        found = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        return dict(found.fetchall())


def _check(connection: sqlite3.Connection, path: str) -> int | None:
    """Return the version of the schema, None if there is none. Raise `SchemaMismatch`."""
    version = _version(connection, path)
    if version is not None and version > VERSION:
        raise SchemaMismatch(
            f"{path}: the schema has version {version}, and this goscope-sqlite knows versions up "
            f"to {VERSION}; the file was left unchanged. Upgrade goscope-sqlite"
        )
    # Once there is a version, only the tables shared with go-go-scope may have another creator.
    for table in _VERSION_1_TABLES if version is None else _SHARED_TABLES:
        found = {row[1] for row in connection.execute(f"PRAGMA table_info({table})").fetchall()}
        missing = _columns(_VERSION_1_TABLES[table]) - found
        if found and missing:
            raise SchemaMismatch(
                f"{path}: the table {table} lacks the columns {', '.join(sorted(missing))}, so it "
                f"is not goscope's; the file was left unchanged. Use another file"
            )
    return version


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:  # SQLite itself rolls back after some errors, as on a full disk
        connection.execute("ROLLBACK")


def _version(connection: sqlite3.Connection, path: str) -> int | None:
    """The version of the schema, None if goscope has not used the file.

    Raises `SchemaMismatch` if another program has removed it.
    """
    ours = "'go_goscope_meta', 'go_goscope_locks'"
    tables = f"SELECT name FROM sqlite_master WHERE type = 'table' AND name IN ({ours})"
    present = {row[0] for row in connection.execute(tables).fetchall()}
    if not present:
        return None
    found: object = "missing"
    if "go_goscope_meta" in present:
        version = """
            SELECT typeof(value), CAST(value AS INTEGER) FROM go_goscope_meta
            WHERE key = 'schema_version'
        """
        for kind, number in connection.execute(version).fetchall():
            if kind == "integer" and number > 0:
                return int(number)
            found = f"not a number, but of the type {kind}"
    raise SchemaMismatch(
        f"{path}: the schema version in the table go_goscope_meta is {found}, because another "
        f"program changed or dropped it; the file was left unchanged. Restore it from a backup, or "
        f"use another file"
    )


def _columns(definition: str) -> set[str]:
    lines = (line.split() for line in definition.strip().splitlines())
    return {words[0].rstrip(",") for words in lines if words[0] != "PRIMARY"}

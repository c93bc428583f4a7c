"""The tables, their version, and how times and texts are written into them.

Four tables are go-go-scope's, so that its files open here and ours open there. Whatever it does
not know is kept in tables of ours: a side row tells by a digest which stored text it belongs to,
and counts for nothing once another writer has replaced that text.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from typing import Final

from goscope.errors import SchemaMismatch

VERSION: Final = 1

PAGE: Final = 4096
"""Bytes of a page, unless the file's creator wanted others."""

_NOW: Final = "DEFAULT (CAST(strftime('%s', 'now') AS INTEGER))"

_TABLES: Final = {
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

_INDEXES: Final = """
    CREATE INDEX IF NOT EXISTS idx_cache_expires
        ON go_goscope_cache (expires_at) WHERE expires_at IS NOT NULL;
    CREATE INDEX IF NOT EXISTS idx_idempotency_expires
        ON go_goscope_idempotency (expires_at) WHERE expires_at IS NOT NULL;
    CREATE INDEX IF NOT EXISTS idx_checkpoints_task ON go_goscope_checkpoints (task_id);
    CREATE INDEX IF NOT EXISTS idx_checkpoints_sequence
        ON go_goscope_checkpoints (task_id, sequence);
"""


def check_schema(connection: sqlite3.Connection, path: str) -> None:
    """Raise `SchemaMismatch` if the file holds tables this version cannot work with. Only reads."""
    version = _version(connection)
    if version is not None and version > VERSION:
        raise SchemaMismatch(
            f"{path}: the schema has version {version}, and this goscope-sqlite knows versions up "
            f"to {VERSION}; the file was left as it is. Upgrade goscope-sqlite"
        )
    for table, definition in _TABLES.items():
        found = {row[1] for row in connection.execute(f"PRAGMA table_info({table})").fetchall()}
        missing = _columns(definition) - found
        if found and missing:
            raise SchemaMismatch(
                f"{path}: the table {table} lacks the columns {', '.join(sorted(missing))}, so it "
                f"is not goscope's; the file was left as it is. Use another file"
            )


def create_schema(connection: sqlite3.Connection) -> str:
    """Create what is missing, in one transaction; the identity of the store."""
    if _version(connection) is None:
        connection.execute("BEGIN IMMEDIATE")
        for table, definition in _TABLES.items():
            connection.execute(f"CREATE TABLE IF NOT EXISTS {table} ({definition})")
        for statement in _INDEXES.split(";"):
            connection.execute(statement)
        facts = {"schema_version": VERSION, "token": 0, "store_id": secrets.token_hex(8)}
        connection.executemany("INSERT OR IGNORE INTO go_goscope_meta VALUES (?, ?)", facts.items())
        connection.execute("COMMIT")
    identity = "SELECT value FROM go_goscope_meta WHERE key = 'store_id'"
    return str(connection.execute(identity).fetchall()[0][0])


def seconds(ms: int) -> int | float:
    """Epoch milliseconds as the seconds that are stored: whole ones as an integer."""
    return ms / 1000 if ms % 1000 else ms // 1000


def from_seconds(stored: float | None) -> int | None:
    """Stored seconds as epoch milliseconds; None stays None."""
    return None if stored is None else round(stored * 1000)


def digest(text: object) -> str:
    """What a side row remembers of the text it belongs to."""
    data = str(text).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def rows_of(text: str) -> int:
    """How many rows a text counts for when it is written: a long one takes the time of several."""
    return 1 + len(text) // PAGE


def upper_bound(start: str) -> str:
    """The least text above every one that begins with ``start``, in SQLite's byte order."""
    last = ord(start[-1])
    if last == 0x10FFFF:
        return upper_bound(start[:-1])
    after = last + 1
    return start[:-1] + chr(0xE000 if 0xD800 <= after < 0xE000 else after)


def _version(connection: sqlite3.Connection) -> int | None:
    meta = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'go_goscope_meta'"
    if not connection.execute(meta).fetchall():
        return None
    version = "SELECT value FROM go_goscope_meta WHERE key = 'schema_version'"
    rows = connection.execute(version).fetchall()
    return int(rows[0][0]) if rows else None


def _columns(definition: str) -> set[str]:
    lines = (line.split() for line in definition.strip().splitlines())
    return {words[0].rstrip(",") for words in lines if words[0] != "PRIMARY"}

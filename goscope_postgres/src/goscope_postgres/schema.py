"""The tables, and the migrations between their versions."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Final

import asyncpg

from goscope.errors import InvalidOption, SchemaMismatch

_NAME = re.compile(r"[a-z_][a-z0-9_]{0,39}", re.ASCII)
"""Together with a name of ours it fits into the 63 characters of an identifier."""


@dataclass(frozen=True, slots=True)
class Tables:
    """The names of the tables of one store. Raises `InvalidOption` for others than plain ones."""

    schema: str
    prefix: str

    def __post_init__(self) -> None:
        for option, name in (("schema", self.schema), ("table_prefix", self.prefix)):
            if not _NAME.fullmatch(name):
                raise InvalidOption(
                    option,
                    "PostgresAdapter",
                    f"must be at most 40 lower-case letters, digits or '_', not {name!r}",
                )

    def fill(self, sql: str) -> str:
        """The statement with the names in place of ``{cache}``, ``{lease}`` and so on."""
        return sql.format(**{name: f'"{self.schema}"."{self.prefix}{name}"' for name in _NAMES})


_NAMES: Final = (
    "cache",
    "checkpoint",
    "circuit",
    "lease",
    "meta",
    "process",
    "queue",
    "result",
    "task",
    "token",
)

_MIGRATIONS: Final = (
    """
    CREATE TABLE {meta} (
        one boolean PRIMARY KEY DEFAULT true CHECK (one),
        version integer NOT NULL,
        store_id text NOT NULL,
        token_offset bigint NOT NULL DEFAULT 0
    );
    CREATE SEQUENCE {token};
    CREATE TABLE {lease} (
        key text COLLATE "C" PRIMARY KEY,
        owner text NOT NULL,
        token bigint NOT NULL,
        expires_at timestamptz NOT NULL,
        acquired_at timestamptz NOT NULL,
        host text NOT NULL,
        pid bigint NOT NULL
    );
    CREATE INDEX ON {lease} (expires_at);
    CREATE UNLOGGED TABLE {queue} (
        key text COLLATE "C" NOT NULL,
        waiter text COLLATE "C" NOT NULL,
        since timestamptz NOT NULL,
        last_heartbeat timestamptz NOT NULL,
        PRIMARY KEY (key, waiter)
    );
    CREATE {unlogged} TABLE {cache} (
        key text COLLATE "C" PRIMARY KEY,
        value text NOT NULL,
        expires_at timestamptz NOT NULL DEFAULT 'infinity',
        kept_until timestamptz NOT NULL DEFAULT 'infinity',
        tags text[]
    );
    CREATE INDEX ON {cache} (kept_until) WHERE kept_until < 'infinity';
    CREATE INDEX ON {cache} USING gin (tags) WHERE tags IS NOT NULL;
    CREATE TABLE {circuit} (
        key text COLLATE "C" PRIMARY KEY,
        state text NOT NULL,
        failure_count bigint NOT NULL,
        last_failure_time bigint,
        last_success_time bigint,
        success_count bigint NOT NULL
    );
    CREATE TABLE {task} (
        task_id text COLLATE "C" PRIMARY KEY,
        sequence bigint NOT NULL,
        id text COLLATE "C" NOT NULL
    );
    CREATE TABLE {checkpoint} (
        task_id text COLLATE "C" NOT NULL,
        sequence bigint NOT NULL,
        id text COLLATE "C" NOT NULL UNIQUE,
        timestamp bigint NOT NULL,
        progress double precision NOT NULL,
        data text NOT NULL,
        estimated_time_remaining bigint,
        PRIMARY KEY (task_id, sequence)
    );
    CREATE TABLE {result} (
        key text COLLATE "C" PRIMARY KEY,
        value text NOT NULL,
        expires_at timestamptz NOT NULL DEFAULT 'infinity',
        fingerprint text
    );
    CREATE INDEX ON {result} (expires_at) WHERE expires_at < 'infinity';
    CREATE UNLOGGED TABLE {process} (
        id text COLLATE "C" PRIMARY KEY,
        host text NOT NULL,
        pid bigint NOT NULL,
        opened_at timestamptz NOT NULL,
        listed_until timestamptz NOT NULL
    );
    """,
)
"""The statements of each step; step n leads from version n - 1 to version n.

Never change a step once it is released: append one.
"""

VERSION: Final = len(_MIGRATIONS)

_READ: Final = "SELECT version, store_id FROM {meta}"
_HAS_META: Final = "SELECT 1 FROM pg_tables WHERE schemaname = $1 AND tablename = $2"
"""Not ``to_regclass``: it may remember from before the wait for the lock that there was none."""
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended('goscope schema', 0))"
_HAS_SCHEMA: Final = "SELECT 1 FROM pg_namespace WHERE nspname = $1"


async def migrate(connection: asyncpg.Connection, tables: Tables, *, unlogged_cache: bool) -> str:
    """Bring the tables to the current version. Return the store's identity.

    Several processes may do this at once: one of them migrates. After an error nothing has changed.
    Raises errors of asyncpg, and `SchemaMismatch`. Tables that exist need no privilege to create.
    """
    async with connection.transaction():
        found = await _read(connection, tables)
        if found is None or found[0] < VERSION:
            # CREATE TABLE IF NOT EXISTS fails if another session creates the same table.
            await connection.execute(_LOCK)
            found = await _read(connection, tables)
            await _migrate(connection, tables, found, unlogged_cache=unlogged_cache)
            found = await _read(connection, tables)
    assert found is not None
    version, store_id = found
    if version > VERSION:
        raise _newer(version, tables)
    return store_id


async def check_current(connection: asyncpg.Connection, tables: Tables) -> str:
    """The store's identity. Raises `SchemaMismatch` unless `migrate` would change nothing.

    Raises errors of asyncpg. Only reads.
    """
    found = await _read(connection, tables)
    if found is not None and found[0] > VERSION:
        raise _newer(found[0], tables)
    if found is None or found[0] < VERSION:
        state = "do not exist" if found is None else f"have version {found[0]}"
        raise SchemaMismatch(
            f"the tables {tables.schema}.{tables.prefix}* {state}, and this goscope-postgres uses "
            f"version {VERSION}; nothing was changed. Open the store once with a program that uses "
            f"this version"
        )
    return found[1]


def _newer(version: int, tables: Tables) -> SchemaMismatch:
    return SchemaMismatch(
        f"the tables {tables.schema}.{tables.prefix}* have version {version}, and this "
        f"goscope-postgres knows versions up to {VERSION}; nothing was changed. "
        f"Upgrade goscope-postgres"
    )


async def exists(connection: asyncpg.Connection, tables: Tables) -> bool:
    """Whether the tables exist. Raises errors of asyncpg."""
    return await _read(connection, tables) is not None


async def _read(connection: asyncpg.Connection, tables: Tables) -> tuple[int, str] | None:
    """The version and the identity, None in a database without the tables."""
    if not await connection.fetchval(_HAS_META, tables.schema, f"{tables.prefix}meta"):
        return None
    row = await connection.fetchrow(tables.fill(_READ))
    return None if row is None else (row[0], row[1])


async def _migrate(
    connection: asyncpg.Connection,
    tables: Tables,
    found: tuple[int, str] | None,
    *,
    unlogged_cache: bool,
) -> None:
    """Run the missing steps, in a transaction that holds the lock."""
    if found is not None and found[0] >= VERSION:
        return
    # First a look: CREATE SCHEMA IF NOT EXISTS needs its privilege even if there is one.
    if not await connection.fetchval(_HAS_SCHEMA, tables.schema):
        await connection.execute(f'CREATE SCHEMA "{tables.schema}"')
    version, store_id = found or (0, secrets.token_hex(8))
    for step in _MIGRATIONS[version:]:
        unlogged = "UNLOGGED" if unlogged_cache else ""
        await connection.execute(tables.fill(step.replace("{unlogged}", unlogged)))
    await connection.execute(
        tables.fill("""
            INSERT INTO {meta} (version, store_id) VALUES ($1, $2)
            ON CONFLICT (one) DO UPDATE SET version = excluded.version
        """),
        VERSION,
        store_id,
    )

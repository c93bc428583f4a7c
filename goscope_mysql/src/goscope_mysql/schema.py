"""The tables, and creating them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Final

from goscope.errors import BackendBusy, SchemaMismatch

from ._engine.connection import Connection
from ._engine.errors import NO_SUCH_TABLE, code_of

VERSION: Final = 1

CREATE_WAIT_S: Final = 30
"""How long to wait for another process that creates the tables."""

KEY_LENGTH: Final = 700
"""Characters of a stored key: prefix, namespace and 528 of a lease. An index takes 768 at most."""

MAX_PREFIX_LENGTH: Final = 128

_KEY: Final = f"VARCHAR({KEY_LENGTH})"

_TABLES: Final = {
    "meta": """
        name VARCHAR(32) PRIMARY KEY,
        value VARCHAR(64) NOT NULL
    """,
    # Released, a lease has token 0 and keeps last_token: the next grant's is greater.
    "leases": f"""
        `key` {_KEY} PRIMARY KEY,
        token BIGINT NOT NULL,
        last_token BIGINT NOT NULL,
        owner VARCHAR(512) NOT NULL,
        host VARCHAR(255) NOT NULL,
        pid BIGINT NOT NULL,
        grant_id BIGINT NOT NULL,
        acquired_at BIGINT NOT NULL,
        expires_at BIGINT NOT NULL,
        INDEX leases_expire (expires_at)
    """,
    # kept_until is when the entry cannot be served any more, not even as stale. tags, a list in
    # JSON, counts where there is a tagging.
    "cache": f"""
        `key` {_KEY} PRIMARY KEY,
        value LONGTEXT NOT NULL,
        expires_at BIGINT,
        kept_until BIGINT,
        tagging BIGINT,
        tags LONGTEXT,
        created_at BIGINT NOT NULL,
        INDEX cache_expire (kept_until)
    """,
    # A row counts while its entry has the same tagging: a write without tags need not delete it.
    "cache_tags": f"""
        tag BINARY(16) NOT NULL,
        entry BINARY(16) NOT NULL,
        `key` {_KEY} NOT NULL,
        tagging BIGINT NOT NULL,
        PRIMARY KEY (tag, entry)
    """,
    "circuits": f"""
        `key` {_KEY} PRIMARY KEY,
        state VARCHAR(16) NOT NULL,
        failure_count BIGINT NOT NULL,
        last_failure_time BIGINT,
        last_success_time BIGINT,
        success_count BIGINT NOT NULL,
        updated_at BIGINT NOT NULL
    """,
    # Saving locks the task's row: among checkpoints alone a lower one could follow a higher one.
    "tasks": f"""
        task_id {_KEY} PRIMARY KEY
    """,
    "checkpoints": f"""
        id {_KEY} PRIMARY KEY,
        task_id {_KEY} NOT NULL,
        sequence BIGINT NOT NULL,
        `timestamp` BIGINT NOT NULL,
        progress DOUBLE NOT NULL,
        data LONGTEXT NOT NULL,
        estimated_time_remaining BIGINT,
        created_at BIGINT NOT NULL,
        UNIQUE INDEX checkpoints_task (task_id, sequence)
    """,
    "results": f"""
        `key` {_KEY} PRIMARY KEY,
        value LONGTEXT NOT NULL,
        fingerprint TEXT,
        expires_at BIGINT,
        created_at BIGINT NOT NULL,
        INDEX results_expire (expires_at)
    """,
    "processes": """
        id VARCHAR(64) PRIMARY KEY,
        host VARCHAR(255) NOT NULL,
        pid BIGINT NOT NULL,
        opened_at BIGINT NOT NULL,
        listed_until BIGINT NOT NULL
    """,
}
"""All times are epoch microseconds of the server, except those a checkpoint brings along."""


_CREATING: Final = "CONCAT('goscope ', LEFT(SHA2(CONCAT(DATABASE(), '{meta}'), 256), 40))"
"""The name of a lock of the server. Such names belong to all its databases."""


def table_names(prefix: str) -> dict[str, str]:
    """The name of each table in SQL."""
    return {table: f"`{prefix}{table}`" for table in _TABLES}


async def prepare(connection: Connection, name: str) -> str:
    """Create the tables if they are missing. Return the identity of the store.

    Any number of processes may do this at once. Raises `SchemaMismatch` for tables of a newer
    version.
    """
    facts = await _facts(connection)
    if facts is None:
        await _create(connection, name)
        facts = await _facts(connection) or {}
    _check_not_newer(facts, name)
    return facts["store_id"]


async def check_current(connection: Connection, name: str) -> str:
    """The identity of the store. Raises `SchemaMismatch` unless `prepare` would change nothing.

    Only reads.
    """
    facts = await _facts(connection)
    if facts is not None:
        _check_not_newer(facts, name)
    if facts is None or int(facts["schema_version"]) < VERSION:
        state = "do not exist" if facts is None else f"have version {facts['schema_version']}"
        raise SchemaMismatch(
            f"{name}: the tables {state}, and this goscope-mysql uses version {VERSION}; nothing "
            f"was changed. Open the store once with a program that uses this version"
        )
    return facts["store_id"]


def _check_not_newer(facts: Mapping[str, str], name: str) -> None:
    if int(facts["schema_version"]) > VERSION:
        raise SchemaMismatch(
            f"{name}: the tables have version {facts['schema_version']}, and this goscope-mysql "
            f"knows versions up to {VERSION}; they were left unchanged. Upgrade goscope-mysql"
        )


async def exists(connection: Connection) -> bool:
    """Whether the tables exist."""
    return await _facts(connection) is not None


async def _facts(connection: Connection) -> dict[str, str] | None:
    """The rows of the table meta, None if there is no complete set of tables."""
    try:
        ((_, _, rows),) = await connection.script([("SELECT name, value FROM {meta}", ())])
    except Exception as exc:
        if code_of(exc) == NO_SUCH_TABLE:
            return None
        raise
    facts: dict[str, str] = dict(rows)
    return facts if "schema_version" in facts else None


async def _create(connection: Connection, name: str) -> None:
    """Create the tables, one process at a time: the server would deadlock otherwise."""
    ((_, _, ((locked,),)),) = await connection.script(
        [(f"SELECT GET_LOCK({_CREATING}, ?)", (CREATE_WAIT_S,))]
    )
    if locked != 1:
        raise BackendBusy(
            f"{name}: another process has been creating the tables for {CREATE_WAIT_S} s. "
            f"Connect again"
        )
    try:
        collation = "utf8mb4_nopad_bin" if connection.is_mariadb else "utf8mb4_0900_bin"
        for table, definition in _TABLES.items():
            await connection.script(
                [
                    (
                        f"CREATE TABLE IF NOT EXISTS {{{table}}} ({definition}) "
                        f"ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 "
                        f"COLLATE {collation}",
                        (),
                    )
                ]
            )
        # Last, so that the tables count as complete with it.
        await connection.script(
            [
                (
                    "INSERT IGNORE INTO {meta} (name, value) VALUES ('token', '0'), "
                    "('store_id', ?), ('schema_version', ?)",
                    (secrets.token_hex(8), str(VERSION)),
                )
            ]
        )
    finally:
        if not connection.is_lost:
            await connection.script([(f"DO RELEASE_LOCK({_CREATING})", ())])

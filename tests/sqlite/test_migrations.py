"""Migrating the file of an older schema: no row is lost, whatever interrupts or races it."""

# ruff: noqa: ASYNC240  # reading a small local file blocks nobody here

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from goscope.errors import BackendError, SchemaMismatch
from goscope.testing import FakeClock
from goscope_sqlite import SQLiteAdapter
from goscope_sqlite.columns import digest
from goscope_sqlite.schema import _MIGRATIONS, VERSION, check_schema, migrate

from .conftest import Query

VERSION_1 = _MIGRATIONS[0]
TO_VERSION_2 = _MIGRATIONS[1]

RENAMED = {
    "go_goscope_cache_side": "go_goscope_cache_companion",
    "go_goscope_circuit_side": "go_goscope_circuit_companion",
    "go_goscope_idempotency_side": "go_goscope_idempotency_companion",
    "go_goscope_lock_waiters": "go_goscope_lock_queue",
}

TEXT = '{"id":1}'

ROWS: dict[str, list[tuple[Any, ...]]] = {
    "go_goscope_cache": [
        ("cache:plain", '"plain"', None, 1_700_000_000),
        ("cache:tagged", TEXT, 1_700_000_100.25, 1_700_000_000),
    ],
    "go_goscope_cache_side": [("cache:tagged", digest(TEXT), 1_700_003_600_000, '["tag"]')],
    "go_goscope_cache_tags": [("tag", "cache:tagged")],
    "go_goscope_circuit": [("circuit:api", "half-open", 3, 1, 2, 5)],
    "go_goscope_circuit_side": [("circuit:api", "half-open:3:5", 4)],
    "go_goscope_checkpoints": [("id", "task", 7, 8, 50, "[1]", None, 1_700_000_000)],
    "go_goscope_idempotency": [("charge", TEXT, None, 1_700_000_000, 1_700_000_000)],
    "go_goscope_idempotency_side": [("charge", digest(TEXT), "fingerprint")],
    "go_goscope_meta": [("token", 41), ("store_id", "an old store"), ("schema_version", 1)],
}


def create_version_1(path: Path, clock: FakeClock | None = None) -> None:
    """Create a file at version 1 with rows in every table, one held lease and one waiter."""
    clock = clock or FakeClock()
    now = clock.steady_ms()
    grant = ("lock:key", "owner", 41, now + 60_000, clock.boot_id, "host", 1, "", "", 0)
    rows = ROWS | {
        "go_goscope_locks": [grant],
        "go_goscope_lock_waiters": [("lock:key", "waiter", clock.boot_id, now, now)],
    }
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        for statement in VERSION_1:
            connection.execute(statement)
        for table, values in rows.items():
            places = ", ".join("?" * len(values[0]))
            connection.executemany(f"INSERT INTO {table} VALUES ({places})", values)


def rows_of(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of every table, in order."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {
            name: connection.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall()
            for (name,) in tables.fetchall()
        }


def schema_of(path: Path) -> set[tuple[str, str, str]]:
    """Type, name and normalised SQL of every object with SQL in the file."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        objects = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE sql NOT NULL")
        return {(kind, name, " ".join(sql.split())) for kind, name, sql in objects.fetchall()}


def connect(path: Path, factory: type[sqlite3.Connection] = sqlite3.Connection) -> Any:
    """Open a connection as the writer does, for any thread."""
    return contextlib.closing(
        sqlite3.connect(
            path, factory=factory, isolation_level=None, timeout=60, check_same_thread=False
        )
    )


def at_current_version(rows: dict[str, list[tuple[Any, ...]]]) -> dict[str, Any]:
    """The rows of a file at version 1 as a migrated file holds them."""
    expected = {RENAMED.get(table, table): values for table, values in rows.items()}
    meta = dict(rows["go_goscope_meta"]) | {"schema_version": VERSION}
    return expected | {"go_goscope_meta": sorted(meta.items()), "go_goscope_processes": []}


# --- every row survives --------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_every_row_of_a_version_1_file_survives(path: Path, clock: FakeClock) -> None:
    create_version_1(path, clock)
    before = rows_of(path)
    assert all(before.values()), "a table of version 1 has no row"
    async with SQLiteAdapter(path, clock=clock):
        pass
    assert rows_of(path) == at_current_version(before)


@pytest.mark.asyncio
async def test_the_adapter_reads_what_version_1_stored(path: Path, clock: FakeClock) -> None:
    create_version_1(path, clock)
    async with SQLiteAdapter(path, locks="shared", clock=clock) as adapter:
        assert adapter.context.store_id == "an old store"
        assert await adapter.cache.get("plain") == "plain"
        entry = await adapter.cache.get_entry("tagged")
        assert entry is not None
        assert (entry.value, entry.expires_at) == ({"id": 1}, 1_700_000_100_250)
        assert entry.stale_until == 1_700_003_600_000
        assert await adapter.cache.delete_by_tag("tag") == 1
        assert await adapter.cache.get_entry("tagged") is None
        state = await adapter.circuit_breaker.get_state("api")
        assert state is not None
        assert (state.state, state.failure_count, state.success_count) == ("half-open", 3, 4)
        checkpoint = await adapter.checkpoint.load_latest("task")
        assert checkpoint is not None
        assert (checkpoint.id, checkpoint.sequence, checkpoint.data) == ("id", 7, [1])
        result = await adapter.idempotency.get("charge")
        assert result is not None
        assert (result.value, result.fingerprint) == ({"id": 1}, "fingerprint")


@pytest.mark.asyncio
async def test_a_lease_and_a_waiter_of_version_1_stay_valid(path: Path, clock: FakeClock) -> None:
    create_version_1(path, clock)
    async with SQLiteAdapter(path, locks="shared", clock=clock) as adapter:
        holder = await adapter.lock.holder("key")
        assert holder is not None
        assert (holder.owner, holder.fencing_token, holder.expires_in_ms) == ("owner", 41, 60_000)
        await adapter.lock.force_release("key")
        assert await adapter.lock.acquire("key") is None, "the waiter comes first"
        await clock.advance("1s")
        handle = await adapter.lock.acquire("key")
        assert handle is not None
        assert handle.fencing_token == 42


@pytest.mark.asyncio
async def test_a_migrated_file_has_the_schema_of_a_new_one(path: Path) -> None:
    create_version_1(path)
    new = path.with_name("new.db")
    for each in (path, new):
        async with SQLiteAdapter(each):
            pass
    assert schema_of(path) == schema_of(new)


@pytest.mark.asyncio
async def test_a_broken_view_of_the_host_application_does_not_prevent_a_migration(
    path: Path, query: Query
) -> None:
    create_version_1(path)
    query("CREATE VIEW broken AS SELECT * FROM a_table_that_was_dropped")
    async with SQLiteAdapter(path) as adapter:
        assert await adapter.cache.get("plain") == "plain"


@pytest.mark.asyncio
async def test_a_file_with_only_the_tables_of_go_go_scope_is_extended(
    path: Path, query: Query
) -> None:
    for statement in VERSION_1:
        shared = ("_circuit ", "_cache ", "_checkpoints ", "_idempotency ")
        if "go_goscope" in statement and any(f"go_goscope{name}" in statement for name in shared):
            query(statement)
    assert len(rows_of(path)) == 4
    query("INSERT INTO go_goscope_cache (key, value) VALUES ('cache:key', '1')")
    async with SQLiteAdapter(path) as adapter:
        assert await adapter.cache.get("key") == 1
        await adapter.cache.set("key", 2, tags=["tag"])
        assert await adapter.cache.delete_by_tag("tag") == 1


# --- several processes ---------------------------------------------------------------------------

OPEN = """
import asyncio, sys
from goscope_sqlite import SQLiteAdapter

async def main():
    async with SQLiteAdapter(sys.argv[1], busy_timeout="60s") as adapter:
        await adapter.cache.increment("opened")

print("ready", flush=True)
sys.stdin.readline()
asyncio.run(main())
"""


@pytest.mark.asyncio
async def test_processes_that_open_a_version_1_file_at_once_all_succeed(path: Path) -> None:
    create_version_1(path)
    before = at_current_version(rows_of(path))
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", OPEN, path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"\n")
    outcomes = await asyncio.gather(*(process.communicate() for process in processes))
    assert [process.returncode for process in processes] == [0] * 4, outcomes
    async with SQLiteAdapter(path) as adapter:
        assert await adapter.cache.get("opened") == 4
        assert await adapter.cache.delete("opened")
    assert rows_of(path) == before


class PausedAtCommit(sqlite3.Connection):
    """A connection that waits before each commit until it is resumed."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.reached = threading.Event()
        self.resumed = threading.Event()

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if sql == "COMMIT":
            self.reached.set()
            assert self.resumed.wait(60)
        return super().execute(sql, parameters)


@pytest.mark.asyncio
async def test_the_process_that_gets_the_write_lock_second_migrates_nothing(path: Path) -> None:
    """It saw version 1 before it waited for the lock."""
    create_version_1(path)
    with connect(path, PausedAtCommit) as first, connect(path) as second:
        migrating = asyncio.create_task(asyncio.to_thread(migrate, first, str(path)))
        assert await asyncio.to_thread(first.reached.wait, 60)
        statements: list[str] = []
        waits = threading.Event()

        def trace(statement: str) -> None:
            statements.append(statement)
            if statement == "BEGIN IMMEDIATE":
                waits.set()

        second.set_trace_callback(trace)
        waiting = asyncio.create_task(asyncio.to_thread(migrate, second, str(path)))
        assert await asyncio.to_thread(waits.wait, 60)
        first.resumed.set()
        assert await migrating == await waiting == "an old store"
    assert "BEGIN IMMEDIATE" in statements
    assert not [statement for statement in statements if statement.startswith(("CREATE", "DROP"))]


@pytest.mark.asyncio
async def test_a_newer_version_that_appears_during_the_wait_is_refused(path: Path) -> None:
    create_version_1(path)
    with connect(path) as newer, connect(path) as waiting:
        newer.execute("BEGIN IMMEDIATE")
        newer.execute(
            "UPDATE go_goscope_meta SET value = ? WHERE key = 'schema_version'", (VERSION + 1,)
        )
        waits = threading.Event()

        def trace(statement: str) -> None:
            if statement == "BEGIN IMMEDIATE":
                waits.set()

        waiting.set_trace_callback(trace)
        migrating = asyncio.create_task(asyncio.to_thread(migrate, waiting, str(path)))
        assert await asyncio.to_thread(waits.wait, 60)
        newer.execute("COMMIT")
        with pytest.raises(SchemaMismatch, match="Upgrade goscope-sqlite"):
            await migrating
        assert not waiting.in_transaction
    assert "go_goscope_cache_side" in rows_of(path)


def test_the_check_of_a_schema_is_not_confused_by_a_concurrent_migration(path: Path) -> None:
    """Outside of one transaction it would read a version and the tables of another one."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
    migrated = False

    class MigratedInBetween(sqlite3.Connection):
        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            nonlocal migrated
            if "table_info" in sql and not migrated:
                migrated = True
                with connect(path) as other:
                    migrate(other, str(path))
                    # As a later migration may do:
                    other.execute("DROP TABLE go_goscope_locks")
                    other.execute("CREATE TABLE go_goscope_locks (key TEXT PRIMARY KEY)")
            return super().execute(sql, parameters)

    with connect(path, MigratedInBetween) as connection:
        check_schema(connection, str(path))
        assert migrated
        assert not connection.in_transaction


# --- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize("done", range(len(TO_VERSION_2) + 1))
def test_a_connection_closed_before_the_commit_leaves_version_1(path: Path, done: int) -> None:
    create_version_1(path)
    before = rows_of(path)
    with connect(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        for statement in TO_VERSION_2[:done]:
            connection.execute(statement)
    assert rows_of(path) == before
    with connect(path) as connection:
        assert migrate(connection, str(path)) == "an old store"
    assert rows_of(path) == at_current_version(before)


KILLED = """
import os, signal, sqlite3, sys
from goscope_sqlite.schema import migrate

class Killed(sqlite3.Connection):
    def execute(self, sql, parameters=()):
        if sql.lstrip().startswith(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().execute(sql, parameters)

migrate(sqlite3.connect(sys.argv[1], factory=Killed, isolation_level=None), sys.argv[1])
"""


@pytest.mark.parametrize("statement", ["INSERT INTO", "DROP", "COMMIT"])
@pytest.mark.asyncio
async def test_a_process_killed_during_a_migration_leaves_version_1(
    path: Path, statement: str
) -> None:
    create_version_1(path)
    before = rows_of(path)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, path, statement)
    assert await process.wait() == -signal.SIGKILL
    assert rows_of(path) == before
    async with SQLiteAdapter(path):
        pass
    assert rows_of(path) == at_current_version(before)


@pytest.mark.asyncio
async def test_a_migration_that_fails_leaves_version_1(path: Path, query: Query) -> None:
    create_version_1(path)
    query("CREATE TABLE go_goscope_lock_queue (of_the INTEGER, host_application INTEGER)")
    before = rows_of(path)
    with pytest.raises(BackendError, match="already exists"):
        await SQLiteAdapter(path).connect()
    assert rows_of(path) == before
    query("DROP TABLE go_goscope_lock_queue")
    async with SQLiteAdapter(path) as adapter:
        assert await adapter.cache.get("plain") == "plain"


@pytest.mark.asyncio
async def test_a_file_of_a_newer_version_is_refused_and_stays_byte_identical(
    path: Path, query: Query
) -> None:
    async with SQLiteAdapter(path) as adapter:
        await adapter.cache.set("key", 1)
    query("UPDATE go_goscope_meta SET value = ? WHERE key = 'schema_version'", VERSION + 1)
    before = path.read_bytes()
    with pytest.raises(SchemaMismatch, match=f"version {VERSION + 1}.*left unchanged"):
        await SQLiteAdapter(path).connect()
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert json.loads(query("SELECT value FROM go_goscope_cache")[0][0]) == 1


@pytest.mark.asyncio
async def test_a_migration_waits_for_another_writer(path: Path) -> None:
    create_version_1(path)
    with connect(path) as writer:
        writer.execute("BEGIN IMMEDIATE")
        adapter = SQLiteAdapter(path, busy_timeout="60s")
        connecting = asyncio.create_task(adapter.connect())
        done, _ = await asyncio.wait([connecting], timeout=0.1)
        assert not done
        writer.execute("COMMIT")
        await connecting
        await adapter.disconnect()
    assert "go_goscope_lock_queue" in rows_of(path)

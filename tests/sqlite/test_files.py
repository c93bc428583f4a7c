"""Paths that cannot hold a store, each refused with its own error; and paths that can."""

# ruff: noqa: ASYNC240  # reading a small local file blocks nobody here

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiosqlite
import pytest

from goscope.errors import (
    BackendCorrupt,
    BackendFull,
    BackendUnavailable,
    ConfigurationError,
    InvalidOption,
    SchemaMismatch,
)
from goscope_sqlite import SQLiteAdapter
from goscope_sqlite._engine import connection, file

pytestmark = pytest.mark.asyncio

Query = Callable[..., list[tuple[Any, ...]]]


async def refused(path: Path | str, error: type[Exception], sentence: str) -> None:
    """Connecting raises the error, and leaves every file in the folder unchanged."""
    folder = Path(path).parent
    before = contents(folder)
    adapter = SQLiteAdapter(path)
    with pytest.raises(error, match=sentence):
        await adapter.connect()
    assert not adapter.is_connected
    assert contents(folder) == before


def contents(folder: Path) -> dict[str, bytes]:
    if not folder.is_dir():
        return {}
    return {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.is_file()}


# --- paths that are refused --------------------------------------------------------------------


async def test_a_directory_is_refused(tmp_path: Path) -> None:
    await refused(tmp_path, InvalidOption, "is a directory: name a file in it")


async def test_a_file_in_a_missing_directory_is_refused(tmp_path: Path) -> None:
    await refused(tmp_path / "none" / "a.db", InvalidOption, "does not exist: create it first")


@pytest.mark.parametrize("path", ["", "file:app.db?mode=ro", "a\0b"])
async def test_an_invalid_path_is_refused(path: str) -> None:
    with pytest.raises(InvalidOption, match="must be the path of a file"):
        await SQLiteAdapter(path).connect()


async def test_a_file_that_is_not_a_database_is_refused(path: Path) -> None:
    path.write_bytes(b"A letter to a friend, not a database.\n" * 100)
    await refused(path, BackendCorrupt, "not an SQLite database.*restore the file from a backup")


async def test_a_newer_schema_is_refused(path: Path, query: Query) -> None:
    query("CREATE TABLE go_goscope_meta (key TEXT PRIMARY KEY, value)")
    query("INSERT INTO go_goscope_meta VALUES ('schema_version', 99)")
    await refused(path, SchemaMismatch, "version 99.*Upgrade goscope-sqlite")


async def test_another_programs_tables_of_the_same_name_are_refused(
    path: Path, query: Query
) -> None:
    query("CREATE TABLE go_goscope_cache (id INTEGER, value TEXT)")
    await refused(path, SchemaMismatch, "go_goscope_cache lacks the columns created_at, expires")


async def test_a_network_file_system_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mountinfo = path.with_name("mountinfo")
    mountinfo.write_text(
        f"22 1 8:1 / / rw,relatime - ext4 /dev/vda rw\n"
        f"23 22 0:40 / {path.parent}/with\\040space rw - nfs4 server:/export rw\n"
        f"24 22 0:41 / {path.parent}/local rw - tmpfs none rw\n"
    )
    monkeypatch.setattr(file, "MOUNTINFO", mountinfo)
    for name in ("with space", "local"):
        path.with_name(name).mkdir()
    await refused(path.with_name("with space") / "a.db", InvalidOption, r"network.*\(nfs4\)")
    for local in (path, path.with_name("local") / "a.db"):
        async with SQLiteAdapter(local):
            pass


@pytest.mark.parametrize("kind", ["virtiofs", "9p", "fuse.grpcfuse", "vboxsf", "fuse.juicefs"])
async def test_a_file_system_shared_with_a_host_is_refused_unless_it_is_allowed(
    path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    mountinfo = path.with_name("mountinfo")
    mountinfo.write_text(f"22 1 8:1 / {path.parent} rw,relatime - {kind} host rw\n")
    monkeypatch.setattr(file, "MOUNTINFO", mountinfo)
    await refused(path, InvalidOption, rf"shared with a host \({kind}\).*allow_shared_filesystem")
    async with SQLiteAdapter(path, allow_shared_filesystem=True) as adapter:
        await adapter.cache.set("key", 1)


async def test_an_outdated_sqlite_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MINIMUM_SQLITE", (99, 0, 0))
    await refused(path, BackendUnavailable, r"needs 3\.35")


READ_ONLY = """
import asyncio, os, sys
from goscope.errors import BackendUnavailable
from goscope_sqlite import SQLiteAdapter
async def main():
    if os.getuid() == 0:
        os.setuid(65534)  # root ignores file permissions
    try:
        await SQLiteAdapter(sys.argv[1]).connect()
    except BackendUnavailable as exc:
        assert "write access" in str(exc), exc
        print("refused")
asyncio.run(main())
"""


async def test_a_read_only_file_is_refused() -> None:
    with tempfile.TemporaryDirectory() as name:  # other users cannot enter tmp_path
        folder = Path(name)
        path = folder / "a.db"
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE t (a)")
        path.chmod(0o444)
        folder.chmod(0o555)
        before = contents(folder)
        run = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", READ_ONLY, str(path)],
            # Without coverage: the other user cannot write its data.
            env={key: it for key, it in os.environ.items() if not key.startswith("COVERAGE")},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (run.stdout, run.stderr) == ("refused\n", "")
        assert contents(folder) == before
        folder.chmod(0o755)


async def test_a_full_disk_refuses_writes_and_keeps_stored_data(
    adapter: SQLiteAdapter, query: Query
) -> None:
    await adapter.cache.set("key", "kept")
    pages = query("PRAGMA page_count")[0][0]

    def fill_up(connection: sqlite3.Connection) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}").fetchall()

    await adapter._database.submit(fill_up)
    with pytest.raises(BackendFull, match=r"store\.db: the disk is full"):
        await adapter.cache.set("big", "x" * 100_000)
    assert await adapter.cache.get("key") == "kept"
    assert query("PRAGMA integrity_check") == [("ok",)]


# --- paths that work ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["with space.db", "50%.db", "a?b#c.db", "ümläut 🙂.db", "a'b\".db"]
)
async def test_a_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    async with SQLiteAdapter(tmp_path / name) as adapter:
        await adapter.cache.set("key", 1)
        assert await adapter.cache.get("key") == 1
    assert [file.name for file in tmp_path.iterdir()] == [name]


async def test_the_store_shares_a_file_with_the_host_application(path: Path, query: Query) -> None:
    """Its tables and its ``user_version`` stay unchanged."""
    query("CREATE TABLE users (id INTEGER)")
    query("INSERT INTO users VALUES (42)")
    query("PRAGMA user_version = 7")
    async with SQLiteAdapter(path) as adapter:
        await adapter.cache.set("key", 1)
    assert query("SELECT id FROM users") == [(42,)]
    assert query("PRAGMA user_version") == [(7,)]


async def test_a_connection_of_the_host_only_names_the_file(path: Path) -> None:
    async with aiosqlite.connect(path) as host:
        statements: list[str] = []
        await host.set_trace_callback(statements.append)  # pyright: ignore[reportUnknownMemberType]  # aiosqlite: bare Callable
        async with SQLiteAdapter(host) as adapter:
            await adapter.cache.set("key", 1)
            assert await adapter.cache.get("key") == 1
        assert statements == ["PRAGMA database_list"]
        assert list(await host.execute_fetchall("SELECT 1")) == [(1,)]
    assert path.exists()


async def test_a_connection_to_a_database_in_memory_is_refused() -> None:
    async with aiosqlite.connect(":memory:") as host:
        with pytest.raises(ConfigurationError, match="in memory"):
            await SQLiteAdapter(host).connect()


async def test_a_closed_connection_is_refused(path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not open"):
        await SQLiteAdapter(aiosqlite.connect(path)).connect()


@pytest.mark.parametrize(
    ("option", "value"), [("locks", "redis"), ("durability", "high"), ("reads", "fast")]
)
async def test_an_invalid_option_is_named(path: Path, option: str, value: str) -> None:
    options: dict[str, Any] = {option: value}
    with pytest.raises(InvalidOption, match=f"'{option}'.*not '{value}'"):
        SQLiteAdapter(path, **options)


@pytest.mark.parametrize(("durability", "synchronous"), [("normal", 1), ("full", 2)])
async def test_the_writer_has_the_requested_pragmas_and_no_automatic_checkpoint(
    path: Path, durability: Any, synchronous: int
) -> None:
    def pragma(name: str) -> Callable[[sqlite3.Connection], Any]:
        return lambda connection: connection.execute(f"PRAGMA {name}").fetchall()[0][0]

    async with SQLiteAdapter(path, durability=durability, foreign_keys=True) as adapter:
        submit = adapter._database.submit
        assert await submit(pragma("synchronous")) == synchronous
        assert await submit(pragma("journal_mode")) == "wal"
        assert await submit(pragma("wal_autocheckpoint")) == 0
        assert await submit(pragma("foreign_keys")) == 1

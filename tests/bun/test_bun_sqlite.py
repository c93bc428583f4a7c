"""The API of ``bun:sqlite`` returns the same values here as under Bun."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import goscope
from goscope.errors import ConfigurationError, InvalidOption
from goscope_bun_compat import BunSQLiteAdapter, BunSQLiteOptions, Database

UNDER_BUN = """
import { Database } from "bun:sqlite";
const database = new Database(process.argv[1]);
const results = JSON.parse(process.argv[2]).map(([method, sql, ...parameters]) =>
  method === "exec" ? database.run(sql, parameters) : database.query(sql)[method](...parameters));
console.log(JSON.stringify(results));
database.close();
"""

CALLS: list[list[Any]] = [
    ["exec", "CREATE TABLE pets (id INTEGER PRIMARY KEY, name TEXT, weight REAL)"],
    ["run", "INSERT INTO pets (name, weight) VALUES (?, ?)", "Ada", 4.5],
    ["run", "INSERT INTO pets (name, weight) VALUES (?1, ?2), ('Bob', NULL)", "Éva 😀", 1],
    ["all", "SELECT * FROM pets ORDER BY id"],
    ["get", "SELECT name FROM pets WHERE weight > ?", 4],
    ["get", "SELECT name FROM pets WHERE id = ?", 99],
    ["all", "SELECT name FROM pets WHERE id = ?", 99],
    ["get", "SELECT count(*) AS n, max(weight) AS most FROM pets"],
    ["run", "UPDATE pets SET weight = 2 WHERE weight IS NULL"],
    ["exec", "DELETE FROM pets WHERE id <= ?", 2],
    ["run", "DELETE FROM pets WHERE id = 99"],
]


def test_every_call_returns_the_same_as_under_bun(bun: str, tmp_path: Path) -> None:
    command = [bun, "-e", UNDER_BUN, str(tmp_path / "bun.db"), json.dumps(CALLS)]
    under_bun = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    with Database(tmp_path / "python.db") as database:
        results = [call(database, *each) for each in CALLS]
    assert results == json.loads(under_bun)


def call(database: Database, method: str, sql: str, *parameters: Any) -> Any:
    """Make the call. Return its result under the names of JavaScript."""
    if method in ("all", "get"):
        return getattr(database.query(sql), method)(*parameters)
    statement = database.query(sql)
    changes = database.run(sql, *parameters) if method == "exec" else statement.run(*parameters)
    result = asdict(changes)
    return {"changes": result["changes"], "lastInsertRowid": result["last_insert_rowid"]}


def test_parameters_can_be_passed_by_name_or_as_a_list(tmp_path: Path) -> None:
    with Database(tmp_path / "app.db") as database:
        assert database.query("SELECT $a + :b AS sum").get({"a": 1, "b": 2}) == {"sum": 3}
        assert database.query("SELECT ? + ? AS sum").get([1, 2]) == {"sum": 3}


def test_a_statement_does_not_wait_for_a_lock_by_default(tmp_path: Path) -> None:
    with Database(tmp_path / "app.db") as one, Database(tmp_path / "app.db") as two:
        one.run("CREATE TABLE t (a)")
        one.run("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            two.run("INSERT INTO t VALUES (1)")
        one.run("COMMIT")
        assert two.query("PRAGMA busy_timeout").get() == {"timeout": 0}


def test_closing_twice_does_nothing(tmp_path: Path) -> None:
    database = Database(tmp_path / "app.db")
    database.close()
    database.close()
    with pytest.raises(sqlite3.ProgrammingError):
        database.query("SELECT 1").get()


# --- the adapter -------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_an_adapter_on_a_database_leaves_it_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Database("app.db") as database:
        monkeypatch.chdir("/")
        async with BunSQLiteAdapter(database, key_prefix="shop:") as adapter:
            await adapter.cache.set("key", [1])
            found = database.query("SELECT key, value FROM go_goscope_cache").all()
        assert found == [{"key": "shop:cache:key", "value": "[1]"}]
        assert database.query("SELECT 1 AS one").get() == {"one": 1}


def test_a_database_in_memory_cannot_be_shared() -> None:
    with Database() as database, pytest.raises(ConfigurationError, match="in memory"):
        BunSQLiteAdapter(database)


@pytest.mark.parametrize("option", ["locks", "durability"])
def test_an_invalid_option_is_named(option: str) -> None:
    wrong: Any = {option: "no"}
    with pytest.raises(InvalidOption, match=f"'{option}' in BunSQLiteAdapter"):
        BunSQLiteAdapter("app.db", **wrong)


@pytest.mark.asyncio
async def test_a_scope_opens_the_backend_by_name_and_by_url(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    async with goscope.Scope(backend="sqlite-bun", path=str(path)) as gs:
        assert isinstance(gs.persistence, BunSQLiteAdapter)
        await gs.cache.set("key", 1)
    async with goscope.Scope(f"sqlite-bun:///{path}?locks=shared") as gs:
        assert await gs.cache.get("key") == 1
        assert goscope.Capability.SHARED_LOCKS in gs.persistence.capabilities


def test_the_options_match_the_adapters_parameters() -> None:
    import inspect

    parameters = set(inspect.signature(BunSQLiteAdapter).parameters) - {"clock"}
    assert set(BunSQLiteOptions.__struct_fields__) == parameters


@pytest.mark.skipif(os.name != "posix", reason="Windows has no permission bits")
def test_a_new_file_is_for_its_user_alone(tmp_path: Path) -> None:
    with Database(tmp_path / "app.db"):
        assert stat.S_IMODE((tmp_path / "app.db").stat().st_mode) == 0o600

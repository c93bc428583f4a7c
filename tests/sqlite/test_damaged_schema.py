"""A file in which another program removed rows or tables of goscope: named errors, or a repair."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from goscope.errors import BackendCorrupt, SchemaMismatch
from goscope_bun_compat import BunSQLiteAdapter
from goscope_sqlite import SQLiteAdapter

from .conftest import Query

pytestmark = pytest.mark.asyncio

DROPPABLE = [
    "cache",
    "cache_companion",
    "cache_tags",
    "checkpoints",
    "circuit",
    "circuit_companion",
    "idempotency",
    "idempotency_companion",
    "lock_queue",
    "locks",
    "processes",
]


@pytest.fixture(params=[SQLiteAdapter, BunSQLiteAdapter])
def adapter_type(request: pytest.FixtureRequest) -> Any:
    return request.param


async def create(path: Path, adapter_type: Any) -> str:
    async with adapter_type(path, locks="shared") as adapter:
        assert await adapter.lock.acquire("old") is not None
        await adapter.cache.set("key", 1)
        store_id: str = adapter.context.store_id
        return store_id


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM go_goscope_meta WHERE key = 'token'",
        "UPDATE go_goscope_meta SET value = NULL WHERE key = 'token'",
        "UPDATE go_goscope_meta SET value = 'many' WHERE key = 'token'",
        "UPDATE go_goscope_meta SET value = 1e300 WHERE key = 'token'",
    ],
)
async def test_without_the_token_counter_no_lease_is_granted(
    path: Path, query: Query, adapter_type: Any, damage: str
) -> None:
    """A counter that began again would repeat tokens, and old handles would write again."""
    await create(path, adapter_type)
    query(damage)
    for _ in range(2):
        async with adapter_type(path, locks="shared") as adapter:
            for key in ("new", "another"):
                with pytest.raises(BackendCorrupt, match=r"tokens.*Restore the file"):
                    await adapter.lock.acquire(key)
            assert await adapter.cache.get("key") == 1
    query("INSERT OR REPLACE INTO go_goscope_meta VALUES ('token', 1000)")
    async with adapter_type(path, locks="shared") as adapter:
        handle = await adapter.lock.acquire("new")
        assert handle is not None
        assert handle.fencing_token == 1001


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM go_goscope_meta WHERE key = 'store_id'",
        "UPDATE go_goscope_meta SET value = NULL WHERE key = 'store_id'",
    ],
)
async def test_a_missing_identity_is_created_again(
    path: Path, query: Query, adapter_type: Any, damage: str
) -> None:
    before = await create(path, adapter_type)
    query(damage)
    ids: set[str] = set()
    for _ in range(2):
        async with adapter_type(path) as adapter:
            ids.add(adapter.context.store_id)
            assert await adapter.cache.get("key") == 1
    assert len(ids) == 1
    assert ids.isdisjoint({before, "", "None"})


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM go_goscope_meta WHERE key = 'schema_version'",
        "UPDATE go_goscope_meta SET value = NULL WHERE key = 'schema_version'",
        "UPDATE go_goscope_meta SET value = 'two' WHERE key = 'schema_version'",
        "UPDATE go_goscope_meta SET value = 1.5 WHERE key = 'schema_version'",
        "DELETE FROM go_goscope_meta",
        "DROP TABLE go_goscope_meta",
    ],
)
async def test_a_file_without_a_schema_version_is_left_unchanged(
    path: Path, query: Query, adapter_type: Any, damage: str
) -> None:
    await create(path, adapter_type)
    query(damage)
    tables = "SELECT name, sql FROM sqlite_master ORDER BY name"
    before = query(tables)
    with pytest.raises(SchemaMismatch, match=r"schema version.*Restore it from a backup"):
        await create(path, adapter_type)
    assert query(tables) == before


@pytest.mark.parametrize("table", DROPPABLE)
async def test_a_dropped_table_is_created_again_with_its_indexes(
    path: Path, query: Query, adapter_type: Any, table: str, caplog: pytest.LogCaptureFixture
) -> None:
    await create(path, adapter_type)
    tables = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
    before = query(tables)
    query(f"DROP TABLE go_goscope_{table}")
    with caplog.at_level(logging.WARNING, "goscope_sqlite"):
        async with adapter_type(path, locks="shared") as adapter:
            handle = await adapter.lock.acquire("new")
            assert handle is not None
            assert handle.fencing_token == 2
    assert f"go_goscope_{table} was missing" in caplog.text
    assert query(tables) == before


async def test_a_table_dropped_while_the_file_is_open_is_a_named_error(
    path: Path, query: Query, adapter_type: Any
) -> None:
    async with adapter_type(path, sweep_interval="1h") as adapter:
        query("DROP TABLE go_goscope_cache")
        for call in (adapter.cache.get, adapter.cache.delete):
            with pytest.raises(SchemaMismatch, match=r"dropped.*Open the file again"):
                await call("key")
        with pytest.raises(SchemaMismatch):
            await adapter._sweeper.sweep()
        await adapter.idempotency.set("key", 1)
    async with adapter_type(path) as adapter:
        await adapter.cache.set("key", 1)
        assert await adapter.idempotency.get("key") is not None

"""The cost of deleting by tag depends on the tagged entries alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from goscope_sqlite import SQLiteAdapter
from goscope_sqlite._engine.protocol import Database, Row
from goscope_sqlite.providers.cache import SQLiteCacheProvider

from .conftest import Query

pytestmark = pytest.mark.asyncio


class Traced:
    """The database of a provider that records its statements, with their values filled in."""

    def __init__(self, database: Database) -> None:
        self.statements: list[str] = []
        self._database = database

    async def read_all(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        self.statements.append(sql.replace("?", "'?'"))
        return await self._database.read_all(sql, parameters)

    async def submit(
        self,
        work: Callable[[sqlite3.Connection], Any],
        *,
        rows: int = 1,
        autocommit: bool = False,
    ) -> Any:
        def traced(connection: sqlite3.Connection) -> Any:
            connection.set_trace_callback(self.statements.append)
            try:
                return work(connection)
            finally:
                connection.set_trace_callback(None)

        return await self._database.submit(traced, rows=rows, autocommit=autocommit)


async def delete_by_tag(adapter: SQLiteAdapter, tag: str) -> tuple[int, list[str]]:
    """Return how many entries were deleted, and the statements that it took."""
    cache = adapter.cache
    assert isinstance(cache, SQLiteCacheProvider)
    database = cache._database
    traced: Any = Traced(database)  # the methods of Database that deleting by tag uses
    cache._database = traced
    try:
        return await cache.delete_by_tag(tag), traced.statements
    finally:
        cache._database = database


async def tag_some(adapter: SQLiteAdapter, tag: str, count: int) -> None:
    for number in range(count):
        await adapter.cache.set(f"{tag}:{number}", number, "1h", tags=[tag, "all"], stale_for="1h")


async def test_deleting_by_tag_scans_no_table(adapter: SQLiteAdapter, query: Query) -> None:
    await tag_some(adapter, "few", 3)
    deleted, statements = await delete_by_tag(adapter, "few")
    assert deleted == 3
    steps = {
        step
        for statement in set(statements)
        for *_, step in query(f"EXPLAIN QUERY PLAN {statement}")
    }
    assert steps, "no statement was traced"
    assert [step for step in steps if not step.startswith("SEARCH")] == []


async def test_deleting_by_tag_runs_no_statement_for_other_entries(adapter: SQLiteAdapter) -> None:
    await tag_some(adapter, "few", 3)
    _, alone = await delete_by_tag(adapter, "few")
    await tag_some(adapter, "many", 300)
    await tag_some(adapter, "few", 3)
    _, among_many = await delete_by_tag(adapter, "few")
    assert len(among_many) == len(alone)


async def test_a_scope_without_a_prefix_does_not_reach_the_tags_of_another(
    path: Path, adapter: SQLiteAdapter
) -> None:
    async with SQLiteAdapter(path, key_prefix="shop:", busy_timeout="60s") as shop:
        await shop.cache.set("key", 1, tags=["x"])
        await adapter.cache.set("key", 1, tags=["shop:x"])
        assert await adapter.cache.delete_by_tag("shop:x") == 1
        assert await shop.cache.get("key") == 1
        await adapter.cache.set("key", 1, tags=["shop:x"])
        assert await shop.cache.delete_by_tag("x") == 1
        assert await adapter.cache.get("key") == 1

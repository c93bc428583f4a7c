"""The rows of queued writes are inserted with few statements, and fail one by one."""

from __future__ import annotations

import pytest

from goscope.errors import BackendError, BackendFull
from goscope_sqlite import SQLiteAdapter
from goscope_sqlite._engine.multi_row_insert import InsertRow, MultiRowInsert

from .conftest import Query
from .writes import LONG, insert, inserted, limit_to_free_pages, set_together, together

pytestmark = pytest.mark.asyncio


async def test_queued_entries_are_inserted_with_few_statements(adapter: SQLiteAdapter) -> None:
    """For each statement the thread releases the GIL, and competes with the loop to get it back."""
    statements: list[str] = []
    await adapter._database.submit(
        lambda connection: connection.set_trace_callback(statements.append), autocommit=True
    )
    assert await set_together(adapter, [(f"{n}", n) for n in range(100)]) == [None] * 100
    await adapter.cache.set_many({f"{n}": -n for n in range(100)})
    written = [text.count("'cache:") for text in statements if text.lstrip().startswith("INSERT")]
    assert written == [64, 32, 4, 64, 32, 4]
    assert await adapter.cache.get("99") == -99


async def test_only_consecutive_rows_of_the_same_insert_are_merged(
    adapter: SQLiteAdapter, query: Query
) -> None:
    put = MultiRowInsert("INSERT OR REPLACE INTO go_goscope_meta VALUES {rows}", columns=2)
    add = MultiRowInsert("INSERT OR IGNORE INTO go_goscope_meta VALUES {rows}", columns=2)
    outcomes = await together(
        adapter,
        InsertRow(put, ("w1", "put")),
        InsertRow(put, ("w2", "put")),
        InsertRow(add, ("w2", "added")),
        InsertRow(add, ("w3", "added")),
        insert("w4"),
        InsertRow(add, ("w5", "added")),
    )
    assert outcomes == [True, True, False, True, "w4", True]
    assert query("SELECT value FROM go_goscope_meta WHERE key = 'w2'") == [("put",)]
    assert inserted(query) == ["w1", "w2", "w3", "w4", "w5"]


async def test_the_last_of_several_values_for_one_key_wins(adapter: SQLiteAdapter) -> None:
    await set_together(adapter, [("key", n) for n in range(10)])
    assert await adapter.cache.get("key") == 9
    assert await adapter.cache.keys() == ["key"]


async def test_entries_with_companion_rows_are_replaced_among_others(
    adapter: SQLiteAdapter, query: Query
) -> None:
    """The shared statement skips them; each is then written alone, and loses its tags."""
    await adapter.cache.set("key1", "old", "1h", tags=["tag"])
    await adapter.cache.set("key3", "old", "1h", stale_for="1h")
    assert await set_together(adapter, [(f"key{n}", "new") for n in range(5)]) == [None] * 5
    found = await adapter.cache.get_many([f"key{n}" for n in range(5)])
    assert found == {f"key{n}": "new" for n in range(5)}
    assert query("SELECT * FROM go_goscope_cache_companion") == []
    assert query("SELECT * FROM go_goscope_cache_tags") == []


async def test_a_row_that_does_not_fit_on_the_disk_fails_alone(
    adapter: SQLiteAdapter, query: Query
) -> None:
    await limit_to_free_pages(adapter, query, 5)
    outcomes = await set_together(adapter, [("key0", 0), ("key1", LONG), ("key2", 2)])
    assert [type(outcome) for outcome in outcomes] == [type(None), BackendFull, type(None)]
    assert sorted(await adapter.cache.keys()) == ["key0", "key2"]


async def test_a_row_that_sqlite_refuses_fails_alone(adapter: SQLiteAdapter, query: Query) -> None:
    query(
        "CREATE TRIGGER refuse BEFORE INSERT ON go_goscope_cache WHEN new.key = 'cache:key1' "
        "BEGIN SELECT RAISE(ABORT, 'refused by the test'); END"
    )
    outcomes = await set_together(adapter, [(f"key{n}", n) for n in range(3)])
    assert [type(outcome) for outcome in outcomes] == [type(None), BackendError, type(None)]
    assert sorted(await adapter.cache.keys()) == ["key0", "key2"]
    with pytest.raises(BackendError, match="refused by the test"):
        await adapter.cache.set_many({f"key{n}": -n for n in range(3)})
    assert await adapter.cache.get("key0") == 0

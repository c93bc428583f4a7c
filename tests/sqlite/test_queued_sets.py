"""Entries that are set together: the last value wins, and each fails alone."""

from __future__ import annotations

import pytest

from goscope.errors import BackendError, BackendFull
from goscope_sqlite import SQLiteAdapter

from .conftest import Query
from .writes import LONG, limit_to_free_pages, set_together

pytestmark = pytest.mark.asyncio


@pytest.mark.usefixtures("no_time_limit")
async def test_the_last_of_several_values_for_one_key_wins(threaded: SQLiteAdapter) -> None:
    await set_together(threaded, [("key", n) for n in range(10)])
    assert await threaded.cache.get("key") == 9
    assert await threaded.cache.keys() == ["key"]


@pytest.mark.usefixtures("no_time_limit")
async def test_entries_with_companion_rows_are_replaced_among_others(
    threaded: SQLiteAdapter, query: Query
) -> None:
    """Each loses its tags."""
    await threaded.cache.set("key1", "old", "1h", tags=["tag"])
    await threaded.cache.set("key3", "old", "1h", stale_for="1h")
    assert await set_together(threaded, [(f"key{n}", "new") for n in range(5)]) == [None] * 5
    found = await threaded.cache.get_many([f"key{n}" for n in range(5)])
    assert found == {f"key{n}": "new" for n in range(5)}
    assert query("SELECT * FROM go_goscope_cache_companion") == []
    assert query("SELECT * FROM go_goscope_cache_tags") == []


@pytest.mark.usefixtures("no_time_limit")
async def test_a_row_that_does_not_fit_on_the_disk_fails_alone(
    threaded: SQLiteAdapter, query: Query
) -> None:
    await limit_to_free_pages(threaded, query, 5)
    outcomes = await set_together(threaded, [("key0", 0), ("key1", LONG), ("key2", 2)])
    assert [type(outcome) for outcome in outcomes] == [type(None), BackendFull, type(None)]
    assert sorted(await threaded.cache.keys()) == ["key0", "key2"]


@pytest.mark.usefixtures("no_time_limit")
async def test_a_row_that_sqlite_refuses_fails_alone(threaded: SQLiteAdapter, query: Query) -> None:
    query(
        "CREATE TRIGGER refuse BEFORE INSERT ON go_goscope_cache WHEN new.key = 'cache:key1' "
        "BEGIN SELECT RAISE(ABORT, 'refused by the test'); END"
    )
    outcomes = await set_together(threaded, [(f"key{n}", n) for n in range(3)])
    assert [type(outcome) for outcome in outcomes] == [type(None), BackendError, type(None)]
    assert sorted(await threaded.cache.keys()) == ["key0", "key2"]
    with pytest.raises(BackendError, match="refused by the test"):
        await threaded.cache.set_many({f"key{n}": -n for n in range(3)})
    assert await threaded.cache.get("key0") == 0

"""A write and the end of the computation that it supersedes are one transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from goscope.backend import load_owner
from goscope.errors import BackendError
from goscope.providers import CacheProvider
from goscope_sqlite import SQLiteAdapter

from .conftest import Query

pytestmark = pytest.mark.asyncio

Write = Callable[[CacheProvider], Awaitable[object]]

WRITES: dict[str, Write] = {
    "set": lambda cache: cache.set("key", "newer"),
    "set with tags": lambda cache: cache.set("key", "newer", "1h", tags=["tag"]),
    "set_many": lambda cache: cache.set_many({"key": "newer", "other": 1}),
    "increment": lambda cache: cache.increment("key"),
    "delete": lambda cache: cache.delete("key"),
    "delete_many": lambda cache: cache.delete_many(["other", "key"]),
}

BREAKS = {
    "the entry": """
        CREATE TRIGGER no_{event} BEFORE {event} ON go_goscope_cache
        BEGIN SELECT RAISE(ABORT, 'broken'); END
    """,
    "the lease": """
        CREATE TRIGGER no_end BEFORE DELETE ON go_goscope_locks
        BEGIN SELECT RAISE(ABORT, 'broken'); END
    """,
}


@pytest.mark.parametrize("part", BREAKS)
@pytest.mark.parametrize("name", WRITES)
async def test_a_write_that_fails_in_one_part_changes_neither(
    adapter: SQLiteAdapter, query: Query, name: str, part: str
) -> None:
    assert adapter.cache is not None
    await adapter.cache.set("key", 1, "1h", tags=["old"])
    lease = await adapter.lease.acquire("cache:key", "1h", load_owner(["tag"]))
    assert lease is not None
    for event in ("INSERT", "UPDATE", "DELETE") if part == "the entry" else ("",):
        query(BREAKS[part].format(event=event))
    with pytest.raises(BackendError):
        await WRITES[name](adapter.cache)
    assert await lease.is_valid()
    assert await adapter.cache.get("key") == 1


async def test_a_removal_that_ends_nothing_writes_nothing(
    adapter: SQLiteAdapter, query: Query
) -> None:
    """Removing what nobody computes costs no commit."""
    assert adapter.cache is not None
    before = query("PRAGMA wal_checkpoint(PASSIVE)")[0][1]
    for _ in range(20):
        await adapter.cache.delete("absent")
        await adapter.cache.delete_by_tag("absent")
        await adapter.cache.clear("absent*")
    assert query("PRAGMA wal_checkpoint(PASSIVE)")[0][1] == before

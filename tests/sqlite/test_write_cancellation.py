"""Cancelling a write, or its caller: the write is applied fully or not at all."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Coroutine
from typing import Any

import pytest

from goscope_sqlite import SQLiteAdapter

from .conftest import Query
from .writes import LARGE, Gate, insert, inserted

pytestmark = pytest.mark.asyncio


async def test_a_write_cancelled_before_it_starts_is_never_applied(
    adapter: SQLiteAdapter, query: Query
) -> None:
    submit = adapter._database.submit
    with Gate() as gate:
        running = submit(gate, rows=LARGE)
        await gate.wait_entered()
        waiting = submit(insert("w1"))
        assert waiting.cancel()
    await running
    await submit(insert("w2"))
    assert waiting.cancelled()
    assert inserted(query) == ["w2"]


async def test_a_caller_cancelled_during_its_write_waits_for_the_outcome(
    adapter: SQLiteAdapter, query: Query
) -> None:
    gate = Gate()

    def work(connection: sqlite3.Connection) -> None:
        insert("w1")(connection)
        gate(connection)

    async def call() -> None:
        await adapter._database.submit(work, rows=LARGE)

    with gate:
        task = asyncio.create_task(call())
        await gate.wait_entered()
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=0.05)
        assert not done, "the cancelled caller returned before its write had finished"
    with pytest.raises(asyncio.CancelledError):
        await task
    assert inserted(query) == ["w1"]


async def test_a_timeout_around_a_write_raises_timeout_error(
    adapter: SQLiteAdapter, query: Query
) -> None:
    gate = Gate()

    async def call() -> None:
        async with asyncio.timeout(0.02) as scope:
            deadline = scope.when()
            assert deadline is not None
            # Timers run in the order of their deadlines, however late they are.
            asyncio.get_running_loop().call_at(deadline + 0.05, gate.open)
            await adapter._database.submit(gate, rows=LARGE)

    with gate, pytest.raises(TimeoutError):
        await call()
    assert await adapter._database.submit(insert("w1")) == "w1"
    assert inserted(query) == ["w1"]


@pytest.mark.parametrize("ticks", range(12))
async def test_a_caller_cancelled_at_any_point_leaves_no_open_transaction(
    adapter: SQLiteAdapter, query: Query, ticks: int
) -> None:
    """Another connection gets the write lock, and the write is applied fully or not at all."""
    task = asyncio.create_task(adapter.cache.set("key", 1, "1h", tags=["tag"], stale_for="1h"))
    for _ in range(ticks):
        await asyncio.sleep(0)
    task.cancel()
    [outcome] = await asyncio.gather(task, return_exceptions=True)
    assert outcome is None or isinstance(outcome, asyncio.CancelledError)
    query("INSERT INTO go_goscope_meta VALUES ('other', 1)")
    rows = [query(f"SELECT * FROM go_goscope_cache{part}") for part in ("", "_companion", "_tags")]
    assert [len(found) for found in rows] in ([0, 0, 0], [1, 1, 1])


@pytest.mark.parametrize("ticks", range(12))
async def test_an_acquire_cancelled_at_any_point_leaves_the_lock_free(
    adapter: SQLiteAdapter, ticks: int
) -> None:
    task = asyncio.create_task(adapter.lock.acquire("key"))
    for _ in range(ticks):
        await asyncio.sleep(0)
    if not task.done():
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await adapter.lock.holder("key") is None


async def test_a_release_cancelled_in_the_queue_is_applied(
    adapter: SQLiteAdapter,
) -> None:
    handle = await adapter.lock.acquire("key")
    assert handle is not None
    with Gate() as gate:
        running = adapter._database.submit(gate, rows=LARGE)
        await gate.wait_entered()
        releasing = asyncio.create_task(handle.release())
        await asyncio.sleep(0)
        releasing.cancel()
        await asyncio.sleep(0)
        assert not releasing.done()
    await running
    with pytest.raises(asyncio.CancelledError):
        await releasing
    assert await adapter.lock.holder("key") is None


@pytest.mark.parametrize("how", ["clear", "delete_many", "delete_by_tag"])
async def test_a_deletion_of_many_entries_stops_between_two_writes_and_can_be_repeated(
    adapter: SQLiteAdapter, query: Query, how: str
) -> None:
    """Each write removes 100 entries, with their tags."""
    keys = [str(number) for number in range(1000)]
    await asyncio.gather(*(adapter.cache.set(key, 1, tags=["tag"]) for key in keys))

    def remove() -> Coroutine[Any, Any, object]:
        if how == "clear":
            return adapter.cache.clear()
        if how == "delete_many":
            return adapter.cache.delete_many(keys)
        return adapter.cache.delete_by_tag("tag")

    def counts() -> set[int]:
        tables = ("cache", "cache_companion", "cache_tags")
        return {query(f"SELECT count(*) FROM go_goscope_{table}")[0][0] for table in tables}

    removing = asyncio.create_task(remove())
    while counts() == {1000}:  # noqa: ASYNC110  # the condition is about the file
        await asyncio.sleep(0)
    removing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await removing
    [left] = counts()
    assert left % 100 == 0
    await remove()
    assert counts() == {0}

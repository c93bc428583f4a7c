"""The reads of a tick share one read transaction, and still see every commit."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from goscope_sqlite import SQLiteAdapter
from goscope_sqlite._engine.shared_read import COOLDOWN_FACTOR, MAX_HOLD_S, MIN_READS_PER_TICK

from .conftest import Now

pytestmark = pytest.mark.asyncio


@pytest.fixture
def foreign(path: Path, adapter: SQLiteAdapter) -> Iterator[sqlite3.Connection]:
    """A connection of another program to the adapter's file, which never waits for a lock."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=0, check_same_thread=False)
    yield connection
    connection.close()


def is_read(foreign: sqlite3.Connection) -> bool:
    """Whether a read mark is held: it prevents the truncation of the WAL."""
    blocked, _, _ = foreign.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0]
    return bool(blocked)


async def read(adapter: SQLiteAdapter, times: int) -> None:
    for _ in range(times):
        await adapter.cache.get("key")


async def new_tick(adapter: SQLiteAdapter) -> None:
    """Begin a tick, with a WAL that a reader can hold."""
    await adapter.cache.increment("key")  # the same bytes again would not be written
    await asyncio.sleep(0)


async def test_several_reads_in_a_tick_hold_a_read_mark_until_its_end(
    adapter: SQLiteAdapter, foreign: sqlite3.Connection, now: Now
) -> None:
    for _ in range(3):
        await new_tick(adapter)
        await read(adapter, MIN_READS_PER_TICK - 1)
        assert not is_read(foreign), "so few reads are not worth it"
        await new_tick(adapter)
        await read(adapter, 2 * MIN_READS_PER_TICK)
        assert is_read(foreign)
        await asyncio.sleep(0)
        assert not is_read(foreign)


async def test_reads_see_commits_of_others_within_the_tick(
    adapter: SQLiteAdapter, foreign: sqlite3.Connection, now: Now
) -> None:
    await new_tick(adapter)
    await read(adapter, MIN_READS_PER_TICK)
    for value in range(2, 10):
        foreign.execute("UPDATE go_goscope_cache SET value = ?", (str(value),))
        assert await adapter.cache.get("key") == value
    assert is_read(foreign), "all of that was one tick"


async def test_a_long_tick_releases_the_read_mark_when_more_reads_start_to_wait(
    adapter: SQLiteAdapter, foreign: sqlite3.Connection, now: Now
) -> None:
    """A thousand of them take a while just to start waiting."""
    await new_tick(adapter)
    await read(adapter, MIN_READS_PER_TICK)
    waiting = [adapter.cache.get("key").__await__() for _ in range(2)]
    now.seconds += MAX_HOLD_S / 2.5
    assert next(waiting[0]) is not None
    assert is_read(foreign), "the tick is still short"
    now.seconds += MAX_HOLD_S / 2.5
    assert next(waiting[1]) is not None
    assert not is_read(foreign)
    for each in waiting:
        each.close()


async def test_a_tick_with_other_work_after_its_reads_is_followed_by_a_cooldown(
    adapter: SQLiteAdapter, foreign: sqlite3.Connection, now: Now
) -> None:
    """Otherwise another process could hardly ever restart the WAL."""
    await new_tick(adapter)
    await read(adapter, MIN_READS_PER_TICK)
    now.seconds += 10 * MAX_HOLD_S
    await new_tick(adapter)
    await read(adapter, MIN_READS_PER_TICK)
    assert not is_read(foreign)
    now.seconds += (COOLDOWN_FACTOR * 10 + 1) * MAX_HOLD_S
    await new_tick(adapter)
    await read(adapter, MIN_READS_PER_TICK)
    assert is_read(foreign)


async def test_closing_within_a_tick_leaves_one_file(path: Path, now: Now) -> None:
    async with SQLiteAdapter(path) as adapter:
        await new_tick(adapter)
        await read(adapter, MIN_READS_PER_TICK)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


async def test_reads_work_without_the_shared_transaction(adapter: SQLiteAdapter) -> None:
    reader = adapter._database._reader
    assert reader is not None
    reader._shared._connection.close()
    await adapter.cache.set("key", 1)
    for _ in range(3):
        await read(adapter, MIN_READS_PER_TICK)
        assert await adapter.cache.get("key") == 1
        await asyncio.sleep(0)

"""The reads of one turn of the loop share a lock, and see each commit all the same."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from goscope_sqlite import SQLiteAdapter
from goscope_sqlite._engine.shared_read import COOLDOWN_FACTOR, MAX_HOLD_S, MIN_READS_PER_TICK

pytestmark = pytest.mark.asyncio


class Now:
    """A clock of seconds that goes when it is told to."""

    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Now:
    now = Now()
    for place in (
        "goscope_sqlite._engine.reader",
        "goscope_sqlite._engine.shared_read",
        "goscope._tools.loop_budget",
    ):
        monkeypatch.setattr(f"{place}.perf_counter", now)
    return now


@pytest.fixture
def foreign(path: Path, adapter: SQLiteAdapter) -> Iterator[sqlite3.Connection]:
    """A connection of another program, which never waits, to the file the adapter has open."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=0, check_same_thread=False)
    yield connection
    connection.close()


def is_read(foreign: sqlite3.Connection) -> bool:
    """Whether somebody has the lock of a reader: it keeps the log from being cut off."""
    blocked, _, _ = foreign.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0]
    return bool(blocked)


async def read(adapter: SQLiteAdapter, times: int) -> None:
    for _ in range(times):
        await adapter.cache.get("key")


async def new_turn(adapter: SQLiteAdapter) -> None:
    """Let a turn begin, with a log that a reader can keep."""
    await adapter.cache.increment("key")  # the same bytes again would not get there
    await asyncio.sleep(0)


async def test_some_reads_in_a_turn_take_the_lock_until_it_ends(
    adapter: SQLiteAdapter, foreign: sqlite3.Connection, now: Now
) -> None:
    for _ in range(3):
        await new_turn(adapter)
        await read(adapter, MIN_READS_PER_TICK - 1)
        assert not is_read(foreign), "it would not be worth it"
        await new_turn(adapter)
        await read(adapter, 2 * MIN_READS_PER_TICK)
        assert is_read(foreign)
        await asyncio.sleep(0)
        assert not is_read(foreign)


async def test_what_others_commit_in_the_middle_of_a_turn_is_read(
    adapter: SQLiteAdapter, foreign: sqlite3.Connection, now: Now
) -> None:
    await new_turn(adapter)
    await read(adapter, MIN_READS_PER_TICK)
    for value in range(2, 10):
        foreign.execute("UPDATE go_goscope_cache SET value = ?", (str(value),))
        assert await adapter.cache.get("key") == value
    assert is_read(foreign), "all of that was one turn"


async def test_a_turn_in_which_many_wait_for_the_next_gives_the_lock_back(
    adapter: SQLiteAdapter, foreign: sqlite3.Connection, now: Now
) -> None:
    """They may be a thousand, and each takes a while to do so."""
    await new_turn(adapter)
    await read(adapter, MIN_READS_PER_TICK)
    waiting = [adapter.cache.get("key").__await__() for _ in range(2)]
    now.seconds += MAX_HOLD_S / 2.5
    assert next(waiting[0]) is not None
    assert is_read(foreign), "those whose turn it is go on to read"
    now.seconds += MAX_HOLD_S / 2.5
    assert next(waiting[1]) is not None
    assert not is_read(foreign)
    for each in waiting:
        each.close()


async def test_where_other_work_follows_the_reads_the_lock_is_mostly_left_alone(
    adapter: SQLiteAdapter, foreign: sqlite3.Connection, now: Now
) -> None:
    """Else another process would hardly find a moment to begin the log anew."""
    await new_turn(adapter)
    await read(adapter, MIN_READS_PER_TICK)
    now.seconds += 10 * MAX_HOLD_S
    await new_turn(adapter)
    await read(adapter, MIN_READS_PER_TICK)
    assert not is_read(foreign)
    now.seconds += (COOLDOWN_FACTOR * 10 + 1) * MAX_HOLD_S
    await new_turn(adapter)
    await read(adapter, MIN_READS_PER_TICK)
    assert is_read(foreign)


async def test_closing_in_the_middle_of_a_turn_leaves_one_file(path: Path, now: Now) -> None:
    async with SQLiteAdapter(path) as adapter:
        await new_turn(adapter)
        await read(adapter, MIN_READS_PER_TICK)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


async def test_without_the_lock_reads_go_on(adapter: SQLiteAdapter) -> None:
    reader = adapter._database._reader
    assert reader is not None
    reader._shared._connection.close()
    await adapter.cache.set("key", 1)
    for _ in range(3):
        await read(adapter, MIN_READS_PER_TICK)
        assert await adapter.cache.get("key") == 1
        await asyncio.sleep(0)

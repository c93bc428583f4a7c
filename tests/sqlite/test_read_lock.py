"""The reads of one turn of the loop share a lock, and see each commit all the same."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from goscope_sqlite import SQLiteAdapter
from goscope_sqlite._connection import WAL_LIMIT
from goscope_sqlite._read_lock import LONGEST, READS, REST
from goscope_sqlite._wal import LOOK, MOST, PATIENCE, PAUSE, Checkpointer

pytestmark = pytest.mark.asyncio


class Now:
    """A clock of seconds that goes when it is told to."""

    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Now:
    now = Now()
    for place in ("goscope_sqlite._reader", "goscope_sqlite._read_lock", "goscope.backend._turn"):
        monkeypatch.setattr(f"{place}.perf_counter", now)
    monkeypatch.setattr("goscope_sqlite._wal.monotonic", now)
    monkeypatch.setattr("goscope_sqlite._wal.sleep", now.sleep)
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
        await read(adapter, READS - 1)
        assert not is_read(foreign), "it would not be worth it"
        await new_turn(adapter)
        await read(adapter, 2 * READS)
        assert is_read(foreign)
        await asyncio.sleep(0)
        assert not is_read(foreign)


async def test_what_others_commit_in_the_middle_of_a_turn_is_read(
    adapter: SQLiteAdapter, foreign: sqlite3.Connection, now: Now
) -> None:
    await new_turn(adapter)
    await read(adapter, READS)
    for value in range(2, 10):
        foreign.execute("UPDATE go_goscope_cache SET value = ?", (str(value),))
        assert await adapter.cache.get("key") == value
    assert is_read(foreign), "all of that was one turn"


async def test_a_turn_in_which_many_wait_for_the_next_gives_the_lock_back(
    adapter: SQLiteAdapter, foreign: sqlite3.Connection, now: Now
) -> None:
    """They may be a thousand, and each takes a while to do so."""
    await new_turn(adapter)
    await read(adapter, READS)
    waiting = [adapter.cache.get("key").__await__() for _ in range(2)]
    now.seconds += LONGEST / 2.5
    assert next(waiting[0]) is not None
    assert is_read(foreign), "those whose turn it is go on to read"
    now.seconds += LONGEST / 2.5
    assert next(waiting[1]) is not None
    assert not is_read(foreign)
    for each in waiting:
        each.close()


async def test_where_other_work_follows_the_reads_the_lock_is_mostly_left_alone(
    adapter: SQLiteAdapter, foreign: sqlite3.Connection, now: Now
) -> None:
    """Else another process would hardly find a moment to begin the log anew."""
    await new_turn(adapter)
    await read(adapter, READS)
    now.seconds += 10 * LONGEST
    await new_turn(adapter)
    await read(adapter, READS)
    assert not is_read(foreign)
    now.seconds += (REST * 10 + 1) * LONGEST
    await new_turn(adapter)
    await read(adapter, READS)
    assert is_read(foreign)


async def test_closing_in_the_middle_of_a_turn_leaves_one_file(path: Path, now: Now) -> None:
    async with SQLiteAdapter(path) as adapter:
        await new_turn(adapter)
        await read(adapter, READS)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


async def test_without_the_lock_reads_go_on(adapter: SQLiteAdapter) -> None:
    reader = adapter._database._reader
    assert reader is not None
    reader._lock._connection.close()
    await adapter.cache.set("key", 1)
    for _ in range(3):
        await read(adapter, READS)
        assert await adapter.cache.get("key") == 1
        await asyncio.sleep(0)


def begin_to_read(foreign: sqlite3.Connection) -> None:
    foreign.execute("BEGIN")
    foreign.execute("SELECT * FROM go_goscope_cache").fetchall()


async def move_log(adapter: SQLiteAdapter, path: Path) -> None:
    checkpointer = Checkpointer(str(path))
    await adapter._database.submit(lambda _: checkpointer.move())
    checkpointer.close()


def size_of_log(path: Path) -> int:
    return path.with_name(f"{path.name}-wal").stat().st_size


async def grows(adapter: SQLiteAdapter, path: Path) -> bool:
    """Whether the next commit makes the log longer instead of beginning it anew."""
    before = size_of_log(path)
    await adapter.cache.set("key", "other")
    return size_of_log(path) > before


@pytest.mark.parametrize("reads_the_latest", [False, True])
async def test_a_checkpoint_waits_for_who_reads_the_log(
    adapter: SQLiteAdapter,
    foreign: sqlite3.Connection,
    path: Path,
    now: Now,
    monkeypatch: pytest.MonkeyPatch,
    reads_the_latest: bool,
) -> None:
    """Who reads what came before keeps it from its end, anyone else the log from its beginning."""

    def end_the_read(seconds: float) -> None:
        now.sleep(seconds)
        if foreign.in_transaction:
            foreign.execute("COMMIT")

    monkeypatch.setattr("goscope_sqlite._wal.sleep", end_the_read)
    await adapter.cache.set("key", 1)
    begin_to_read(foreign)
    if not reads_the_latest:
        await adapter.cache.set("key", 2)
    await move_log(adapter, path)
    assert not await grows(adapter, path)


@pytest.mark.parametrize("length", [1, 2 * WAL_LIMIT, 11 * WAL_LIMIT])
async def test_a_checkpoint_gives_up_on_who_reads_for_long(
    adapter: SQLiteAdapter, foreign: sqlite3.Connection, path: Path, now: Now, length: int
) -> None:
    """It waits for twice as long when the log is twice as long as it should be, within reason."""
    checkpointer = Checkpointer(str(path))

    def seconds_to_move(_: sqlite3.Connection) -> float:
        began = now()
        checkpointer.move()
        return now() - began

    await adapter.cache.set("key", 1)
    begin_to_read(foreign)
    await adapter.cache.set("key", "x" * length)
    taken = await adapter._database.submit(seconds_to_move)
    checkpointer.close()
    patience = PATIENCE * min(max(size_of_log(path) / WAL_LIMIT, 1), MOST)
    assert patience <= taken <= patience + LONGEST
    assert await grows(adapter, path)
    assert await adapter.cache.get("key") == "other"


async def test_a_checkpoint_never_waits_twice_for_the_same_reader(
    adapter: SQLiteAdapter, foreign: sqlite3.Connection, path: Path, now: Now
) -> None:
    checkpointer = Checkpointer(str(path))

    def seconds_to_move(_: sqlite3.Connection) -> float:
        began = now()
        checkpointer.move()
        return now() - began

    await adapter.cache.set("key", 1)
    begin_to_read(foreign)
    await adapter.cache.set("key", 2)
    assert await adapter._database.submit(seconds_to_move) > PATIENCE / 2
    assert await adapter._database.submit(seconds_to_move) == 0
    foreign.execute("COMMIT")
    begin_to_read(foreign)
    await adapter.cache.set("key", 3)
    assert await adapter._database.submit(seconds_to_move) > PATIENCE / 2
    checkpointer.close()


async def test_a_log_that_cannot_be_moved_is_tried_again_when_it_has_grown_or_later(
    adapter: SQLiteAdapter, foreign: sqlite3.Connection, path: Path, now: Now
) -> None:
    checkpointer = Checkpointer(str(path))

    def is_due_after(seconds: float) -> bool:
        now.seconds += seconds
        return checkpointer.is_due()

    assert not is_due_after(LOOK)
    begin_to_read(foreign)
    await adapter.cache.set("key", "1" * WAL_LIMIT)
    assert is_due_after(LOOK)
    for number in range(2, 5):
        await adapter._database.submit(lambda _: checkpointer.move())
        assert not is_due_after(LOOK * 1.01)
        await adapter.cache.set("key", f"{number}" * WAL_LIMIT)
        assert is_due_after(LOOK * 1.01)
    await adapter._database.submit(lambda _: checkpointer.move())
    assert not is_due_after(PAUSE * 0.9)
    assert is_due_after(PAUSE * 0.11)
    foreign.execute("COMMIT")
    await adapter._database.submit(lambda _: checkpointer.move())
    await adapter.cache.set("other", "begins the log anew")
    assert not is_due_after(LOOK * 1.01)
    await adapter.cache.set("key", "5" * WAL_LIMIT)
    assert not is_due_after(LOOK / 2)
    assert is_due_after(LOOK)
    checkpointer.close()

"""The `Database` in the event loop: writes at once, in groups, and in its thread."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from goscope.errors import CorruptValue
from goscope.providers import Checkpoint
from goscope.testing import FakeClock
from goscope_sqlite import SQLiteAdapter
from goscope_sqlite._engine.writer import MAX_GATHER_TICKS, MAX_LOOP_ROWS

from .conftest import Query
from .writes import LARGE, insert, inserted, write_lock

pytestmark = pytest.mark.asyncio

WAL_LIMIT_BYTES = 4 * 1024 * 1024


def where(connection: sqlite3.Connection) -> str:
    """A write that returns the name of its thread."""
    connection.execute("UPDATE go_goscope_meta SET value = value WHERE key = 'token'")
    return threading.current_thread().name


class Now:
    """A clock that advances by so many seconds whenever it is read."""

    def __init__(self, step: float) -> None:
        self._step = step
        self._ticks = itertools.count(1)

    def __call__(self) -> float:
        return next(self._ticks) * self._step


def slow_down(monkeypatch: pytest.MonkeyPatch, step: float) -> None:
    """Let each look at the clock take so many seconds, on a machine of any speed."""
    now = Now(step)
    for place in (
        "goscope_sqlite._engine.reader",
        "goscope._tools.loop_budget",
        "goscope_sqlite._engine.writer",
    ):
        monkeypatch.setattr(f"{place}.perf_counter", now)


def count_ticks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list with the number of the current tick of the event loop."""
    loop: Any = asyncio.get_running_loop()
    if not hasattr(loop, "_selector"):
        pytest.skip("this event loop does not tell when a tick begins")
    select, current = loop._selector.select, [0]

    def begin_tick(timeout: float | None = None) -> Any:
        current[0] += 1
        return select(timeout)

    monkeypatch.setattr(loop._selector, "select", begin_tick)
    return current


# --- at once and in groups --------------------------------------------------------------------


async def test_a_lone_write_is_committed_at_once(adapter: SQLiteAdapter, query: Query) -> None:
    write = adapter._database.submit(insert("w1"))
    assert write.done()
    assert inserted(query) == ["w1"]


@pytest.mark.usefixtures("no_time_limit")
async def test_writes_of_one_tick_are_committed_together(
    adapter: SQLiteAdapter, path: Path, query: Query
) -> None:
    seen: list[int] = []
    alone = adapter._database.submit(insert("w0"))
    await asyncio.sleep(0.01)
    with write_lock(path):  # so that none of them is alone
        writes = [adapter._database.submit(insert(f"w{number}")) for number in range(1, 11)]
    assert not any(write.done() for write in writes)
    writes[0].add_done_callback(lambda _: seen.append(len(inserted(query))))
    await asyncio.gather(*writes)
    assert alone.done()
    assert seen == [11], "the first write was resolved before the last one was committed"


async def test_a_batch_and_its_callers_run_in_separate_ticks(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A timer is up to three ticks late, so two short ones delay it less than a long one."""
    ticks = count_ticks(monkeypatch)
    writes: Counter[int] = Counter()
    callers: set[int] = set()

    async with SQLiteAdapter(path, writes="loop") as adapter:  # also if they are slow

        async def write() -> None:
            for _ in range(20):
                await adapter._database.submit(lambda _: writes.update(ticks))
                callers.update(ticks)

        await asyncio.gather(*(write() for _ in range(64)))
    assert writes.total() == 64 * 20
    del writes[min(writes)]  # the first callers write at once, without a batch
    assert max(writes.values()) <= MAX_LOOP_ROWS
    assert not writes.keys() & callers


@pytest.mark.parametrize(("readers", "ticks_apart"), [(0, 2), (8, MAX_GATHER_TICKS)])
async def test_writes_gather_while_reads_wait_for_the_loop(
    adapter: SQLiteAdapter, monkeypatch: pytest.MonkeyPatch, readers: int, ticks_apart: int
) -> None:
    """Else each of their commits has few writes, although the loop is the bottleneck."""
    ticks = count_ticks(monkeypatch)
    slow_down(monkeypatch, 0.00001)
    batches: list[int] = []

    async def write() -> None:
        for _ in range(20):
            await adapter._database.submit(lambda _: batches.extend(ticks))

    async def read() -> None:
        while True:
            await adapter.cache.get("key")

    reading = [asyncio.create_task(read()) for _ in range(readers)]
    await asyncio.sleep(0)
    await asyncio.gather(*(write() for _ in range(8)))
    for task in reading:
        task.cancel()
    times = sorted(set(batches))
    apart = [later - earlier for earlier, later in itertools.pairwise(times[1:])]
    assert set(apart) == {ticks_apart}


async def test_a_write_that_fails_affects_no_other_write(
    adapter: SQLiteAdapter, path: Path, query: Query
) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO go_goscope_meta VALUES ('w9', 0)")
        raise CorruptValue("key", "raised by the test")

    with write_lock(path):
        first = adapter._database.submit(insert("w1"))
        second = adapter._database.submit(fail)
        third = adapter._database.submit(insert("w3"))
    assert list(await asyncio.gather(first, third)) == ["w1", "w3"]
    with pytest.raises(CorruptValue):
        await second
    assert inserted(query) == ["w1", "w3"]


async def test_a_caller_whose_writes_never_suspend_yields_to_the_loop(
    adapter: SQLiteAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An await that is done at once never yields by itself."""
    slow_down(monkeypatch, 0.00001)
    ticks = 0

    async def count() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    counting = asyncio.create_task(count())
    for _ in range(200):
        await adapter.cache.set("key", ticks)
        await adapter.cache.get("key")
    counting.cancel()
    assert ticks > 20


# --- in the thread -----------------------------------------------------------------------------


async def test_only_a_write_of_many_rows_runs_in_the_thread(adapter: SQLiteAdapter) -> None:
    here = threading.current_thread().name
    assert await adapter._database.submit(where) == here
    assert await adapter._database.submit(where, rows=LARGE) != here
    assert await adapter._database.submit(where) == here


async def traced(connection: sqlite3.Connection, awaitable: Awaitable[object]) -> set[str]:
    """Return the threads in which the connection runs statements during the call."""
    threads: set[str] = set()
    connection.set_trace_callback(lambda _: threads.add(threading.current_thread().name))
    await awaitable
    connection.set_trace_callback(None)
    return threads


@pytest.mark.parametrize(("length", "in_thread"), [(1_000, False), (200_000, True)])
async def test_a_long_value_counts_as_many_rows(
    adapter: SQLiteAdapter, length: int, in_thread: bool
) -> None:
    connection = adapter._database._writer.connection
    assert connection is not None
    value = "x" * length
    writes = (
        adapter.cache.set("key", value),
        adapter.checkpoint.save(
            Checkpoint(id="id", task_id="task", sequence=1, timestamp=1, data=value)
        ),
        adapter.idempotency.set("key", value),
    )
    for write in writes:
        threads = await traced(connection, write)
        assert (threads != {threading.current_thread().name}) == in_thread


async def test_the_sweeper_removes_expired_rows_in_the_loop(path: Path) -> None:
    """While a write runs in the thread, point reads run there too."""
    clock = FakeClock()
    async with SQLiteAdapter(path, clock=clock) as adapter:
        await adapter.cache.set_many({f"{number}": 1 for number in range(200)}, "1s")
        await clock.advance("1s")
        database = adapter._database
        assert database._writer.connection is not None
        threads = await traced(database._writer.connection, adapter._sweeper.sweep())
        assert threads == {threading.current_thread().name}
        rows = await database.read_all("SELECT count(*) FROM go_goscope_cache", ())
        assert rows == [(0,)]


async def test_a_write_in_the_thread_is_invisible_before_its_commit(
    adapter: SQLiteAdapter,
) -> None:
    """Reads in the loop must not use its connection, and thus its transaction."""
    entered, leave = threading.Event(), threading.Event()

    def slow(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE go_goscope_cache SET value = '2'")
        entered.set()
        leave.wait(60)

    await adapter.cache.set("key", 1)
    writing = adapter._database.submit(slow, rows=LARGE)
    try:
        assert await asyncio.to_thread(entered.wait, 60)
        assert await adapter.cache.get("key") == 1
        assert await adapter.cache.get_many(["key"]) == {"key": 1}
        waiting = adapter._database.submit(insert("w1"))
        await asyncio.sleep(0.02)
        assert not waiting.done()
    finally:
        leave.set()
    await writing
    assert await adapter.cache.get("key") == 2
    assert await waiting == "w1"


async def test_the_wal_is_checkpointed_and_restarts(adapter: SQLiteAdapter, path: Path) -> None:
    """Of 20 MB that pass through it, less than 4 are left, and reads are unaffected."""
    wal = path.with_name(f"{path.name}-wal")
    for number in range(400):
        await adapter.cache.set(f"{number % 50}", f"{number}" * 20_000)
        assert await adapter.cache.has(f"{number % 50}")
    async with asyncio.timeout(60):
        while wal.stat().st_size > WAL_LIMIT_BYTES:
            await asyncio.sleep(0.01)
            await adapter.cache.set("key", time.time())
    assert len(await adapter.cache.get_many([f"{number}" for number in range(50)])) == 50


async def test_thousands_of_values_are_set_and_deleted_at_once(adapter: SQLiteAdapter) -> None:
    values = {f"{number}": {"number": number} for number in range(2000)}
    await adapter.cache.set_many(values)
    assert await adapter.cache.get_many(list(values)) == values
    assert await adapter.cache.delete_many(list(values)) == 2000
    assert await adapter.cache.keys() == []

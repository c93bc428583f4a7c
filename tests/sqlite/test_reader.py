"""Where reads run: in the event loop as long as they are fast, else in a thread."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Literal

import pytest

from goscope_sqlite import SQLiteAdapter
from goscope_sqlite._engine.place import SLOW_S, THREAD_S
from goscope_sqlite._engine.reader import Reader

from .conftest import Now
from .writes import LARGE

pytestmark = pytest.mark.asyncio

SELECT = "SELECT value FROM go_goscope_cache"


def reader_of(adapter: SQLiteAdapter) -> Reader:
    reader = adapter._database._reader
    assert reader is not None
    return reader


async def where(
    adapter: SQLiteAdapter, now: Now | None = None, seconds: float = 0.0
) -> Literal["loop", "thread"]:
    """Where one point read runs that takes so many seconds of the clock."""
    seen: list[int] = []

    def trace(_: str) -> None:
        seen.append(threading.get_ident())
        if now is not None:
            now.seconds += seconds

    reader = reader_of(adapter)
    await asyncio.sleep(0)  # a new tick, so that the read does not wait for one
    in_loop = adapter._database._writer.connection
    assert in_loop is not None
    connections = (in_loop, reader._in_thread)
    for connection in connections:
        connection.set_trace_callback(trace)
    await adapter.cache.get("key")
    for connection in connections:
        connection.set_trace_callback(None)
    return "loop" if seen == [threading.get_ident()] else "thread"


@pytest.mark.parametrize(("reads", "place"), [("auto", "loop"), ("loop", "loop"), ("thread",) * 2])
async def test_a_point_read_runs_where_the_option_says(path: Path, reads: Any, place: str) -> None:
    async with SQLiteAdapter(path, reads=reads) as adapter:
        await adapter.cache.set("key", 1)
        assert await where(adapter) == place
        assert await adapter.cache.get("key") == 1


async def test_three_slow_reads_send_reads_to_the_thread_for_a_while(
    adapter: SQLiteAdapter, now: Now
) -> None:
    places = [await where(adapter, now, 2 * SLOW_S) for _ in range(4)]
    assert places == ["loop", "loop", "loop", "thread"]
    now.seconds += THREAD_S * 0.9
    assert await where(adapter, now) == "thread"
    now.seconds += THREAD_S * 0.2
    assert [await where(adapter, now) for _ in range(5)] == ["loop"] * 5


async def test_one_slow_read_among_many_changes_nothing(adapter: SQLiteAdapter, now: Now) -> None:
    for _ in range(4):
        assert await where(adapter, now, 2 * SLOW_S) == "loop"
        for _ in range(8):
            assert await where(adapter, now) == "loop"


async def test_the_option_loop_keeps_slow_reads_in_the_loop(path: Path, now: Now) -> None:
    async with SQLiteAdapter(path, reads="loop") as adapter:
        assert [await where(adapter, now, 2 * SLOW_S) for _ in range(5)] == ["loop"] * 5


async def test_a_read_of_a_locked_file_waits_in_the_thread(
    adapter: SQLiteAdapter,
) -> None:
    await adapter.cache.set("key", 1)
    reader = reader_of(adapter)

    def locked(*_: object) -> None:
        error = sqlite3.OperationalError("database is locked")
        error.sqlite_errorcode = sqlite3.SQLITE_BUSY
        raise error

    reader._execute = locked  # type: ignore[assignment]  # real locks are held too briefly
    assert await adapter.cache.get("key") == 1


@pytest.mark.parametrize("reads", ["auto", "thread"])
async def test_a_caller_reads_its_own_completed_writes(path: Path, reads: Any) -> None:
    async with SQLiteAdapter(path, reads=reads) as adapter:

        async def use(key: str) -> None:
            for number in range(50):
                await adapter.cache.set(key, number)
                assert await adapter.cache.get(key) == number

        await asyncio.gather(*(use(f"{number}") for number in range(8)))


def slow_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each read in the loop take 0.05 ms, by a clock that advances whenever it is read."""
    readings = itertools.count()

    def a_twentieth_later() -> float:
        return next(readings) * 0.00005  # seconds

    monkeypatch.setattr("goscope_sqlite._engine.reader.perf_counter", a_twentieth_later)
    monkeypatch.setattr("goscope._tools.loop_budget.perf_counter", a_twentieth_later)


async def ticks_of(*work: Coroutine[Any, Any, None]) -> int:
    """Return how many ticks of the loop the work takes."""
    ticks = 0

    async def count() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    counting = asyncio.create_task(count())
    await asyncio.gather(*work)
    counting.cancel()
    return ticks


async def test_consecutive_reads_let_other_tasks_run(
    adapter: SQLiteAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An await that never suspends never yields to the loop."""
    await adapter.cache.set("key", 1)
    await asyncio.sleep(0)  # ends the tick on the other clock
    slow_down(monkeypatch)

    async def read() -> None:
        for _ in range(200):
            await adapter.cache.get("key")

    assert await ticks_of(read()) >= 30, "a tick has time for a fraction of them"


async def test_the_reads_of_many_tasks_share_a_tick(
    adapter: SQLiteAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full budget for each resumed task would make the tick many times as long."""
    await adapter.cache.set("key", 1)
    await asyncio.sleep(0)  # ends the tick on the other clock
    slow_down(monkeypatch)

    async def read() -> None:
        for _ in range(50):
            await adapter.cache.get("key")

    assert await ticks_of(*(read() for _ in range(20))) >= 1000 / 10


async def test_a_task_that_reads_once_does_not_wait_for_tasks_that_read_often(
    adapter: SQLiteAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    await adapter.cache.set("key", 1)
    await asyncio.sleep(0)  # ends the tick on the other clock
    slow_down(monkeypatch)
    done: list[int] = []

    async def read(number: int) -> None:
        for _ in range(200):
            await adapter.cache.get("key")
        done.append(number)

    async def once() -> None:
        await adapter.cache.get("key")
        done.append(-1)

    await asyncio.gather(*(read(number) for number in range(20)), once())
    assert done.index(-1) < 10


async def test_long_reads_do_not_wait_for_writes(adapter: SQLiteAdapter) -> None:
    opened = threading.Event()
    writing = adapter._database.submit(lambda _: opened.wait(120), rows=LARGE)
    try:
        async with asyncio.timeout(60):
            assert await adapter.cache.keys() == []
            assert await adapter.cache.get_many(["key"]) == {}
        assert not writing.done()
    finally:
        opened.set()
        await writing


async def test_has_leaves_the_value_where_it_is(adapter: SQLiteAdapter) -> None:
    """A long value takes as long to read as it has pages."""
    await adapter.cache.set("key", "x" * 100_000)
    statements: list[str] = []
    connection = adapter._database._writer.connection
    assert connection is not None
    connection.set_trace_callback(statements.append)
    assert await adapter.cache.has("key")
    assert not await adapter.cache.has("absent")
    connection.set_trace_callback(None)
    assert all(text.startswith("SELECT value IS NOT NULL") for text in statements)
    assert len(statements) == 2

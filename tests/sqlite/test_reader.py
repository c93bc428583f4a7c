"""Where reads run: in the event loop while that is fast, else in a thread."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Literal

import pytest

from goscope_sqlite import SQLiteAdapter
from goscope_sqlite._engine.reader import Reader

pytestmark = pytest.mark.asyncio

SELECT = "SELECT value FROM go_goscope_cache"


def reader_of(adapter: SQLiteAdapter) -> Reader:
    reader = adapter._database._reader
    assert reader is not None
    return reader


async def where(adapter: SQLiteAdapter, *, slow: bool = False) -> Literal["loop", "thread"]:
    """Where one point read runs; a slow one takes 2 ms there."""
    seen: list[int] = []

    def trace(_: str) -> None:
        seen.append(threading.get_ident())
        if slow:
            time.sleep(0.002)

    reader = reader_of(adapter)
    connections = (reader._in_loop, reader._in_thread)
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
    adapter: SQLiteAdapter,
) -> None:
    places = [await where(adapter, slow=True) for _ in range(4)]
    assert places == ["loop", "loop", "loop", "thread"]
    await asyncio.sleep(0.06)  # the real time that the router measures
    assert [await where(adapter) for _ in range(5)] == ["loop"] * 5


async def test_one_slow_read_among_many_changes_nothing(adapter: SQLiteAdapter) -> None:
    for _ in range(4):
        assert await where(adapter, slow=True) == "loop"
        for _ in range(8):
            assert await where(adapter) == "loop"


async def test_an_option_of_loop_keeps_slow_reads_in_the_loop(path: Path) -> None:
    async with SQLiteAdapter(path, reads="loop") as adapter:
        assert [await where(adapter, slow=True) for _ in range(5)] == ["loop"] * 5


async def test_a_read_that_finds_the_file_locked_waits_for_it_in_the_thread(
    adapter: SQLiteAdapter,
) -> None:
    await adapter.cache.set("key", 1)
    reader = reader_of(adapter)

    def locked(*_: object) -> None:
        error = sqlite3.OperationalError("database is locked")
        error.sqlite_errorcode = sqlite3.SQLITE_BUSY
        raise error

    reader._execute = locked  # type: ignore[assignment]  # real locks here last too short to hit
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
    """Let each read in the loop take 0.05 ms, by clocks that go on with every look at them."""
    looks = itertools.count()

    def a_twentieth_later() -> float:
        return next(looks) * 0.00005  # seconds

    monkeypatch.setattr("goscope_sqlite._engine.reader.perf_counter", a_twentieth_later)
    monkeypatch.setattr("goscope._tools.loop_budget.perf_counter", a_twentieth_later)


async def turns_of(*work: Coroutine[Any, Any, None]) -> int:
    """How many turns of the loop the work takes."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count())
    await asyncio.gather(*work)
    counting.cancel()
    return turns


async def test_many_reads_in_a_row_let_other_tasks_run(
    adapter: SQLiteAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An await that never suspends would keep the loop for all of them."""
    await adapter.cache.set("key", 1)
    slow_down(monkeypatch)

    async def read() -> None:
        for _ in range(200):
            await adapter.cache.get("key")

    assert await turns_of(read()) >= 30, "a quarter of a millisecond of reads fits into one turn"


async def test_reads_of_many_tasks_share_the_turn(
    adapter: SQLiteAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of those that waited getting a whole turn's time would make it many times as long."""
    await adapter.cache.set("key", 1)
    slow_down(monkeypatch)

    async def read() -> None:
        for _ in range(50):
            await adapter.cache.get("key")

    assert await turns_of(*(read() for _ in range(20))) >= 1000 / 10


async def test_every_task_gets_to_read_while_others_read_all_the_time(
    adapter: SQLiteAdapter,
) -> None:
    await adapter.cache.set("key", 1)
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
    writing = adapter._database.submit(lambda _: opened.wait(30))
    try:
        async with asyncio.timeout(5):
            assert await adapter.cache.keys() == []
            assert await adapter.cache.get_many(["key"]) == {}
        assert not writing.done()
    finally:
        opened.set()
        await writing

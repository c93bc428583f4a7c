"""Where writes run: the option ``writes``, and slow writes."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path
from typing import Any, Literal

import pytest

from goscope_sqlite import SQLiteAdapter
from goscope_sqlite._engine.place import SLOW_S, THREAD_S

from .conftest import Now
from .writes import LARGE

pytestmark = pytest.mark.asyncio


@pytest.fixture
def now(now: Now, monkeypatch: pytest.MonkeyPatch) -> Now:
    for place in ("batch", "writer"):
        monkeypatch.setattr(f"goscope_sqlite._engine.{place}.perf_counter", now)
    return now


async def where(
    adapter: SQLiteAdapter, now: Now | None = None, seconds: float = 0.0, rows: int = 1
) -> Literal["loop", "thread"]:
    """Where one write runs that takes so many seconds of the clock."""

    def work(connection: sqlite3.Connection) -> int:
        if now is not None:
            now.seconds += seconds
        return threading.get_ident()

    await asyncio.sleep(0)  # a new tick, which has its whole budget
    thread = await adapter._database.submit(work, rows=rows)
    return "loop" if thread == threading.get_ident() else "thread"


@pytest.mark.parametrize(
    ("options", "small", "large"),
    [
        ({}, "loop", "thread"),
        ({"writes": "loop"}, "loop", "thread"),
        ({"writes": "thread"}, "thread", "thread"),
        ({"durability": "full"}, "thread", "thread"),
        ({"durability": "full", "writes": "loop"}, "loop", "thread"),
    ],
)
async def test_a_write_runs_where_the_options_say(
    path: Path, options: Any, small: str, large: str
) -> None:
    for store in (path, ":memory:"):
        async with SQLiteAdapter(store, **options) as adapter:
            assert await where(adapter) == small
            assert await where(adapter, rows=LARGE) == large


async def test_three_slow_writes_send_writes_to_the_thread_for_a_while(
    path: Path, now: Now
) -> None:
    async with SQLiteAdapter(path, sweep_interval="1h") as adapter:
        places = [await where(adapter, now, 2 * SLOW_S) for _ in range(4)]
        assert places == ["loop", "loop", "loop", "thread"]
        now.seconds += THREAD_S * 0.9
        assert await where(adapter, now) == "thread"
        now.seconds += THREAD_S * 0.2
        assert [await where(adapter, now) for _ in range(5)] == ["loop"] * 5


async def test_the_option_loop_keeps_slow_writes_in_the_loop(path: Path, now: Now) -> None:
    async with SQLiteAdapter(path, writes="loop", sweep_interval="1h") as adapter:
        assert [await where(adapter, now, 2 * SLOW_S) for _ in range(5)] == ["loop"] * 5


async def test_reads_use_the_writers_page_cache_unless_the_thread_writes(
    path: Path, now: Now
) -> None:
    async with SQLiteAdapter(path, sweep_interval="1h") as adapter:
        reader, writer = adapter._database._reader, adapter._database._writer
        assert reader is not None
        assert reader.writer is writer.connection
        for _ in range(4):
            await where(adapter, now, 2 * SLOW_S)
        assert reader.writer is None
        now.seconds += THREAD_S * 2
        await where(adapter, now)
        assert reader.writer is writer.connection
    async with SQLiteAdapter(path, writes="thread") as adapter:
        reader = adapter._database._reader
        assert reader is not None
        assert reader.writer is None

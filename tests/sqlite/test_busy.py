"""Writes while another process holds the write lock: what waits, and for how long."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from goscope.errors import BackendBusy
from goscope_sqlite import SQLiteAdapter

from .conftest import Now, Query
from .writes import insert, inserted, write_lock

pytestmark = pytest.mark.asyncio


async def test_a_foreign_write_lock_delays_writes_and_not_the_event_loop(
    adapter: SQLiteAdapter, path: Path
) -> None:
    """A wait in the loop would keep the test from releasing the lock, and the writes would fail."""
    await adapter.cache.set("old", 1)
    with write_lock(path):
        writing = [asyncio.create_task(adapter.cache.set(f"{n}", n)) for n in range(64)]
        for _ in range(10):
            await asyncio.sleep(0.03)
            assert await adapter.cache.get("old") == 1, "reads do not wait"
        assert not any(write.done() for write in writing)
    await asyncio.gather(*writing)
    assert len(await adapter.cache.keys()) == 65


async def blocked_write(adapter: SQLiteAdapter, key: str) -> asyncio.Future[str]:
    """Submit a write, and return it after it was attempted."""
    write = adapter._database.submit(insert(key))
    await asyncio.sleep(0.1)
    return write


async def test_a_write_fails_after_its_own_busy_timeout(
    path: Path, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other writes in the queue have waited for less time, and stay there."""
    now = Now()
    for place in ("batch", "writer"):
        monkeypatch.setattr(f"goscope_sqlite._engine.{place}.perf_counter", now)
    async with SQLiteAdapter(path, busy_timeout="500ms") as adapter:
        with write_lock(path):
            early = await blocked_write(adapter, "w1")
            now.seconds += 0.3
            late = await blocked_write(adapter, "w2")
            now.seconds += 0.201
            with pytest.raises(BackendBusy, match="busy_timeout"):
                await early
            assert not late.done(), "it has waited for 0.2 of its 0.5 s"
        await late
    assert inserted(query) == ["w2"]


async def test_a_caller_cancelled_while_its_write_is_blocked_writes_nothing(
    adapter: SQLiteAdapter, path: Path
) -> None:
    with write_lock(path):
        waiting = asyncio.create_task(adapter.cache.set("key", 1))
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await adapter.cache.set("other", 1)
    assert await adapter.cache.keys() == ["other"]


async def test_disconnecting_finishes_blocked_writes(path: Path, query: Query) -> None:
    async with SQLiteAdapter(path, busy_timeout="60s") as adapter:
        with write_lock(path):
            write = adapter._database.submit(insert("w1"))
        assert not write.done()
    assert write.done()
    assert inserted(query) == ["w1"]


async def test_connecting_to_a_locked_file_fails_after_the_busy_timeout(path: Path) -> None:
    sqlite3.connect(path).close()
    with write_lock(path), pytest.raises(BackendBusy):
        await SQLiteAdapter(path, busy_timeout="50ms").connect()
    async with SQLiteAdapter(path) as adapter:
        assert await adapter.cache.keys() == []

"""How long a write waits for another connection that keeps the file locked."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from goscope.errors import BackendBusy
from goscope_sqlite import SQLiteAdapter

pytestmark = pytest.mark.asyncio


@pytest.fixture(params=["loop", "thread"])
def adapter_type(request: pytest.FixtureRequest) -> Any:
    return partial(SQLiteAdapter, writes=request.param)


@contextmanager
def write_lock(path: Path) -> Generator[None]:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
    finally:
        connection.close()


async def test_each_write_waits_for_its_own_timeout_and_no_longer(
    path: Path, adapter_type: Any
) -> None:
    """The second waits behind the first at first, which counts; 40 rows are several batches."""
    async with adapter_type(path, busy_timeout="2s", sweep_interval="1h") as adapter:

        async def seconds_until_busy(number: int) -> float:
            await asyncio.sleep(0.2 if number else 0)
            started = monotonic()
            with pytest.raises(BackendBusy):
                await adapter.cache.set(f"{number}", 1)
            return monotonic() - started

        with write_lock(path):
            waited = await asyncio.gather(*map(seconds_until_busy, range(40)))
        assert min(waited) > 1.9
        assert max(waited) < 3, "a write waited behind another one, and then as long again"
        await adapter.cache.set("after", 1)
        assert await adapter.cache.get("after") == 1


@pytest.mark.parametrize("timeout", ["25d", "36500d"])
async def test_a_timeout_beyond_24_days_is_not_none(
    path: Path, adapter_type: Any, timeout: str
) -> None:
    """SQLite counts milliseconds in 32 bits."""
    async with adapter_type(path, busy_timeout=timeout, sweep_interval="1h") as adapter:
        with write_lock(path):
            writing = asyncio.create_task(adapter.cache.set("key", 1))
            await asyncio.sleep(0.2)
            assert not writing.done()
        await asyncio.wait_for(writing, 60)


async def test_opening_waits_for_the_timeout_and_no_longer(path: Path, adapter_type: Any) -> None:
    async with adapter_type(path):
        pass
    started = monotonic()
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(BackendBusy):
            async with adapter_type(path, busy_timeout="4s"):
                pass
    finally:
        connection.close()
    assert 3.9 < monotonic() - started < 7

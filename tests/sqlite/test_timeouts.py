"""What a timeout of the caller bounds: the wait for another process, but not a write that runs."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from goscope_sqlite import SQLiteAdapter

from .conftest import Query
from .writes import LARGE, Gate, insert, inserted, write_lock

pytestmark = pytest.mark.asyncio

LONG_S = 30
"""Longer than any of these tests may take, however busy the machine is."""


@pytest.fixture(params=["auto", "loop", "thread"])
def new_adapter(request: pytest.FixtureRequest) -> Any:
    """An adapter whose writes wait for a minute, with its shared locks."""
    return partial(SQLiteAdapter, writes=request.param, locks="shared", busy_timeout="60s")


@pytest.mark.parametrize("how", ["set", "acquire", "add", "large set"])
async def test_a_write_that_waits_for_another_process_ends_at_the_timeout(
    path: Path, query: Query, new_adapter: Any, how: str
) -> None:
    async with new_adapter(path) as adapter:
        calls = {
            "set": lambda: adapter.cache.set("key", 1),
            "add": lambda: adapter.cache.add("key", 1),
            "acquire": lambda: adapter.lock.acquire("key"),
            "large set": lambda: adapter.cache.set("key", "x" * 200_000),
        }
        with write_lock(path):
            started = monotonic()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await calls[how]()
            assert monotonic() - started < LONG_S
        await adapter.cache.set("other", 1)
        assert await adapter.cache.keys() == ["other"]
        assert query("SELECT * FROM go_goscope_locks") == []


async def test_a_release_that_waits_for_another_process_is_made_nevertheless(
    path: Path, new_adapter: Any
) -> None:
    """Otherwise the lock would stay held until its lease runs out."""
    async with new_adapter(path) as adapter:
        handle = await adapter.lock.acquire("key")
        with write_lock(path):
            releasing = asyncio.create_task(handle.release())
            await asyncio.sleep(0.05)
            releasing.cancel()
            await asyncio.sleep(0.05)
            assert not releasing.done()
        with pytest.raises(asyncio.CancelledError):
            await releasing
        assert await adapter.lock.holder("key") is None


async def test_a_write_behind_a_running_one_is_withdrawn_at_once(
    adapter: SQLiteAdapter, query: Query
) -> None:
    with Gate() as gate:
        running = adapter._database.submit(gate, rows=LARGE)
        await gate.wait_entered()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await adapter.cache.set("key", 1)
        assert not running.done()
    await running
    assert await adapter.cache.keys() == []


async def test_a_write_cancelled_during_a_blocked_attempt_in_the_thread_is_withdrawn(
    path: Path, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cancellation arrives while nobody knows yet that the attempt is blocked."""
    async with SQLiteAdapter(path, writes="thread", busy_timeout="60s") as adapter:
        thread = adapter._database._writer._thread
        run, ran = thread.run, asyncio.Event()

        async def cancel_after(work: Any) -> None:
            await run(work)
            writing.cancel()
            ran.set()

        with write_lock(path):
            monkeypatch.setattr(thread, "run", cancel_after)
            writing = asyncio.create_task(adapter.cache.set("key", 1))
            async with asyncio.timeout(LONG_S):
                await ran.wait()
                with pytest.raises(asyncio.CancelledError):
                    await writing
        monkeypatch.undo()
        assert await adapter._database.submit(insert("w1")) == "w1"
        assert inserted(query) == ["w1"]
        assert await adapter.cache.keys() == []

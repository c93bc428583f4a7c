"""Processes that wait for a lock take turns. Two adapters on one file stand for two processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from goscope import SupportsWait
from goscope.testing import FakeClock
from goscope_sqlite import SQLiteAdapter

from .conftest import Query

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def other(path: Path, clock: FakeClock) -> AsyncIterator[SQLiteAdapter]:
    async with SQLiteAdapter(path, locks="shared", clock=clock) as other:
        yield other


async def pass_until(clock: FakeClock, condition: Callable[[], object]) -> None:
    """Let time pass, in steps that the writer's thread can keep up with."""
    async with asyncio.timeout(30):
        while not condition():
            await clock.advance("5ms")
            await asyncio.sleep(0.001)


def wait_for(adapter: SQLiteAdapter, timeout: str) -> asyncio.Task[bool]:
    assert isinstance(adapter.lock, SupportsWait)
    return asyncio.ensure_future(adapter.lock.wait_released("key", timeout))


def places(query: Query) -> int:
    return len(query("SELECT 1 FROM go_goscope_lock_waiters"))


@pytest_asyncio.fixture
async def waiting(
    adapter: SQLiteAdapter, other: SQLiteAdapter, clock: FakeClock, query: Query
) -> AsyncIterator[asyncio.Task[bool]]:
    """``other`` is in the line for "key", which ``adapter`` holds as "holder"."""
    await adapter.lock.acquire("key", "1h", owner="holder")
    wait = wait_for(other, "10m")
    await pass_until(clock, lambda: places(query))
    yield wait
    wait.cancel()
    await asyncio.wait([wait])


async def test_who_releases_cannot_take_the_lock_again_while_another_process_waits(
    adapter: SQLiteAdapter, other: SQLiteAdapter, clock: FakeClock, waiting: asyncio.Task[bool]
) -> None:
    await adapter.lock.force_release("key")
    assert await adapter.lock.acquire("key") is None
    await pass_until(clock, waiting.done)
    assert waiting.result()
    assert await other.lock.acquire("key") is not None


async def test_a_taken_turn_leaves_no_place_behind(
    adapter: SQLiteAdapter,
    other: SQLiteAdapter,
    clock: FakeClock,
    waiting: asyncio.Task[bool],
    query: Query,
) -> None:
    await adapter.lock.force_release("key")
    await pass_until(clock, waiting.done)
    handle = await other.lock.acquire("key")
    assert handle is not None
    assert places(query) == 0
    await handle.release()
    assert await adapter.lock.acquire("key") is not None


async def test_a_cancelled_wait_leaves_no_place_behind(
    adapter: SQLiteAdapter, clock: FakeClock, waiting: asyncio.Task[bool], query: Query
) -> None:
    waiting.cancel()
    await pass_until(clock, lambda: not places(query))
    await adapter.lock.force_release("key")
    assert await adapter.lock.acquire("key") is not None


async def test_a_wait_that_is_over_leaves_no_place_behind(
    adapter: SQLiteAdapter, other: SQLiteAdapter, clock: FakeClock, query: Query
) -> None:
    await adapter.lock.acquire("key", "1h")
    wait = wait_for(other, "300ms")
    await pass_until(clock, lambda: places(query))
    await pass_until(clock, wait.done)
    assert wait.result() is False
    await pass_until(clock, lambda: not places(query))


async def test_a_process_that_shows_itself_no_more_is_passed_over(
    adapter: SQLiteAdapter, clock: FakeClock, waiting: asyncio.Task[bool], query: Query
) -> None:
    """It was killed: its place stays in the file, and holds others up for a second only."""
    await adapter.lock.force_release("key")
    row = query("SELECT key, 'killed', boot_id, since - 1, seen FROM go_goscope_lock_waiters")[0]
    waiting.cancel()
    await pass_until(clock, lambda: not places(query))
    query("INSERT INTO go_goscope_lock_waiters VALUES (?, ?, ?, ?, ?)", *row)
    assert await adapter.lock.acquire("key") is None
    await clock.advance("1s")
    assert await adapter.lock.acquire("key") is not None


async def test_short_waits_cost_no_place(
    adapter: SQLiteAdapter, other: SQLiteAdapter, clock: FakeClock, query: Query
) -> None:
    await adapter.lock.acquire("key", "1h")
    wait = wait_for(other, "90ms")
    await pass_until(clock, wait.done)
    assert wait.result() is False
    assert places(query) == 0

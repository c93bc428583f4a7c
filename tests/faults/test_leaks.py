"""Many calls, and many opens and closes, leave no descriptor, thread, task or object behind."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from goscope import Scope
from goscope_bun_compat import BunSQLiteAdapter
from goscope_sqlite import SQLiteAdapter

from .amounts import amount
from .conftest import Count

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.skipif(sys.platform != "linux", reason="/proc lists the descriptors"),
]

MAX_OBJECTS: Final = 500
"""How many objects may be left: caches of the interpreter fill up."""

MAX_WAIT_S: Final = 30


class Resources(NamedTuple):
    """What the process has."""

    descriptors: int
    threads: int
    tasks: int
    objects: int


async def used() -> Resources:
    """What the process has once the threads that end have ended."""
    await asyncio.sleep(0)
    gc.collect()
    descriptors = len(os.listdir("/proc/self/fd"))
    return Resources(
        descriptors, threading.active_count(), len(asyncio.all_tasks()), len(gc.get_objects())
    )


async def assert_no_more_than(before: Resources) -> None:
    deadline = time.monotonic() + MAX_WAIT_S
    while (now := await used())[:3] > before[:3] and time.monotonic() < deadline:  # noqa: ASYNC110  # threads
        await asyncio.sleep(0.01)
    for name, limit, found in zip(Resources._fields[:3], before[:3], now[:3], strict=True):
        assert found <= limit, f"{name}: {limit} before, {found} after"
    assert now.objects <= before.objects + MAX_OBJECTS, f"{now.objects - before.objects} objects"


async def use(gs: Scope, number: int) -> None:
    """Ten calls."""
    key = f"{number % 50}"
    await gs.cache.set(key, number, "1h", tags=["tag"])
    await gs.cache.get(key)
    await gs.cache.get_or_set(f"computed:{key}", lambda: number, ttl="1h")
    await gs.cache.delete(key)
    await gs.cache.increment("count")
    async with gs.lock(key):
        pass
    await gs.circuit_breaker("circuit").call(lambda: number)
    await gs.idempotency.run(key, lambda: number)
    await gs.tasks.run(key, lambda task: task.checkpoint.save(number))
    await asyncio.gather(gs.cache.get(key), return_exceptions=True)


@pytest.mark.parametrize("kind", [SQLiteAdapter, BunSQLiteAdapter])
async def test_calls_leave_nothing_behind(tmp_path: Path, kind: Any, count: Count) -> None:
    rounds = amount(60, 50_000)
    async with Scope(persistence=kind(tmp_path / "store.db", locks="shared")) as gs:
        for number in range(50):
            await use(gs, number)
        before = await used()
        for number in range(rounds):
            await use(gs, number)
        await assert_no_more_than(before)
    count("calls without a leak", rounds * 10)


@pytest.mark.parametrize("kind", [SQLiteAdapter, BunSQLiteAdapter])
async def test_opens_and_closes_leave_nothing_behind(
    tmp_path: Path, kind: Any, count: Count
) -> None:
    gs, rounds = Scope(persistence=kind(tmp_path / "store.db", locks="shared")), amount(20, 1000)

    async def cycle() -> None:
        async with gs:
            await use(gs, 1)

    for _ in range(3):
        await cycle()
    before = await used()
    for _ in range(rounds):
        await cycle()
    await assert_no_more_than(before)
    assert sorted(os.listdir(tmp_path)) == ["store.db"]
    count("opens and closes without a leak", rounds)

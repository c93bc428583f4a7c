"""Regression tests for the known bugs of go-go-scope's SQLite adapter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from goscope import MISSING, Checkpoint, Scope
from goscope.backend import Locks, MemoryLockProvider
from goscope.testing import FakeClock
from goscope_sqlite import SQLiteAdapter

pytestmark = pytest.mark.asyncio

Query = Callable[..., list[tuple[Any, ...]]]


async def test_extend_does_not_revive_an_expired_lock(
    adapter: SQLiteAdapter, clock: FakeClock
) -> None:
    handle = await adapter.lock.acquire("key", "1s", "me")
    assert handle is not None
    await clock.advance("1s")
    assert not await handle.extend("1m")
    assert not await adapter.lock.extend("key", "1m", "me")
    assert await adapter.lock.acquire("key") is not None


async def test_a_ttl_under_a_second_is_exact(adapter: SQLiteAdapter, clock: FakeClock) -> None:
    clock.step_wall("700ms")  # so that the second changes before the entry expires
    await adapter.cache.set("key", 1, "400ms")
    await clock.advance("399ms")
    assert await adapter.cache.get("key") == 1
    await clock.advance("1ms")
    assert await adapter.cache.get("key") is None


@pytest.mark.parametrize("ttl", [0, timedelta(0), "0s", -1])
async def test_a_ttl_of_zero_is_refused_instead_of_never_expiring(
    adapter: SQLiteAdapter, ttl: Any
) -> None:
    with pytest.raises(ValueError, match="ttl"):
        await adapter.cache.set("key", 1, ttl)
    assert not await adapter.cache.has("key")


async def test_null_a_miss_and_undecodable_text_differ(
    adapter: SQLiteAdapter, query: Query
) -> None:
    events: list[Any] = []
    adapter.observe(events.append)
    await adapter.cache.set("null", None)
    await adapter.cache.set("broken", 1)
    query("UPDATE go_goscope_cache SET value = '{' WHERE key = 'cache:broken'")
    assert await adapter.cache.get("null", MISSING) is None
    assert await adapter.cache.get("absent", MISSING) is MISSING
    assert not events
    assert await adapter.cache.get("broken", MISSING) is MISSING
    assert [event.key for event in events] == ["broken"]


async def test_fifty_concurrent_failures_count_fifty(adapter: SQLiteAdapter) -> None:
    counts = await asyncio.gather(
        *(adapter.circuit_breaker.record_failure("key", 50) for _ in range(50))
    )
    assert sorted(counts) == list(range(1, 51))
    state = await adapter.circuit_breaker.get_state("key")
    assert state is not None
    assert (state.state, state.failure_count) == ("open", 50)


async def test_keys_returns_no_internal_prefixes(adapter: SQLiteAdapter) -> None:
    await adapter.cache.set("key", 1)
    assert await adapter.cache.keys() == ["key"]


@pytest.mark.parametrize("pattern", ["user_*", "USER:*", "user?1", "[u]ser:1", "user%"])
async def test_only_a_star_is_special_in_a_pattern(adapter: SQLiteAdapter, pattern: str) -> None:
    await adapter.cache.set("user:1", 1)
    assert await adapter.cache.keys(pattern) == []
    await adapter.cache.set(pattern.replace("*", "x"), 2)
    assert await adapter.cache.keys(pattern) == [pattern.replace("*", "x")]


async def test_clear_does_not_touch_a_prefix_that_differs_in_a_wildcard(
    adapter: SQLiteAdapter, path: Any
) -> None:
    async with (
        SQLiteAdapter(path, key_prefix="my_app:") as mine,
        SQLiteAdapter(path, key_prefix="myXapp:") as other,
    ):
        await mine.cache.set("key", 1)
        await other.cache.set("key", 2)
        await adapter.cache.set("key", 3)
        await mine.cache.clear()
        assert await mine.cache.get("key") is None
        assert await other.cache.get("key") == 2
        assert await adapter.cache.get("key") == 3


async def test_checkpoints_are_saved_listed_and_cleaned_up(adapter: SQLiteAdapter) -> None:
    for number in range(5):
        await adapter.checkpoint.save(
            Checkpoint(id=f"c{number}", task_id="task", sequence=number, timestamp=0, data=number)
        )
    await adapter.checkpoint.cleanup("task", 2)
    assert [found.id for found in await adapter.checkpoint.list("task")] == ["c3", "c4"]


async def test_a_result_and_the_release_of_its_lease_share_a_transaction(
    adapter: SQLiteAdapter, query: Query
) -> None:
    """The original gets, runs and sets; here no reader sees both the result and the lease."""
    lease = await adapter.lease.acquire("idempotency:charge")
    await adapter.idempotency.set("charge", 1, fence=lease)
    assert query("SELECT count(*) FROM go_goscope_locks") == [(0,)]
    assert query("SELECT value FROM go_goscope_idempotency WHERE key = 'charge'") == [("1",)]


class Unscannable(dict[str, Any]):
    """Held locks that can be looked up but not iterated."""

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("all held locks were scanned")

    def items(self) -> Any:
        iter(self)

    def values(self) -> Any:
        iter(self)


async def test_acquiring_does_not_scan_other_held_locks(adapter: SQLiteAdapter) -> None:
    """The original scans all of them: beside 10,000, each costs 200 times as much."""
    locks = MemoryLockProvider(adapter.context)
    for number in range(1000):
        assert await locks.acquire(f"held:{number}")
    locks._table._grants = Unscannable(locks._table._grants)
    handle = await locks.acquire("key")
    assert handle is not None
    assert await locks.acquire("key") is None
    await handle.release()
    assert await locks.acquire("key")


async def test_concurrent_calls_with_one_key_run_once(path: Path) -> None:
    """The original gets, runs and sets: every call finds nothing, and runs."""
    runs = 0

    async def charge() -> int:
        nonlocal runs
        runs += 1
        await asyncio.sleep(0)
        return runs

    async with Scope(persistence=SQLiteAdapter(path)) as gs:
        results = await asyncio.gather(*(gs.idempotency.run("charge", charge) for _ in range(50)))
    assert (runs, set(results)) == (1, {1})


@pytest.mark.parametrize("locks", ["memory", "shared"])
async def test_a_lock_with_two_waiters_is_granted_to_both(path: Path, locks: Locks) -> None:
    """The original's mutex expects exactly one waiter, and grants none of two."""
    order: list[int] = []

    async def wait(gs: Scope, number: int) -> None:
        async with gs.lock("key", wait="60s"):
            order.append(number)

    async with (
        Scope(persistence=SQLiteAdapter(path, locks=locks)) as gs,
        asyncio.TaskGroup() as group,
        gs.lock("key"),
    ):
        for number in range(3):
            group.create_task(wait(gs, number))
        await asyncio.sleep(0)
    assert order == [0, 1, 2]


async def test_expired_rows_are_removed_without_a_caller(
    adapter: SQLiteAdapter, clock: FakeClock, query: Query
) -> None:
    """The original removes no expired row by itself."""
    await adapter.cache.set("key", 1, "1s")
    await adapter.idempotency.set("key", 1, "1s")
    await clock.advance("1m")
    both = "SELECT key FROM go_goscope_cache UNION ALL SELECT key FROM go_goscope_idempotency"
    async with asyncio.timeout(60):
        while query(both):  # noqa: ASYNC110  # the writer's thread sets no event
            await asyncio.sleep(0.001)

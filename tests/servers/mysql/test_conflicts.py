"""Deadlocks and lock waits of the server are retried, and never reach the caller."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack

import pytest

from . import databases
from .store import Store

pytestmark = pytest.mark.asyncio


async def test_the_victim_of_a_deadlock_is_run_again(store: Store) -> None:
    """InnoDB rolls back the transaction that has changed fewer rows: goscope's."""
    async with store.adapter() as adapter:
        await adapter.cache.set_many({f"key{number}": "old" for number in range(50)})
        async with databases.session(database=store.name, autocommit=False) as other:
            await other.query("UPDATE goscope_cache SET created_at = 1 WHERE `key` <> 'cache:key0'")
            writing = asyncio.create_task(adapter.cache.set_many({"key0": "new", "key1": "new"}))
            await store.until_blocked()  # it has locked key0, and waits for key1
            await other.query("UPDATE goscope_cache SET created_at = 1 WHERE `key` = 'cache:key0'")
            assert not writing.done()
            await other.query("COMMIT")
        await writing
        assert await adapter.cache.get_many(["key0", "key1"]) == {"key0": "new", "key1": "new"}


async def test_a_lock_wait_timeout_is_run_again(store: Store) -> None:
    async with store.adapter(timeout="5s") as adapter:  # waits for a row for 1 s at a time
        await adapter.cache.set("key", "old")
        async with store.locked_entry("key"):
            writing = asyncio.create_task(adapter.cache.set("key", "new"))
            await store.until_blocked()
            await asyncio.wait([writing], timeout=1.5)
            assert not writing.done()
        await writing
        assert await adapter.cache.get("key") == "new"


async def test_writers_of_the_same_keys_and_a_sweeper_get_no_error(store: Store) -> None:
    numbers = random.Random(1)
    async with AsyncExitStack() as stack:
        adapters = [await stack.enter_async_context(store.adapter()) for _ in range(3)]

        async def write(adapter_number: int) -> None:
            cache = adapters[adapter_number].cache
            for _ in range(15):
                keys = [f"key{number}" for number in numbers.sample(range(20), 8)]
                await cache.set_many(dict.fromkeys(keys, adapter_number), "1ms")
                await cache.set(keys[0], 1, tags=["a", "b", "c"])
                await cache.increment("count")
                await cache.delete_many(keys[:4])
                await cache.delete_by_tag("b")
                await adapters[adapter_number].circuit_breaker.record_failure("key", 1000)
                await adapters[adapter_number]._sweeper.sweep()

        await asyncio.gather(*(write(number % 3) for number in range(9)))
        assert await adapters[0].cache.get("count") == 135
        state = await adapters[0].circuit_breaker.get_state("key")
        assert state is not None
        assert state.failure_count == 135


async def test_contenders_for_new_locks_get_no_error(store: Store) -> None:
    """A hundred callers of three adapters for each of some locks that were never taken."""
    async with AsyncExitStack() as stack:
        adapters = [await stack.enter_async_context(store.adapter()) for _ in range(3)]
        for key in ("a", "b", "c"):
            acquiring = (adapters[number % 3].lock.acquire(key, "1h") for number in range(100))
            grants = [grant for grant in await asyncio.gather(*acquiring) if grant is not None]
            assert len(grants) == 1

"""Adapters, as processes do, wait for a lock in order, and none of them blocks the others."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from goscope.providers import LockHandle
from goscope_mysql import MySQLAdapter
from goscope_mysql.providers import lock_queue

from .store import Store

pytestmark = pytest.mark.asyncio


async def until_queued(store: Store, count: int) -> None:
    """Return when that many connections wait for a named lock."""
    async with asyncio.timeout(30):
        while sum("GET_LOCK" in sql for sql in await store.running()) < count:  # noqa: ASYNC110  # the server tells nobody
            await asyncio.sleep(0.005)


async def until_head(adapter: MySQLAdapter) -> None:
    """Return when the adapter is the head of the queue of "key"."""
    async with asyncio.timeout(30):
        while not adapter.lock.queue.is_head("lock:key"):  # noqa: ASYNC110  # the server tells nobody
            await asyncio.sleep(0.005)


async def acquire(adapter: MySQLAdapter, key: str = "key") -> LockHandle:
    """Wait until the lock is granted."""
    while True:
        handle = await adapter.lock.acquire(key, "1h")
        if handle is not None:
            return handle
        await adapter.lock.wait_released(key)


async def test_the_lock_is_granted_in_the_order_of_waiting(store: Store) -> None:
    order: list[int] = []
    async with AsyncExitStack() as stack:
        adapters = [await stack.enter_async_context(store.adapter()) for _ in range(4)]
        held = await acquire(adapters[0])

        async def take_turn(number: int) -> None:
            handle = await acquire(adapters[number])
            order.append(number)
            await handle.release()

        waiting = [asyncio.create_task(take_turn(1))]
        await until_head(adapters[1])
        for number in (2, 3):
            waiting.append(asyncio.create_task(take_turn(number)))
            await until_queued(store, number - 1)
        await held.release()
        await asyncio.gather(*waiting)
    assert order == [1, 2, 3]


async def test_the_last_holder_does_not_take_the_lock_again_at_once(store: Store) -> None:
    async with store.adapter() as one, store.adapter() as two:
        held = await acquire(one)
        waiting = asyncio.create_task(acquire(two))
        await until_head(two)
        await held.release()
        assert await one.lock.acquire("key") is None, "it overtook the waiting one"
        assert await (await waiting).release()
        assert await one.lock.acquire("key") is not None


async def test_a_head_that_is_suspended_blocks_the_others_for_a_short_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server closes the connection of a head without heartbeats."""
    monkeypatch.setattr(lock_queue, "HEARTBEAT_S", 3600)
    async with store.adapter() as suspended, store.adapter() as other:
        held = await acquire(suspended, "key")
        suspended.lock.queue.join("lock:key")
        await until_head(suspended)
        await held.release()
        assert await other.lock.acquire("key") is None
        async with asyncio.timeout(30):
            handle = await acquire(other)
        assert await handle.release()


async def test_a_cancelled_wait_leaves_no_connection_in_the_queue(store: Store) -> None:
    async with store.adapter() as one, store.adapter() as two, store.adapter() as three:
        held = await acquire(one)
        head = asyncio.create_task(acquire(two))
        await until_head(two)
        queued = asyncio.create_task(acquire(three))
        await until_queued(store, 1)
        for task in (queued, head):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        async with asyncio.timeout(30):
            while any("GET_LOCK" in sql for sql in await store.running()):  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        await held.release()
        assert await one.lock.acquire("key") is not None


async def test_more_waits_than_queue_connections_are_polls(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_queue, "MAX_QUEUES", 1)
    async with store.adapter() as one, store.adapter() as two:
        held = [await acquire(one, f"key{number}") for number in range(3)]
        waiting = [asyncio.create_task(acquire(two, f"key{number}")) for number in range(3)]
        await asyncio.sleep(0.05)
        for handle in held:
            await handle.release()
        await asyncio.gather(*waiting)

"""Waiting for a lock of another process: notified, in order, and past processes that died."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Final

import pytest

from goscope.providers import LockHandle
from goscope_postgres import PostgresAdapter
from goscope_postgres.providers import lock

from .stores import Store, administrator
from .support import adapter_of

pytestmark = pytest.mark.asyncio

LIMIT_S = 30


@pytest.fixture
def _polling_is_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    """So rare that only a notification can end a wait in time."""
    monkeypatch.setattr(lock, "LISTENING_POLL_MS", 600_000)


async def until_queued(store: Store, count: int) -> None:
    """Return when that many processes wait in the queues; for 0, when none does."""
    async with administrator() as other, asyncio.timeout(LIMIT_S):
        query = f"SELECT count(*) FROM {store.name}.goscope_queue"
        while (queued := await other.fetchval(query)) < count or (queued and not count):  # noqa: ASYNC110  # the server tells nobody
            await asyncio.sleep(0.005)


async def granted(adapter: PostgresAdapter, key: str, ttl: str = "1h") -> LockHandle:
    handle = await adapter.lease.acquire(key, ttl)
    assert handle is not None
    return handle


@pytest.mark.usefixtures("_polling_is_rare")
@pytest.mark.parametrize("end", ["release", "force_release", "completion"])
async def test_the_end_of_a_lease_notifies_a_waiter_in_another_process(
    store: Store, end: str
) -> None:
    async with adapter_of(store) as one, adapter_of(store) as two, asyncio.timeout(LIMIT_S):
        handle = await granted(one, "idempotency:key")
        waiting = asyncio.create_task(two.lease.wait_released("idempotency:key"))
        await until_queued(store, 1)
        await asyncio.sleep(0.1)  # its poll after joining the queue
        assert not waiting.done()
        if end == "release":
            await handle.release()
        elif end == "force_release":
            await one.lease.force_release("idempotency:key")
        else:
            await one.idempotency.set("key", 1, fence=handle)
        assert await waiting


WRITES: Final[dict[str, Callable[[PostgresAdapter], Awaitable[object]]]] = {
    "set": lambda it: it.cache.set("key", 1),
    "set_many": lambda it: it.cache.set_many({"key": 1, "other": 2}),
    "add": lambda it: it.cache.add("fresh", 1),
    "increment": lambda it: it.cache.increment("key"),
    "delete": lambda it: it.cache.delete("key"),
    "delete_by_tag": lambda it: it.cache.delete_by_tag("tag"),
    "clear": lambda it: it.cache.clear("k*"),
}


@pytest.mark.usefixtures("_polling_is_rare")
@pytest.mark.parametrize("write", WRITES)
async def test_a_write_that_ends_a_computation_notifies_all_who_wait_for_it(
    store: Store, write: str
) -> None:
    lease = "cache:fresh" if write == "add" else "cache:key"
    async with (
        adapter_of(store) as one,
        adapter_of(store) as two,
        adapter_of(store) as three,
        asyncio.timeout(LIMIT_S),
    ):
        await one.cache.set("key", 1, tags=["tag"])
        computing = await granted(one, lease)
        waiting = [asyncio.create_task(it.lease.wait_released(lease)) for it in (two, three)]
        await until_queued(store, 2)
        await asyncio.sleep(0.1)  # their polls after joining the queue
        assert not any(it.done() for it in waiting)
        await WRITES[write](one)
        assert await asyncio.gather(*waiting) == [True, True]
        assert not await computing.is_valid()


async def test_a_newcomer_does_not_overtake_a_process_in_the_queue(store: Store) -> None:
    async with adapter_of(store) as one, adapter_of(store) as two, asyncio.timeout(LIMIT_S):
        handle = await granted(one, "key")
        waiting = asyncio.create_task(two.lease.wait_released("key"))
        await until_queued(store, 1)
        await handle.release()
        assert await one.lease.acquire("key") is None, "it took the lock from the process in front"
        assert await waiting
        second = await granted(two, "key")
        await second.release()
        await granted(one, "key")


@pytest.mark.usefixtures("_polling_is_rare")
async def test_a_process_that_found_what_it_waited_for_keeps_nobody_waiting(store: Store) -> None:
    """It takes no lease then, and is the first in the queue all the same."""
    async with adapter_of(store) as one, adapter_of(store) as two, asyncio.timeout(LIMIT_S):
        handle = await granted(one, "cache:key")
        waiting = asyncio.create_task(two.lease.wait_released("cache:key"))
        await until_queued(store, 1)
        await handle.release()
        assert await waiting
        while await one.lease.acquire("cache:key") is None:
            assert await one.lease.wait_released("cache:key")


async def test_processes_are_served_in_the_order_in_which_they_came(store: Store) -> None:
    order: list[int] = []
    async with adapter_of(store) as holder, asyncio.timeout(LIMIT_S):
        handle = await granted(holder, "key")
        adapters = [adapter_of(store) for _ in range(4)]

        async def take(number: int) -> None:
            adapter = adapters[number]
            while (mine := await adapter.lease.acquire("key", "1h")) is None:
                await adapter.lease.wait_released("key")
            order.append(number)
            await mine.release()

        tasks: list[asyncio.Task[None]] = []
        for number in range(len(adapters)):
            await adapters[number].connect()
            tasks.append(asyncio.create_task(take(number)))
            await until_queued(store, number + 1)
        await handle.release()
        await asyncio.gather(*tasks)
        for adapter in adapters:
            await adapter.disconnect()
    assert order == [0, 1, 2, 3]


async def test_a_process_that_died_in_the_queue_is_skipped(store: Store) -> None:
    async with adapter_of(store) as one, asyncio.timeout(LIMIT_S):
        handle = await granted(one, "key")
        async with administrator() as other:
            await other.execute(
                f"INSERT INTO {store.name}.goscope_queue "
                f"VALUES ('lease:key', 'dead', clock_timestamp(), clock_timestamp())"
            )
        await handle.release()
        assert await one.lease.acquire("key") is None, "its heartbeat is fresh"
        assert await one.lease.wait_released("key")
        await granted(one, "key")


async def test_a_wait_that_ends_leaves_the_queue(store: Store) -> None:
    async with adapter_of(store) as one, adapter_of(store) as two, asyncio.timeout(LIMIT_S):
        await granted(one, "key")
        assert not await two.lease.wait_released("key", "50ms")
        cancelled = asyncio.create_task(two.lease.wait_released("key"))
        await until_queued(store, 1)
        cancelled.cancel()
        await asyncio.wait([cancelled])
        await until_queued(store, 0)


async def test_a_lost_listener_is_replaced(store: Store) -> None:
    async with adapter_of(store) as one, adapter_of(store) as two, asyncio.timeout(LIMIT_S):
        for _ in range(2):
            handle = await granted(one, "key")
            waiting = asyncio.create_task(two.lease.wait_released("key"))
            await until_queued(store, 1)
            async with administrator() as other:
                await other.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE usename = $1 AND query ILIKE 'LISTEN%'",
                    store.name,
                )
            await asyncio.sleep(0.05)
            await handle.release()
            assert await waiting
            await (await granted(two, "key")).release()


async def test_tokens_of_one_key_grow_under_contention(store: Store) -> None:
    adapters = [adapter_of(store, pool_size=3) for _ in range(4)]
    tokens: list[int] = []

    async def contend(adapter: PostgresAdapter) -> None:
        while len(tokens) < 200:
            handle = await adapter.lease.acquire("key", "1h")
            if handle is not None:
                assert handle.fencing_token is not None
                tokens.append(handle.fencing_token)  # while it is held: in the order of grants
                await handle.release()

    for adapter in adapters:
        await adapter.connect()
    await asyncio.gather(*(contend(adapter) for adapter in adapters for _ in range(3)))
    for adapter in adapters:
        await adapter.disconnect()
    assert all(one < two for one, two in itertools.pairwise(tokens))

"""What a MySQL store tells of those who wait and those who have it open."""

from __future__ import annotations

import asyncio
import os

import pytest

from goscope.testing import FakeClock

from . import databases
from .store import Store
from .test_lock_queue import acquire, until_head, until_queued
from .test_schema import count

pytestmark = pytest.mark.asyncio


async def test_waiters_are_listed_with_their_connection_as_long_as_they_wait(store: Store) -> None:
    async with store.adapter() as one, store.adapter() as two, store.adapter() as three:
        held = await acquire(one)
        assert [waiter async for waiter in one.inspection.waiters()] == []
        waiting = [asyncio.create_task(two.lock.wait_released("key"))]
        await until_head(two)
        waiting.append(asyncio.create_task(three.lock.wait_released("key")))
        await until_queued(store, 1)
        found = [waiter async for waiter in one.inspection.waiters()]
        assert [(it.kind, it.key, it.pid) for it in found] == [("lock", "key", None)] * 2
        ids = {it.name.split()[1] for it in found}
        assert str(two.lock.queue._places["lock:key"].connection_id) in ids
        assert len(ids) == 2
        assert (await one.inspection.totals()).waiters.count == 2
        assert [it.key async for it in one.inspection.waiters("other*")] == []
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        await held.release()
    async with store.adapter() as again:
        assert [waiter async for waiter in again.inspection.waiters()] == []


async def test_each_connected_adapter_is_listed_until_it_closes_or_is_silent(store: Store) -> None:
    clock = FakeClock()
    async with store.adapter(sweep_interval="10s", clock=clock) as one:
        async with store.adapter(sweep_interval="10s", clock=clock):
            found = [it async for it in one.inspection.processes()]
            assert [it.pid for it in found] == [os.getpid()] * 2
            assert [it.is_alive for it in found].count(True) == 1, "it knows only of itself"
        assert len([it async for it in one.inspection.processes()]) == 1
        await store.administrate(
            "INSERT INTO goscope_processes SELECT 'killed', 'far', 7, opened_at, listed_until "
            "FROM goscope_processes"
        )
        assert {it.host async for it in one.inspection.processes()} >= {"far"}
        await clock.advance("20s")
        await one._sweeper.sweep()
        await clock.advance("10001ms")
        await one._sweeper.sweep()
        [me] = [it async for it in one.inspection.processes()]
        assert (me.pid, me.opened_at, me.is_alive) == (os.getpid(), 1_700_000_000_000, True)
        assert await count(store, "processes") == 1
    assert await count(store, "processes") == 0


async def test_what_another_program_wrote_is_listed(store: Store) -> None:
    async with store.adapter() as adapter:
        await adapter.circuit_breaker.record_failure("api", 1)
        await adapter.cache.set("key", 1, tags=["tag"])
        async with databases.session(database=store.name) as other:
            await other.query("UPDATE goscope_circuits SET state = 'ajar'")
            await other.query("UPDATE goscope_cache SET tags = '{'")
        [circuit] = [it async for it in adapter.inspection.circuits()]
        assert (circuit.key, circuit.state) == ("api", None)
        [entry] = [it async for it in adapter.inspection.entries()]
        assert (entry.key, entry.tags) == ("key", ())


async def test_tags_are_those_of_the_value_that_is_stored(store: Store) -> None:
    clock = FakeClock()
    async with store.adapter(clock=clock, key_prefix="shop:") as adapter:

        async def tags() -> tuple[str, ...]:
            [entry] = [it async for it in adapter.inspection.entries()]
            return entry.tags

        await adapter.cache.set("key", 1, "1m", tags=["é", "b"])
        assert sorted(await tags()) == ["b", "é"]
        await adapter.cache.touch("key", "1m")
        await adapter.cache.increment("key")
        assert sorted(await tags()) == ["b", "é"]
        await clock.advance("61s")
        await adapter.cache.add("key", 2)  # in the row of the expired one
        assert await tags() == ()

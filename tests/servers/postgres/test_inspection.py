"""What a PostgreSQL store tells of those who wait and those who have it open."""

from __future__ import annotations

import asyncio
import os

import pytest

from goscope.testing import FakeClock

from .stores import Store, administrator
from .support import adapter_of
from .test_waiting import granted, until_queued

pytestmark = pytest.mark.asyncio


async def test_waiters_are_listed_with_their_process_as_long_as_they_wait(store: Store) -> None:
    async with adapter_of(store, key_prefix="shop:") as one, adapter_of(store) as other:
        await one.lock.acquire("door", "1h")
        await granted(one, "task:etl")
        await granted(other, "task:etl")
        waiting = [
            asyncio.create_task(one.lock.wait_released("door")),
            asyncio.create_task(one.lease.wait_released("task:etl")),
            asyncio.create_task(other.lease.wait_released("task:etl")),
        ]
        await until_queued(store, 3)
        found = [waiter async for waiter in one.inspection.waiters()]
        assert [(it.kind, it.key, it.pid) for it in found] == [
            ("lock", "door", os.getpid()),
            ("task", "etl", os.getpid()),
        ]
        assert all(it.waited_ms is not None and it.waited_ms >= 0 for it in found)
        assert (await one.inspection.totals()).waiters.count == 2
        assert [it.key async for it in one.inspection.waiters("d*")] == ["door"]
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        await until_queued(store, 0)
        assert [waiter async for waiter in one.inspection.waiters()] == []


async def test_each_connected_adapter_is_listed_until_it_closes_or_is_silent(store: Store) -> None:
    await store.set_clock(1_700_000_000_000)
    clock = FakeClock()
    async with adapter_of(store, sweep_interval="10s", clock=clock) as one:
        async with adapter_of(store, sweep_interval="10s"):
            found = [it async for it in one.inspection.processes()]
            assert [it.pid for it in found] == [os.getpid()] * 2
            assert [it.is_alive for it in found].count(True) == 1, "it knows only of itself"
        assert len([it async for it in one.inspection.processes()]) == 1
        await store.execute(
            "INSERT INTO {name}.goscope_process SELECT 'killed', 'far', 7, opened_at, listed_until "
            "FROM {name}.goscope_process"
        )
        assert {it.host async for it in one.inspection.processes()} >= {"far"}
        await store.advance(20_000)
        await clock.advance("20s")
        await one._sweeper.sweep()
        await store.advance(10_001)
        await one._sweeper.sweep()
        [me] = [it async for it in one.inspection.processes()]
        assert (me.pid, me.opened_at, me.is_alive) == (os.getpid(), 1_700_000_000_000, True)
        async with administrator() as other:
            query = f"SELECT count(*) FROM {store.name}.goscope_process"
            assert await other.fetchval(query) == 1
    async with administrator() as other:
        assert await other.fetchval(f"SELECT count(*) FROM {store.name}.goscope_process") == 0


async def test_a_circuit_that_another_program_wrote_is_listed(store: Store) -> None:
    async with adapter_of(store) as adapter:
        await adapter.circuit_breaker.record_failure("api", 1)
        await store.execute("UPDATE {name}.goscope_circuit SET state = 'ajar'")
        [circuit] = [it async for it in adapter.inspection.circuits()]
        assert (circuit.key, circuit.state) == ("api", None)

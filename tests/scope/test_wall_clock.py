"""A wall clock that someone sets 30 days on, and back: docs/sharing-the-file.md."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from goscope import CircuitOpen, Scope, TaskAlreadyRunning, TaskContext

from .support import PausedCall, Store, ticks

pytestmark = pytest.mark.asyncio

JUMP = timedelta(days=30)


async def test_a_held_lock_stays_held_and_renewed(store: Store, gs: Scope, other: Scope) -> None:
    async with gs.lock("door", ttl="9s") as handle:
        for jump in (JUMP, -2 * JUMP):
            store.clock.step_wall(jump)
            await store.advance("30s")
            assert await other.lock("door").try_acquire() is None
            assert not handle.lost


async def test_a_lock_that_nobody_renews_expires_at_its_time(store: Store, gs: Scope) -> None:
    held = await gs.lock("door", ttl="9s").acquire()
    store.clock.step_wall(JUMP)
    assert await gs.lock("door").try_acquire() is None
    store.clock.step_wall(-2 * JUMP)
    await store.advance("10s")
    assert held.lost
    assert await gs.lock("door").try_acquire() is not None


async def test_a_waiter_waits_as_long_as_it_says(store: Store, gs: Scope, other: Scope) -> None:
    async with gs.lock("door"):
        waiting = asyncio.create_task(other.lock("door", wait="5s").acquire())
        await store.wait_until_idle()
        store.clock.step_wall(JUMP)
        await store.advance("4s")
        assert not waiting.done()
        await store.advance("2s")
        with pytest.raises(TimeoutError):
            await waiting


async def test_entries_with_a_ttl_expire_and_others_stay(store: Store, gs: Scope) -> None:
    await gs.cache.set("hour", 1, "1h")
    await gs.cache.set("stale", 1, "1h", stale_for="1d")
    await gs.cache.set("year", 1, "365d")
    await gs.cache.set("unlimited", 1)
    store.clock.step_wall(JUMP)
    found = await gs.cache.get_many(["hour", "stale", "year", "unlimited"])
    assert set(found) == {"year", "unlimited"}
    assert await gs.cache.get_entry("stale") is None


async def test_an_entry_written_while_it_was_ahead_lives_on_when_it_is_set_back(
    store: Store, gs: Scope
) -> None:
    store.clock.step_wall(JUMP)
    await gs.cache.set("key", 1, "5s")
    store.clock.step_wall(-JUMP)
    await store.advance("10s")
    assert await gs.cache.get("key") == 1, "its expiry is still 30 days away"
    store.clock.step_wall(JUMP)
    assert await gs.cache.get("key") is None


async def test_an_idempotent_result_expires_and_its_call_runs_again(
    store: Store, gs: Scope
) -> None:
    runs: list[str] = []

    async def charge(key: str) -> None:
        runs.append(key)

    for _ in range(2):
        await gs.idempotency.run("day", lambda: charge("day"), ttl="24h")
        await gs.idempotency.run("unlimited", lambda: charge("unlimited"), ttl=None)
        store.clock.step_wall(JUMP)
    assert runs == ["day", "unlimited", "day"]


async def test_an_idempotent_call_in_flight_stays_the_only_one(
    store: Store, gs: Scope, other: Scope
) -> None:
    paused = PausedCall()
    calls = [asyncio.create_task(gs.idempotency.run("key", paused.run))]
    await paused.started()
    store.clock.step_wall(JUMP)
    calls.append(asyncio.create_task(other.idempotency.run("key", paused.run)))
    await store.advance("30s")
    paused.resume()
    await store.wait_until_idle()
    await store.advance("1s")
    await asyncio.gather(*calls)
    assert paused.calls == 1


async def test_an_open_circuit_admits_a_probe_at_once(store: Store, gs: Scope) -> None:
    breaker = gs.circuit_breaker("api", failure_threshold=1, reset_timeout="1h")

    async def down() -> None:
        raise ConnectionError

    await asyncio.gather(breaker.call(down), return_exceptions=True)
    with pytest.raises(CircuitOpen):
        await breaker.call(ticks)
    store.clock.step_wall(JUMP)
    await breaker.call(ticks)
    assert (await breaker.state()).state == "closed"


@pytest.mark.parametrize("jump", [JUMP, -JUMP])
async def test_a_circuit_opened_before_the_clock_is_set_does_not_stay_open(
    store: Store, gs: Scope, jump: timedelta
) -> None:
    breaker = gs.circuit_breaker("api", failure_threshold=1, reset_timeout="10s")

    async def down() -> None:
        raise ConnectionError

    await asyncio.gather(breaker.call(down), return_exceptions=True)
    store.clock.step_wall(jump)
    await store.advance("10s")
    await breaker.call(ticks)


async def test_a_circuit_that_was_forced_open_stays_open(store: Store, gs: Scope) -> None:
    breaker = gs.circuit_breaker("api", reset_timeout="1h")
    await breaker.force_open()
    for jump in (JUMP, -2 * JUMP):
        store.clock.step_wall(jump)
        with pytest.raises(CircuitOpen):
            await breaker.call(ticks)


async def test_a_running_task_is_not_taken_over_and_its_checkpoint_stays(
    store: Store, gs: Scope, other: Scope
) -> None:
    paused = PausedCall()

    async def body(task: TaskContext[Any]) -> Any:
        if not task.resumed:
            await task.checkpoint.save(7)
            await paused.run()
            raise ConnectionError
        return task.checkpoint.data

    first = asyncio.create_task(gs.tasks.run("etl", body))
    await paused.started()
    store.clock.step_wall(JUMP)
    await store.advance("30s")
    with pytest.raises(TaskAlreadyRunning):
        await other.tasks.run("etl", body, wait=0)
    paused.resume()
    with pytest.raises(ConnectionError):
        await first
    store.clock.step_wall(JUMP)
    assert await gs.tasks.run("etl", body) == 7

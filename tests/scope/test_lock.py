"""``gs.lock``: acquiring, waiting, renewing, and what a cancellation leaves behind."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from goscope import LockHandle, LockProvider, LockTimeout, Scope
from goscope.memory import MemoryAdapter
from goscope.providers import Milliseconds
from goscope.testing import FakeClock

from .support import PausedCall, Store, ticks, wait_until

pytestmark = pytest.mark.asyncio


async def is_free(gs: Scope, key: str) -> bool:
    """Whether the lock can be acquired at once."""
    handle = await gs.lock(key).try_acquire()
    if handle is not None:
        await handle.release()
    return handle is not None


async def test_one_body_runs_at_a_time(gs: Scope) -> None:
    paused = PausedCall()

    async def enter() -> None:
        async with gs.lock("door"):
            await paused.run()

    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(enter())
        await paused.started()
        await ticks()
        paused.resume()
    assert paused.calls == 5
    assert paused.max_running == 1


async def test_a_lock_is_free_after_its_block_and_after_an_error_in_it(
    gs: Scope, other: Scope
) -> None:
    async with gs.lock("door"):
        assert not await is_free(other, "door")
    assert await is_free(other, "door")
    with pytest.raises(ZeroDivisionError):
        async with gs.lock("door"):
            _ = 1 / 0
    assert await is_free(other, "door")


async def test_different_keys_exclude_nothing(gs: Scope) -> None:
    async with gs.lock("one"), gs.lock("two", wait=0):
        pass


async def test_waiters_are_served_in_their_order(gs: Scope) -> None:
    order: list[int] = []

    async def enter(number: int) -> None:
        async with gs.lock("door"):
            order.append(number)

    async with asyncio.TaskGroup() as group, gs.lock("door"):
        for number in range(8):
            group.create_task(enter(number))
            await ticks(3)
    assert order == list(range(8))


async def test_try_acquire_does_not_jump_the_queue(gs: Scope) -> None:
    """The lock is free for a moment before the first waiter runs."""
    handle = await gs.lock("door").acquire()
    waiting = asyncio.create_task(gs.lock("door").acquire())
    await ticks()
    await handle.release()
    assert await gs.lock("door").try_acquire() is None
    await (await waiting).release()


async def test_wait_0_tries_once(gs: Scope, other: Scope) -> None:
    async with gs.lock("door"):
        with pytest.raises(LockTimeout):
            await other.lock("door", wait=0).acquire()
    async with other.lock("door", wait=0):
        pass


async def test_a_timeout_names_key_and_holder(store: Store, gs: Scope, other: Scope) -> None:
    async with gs.lock("door") as handle:
        await store.advance("2s")
        waiting = asyncio.create_task(other.lock("door", wait="3s").acquire())
        await store.wait_until_idle()
        await store.advance("2900ms")
        assert not waiting.done()
        await store.advance("200ms")
        with pytest.raises(LockTimeout, match=r"lock 'door' was not free within 3.* s") as caught:
            await waiting
    error = caught.value
    assert error.key == "door"
    assert error.holder is not None
    assert error.holder.owner == handle.owner
    assert error.age_ms == 5000 + error.waited_ms - 3000
    assert handle.owner in str(error)
    assert isinstance(error, TimeoutError)


async def test_a_waiter_behind_another_one_times_out_too(store: Store, gs: Scope) -> None:
    async with gs.lock("door"):
        patient = asyncio.create_task(gs.lock("door").acquire())
        await store.wait_until_idle()
        waiting = asyncio.create_task(gs.lock("door", wait="1s").acquire())
        await store.wait_until_idle()
        await store.advance("1100ms")
        with pytest.raises(LockTimeout):
            await waiting
    await (await patient).release()


async def test_a_release_in_the_same_process_wakes_a_waiter_at_once(gs: Scope) -> None:
    """No time passes, so the waiter has not polled."""
    handle = await gs.lock("door").acquire()
    waiting = asyncio.create_task(gs.lock("door").acquire())
    await ticks()
    await handle.release()
    async with asyncio.timeout(10):
        await (await waiting).release()


async def test_a_waiter_notices_a_release_by_another_process(
    store: Store, gs: Scope, other: Scope
) -> None:
    handle = await gs.lock("door").acquire()
    waiting = asyncio.create_task(other.lock("door").acquire())
    await store.wait_until_idle()
    await handle.release()
    await store.advance("60ms")
    await wait_until(waiting.done)
    await (await waiting).release()


async def test_a_lock_is_renewed_while_its_body_runs(store: Store, gs: Scope, other: Scope) -> None:
    async with gs.lock("door", ttl="9s"):
        for _ in range(4):
            await store.advance("7s")
            assert not await is_free(other, "door")


async def test_a_lock_from_acquire_is_not_renewed(store: Store, gs: Scope, other: Scope) -> None:
    handle = await gs.lock("door", ttl="9s").acquire()
    await store.advance("8s")
    assert not await is_free(other, "door")
    await store.advance("2s")
    assert handle.lost
    assert await is_free(other, "door")


async def test_without_a_ttl_a_lock_runs_for_the_default_of_the_adapter(
    store: Store, gs: Scope, other: Scope
) -> None:
    await gs.lock("door").acquire()
    assert await gs.lock("gate").try_acquire() is not None
    await store.advance("29s")
    assert not await is_free(other, "door")
    assert not await is_free(other, "gate")
    await store.advance("2s")
    assert await is_free(other, "door")
    assert await is_free(other, "gate")


@pytest.mark.parametrize("step", [-timedelta(hours=1), timedelta(hours=1)])
async def test_a_step_of_the_wall_clock_changes_no_lease(
    store: Store, gs: Scope, other: Scope, step: timedelta
) -> None:
    async with gs.lock("renewed", ttl="9s"):
        handle = await gs.lock("door", ttl="9s").acquire()
        store.clock.step_wall(step)
        await store.advance("8900ms")
        assert await handle.is_valid()
        assert not await is_free(other, "door")
        await store.advance("200ms")
        assert handle.lost
        assert await is_free(other, "door")
        assert not await is_free(other, "renewed")


async def test_a_holder_from_the_future_has_the_age_0(
    store: Store, gs: Scope, other: Scope
) -> None:
    await gs.lock("door").acquire()
    store.clock.step_wall(-timedelta(hours=1))
    with pytest.raises(LockTimeout) as caught:
        await other.lock("door", wait=0).acquire()
    assert caught.value.age_ms == 0


async def test_a_handle_names_its_lease_and_its_store(store: Store) -> None:
    async with (
        store.scope() as gs,
        store.scope() as other,
        Scope(persistence=MemoryAdapter(locks="shared", key_prefix="shop:")) as foreign,
    ):
        handle = await gs.lock("door").acquire()
        other_handle = await other.lock("gate").acquire()
        foreign_handle = await foreign.lock("door").acquire()
    assert (handle.stored_key, foreign_handle.stored_key) == ("lock:door", "shop:lock:door")
    assert handle.store_id == other_handle.store_id != ""
    assert foreign_handle.store_id not in ("", handle.store_id)


async def test_the_handle_of_an_in_memory_lock_has_no_store() -> None:
    async with Scope(backend="memory", key_prefix="shop:") as gs:
        handle = await gs.lock("door").acquire()
    assert (handle.stored_key, handle.store_id, handle.fencing_token) == (
        "shop:lock:door",
        "",
        None,
    )


async def test_try_acquire_does_not_wait_whatever_the_wait_of_the_lock(gs: Scope) -> None:
    lock = gs.lock("door", wait="1h")
    async with lock:
        assert await lock.try_acquire() is None
    handle = await lock.try_acquire()
    assert handle is not None
    await handle.release()


async def test_try_acquire_gives_a_handle_or_none(gs: Scope, other: Scope) -> None:
    handle = await gs.lock("door", ttl="5s").try_acquire()
    assert handle is not None
    assert handle.key == "door"
    assert await gs.lock("door").try_acquire() is None
    assert await other.lock("door").try_acquire() is None
    await handle.release()
    assert await is_free(other, "door")


async def test_one_lock_object_serves_many_tasks(gs: Scope) -> None:
    lock = gs.lock("door")
    paused = PausedCall()
    owners: list[str] = []

    async def enter() -> None:
        async with lock as handle:
            owners.append(handle.owner)
            await paused.run()

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(enter())
        await paused.started()
        paused.resume()
    assert paused.max_running == 1
    assert len(set(owners)) == 3


async def test_one_lock_object_can_be_entered_again_after_its_block(gs: Scope) -> None:
    lock = gs.lock("door")
    for _ in range(2):
        async with lock:
            pass


async def test_entering_twice_in_one_task_is_refused_instead_of_waiting_forever(
    gs: Scope,
) -> None:
    lock = gs.lock("door")
    async with lock:
        with pytest.raises(RuntimeError, match="already inside a block of lock 'door'"):
            await lock.__aenter__()


async def test_fencing_tokens_grow(gs: Scope, other: Scope) -> None:
    tokens: list[int] = []
    for scope in (gs, other, gs):
        async with scope.lock("door") as handle:
            assert handle.fencing_token is not None
            tokens.append(handle.fencing_token)
    assert tokens == sorted(set(tokens))


async def test_a_cancelled_waiter_leaves_the_queue(gs: Scope, other: Scope) -> None:
    handle = await gs.lock("door").acquire()
    first, second, third = (asyncio.create_task(gs.lock("door").acquire()) for _ in range(3))
    await ticks()
    second.cancel()
    await ticks()
    assert second.cancelled()
    first.cancel()
    await ticks()
    await handle.release()
    await (await third).release()
    assert await is_free(gs, "door")
    assert await is_free(other, "door")


class PolledLocks:
    """Locks of a store that does not notify waiters of a release."""

    def __init__(self, locks: LockProvider) -> None:
        self._locks = locks
        self.extend = locks.extend
        self.force_release = locks.force_release
        self.holder = locks.holder
        self.tries = 0

    async def acquire(
        self, key: str, ttl: Milliseconds | None = None, owner: str | None = None
    ) -> LockHandle | None:
        self.tries += 1
        return await self._locks.acquire(key, ttl, owner)


async def test_without_notifications_a_waiter_polls() -> None:
    """Every 2 ms at first, every 50 ms later, and not beyond the wait."""
    clock = FakeClock()
    adapter = MemoryAdapter(clock=clock)
    locks = PolledLocks(adapter.lock)
    setattr(adapter, "lock", locks)  # noqa: B010  # not the type that the adapter declares
    async with Scope(persistence=adapter) as gs:
        handle = await gs.lock("door", ttl="1m").acquire()
        waiting = asyncio.create_task(gs.lock("door").acquire())
        await ticks()
        await clock.advance("10ms")
        assert locks.tries == 1 + 1 + 5
        await clock.advance("10s")
        assert 200 < locks.tries < 300
        await handle.release()
        await clock.advance("50ms")
        assert waiting.done()
        began = clock.steady_ms()
        hasty = asyncio.create_task(gs.lock("door", wait="3s").acquire())
        await ticks()
        await clock.advance("3s")
        with pytest.raises(LockTimeout) as caught:
            await hasty
        assert clock.steady_ms() - began == caught.value.waited_ms == 3000


async def test_a_block_left_in_another_task_releases_the_lock(gs: Scope) -> None:
    lock = gs.lock("door")
    await asyncio.create_task(lock.__aenter__())
    assert not await is_free(gs, "door")
    await lock.__aexit__(None, None, None)
    assert await is_free(gs, "door")


@pytest.mark.parametrize("steps", range(14))
async def test_a_caller_cancelled_at_any_await_leaves_no_lock_behind(
    gs: Scope, other: Scope, steps: int
) -> None:
    """Before, during and after the grant, in the body and in the release."""

    async def enter() -> None:
        async with gs.lock("door"):
            await ticks(2)

    async with gs.lock("door"):
        task = asyncio.create_task(enter())
        await ticks()
    await ticks(steps)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() or task.exception() is None
    assert await is_free(gs, "door")
    assert await is_free(other, "door")


@pytest.mark.parametrize("milliseconds", [0, 0.2, 0.5, 1, 2, 4])
async def test_a_caller_cancelled_at_any_time_leaves_no_lock_behind(
    gs: Scope, other: Scope, milliseconds: float
) -> None:
    """As above, while the writer's thread works."""

    async def enter() -> None:
        async with gs.lock("door"):
            await asyncio.sleep(0.001)

    task = asyncio.create_task(enter())
    await asyncio.sleep(milliseconds / 1000)
    task.cancel()
    await asyncio.wait([task])
    assert await is_free(gs, "door")
    assert await is_free(other, "door")


async def test_a_cancellation_does_not_interrupt_the_release(gs: Scope, other: Scope) -> None:
    leaving = asyncio.Event()

    async def enter() -> None:
        async with gs.lock("door"):
            leaving.set()

    task = asyncio.create_task(enter())
    await leaving.wait()
    task.cancel()
    await asyncio.wait([task])
    assert await is_free(other, "door")


@pytest.mark.parametrize(
    ("option", "error"),
    [
        ({"ttl": 30}, TypeError),
        ({"ttl": "0s"}, ValueError),
        ({"wait": 5}, TypeError),
        ({"wait": True}, ValueError),
        ({"wait": "-1s"}, ValueError),
    ],
)
async def test_invalid_options_are_refused_at_the_call(
    gs: Scope, option: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        gs.lock("door", **option)  # type: ignore[arg-type]  # wrong on purpose


async def test_an_empty_key_is_refused_at_the_call(gs: Scope) -> None:
    with pytest.raises(ValueError, match="key is empty"):
        gs.lock("")

"""What happens to a body whose lease is lost while it runs, clause by clause."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from goscope import LeaseLost, Scope
from goscope.events import LockLost
from goscope.testing import record_events

from .locked_bodies import TTL, LockedBody, lose_lock, revoke_lock, wait_forever
from .support import PausedCall, Store, block_loop, lease_watchers, ticks, without_runs

pytestmark = pytest.mark.asyncio


async def test_a_refused_renewal_cancels_the_body_and_raises_lease_lost(
    store: Store, gs: Scope
) -> None:
    locked = LockedBody(gs, wait_forever)
    await store.wait_until_idle()
    await revoke_lock(gs)
    await store.advance("2900ms")
    assert not locked.task.done()
    await store.advance("200ms")
    error = await locked.end()
    assert isinstance(error, LeaseLost)
    assert error.key == "door"
    assert "taken over" in str(error)
    assert isinstance(error.__cause__, asyncio.CancelledError)
    assert locked.cancelling == 0


async def test_nothing_is_lost_while_renewals_succeed(store: Store, gs: Scope) -> None:
    paused = PausedCall()
    locked = LockedBody(gs, paused.run)
    await store.wait_until_idle()
    await store.advance("60s")
    paused.resume()
    assert await locked.end() is None
    assert locked.cancelling == 0


async def test_a_body_that_swallows_the_cancellation_does_not_hide_the_loss(
    store: Store, gs: Scope
) -> None:
    async def swallow_cancellation() -> None:
        try:
            await wait_forever()
        except asyncio.CancelledError:
            await ticks()

    locked = LockedBody(gs, swallow_cancellation)
    await lose_lock(store, gs)
    assert isinstance(await locked.end(), LeaseLost)
    assert locked.cancelling == 0


async def test_the_bodys_own_error_propagates_with_a_note(store: Store, gs: Scope) -> None:
    async def fail_when_cancelled() -> None:
        try:
            await wait_forever()
        finally:
            _ = 1 / 0

    locked = LockedBody(gs, fail_when_cancelled)
    await lose_lock(store, gs)
    error = await locked.end()
    assert isinstance(error, ZeroDivisionError)
    assert "lease on 'door' was lost" in error.__notes__[0]
    assert locked.cancelling == 0


@pytest.mark.parametrize("loss_first", [True, False])
async def test_an_outside_cancellation_wins(store: Store, gs: Scope, loss_first: bool) -> None:
    paused = PausedCall()

    async def slow_to_end() -> None:
        try:
            await wait_forever()
        except asyncio.CancelledError:
            try:
                await paused.run()
            except asyncio.CancelledError:
                await ticks()
            raise

    locked = LockedBody(gs, slow_to_end)
    await store.wait_until_idle()
    await revoke_lock(gs)
    if not loss_first:
        locked.task.cancel()
    await store.advance("3100ms")
    if loss_first:
        locked.task.cancel()
    assert isinstance(await locked.end(), asyncio.CancelledError)
    assert locked.cancelling == 1, "only the outside cancellation is left"


async def test_an_outside_cancellation_wins_over_the_bodys_own_error(
    store: Store, gs: Scope
) -> None:
    paused = PausedCall()

    async def fail_when_cancelled() -> None:
        try:
            await wait_forever()
        except asyncio.CancelledError:
            try:
                await paused.run()
            finally:
                _ = 1 / 0

    locked = LockedBody(gs, fail_when_cancelled)
    await lose_lock(store, gs)
    locked.task.cancel()
    error = await locked.end()
    assert isinstance(error, asyncio.CancelledError)
    assert isinstance(error.__cause__, ZeroDivisionError)


async def test_an_outer_timeout_at_the_same_time_is_a_timeout(store: Store, gs: Scope) -> None:
    raised: list[BaseException] = []

    async def limited() -> None:
        limit = asyncio.timeout(None)
        try:
            async with limit, gs.lock("door", ttl=TTL):
                try:
                    await wait_forever()
                finally:
                    # The loss has cancelled the body; now the timeout does, too.
                    limit.reschedule(0)
                    with pytest.raises(asyncio.CancelledError):
                        await wait_forever()
        except TimeoutError as exc:
            raised.append(exc)
        await assert_not_cancelled()

    task = asyncio.create_task(limited())
    await lose_lock(store, gs)
    await task
    assert len(raised) == 1


async def test_an_inner_timeout_at_the_same_time_does_not_hide_the_loss(
    store: Store, gs: Scope
) -> None:
    async def limited() -> None:
        async with asyncio.timeout(None) as limit:
            try:
                await wait_forever()
            finally:
                limit.reschedule(0)
                with pytest.raises(asyncio.CancelledError):
                    await wait_forever()

    locked = LockedBody(gs, limited)
    await lose_lock(store, gs)
    assert isinstance(await locked.end(), LeaseLost)
    assert locked.cancelling == 0


async def test_a_task_group_in_the_body_is_cancelled(store: Store, gs: Scope) -> None:
    paused = PausedCall()

    async def run_group() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(paused.run())
            await paused.run()

    locked = LockedBody(gs, run_group)
    await lose_lock(store, gs)
    assert isinstance(await locked.end(), LeaseLost)
    assert paused.running == 0
    assert locked.cancelling == 0


async def test_a_task_groups_failure_at_the_same_time_propagates_with_a_note(
    store: Store, gs: Scope
) -> None:
    """Python 3.13 cancels the body again when it leaves such a group."""

    async def fail_when_cancelled() -> None:
        try:
            await wait_forever()
        finally:
            _ = 1 / 0

    async def run_group() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail_when_cancelled())

    locked = LockedBody(gs, run_group)
    await lose_lock(store, gs)
    error = await locked.end()
    assert isinstance(error, ExceptionGroup)
    assert "was lost" in error.__notes__[0]
    with pytest.raises(ExceptionGroup) as caught:
        raise error
    assert caught.group_contains(ZeroDivisionError)
    assert locked.cancelling == 0


async def fail() -> None:
    _ = 1 / 0


async def handle_failing_groups() -> None:
    """Python 3.11 and 3.12 leave a request for cancellation behind at each of them."""
    for _ in range(2):
        with pytest.raises(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())


async def test_a_loss_after_a_handled_failure_of_a_task_group_is_lease_lost(
    store: Store, gs: Scope
) -> None:
    async def run_groups() -> None:
        await handle_failing_groups()
        await wait_forever()

    locked = LockedBody(gs, run_groups)
    await lose_lock(store, gs)
    assert isinstance(await locked.end(), LeaseLost)


async def test_a_loss_swallowed_after_such_a_failure_is_lease_lost(store: Store, gs: Scope) -> None:
    async def run_groups() -> None:
        await handle_failing_groups()
        with suppress(asyncio.CancelledError):
            await wait_forever()

    locked = LockedBody(gs, run_groups)
    await lose_lock(store, gs)
    assert isinstance(await locked.end(), LeaseLost)


@pytest.mark.parametrize("when", ["before", "with", "after"])
async def test_a_cancellation_from_outside_wins_after_such_a_failure(
    store: Store, gs: Scope, when: str
) -> None:
    """Before the loss, while the body cleans up for it; or in one step with the loss; or after."""

    async def run_groups() -> None:
        await handle_failing_groups()
        try:
            await wait_forever()
        finally:
            with suppress(asyncio.CancelledError):
                await wait_forever()

    locked = LockedBody(gs, run_groups)
    await store.wait_until_idle()
    if when == "before":
        locked.task.cancel()
        await lose_lock(store, gs)
    elif when == "with":
        await revoke_lock(gs)
        await store.advance("2900ms")
        locked.task.cancel()
        await store.advance("200ms")
    else:
        await lose_lock(store, gs)
        locked.task.cancel()
    assert isinstance(await locked.end(), asyncio.CancelledError)


async def test_a_task_group_around_the_block_sees_lease_lost(store: Store, gs: Scope) -> None:
    async def enter() -> None:
        async with gs.lock("door", ttl=TTL):
            await wait_forever()

    async def run_group() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(enter())
            await wait_forever()

    task = asyncio.create_task(run_group())
    await lose_lock(store, gs)
    with pytest.raises(ExceptionGroup) as caught:
        await task
    assert caught.value.subgroup(LeaseLost) is not None


async def assert_not_cancelled() -> None:
    """Check that no cancellation of the current task is counted or pending."""
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await ticks(3)


@pytest.mark.parametrize(
    ("lost", "named"),
    [(["inner"], "inner"), (["outer"], "outer"), (["inner", "outer"], "outer")],
)
async def test_of_nested_locks_the_outermost_lost_one_raises(
    store: Store, gs: Scope, lost: list[str], named: str
) -> None:
    """Its loss ends the inner block as well."""
    reached: list[str] = []

    async def nested() -> str:
        try:
            async with gs.lock("outer", ttl=TTL), gs.lock("inner", ttl=TTL):
                await wait_forever()
        except LeaseLost as exc:
            await assert_not_cancelled()
            reached.append("after")
            return exc.key
        return "nothing"

    task = asyncio.create_task(nested())
    await store.wait_until_idle()
    for key in lost:
        await revoke_lock(gs, key)
    await store.advance("3100ms")
    assert await task == named
    assert reached == ["after"]


async def test_after_a_lost_inner_lock_the_outer_one_is_still_held(
    store: Store, gs: Scope, other: Scope
) -> None:
    async def nested() -> None:
        async with gs.lock("outer", ttl=TTL):
            with pytest.raises(LeaseLost):
                async with gs.lock("inner", ttl=TTL):
                    await wait_forever()
            assert await other.lock("outer").try_acquire() is None
            await assert_not_cancelled()

    task = asyncio.create_task(nested())
    await store.wait_until_idle()
    await revoke_lock(gs, "inner")
    await store.advance("3100ms")
    await task
    assert await other.lock("outer").try_acquire() is not None


async def test_without_renewal_the_body_is_cancelled_at_expiry(store: Store, gs: Scope) -> None:
    locked = LockedBody(gs, wait_forever, renew=False)
    await store.wait_until_idle()
    await store.advance("8900ms")
    assert not locked.task.done()
    await store.advance("200ms")
    error = await locked.end()
    assert isinstance(error, LeaseLost)
    assert "renew=False" in str(error)
    assert locked.cancelling == 0


@pytest.mark.parametrize("renew", [True, False])
async def test_a_body_that_blocks_the_loop_past_the_deadline_keeps_a_lease_that_nobody_took(
    store: Store, gs: Scope, renew: bool
) -> None:
    async def block() -> None:
        block_loop(store.clock, 9000)

    with record_events(gs) as events:
        locked = LockedBody(gs, block, renew=renew)
        await store.wait_until_idle()
        error = await locked.end()
    assert error is None
    assert locked.cancelling == 0
    assert [type(event).__name__ for event in without_runs(events)] == [
        "LockAcquired",
        "LockReleased",
    ]


@pytest.mark.parametrize("renew", [True, False])
async def test_a_body_that_blocks_the_loop_past_the_deadline_loses_a_lease_that_another_took(
    store: Store, gs: Scope, renew: bool
) -> None:
    """The watcher could not run. The exit of the block raises the loss and cancels nothing."""

    async def block() -> None:
        await ticks(3)  # the watcher waits for its time
        block_loop(store.clock, 9000)
        await revoke_lock(gs)

    with record_events(gs) as events:
        locked = LockedBody(gs, block, renew=renew)
        await store.wait_until_idle()
        error = await locked.end()
    assert isinstance(error, LeaseLost)
    assert ("renew=False" in str(error)) is not renew
    assert locked.cancelling == 0
    assert [type(event).__name__ for event in without_runs(events)] == ["LockAcquired", "LockLost"]


async def test_an_error_of_a_body_that_blocked_the_loop_gets_a_note(
    store: Store, gs: Scope
) -> None:
    async def block() -> None:
        await ticks(3)  # the watcher waits for its time
        block_loop(store.clock, 9000)
        await revoke_lock(gs)
        _ = 1 / 0

    error = await LockedBody(gs, block).end()
    assert isinstance(error, ZeroDivisionError)
    assert "was lost while it ran" in error.__notes__[0]


async def test_a_body_that_extended_its_lease_may_block_the_loop_for_as_long(
    store: Store, gs: Scope
) -> None:
    async with gs.lock("door", ttl=TTL) as handle:
        assert await handle.extend("60s")
        block_loop(store.clock, 30_000)


async def test_a_fenced_write_after_the_loss_raises_before_the_watcher_does(gs: Scope) -> None:
    """And it cancels nothing."""
    async with gs.lock("door", ttl=TTL) as handle:
        await revoke_lock(gs)
        successor = await gs.lock("door").try_acquire()
        assert successor is not None
        await gs.cache.set("stock", "the successor's", fence=successor)
        with pytest.raises(LeaseLost, match="not applied"):
            await gs.cache.set("stock", "late", fence=handle)
    await assert_not_cancelled()
    assert await gs.cache.get("stock") == "the successor's"


async def test_an_expired_lease_that_was_not_granted_again_refuses_no_write(
    store: Store, gs: Scope
) -> None:
    handle = await gs.lock("door", ttl="1s").acquire()
    await store.advance("2s")
    assert handle.lost
    await gs.cache.set("stock", "late", fence=handle)
    assert await gs.cache.get("stock") == "late"


async def test_no_lease_watcher_is_left_running(store: Store, gs: Scope) -> None:
    locked = LockedBody(gs, wait_forever)
    await store.wait_until_idle()
    assert len(lease_watchers()) == 1
    await revoke_lock(gs)
    await store.advance("3100ms")
    await locked.end()
    async with gs.lock("door"):
        pass
    assert lease_watchers() == []


async def test_a_loss_emits_one_event(store: Store, gs: Scope) -> None:
    with record_events(gs) as events:
        locked = LockedBody(gs, wait_forever)
        await store.wait_until_idle()
        await revoke_lock(gs)
        await store.advance("20s")
        await locked.end()
    (lost,) = (event for event in events if isinstance(event, LockLost))
    assert lost.key == "door"
    assert "taken over" in lost.reason
    assert "LockReleased" not in [type(event).__name__ for event in events]

"""What happens to a body whose lease is lost while it runs: the loss rule, clause by clause."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio

from goscope import BackendUnavailable, LeaseLost, Scope
from goscope.backend import MemoryLockProvider
from goscope.backend._memory_lock import MemoryLockHandle
from goscope.events import LockLost
from goscope.memory import MemoryAdapter
from goscope.providers import Milliseconds
from goscope.testing import FakeClock, record_events

from .support import PausedCall, Store, lease_watchers, ticks

pytestmark = pytest.mark.asyncio

TTL = "9s"
"""Renewed every 3 s."""

Body = Callable[[], Awaitable[object]]


class Victim:
    """A task that runs a body under a lock, and goes on for a while after the block."""

    def __init__(self, gs: Scope, body: Body, *, renew: bool = True) -> None:
        self.raised: BaseException | None = None
        self.cancelling = -1
        self.task = asyncio.create_task(self._run(gs, body, renew))

    async def _run(self, gs: Scope, body: Body, renew: bool) -> None:
        try:
            async with gs.lock("door", ttl=TTL, renew=renew):
                await body()
        except BaseException as exc:
            self.raised = exc
        task = asyncio.current_task()
        assert task is not None
        self.cancelling = task.cancelling()
        await ticks(3)  # where a cancellation left behind would strike

    async def end(self) -> BaseException | None:
        """What the block raised. The task must have survived it."""
        await asyncio.wait([self.task], timeout=10)
        assert self.task.done(), "the body was not ended"
        assert not self.task.cancelled(), "a cancellation was left behind"
        return self.raised


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def take_away(gs: Scope, key: str = "door") -> None:
    """End the grant behind its holder's back; the next renewal will be refused."""
    locks = gs.persistence.lock
    assert locks is not None
    await locks.force_release(key)


async def test_a_refused_renewal_ends_the_body_with_lease_lost(store: Store, gs: Scope) -> None:
    victim = Victim(gs, forever)
    await store.wait_until_idle()
    await take_away(gs)
    await store.advance("2900ms")
    assert not victim.task.done()
    await store.advance("200ms")
    error = await victim.end()
    assert isinstance(error, LeaseLost)
    assert error.key == "door"
    assert "taken over" in str(error)
    assert isinstance(error.__cause__, asyncio.CancelledError)
    assert victim.cancelling == 0


async def test_nothing_is_lost_while_renewals_succeed(store: Store, gs: Scope) -> None:
    paused = PausedCall()
    victim = Victim(gs, paused.run)
    await store.wait_until_idle()
    await store.advance("60s")
    paused.resume()
    assert await victim.end() is None
    assert victim.cancelling == 0


async def test_a_body_that_swallows_the_cancellation_does_not_hide_the_loss(
    store: Store, gs: Scope
) -> None:
    async def stubborn() -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            await ticks()

    victim = Victim(gs, stubborn)
    await store.wait_until_idle()
    await take_away(gs)
    await store.advance("3100ms")
    assert isinstance(await victim.end(), LeaseLost)
    assert victim.cancelling == 0


async def test_the_bodys_own_error_propagates_with_a_note(store: Store, gs: Scope) -> None:
    async def clumsy() -> None:
        try:
            await forever()
        finally:
            _ = 1 / 0

    victim = Victim(gs, clumsy)
    await store.wait_until_idle()
    await take_away(gs)
    await store.advance("3100ms")
    error = await victim.end()
    assert isinstance(error, ZeroDivisionError)
    assert "lease on 'door' was lost" in error.__notes__[0]
    assert victim.cancelling == 0


@pytest.mark.parametrize("loss_first", [True, False])
async def test_an_outside_cancellation_wins(store: Store, gs: Scope, loss_first: bool) -> None:
    paused = PausedCall()

    async def slow_to_end() -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            try:
                await paused.run()
            except asyncio.CancelledError:
                await ticks()
            raise

    victim = Victim(gs, slow_to_end)
    await store.wait_until_idle()
    await take_away(gs)
    if not loss_first:
        victim.task.cancel()
    await store.advance("3100ms")
    if loss_first:
        victim.task.cancel()
    assert isinstance(await victim.end(), asyncio.CancelledError)
    assert victim.cancelling == 1, "only the outside cancellation is left"


async def test_an_outside_cancellation_wins_over_the_bodys_own_error(
    store: Store, gs: Scope
) -> None:
    paused = PausedCall()

    async def clumsy() -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            try:
                await paused.run()
            finally:
                _ = 1 / 0

    victim = Victim(gs, clumsy)
    await store.wait_until_idle()
    await take_away(gs)
    await store.advance("3100ms")
    victim.task.cancel()
    error = await victim.end()
    assert isinstance(error, asyncio.CancelledError)
    assert isinstance(error.__cause__, ZeroDivisionError)


async def test_an_outer_timeout_at_the_same_time_is_a_timeout(store: Store, gs: Scope) -> None:
    raised: list[BaseException] = []

    async def limited() -> None:
        limit = asyncio.timeout(None)
        try:
            async with limit, gs.lock("door", ttl=TTL):
                try:
                    await forever()
                finally:
                    # The loss has struck; now the timeout does too.
                    limit.reschedule(0)
                    with pytest.raises(asyncio.CancelledError):
                        await forever()
        except TimeoutError as exc:
            raised.append(exc)
        await clean_task()

    task = asyncio.create_task(limited())
    await store.wait_until_idle()
    await take_away(gs)
    await store.advance("3100ms")
    await task
    assert len(raised) == 1


async def test_an_inner_timeout_at_the_same_time_does_not_hide_the_loss(
    store: Store, gs: Scope
) -> None:
    async def limited() -> None:
        async with asyncio.timeout(None) as limit:
            try:
                await forever()
            finally:
                limit.reschedule(0)
                with pytest.raises(asyncio.CancelledError):
                    await forever()

    victim = Victim(gs, limited)
    await store.wait_until_idle()
    await take_away(gs)
    await store.advance("3100ms")
    assert isinstance(await victim.end(), LeaseLost)
    assert victim.cancelling == 0


async def test_a_task_group_in_the_body_is_ended(store: Store, gs: Scope) -> None:
    paused = PausedCall()

    async def spread() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(paused.run())
            await paused.run()

    victim = Victim(gs, spread)
    await store.wait_until_idle()
    await take_away(gs)
    await store.advance("3100ms")
    assert isinstance(await victim.end(), LeaseLost)
    assert paused.running == 0
    assert victim.cancelling == 0


async def test_a_task_groups_failure_at_the_same_time_propagates_with_a_note(
    store: Store, gs: Scope
) -> None:
    """Python 3.13 cancels the body again when it leaves such a group."""

    async def clumsy() -> None:
        try:
            await forever()
        finally:
            _ = 1 / 0

    async def spread() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(clumsy())

    victim = Victim(gs, spread)
    await store.wait_until_idle()
    await take_away(gs)
    await store.advance("3100ms")
    error = await victim.end()
    assert isinstance(error, ExceptionGroup)
    assert "was lost" in error.__notes__[0]
    with pytest.raises(ExceptionGroup) as caught:
        raise error
    assert caught.group_contains(ZeroDivisionError)
    assert victim.cancelling == 0


async def test_a_task_group_around_the_block_sees_lease_lost(store: Store, gs: Scope) -> None:
    async def enter() -> None:
        async with gs.lock("door", ttl=TTL):
            await forever()

    async def spread() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(enter())
            await forever()

    task = asyncio.create_task(spread())
    await store.wait_until_idle()
    await take_away(gs)
    await store.advance("3100ms")
    with pytest.raises(ExceptionGroup) as caught:
        await task
    assert caught.value.subgroup(LeaseLost) is not None


async def clean_task() -> None:
    """Fail when a cancellation is counted or pending on the current task."""
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await ticks(3)


@pytest.mark.parametrize(
    ("lost", "named"),
    [(["inner"], "inner"), (["outer"], "outer"), (["inner", "outer"], "outer")],
)
async def test_nested_locks_lose_each_its_own(
    store: Store, gs: Scope, lost: list[str], named: str
) -> None:
    """When both are lost, the outer one speaks: it ends more."""
    reached: list[str] = []

    async def nested() -> str:
        try:
            async with gs.lock("outer", ttl=TTL), gs.lock("inner", ttl=TTL):
                await forever()
        except LeaseLost as exc:
            await clean_task()
            reached.append("after")
            return exc.key
        return "nothing"

    task = asyncio.create_task(nested())
    await store.wait_until_idle()
    for key in lost:
        await take_away(gs, key)
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
                    await forever()
            assert await other.lock("outer").try_acquire() is None
            await clean_task()

    task = asyncio.create_task(nested())
    await store.wait_until_idle()
    await take_away(gs, "inner")
    await store.advance("3100ms")
    await task
    assert await other.lock("outer").try_acquire() is not None


async def test_without_renewal_the_body_is_cancelled_at_expiry(store: Store, gs: Scope) -> None:
    victim = Victim(gs, forever, renew=False)
    await store.wait_until_idle()
    await store.advance("8900ms")
    assert not victim.task.done()
    await store.advance("200ms")
    error = await victim.end()
    assert isinstance(error, LeaseLost)
    assert "renew=False" in str(error)
    assert victim.cancelling == 0


@pytest.mark.parametrize("renew", [True, False])
async def test_a_body_that_blocks_the_loop_past_the_deadline_is_told_at_its_end(
    store: Store, gs: Scope, renew: bool
) -> None:
    """The watcher had no turn. The loss is raised in the body's own step, and cancels nobody."""

    async def block() -> None:
        store.clock._move_to(store.clock.steady_ms() + 9000)

    with record_events(gs) as events:
        victim = Victim(gs, block, renew=renew)
        await store.wait_until_idle()
        error = await victim.end()
    assert isinstance(error, LeaseLost)
    assert ("renew=False" in str(error)) is not renew
    assert victim.cancelling == 0
    assert [type(event).__name__ for event in events] == ["LockAcquired", "LockLost"]


async def test_an_own_error_of_a_body_that_blocked_the_loop_has_a_note(
    store: Store, gs: Scope
) -> None:
    async def block() -> None:
        store.clock._move_to(store.clock.steady_ms() + 9000)
        _ = 1 / 0

    error = await Victim(gs, block).end()
    assert isinstance(error, ZeroDivisionError)
    assert "was lost while it ran" in error.__notes__[0]


async def test_a_body_that_extended_its_lease_by_hand_may_block_for_as_long(
    store: Store, gs: Scope
) -> None:
    async with gs.lock("door", ttl=TTL) as handle:
        assert await handle.extend("60s")
        store.clock._move_to(store.clock.steady_ms() + 30_000)


async def test_a_fenced_write_raises_in_the_bodys_own_step(gs: Scope) -> None:
    """It does not wait for the watcher, and cancels nobody."""
    async with gs.lock("door", ttl=TTL) as handle:
        await take_away(gs)
        async with gs.lock("door") as taker:
            await gs.cache.set("stock", "the taker's", fence=taker)
        with pytest.raises(LeaseLost, match="not applied"):
            await gs.cache.set("stock", "late", fence=handle)
    await clean_task()
    assert await gs.cache.get("stock") == "the taker's"


async def test_an_expired_lease_that_nobody_took_does_not_refuse_the_write(
    store: Store, gs: Scope
) -> None:
    handle = await gs.lock("door", ttl="1s").acquire()
    await store.advance("2s")
    assert handle.lost
    await gs.cache.set("stock", "late", fence=handle)
    assert await gs.cache.get("stock") == "late"


async def test_nothing_of_the_guard_is_left_running(store: Store, gs: Scope) -> None:
    victim = Victim(gs, forever)
    await store.wait_until_idle()
    assert len(lease_watchers()) == 1
    await take_away(gs)
    await store.advance("3100ms")
    await victim.end()
    async with gs.lock("door"):
        pass
    assert lease_watchers() == []


async def test_the_loss_is_told_once(store: Store, gs: Scope) -> None:
    with record_events(gs) as events:
        victim = Victim(gs, forever)
        await store.wait_until_idle()
        await take_away(gs)
        await store.advance("20s")
        await victim.end()
    (lost,) = (event for event in events if isinstance(event, LockLost))
    assert lost.key == "door"
    assert "taken over" in lost.reason
    assert "LockReleased" not in [type(event).__name__ for event in events]


# --- a store that fails ----------------------------------------------------------------------


class Troubles:
    """What a store does to the requests of its lock handles."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.acquire_takes = 0.0
        self.extend_fails = False
        self.extend_hangs = False
        self.extend_takes = 0.0
        self.release_fails = False
        self.release_takes = 0.0


class TroubledHandle(MemoryLockHandle):
    """A handle whose requests fail, hang or take their time."""

    troubles: Troubles

    async def extend(self, ttl: Milliseconds) -> bool:
        if self.troubles.extend_hangs:
            await forever()
        if self.troubles.extend_fails:
            raise BackendUnavailable("the store is away")
        extended = await super().extend(ttl)
        await self.troubles.clock.sleep(self.troubles.extend_takes)
        return extended

    async def release(self) -> None:
        await self.troubles.clock.sleep(self.troubles.release_takes)
        if self.troubles.release_fails:
            raise BackendUnavailable("the store is away")
        await super().release()


class TroubledLocks(MemoryLockProvider):
    """Gives out such handles."""

    troubles: Troubles

    async def acquire(
        self, key: str, ttl: Milliseconds | None = None, owner: str | None = None
    ) -> MemoryLockHandle | None:
        handle = await super().acquire(key, ttl, owner)
        await self.troubles.clock.sleep(self.troubles.acquire_takes)
        if handle is None:
            return None
        troubled = TroubledHandle(self, handle.key, handle.stored_key, handle._grant)
        troubled.troubles = self.troubles
        return troubled


@pytest.fixture
def troubles() -> Troubles:
    return Troubles(FakeClock())


@pytest_asyncio.fixture
async def troubled(troubles: Troubles) -> AsyncIterator[Scope]:
    """An open scope on a store with these troubles."""
    adapter = MemoryAdapter(clock=troubles.clock)
    locks = TroubledLocks(adapter.context)
    locks.troubles = troubles
    adapter.lock = locks
    async with Scope(persistence=adapter) as gs:
        yield gs


@pytest.mark.parametrize("trouble", ["extend_fails", "extend_hangs"])
async def test_unanswered_renewals_lose_the_lease_at_its_deadline(
    troubled: Scope, troubles: Troubles, trouble: str
) -> None:
    victim = Victim(troubled, forever)
    await ticks()
    await troubles.clock.advance("3500ms")  # renewed at 3 s: the deadline is 12 s
    setattr(troubles, trouble, True)
    await troubles.clock.advance("8499ms")
    assert not victim.task.done()
    await troubles.clock.advance("1ms")
    error = await victim.end()
    assert isinstance(error, LeaseLost)
    assert "not renewed in time" in str(error)
    assert victim.cancelling == 0


async def test_the_error_of_the_last_renewal_is_named(troubled: Scope, troubles: Troubles) -> None:
    troubles.extend_fails = True
    victim = Victim(troubled, forever)
    await ticks()
    await troubles.clock.advance("9s")
    assert "the store is away" in str(await victim.end())


async def test_a_renewal_that_fails_for_a_while_loses_nothing(
    troubled: Scope, troubles: Troubles
) -> None:
    paused = PausedCall()
    troubles.extend_fails = True
    victim = Victim(troubled, paused.run)
    await ticks()
    await troubles.clock.advance("8s")
    troubles.extend_fails = False
    await troubles.clock.advance("30s")
    paused.resume()
    assert await victim.end() is None


async def test_the_deadline_counts_from_before_the_request(
    troubled: Scope, troubles: Troubles
) -> None:
    """Asked at 3 s, answered at 5 s: it runs until 12 s."""
    troubles.extend_takes = 2.0
    victim = Victim(troubled, forever)
    await ticks()
    await troubles.clock.advance("5500ms")
    troubles.extend_hangs = True
    await troubles.clock.advance("6499ms")
    assert not victim.task.done()
    await troubles.clock.advance("1ms")
    assert isinstance(await victim.end(), LeaseLost)


async def test_the_first_deadline_counts_from_before_the_acquire(
    troubled: Scope, troubles: Troubles
) -> None:
    """Asked at 0 s, granted at 2 s: it runs until 9 s."""
    troubles.acquire_takes = 2.0
    troubles.extend_hangs = True
    victim = Victim(troubled, forever)
    await ticks()
    await troubles.clock.advance("8999ms")
    assert not victim.task.done()
    await troubles.clock.advance("1ms")
    assert isinstance(await victim.end(), LeaseLost)


async def test_a_loss_during_the_release_is_none(troubled: Scope, troubles: Troubles) -> None:
    """The watcher is disarmed first: the body is through."""
    troubles.extend_fails = True
    troubles.release_takes = 60.0
    victim = Victim(troubled, ticks)
    await ticks(100)
    await troubles.clock.advance("61s")
    assert await victim.end() is None
    assert victim.cancelling == 0


async def test_a_cancelled_release_goes_to_its_end(troubled: Scope, troubles: Troubles) -> None:
    troubles.release_takes = 5.0
    victim = Victim(troubled, ticks)
    await ticks(100)
    victim.task.cancel()
    await ticks()
    assert not victim.task.done()
    assert await troubled.lock("door").try_acquire() is None
    await troubles.clock.advance("5s")
    assert isinstance(await victim.end(), asyncio.CancelledError)
    assert await troubled.lock("door").try_acquire() is not None


async def test_a_release_that_is_cancelled_twice_goes_to_its_end(
    troubled: Scope, troubles: Troubles
) -> None:
    troubles.release_takes = 5.0
    victim = Victim(troubled, ticks)
    await ticks(100)
    for _ in range(2):
        victim.task.cancel()
        await ticks()
        assert not victim.task.done()
    await troubles.clock.advance("5s")
    assert isinstance(await victim.end(), asyncio.CancelledError)
    assert await troubled.lock("door").try_acquire() is not None


async def test_a_release_after_a_loss_goes_to_its_end_when_cancelled(
    troubled: Scope, troubles: Troubles
) -> None:
    """The cancellation comes after the body's end, and yet it wins over the loss."""
    troubles.extend_fails = True
    troubles.release_takes = 5.0
    victim = Victim(troubled, forever)
    await ticks()
    await troubles.clock.advance("9s")
    assert not victim.task.done()
    victim.task.cancel()
    await troubles.clock.advance("5s")
    assert isinstance(await victim.end(), asyncio.CancelledError)
    assert victim.cancelling == 1
    assert lease_watchers() == []


async def test_a_release_that_fails_is_the_error_of_the_block(
    troubled: Scope, troubles: Troubles
) -> None:
    troubles.release_fails = True
    with pytest.raises(BackendUnavailable, match="the store is away"):
        async with troubled.lock("door"):
            pass


async def test_a_release_that_fails_does_not_hide_the_bodys_own_error(
    troubled: Scope, troubles: Troubles
) -> None:
    troubles.release_fails = True
    with pytest.raises(ZeroDivisionError) as caught:
        async with troubled.lock("door"):
            _ = 1 / 0
    assert "could not be released: the store is away" in caught.value.__notes__[0]

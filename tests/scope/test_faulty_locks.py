"""Renewals and releases that the store fails, delays or does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from goscope import BackendUnavailable, LeaseLost, Scope
from goscope.backend import MemoryLockProvider
from goscope.memory import MemoryAdapter
from goscope.testing import FakeClock

from .faulty_locks import FaultyLocks, LockFaults
from .locked_bodies import LockedBody, wait_forever
from .support import PausedCall, lease_watchers, ticks

pytestmark = pytest.mark.asyncio


@pytest.fixture
def faults() -> LockFaults:
    return LockFaults(FakeClock())


@pytest_asyncio.fixture
async def faulty(faults: LockFaults) -> AsyncIterator[Scope]:
    """An open scope whose locks have these faults."""
    adapter = MemoryAdapter(clock=faults.clock)
    adapter.lock = FaultyLocks(MemoryLockProvider(adapter.context), faults)
    async with Scope(persistence=adapter) as gs:
        yield gs


@pytest.mark.parametrize("fault", ["extend_fails", "extend_hangs"])
async def test_unanswered_renewals_lose_the_lease_at_its_deadline(
    faulty: Scope, faults: LockFaults, fault: str
) -> None:
    locked = LockedBody(faulty, wait_forever)
    await ticks()
    await faults.clock.advance("3500ms")  # renewed at 3 s: the deadline is 12 s
    setattr(faults, fault, True)
    await faults.clock.advance("8499ms")
    assert not locked.task.done()
    await faults.clock.advance("1ms")
    error = await locked.end()
    assert isinstance(error, LeaseLost)
    assert "not renewed in time" in str(error)
    assert locked.cancelling == 0


async def test_the_loss_names_the_error_of_the_last_renewal(
    faulty: Scope, faults: LockFaults
) -> None:
    faults.extend_fails = True
    locked = LockedBody(faulty, wait_forever)
    await ticks()
    await faults.clock.advance("9s")
    assert "the store is down" in str(await locked.end())


async def test_renewals_that_fail_for_a_while_lose_nothing(
    faulty: Scope, faults: LockFaults
) -> None:
    paused = PausedCall()
    faults.extend_fails = True
    locked = LockedBody(faulty, paused.run)
    await ticks()
    await faults.clock.advance("8s")
    faults.extend_fails = False
    await faults.clock.advance("30s")
    paused.resume()
    assert await locked.end() is None


async def test_the_deadline_counts_from_before_the_request(
    faulty: Scope, faults: LockFaults
) -> None:
    """Requested at 3 s and answered at 5 s, the renewal lasts until 12 s."""
    faults.extend_takes = 2.0
    locked = LockedBody(faulty, wait_forever)
    await ticks()
    await faults.clock.advance("5500ms")
    faults.extend_hangs = True
    await faults.clock.advance("6499ms")
    assert not locked.task.done()
    await faults.clock.advance("1ms")
    assert isinstance(await locked.end(), LeaseLost)


async def test_the_first_deadline_counts_from_before_the_acquire(
    faulty: Scope, faults: LockFaults
) -> None:
    """Requested at 0 s and granted at 2 s, the lease runs until 9 s."""
    faults.acquire_takes = 2.0
    faults.extend_hangs = True
    locked = LockedBody(faulty, wait_forever)
    await ticks()
    await faults.clock.advance("8999ms")
    assert not locked.task.done()
    await faults.clock.advance("1ms")
    assert isinstance(await locked.end(), LeaseLost)


async def test_a_lease_that_expires_during_its_release_is_not_lost(
    faulty: Scope, faults: LockFaults
) -> None:
    """The guard disarms the watcher first: the body has finished."""
    faults.extend_fails = True
    faults.release_takes = 60.0
    locked = LockedBody(faulty, ticks)
    await ticks(100)
    await faults.clock.advance("61s")
    assert await locked.end() is None
    assert locked.cancelling == 0


async def test_a_cancelled_release_runs_to_its_end(faulty: Scope, faults: LockFaults) -> None:
    faults.release_takes = 5.0
    locked = LockedBody(faulty, ticks)
    await ticks(100)
    locked.task.cancel()
    await ticks()
    assert not locked.task.done()
    assert await faulty.lock("door").try_acquire() is None
    await faults.clock.advance("5s")
    assert isinstance(await locked.end(), asyncio.CancelledError)
    assert await faulty.lock("door").try_acquire() is not None


async def test_a_release_that_is_cancelled_twice_runs_to_its_end(
    faulty: Scope, faults: LockFaults
) -> None:
    faults.release_takes = 5.0
    locked = LockedBody(faulty, ticks)
    await ticks(100)
    for _ in range(2):
        locked.task.cancel()
        await ticks()
        assert not locked.task.done()
    await faults.clock.advance("5s")
    assert isinstance(await locked.end(), asyncio.CancelledError)
    assert await faulty.lock("door").try_acquire() is not None


async def test_a_release_after_a_loss_runs_to_its_end_when_cancelled(
    faulty: Scope, faults: LockFaults
) -> None:
    """The cancellation arrives after the end of the body and still wins over the loss."""
    faults.extend_fails = True
    faults.release_takes = 5.0
    locked = LockedBody(faulty, wait_forever)
    await ticks()
    await faults.clock.advance("9s")
    assert not locked.task.done()
    locked.task.cancel()
    await faults.clock.advance("5s")
    assert isinstance(await locked.end(), asyncio.CancelledError)
    assert locked.cancelling == 1
    assert lease_watchers() == []


async def test_a_failed_release_is_the_error_of_the_block(
    faulty: Scope, faults: LockFaults
) -> None:
    faults.release_fails = True
    with pytest.raises(BackendUnavailable, match="the store is down"):
        async with faulty.lock("door"):
            pass


async def test_a_failed_release_does_not_hide_the_bodys_own_error(
    faulty: Scope, faults: LockFaults
) -> None:
    faults.release_fails = True
    with pytest.raises(ZeroDivisionError) as caught:
        async with faulty.lock("door"):
            _ = 1 / 0
    assert "could not be released: the store is down" in caught.value.__notes__[0]

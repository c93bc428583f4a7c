"""KeyedNotifier and ``wait_with_timeout``."""

from __future__ import annotations

import asyncio
import time

import pytest

# Private: every wait of the library with a timeout goes through it.
from goscope._tools.notifier import wait_with_timeout
from goscope.backend import Clock, KeyedNotifier, SystemClock
from goscope.testing import FakeClock

pytestmark = pytest.mark.asyncio


async def test_a_notification_wakes_every_waiter_of_its_key() -> None:
    notifier, clock = KeyedNotifier(), FakeClock()
    waiting = [asyncio.create_task(notifier.wait("key", 60, clock)) for _ in range(3)]
    other = asyncio.create_task(notifier.wait("other", 60, clock))
    await asyncio.sleep(0)
    notifier.notify("key")
    assert await asyncio.gather(*waiting) == [True] * 3
    assert not other.done(), "a notification woke a waiter of another key"
    notifier.notify("other")
    await other


async def test_a_wait_ends_after_its_time() -> None:
    notifier, clock = KeyedNotifier(), FakeClock()
    waiting = asyncio.create_task(notifier.wait("key", 0.5, clock))
    await clock.advance("499ms")
    assert not waiting.done()
    await clock.advance("1ms")
    assert waiting.result() is False


async def test_finished_waits_leave_nothing_behind() -> None:
    """Whether they end by time, notification or cancellation: a server makes many of them."""
    notifier, clock = KeyedNotifier(), FakeClock()
    waiting = [asyncio.create_task(notifier.wait(f"key{n}", n + 1, clock)) for n in range(3)]
    await clock.advance("1s")
    notifier.notify("key1")
    waiting[2].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert not notifier.waiting  # else it leaks
    await asyncio.sleep(0)
    assert not clock._sleepers  # private, as above


async def test_a_notification_without_waiters_does_nothing() -> None:
    KeyedNotifier().notify("key")


async def test_a_waiter_that_waits_again_at_once_is_notified_again() -> None:
    """The end of its first wait does not remove the second one."""
    notifier, clock = KeyedNotifier(), FakeClock()

    async def twice() -> None:
        await notifier.wait("key", 60, clock)
        await notifier.wait("key", 60, clock)

    waiting = [asyncio.create_task(twice()) for _ in range(2)]
    for _ in range(2):
        for _ in range(5):
            await asyncio.sleep(0)
        notifier.notify("key")
    async with asyncio.timeout(30):
        await asyncio.gather(*waiting)


@pytest.mark.parametrize("clock", [SystemClock(), FakeClock()])
async def test_wait_with_timeout_never_cancels_the_future(clock: Clock) -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(wait_with_timeout(future, 60, clock))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert not future.done()


async def test_wait_with_timeout_returns_whether_the_future_is_done() -> None:
    future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    start = time.monotonic()
    assert not await wait_with_timeout(future, 0.01, SystemClock())
    assert time.monotonic() - start >= 0.009
    future.set_exception(LookupError())
    assert await wait_with_timeout(future, 60, SystemClock()), "a failed future is done"
    future.exception()

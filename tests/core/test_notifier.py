"""Waiting for a key within one process."""

from __future__ import annotations

import asyncio
import time

import pytest

from goscope._tools.notifier import wait_with_timeout
from goscope.backend import Clock, KeyedNotifier, SystemClock
from goscope.testing import FakeClock

pytestmark = pytest.mark.asyncio


async def test_a_notification_wakes_everyone_who_waits_for_the_key() -> None:
    waiters, clock = KeyedNotifier(), FakeClock()
    waiting = [asyncio.create_task(waiters.wait("key", 60, clock)) for _ in range(3)]
    other = asyncio.create_task(waiters.wait("other", 60, clock))
    await asyncio.sleep(0)
    waiters.notify("key")
    assert await asyncio.gather(*waiting) == [True] * 3
    assert not other.done(), "a notification woke who waits for another key"
    waiters.notify("other")
    await other


async def test_a_wait_ends_with_its_time() -> None:
    waiters, clock = KeyedNotifier(), FakeClock()
    waiting = asyncio.create_task(waiters.wait("key", 0.5, clock))
    await clock.advance("499ms")
    assert not waiting.done()
    await clock.advance("1ms")
    assert waiting.result() is False


async def test_nothing_is_kept_of_those_who_left() -> None:
    """By time, by notification or by cancellation: a server must not collect them."""
    waiters, clock = KeyedNotifier(), FakeClock()
    waiting = [asyncio.create_task(waiters.wait(f"key{n}", n + 1, clock)) for n in range(3)]
    await clock.advance("1s")
    waiters.notify("key1")
    waiting[2].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert not waiters._by_key
    await asyncio.sleep(0)
    assert not clock._sleepers


async def test_a_notification_that_nobody_waits_for_is_no_error() -> None:
    KeyedNotifier().notify("key")


async def test_one_who_waits_again_at_once_is_not_forgotten() -> None:
    """The first wait cleans up behind itself and leaves the second one alone."""
    waiters, clock = KeyedNotifier(), FakeClock()

    async def twice() -> None:
        await waiters.wait("key", 60, clock)
        await waiters.wait("key", 60, clock)

    waiting = [asyncio.create_task(twice()) for _ in range(2)]
    for _ in range(2):
        for _ in range(5):
            await asyncio.sleep(0)
        waiters.notify("key")
    async with asyncio.timeout(5):
        await asyncio.gather(*waiting)


@pytest.mark.parametrize("clock", [SystemClock(), FakeClock()])
async def test_wait_until_never_cancels_the_future(clock: Clock) -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(wait_with_timeout(future, 60, clock))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert not future.done()


async def test_wait_until_tells_whether_it_is_done() -> None:
    future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    start = time.monotonic()
    assert not await wait_with_timeout(future, 0.01, SystemClock())
    assert time.monotonic() - start >= 0.009
    future.set_exception(LookupError())
    assert await wait_with_timeout(future, 60, SystemClock()), "a failed future is done, too"
    future.exception()

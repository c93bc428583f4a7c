"""FakeClock: time passes only in ``advance``, and sleepers wake in order."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from typing import Any

import pytest

from goscope.backend import Clock
from goscope.testing import FakeClock

pytestmark = pytest.mark.asyncio


async def test_time_stands_still() -> None:
    clock: Clock = FakeClock(wall_ms=5, steady_ms=7, boot_id="boot")
    await asyncio.sleep(0.005)
    assert (clock.wall_ms(), clock.steady_ms(), clock.boot_id) == (5, 7, "boot")


async def test_advance_moves_both_clocks() -> None:
    clock = FakeClock(wall_ms=0, steady_ms=0)
    await clock.advance("1s")
    await clock.advance(timedelta(milliseconds=5))
    assert (clock.wall_ms(), clock.steady_ms()) == (1_005, 1_005)


async def test_step_wall_moves_the_wall_clock_alone() -> None:
    clock = FakeClock(wall_ms=10_000, steady_ms=0)
    clock.step_wall("1s")
    assert clock.wall_ms() == 11_000
    clock.step_wall(timedelta(seconds=-5))
    assert clock.wall_ms() == 6_000
    assert clock.steady_ms() == 0


async def test_step_wall_wakes_no_sleeper() -> None:
    clock = FakeClock()
    sleeper = asyncio.ensure_future(clock.sleep(1))
    await asyncio.sleep(0)
    clock.step_wall("1h")
    await clock.advance("999ms")
    assert not sleeper.done()
    await clock.advance("1ms")
    assert sleeper.done()


@pytest.mark.parametrize("duration", [5, 0, 2.5])
async def test_bare_numbers_are_refused(duration: Any) -> None:
    clock = FakeClock()
    with pytest.raises(TypeError):
        await clock.advance(duration)
    with pytest.raises(TypeError):
        clock.step_wall(duration)


async def test_time_does_not_run_backwards() -> None:
    with pytest.raises(ValueError, match="more than zero"):
        await FakeClock().advance(timedelta(seconds=-1))


async def test_sleepers_wake_at_their_times_and_in_their_order() -> None:
    clock = FakeClock(steady_ms=0)
    log: list[tuple[str, int]] = []

    async def sleep(name: str, seconds: float, times: int = 1) -> None:
        for _ in range(times):
            await clock.sleep(seconds)
            log.append((name, clock.steady_ms()))

    tasks = [
        asyncio.create_task(sleep("late", 0.9)),
        asyncio.create_task(sleep("tick", 0.25, times=3)),
        asyncio.create_task(sleep("early", 0.1)),
        asyncio.create_task(sleep("too late", 1.001)),
    ]
    await clock.advance("1s")
    assert log == [("early", 100), ("tick", 250), ("tick", 500), ("tick", 750), ("late", 900)]
    assert clock.steady_ms() == 1_000
    await clock.advance("1ms")
    assert log[-1] == ("too late", 1_001)
    await asyncio.gather(*tasks)


async def test_sleepers_with_one_time_wake_in_the_order_of_their_calls() -> None:
    clock = FakeClock()
    log: list[int] = []

    async def sleep(number: int) -> None:
        await clock.sleep(0.5)
        log.append(number)

    tasks = [asyncio.create_task(sleep(number)) for number in range(5)]
    await clock.advance("500ms")
    assert log == [0, 1, 2, 3, 4]
    await asyncio.gather(*tasks)


async def test_tasks_that_await_a_woken_task_run_before_time_passes() -> None:
    """Through several layers of tasks and futures."""
    clock = FakeClock(steady_ms=0)

    async def layer(depth: int) -> None:
        if depth:
            await asyncio.create_task(layer(depth - 1))
        else:
            await clock.sleep(0.1)

    async def outer() -> int:
        await layer(5)
        return clock.steady_ms()

    task = asyncio.create_task(outer())
    await clock.advance("1h")
    assert task.result() == 100


async def test_a_sleep_that_a_woken_task_starts_ends_too() -> None:
    clock = FakeClock(steady_ms=0)

    async def chain() -> int:
        for _ in range(100):
            await clock.sleep(0.01)
        return clock.steady_ms()

    task = asyncio.create_task(chain())
    await clock.advance("1s")
    assert task.result() == 1_000


async def test_fractions_of_a_millisecond_are_rounded_up() -> None:
    clock = FakeClock(steady_ms=0)
    for seconds, ms in [(0.0001, 1), (0.035, 35), (0.0351, 36)]:
        start = clock.steady_ms()
        task = asyncio.ensure_future(clock.sleep(seconds))
        await asyncio.sleep(0)
        for passed in range(1, ms + 1):
            assert not task.done(), f"{seconds} s were over after {passed - 1} ms"
            await clock.advance("1ms")
        assert task.done(), f"{seconds} s were not over after {ms} ms"
        assert clock.steady_ms() == start + ms


@pytest.mark.parametrize("seconds", [0, -1])
async def test_sleeping_for_no_time_yields_to_other_tasks(seconds: float) -> None:
    log: list[str] = []
    asyncio.get_running_loop().call_soon(log.append, "other")
    await FakeClock().sleep(seconds)
    assert log == ["other"]


async def test_an_endless_sleep_does_not_end() -> None:
    clock = FakeClock()
    task = asyncio.ensure_future(clock.sleep(float("inf")))
    await clock.advance("36600d")
    assert not task.done()
    task.cancel()


async def test_a_sleep_counts_from_its_call_and_not_from_when_it_is_awaited() -> None:
    """Otherwise time that passes before a new task runs would prolong its sleep."""
    clock = FakeClock()
    sleep = clock.sleep(1)
    await clock.advance("1s")
    assert sleep.done()


async def test_a_cancelled_sleeper_is_forgotten() -> None:
    clock = FakeClock()
    task = asyncio.ensure_future(clock.sleep(1))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)  # callbacks run in the next tick
    assert task.cancelled()
    assert not clock._sleepers  # private: a leak shows nowhere else
    await clock.advance("2s")


async def test_a_sleeper_may_cancel_another_one_that_wakes_at_the_same_time() -> None:
    clock = FakeClock()
    cancelled = asyncio.ensure_future(clock.sleep(0.5))

    async def cancel() -> None:
        await clock.sleep(0.5)
        cancelled.cancel()

    task = asyncio.create_task(cancel())
    await asyncio.sleep(0)
    await clock.advance("1s")
    assert task.done()
    assert cancelled.done()


async def test_importing_the_testing_package_imports_no_test_framework() -> None:
    code = "import sys, goscope.testing; sys.exit('pytest' in sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await process.wait() == 0

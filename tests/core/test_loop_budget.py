"""LoopBudget: operations that never have to wait yield to the event loop."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

# Private: through the providers, its effect could be measured in real time only.
from goscope._tools import loop_budget
from goscope._tools.loop_budget import LoopBudget
from goscope.backend import encode
from goscope.memory import MemoryAdapter


class Clock:
    """A clock of seconds that the test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("goscope._tools.loop_budget.perf_counter", clock)
    return clock


@pytest.mark.asyncio
async def test_many_values_of_many_tasks_are_spread_over_the_ticks(clock: Clock) -> None:
    """Each value takes 10 us here, and 30 of them are the budget of one tick."""
    tick = 0
    encoded = Counter[int]()

    async def count_ticks() -> None:
        nonlocal tick
        while True:
            tick += 1
            await asyncio.sleep(0)

    def count_encoded(value: Any) -> str:
        clock.now += 0.00001
        encoded[tick] += 1
        return encode(value)

    async with MemoryAdapter() as adapter:
        adapter.context.encode = count_encoded
        counting = asyncio.create_task(count_ticks())
        tasks = (
            adapter.cache.set_many({f"{task}:{number}": number for number in range(100)})
            for task in range(20)
        )
        await asyncio.gather(*tasks)
        counting.cancel()
        assert len(await adapter.cache.keys()) == 2000
    assert encoded.total() == 2000
    assert max(encoded.values()) <= 100


@pytest.mark.asyncio
async def test_waiters_resume_in_their_order(clock: Clock) -> None:
    budget = LoopBudget()
    served: list[int] = []

    async def work(number: int) -> None:
        if budget.exhausted(clock()):
            await budget.wait()
        served.append(number)
        clock.now += 2 * loop_budget.TICK_BUDGET_S

    await asyncio.gather(*(work(number) for number in range(10)))
    assert served == list(range(10))


async def lengths_of_ticks(clock: Clock, budget: LoopBudget, seconds: float) -> list[float]:
    """The lengths of the ticks that 20 waiters share, each of which works so long once resumed."""
    lengths: list[float] = []

    async def work() -> None:
        for _ in range(20):
            if budget.exhausted(clock()):
                await budget.wait()
            clock.now += seconds

    async def watch() -> None:
        while True:
            began = clock.now
            await asyncio.sleep(0)
            lengths.append(clock.now - began)

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(work() for _ in range(20)))
    watching.cancel()
    return lengths


@pytest.mark.asyncio
@pytest.mark.parametrize("seconds", [0.00001, 0.0001])
async def test_waiters_share_the_budget_of_a_tick(clock: Clock, seconds: float) -> None:
    """Each may begin one more operation when its share is nearly used."""
    lengths = await lengths_of_ticks(clock, LoopBudget(), seconds)
    longest = loop_budget.TICK_BUDGET_S + loop_budget.WAKEUPS_PER_TICK * seconds
    assert max(lengths[len(lengths) // 2 :]) <= longest * 1.001  # floats


@pytest.mark.asyncio
async def test_a_sole_waiter_always_resumes(clock: Clock) -> None:
    budget = LoopBudget()
    for _ in range(20_000):
        assert not budget.exhausted(clock())
        clock.now += 2 * loop_budget.TICK_BUDGET_S
        assert budget.exhausted(clock())
        async with asyncio.timeout(10):
            await budget.wait()


async def ticks_to_resume(clock: Clock, budget: LoopBudget, waiting: int, others: float) -> int:
    """How many ticks it takes until so many waiters, each with little to do, have resumed.

    Other work takes ``others`` seconds in each tick.
    """
    ticks = 0

    async def watch() -> None:
        nonlocal ticks
        while True:
            clock.now += others
            ticks += 1
            await asyncio.sleep(0)

    async def work() -> None:
        if not budget.exhausted(clock()):
            clock.now += 1  # the first one uses up the budget
        else:
            await budget.wait()

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(work() for _ in range(waiting)))
    watching.cancel()
    return ticks


@pytest.mark.asyncio
@pytest.mark.parametrize("others", [0, 0.002])
async def test_several_waiters_resume_in_each_tick(clock: Clock, others: float) -> None:
    ticks = await ticks_to_resume(clock, LoopBudget(), 80, others)
    assert ticks <= 80 / loop_budget.WAKEUPS_PER_TICK + 5  # to begin, and to end


def test_a_tick_that_ended_with_its_loop_delays_no_waiter(clock: Clock) -> None:
    budget = LoopBudget()
    first = asyncio.new_event_loop()

    def begin() -> None:
        assert not budget.exhausted(clock())
        clock.now += 1
        first.stop()  # before the tick has ended

    async def continue_in_new_loop() -> None:
        assert budget.exhausted(clock())
        async with asyncio.timeout(10):
            await budget.wait()
        assert not budget.exhausted(clock())

    first.call_soon(begin)
    first.run_forever()
    first.close()
    asyncio.run(continue_in_new_loop())


def test_another_loop_does_not_affect_the_first_one(clock: Clock) -> None:
    budget = LoopBudget()

    async def main() -> None:
        in_other_loop = asyncio.create_task(asyncio.to_thread(asyncio.run, budget.wait()))
        assert not budget.exhausted(clock())
        clock.now += 1
        async with asyncio.timeout(10):
            await budget.wait()
            await in_other_loop

    asyncio.run(main())

"""What never has to wait leaves the event loop to others all the same."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from goscope._tools import loop_budget
from goscope._tools.loop_budget import LoopBudget
from goscope.backend import encode
from goscope.memory import MemoryAdapter


class Clock:
    """A clock of seconds that goes when it is told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("goscope._tools.loop_budget.perf_counter", clock)
    monkeypatch.setattr("goscope.backend._cache.perf_counter", clock)
    return clock


@pytest.mark.asyncio
async def test_many_values_of_many_tasks_share_the_turns_of_the_loop(clock: Clock) -> None:
    """Each value takes 10 us here: 50 of them are what one turn has room for."""
    turn = 0
    encoded = Counter[int]()

    async def count_turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    def noted(value: Any) -> str:
        clock.now += 0.00001
        encoded[turn] += 1
        return encode(value)

    async with MemoryAdapter() as adapter:
        adapter.context.encode = noted
        counting = asyncio.create_task(count_turns())
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
async def test_who_waits_gets_his_turn_in_order(clock: Clock) -> None:
    budget = LoopBudget()
    served: list[int] = []

    async def work(number: int) -> None:
        if budget.exhausted(clock()):
            await budget.wait()
        served.append(number)
        clock.now += 2 * loop_budget.TICK_BUDGET_S

    await asyncio.gather(*(work(number) for number in range(10)))
    assert served == list(range(10))


async def lengths_of_turns(clock: Clock, budget: LoopBudget, seconds: float) -> list[float]:
    """How long turns get that 20 share who take so long each time, after what they waited for."""
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
async def test_fewer_get_a_turn_the_more_each_does_with_it(clock: Clock) -> None:
    budget = LoopBudget()
    few = await lengths_of_turns(clock, budget, 0.0001)
    assert max(few[len(few) // 2 :]) <= 2 * loop_budget.TICK_BUDGET_S
    one = await lengths_of_turns(clock, budget, 0.002)
    assert sorted(one)[len(one) // 2] <= 0.003
    many = await lengths_of_turns(clock, budget, 0.00001)
    assert max(many[len(many) // 2 :]) <= 1.5 * loop_budget.TICK_BUDGET_S


@pytest.mark.asyncio
async def test_one_that_waits_alone_gets_its_turn_however_often(clock: Clock) -> None:
    """Nobody comes after it to tell how long it took, so that is guessed to be less each time."""
    budget = LoopBudget()
    for _ in range(20_000):
        assert not budget.exhausted(clock())
        clock.now += 2 * loop_budget.TICK_BUDGET_S
        assert budget.exhausted(clock())
        async with asyncio.timeout(10):
            await budget.wait()


async def turns_to_serve(clock: Clock, budget: LoopBudget, waiting: int, others: float) -> int:
    """How many turns it takes until so many had theirs, who do little with it.

    ``others`` are the seconds that other work takes in each.
    """
    turns = 0

    async def watch() -> None:
        nonlocal turns
        while True:
            clock.now += others
            turns += 1
            await asyncio.sleep(0)

    async def work() -> None:
        if not budget.exhausted(clock()):
            clock.now += 1  # the first one uses it up
        else:
            await budget.wait()

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(work() for _ in range(waiting)))
    watching.cancel()
    return turns


@pytest.mark.asyncio
async def test_who_took_long_once_does_not_hold_up_others_for_good(clock: Clock) -> None:
    budget = LoopBudget()
    await lengths_of_turns(clock, budget, 0.002)
    assert await turns_to_serve(clock, budget, 80, 0) < 40


@pytest.mark.asyncio
async def test_other_work_does_not_hold_up_those_who_wait(clock: Clock) -> None:
    assert await turns_to_serve(clock, LoopBudget(), 80, 0.002) < 28


def test_a_turn_that_ended_with_its_loop_holds_up_nobody(clock: Clock) -> None:
    budget = LoopBudget()
    first = asyncio.new_event_loop()

    def begin() -> None:
        assert not budget.exhausted(clock())
        clock.now += 1
        first.stop()  # before the turn has ended

    async def go_on() -> None:
        assert budget.exhausted(clock())
        async with asyncio.timeout(10):
            await budget.wait()
        assert not budget.exhausted(clock())

    first.call_soon(begin)
    first.run_forever()
    first.close()
    asyncio.run(go_on())


def test_another_loop_does_not_disturb_the_one_that_has_the_turn(clock: Clock) -> None:
    budget = LoopBudget()

    async def main() -> None:
        elsewhere = asyncio.create_task(asyncio.to_thread(asyncio.run, budget.wait()))
        assert not budget.exhausted(clock())
        clock.now += 1
        async with asyncio.timeout(10):
            await budget.wait()
            await elsewhere

    asyncio.run(main())

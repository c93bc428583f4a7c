"""`RunOnce`, which the cache and idempotent calls share: leaders, waiters and their timeouts.

It is private; through the features, only some of these cases can be brought about.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio

from goscope._lease_guard import LeaseGuard
from goscope._observers import Observers
from goscope._run_once import RunOnce
from goscope._runtime import Runtime
from goscope._single_flight import WaitTimeout
from goscope.memory import MemoryAdapter
from goscope.testing import FakeClock

from .support import PausedCall, ticks

pytestmark = pytest.mark.asyncio


class Work:
    """Work on "key" whose outcome is what its function returns."""

    key = "key"
    template = None
    lease = "work:key"
    owner = None
    answer_ms = None
    cancel_body = True

    def __init__(self, run: Callable[[], Awaitable[Any]], outcomes: dict[str, Any]) -> None:
        self._run = run
        self._outcomes = outcomes

    async def stored(self) -> Any:
        return self._outcomes.get(self.key)

    async def execute(self, guard: LeaseGuard) -> Any:
        self._outcomes[self.key] = await self._run()
        return self._outcomes[self.key]


@pytest_asyncio.fixture
async def adapter() -> AsyncIterator[MemoryAdapter]:
    async with MemoryAdapter(clock=FakeClock()) as adapter:
        yield adapter


@pytest_asyncio.fixture
async def runtime(adapter: MemoryAdapter) -> Runtime:
    return open_runtime(adapter)


def open_runtime(adapter: MemoryAdapter) -> Runtime:
    return Runtime(adapter, "memory", Observers(), 10_000, owns_adapter=False)


async def fail() -> Any:
    raise ZeroDivisionError


async def test_waiters_share_the_outcome_of_the_leader(runtime: Runtime) -> None:
    paused, once = PausedCall(), RunOnce[int]()
    work = Work(lambda: paused.run(7), {})
    callers = [asyncio.create_task(once.share(runtime, work)) for _ in range(3)]
    await paused.started()
    await ticks()
    paused.resume()
    assert await asyncio.gather(*callers) == [7, 7, 7]
    assert paused.calls == 1


async def test_a_stored_outcome_is_not_computed_again(runtime: Runtime) -> None:
    assert await RunOnce[int]().share(runtime, Work(fail, {"key": 7})) == 7


async def test_waiters_share_the_error_of_the_leader(runtime: Runtime) -> None:
    paused, once = PausedCall(), RunOnce[int]()

    async def failing() -> None:
        await paused.run()
        await fail()

    work = Work(failing, {})
    callers = [asyncio.create_task(once.share(runtime, work)) for _ in range(3)]
    await paused.started()
    await ticks()
    paused.resume()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(result) for result in results] == [ZeroDivisionError] * 3
    assert paused.calls == 1


async def test_a_waiter_replaces_a_cancelled_leader(runtime: Runtime) -> None:
    paused, once = PausedCall(), RunOnce[int]()
    work = Work(lambda: paused.run(7), {})
    leader = asyncio.create_task(once.share(runtime, work))
    await paused.started()
    waiters = [asyncio.create_task(once.share(runtime, work)) for _ in range(3)]
    await ticks()
    leader.cancel()
    await paused.started()
    paused.resume()
    assert await asyncio.gather(*waiters) == [7, 7, 7]
    assert leader.cancelled()
    assert (paused.calls, paused.max_running) == (2, 1)


async def test_a_waiter_times_out_while_the_leader_continues(
    adapter: MemoryAdapter, runtime: Runtime
) -> None:
    clock, paused, once = adapter.clock, PausedCall(), RunOnce[int]()
    assert isinstance(clock, FakeClock)
    work = Work(lambda: paused.run(7), {})
    leader = asyncio.create_task(once.share(runtime, work))
    await paused.started()
    waiter = asyncio.create_task(once.share(runtime, work, wait_ms=1_000))
    await clock.advance("999ms")
    assert not waiter.done()
    await clock.advance("1ms")
    with pytest.raises(WaitTimeout):
        await waiter
    with pytest.raises(WaitTimeout):
        await once.share(runtime, work, wait_ms=0)
    paused.resume()
    assert await leader == 7


async def test_a_waiter_that_takes_over_has_only_the_rest_of_its_wait(
    adapter: MemoryAdapter, runtime: Runtime
) -> None:
    """The first leader of this process times out on another one, and so does the next."""
    clock, paused = adapter.clock, PausedCall()
    assert isinstance(clock, FakeClock)
    outcomes: dict[str, Any] = {}
    work = Work(lambda: paused.run(7), outcomes)
    elsewhere = asyncio.create_task(RunOnce[int]().share(open_runtime(adapter), work))
    await paused.started()
    once = RunOnce[int]()
    first = asyncio.create_task(once.share(runtime, work, wait_ms=1_000))
    await ticks()
    second = asyncio.create_task(once.share(runtime, work, wait_ms=3_000))
    third = asyncio.create_task(once.share(runtime, work))
    await clock.advance("1s")
    with pytest.raises(WaitTimeout):
        await first
    await clock.advance("1999ms")
    assert not second.done()
    await clock.advance("1ms")
    with pytest.raises(WaitTimeout):
        await second
    paused.resume()
    assert await elsewhere == 7
    await clock.advance("1s")
    assert await third == 7
    assert paused.calls == 1


async def test_work_that_waits_for_its_own_key_is_an_error(runtime: Runtime) -> None:
    once = RunOnce[int]()

    async def reentrant() -> Any:
        return await once.share(runtime, work)

    work = Work(reentrant, {})
    with pytest.raises(RuntimeError, match="'key' asks for 'key' itself"):
        await asyncio.wait_for(once.share(runtime, work), 30)
    with pytest.raises(RuntimeError, match="'key' asks for 'key' itself"):
        await asyncio.wait_for(once.lead(runtime, work), 30)


async def test_work_that_does_not_wait_for_its_own_key_times_out_at_once(runtime: Runtime) -> None:
    once = RunOnce[int]()

    async def reentrant() -> Any:
        with pytest.raises(WaitTimeout):
            await once.share(runtime, work, wait_ms=0)
        return 7

    work = Work(reentrant, {})
    assert await once.share(runtime, work) == 7


async def test_lead_shares_nothing_but_the_stored_outcome(runtime: Runtime) -> None:
    paused, once = PausedCall(), RunOnce[int]()
    work = Work(lambda: paused.run(7), {})
    leader = asyncio.create_task(once.lead(runtime, work))
    await paused.started()
    with pytest.raises(WaitTimeout):
        await once.lead(runtime, work, wait_ms=0)
    paused.resume()
    assert await leader == 7
    assert await once.lead(runtime, work) == 7
    assert paused.calls == 1

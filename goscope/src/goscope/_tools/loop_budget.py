"""Yielding to the event loop from operations that never have to wait.

An ``await`` that never suspends never yields: 64 callers that read from a warm file would keep
the loop busy until all of them are done. They share one `LoopBudget` an iteration of the loop;
once it is spent, the others wait for a later iteration.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from time import perf_counter
from typing import Final, TypeVar

T = TypeVar("T")

TICK_BUDGET_S: Final = 0.0003
"""Seconds of work in one iteration (tick) of the loop.

So few because a timer of asyncio that becomes due in one tick may run only two ticks later.
"""

WAKEUPS_PER_TICK: Final = 3
"""How many waiters resume in the same tick, each with a share of the budget.

A single one would waste the budget if it has one operation only. With eight, 64 callers that get
wait more often, and a get takes 5 % longer.
"""

ITEMS_PER_CHECK: Final = 10
"""How many items are processed between two checks of the budget."""


class LoopBudget:
    """The time that operations may still take in the current tick of the event loop.

    ``on_tick_end`` is called when the tick is over, before the next one begins. ``until`` is when
    the time of this tick is spent, 0 before its first operation.
    """

    def __init__(self) -> None:
        self.on_tick_end: Callable[[], None] | None = None
        self.until = 0.0
        self._share = TICK_BUDGET_S
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None

    def exhausted(self, now: float) -> bool:
        """Whether an operation that starts now has to `wait` first.

        ``now`` is read from `time.perf_counter`.
        """
        if not self.until:
            self._begin_tick(now + TICK_BUDGET_S)
        return now > self.until

    @property
    def is_contended(self) -> bool:
        """Whether operations wait for a later tick."""
        return bool(self._waiting)

    async def wait(self) -> None:
        """Return in a later tick: first come, first served, and a limited number in one tick."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            await self._wait_in_new_loop(loop)
            return
        waiter = loop.create_future()
        self._waiting.append(waiter)
        await waiter
        self.until = perf_counter() + self._share

    async def cooperatively(self, items: Iterable[T]) -> AsyncIterator[T]:
        """Iterate over the items, yielding to the event loop when the budget is exhausted."""
        for number, item in enumerate(items):
            if number % ITEMS_PER_CHECK == 0 and self.exhausted(perf_counter()):
                await self.wait()
            yield item

    async def _wait_in_new_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Restart in this loop if the previous one was closed in the middle of a tick."""
        if self._loop is None or self._loop.is_closed():
            self._waiting.clear()
            self._begin_tick(perf_counter() + TICK_BUDGET_S)
        await asyncio.sleep(0)

    def _begin_tick(self, until: float) -> None:
        self.until = until
        self._loop = asyncio.get_running_loop()
        self._loop.call_soon(self._end_tick)

    def _end_tick(self) -> None:
        self.until = 0.0
        if self._waiting:
            self._wake_waiters()
        if self.on_tick_end is not None:
            self.on_tick_end()

    def _wake_waiters(self) -> None:
        woken = min(len(self._waiting), WAKEUPS_PER_TICK)
        self._share = TICK_BUDGET_S / woken
        for _ in range(woken):
            waiter = self._waiting.popleft()
            if not waiter.done():  # else its task was cancelled
                waiter.set_result(None)
        self._begin_tick(perf_counter() + self._share)

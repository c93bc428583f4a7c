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

MAX_WAKEUPS_PER_TICK: Final = 8
"""How many waiters resume in the same tick at most, each with a share of the budget.

A single one would waste the budget if it has one operation only, and waiting costs time too.
"""

ITEMS_PER_CHECK: Final = 10
"""How many items are processed between two checks of the budget."""


class LoopBudget:
    """The time that operations may still take in the current tick of the event loop.

    ``on_tick_end`` is called when the tick is over, before the next one begins.
    """

    def __init__(self) -> None:
        self.on_tick_end: Callable[[], None] | None = None
        self._until = 0.0
        self._share = TICK_BUDGET_S
        self._waiting: deque[asyncio.Future[None]] = deque()
        # Seconds that a resumed waiter takes on average, with everything that it does next.
        self._mean_cost = TICK_BUDGET_S
        self._last_resumed = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None

    def exhausted(self, now: float) -> bool:
        """Whether an operation that starts now has to `wait` first.

        ``now`` is read from `time.perf_counter`.
        """
        if not self._until:
            self._begin_tick(now + TICK_BUDGET_S)
        return now > self._until

    @property
    def has_waiters(self) -> bool:
        """Whether there is more to do than fits into this tick."""
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
        now = perf_counter()
        if self._last_resumed:  # the waiter woken before this one ran from then until now
            self._mean_cost += (now - self._last_resumed - self._mean_cost) / 8
        self._last_resumed = now
        self._until = now + self._share

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
        self._until = until
        self._loop = asyncio.get_running_loop()
        self._loop.call_soon(self._end_tick)

    def _end_tick(self) -> None:
        self._until = self._last_resumed = 0.0
        if self._waiting:
            self._wake_waiters()
        if self.on_tick_end is not None:
            self.on_tick_end()

    def _wake_waiters(self) -> None:
        # A mean below this floor would not wake more of them.
        self._mean_cost = max(self._mean_cost, TICK_BUDGET_S / MAX_WAKEUPS_PER_TICK)
        woken = min(
            len(self._waiting), MAX_WAKEUPS_PER_TICK, 1 + int(TICK_BUDGET_S / self._mean_cost)
        )
        if woken == 1:
            # A sole waiter never updates the mean, which may have fallen in the meantime.
            self._mean_cost *= 7 / 8
        self._share = TICK_BUDGET_S / woken
        for _ in range(woken):
            waiter = self._waiting.popleft()
            if not waiter.done():  # else its task was cancelled
                waiter.set_result(None)
        self._begin_tick(perf_counter() + self._share)

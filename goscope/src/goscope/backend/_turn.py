"""Giving the event loop its turn, although what runs in it never has to wait."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Final

YIELD_AFTER: Final = 0.0003
"""Seconds of work in one turn of the loop: an ``await`` that never suspends never yields. So few,
since a timer of asyncio is up to three turns late."""

WOKEN: Final = 8
"""How many of those that wait get their turn at once, each with a share of the time.

One alone would leave the turn unused if it has a single operation, and waiting is not free.
"""


class Turn:
    """The running turn of the event loop, as seen by operations that run in it.

    ``on_end`` is called when it is over, before the next one begins.
    """

    def __init__(self) -> None:
        self.on_end: Callable[[], None] | None = None
        self._until = 0.0
        self._share = YIELD_AFTER
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._usual = YIELD_AFTER  # seconds one that waited takes with all it goes on to do
        self._resumed = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None

    def is_used_up(self, now: float) -> bool:
        """Whether an operation that starts now has to leave the loop to others first.

        ``now`` is read from `time.perf_counter`.
        """
        if not self._until:
            self._begin(now + YIELD_AFTER)
        return now > self._until

    @property
    def is_waited_for(self) -> bool:
        """Whether there is more to do than fits into this turn."""
        return bool(self._waiting)

    async def wait(self) -> None:
        """Return in a later turn: first come, first served, and not too many in the same one."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            await self._wait_elsewhere(loop)
            return
        waiter = loop.create_future()
        self._waiting.append(waiter)
        await waiter
        now = perf_counter()
        if self._resumed:  # so long after the one that was woken before this one
            self._usual += (now - self._resumed - self._usual) / 8
        self._resumed = now
        self._until = now + self._share

    async def _wait_elsewhere(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin anew in this loop if the other one was closed in the middle of a turn."""
        if self._loop is None or self._loop.is_closed():
            self._waiting.clear()
            self._begin(perf_counter() + YIELD_AFTER)
        await asyncio.sleep(0)

    def _begin(self, until: float) -> None:
        self._until = until
        self._loop = asyncio.get_running_loop()
        self._loop.call_soon(self._end)

    def _end(self) -> None:
        self._until = self._resumed = 0.0
        if self._waiting:
            self._usual = max(self._usual, YIELD_AFTER / WOKEN)  # less would change nothing
            woken = min(len(self._waiting), WOKEN, 1 + int(YIELD_AFTER / self._usual))
            if woken == 1:  # then nobody tells, and it may be less by now
                self._usual *= 7 / 8
            self._share = YIELD_AFTER / woken
            for _ in range(woken):
                waiter = self._waiting.popleft()
                if not waiter.done():  # else its task was cancelled
                    waiter.set_result(None)
            self._begin(perf_counter() + self._share)
        if self.on_end is not None:
            self.on_end()

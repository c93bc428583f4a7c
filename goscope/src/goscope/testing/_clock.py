"""A clock that advances only when a test advances it."""

from __future__ import annotations

import asyncio
import math
from datetime import timedelta

from .._tools.duration import strict_milliseconds

_TICKS = 20
"""Iterations of the event loop in which a woken task can act and sleep again.

Each layer of tasks and futures between a timer and the code that waits for it takes one or two.
"""


class FakeClock:
    """A `goscope.backend.Clock` that only ``advance`` and ``step_wall`` move.

    It serves one event loop at a time. Assign another ``boot_id`` to simulate a reboot.
    """

    def __init__(
        self,
        *,
        wall_ms: int = 1_700_000_000_000,
        steady_ms: int = 1_000_000,
        boot_id: str = "test-boot",
    ) -> None:
        self.boot_id = boot_id
        self._wall_ms = wall_ms
        self._steady_ms = steady_ms
        self._sleepers: dict[asyncio.Future[None], float] = {}

    def __repr__(self) -> str:
        return f"FakeClock(wall_ms={self._wall_ms}, steady_ms={self._steady_ms})"

    def wall_ms(self) -> int:
        return self._wall_ms

    def steady_ms(self) -> int:
        return self._steady_ms

    def sleep(self, seconds: float) -> asyncio.Future[None]:
        """Return a future that finishes when the clock has advanced ``seconds`` since the call.

        Since the call, not the await: time that passes before a new task starts counts too.
        """
        loop = asyncio.get_running_loop()
        wake: asyncio.Future[None] = loop.create_future()
        if seconds <= 0:
            loop.call_soon(_wake, wake)
        else:
            # Rounded, since 0.035 * 1000 is a little more than 35.
            self._sleepers[wake] = self._steady_ms + round(seconds * 1000, 3)
            wake.add_done_callback(lambda _: self._sleepers.pop(wake, None))
        return wake

    async def advance(self, duration: timedelta | str) -> None:
        """Advance both clocks by ``duration`` and wake each sleeper at its time, in order.

        Tasks run in between, so a timer that a woken task starts within the duration fires too.
        Does not wait for other threads. ``duration`` is a timedelta or a string with a unit, and
        must be positive.
        """
        end = self._steady_ms + strict_milliseconds(duration)
        await _run_tasks()
        while self._sleepers:
            wake = min(self._sleepers, key=self._sleepers.__getitem__)
            due = self._sleepers[wake]
            if due > end:
                break
            del self._sleepers[wake]
            self._move_to(max(math.ceil(due), self._steady_ms))
            _wake(wake)
            await _run_tasks()
        self._move_to(end)
        await _run_tasks()

    def step_wall(self, duration: timedelta | str) -> None:
        """Set the wall clock forward, or back by a negative ``timedelta``, but no steady time."""
        if isinstance(duration, timedelta) and duration <= timedelta(0):
            self._wall_ms += math.floor(duration / timedelta(milliseconds=1))
        else:
            self._wall_ms += strict_milliseconds(duration)

    def _move_to(self, steady_ms: int) -> None:
        self._wall_ms += steady_ms - self._steady_ms
        self._steady_ms = steady_ms


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)


async def _run_tasks() -> None:
    for _ in range(_TICKS):
        await asyncio.sleep(0)

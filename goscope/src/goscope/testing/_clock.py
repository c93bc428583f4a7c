"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import math
from datetime import timedelta

from .._tools.duration import strict_milliseconds

_TURNS = 20
"""Turns of the event loop a woken task gets to act and to fall asleep again.

Each layer of tasks and futures between a timer and the code that waits for it costs one or two.
"""


class FakeClock:
    """A `goscope.backend.Clock` whose time passes only in ``advance`` and ``step_wall``.

    It serves one event loop at a time. ``boot_id`` may be assigned: another one is another boot.
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
        """Await it to go on when this clock has been advanced by ``seconds`` since the call.

        Since the call, not the await: time that passes before a new task begins to sleep counts.
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
        """Let ``duration`` pass on both clocks and wake each sleeper at its time, in order.

        Tasks run in between, so what a woken one arms within the duration fires too. Work in
        other threads is not waited for. Raises as `goscope.backend.strict_milliseconds` does.
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
        """Set the wall clock forth, or back by a negative ``timedelta``; steady time stands."""
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
    for _ in range(_TURNS):
        await asyncio.sleep(0)

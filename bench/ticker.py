"""A ticker of one millisecond: how late it is tells how long others kept the event loop."""

from __future__ import annotations

import asyncio
from time import perf_counter
from types import TracebackType
from typing import Final, Self

from .summary import percentile

INTERVAL: Final = 0.001


class Ticker:
    """Ticks while its block runs; ``late`` has the lateness of each tick, in milliseconds."""

    def __init__(self) -> None:
        self.late: Final[list[float]] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._tick())
        await asyncio.sleep(0)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def share(self, share: float) -> float:
        """The lateness that so many of the ticks did not exceed."""
        return percentile(self.late, share)

    async def _tick(self) -> None:
        while True:
            due = perf_counter() + INTERVAL
            await asyncio.sleep(INTERVAL)
            self.late.append((perf_counter() - due) * 1000)

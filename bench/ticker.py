"""A 1 ms ticker, whose lag shows how long other callbacks block the event loop."""

from __future__ import annotations

import asyncio
from time import perf_counter
from types import TracebackType
from typing import Final, Self

from .summary import percentile

INTERVAL_S: Final = 0.001


class Ticker:
    """Ticks while its block runs; ``lags_ms`` has the lag of each tick."""

    def __init__(self) -> None:
        self.lags_ms: Final[list[float]] = []
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

    def percentile_ms(self, share: float) -> float:
        """Return the lag that this share of the ticks did not exceed."""
        return percentile(self.lags_ms, share)

    async def _tick(self) -> None:
        while True:
            due = perf_counter() + INTERVAL_S
            await asyncio.sleep(INTERVAL_S)
            self.lags_ms.append((perf_counter() - due) * 1000)

"""When a store removes what has expired, and how much at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from .._tools.notifier import wait_with_timeout
from ..errors import BackendError
from ._context import StoreContext

logger: Final = logging.getLogger("goscope")

WRITES_PER_SWEEP: Final = 1000
"""A sweep starts after so many writes, without waiting for its interval."""

MAX_STEP_ROWS: Final = 1000
"""The most rows that one step removes."""


class SweepSchedule:
    """Calls ``sweep`` after every 1000 writes, and every ``interval_ms`` on an idle store.

    An error from ``sweep`` is logged: what is left stays expired, and the next sweep finds it
    again.
    """

    def __init__(
        self,
        context: StoreContext,
        sweep: Callable[[], Awaitable[None]],
        interval_ms: int,
        min_step_rows: int,
    ) -> None:
        self._context = context
        self._sweep = sweep
        self._interval_s = interval_ms / 1000
        self._min_step_rows = min_step_rows
        self._writes = 0
        self._writes_since_step = 0
        self._due: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start sweeping in the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Stop between two steps. Does nothing when it is stopped."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def count(self, writes: int) -> None:
        """Count committed writes."""
        self._writes += writes
        self._writes_since_step += writes
        if self._writes >= WRITES_PER_SWEEP:
            self.request()

    def request(self) -> None:
        """Sweep without waiting for the interval."""
        self._writes = max(self._writes, WRITES_PER_SWEEP)
        if self._due is not None and not self._due.done():
            self._due.set_result(None)

    def next_step_rows(self) -> int:
        """How many rows to remove next: twice what was written, so that the backlog shrinks."""
        written, self._writes_since_step = self._writes_since_step, 0
        return min(max(self._min_step_rows, 2 * written), MAX_STEP_ROWS)

    async def _run(self) -> None:
        while True:
            self._due = asyncio.get_running_loop().create_future()
            if self._writes < WRITES_PER_SWEEP:  # else the last sweep took that long
                await wait_with_timeout(self._due, self._interval_s, self._context.clock)
            self._writes = 0
            try:
                await self._sweep()
            except BackendError as exc:
                logger.warning("expired entries could not be removed: %s", exc)
            except Exception:  # whatever it met: without a sweeper the store grows
                logger.exception("expired entries could not be removed")

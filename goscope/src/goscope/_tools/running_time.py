"""A timeout that counts only the time in which the event loop runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

STEPS: Final = 10


@asynccontextmanager
async def running_time_limit(seconds: float) -> AsyncGenerator[None]:
    """Raise ``TimeoutError`` from the block after the loop has run for about ``seconds``.

    ``asyncio.timeout`` ends a block whose answer has arrived already when something else has
    blocked the loop for that long. Here a blocked loop uses up one of ten steps.
    """
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle | None = None

    def count_down(steps: int) -> None:
        nonlocal timer
        if steps:
            timer = loop.call_later(seconds / STEPS, count_down, steps - 1)
        else:
            limit.reschedule(loop.time())

    async with asyncio.timeout(None) as limit:
        count_down(STEPS)
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()

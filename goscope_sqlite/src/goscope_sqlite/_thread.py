"""Work on a file that blocks, in a thread that ends with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import Event
from typing import Concatenate, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(
    work: Callable[Concatenate[Event, P], T], /, *args: P.args, **kwargs: P.kwargs
) -> T:
    """Run the work in a thread. A cancellation sets its event, and is raised when it has ended."""
    stop = Event()
    running = asyncio.ensure_future(asyncio.to_thread(work, stop, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # nobody else retrieves it
        raise

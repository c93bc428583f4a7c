"""Finishing what was begun when the caller is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def settle(awaitable: Awaitable[T]) -> T:
    """Await to the end; a cancellation that arrives meanwhile is raised afterwards.

    When it is, the awaitable's own outcome can still be read from the future that was passed in.
    """
    future = asyncio.ensure_future(awaitable)
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError as exc:
            if not future.cancelled():
                cancelled = exc
        except BaseException:
            break  # the future's own error: raised by result() below
    if cancelled is not None:
        if not future.cancelled():
            future.exception()  # seen, so that asyncio does not report it as never retrieved
        raise cancelled
    return future.result()

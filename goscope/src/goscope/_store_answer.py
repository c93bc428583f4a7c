"""Waiting for the answer of a store no longer than a caller can."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

from ._tools.cancellation import finish_before_cancel
from ._tools.clock import Clock
from ._tools.notifier import wait_with_timeout
from .errors import BackendBusy, BackendError

T = TypeVar("T")

PARTS: Final = 10
"""A limit is waited for in so many parts.

However long the loop is blocked or the process suspended, that uses up one part at most: an answer
that has arrived meanwhile is in time.
"""

_late: set[asyncio.Task[None]] = set()
"""What ends requests that nobody waits for; the event loop has only weak references to tasks."""


async def answer_within(
    request: Coroutine[Any, Any, T],
    limit_ms: int,
    clock: Clock,
    *,
    undo: Callable[[T], Awaitable[Any]] | None = None,
) -> T:
    """The store's answer to the request. Raises `BackendBusy` if it takes longer.

    Time counts while the event loop runs. The request is then cancelled and ends in the background.
    A cancelled caller waits for that end. ``undo`` reverts what a request has done that succeeded
    nevertheless.
    """
    task = asyncio.create_task(request)
    try:
        for _ in range(PARTS):
            if await wait_with_timeout(task, limit_ms / 1000 / PARTS, clock):
                return task.result()
    except asyncio.CancelledError:
        task.cancel()
        await finish_before_cancel(_end(task, undo))
        raise
    task.cancel()
    ending = asyncio.ensure_future(_end(task, undo))
    _late.add(ending)
    ending.add_done_callback(_late.discard)
    raise BackendBusy(f"the store did not answer within {limit_ms / 1000:g} s")


async def _end(task: asyncio.Task[T], undo: Callable[[T], Awaitable[Any]] | None) -> None:
    await asyncio.wait([task])
    if task.cancelled() or task.exception() is not None or undo is None:
        return
    with contextlib.suppress(BackendError):  # nobody is left to notice
        await undo(task.result())

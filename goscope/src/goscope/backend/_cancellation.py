"""Finishing what was begun when the caller is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

T = TypeVar("T")


class ShieldableFuture(asyncio.Future[T]):
    """A future that refuses to be cancelled once it is ``shielded``.

    Whoever awaits it then waits for its outcome, and is cancelled after that. `settle` needs no
    shield around it, which would cost one more turn of the event loop.
    """

    shielded = False

    def cancel(self, msg: Any | None = None) -> bool:
        return not self.shielded and super().cancel(msg)


async def settle(awaitable: Awaitable[T]) -> T:
    """Await to the end; a cancellation that arrives meanwhile is raised afterwards.

    When it is, the awaitable's own outcome can still be read from the future that was passed in.
    """
    future = asyncio.ensure_future(awaitable)
    if is_shieldable := isinstance(future, ShieldableFuture):
        future.shielded = True
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await (future if is_shieldable else asyncio.shield(future))
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

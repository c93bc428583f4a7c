"""Finishing an operation that has started when its caller is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

T = TypeVar("T")


class ShieldableFuture(asyncio.Future[T]):
    """A future that refuses cancellation once it is ``shielded``.

    A task that awaits it then waits for the outcome and is cancelled afterwards.
    `finish_before_cancel` needs no ``asyncio.shield`` around it, which would cost one more
    iteration of the event loop. A subclass sets ``can_withdraw`` if it refuses cancellation by
    itself from the moment on in which its operation starts.
    """

    shielded = False
    can_withdraw = False

    def cancel(self, msg: Any | None = None) -> bool:
        return not self.shielded and super().cancel(msg)


async def finish_before_cancel(awaitable: Awaitable[T], *, may_withdraw: bool = False) -> T:
    """Await to the end; a cancellation that arrives in the meantime is raised afterwards.

    The awaitable's own outcome can then still be read from the future that was passed in. With
    ``may_withdraw``, an operation that has not started is cancelled at once, where that is known.
    """
    future = asyncio.ensure_future(awaitable)
    if is_shieldable := isinstance(future, ShieldableFuture):
        future.shielded = not (may_withdraw and future.can_withdraw)
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
        retrieve_exception(future)
        raise cancelled
    return future.result()


def retrieve_exception(future: asyncio.Future[Any]) -> None:
    """Mark the future's error as retrieved, so that asyncio does not report it as lost."""
    if not future.cancelled():
        future.exception()

"""Waiting for a notification by key within one process, and waiting with a timeout."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

from .clock import Clock, SystemClock


class KeyedNotifier:
    """Futures by key; `notify` resolves those of one key.

    ``waiting`` is empty while nobody waits.
    """

    def __init__(self) -> None:
        self.waiting: defaultdict[str, set[asyncio.Future[bool]]] = defaultdict(set)

    def notify(self, key: str) -> None:
        """Wake every waiter of the key."""
        for waiter in self.waiting.pop(key, ()):
            _resolve(waiter, True)

    def notify_all(self) -> None:
        """Wake every waiter of every key."""
        for key in list(self.waiting):
            self.notify(key)

    async def wait(self, key: str, seconds: float, clock: Clock) -> bool:
        """Return True when the key is notified, False when ``seconds`` have passed on the clock."""
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.waiting[key].add(waiter)
        try:
            return await signalled_within(waiter, seconds, clock)
        finally:
            if waiting := self.waiting.get(key):
                waiting.discard(waiter)
                if not waiting:
                    del self.waiting[key]


async def signalled_within(waiter: asyncio.Future[bool], seconds: float, clock: Clock) -> bool:
    """Return True when the future gets its result, False when ``seconds`` have passed."""
    if not isinstance(clock, SystemClock):
        return await wait_with_timeout(waiter, seconds, clock)
    # The timer resolves the future itself: polling waiters and renewals do this all the time.
    timer = asyncio.get_running_loop().call_later(seconds, _resolve, waiter, False)
    try:
        return await waiter
    finally:
        timer.cancel()


def _resolve(waiter: asyncio.Future[bool], notified: bool) -> None:
    if not waiter.done():
        waiter.set_result(notified)


async def wait_with_timeout(future: asyncio.Future[Any], seconds: float, clock: Clock) -> bool:
    """Wait for the future for at most ``seconds``; whether it is done. Never cancels it."""
    if isinstance(clock, SystemClock):
        await asyncio.wait([future], timeout=seconds)
        return future.done()
    timer = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait([future, timer], return_when=asyncio.FIRST_COMPLETED)
    finally:
        timer.cancel()
    return future.done()

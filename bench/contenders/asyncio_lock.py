"""The lock of the standard library."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from ..contender import Contender, Operation


class AsyncioLock(Contender):
    """The limit of locks in memory: no key, no lease, nobody else can see it."""

    name = "asyncio.Lock"
    about = "one asyncio.Lock() for all: no keys, no lease"

    async def open(self) -> None:
        self._lock = asyncio.Lock()
        self._held: list[asyncio.Lock] = []

    def operations(self) -> Mapping[str, Operation]:
        return {"lock": self.lock, "hold": self.hold}

    async def lock(self, number: int) -> None:
        async with self._lock:
            pass

    async def hold(self, number: int) -> None:
        lock = asyncio.Lock()
        await lock.acquire()
        self._held.append(lock)

"""asyncio.Lock."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from ..subject import Operation, Subject


class AsyncioLock(Subject):
    """The baseline of locks in memory: no keys, no lease, one process."""

    name = "asyncio.Lock"
    about = "one asyncio.Lock() for all calls; no keys, no lease"

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

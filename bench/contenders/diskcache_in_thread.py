"""diskcache, which knows no asyncio, called as its documentation advises: in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any

from ..contender import Contender, Operation, peer
from ..value import small


class DiskcacheInThread(Contender):
    name = "diskcache in a thread"
    about = "Cache(folder, eviction_policy='none') through asyncio.to_thread, its default pickle"
    packages = ("diskcache",)
    keeps = frozenset({"set"})

    async def open(self) -> None:
        open_cache = peer("diskcache").Cache
        self._cache = await asyncio.to_thread(open_cache, str(self.folder), eviction_policy="none")

    async def close(self) -> None:
        await asyncio.to_thread(self._cache.close)

    def operations(self) -> Mapping[str, Operation]:
        return {"get": self.get, "set": self.set}

    def get(self, number: int) -> Awaitable[Any]:
        return asyncio.to_thread(self._cache.get, self.key(number))

    def set(self, number: int) -> Awaitable[Any]:
        return asyncio.to_thread(self._cache.set, self.key(number), small(number), expire=3600)

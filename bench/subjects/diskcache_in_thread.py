"""diskcache, a synchronous library, called in a thread as its documentation recommends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any

from ..subject import Operation, Subject, import_peer
from ..values import small


class DiskcacheInThread(Subject):
    name = "diskcache in a thread"
    about = "Cache(folder, eviction_policy='none') via asyncio.to_thread, default pickle"
    packages = ("diskcache",)
    persistent_verbs = frozenset({"set"})

    async def open(self) -> None:
        open_cache = import_peer("diskcache").Cache
        self._cache = await asyncio.to_thread(open_cache, str(self.folder), eviction_policy="none")

    async def close(self) -> None:
        await asyncio.to_thread(self._cache.close)

    def operations(self) -> Mapping[str, Operation]:
        return {"get": self.get, "set": self.set}

    def get(self, number: int) -> Awaitable[Any]:
        return asyncio.to_thread(self._cache.get, self.key(number))

    def set(self, number: int) -> Awaitable[Any]:
        return asyncio.to_thread(self._cache.set, self.key(number), small(number), expire=3600)

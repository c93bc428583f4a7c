"""aiocache's memory backend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..subject import BATCH_KEYS, Operation, Subject, import_peer
from ..values import small


class AiocacheMemory(Subject):
    name = "aiocache"
    about = "SimpleMemoryCache(); stores references, no copies"
    packages = ("aiocache",)

    async def open(self) -> None:
        self._cache = import_peer("aiocache").SimpleMemoryCache()

    async def close(self) -> None:
        await self._cache.clear()
        await self._cache.close()

    def operations(self) -> Mapping[str, Operation]:
        return {
            "get": self.get,
            "set": self.set,
            "get_many": self.get_many,
            "set_many": self.set_many,
        }

    def get(self, number: int) -> Any:
        return self._cache.get(self.key(number))

    def set(self, number: int) -> Any:
        return self._cache.set(self.key(number), small(number), ttl=3600)

    def get_many(self, number: int) -> Any:
        return self._cache.multi_get([self.key(number + more) for more in range(BATCH_KEYS)])

    def set_many(self, number: int) -> Any:
        values = [(self.key(number + more), small(number + more)) for more in range(BATCH_KEYS)]
        return self._cache.multi_set(values, ttl=3600)

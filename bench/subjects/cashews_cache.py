"""cashews with its disk and memory backends."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from ..subject import BATCH_KEYS, Operation, Subject, import_peer
from ..values import small


class _Cashews(Subject):
    packages: ClassVar[tuple[str, ...]] = ("cashews",)

    @abstractmethod
    def url(self) -> str:
        """Return the URL of the backend."""

    async def open(self) -> None:
        self._cache = import_peer("cashews").Cache()
        try:
            self._cache.setup(self.url())
        finally:
            await self._cache.init()

    async def close(self) -> None:
        await self._cache.close()

    def operations(self) -> Mapping[str, Operation]:
        return {
            "get": self.get,
            "set": self.set,
            "get_many": self.get_many,
            "set_many": self.set_many,
            "get_or_set": self.get_or_set,
        }

    def get(self, number: int) -> Any:
        return self._cache.get(self.key(number))

    def set(self, number: int) -> Any:
        return self._cache.set(self.key(number), small(number), expire=3600)

    def get_many(self, number: int) -> Any:
        keys = [self.key(number + more) for more in range(BATCH_KEYS)]
        return self._cache.get_many(*keys)

    def set_many(self, number: int) -> Any:
        values = {self.key(number + more): small(number + more) for more in range(BATCH_KEYS)}
        return self._cache.set_many(values, expire=3600)

    def get_or_set(self, number: int) -> Any:
        return self._cache.get_or_set(self.key(number), _missed, expire=3600)


class CashewsDisk(_Cashews):
    name = "cashews disk"
    about = "setup('disk://?directory=...&shards=0'), default pickle"
    packages = ("cashews", "diskcache")
    persistent_verbs = frozenset({"set"})

    def url(self) -> str:
        import_peer("diskcache")  # cashews reports a missing diskcache only later
        return f"disk://?directory={self.folder}&shards=0"


class CashewsMemory(_Cashews):
    name = "cashews mem"
    about = "setup('mem://') with capacity for ten times the keys; stores references, no copies"

    def url(self) -> str:
        return f"mem://?size={10 * self.keys}&check_interval=10"


async def _missed() -> Any:
    raise AssertionError("every call should be a hit")

"""What ``gs.cache`` and the collections of ``gs.store`` have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from ._tools.duration import Duration, ttl_milliseconds
from .providers import CacheEntry, CacheProvider, LockHandle


class Entries(ABC):
    """Key-value entries, with durations as a ``timedelta`` or a string."""

    @abstractmethod
    def _provider(self) -> CacheProvider:
        """The provider of the entries. Raises `ScopeNotOpen` and `CapabilityMissing`."""

    def _on_write(self) -> None:  # noqa: B027  # only the cache has something to do
        """Called after each write."""

    async def add(
        self, key: str, value: Any, ttl: Duration | None = None, *, fence: LockHandle | None = None
    ) -> bool:
        """Store the value only if the key is absent, atomically; whether it was stored."""
        added = await self._provider().add(key, value, ttl_milliseconds(ttl), fence=fence)
        self._on_write()
        return added

    async def delete(self, key: str, *, fence: LockHandle | None = None) -> bool:
        """Remove the entry; whether there was a live one."""
        deleted = await self._provider().delete(key, fence=fence)
        self._on_write()
        return deleted

    async def has(self, key: str) -> bool:
        """Whether there is a live entry."""
        return await self._provider().has(key)

    async def clear(self, pattern: str | None = None) -> None:
        """Remove all entries that match; all of them without a pattern."""
        await self._provider().clear(pattern)
        self._on_write()

    async def keys(self, pattern: str | None = None) -> Sequence[str]:
        """The matching keys, sorted."""
        return await self._provider().keys(pattern)

    def scan(self, pattern: str | None = None) -> AsyncIterator[str]:
        """Iterate over the matching keys, sorted, without holding them all."""
        return self._provider().scan(pattern)

    async def get_many(self, keys: Sequence[str], *, type: Any = None) -> Mapping[str, Any]:
        """The values of those keys that are present."""
        return await self._provider().get_many(keys, type=type)

    async def set_many(self, values: Mapping[str, Any], ttl: Duration | None = None) -> None:
        """Store all values, or none of them."""
        await self._provider().set_many(values, ttl_milliseconds(ttl))
        self._on_write()

    async def delete_many(self, keys: Sequence[str]) -> int:
        """Remove the entries; how many there were."""
        deleted = await self._provider().delete_many(keys)
        self._on_write()
        return deleted

    async def touch(self, key: str, ttl: Duration | None) -> bool:
        """Let a live entry expire ``ttl`` from now, None for never; whether there was one."""
        return await self._provider().touch(key, ttl_milliseconds(ttl))

    async def increment(self, key: str, by: int = 1, ttl: Duration | None = None) -> int:
        """Add to an integer atomically; an absent one starts at 0 with ``ttl``. The new value."""
        total = await self._provider().increment(key, by, ttl_milliseconds(ttl))
        self._on_write()
        return total

    async def get_entry(self, key: str, *, type: Any = None) -> CacheEntry | None:
        """The entry with its times; past its expiry too, while it may be served stale."""
        return await self._provider().get_entry(key, type=type)

    async def delete_by_tag(self, tag: str) -> int:
        """Remove all entries that carry the tag; how many there were."""
        deleted = await self._provider().delete_by_tag(tag)
        self._on_write()
        return deleted

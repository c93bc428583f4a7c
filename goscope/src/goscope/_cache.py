"""``gs.cache``: the provider's methods, and computing a missing value once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar, overload

from ._cache_loader import CacheLoader, LoadRequest, cache_of
from ._runtime import Runtime
from ._tools.duration import Duration, ttl_milliseconds
from .events import CacheHit, CacheMiss
from .providers import MISSING, CacheEntry, CacheProvider, CacheStats, LockHandle

T = TypeVar("T")
D = TypeVar("D")


class Cache:
    """The cache of one scope: `goscope.providers.CacheProvider` and `get_or_set`.

    Durations are a ``timedelta`` or a string; see the Protocol for each method's contract.
    """

    def __init__(self, runtime: Callable[[], Runtime], loader: CacheLoader) -> None:
        self._runtime = runtime
        self._loader = loader

    @overload
    async def get(self, key: str, default: D, *, type: type[T]) -> T | D: ...
    @overload
    async def get(self, key: str, *, type: type[T]) -> T | None: ...
    @overload
    async def get(self, key: str, default: Any = None) -> Any: ...

    async def get(self, key: str, default: Any = None, *, type: Any = None) -> Any:
        """The value, decoded to ``type`` if given; ``default`` when absent. None can be a value."""
        runtime = self._runtime()
        provider = cache_of(runtime)
        if not runtime.observers.active:
            return await provider.get(key, default, type=type)
        started = runtime.event_start()
        value = await provider.get(key, MISSING, type=type)
        runtime.emit(CacheMiss if value is MISSING else CacheHit, key, started)
        return default if value is MISSING else value

    async def set(
        self,
        key: str,
        value: Any,
        ttl: Duration | None = None,
        *,
        tags: Sequence[str] = (),
        stale_for: Duration | None = None,
        fence: LockHandle | None = None,
    ) -> None:
        """Store the value; ``ttl`` None: it never expires."""
        provider = self._provider()
        await provider.set(
            key,
            value,
            ttl_milliseconds(ttl),
            tags=tags,
            stale_for=ttl_milliseconds(stale_for, "stale_for"),
            fence=fence,
        )

    async def add(
        self, key: str, value: Any, ttl: Duration | None = None, *, fence: LockHandle | None = None
    ) -> bool:
        """Store the value only if the key is absent, atomically; whether it was stored."""
        return await self._provider().add(key, value, ttl_milliseconds(ttl), fence=fence)

    async def delete(self, key: str, *, fence: LockHandle | None = None) -> bool:
        """Remove the entry; whether there was a live one."""
        return await self._provider().delete(key, fence=fence)

    async def has(self, key: str) -> bool:
        """Whether there is a live entry."""
        return await self._provider().has(key)

    async def clear(self, pattern: str | None = None) -> None:
        """Remove all entries of this prefix that match; all of them without a pattern."""
        await self._provider().clear(pattern)

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

    async def delete_many(self, keys: Sequence[str]) -> int:
        """Remove the entries; how many there were."""
        return await self._provider().delete_many(keys)

    async def touch(self, key: str, ttl: Duration | None) -> bool:
        """Let a live entry expire ``ttl`` from now, None for never; whether there was one."""
        return await self._provider().touch(key, ttl_milliseconds(ttl))

    async def increment(self, key: str, by: int = 1, ttl: Duration | None = None) -> int:
        """Add to an integer atomically; an absent one starts at 0 with ``ttl``. The new value."""
        return await self._provider().increment(key, by, ttl_milliseconds(ttl))

    async def get_entry(self, key: str, *, type: Any = None) -> CacheEntry | None:
        """The entry with its times; past its expiry too, while it may be served stale."""
        return await self._provider().get_entry(key, type=type)

    async def delete_by_tag(self, tag: str) -> int:
        """Remove all entries that carry the tag; how many there were."""
        return await self._provider().delete_by_tag(tag)

    async def stats(self) -> CacheStats:
        """How many entries there are, and this process's hits and misses."""
        return await self._provider().stats()

    async def prune(self) -> int:
        """Remove what has expired now instead of waiting for the sweeper; how many entries."""
        return await self._provider().prune()

    @overload
    async def get_or_set(
        self,
        key: str,
        factory: Callable[[], Awaitable[Any]],
        *,
        ttl: Duration | None = None,
        stale_for: Duration | None = None,
        tags: Sequence[str] = (),
        type: type[T],
    ) -> T: ...
    @overload
    async def get_or_set(
        self,
        key: str,
        factory: Callable[[], Awaitable[T]],
        *,
        ttl: Duration | None = None,
        stale_for: Duration | None = None,
        tags: Sequence[str] = (),
        type: None = None,
    ) -> T: ...

    async def get_or_set(
        self,
        key: str,
        factory: Callable[[], Awaitable[Any]],
        *,
        ttl: Duration | None = None,
        stale_for: Duration | None = None,
        tags: Sequence[str] = (),
        type: Any = None,
    ) -> Any:
        """The value of the key, computed by ``factory`` if it is absent.

        One computation at a time runs for a key, in all processes that share the store: the
        others wait for its value, those in this process for its error too; when the computing
        process dies, one of them takes over. With ``stale_for`` an entry past its expiry is served
        for that much longer, while one caller refreshes it in the background. Every caller,
        including the one that computed it, gets the value as decoded from JSON to ``type``. A
        factory that asks for its own key raises ``RuntimeError`` instead of waiting for itself.
        """
        request = LoadRequest(
            key,
            factory,
            type,
            ttl_milliseconds(ttl),
            ttl_milliseconds(stale_for, "stale_for"),
            tuple(tags),
        )
        return await self._loader.get_or_set(request)

    def _provider(self) -> CacheProvider:
        return cache_of(self._runtime())

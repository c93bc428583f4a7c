"""``gs.cache``: the provider's methods, and computing a missing value once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar, overload

from ._cache_loader import CacheLoader, LoadRequest, cache_of
from ._cache_outage import CacheOnStoreError, check_on_store_error
from ._entries import Entries
from ._result_policy import ResultTtl, result_ttl
from ._runtime import Runtime
from ._tools.duration import Duration, ttl_milliseconds
from .events import CacheHit, CacheMiss
from .providers import MISSING, CacheProvider, CacheStats, LockHandle

T = TypeVar("T")
D = TypeVar("D")


class Cache(Entries):
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
        self._on_write()

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
        factory: Callable[[], object],
        *,
        ttl: ResultTtl = None,
        stale_for: Duration | None = None,
        tags: Sequence[str] = (),
        type: type[T],
        on_store_error: CacheOnStoreError = "compute",
    ) -> T: ...
    @overload
    async def get_or_set(
        self,
        key: str,
        factory: Callable[[], Awaitable[T]],
        *,
        ttl: ResultTtl = None,
        stale_for: Duration | None = None,
        tags: Sequence[str] = (),
        type: None = None,
        on_store_error: CacheOnStoreError = "compute",
    ) -> T: ...
    @overload
    async def get_or_set(
        self,
        key: str,
        factory: Callable[[], T],
        *,
        ttl: ResultTtl = None,
        stale_for: Duration | None = None,
        tags: Sequence[str] = (),
        type: None = None,
        on_store_error: CacheOnStoreError = "compute",
    ) -> T: ...

    async def get_or_set(
        self,
        key: str,
        factory: Callable[[], Any],
        *,
        ttl: ResultTtl = None,
        stale_for: Duration | None = None,
        tags: Sequence[str] = (),
        type: Any = None,
        on_store_error: CacheOnStoreError = "compute",
    ) -> Any:
        """The value of the key, computed by ``factory`` if it is absent.

        One computation at a time runs for a key, in all processes that share the store: the
        others wait for its value, those in this process for its error too; when the computing
        process dies, one of them takes over. With ``stale_for`` an entry past its expiry is served
        for that much longer, while one caller refreshes it in the background. Every caller,
        including the one that computed it, gets the value as decoded from JSON to ``type``.
        ``factory`` is a plain or a coroutine function, ``ttl`` a duration or a function of the
        value that returns one. A factory that asks for its own key raises ``RuntimeError`` instead
        of waiting for itself. Raises `ConfigurationError`, before the factory is called, for a
        ``type`` that JSON cannot be decoded to, and `SerializationError` for a value that does not
        come back from JSON as it was.

        A write to the key while its value is computed, such as `delete`, supersedes the
        computation: its value goes only to the callers that waited for it before the write, and is
        not stored.

        ``on_store_error`` is what a call does when the store fails: ``"compute"`` computes the
        value, once at a time in this process, and returns it unstored; ``"raise"`` raises
        `BackendError`. `ScopeNotOpen` and `ConfigurationError` are always raised.
        """
        check_on_store_error(on_store_error)
        request = LoadRequest(
            key,
            factory,
            type,
            result_ttl(ttl),
            ttl_milliseconds(stale_for, "stale_for"),
            tuple(tags),
            on_store_error=on_store_error,
        )
        return await self._loader.get_or_set(request)

    def _provider(self) -> CacheProvider:
        return cache_of(self._runtime())

    def _on_write(self) -> None:
        self._loader.on_invalidated()

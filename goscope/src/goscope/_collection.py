"""``gs.store(name)``: a durable collection of values beside the cache."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias, TypeVar, overload

import msgspec

from ._cache_loader import cache_of
from ._entries import Entries
from ._lease_guard import LeaseGuard
from ._result import decode_result, require_type, result_of
from ._result_policy import ResultTtl, TtlMs, result_ttl, ttl_for
from ._run_once import RunOnce
from ._runtime import Runtime
from ._tools.codec import encode_as
from ._tools.duration import Duration, ttl_milliseconds
from ._tools.key import check_collection
from ._tools.load_owner import load_owner
from .errors import LeaseLost
from .providers import MISSING, CacheProvider, LockHandle

T = TypeVar("T")
D = TypeVar("D")

Computations: TypeAlias = RunOnce[bytes | None]
"""The values that the collections of one scope compute."""


class Collection(Entries):
    """A named collection, whose values stay until they are removed or their ttl ends.

    ``gs.cache.clear()``, its other calls and the other collections leave it alone, and the store
    evicts none of it. A value that cannot be decoded raises `CorruptValue`.

    Durations are a ``timedelta`` or a string; the methods have the contract of those of `Cache`.
    """

    def __init__(
        self, runtime: Callable[[], Runtime], computations: Computations, name: str
    ) -> None:
        self.name: Final = check_collection(name)
        self._runtime = runtime
        self._computations = computations
        self._opened: tuple[Runtime, CacheProvider] | None = None

    def __repr__(self) -> str:
        return f"<goscope.Collection {self.name!r}>"

    @overload
    async def get(self, key: str, default: D, *, type: type[T]) -> T | D: ...
    @overload
    async def get(self, key: str, *, type: type[T]) -> T | None: ...
    @overload
    async def get(self, key: str, default: Any = None) -> Any: ...

    async def get(self, key: str, default: Any = None, *, type: Any = None) -> Any:
        """The value, decoded to ``type`` if given; ``default`` when absent. None can be a value."""
        return await self._provider().get(key, default, type=type)

    async def set(
        self,
        key: str,
        value: Any,
        ttl: Duration | None = None,
        *,
        tags: Sequence[str] = (),
        fence: LockHandle | None = None,
    ) -> None:
        """Store the value; ``ttl`` None: it never expires."""
        await self._provider().set(key, value, ttl_milliseconds(ttl), tags=tags, fence=fence)

    async def count(self) -> int:
        """How many entries there are. Takes time in proportion to their number."""
        return (await self._provider().stats()).entries

    @overload
    async def get_or_set(
        self,
        key: str,
        factory: Callable[[], object],
        *,
        ttl: ResultTtl = None,
        tags: Sequence[str] = (),
        type: type[T],
    ) -> T: ...
    @overload
    async def get_or_set(
        self,
        key: str,
        factory: Callable[[], Awaitable[T]],
        *,
        ttl: ResultTtl = None,
        tags: Sequence[str] = (),
        type: None = None,
    ) -> T: ...
    @overload
    async def get_or_set(
        self,
        key: str,
        factory: Callable[[], T],
        *,
        ttl: ResultTtl = None,
        tags: Sequence[str] = (),
        type: None = None,
    ) -> T: ...

    async def get_or_set(
        self,
        key: str,
        factory: Callable[[], Any],
        *,
        ttl: ResultTtl = None,
        tags: Sequence[str] = (),
        type: Any = None,
    ) -> Any:
        """The stored value of the key; if it is absent, ``factory`` computes it first.

        One computation at a time runs for a key, in all processes that share the store. Unlike
        `Cache.get_or_set` it returns only what is stored: if the key is written while its value is
        computed, that value is returned; if it is deleted, the value is computed again. A store
        that fails raises `BackendError`. ``factory`` is a plain or a coroutine function; what it
        raises is raised here. Raises `ConfigurationError` for a ``type`` that JSON cannot be
        decoded to.
        """
        require_type(type)
        runtime, ttl_ms = self._runtime(), result_ttl(ttl)
        provider = self._provider()
        value = await provider.get(key, MISSING, type=type)
        while value is MISSING:
            work = _Computation(provider, self.name, key, factory, ttl_ms, tuple(tags), type)
            text = await self._computations.share(runtime, work)
            if text is not None:
                return decode_result(text, type, key)
            value = await provider.get(key, MISSING, type=type)
        return value

    def _provider(self) -> CacheProvider:
        runtime = self._runtime()
        if self._opened is None or self._opened[0] is not runtime:
            self._opened = runtime, cache_of(runtime).collection(self.name)
        return self._opened[1]


class _Computation:
    """One computation of a value, as `Work`. Its outcome is the stored text, None if another write
    came first."""

    def __init__(
        self,
        provider: CacheProvider,
        collection: str,
        key: str,
        factory: Callable[[], Any],
        ttl: TtlMs,
        tags: tuple[str, ...],
        type: Any,
    ) -> None:
        self.key: Final = f"{collection}:{key}"
        self.lease: Final = f"collection:{self.key}"
        self.owner: Final = load_owner(tags) if tags else None
        self.template: Final = None
        self.answer_ms: Final = None
        self.cancel_body: Final = False
        self._provider = provider
        self._key = key
        self._factory = factory
        self._ttl = ttl
        self._tags = tags
        self._type = type

    async def stored(self) -> bytes | None:
        """The text that is stored."""
        found = await self._provider.get(self._key, MISSING, type=msgspec.Raw)
        return None if found is MISSING else bytes(found)

    async def execute(self, guard: LeaseGuard) -> bytes | None:
        """Compute the value and store it, unless the lease was ended by another write."""
        value = await result_of(self._factory)
        text, _ = encode_as(value, self._type)
        try:
            await self._provider.set(
                self._key,
                msgspec.Raw(text),
                ttl_for(self._ttl, value),
                tags=self._tags,
                fence=guard.handle,
            )
        except LeaseLost:
            return None
        return text.encode()

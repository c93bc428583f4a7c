"""``gs.cache`` and ``@gs.cached``: the provider's methods, and computing a missing value once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from datetime import timedelta
from typing import Any, Concatenate, Final, Generic, ParamSpec, TypeAlias, TypeVar, overload

from ._key_template import DefaultKey, KeyTemplate
from ._lease import Granted, LeaseGuard
from ._result import decode_result, return_type
from ._runtime import Runtime
from ._single_flight import SingleFlight
from .backend import encode, strict_milliseconds
from .errors import LeaseLost
from .events import CacheHit, CacheMiss, CacheRefreshed, CacheRefreshFailed
from .providers import MISSING, CacheEntry, CacheProvider, CacheStats, LockHandle

T = TypeVar("T")
D = TypeVar("D")
P = ParamSpec("P")
R = TypeVar("R")

Duration: TypeAlias = "timedelta | str"
"""A duration as the scope's own API takes it: never a bare number."""


class Cache:
    """The cache of one scope: `goscope.providers.CacheProvider` and `get_or_set`.

    Durations are a ``timedelta`` or a string; see the Protocol for each method's contract.
    """

    def __init__(self, runtime: Callable[[], Runtime]) -> None:
        self._runtime = runtime
        self._flights: Final = SingleFlight[str]()
        self._refreshing: Final[set[str]] = set()

    @overload
    async def get(self, key: str, default: D, *, type: type[T]) -> T | D: ...
    @overload
    async def get(self, key: str, *, type: type[T]) -> T | None: ...
    @overload
    async def get(self, key: str, default: Any = None) -> Any: ...

    async def get(self, key: str, default: Any = None, *, type: Any = None) -> Any:
        """The value, decoded to ``type`` if given; ``default`` when absent. None can be a hit."""
        runtime = self._runtime()
        provider = self._provider(runtime)
        if not runtime.observers.active:
            return await provider.get(key, default, type=type)
        began = runtime.clock.steady_ms()
        value = await provider.get(key, MISSING, type=type)
        _report_lookup(runtime, key, began, hit=value is not MISSING)
        return default if value is MISSING else value

    async def set(
        self,
        key: str,
        value: Any,
        ttl: Duration | None = None,
        *,
        tags: Sequence[str] = (),
        stale: Duration | None = None,
        fence: LockHandle | None = None,
    ) -> None:
        """Store the value; ``ttl`` None: no expiry."""
        provider = self._provider(self._runtime())
        await provider.set(
            key, value, _ms(ttl, "ttl"), tags=tags, stale=_ms(stale, "stale"), fence=fence
        )

    async def add(
        self, key: str, value: Any, ttl: Duration | None = None, *, fence: LockHandle | None = None
    ) -> bool:
        """Store the value only if the key is absent, atomically; whether it was stored."""
        return await self._provider(self._runtime()).add(key, value, _ms(ttl, "ttl"), fence=fence)

    async def delete(self, key: str, *, fence: LockHandle | None = None) -> bool:
        """Remove the entry; whether there was one."""
        return await self._provider(self._runtime()).delete(key, fence=fence)

    async def has(self, key: str) -> bool:
        """Whether there is a live entry."""
        return await self._provider(self._runtime()).has(key)

    async def clear(self, pattern: str | None = None) -> None:
        """Remove all entries of this prefix that match; all of them without a pattern."""
        await self._provider(self._runtime()).clear(pattern)

    async def keys(self, pattern: str | None = None) -> Sequence[str]:
        """The matching keys, sorted."""
        return await self._provider(self._runtime()).keys(pattern)

    def scan(self, pattern: str | None = None) -> AsyncIterator[str]:
        """Iterate over the matching keys, sorted, without holding them all."""
        return self._provider(self._runtime()).scan(pattern)

    async def get_many(self, keys: Sequence[str], *, type: Any = None) -> Mapping[str, Any]:
        """The values of those keys that are there."""
        return await self._provider(self._runtime()).get_many(keys, type=type)

    async def set_many(self, values: Mapping[str, Any], ttl: Duration | None = None) -> None:
        """Store all values, or none of them."""
        await self._provider(self._runtime()).set_many(values, _ms(ttl, "ttl"))

    async def delete_many(self, keys: Sequence[str]) -> int:
        """Remove the entries; how many there were."""
        return await self._provider(self._runtime()).delete_many(keys)

    async def touch(self, key: str, ttl: Duration | None) -> bool:
        """Let a live entry expire ``ttl`` from now, None for never; whether there was one."""
        return await self._provider(self._runtime()).touch(key, _ms(ttl, "ttl"))

    async def increment(self, key: str, by: int = 1, ttl: Duration | None = None) -> int:
        """Add to an integer atomically; an absent one starts at 0 with ``ttl``. The new value."""
        return await self._provider(self._runtime()).increment(key, by, _ms(ttl, "ttl"))

    async def get_entry(self, key: str, *, type: Any = None) -> CacheEntry | None:
        """The entry with its times; past its expiry too, while it may be served stale."""
        return await self._provider(self._runtime()).get_entry(key, type=type)

    async def delete_tag(self, tag: str) -> int:
        """Remove all entries that carry the tag; how many there were."""
        return await self._provider(self._runtime()).delete_tag(tag)

    async def stats(self) -> CacheStats:
        """How many entries there are, and this process's hits and misses."""
        return await self._provider(self._runtime()).stats()

    async def prune(self) -> int:
        """Remove what has expired now instead of waiting for the sweeper; how many entries."""
        return await self._provider(self._runtime()).prune()

    # --- computing a missing value once --------------------------------------------------------

    @overload
    async def get_or_set(
        self,
        key: str,
        factory: Callable[[], Awaitable[Any]],
        *,
        ttl: Duration | None = None,
        stale: Duration | None = None,
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
        stale: Duration | None = None,
        tags: Sequence[str] = (),
        type: None = None,
    ) -> T: ...

    async def get_or_set(
        self,
        key: str,
        factory: Callable[[], Awaitable[Any]],
        *,
        ttl: Duration | None = None,
        stale: Duration | None = None,
        tags: Sequence[str] = (),
        type: Any = None,
    ) -> Any:
        """The value of the key, computed by ``factory`` if it is absent.

        One computation at a time runs for a key, in all processes that share the store: the
        others wait for its value, those in this process for its error too; when the computing
        process dies, one of them takes over. With ``stale`` an entry past its expiry is served
        for that much longer, while one caller refreshes it in the background. Everyone, the one
        who computed included, gets the value as decoded from JSON to ``type``.
        """
        fill = _Fill(key, factory, type, _ms(ttl, "ttl"), _ms(stale, "stale"), tuple(tags))
        return await self.fill(fill)

    async def fill(self, fill: _Fill) -> Any:
        """`get_or_set`, for decorators."""
        runtime = self._runtime()
        provider = self._provider(runtime)
        began = runtime.clock.steady_ms()
        value = await provider.get(fill.key, MISSING, type=fill.type)
        if value is not MISSING:
            _report_lookup(runtime, fill.key, began, hit=True)
            return value
        if fill.stale_ms is not None:
            entry = await provider.get_entry(fill.key, type=fill.type)
            if entry is not None:
                _report_lookup(runtime, fill.key, began, hit=True, stale=entry.is_stale)
                if entry.is_stale:
                    self._refresh_later(runtime, fill)
                return entry.value
        _report_lookup(runtime, fill.key, began, hit=False)
        text = await self._flights.do(
            fill.key, lambda _: self._fill_missing(runtime, fill), clock=runtime.clock
        )
        return decode_result(text, fill.type, fill.key)

    async def refresh(self, fill: _Fill) -> Any:
        """Compute and store the value whether or not it is there."""
        runtime = self._runtime()
        text = await self._fill_missing(runtime, fill, replace=True)
        return decode_result(text, fill.type, fill.key)

    async def _fill_missing(self, runtime: Runtime, fill: _Fill, *, replace: bool = False) -> str:
        """Wait for the key's lease and compute; or take what another process stored meanwhile."""
        provider = self._provider(runtime)

        async def stored() -> str | None:
            return None if replace else await _stored_text(provider, fill)

        async def present() -> bool:
            return await stored() is not None

        while True:
            granted = await runtime.leases.acquire(
                f"cache:{fill.key}", runtime.lease_ttl_ms, finished=present
            )
            if granted is not None:
                break
            text = await stored()
            if text is not None:
                return text
        guard = _mild_guard(runtime, granted, fill.key)
        async with guard:
            # It may have been stored between the first look and the grant.
            return await stored() or await _compute(runtime, provider, fill, guard)

    def _refresh_later(self, runtime: Runtime, fill: _Fill) -> None:
        """Refresh a stale entry in the background, once at a time in this process."""
        if fill.key not in self._refreshing:
            self._refreshing.add(fill.key)
            task = runtime.spawn(self._refresh(runtime, fill))
            # A callback, since a task that is cancelled before it began runs no `finally`.
            task.add_done_callback(lambda _: self._refreshing.discard(fill.key))

    async def _refresh(self, runtime: Runtime, fill: _Fill) -> None:
        try:
            granted = await runtime.leases.acquire(
                f"cache:{fill.key}", runtime.lease_ttl_ms, wait_ms=0
            )
            if granted is None:
                return  # another process is at it
            guard = _mild_guard(runtime, granted, fill.key)
            async with guard:
                provider = self._provider(runtime)
                if not await provider.has(fill.key):
                    await _compute(runtime, provider, fill, guard)
        except Exception as exc:  # nobody waits for it: the stale value goes on being served
            if runtime.observers.active:
                runtime.observers.emit(CacheRefreshFailed(key=fill.key, error=repr(exc)))

    def _provider(self, runtime: Runtime) -> CacheProvider:
        return runtime.require(runtime.adapter.cache, "cache")


class _Fill:
    """How to fill one key."""

    __slots__ = ("factory", "key", "stale_ms", "tags", "ttl_ms", "type", "when")

    def __init__(
        self,
        key: str,
        factory: Callable[[], Awaitable[Any]],
        type: Any,
        ttl_ms: int | None,
        stale_ms: int | None = None,
        tags: tuple[str, ...] = (),
        when: Callable[[Any], bool] | None = None,
    ) -> None:
        self.key = key
        self.factory = factory
        self.type = type
        self.ttl_ms = ttl_ms
        self.stale_ms = stale_ms
        self.tags = tags
        self.when = when


async def _stored_text(provider: CacheProvider, fill: _Fill) -> str | None:
    """The live value as text; None when it is absent or does not fit the type, which is a miss.

    Read as an entry: looking again is no further miss in the statistics.
    """
    entry = await provider.get_entry(fill.key, type=fill.type)
    if entry is not None and fill.type is not None:
        entry = await provider.get_entry(fill.key)  # as it is stored, not as the type has it
    return None if entry is None or entry.is_stale else encode(entry.value)


async def _compute(
    runtime: Runtime, provider: CacheProvider, fill: _Fill, guard: LeaseGuard
) -> str:
    """Run the factory and store its value; it is returned unstored when the lease was lost."""
    began = runtime.clock.steady_ms()
    value = await fill.factory()
    text = encode(value)
    stored = fill.when is None or fill.when(value)
    if stored:
        try:
            await provider.set(
                fill.key,
                value,
                fill.ttl_ms,
                tags=fill.tags,
                stale=fill.stale_ms,
                fence=guard.handle,
            )
        except LeaseLost:
            stored = False
    if runtime.observers.active:
        duration_ms = runtime.clock.steady_ms() - began
        runtime.observers.emit(CacheRefreshed(key=fill.key, duration_ms=duration_ms, stored=stored))
    return text


def _mild_guard(runtime: Runtime, granted: Granted, key: str) -> LeaseGuard:
    return LeaseGuard(
        granted,
        runtime.lease_ttl_ms,
        clock=runtime.clock,
        observers=runtime.observers,
        key=key,
        cancel_body=False,
    )


def _report_lookup(
    runtime: Runtime, key: str, began: int, *, hit: bool, stale: bool = False
) -> None:
    if runtime.observers.active:
        duration_ms = runtime.clock.steady_ms() - began
        runtime.observers.emit(
            CacheHit(key=key, duration_ms=duration_ms, stale=stale)
            if hit
            else CacheMiss(key=key, duration_ms=duration_ms)
        )


def _ms(duration: Duration | None, what: str) -> int | None:
    return None if duration is None else strict_milliseconds(duration, what)


class CachedFunction(Generic[P, R]):
    """A coroutine function whose results are cached: what ``@gs.cached`` makes of it."""

    def __init__(
        self,
        cache: Cache,
        function: Callable[P, Coroutine[Any, Any, R]],
        ttl_ms: int | None,
        *,
        key: str | None,
        tags: Sequence[str],
        stale_ms: int | None,
        when: Callable[[R], bool] | None,
    ) -> None:
        signature = inspect.signature(function)
        self._cache = cache
        self._function = function
        self._ttl_ms = ttl_ms
        self._stale_ms = stale_ms
        self._when = when
        self._type = return_type(function)
        self._key = DefaultKey(function, signature) if key is None else KeyTemplate(key, signature)
        self._tags = [KeyTemplate(tag, signature) for tag in tags]
        functools.update_wrapper(self, function)

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The cached result of the call, computed if it is absent."""
        value: R = await self._cache.fill(self._fill(args, kwargs))
        return value

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """The cache key of a call with these arguments."""
        return self._key.render(args, kwargs)

    async def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Remove the result of the call with these arguments; whether there was one."""
        return await self._cache.delete(self._key.render(args, kwargs))

    async def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Compute and store the result of the call, whether or not it is there."""
        value: R = await self._cache.refresh(self._fill(args, kwargs))
        return value

    @overload
    def __get__(self, instance: None, owner: type) -> CachedFunction[P, R]: ...
    @overload
    def __get__(
        self: CachedFunction[Concatenate[Any, Q], R], instance: object, owner: type | None = None
    ) -> CachedMethod[Q, R]: ...

    def __get__(self, instance: object | None, owner: type | None = None) -> Any:
        return self if instance is None else CachedMethod(self, instance)

    def _fill(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _Fill:
        tags = tuple(tag.render(args, kwargs) for tag in self._tags)
        return _Fill(
            self._key.render(args, kwargs),
            lambda: self._function(*args, **kwargs),
            self._type(),
            self._ttl_ms,
            self._stale_ms,
            tags,
            self._when,
        )


Q = ParamSpec("Q")


class CachedMethod(Generic[Q, R]):
    """A cached function bound to an instance."""

    def __init__(self, function: CachedFunction[Any, R], instance: object) -> None:
        self._function = function
        self._instance = instance

    async def __call__(self, *args: Q.args, **kwargs: Q.kwargs) -> R:
        """The cached result of the call, computed if it is absent."""
        return await self._function(self._instance, *args, **kwargs)

    def key(self, *args: Q.args, **kwargs: Q.kwargs) -> str:
        """The cache key of a call with these arguments."""
        return self._function.key(self._instance, *args, **kwargs)

    async def invalidate(self, *args: Q.args, **kwargs: Q.kwargs) -> bool:
        """Remove the result of the call with these arguments; whether there was one."""
        return await self._function.invalidate(self._instance, *args, **kwargs)

    async def refresh(self, *args: Q.args, **kwargs: Q.kwargs) -> R:
        """Compute and store the result of the call, whether or not it is there."""
        return await self._function.refresh(self._instance, *args, **kwargs)

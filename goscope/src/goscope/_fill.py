"""Filling the cache: a missing value is computed once, a stale one refreshed once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from ._lease import LeaseGuard
from ._result import decode_result
from ._runtime import Runtime
from ._single_flight import Bodies, SingleFlight
from .backend import UndecodableText, decode, encode
from .errors import LeaseLost
from .events import CacheHit, CacheMiss, CacheRefreshed, CacheRefreshFailed
from .providers import MISSING, CacheProvider


class Fill:
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


class Filler:
    """Fills the cache of one scope."""

    def __init__(self, runtime: Callable[[], Runtime]) -> None:
        self._runtime = runtime
        self._flights: Final = SingleFlight[str]()
        self._refreshing: Final[set[str]] = set()
        self._bodies: Final = Bodies()

    async def get_or_set(self, fill: Fill) -> Any:
        """The value of the key, computed if it is absent, or refreshed behind if it is stale."""
        runtime = self._runtime()
        provider = cache_of(runtime)
        began = runtime.clock.steady_ms()
        value = await provider.get(fill.key, MISSING, type=fill.type)
        if value is not MISSING:
            report_lookup(runtime, fill.key, began, hit=True)
            return value
        if fill.stale_ms is not None:
            entry = await provider.get_entry(fill.key, type=fill.type)
            if entry is not None:
                report_lookup(runtime, fill.key, began, hit=True, stale=entry.is_stale)
                if entry.is_stale:
                    self._refresh_later(runtime, fill)
                return entry.value
        report_lookup(runtime, fill.key, began, hit=False)
        self._bodies.refuse_own(fill.key)
        text = await self._flights.do(
            fill.key, lambda _: self._fill_missing(runtime, fill), clock=runtime.clock
        )
        return decode_result(text, fill.type, fill.key)

    async def refresh(self, fill: Fill) -> Any:
        """Compute and store the value whether or not it is there."""
        runtime = self._runtime()
        self._bodies.refuse_own(fill.key)
        text = await self._fill_missing(runtime, fill, replace=True)
        return decode_result(text, fill.type, fill.key)

    async def _fill_missing(self, runtime: Runtime, fill: Fill, *, replace: bool = False) -> str:
        """Wait for the key's lease and compute; or take what another process stored meanwhile."""
        provider = cache_of(runtime)

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
        async with runtime.guard(granted, fill.key, cancel_body=False) as guard:
            # It may have been stored between the first look and the grant.
            return await stored() or await self._compute(runtime, provider, fill, guard)

    def _refresh_later(self, runtime: Runtime, fill: Fill) -> None:
        """Refresh a stale entry in the background, once at a time in this process."""
        if fill.key not in self._refreshing:
            self._refreshing.add(fill.key)
            task = runtime.spawn(self._refresh(runtime, fill))
            # A callback, since a task that is cancelled before it began runs no `finally`.
            task.add_done_callback(lambda _: self._refreshing.discard(fill.key))

    async def _refresh(self, runtime: Runtime, fill: Fill) -> None:
        began = runtime.clock.steady_ms()
        try:
            granted = await runtime.leases.acquire(
                f"cache:{fill.key}", runtime.lease_ttl_ms, wait_ms=0
            )
            if granted is None:
                return  # another process is at it
            async with runtime.guard(granted, fill.key, cancel_body=False) as guard:
                provider = cache_of(runtime)
                if not await provider.has(fill.key):
                    await self._compute(runtime, provider, fill, guard)
        except Exception as exc:  # nobody waits for it: the stale value goes on being served
            if runtime.observers.active:
                duration_ms = runtime.clock.steady_ms() - began
                runtime.observers.emit(
                    CacheRefreshFailed(key=fill.key, duration_ms=duration_ms, error=repr(exc))
                )

    async def _compute(
        self, runtime: Runtime, provider: CacheProvider, fill: Fill, guard: LeaseGuard
    ) -> str:
        """Run the factory and store its value; it is returned unstored when the lease was lost."""
        began = runtime.clock.steady_ms()
        with self._bodies.running(fill.key):
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
            runtime.observers.emit(
                CacheRefreshed(key=fill.key, duration_ms=duration_ms, stored=stored)
            )
        return text


async def _stored_text(provider: CacheProvider, fill: Fill) -> str | None:
    """The live value as text; None when it is absent or does not fit the type, which is a miss.

    Read as an entry: looking again is no further miss in the statistics. Read without the type,
    since the text is to be as it is stored, not as the type has it.
    """
    entry = await provider.get_entry(fill.key)
    if entry is None or entry.is_stale:
        return None
    text = encode(entry.value)
    try:
        decode(text, fill.type)
    except UndecodableText:
        return None
    return text


def cache_of(runtime: Runtime) -> CacheProvider:
    """The cache provider. Raises `CapabilityMissing` if the backend has none."""
    return runtime.require(runtime.adapter.cache, "cache")


def report_lookup(
    runtime: Runtime, key: str, began: int, *, hit: bool, stale: bool = False
) -> None:
    """Tell the observers of a hit or a miss; ``began`` is the steady time before the lookup."""
    if runtime.observers.active:
        duration_ms = runtime.clock.steady_ms() - began
        runtime.observers.emit(
            CacheHit(key=key, duration_ms=duration_ms, stale=stale)
            if hit
            else CacheMiss(key=key, duration_ms=duration_ms)
        )

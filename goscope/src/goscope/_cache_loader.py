"""Loading the cache: an absent value is computed once, a stale one refreshed once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from ._lease_guard import LeaseGuard
from ._result import decode_result
from ._run_once import RunOnce
from ._runtime import Runtime
from ._single_flight import WaitTimeout
from ._tools.codec import DecodeError, decode, encode
from .errors import LeaseLost
from .events import CacheComputed, CacheHit, CacheMiss, CacheRefreshFailed
from .providers import MISSING, CacheProvider


class LoadRequest(msgspec.Struct, frozen=True):
    """What to load: a key, how to compute its value, and how to store that."""

    key: str
    factory: Callable[[], Awaitable[Any]]
    type: Any
    ttl_ms: int | None
    stale_for_ms: int | None = None
    tags: tuple[str, ...] = ()
    when: Callable[[Any], bool] | None = None


class CacheLoader:
    """Loads the cache of one scope."""

    def __init__(self, runtime: Callable[[], Runtime]) -> None:
        self._runtime = runtime
        self._loads: Final = RunOnce[bytes]()
        self._refreshing: Final[set[str]] = set()

    async def get_or_set(self, request: LoadRequest) -> Any:
        """The value of the key; computed if absent, refreshed in the background if stale."""
        runtime = self._runtime()
        provider = cache_of(runtime)
        started = runtime.event_start()
        value = await provider.get(request.key, MISSING, type=request.type)
        if value is not MISSING:
            runtime.emit(CacheHit, request.key, started)
            return value
        if request.stale_for_ms is not None:
            entry = await provider.get_entry(request.key, type=request.type)
            if entry is not None:
                runtime.emit(CacheHit, request.key, started, stale=entry.is_stale)
                if entry.is_stale:
                    self._refresh_in_background(runtime, request)
                return entry.value
        runtime.emit(CacheMiss, request.key, started)
        load = _Load(runtime, provider, request)
        return load.value(await self._loads.share(runtime, load))

    async def refresh(self, request: LoadRequest) -> Any:
        """Compute and store the value, whether or not there is one."""
        runtime = self._runtime()
        load = _Load(runtime, cache_of(runtime), request, replace=True)
        return load.value(await self._loads.lead(runtime, load))

    def _refresh_in_background(self, runtime: Runtime, request: LoadRequest) -> None:
        """Refresh a stale entry, once at a time in this process."""
        if request.key not in self._refreshing:
            self._refreshing.add(request.key)
            task = runtime.spawn(self._refresh_stale(runtime, request))
            # A callback, since a task that is cancelled before it starts runs no `finally`.
            task.add_done_callback(lambda _: self._refreshing.discard(request.key))

    async def _refresh_stale(self, runtime: Runtime, request: LoadRequest) -> None:
        started = runtime.event_start()
        try:
            load = _Load(runtime, cache_of(runtime), request)
            await self._loads.lead(runtime, load, wait_ms=0)
        except WaitTimeout:
            pass  # another process is already computing it
        except Exception as exc:  # no caller waits for it: the stale value is still served
            runtime.emit(CacheRefreshFailed, request.key, started, error=repr(exc))


class _Load:
    """One load of a key, as `Work`. Its outcome is the JSON text of the value.

    With ``replace`` it computes the value also when one is stored.
    """

    def __init__(
        self,
        runtime: Runtime,
        provider: CacheProvider,
        request: LoadRequest,
        *,
        replace: bool = False,
    ) -> None:
        self.key: Final = request.key
        self.lease: Final = f"cache:{request.key}"
        self.cancel_body: Final = False
        self._runtime = runtime
        self._provider = provider
        self._request = request
        self._replace = replace
        self._found: Any = MISSING

    def value(self, text: bytes) -> Any:
        """The value of the outcome, decoded anew for this caller."""
        if self._found is not MISSING:
            return self._found
        return decode_result(text, self._request.type, self.key)

    async def stored(self) -> bytes | None:
        """The text of the live value; None when there is none that fits the type.

        Read as an entry, since a second look is not another miss in the statistics.
        """
        if self._replace:
            return None
        entry = await self._provider.get_entry(self.key, type=msgspec.Raw)
        if entry is None or entry.is_stale:
            return None
        text = bytes(entry.value)
        try:
            self._found = decode(text, self._request.type)
        except DecodeError:
            return None
        return text

    async def execute(self, guard: LeaseGuard) -> bytes:
        """Compute and store the value; return it unstored when the lease was lost."""
        request = self._request
        started = self._runtime.event_start()
        value = await request.factory()
        text = encode(value)
        stored = request.when is None or request.when(value)
        if stored:
            try:
                await self._provider.set(
                    self.key,
                    msgspec.Raw(text),
                    request.ttl_ms,
                    tags=request.tags,
                    stale_for=request.stale_for_ms,
                    fence=guard.handle,
                )
            except LeaseLost:
                stored = False
        self._runtime.emit(CacheComputed, self.key, started, stored=stored)
        return text.encode()


def cache_of(runtime: Runtime) -> CacheProvider:
    """The cache provider. Raises `CapabilityMissing` if the backend has none."""
    return runtime.require(runtime.adapter.cache, "cache")

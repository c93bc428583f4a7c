"""Loading the cache: an absent value is computed once, a stale one refreshed once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from ._cache_outage import ANSWER_LIMIT_MS, CacheOnStoreError, CacheOutage
from ._lease_guard import LeaseGuard
from ._result import decode_result, require_type, result_of
from ._result_policy import TtlMs, When, ttl_for
from ._run_once import RunOnce
from ._runtime import Runtime, error_details
from ._single_flight import WaitTimeout
from ._store_answer import answer_within
from ._tools.codec import DecodeError, decode, encode_as
from ._tools.load_owner import load_owner
from .errors import BackendError, LeaseLost
from .events import (
    CacheComputed,
    CacheComputeFailed,
    CacheComputeStarted,
    CacheHit,
    CacheMiss,
    CacheRefreshFailed,
)
from .providers import MISSING, CacheProvider, LockHandle


class LoadRequest(msgspec.Struct, frozen=True):
    """What to load: a key, how to compute its value, and how to store that."""

    key: str
    factory: Callable[[], Any]
    type: Any
    ttl: TtlMs
    stale_for_ms: int | None = None
    tags: tuple[str, ...] = ()
    when: When | None = None
    on_store_error: CacheOnStoreError = "compute"
    template: str | None = None


class Computed(NamedTuple):
    """The outcome of a computation: its value as JSON text, or what the factory raised."""

    text: bytes = b""
    error: Exception | None = None


class CacheLoader:
    """Loads the cache of one scope."""

    def __init__(self, runtime: Callable[[], Runtime]) -> None:
        self._runtime = runtime
        self._loads: Final = RunOnce[Computed]()
        self._refreshing: Final[set[str]] = set()
        self._outage: CacheOutage | None = None

    async def get_or_set(self, request: LoadRequest) -> Any:
        """The value of the key; computed if absent, refreshed in the background if stale."""
        runtime = self._runtime()
        provider = cache_of(runtime)
        outage = self._outage_of(runtime)
        started = runtime.event_start()
        raises = request.on_store_error == "raise"
        if raises or outage.may_read():
            try:
                value = await self._find(runtime, provider, request, outage, started)
                outage.end(writing=False)
            except BackendError as failure:
                if raises:
                    raise
                outage.begin(request.key, failure, writing=False, template=request.template)
            else:
                if value is not MISSING:
                    return value
        runtime.emit(CacheMiss, request.key, started, template=request.template)
        load = _Load(runtime, provider, request, outage)
        return load.value(await self._compute(load))

    async def refresh(self, request: LoadRequest) -> Any:
        """Compute and store the value, whether or not there is one."""
        runtime = self._runtime()
        load = _Load(runtime, cache_of(runtime), request, self._outage_of(runtime), replace=True)
        return load.value(await self._loads.lead(runtime, load))

    def on_invalidated(self) -> None:
        """Let no later caller share what is computed now without the store, which tells nothing."""
        if self._outage is not None and self._outage.active:
            self._loads.forget_local()

    async def _find(
        self,
        runtime: Runtime,
        provider: CacheProvider,
        request: LoadRequest,
        outage: CacheOutage,
        started: float | None,
    ) -> Any:
        """The stored value, `MISSING` if there is none. Starts the refresh of a stale one."""
        if request.template is not None and runtime.observers.active:
            with runtime.asking_for(request.template):
                value = await provider.get(request.key, MISSING, type=request.type)
        else:
            value = await provider.get(request.key, MISSING, type=request.type)
        if value is not MISSING:
            runtime.emit(CacheHit, request.key, started, template=request.template)
            return value
        if request.stale_for_ms is not None:
            with runtime.asking_for(request.template):
                entry = await provider.get_entry(request.key, type=request.type)
            if entry is not None:
                runtime.emit(
                    CacheHit,
                    request.key,
                    started,
                    template=request.template,
                    stale=entry.is_stale,
                )
                if entry.is_stale:
                    self._refresh_in_background(_Load(runtime, provider, request, outage))
                return entry.value
        return MISSING

    async def _compute(self, load: _Load) -> Computed:
        """Compute the value once in all processes, or in this one while the store fails."""
        runtime, outage = load.runtime, load.outage
        if not load.tolerant:
            return await self._loads.share(runtime, load)

        async def compute_locally(failure: BackendError) -> Computed:
            # It is the store's failure: what the factory raises is an outcome.
            load.note_failed_write(failure)
            return await self._loads.share_locally(runtime, load)

        if not outage.may_write():
            return await self._loads.share_locally(runtime, load)
        try:
            return await self._loads.share(runtime, load, fallback=compute_locally)
        except BackendError as failure:  # while it asked whether it may share a computation
            return await compute_locally(failure)

    def _refresh_in_background(self, load: _Load) -> None:
        """Refresh a stale entry, once at a time in this process."""
        if load.key not in self._refreshing and (not load.tolerant or load.outage.may_write()):
            self._refreshing.add(load.key)
            task = load.runtime.spawn(self._refresh_stale(load))
            # A callback, since a task that is cancelled before it starts runs no `finally`.
            task.add_done_callback(lambda _: self._refreshing.discard(load.key))

    async def _refresh_stale(self, load: _Load) -> None:
        runtime = load.runtime
        started = runtime.event_start()
        error: Exception | None = None
        try:
            error = (await self._loads.lead(runtime, load, wait_ms=0)).error
        except WaitTimeout:
            pass  # another process is already computing it
        except Exception as exc:
            error = exc
            if isinstance(exc, BackendError) and load.tolerant:
                load.note_failed_write(exc)
        if error is not None:  # no caller waits for it: the stale value is still served
            runtime.emit(
                CacheRefreshFailed,
                load.key,
                started,
                template=load.template,
                **error_details(error),
            )

    def _outage_of(self, runtime: Runtime) -> CacheOutage:
        outage = self._outage
        if outage is None or outage.runtime is not runtime:
            outage = self._outage = CacheOutage(runtime, self._loads.forget_local)
        return outage


class _Load:
    """One load of a key, as `Work`. Its outcome has the JSON text of the value.

    With ``replace`` it computes the value also when one is stored. A ``tolerant`` one leaves the
    value unstored when the store fails.
    """

    def __init__(
        self,
        runtime: Runtime,
        provider: CacheProvider,
        request: LoadRequest,
        outage: CacheOutage,
        *,
        replace: bool = False,
    ) -> None:
        self.key: Final = request.key
        self.template: Final = request.template
        self.cancel_body: Final = False
        self.runtime: Final = runtime
        self.provider: Final = provider
        self.request: Final = request
        self.outage: Final = outage
        self.tolerant: Final = request.on_store_error == "compute" and not replace
        self._replace = replace
        self._found: Any = MISSING
        self._computed: tuple[bytes, Any] | None = None

    @property
    def lease(self) -> str:
        """The lease that writes to the key end."""
        return f"cache:{self.key}"

    @property
    def owner(self) -> str | None:
        """Marks the lease with the tags of the value, so that deleting by tag ends it."""
        return load_owner(self.request.tags) if self.request.tags else None

    @property
    def answer_ms(self) -> int | None:
        """How long the store may take to grant or refuse the lease."""
        return ANSWER_LIMIT_MS if self.tolerant else None

    def note_failed_write(self, failure: BackendError) -> None:
        """Note that the store refused the lease or the value."""
        self.outage.begin(self.key, failure, writing=True, template=self.template)

    def value(self, outcome: Computed) -> Any:
        """The outcome's value, decoded anew for this caller. Raises what the factory raised."""
        if self._found is not MISSING:
            return self._found
        if outcome.error is not None:
            raise outcome.error
        if self._computed is not None and self._computed[0] is outcome.text:
            return self._computed[1]
        return decode_result(outcome.text, self.request.type, self.key)

    async def stored(self) -> Computed | None:
        """The text of the live value; None when there is none that fits the type.

        Read as an entry, since a second look is not another miss in the statistics.
        """
        if self._replace:
            return None
        entry = await self.provider.get_entry(self.key, type=msgspec.Raw)
        if entry is None or entry.is_stale:
            return None
        text = bytes(entry.value)
        try:
            self._found = decode(text, self.request.type)
        except DecodeError:
            return None
        return Computed(text)

    async def execute(self, guard: LeaseGuard) -> Computed:
        """Compute the value and store it under the lease, unless the lease was ended."""
        return await self._run(guard)

    async def execute_unstored(self) -> Computed:
        """Compute the value."""
        return await self._run(None)

    async def _run(self, guard: LeaseGuard | None) -> Computed:
        runtime, key, template = self.runtime, self.key, self.template
        run = runtime.start_run(CacheComputeStarted, key, template=template)
        try:
            computed, stored = await self._compute(guard)
        except BaseException as exc:
            runtime.fail_run(CacheComputeFailed, key, run, exc, template=template)
            raise
        if computed.error is not None:
            runtime.fail_run(CacheComputeFailed, key, run, computed.error, template=template)
        else:
            runtime.emit(
                CacheComputed, key, run.since, template=template, run_id=run.id, stored=stored
            )
        return computed

    async def _compute(self, guard: LeaseGuard | None) -> tuple[Computed, bool]:
        """Compute the value; the outcome, and whether the value was stored."""
        request = self.request
        try:
            require_type(request.type)
            value = await result_of(request.factory)
            stored = guard is not None and (request.when is None or bool(request.when(value)))
            ttl_ms = ttl_for(request.ttl, value) if stored else None
            text, decoded = encode_as(value, request.type)
        except Exception as exc:
            return Computed(error=exc), False
        computed = Computed(text.encode())
        self._computed = computed.text, decoded
        if guard is not None and stored:
            stored = await self._store(text, ttl_ms, guard)
        return computed, stored

    async def _store(self, text: str, ttl_ms: int | None, guard: LeaseGuard) -> bool:
        """Store the value; whether it was stored."""
        storing = self.provider.set(
            self.key,
            msgspec.Raw(text),
            ttl_ms,
            tags=self.request.tags,
            stale_for=self.request.stale_for_ms,
            fence=guard.handle,
        )
        try:
            if self.tolerant:
                await answer_within(storing, ANSWER_LIMIT_MS, self.runtime.clock)
            else:
                await storing
        except LeaseLost:
            return False
        except BackendError as failure:
            if not self.tolerant:
                raise
            self.note_failed_write(failure)
            # In the background: the release may have to wait for the store as well.
            guard.mark_released()
            self.runtime.spawn(_release(guard.handle))
            return False
        self.outage.end(writing=True)
        return True


async def _release(lease: LockHandle) -> None:
    with contextlib.suppress(BackendError):  # it expires
        await lease.release()


def cache_of(runtime: Runtime) -> CacheProvider:
    """The cache provider. Raises `CapabilityMissing` if the backend has none."""
    return runtime.require(runtime.adapter.cache, "cache")

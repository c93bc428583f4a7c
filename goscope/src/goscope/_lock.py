"""``gs.lock``: a lock by name, held while a body runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Final

from ._lease import Granted, LeaseGuard
from ._runtime import Runtime
from .errors import LockTimeout
from .events import LockAcquired, LockReleased, LockWaited
from .providers import LockHandle


class Lock:
    """One lock by name: ``async with`` it, or `acquire` it by hand. Not reentrant.

    The object may be shared by tasks. Entering waits first come, first served within this
    process; a wait that is over raises `LockTimeout`. While the body runs the lease is renewed; if
    it is lost all the same, the body is cancelled and `LeaseLost` raised from the block.
    """

    def __init__(
        self,
        runtime: Callable[[], Runtime],
        key: str,
        ttl_ms: int | None,
        wait_ms: int | None,
        renew: bool,
    ) -> None:
        self.key: Final = key
        self._runtime = runtime
        self._ttl_ms = ttl_ms
        self._wait_ms = wait_ms
        self._renew = renew
        self._held: dict[asyncio.Task[object] | None, _Held] = {}

    def __repr__(self) -> str:
        return f"<goscope.Lock {self.key!r}>"

    async def acquire(self) -> LockHandle:
        """Take the lock and return its handle; the caller extends and releases it.

        Nothing renews the lease: it ends after its ttl. Raises `LockTimeout`.
        """
        runtime = self._runtime()
        return (await acquire_lock(runtime, self.key, self._ttl_of(runtime), self._wait_ms)).handle

    async def __aenter__(self) -> LockHandle:
        task = asyncio.current_task()
        if task in self._held:
            raise RuntimeError(
                f"this task holds lock {self.key!r} already: entering it again would wait for ever"
            )
        runtime = self._runtime()
        ttl_ms = self._ttl_of(runtime)
        granted = await acquire_lock(runtime, self.key, ttl_ms, self._wait_ms)
        held = _Held(runtime, self.key, granted, ttl_ms, self._renew)
        await held.guard.__aenter__()
        self._held[task] = held
        return granted.handle

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        held = self._held.pop(asyncio.current_task(), None)
        if held is None:
            raise RuntimeError(
                f"the block of lock {self.key!r} was entered in another task: leave it in the "
                f"same one, or take the lock with acquire() and give it back with release()"
            )
        try:
            await held.guard.__aexit__(exc_type, exc, traceback)
        finally:
            held.report_release()

    def _ttl_of(self, runtime: Runtime) -> int:
        return runtime.lock_ttl_ms if self._ttl_ms is None else self._ttl_ms


class _Held:
    """The lock while one task is inside the block."""

    def __init__(
        self, runtime: Runtime, key: str, granted: Granted, ttl_ms: int, renew: bool
    ) -> None:
        self._runtime = runtime
        self._key = key
        self._since = runtime.clock.steady_ms()
        self.guard: Final = LeaseGuard(
            granted,
            ttl_ms,
            clock=runtime.clock,
            observers=runtime.observers,
            key=key,
            renew=renew,
        )

    def report_release(self) -> None:
        if self._runtime.observers.active and not self.guard.lost:
            held_ms = self._runtime.clock.steady_ms() - self._since
            self._runtime.observers.emit(LockReleased(key=self._key, duration_ms=held_ms))


async def try_lock(runtime: Runtime, key: str, ttl_ms: int, wait_ms: int | None) -> Granted | None:
    """Wait for the lock ``key`` of the user's namespace; None when the wait is over."""
    locks = runtime.require(runtime.locks, "lock")
    began = runtime.clock.steady_ms()
    granted = await locks.acquire(key, ttl_ms, wait_ms=wait_ms)
    if granted is not None and runtime.observers.active:
        runtime.observers.emit(
            LockAcquired(
                key=key,
                duration_ms=runtime.clock.steady_ms() - began,
                owner=granted.handle.owner,
                fencing_token=granted.handle.fencing_token,
            )
        )
    return granted


async def acquire_lock(runtime: Runtime, key: str, ttl_ms: int, wait_ms: int | None) -> Granted:
    """Wait for the lock ``key`` of the user's namespace. Raises `LockTimeout`."""
    began = runtime.clock.steady_ms()
    granted = await try_lock(runtime, key, ttl_ms, wait_ms)
    if granted is not None:
        return granted
    waited_ms = runtime.clock.steady_ms() - began
    if runtime.observers.active:
        runtime.observers.emit(LockWaited(key=key, duration_ms=waited_ms))
    holder = await runtime.require(runtime.locks, "lock").provider.holder(key)
    age_ms = None if holder is None else max(runtime.clock.wall_ms() - holder.since, 0)
    raise LockTimeout(key, waited_ms, holder, age_ms)

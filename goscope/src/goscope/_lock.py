"""``gs.lock``: a lock by name, held while a body runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Final, NamedTuple

from ._lease_guard import LeaseGuard
from ._lease_queue import Granted
from ._runtime import Runtime
from .errors import LockTimeout
from .events import LockAcquired, LockReleased, LockTimedOut
from .providers import LockHandle


class _Held(NamedTuple):
    """The lock while one task is inside the block."""

    runtime: Runtime
    guard: LeaseGuard
    since: int


class Lock:
    """One lock by name: ``async with`` it, or `acquire` it yourself. Not reentrant.

    Tasks may share the object. Entering waits first come, first served within this process, and
    raises `LockTimeout` when the wait is over. While the body runs the lease is renewed; if it is
    lost all the same, the body is cancelled and `LeaseLost` raised from the block.
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
        """Acquire the lock and return its handle; the caller extends and releases it.

        The lease is not renewed: it expires after its ttl. Raises `LockTimeout`.
        """
        return (await self._acquire(self._runtime())).handle

    async def try_acquire(self) -> LockHandle | None:
        """Acquire the lock if it is free, whatever its ``wait``; None if it is not.

        The caller extends and releases the handle.
        """
        granted = await self._try_acquire(self._runtime(), wait_ms=0)
        return None if granted is None else granted.handle

    async def __aenter__(self) -> LockHandle:
        task = asyncio.current_task()
        if task in self._held:
            raise RuntimeError(
                f"this task already holds lock {self.key!r}: entering it again would never return"
            )
        runtime = self._runtime()
        granted = await self._acquire(runtime)
        guard = runtime.guard(granted, self.key, ttl_ms=self._ttl_of(runtime), renew=self._renew)
        await guard.__aenter__()
        self._held[task] = _Held(runtime, guard, runtime.event_start())
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
                f"same one, or use acquire() and release()"
            )
        try:
            await held.guard.__aexit__(exc_type, exc, traceback)
        finally:
            if not held.guard.lost:
                held.runtime.emit(LockReleased, self.key, held.since)

    async def _acquire(self, runtime: Runtime) -> Granted:
        """Wait for the lock. Raises `LockTimeout`."""
        clock = runtime.clock
        started = clock.steady_ms()
        granted = await self._try_acquire(runtime, self._wait_ms)
        if granted is not None:
            return granted
        waited_ms = clock.steady_ms() - started
        runtime.emit(LockTimedOut, self.key, started)
        holder = await runtime.require(runtime.locks, "lock").provider.holder(self.key)
        age_ms = None if holder is None else max(clock.wall_ms() - holder.since, 0)
        raise LockTimeout(self.key, waited_ms, holder, age_ms)

    async def _try_acquire(self, runtime: Runtime, wait_ms: int | None) -> Granted | None:
        """Wait for the lock; None when the wait is over."""
        locks = runtime.require(runtime.locks, "lock")
        started = runtime.event_start()
        granted = await locks.acquire(self.key, self._ttl_of(runtime), wait_ms=wait_ms)
        if granted is not None:
            handle = granted.handle
            runtime.emit(
                LockAcquired,
                self.key,
                started,
                owner=handle.owner,
                fencing_token=handle.fencing_token,
            )
        return granted

    def _ttl_of(self, runtime: Runtime) -> int:
        return runtime.adapter.default_lock_ttl_ms if self._ttl_ms is None else self._ttl_ms

"""``gs.lock``: a lock by name, held while a body runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Final, NamedTuple

from ._lease_guard import LeaseGuard
from ._lease_queue import Granted
from ._left_block import leave_block
from ._lock_handle import ScopeLockHandle
from ._runtime import Run, Runtime
from .errors import LockTimeout
from .events import (
    LockAcquired,
    LockBodyCompleted,
    LockBodyFailed,
    LockBodyStarted,
    LockReleased,
    LockTimedOut,
)
from .providers import LockHandle


class _Block(NamedTuple):
    """A block that was entered and not left yet."""

    runtime: Runtime
    guard: LeaseGuard
    since: float | None
    run: Run


class Lock:
    """One lock by name: ``async with`` it, or `acquire` it yourself. Not reentrant.

    Tasks may share the object. Entering waits first come, first served within this process, and
    raises `LockTimeout` when the wait is over. A task that would wait for its own block without
    limit gets a ``RuntimeError``. While the body runs the lease is renewed; if it is lost all the
    same, the body is cancelled and `LeaseLost` raised from the block. Whichever task leaves the
    block releases the lock.
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
        self._entered: list[tuple[asyncio.Task[object] | None, _Block]] = []

    def __repr__(self) -> str:
        return f"<goscope.Lock {self.key!r}>"

    async def acquire(self, *, renew: bool = False) -> LockHandle:
        """Acquire the lock and return its handle; the caller releases it. Raises `LockTimeout`.

        The lease expires after its ttl unless the caller extends it. With ``renew`` it is renewed
        in the background until `release`, or until the scope closes and releases it.
        """
        runtime = self._runtime()
        return self._handle(runtime, await self._acquire(runtime), renew)

    async def try_acquire(self, *, renew: bool = False) -> LockHandle | None:
        """As `acquire`, but return None at once if the lock is not free."""
        runtime = self._runtime()
        granted = await self._try_acquire(runtime, wait_ms=0)
        return None if granted is None else self._handle(runtime, granted, renew)

    async def __aenter__(self) -> LockHandle:
        task = asyncio.current_task()
        runtime = self._runtime()
        granted = await self._acquire(runtime)
        guard = runtime.guard(granted, self.key, ttl_ms=self._ttl_of(runtime), renew=self._renew)
        await guard.__aenter__()
        since = runtime.event_start()
        run = runtime.start_run(LockBodyStarted, self.key)
        self._entered.append((task, _Block(runtime, guard, since, run)))
        runtime.lock_blocks[task, self.key] = guard
        return ScopeLockHandle(guard, lambda: None)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        task, (runtime, guard, since, run) = leave_block(self._entered)
        runtime.lock_blocks.pop((task, self.key), None)
        try:
            await guard.__aexit__(exc_type, exc, traceback)
        except BaseException as raised:
            runtime.fail_run(LockBodyFailed, self.key, run, raised)
            raise
        else:
            if exc is None:
                runtime.emit(LockBodyCompleted, self.key, run.since, run_id=run.id)
            else:
                runtime.fail_run(LockBodyFailed, self.key, run, exc)
        finally:
            if not guard.lost:
                runtime.emit(LockReleased, self.key, since)

    def _handle(self, runtime: Runtime, granted: Granted, renew: bool) -> ScopeLockHandle:
        guard = runtime.guard(granted, self.key, ttl_ms=self._ttl_of(runtime), cancel_body=False)
        if renew:
            guard.start()
            runtime.renewed.add(guard)
        return ScopeLockHandle(guard, partial(runtime.renewed.discard, guard))

    async def _acquire(self, runtime: Runtime) -> Granted:
        """Wait for the lock. Raises `LockTimeout`."""
        block = runtime.lock_blocks.get((asyncio.current_task(), self.key))
        if self._wait_ms is None and block is not None and not block.handle.lost:
            raise RuntimeError(
                f"this task is already inside a block of lock {self.key!r} and would wait for its "
                f"own release forever. Call what needs the lock without entering it again"
            )
        clock = runtime.clock
        started = clock.steady_ms()
        granted = await self._try_acquire(runtime, self._wait_ms)
        if granted is not None:
            return granted
        waited_ms = 0 if self._wait_ms == 0 else max(clock.steady_ms() - started, 1)
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

"""Stores on a fake clock, calls that a test pauses, and waiting for tasks and threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from goscope import LockProvider, Scope
from goscope.backend import milliseconds
from goscope.events import Event
from goscope.memory import MemoryAdapter
from goscope.testing import FakeClock
from goscope_sqlite import SQLiteAdapter


class Store:
    """One store on a fake clock. Its scopes share it as scopes of several processes do."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.clock = FakeClock()
        self._path = folder / "store.db" if kind == "sqlite" else None
        self._memory = MemoryAdapter(locks="shared", clock=self.clock)
        self._files: list[SQLiteAdapter] = []

    def scope(self, **settings: Any) -> Scope:
        """A closed scope on the store."""
        if self._path is None:
            return Scope(persistence=self._memory, **settings)
        # It reads in the loop, so that `wait_until_idle` has only the writer's thread to wait for.
        adapter = SQLiteAdapter(self._path, locks="shared", reads="loop", clock=self.clock)
        self._files.append(adapter)
        return Scope(persistence=adapter, **settings)

    async def advance(self, duration: str) -> None:
        """Advance the clock in steps so short that a thread's answer is late by one at most."""
        left = milliseconds(duration)
        while left > 0:
            step = min(left, 500) if self._files else left
            await self.clock.advance(f"{step}ms")
            await self.wait_until_idle()
            left -= step

    async def wait_until_idle(self) -> None:
        """Return when every task waits for the clock, or for another task that does."""
        await ticks()
        for adapter in self._files:
            if adapter.is_connected:
                # The writer's thread finishes it after everything that was submitted before.
                assert adapter.cache is not None
                await adapter.cache.delete("unused")
                await ticks()

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        """Keep the store in memory beyond the scopes on it."""
        async with self._memory:
            yield


class ForeignAdapter:
    """An adapter that fulfils the Protocol without goscope's base class."""

    def __init__(self) -> None:
        ours = self._ours = MemoryAdapter()
        self.lock = ours.lock
        self.lease = ours.lease
        self.cache = ours.cache
        self.circuit_breaker = ours.circuit_breaker
        self.checkpoint = ours.checkpoint
        self.idempotency = ours.idempotency
        self.capabilities = ours.capabilities
        self.clock = ours.clock
        self.default_lock_ttl_ms = ours.default_lock_ttl_ms
        self.is_connected = False

    async def connect(self) -> None:
        await self._ours.connect()
        self.is_connected = True

    async def disconnect(self) -> None:
        await self._ours.disconnect()
        self.is_connected = False


class PausedCall:
    """A call that pauses until the test resumes it; it counts its calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.running = 0
        self.max_running = 0
        self._resumed = asyncio.Event()
        self._starts = asyncio.Semaphore(0)

    async def run(self, result: Any = None) -> Any:
        """Pause until `resume`, then return the result."""
        self.calls += 1
        self.running += 1
        self.max_running = max(self.max_running, self.running)
        self._starts.release()
        try:
            await self._resumed.wait()
        finally:
            self.running -= 1
        return result

    async def started(self, count: int = 1) -> None:
        """Wait until ``count`` more calls have started."""
        async with asyncio.timeout(30):
            for _ in range(count):
                await self._starts.acquire()

    def resume(self) -> None:
        """Resume the paused calls; later ones do not pause."""
        self._resumed.set()


def without_runs(events: Sequence[Event]) -> list[Event]:
    """The events that are not about a body that starts, completes or fails."""
    return [event for event in events if not hasattr(event, "run_id")]


async def ticks(count: int = 40) -> None:
    """Let the event loop run for so many iterations."""
    for _ in range(count):
        await asyncio.sleep(0)


async def wait_until(condition: Callable[[], object]) -> None:
    """Wait for a condition that a thread or another process brings about."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  # a thread sets no event
            await asyncio.sleep(0.001)


def block_loop(clock: FakeClock, duration_ms: int) -> None:
    """Let time pass without a tick of the event loop, as a body does that blocks it."""
    clock._move_to(clock.steady_ms() + duration_ms)  # private: `advance` runs the loop


def leases_of(gs: Scope) -> LockProvider:
    """The leases of the features of an open scope."""
    leases = gs.persistence.lease
    assert leases is not None
    return leases


def lease_watchers() -> list[asyncio.Task[Any]]:
    """The tasks that renew leases."""
    # By their private name: a task that was left behind shows nowhere else.
    return [task for task in asyncio.all_tasks() if "LeaseGuard._watch" in repr(task)]

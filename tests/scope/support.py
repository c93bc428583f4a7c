"""Stores whose time the tests pass, and waiting for what other tasks and threads do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from goscope import Scope
from goscope.backend import milliseconds
from goscope.memory import MemoryAdapter
from goscope.testing import FakeClock
from goscope_sqlite import SQLiteAdapter


class Store:
    """One store on a clock that stands still; each scope on it is as one in its own process."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.clock = FakeClock()
        self._path = folder / "store.db" if kind == "sqlite" else None
        self._memory = MemoryAdapter(locks="shared", clock=self.clock)
        self._files: list[SQLiteAdapter] = []

    def scope(self, **settings: Any) -> Scope:
        """A closed scope on the store."""
        if self._path is None:
            return Scope(persistence=self._memory, **settings)
        # Reads in the loop: `settle` waits for the writer's thread and for no other.
        adapter = SQLiteAdapter(self._path, locks="shared", reads="loop", clock=self.clock)
        self._files.append(adapter)
        return Scope(persistence=adapter, **settings)

    async def pass_time(self, duration: str) -> None:
        """Let time pass in steps so short that a thread's answer is late for one at most."""
        left = milliseconds(duration)
        while left > 0:
            step = min(left, 500) if self._files else left
            await self.clock.advance(f"{step}ms")
            await self.settle()
            left -= step

    async def settle(self) -> None:
        """Let every task go on until it waits for time, or for another task that does."""
        await turns()
        for adapter in self._files:
            if adapter.is_connected:
                # Behind all that was submitted before, in the thread that does it.
                assert adapter.cache is not None
                await adapter.cache.delete("nobody's")
                await turns()

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        """Keep the store in memory beyond the scopes on it."""
        async with self._memory:
            yield


class ForeignAdapter:
    """An adapter that fulfils the Protocol and nothing more, without our base class."""

    def __init__(self) -> None:
        ours = MemoryAdapter()
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
        self.is_connected = True

    async def disconnect(self) -> None:
        self.is_connected = False


async def turns(count: int = 40) -> None:
    """Let the other tasks of the loop run."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    """Wait for what a thread or process brings about."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  # a thread sets no event
            await asyncio.sleep(0.001)


def watchers() -> list[asyncio.Task[Any]]:
    """The tasks that keep leases."""
    return [task for task in asyncio.all_tasks() if "LeaseGuard._watch" in repr(task)]


class Gate:
    """A body that says that it runs, and stays until it is opened."""

    def __init__(self) -> None:
        self.entered = 0
        self.running = 0
        self.most_running = 0
        self._open = asyncio.Event()
        self._arrivals = asyncio.Semaphore(0)

    async def passing(self, result: Any = None) -> Any:
        """The body."""
        self.entered += 1
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        self._arrivals.release()
        try:
            await self._open.wait()
        finally:
            self.running -= 1
        return result

    async def arrival(self, count: int = 1) -> None:
        """Wait until somebody, or so many, came into the body."""
        async with asyncio.timeout(30):
            for _ in range(count):
                await self._arrivals.acquire()

    def open(self) -> None:
        """Let everybody through."""
        self._open.set()

"""A cache in memory whose requests fail, or are not answered, on demand."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from goscope import BackendBusy, BackendUnavailable, Scope
from goscope.backend import Fence, NewEntry, StoredEntry
from goscope.backend.records import RecordCacheProvider, RecordLockProvider
from goscope.memory import MemoryAdapter
from goscope.testing import FakeClock


class Faults:
    """Which requests fail or hang at the moment, and how often each kind was made.

    The kinds are "read", "grant", "set" and "release".
    """

    def __init__(self) -> None:
        self.failing: set[str] = set()
        self.hanging: set[str] = set()
        self.requests: Counter[str] = Counter()
        self._answer = asyncio.Event()

    @contextmanager
    def fail(self, *requests: str) -> Generator[None]:
        """Let these requests fail within the block."""
        self.failing.update(requests)
        try:
            yield
        finally:
            self.failing.difference_update(requests)

    @contextmanager
    def hang(self, *requests: str) -> Generator[None]:
        """Let these requests wait for the end of the block, then succeed."""
        self.hanging.update(requests)
        self._answer.clear()
        try:
            yield
        finally:
            self.hanging.difference_update(requests)
            self._answer.set()

    async def pass_through(self, request: str) -> None:
        self.requests[request] += 1
        if request in self.hanging:
            await self._answer.wait()
        if request in self.failing:
            error = BackendUnavailable if request == "read" else BackendBusy
            raise error(f"the {request} fails")


class FaultyLeases(RecordLockProvider):
    def __init__(self, adapter: MemoryAdapter, faults: Faults) -> None:
        super().__init__(adapter.context, "lease", adapter)
        self._faults = faults

    async def _grant(self, key: str, owner: str, ttl_ms: int) -> int | None:
        await self._faults.pass_through("grant")
        return await super()._grant(key, owner, ttl_ms)

    async def _release(self, key: str, token: int) -> bool:
        await self._faults.pass_through("release")
        return await super()._release(key, token)


class FaultyEntries(RecordCacheProvider):
    def __init__(self, adapter: MemoryAdapter, faults: Faults) -> None:
        super().__init__(adapter.context, adapter, adapter.lease.notifier)
        self._faults = faults

    async def _get_entry(self, key: str) -> tuple[StoredEntry, int] | None:
        await self._faults.pass_through("read")
        return await super()._get_entry(key)

    async def _set(self, entries: Mapping[str, NewEntry], fence: Fence | None) -> None:
        await self._faults.pass_through("set")
        await super()._set(entries, fence)


def faulty_scope(faults: Faults, clock: FakeClock, **settings: Any) -> Scope:
    """A closed scope on a store with these faults."""
    adapter = MemoryAdapter(clock=clock)
    adapter.lease = FaultyLeases(adapter, faults)
    adapter.cache = FaultyEntries(adapter, faults)
    return Scope(persistence=adapter, **settings)

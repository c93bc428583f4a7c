"""The backend "sqlite-bun" keeps the contract: in a file, with shared locks, and in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import cached_property
from pathlib import Path

from goscope.providers import Capability, PersistenceAdapter
from goscope.testing import FakeClock
from goscope.testing.conformance import (
    BackendConformance,
    EventsConformance,
    InspectionConformance,
    PrivateBackendConformance,
    WaitConformance,
)
from goscope_bun_compat import BunSQLiteAdapter


class TestSQLiteBun(BackendConformance, WaitConformance, EventsConformance, InspectionConformance):
    capabilities = frozenset({Capability.PERSISTENT})
    processes = True
    prefixed_tasks = False

    @cached_property
    def clock(self) -> FakeClock:
        return FakeClock()

    @asynccontextmanager
    async def open_adapter(
        self, tmp_path: Path, *, key_prefix: str | None = None
    ) -> AsyncGenerator[BunSQLiteAdapter]:
        path = tmp_path / "app.db"
        async with BunSQLiteAdapter(path, key_prefix=key_prefix, clock=self.clock) as adapter:
            yield adapter

    async def advance(self, adapter: PersistenceAdapter, duration: timedelta | str) -> None:
        await self.clock.advance(duration)


class TestSQLiteBunWithSharedLocks(TestSQLiteBun):
    capabilities = frozenset({Capability.PERSISTENT, Capability.SHARED_LOCKS})
    processes = True

    @asynccontextmanager
    async def open_adapter(
        self, tmp_path: Path, *, key_prefix: str | None = None
    ) -> AsyncGenerator[BunSQLiteAdapter]:
        path = tmp_path / "app.db"
        adapter = BunSQLiteAdapter(path, key_prefix=key_prefix, locks="shared", clock=self.clock)
        async with adapter:
            yield adapter


class TestSQLiteBunInMemory(
    PrivateBackendConformance, WaitConformance, EventsConformance, InspectionConformance
):
    capabilities = frozenset()

    @cached_property
    def clock(self) -> FakeClock:
        return FakeClock()

    @asynccontextmanager
    async def open_adapter(
        self, tmp_path: Path, *, key_prefix: str | None = None
    ) -> AsyncGenerator[BunSQLiteAdapter]:
        async with BunSQLiteAdapter(":memory:", key_prefix=key_prefix, clock=self.clock) as adapter:
            yield adapter

    async def advance(self, adapter: PersistenceAdapter, duration: timedelta | str) -> None:
        await self.clock.advance(duration)

"""The backend "sqlite-bun" meets the contract: in a file, with shared locks, and in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from goscope.providers import Capability
from goscope.testing.conformance import (
    BackendConformance,
    BackendLockConformance,
    EventLoopConformance,
    EventsConformance,
    InspectionConformance,
    PrivateBackendLockConformance,
    WaitConformance,
)
from goscope_bun_compat import BunSQLiteAdapter


class TestSQLiteBun(BackendConformance, WaitConformance, EventsConformance, InspectionConformance):
    capabilities = frozenset({Capability.PERSISTENT})
    processes = True
    prefixed_tasks = False

    @asynccontextmanager
    async def open_adapter(
        self, tmp_path: Path, *, key_prefix: str | None = None
    ) -> AsyncGenerator[BunSQLiteAdapter]:
        path = tmp_path / "app.db"
        async with BunSQLiteAdapter(path, key_prefix=key_prefix, clock=self.clock) as adapter:
            yield adapter


class TestSQLiteBunWithSharedLocks(BackendLockConformance, WaitConformance, InspectionConformance):
    """Differs from TestSQLiteBun only in its locks, which are in the file."""

    capabilities = frozenset({Capability.PERSISTENT, Capability.SHARED_LOCKS})
    processes = True
    prefixed_tasks = False

    @asynccontextmanager
    async def open_adapter(
        self, tmp_path: Path, *, key_prefix: str | None = None
    ) -> AsyncGenerator[BunSQLiteAdapter]:
        path = tmp_path / "app.db"
        adapter = BunSQLiteAdapter(path, key_prefix=key_prefix, locks="shared", clock=self.clock)
        async with adapter:
            yield adapter


class TestSQLiteBunInMemory(
    PrivateBackendLockConformance,
    EventLoopConformance,
    EventsConformance,
    WaitConformance,
    InspectionConformance,
):
    """Executes the SQL of TestSQLiteBun on one connection."""

    capabilities = frozenset()

    @asynccontextmanager
    async def open_adapter(
        self, tmp_path: Path, *, key_prefix: str | None = None
    ) -> AsyncGenerator[BunSQLiteAdapter]:
        async with BunSQLiteAdapter(":memory:", key_prefix=key_prefix, clock=self.clock) as adapter:
            yield adapter
